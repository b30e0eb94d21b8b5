"""Trained claims of lsnet."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers.conv import LSConv
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.training.loop import fit


def context_batch(generator: torch.Generator, *, size: int = 32, side: int = 12) -> tuple[Tensor, Tensor]:
    """Fields of two channels; the target is one neighbour in the first, which one says the second.

    Where the 7 x 7 mean of the second channel is positive, the target is the right neighbour, else the left.
    """
    fields = torch.randn(size, 2, side, side, generator=generator)
    values, switch = fields.split(1, 1)
    right, left = F.pad(values, (0, 1))[..., 1:], F.pad(values, (1, 0))[..., :-1]
    return fields, torch.where(F.avg_pool2d(switch, 7, 1, 3) > 0, right, left)


def depthwise_separable(width: int) -> list[nn.Module]:
    """A depthwise 7 x 7 and a 1 x 1 convolution."""
    return [nn.Conv2d(width, width, 7, padding=3, groups=width), nn.Conv2d(width, width, 1)]


CONTEXT: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Conv2d(2, 16, 1), *depthwise_separable(16), nn.Conv2d(16, 1, 1)),
    "relu": lambda: nn.Sequential(
        nn.Conv2d(2, 16, 1),
        *depthwise_separable(16),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *depthwise_separable(16),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 1, 1),
    ),
    "lsconv": lambda: nn.Sequential(nn.Conv2d(2, 32, 1), LSConv(32), nn.Conv2d(32, 1, 1)),
}


TASK = "far context chooses between two near neighbours, 200 steps"


@experiment(
    paper="lsnet",
    seeds=10,
    trained=dict.fromkeys(("lsconv", "relu"), at_most(0.5)),  # the best linear answer: half of the variance
    claims=[
        paper_claim(
            "LSNet is more accurate and faster than earlier lightweight networks",
            where="abstract",
            headline=True,
            not_tested="needs ImageNet and timing of whole networks",
            scale="one layer on fields of 12 x 12 noise, 200 steps; the paper: ImageNet, COCO and ADE20K",
        ),
        question(
            "a 7 x 7 context reaches the 3 x 3 aggregation of one LSConv: its error over the variance",
            of=TASK,
            value=lambda m: m["lsconv"],
            expect=at_most(0.3),
        ),
        question(
            "a linear 7 x 7 operator stays at half of the variance: its error over the variance",
            of=TASK,
            value=lambda m: m["linear"],
            expect=at_least(0.49),
        ),
        question(
            "two static layers with ReLU and as many parameters are worse than one LSConv (difference of the "
            "errors over the variance)",
            of=TASK,
            value=lambda m: m["relu"] - m["lsconv"],
            expect=at_least(0.0),
            verdict="open",
        ),
    ],
)
def context(seed: int) -> dict[str, float]:
    """Far context chooses between two near neighbours: squared error relative to the target's mean square.

    Keys: the names in ``CONTEXT``.
    """
    test_x, test_y = context_batch(torch.Generator().manual_seed(10_000 + seed), size=256)
    result = {}
    for name, build in CONTEXT.items():
        torch.manual_seed(seed)
        model = build()
        fit(model, context_batch, steps=200, lr=1e-2, loss=F.mse_loss, seed=seed)
        with torch.no_grad():
            error = (model.eval()(test_x) - test_y).square().mean()
        result[name] = (error / test_y.square().mean()).item()
    return result
