"""On the Expressivity Role of LayerNorm in Transformers' Attention: the majority task."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers.norm import project_out_ones, scale_to_sqrt_d
from course_lib.measure import experiment
from course_lib.training.loop import Run, fit

GEOMETRY: dict[str, Callable[[Tensor], Tensor]] = {
    "full": lambda x: scale_to_sqrt_d(project_out_ones(x), eps=1e-5),
    "scaling": lambda x: scale_to_sqrt_d(x, eps=1e-5),
    "projection": project_out_ones,
    "none": lambda x: x,
}


class MajorityModel(nn.Module):
    """Norm, one attention head, residual, read-out with the embedding; no positions, no feed-forward."""

    def __init__(self, classes: int, dim: int, normalise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, dim)
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.normalise = normalise

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        n = self.normalise(x)
        attended = F.scaled_dot_product_attention(self.query(n), self.key(n), self.value(n))
        return self.normalise(x + attended) @ self.embedding.weight.T

    @torch.no_grad()
    def angle_to_ones(self) -> float:
        """Mean angle in degrees between W_k^T q, which multiplies the keys, and the ones vector."""
        n = self.normalise(self.embedding.weight)
        directions = F.normalize(self.query(n) @ self.key.weight, dim=-1)
        cosine = directions.sum(-1).abs() / directions.shape[-1] ** 0.5
        return torch.rad2deg(torch.acos(cosine.clamp(max=1))).mean().item()


def majority_batch(
    generator: torch.Generator, *, classes: int = 5, length: int = 30, size: int = 64
) -> tuple[Tensor, Tensor]:
    """Random classes; the target at every position is the most frequent one (ties are drawn again)."""
    while True:
        tokens = torch.randint(classes, (2 * size, length), generator=generator)
        counts = F.one_hot(tokens, classes).sum(1)
        clear = counts.topk(2).values.diff().flatten() < 0
        if clear.sum() >= size:
            tokens, counts = tokens[clear][:size], counts[clear][:size]
            return tokens, counts.argmax(-1, keepdim=True).expand(-1, length)


@experiment(paper="layernorm-expressivity", seeds=3)
def majority(seed: int) -> dict[str, float]:
    """The most frequent of five classes, with four norms n, 400 steps of 64 sequences.

    ``n_steps``: steps to 90 % accuracy, 400 if never; ``n_accuracy``: at the end (the largest class drawn by
    chance has 0.2); ``n_angle``: between what multiplies the keys and the ones vector, in degrees.
    """
    result = {}
    tokens, targets = majority_batch(torch.Generator().manual_seed(999), size=512)
    for name, normalise in GEOMETRY.items():
        torch.manual_seed(seed)
        model, curve = MajorityModel(5, 8, normalise), []

        def probe(run: Run, curve: list = curve) -> None:
            if run.step % 10 == 0:
                with torch.no_grad():
                    curve.append((run.step, (run.model(tokens).argmax(-1) == targets).float().mean().item()))

        fit(model, majority_batch, steps=400, lr=3e-2, seed=seed, hooks=[probe])
        result[f"{name}_steps"] = next((step for step, accuracy in curve if accuracy >= 0.9), 400)
        result[f"{name}_accuracy"] = curve[-1][1]
        result[f"{name}_angle"] = model.angle_to_ones()
    return result
