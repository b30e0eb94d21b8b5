"""What several experiments of layers/norm share: a batch in pieces, a character model, a linear baseline."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.training.loop import cosine_schedule, evaluate, fit


class InPieces(nn.Module):
    """A norm that in training sees its batch in pieces, as devices do that hold a share of it each.

    All pieces at once: to statistics per channel, piece and channel are one axis. In evaluation, and where it
    has no statistics over the batch, the norm is as it was.

    Args:
        build: makes the norm for a number of channels, ``build(channels, device=...)``.
        channels: of the norm.
        batch_size: rows of every batch.
        size: rows of a piece, a divisor of it.
        momentum: of the norm's running averages.
    """

    def __init__(
        self,
        build: Callable[..., nn.Module],
        channels: int,
        *,
        batch_size: int,
        size: int,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.norm, self.pieces, self.size, self.momentum = build(channels), batch_size // size, size, momentum
        self._wide = (build(self.pieces * channels, device="meta"),)  # in a tuple: no part of the network

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.norm(x)
        apart = x.unflatten(0, (self.pieces, self.size)).transpose(0, 1).flatten(1, 2)
        state = {name: p.repeat(self.pieces) for name, p in self.norm.named_parameters()}
        averages = {name: b for name, b in self.norm.named_buffers() if b.ndim}
        state |= {name: b.new_zeros(self.pieces * len(b)) for name, b in averages.items()}
        y = torch.func.functional_call(self._wide[0], state | self._counts(), apart)
        self._average(averages, state)
        return y.unflatten(1, (self.pieces, -1)).transpose(0, 1).flatten(0, 1)

    def _counts(self) -> dict[str, Tensor]:
        return {name: b.clone() for name, b in self.norm.named_buffers() if not b.ndim}

    @torch.no_grad()
    def _average(self, averages: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """The running averages after one piece and then the next, from momentum times each piece's own."""
        keep = 1 - self.momentum
        for name, average in averages.items():
            each = state[name].unflatten(0, (self.pieces, -1))
            later = keep ** torch.arange(self.pieces - 1, -1, -1, dtype=each.dtype)
            average.mul_(keep**self.pieces).add_(later @ each)


def linear_digits(seed: int) -> float:
    """Test accuracy of a linear classifier of digits: what a network has to beat to count as trained."""
    digits = load("digits")
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    fit(model, digits.train, steps=600, lr=1e-2, schedule=cosine_schedule(), seed=seed)
    return evaluate(model, digits.test)


def torch_init_(model: nn.Module) -> nn.Module:
    """Give every layer torch's own start: embeddings of variance 1, so that growth begins near 1."""
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model
