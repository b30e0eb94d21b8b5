"""Trained claims of ms-mlp."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers.mixing import MixShiftBlock
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.training.loop import fit


def far_pairs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random signs on 12 x 12 pixels, and the product of each with the one 4 columns to the right."""
    x = 2.0 * torch.randint(2, (16, 1, 12, 12), generator=generator) - 1
    return x, x * x.roll(-4, -1)


@experiment(
    paper="ms-mlp",
    seeds=10,
    trained={"shifted": at_least(0.1)},  # the best linear map of the signs explains nothing of their product
    claims=[
        paper_claim(
            "MS-MLP is competitive: 83.8 % on ImageNet with 85 million parameters",
            where="abstract",
            headline=True,
            not_tested="ImageNet and 85 million parameters are out of reach here",
            scale="two blocks of 20 channels on random signs; the paper: ImageNet",
        ),
        question(
            "with shifts, two blocks explain at least 90 % of a product of pixels four columns apart",
            of="windows of 3, 300 steps",
            value=lambda m: m["shifted"],
            expect=at_least(0.9),
            verdict="open",
        ),
        question(
            "with all shifts zero they explain at most 10 %",
            of="windows of 3, 300 steps",
            value=lambda m: m["unshifted"],
            expect=at_most(0.1),
        ),
    ],
)
def far_product(seed: int) -> dict[str, float]:
    """Two MS-MLP blocks with windows of 3, 300 steps: share of the variance of the product explained.

    ``shifted``: with shifts of -2 to 2; ``unshifted``: with all shifts zero and nothing else changed.
    """
    result = {}
    x, y = far_pairs(torch.Generator().manual_seed(10_000 + seed))
    arms = {"shifted": (-2, -1, 0, 1, 2), "unshifted": (0,) * 5}
    for name, shifts in arms.items():
        torch.manual_seed(seed)
        blocks = (MixShiftBlock(20, shifts=shifts, kernel_size=(3,) * 5, hidden_dim=40) for _ in range(2))
        model = nn.Sequential(nn.Conv2d(1, 20, 1), *blocks, nn.Conv2d(20, 1, 1))
        fit(model, far_pairs, steps=300, lr=1e-2, loss=F.mse_loss, seed=seed)
        with torch.no_grad():
            result[name] = 1 - (F.mse_loss(model(x), y) / y.var(correction=0)).item()
    return result
