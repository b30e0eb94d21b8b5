"""Trained claims of attention-pooling."""

import torch

from course_lib.data.canvas import BoxedSplit, box_masks
from course_lib.experiments.layers.pool._shared import TokenMean, canvases, linear_accuracy
from course_lib.layers.norm import BatchNorm
from course_lib.layers.pool import (
    AttentionPool,
    PatchConvNet,
)
from course_lib.measure import at_least, experiment, paper_claim, question
from course_lib.training.loop import cosine_schedule, evaluate, fit


@torch.no_grad()
def mass_in_box(model: PatchConvNet, split: BoxedSplit) -> float:
    """Share of the attention that falls inside the digit's box, each patch spread evenly over its pixels."""
    attention = model.attention_map(split.x)
    attention = attention / attention.sum((1, 2), keepdim=True)
    side = split.x.shape[-1]
    cells = side // attention.shape[-1]
    pixels = attention.repeat_interleave(cells, 1).repeat_interleave(cells, 2) / cells**2
    return (pixels * box_masks(split.boxes, side)).sum((1, 2)).mean().item()


CLUTTER = "two blocks, cluttered digits, 500 steps"


@experiment(
    paper="attention-pooling",
    seeds=10,
    trained={"*_accuracy": lambda m: at_least(m["linear"].mean)},
    claims=[
        paper_claim(
            "a competitive trade-off between accuracy and complexity, in particular in memory consumption",
            where="abstract",
            headline=True,
            scale="two blocks of width 16 on canvases of 24 x 24; the paper: 60 and 120 blocks on ImageNet, "
            "segmentation and detection",
            not_tested="a trade-off needs several architectures at the paper's sizes; here one trunk stands "
            "under two poolings",
        ),
        paper_claim(
            "the layer weights how the patches are involved in the decision: attention in the digit's box, "
            "relative to the box's share of the area",
            where="abstract",
            of=CLUTTER,
            value=lambda m: m["attention_mass"] / m["area"],
            expect=at_least(2.0),
        ),
        question(
            "attention pooling is better than the global average: difference in accuracy",
            of=CLUTTER,
            value=lambda m: m["attention_accuracy"] - m["average_accuracy"],
            expect=at_least(0.02),
        ),
    ],
)
def attention_on_clutter(seed: int) -> dict[str, float]:
    """One trunk, attention or average pooling, on cluttered canvases, 500 steps of 32; and a linear map."""
    train, test = canvases("train", 4000, 3), canvases("test", 400, 3)
    result = {"linear": linear_accuracy((train.x, train.y), (test.x, test.y)), "area": 64 / test.x[0].numel()}
    for name, pool in (("attention", lambda: AttentionPool(16)), ("average", TokenMean)):
        torch.manual_seed(seed)
        model = PatchConvNet(1, 10, dim=16, depth=2, stem_stages=1, pool=pool(), norm_layer=BatchNorm)
        fit(model, train, steps=500, batch_size=32, lr=5e-3, schedule=cosine_schedule(), seed=seed)
        result[f"{name}_accuracy"] = evaluate(model, test)
        if name == "attention":
            result["attention_mass"] = mass_in_box(model, test)
    return result
