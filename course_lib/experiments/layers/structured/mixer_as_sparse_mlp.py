"""Trained claims of mixer-as-sparse-mlp."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.layers.structured import (
    RandomPermutedMixerBlock,
)
from course_lib.measure import experiment
from course_lib.training.loop import cosine_schedule, evaluate, fit


class FrozenEnds(nn.Module):
    """A fixed random map to the block's width, the block, and a fixed random read-out."""

    def __init__(self, block: RandomPermutedMixerBlock) -> None:
        super().__init__()
        width = block.tokens * block.channels
        self.register_buffer("first", torch.randn(width, 64) / 8)
        self.register_buffer("last", 10 * torch.randn(10, width) / width**0.5)
        self.block = block
        for layer in (block.mix_tokens, block.mix_channels):
            layer.bias.requires_grad_(False)  # 2 m of them: they would grow with the width

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(self.block(F.linear(images.flatten(1), self.first)), self.last)


@experiment(paper="mixer-as-sparse-mlp", seeds=3)
def mixer_width(seed: int) -> dict[str, float]:
    """Test accuracy on digits with about 510 trained weights, spread over widths 88, 200 and 256.

    ``88``, ``200``, ``256``: by width, shuffled at random; ``256_transpose``: with the transpose instead;
    ``..._weights``: trained weights of each.
    """
    digits, result = load("digits"), {}
    for tokens, channels, permutation in (
        (22, 4, "random"),
        (20, 10, "random"),
        (16, 16, "random"),
        (16, 16, "transpose"),
    ):
        torch.manual_seed(seed)
        model = FrozenEnds(RandomPermutedMixerBlock(tokens, channels, permutation=permutation))
        fit(model, digits.train, steps=400, lr=1e-2, schedule=cosine_schedule(), seed=seed)
        name = f"{tokens * channels}" + ("_transpose" if permutation == "transpose" else "")
        result[name] = evaluate(model, digits.test)
        result[f"{name}_weights"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return result
