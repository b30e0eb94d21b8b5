"""Trained claims of group-gem-pooling."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.experiments.layers.pool._shared import TokenMean, linear_accuracy
from course_lib.layers.norm import TransformerBlock
from course_lib.layers.pool import (
    GeM,
    GroupGeM,
)
from course_lib.measure import at_least, between, each, experiment, paper_claim, question
from course_lib.models.transformers import VisionTransformer
from course_lib.training.loop import cosine_schedule, evaluate, fit


class PooledViT(VisionTransformer):
    """Two blocks over the 16 patches of a digit and a pooling of your choice; None reads a class token."""

    def __init__(self, pool: nn.Module | None, dim: int = 32) -> None:
        blocks = [TransformerBlock(dim, 4, hidden_dim=2 * dim) for _ in range(2)]
        super().__init__(1, 10, image_size=(8, 8), patch=2, dim=dim, blocks=blocks)
        self.pool = pool
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, dim)) if pool is None else None

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        if self.pool is None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.final_norm(x)
        return self.out(x[:, 0] if self.pool is None else self.pool(x))


ORDERS = [f"group_gem_order_{i}" for i in range(4)]
VIT = "vision transformer of two blocks"


@experiment(
    paper="group-gem-pooling",
    seeds=10,
    trained={"*_accuracy": lambda m: at_least(m["linear"].mean)},
    claims=[
        paper_claim(
            "GGeM gains 0.1 to 0.7 points over the baselines: accuracy minus the better of class token and "
            "average",
            where="abstract",
            headline=True,
            of=VIT,
            scale="two blocks of width 32 on 400 test digits; the paper: ViT-Base and -Large on ImageNet-1K",
            value=lambda m: (
                m["group_gem_accuracy"] - each(max, m["average_accuracy"], m["class_token_accuracy"])
            ),
            expect=between(0.001, 0.007),
            not_tested="the gain is less than three of the 400 test digits, and less than seeds differ by",
        ),
        paper_claim(
            "grouping the channels leads to lower head-wise dependence",
            where="abstract",
            not_tested="the dependence of heads on one another is not measured",
        ),
        question(
            "GGeM loses no more than half a point against the average: difference in accuracy",
            of=VIT,
            value=lambda m: m["group_gem_accuracy"] - m["average_accuracy"],
            expect=at_least(-0.005),
            verdict="open",
        ),
        question(
            "a learned order moves away from its start of 3: largest distance",
            of=VIT,
            value=lambda m: each(lambda *p: max(abs(order - 3) for order in p), *(m[k] for k in ORDERS)),
            expect=at_least(0.1),
            verdict="open",
        ),
        question(
            "the orders of the four groups differ: largest minus smallest",
            of=VIT,
            value=lambda m: m[ORDERS[-1]] - m[ORDERS[0]],
            expect=at_least(0.2),
            verdict="open",
        ),
    ],
)
def vit_pooling(seed: int) -> dict[str, float]:
    """Test accuracy of a tiny vision transformer with four poolings, 700 steps; and the learned orders."""
    digits = load("digits")
    result = {"linear": linear_accuracy(tuple(digits.train), tuple(digits.test))}
    pools: dict[str, Callable[[], nn.Module | None]] = {
        "average": TokenMean,
        "class_token": lambda: None,
        "gem": GeM,
        "group_gem": lambda: GroupGeM(32, 4),
    }
    for name, pool in pools.items():
        torch.manual_seed(seed)
        model = PooledViT(pool())
        fit(model, digits.train, steps=700, batch_size=32, lr=5e-3, schedule=cosine_schedule(), seed=seed)
        result[f"{name}_accuracy"] = evaluate(model, digits.test)
        if name == "group_gem":
            orders = model.pool.p.detach().sort().values
            result |= {f"group_gem_order_{i}": p.item() for i, p in enumerate(orders)}
    return result
