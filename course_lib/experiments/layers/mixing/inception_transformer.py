"""Trained claims of inception-transformer."""

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import Tensor

from course_lib.data import load
from course_lib.experiments.layers.mixing._shared import GRID, TokenFrame
from course_lib.layers.mixing import GridMixer, InceptionMixer, frequency_ramp, relative_log_amplitude
from course_lib.layers.norm import TransformerBlock
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit

RAMP_DIM, HEAD_DIM = 24, 8


def inception_frame(widths: Iterable[int]) -> TokenFrame:
    """Two blocks with the given numbers of high-frequency channels; positions for all arms."""
    blocks = [
        TransformerBlock(
            RAMP_DIM,
            1,
            mixer=GridMixer(
                InceptionMixer(
                    RAMP_DIM,
                    max((RAMP_DIM - width) // HEAD_DIM, 1),
                    high_channels=width,
                    kernel_size=2,
                ),
                grid=GRID,
            ),
            hidden_dim=48,
        )
        for width in widths
    ]
    return TokenFrame(blocks, dim=RAMP_DIM, positions=True)


@torch.no_grad()
def branch_gap(model: TokenFrame, images: Tensor) -> float:
    """How much stronger ring 3 of 4 is in the high branch of the first block than in the low one.

    The last ring is no use: repeating every pixel of a halved map leaves exactly nothing there.
    """
    x = model.blocks[0].attention.norm_in(model.streams(images)[0])
    high, low = model.blocks[0].attention.mixer.mixer.branches(rearrange(x, "b (i j) d -> b d i j", i=8))
    return (relative_log_amplitude(high)[3] - relative_log_amplitude(low)[3]).item()


@experiment(paper="inception-transformer", seeds=3)
def frequency_branches(seed: int) -> dict[str, float]:
    """Two Inception blocks on digits, 130 steps.

    ``up``, ``down``, ``attention``: test accuracy with fewer high-frequency channels in the later block,
    with more, and with none. ``gap_start``, ``gap_trained``: how many units of the natural logarithm ring
    3 of 4 is stronger in the high branch of the first block than in the low one, in the ramp up.
    """
    digits, result = load("digits"), {}
    arms = {
        "up": frequency_ramp(RAMP_DIM, HEAD_DIM, 2, first=1, last=2),
        "down": frequency_ramp(RAMP_DIM, HEAD_DIM, 2, first=2, last=1),
        "attention": [0, 0],
    }
    for name, widths in arms.items():
        torch.manual_seed(seed)
        model = inception_frame(widths)
        if name == "up":
            result["gap_start"] = branch_gap(model, digits.test.x)
        fit(model, digits.train, steps=130, batch_size=32, lr=4e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
        if name == "up":
            result["gap_trained"] = branch_gap(model, digits.test.x)
    return result
