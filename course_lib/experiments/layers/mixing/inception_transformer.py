"""Trained claims of inception-transformer."""

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import Tensor

from course_lib.data import load
from course_lib.experiments.layers.mixing._shared import GRID, LEAST_SQUARES, TokenFrame
from course_lib.layers.mixing import GridMixer, InceptionMixer, frequency_ramp, relative_log_amplitude
from course_lib.layers.norm import TransformerBlock
from course_lib.measure import at_least, experiment, paper_claim
from course_lib.training.loop import evaluate, fit

RAMP_DIM, HEAD_DIM, STEPS = 24, 8, 300


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
def fast_rings(model: TokenFrame, images: Tensor) -> dict[str, float]:
    """Relative log amplitude of ring 3 of 4 in the high branch of the first block and in the low one.

    The last ring is no use: repeating every pixel of a halved map leaves exactly nothing there.
    """
    x = model.blocks[0].attention.norm_in(model.streams(images)[0])
    high, low = model.blocks[0].attention.mixer.mixer.branches(rearrange(x, "b (i j) d -> b d i j", i=8))
    return {"high": relative_log_amplitude(high)[3].item(), "low": relative_log_amplitude(low)[3].item()}


@experiment(
    paper="inception-transformer",
    seeds=5,
    trained={arm: at_least(LEAST_SQUARES) for arm in ("up", "down", "attention")},
    claims=[
        paper_claim(
            "the Inception mixer is more accurate than attention alone",
            where="abstract",
            headline=True,
            of=f"two blocks of 24 channels, digits, {STEPS} steps",
            value=lambda m: m["up"] - m["attention"],
            expect=at_least(0.0),
            verdict="not tested",
            scale=f"two blocks of 24 channels on 8 x 8 digits, {STEPS} steps; the paper: iFormer-S on "
            "ImageNet, 83.4 %, 3.6 points above DeiT-S",
        ),
        paper_claim(
            "more attention in the later block is better than more in the earlier one",
            where="abstract",
            of=f"two blocks of 24 channels, digits, {STEPS} steps",
            value=lambda m: m["up"] - m["down"],
            expect=at_least(0.0),
            verdict="not tested",
        ),
        paper_claim(
            "what is fast is stronger in the branch of convolution and maximum than in that of attention",
            where="abstract",
            of=f"third ring of four, natural logarithm, after {STEPS} steps",
            value=lambda m: m["high_trained"] - m["low_trained"],
            expect=at_least(0.0),
        ),
    ],
)
def frequency_branches(seed: int) -> dict[str, float]:
    """Two Inception blocks on digits, 300 steps.

    ``up``, ``down``, ``attention``: test accuracy with fewer high-frequency channels in the later block,
    with more, and with none. ``high_start``, ``low_start``, ``high_trained``, ``low_trained``: relative log
    amplitude of ring 3 of 4 in the two branches of the first block of the ramp up, before and after training.
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
        start = fast_rings(model, digits.test.x) if name == "up" else {}
        fit(model, digits.train, steps=STEPS, batch_size=32, lr=4e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
        trained = fast_rings(model, digits.test.x) if name == "up" else {}
        result |= {f"{branch}_start": ring for branch, ring in start.items()}
        result |= {f"{branch}_trained": ring for branch, ring in trained.items()}
    return result
