"""The self-organising map against MiniSom."""

import numpy as np
import torch
from torch import Tensor

from course_lib.compare import Case, Contest
from course_lib.training.local_learning import SelfOrganizingMap

__all__ = ["CASES"]

LR, SIGMA, STEPS, DIM = (0.5, 0.05), (3.0, 0.5), 500, 16


def map_of(side: int) -> Contest:
    """500 updates of a square map for vectors of 16 numbers, in double precision as MiniSom has it."""
    from minisom import MiniSom

    ours = SelfOrganizingMap(DIM, grid=(side, side), lr=LR, sigma=SIGMA).double()
    start, data = ours.weights.clone(), torch.randn(STEPS, DIM, dtype=torch.float64)
    peer = MiniSom(side, side, DIM, sigma=SIGMA[0], learning_rate=LR[0], decay_function=_falling(LR))
    peer._sigma_decay_function = _falling(SIGMA)  # MiniSom takes names only

    def fit_ours(x: Tensor) -> Tensor:
        ours.weights.copy_(start)
        return ours.fit_in_order(x).weights.clone()

    def fit_peer(x: Tensor) -> np.ndarray:
        peer._weights = start.view(side, side, DIM).numpy().copy()
        peer.train(x.numpy(), STEPS)
        return peer._weights.reshape(-1, DIM)

    return Contest(fit_ours, {"minisom.MiniSom": fit_peer}, (data,), backward=False)


def _falling(ends: tuple[float, float]):
    """The decay of our map, as MiniSom asks for it."""
    first, last = ends
    return lambda value, t, steps: first * (last / first) ** (t / steps)


CASES = [Case("SelfOrganizingMap", map_of, sizes=(4, 8, 16, 32), axis="units along a side")]
