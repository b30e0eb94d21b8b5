"""Trained claims of attention-pooling."""

import torch
from torch.nn import functional as F

from course_lib.data.canvas import BoxedSplit, box_masks
from course_lib.experiments.layers.pool._shared import TokenMean, canvases
from course_lib.layers.norm import BatchNorm
from course_lib.layers.pool import (
    AttentionPool,
    PatchConvNet,
)
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit


def clean_centred(split: BoxedSplit) -> BoxedSplit:
    """The same digits alone in the middle of their canvas."""
    rows, size = torch.arange(len(split)), split.x.shape[-1]
    inside = torch.arange(8)
    cut = split.x[
        rows[:, None, None],
        0,
        split.boxes[:, 0, None, None] + inside[:, None],
        split.boxes[:, 1, None, None] + inside,
    ]
    return BoxedSplit(F.pad(cut[:, None], [(size - 8) // 2] * 4), split.y, None, split.boxes)


@torch.no_grad()
def mass_in_box(model: PatchConvNet, split: BoxedSplit) -> float:
    """Share of the attention that falls inside the digit's box, each patch spread evenly over its pixels."""
    attention = model.attention_map(split.x)
    side = split.x.shape[-1]
    cells = side // attention.shape[-1]
    pixels = attention.repeat_interleave(cells, 1).repeat_interleave(cells, 2) / cells**2
    return (pixels * box_masks(split.boxes, side)).sum((1, 2)).mean().item()


@experiment(paper="attention-pooling", seeds=3)
def attention_on_clutter(seed: int) -> dict[str, float]:
    """One trunk, attention or average pooling: on cluttered canvases (400 steps), clean ones (250 steps)."""
    result = {}
    for kind, strokes, steps in (("clutter", 3, 400), ("clean", 0, 250)):
        train, test = canvases("train", 4000, strokes), canvases("test", 400, strokes)
        if kind == "clean":
            train, test = clean_centred(train), clean_centred(test)
        for name, pool in (("attention", lambda: AttentionPool(16)), ("average", TokenMean)):
            torch.manual_seed(seed)
            model = PatchConvNet(1, 10, dim=16, depth=2, stem_stages=1, pool=pool(), norm_layer=BatchNorm)
            fit(model, train, steps=steps, batch_size=32, lr=5e-3, seed=seed)
            result[f"{name}_{kind}"] = evaluate(model, test)
            if name == "attention" and kind == "clutter":
                result["mass"] = mass_in_box(model, test)
                result["area"] = 64 / test.x[0].numel()
    return result
