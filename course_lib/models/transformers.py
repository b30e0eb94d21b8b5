"""Small transformers: a character model and an image classifier, around any list of blocks.

Letters in shapes: b batch, t time, d width, v vocabulary, c channels, i rows and j columns of an image.
"""

import math
from collections.abc import Iterable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.layers.norm import LayerNorm

__all__ = ["GPT", "VisionTransformer", "gpt2_init_"]


class GPT(nn.Module):
    r"""A decoder-only language model around your blocks.

    .. math:: \text{logits} = W_{\mathrm{out}}\, N(\text{blocks}(E_{x_t} + P_t))

    Args:
        vocab_size: number of tokens v.
        dim: width d of the residual stream.
        blocks: causal modules from ``(b, t, d)`` to ``(b, t, d)``, applied in order.
        max_length: longest sequence, the number of learned positions.
        embed_norm: applied to the embedding; Peri-LN asks for one. None: no norm.
        final_norm: before the output matrix. None: a LayerNorm; ``nn.Identity()`` leaves it out.

    Shape: token ids ``(b, t)`` to logits ``(b, t, v)``.

    Raises:
        ValueError: for a sequence longer than ``max_length`` or a token outside the vocabulary.

    >>> GPT(65, 8, [nn.Identity()], max_length=16)(torch.zeros(2, 5, dtype=torch.long)).shape
    torch.Size([2, 5, 65])
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        blocks: Iterable[nn.Module],
        *,
        max_length: int,
        embed_norm: nn.Module | None = None,
        final_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size, self.max_length = vocab_size, max_length
        self.token = nn.Embedding(vocab_size, dim)
        self.position = nn.Embedding(max_length, dim)
        self.embed_norm = nn.Identity() if embed_norm is None else embed_norm
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = LayerNorm(dim) if final_norm is None else final_norm
        self.out = nn.Linear(dim, vocab_size, bias=False)
        gpt2_init_(self)

    def embed(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """The residual stream that enters the first block."""
        if tokens.shape[1] > self.max_length:
            raise ValueError(
                f"{tokens.shape[1]} tokens exceed max_length={self.max_length}; crop, or build it longer"
            )
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.embed_norm(self.token(tokens) + self.position(positions))

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.out(self.final_norm(x))

    @torch.no_grad()
    def generate(
        self, tokens: Int[Tensor, "b t"], steps: int, *, generator: torch.Generator
    ) -> Int[Tensor, "b u"]:
        """Append ``steps`` sampled tokens; the context is cropped to the last ``max_length``."""
        for _ in range(steps):
            probabilities = self(tokens[:, -self.max_length :])[:, -1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
        return tokens


class VisionTransformer(nn.Module):
    r"""An image classifier: patches as tokens, your blocks, the mean over tokens, a linear read-out.

    .. math:: \text{logits} = W_{\mathrm{out}}\, \tfrac1T \textstyle\sum_t
        N(\text{blocks}(W_p\, \text{patch}_t + P_t))

    Args:
        image: rows, columns and channels of the image.
        patch: side of a square patch, a divisor of rows and columns.
        dim: width d.
        num_classes: number of logits.
        blocks: modules from ``(b, t, d)`` to ``(b, t, d)``, applied in order.
        final_norm: before the mean. None: a LayerNorm.

    Shape: images ``(b, c, i, j)`` to logits ``(b, num_classes)``; t = (i / patch) (j / patch) tokens.

    Raises:
        ValueError: if the patch does not divide the image, or an image has another shape.

    >>> VisionTransformer((8, 8, 1), 2, 16, 10, [nn.Identity()])(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        patch: int,
        dim: int,
        num_classes: int,
        blocks: Iterable[nn.Module],
        *,
        final_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        rows, columns, channels = image
        if rows % patch or columns % patch:
            raise ValueError(f"patch {patch} does not divide an image of {rows} x {columns}")
        self.image, self.patch = image, patch
        self.grid = (rows // patch, columns // patch)
        self.embed_patch = nn.Linear(channels * patch**2, dim)
        self.position = nn.Parameter(0.02 * torch.randn(math.prod(self.grid), dim))
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = LayerNorm(dim) if final_norm is None else final_norm
        self.out = nn.Linear(dim, num_classes)

    def embed(self, images: Float[Tensor, "b c i j"]) -> Float[Tensor, "b t d"]:
        """The tokens that enter the first block."""
        rows, columns, channels = self.image
        if images.shape[1:] != (channels, rows, columns):
            raise ValueError(f"built for images {(channels, rows, columns)}, got {tuple(images.shape[1:])}")
        patches = rearrange(images, "b c (i p) (j q) -> b (i j) (c p q)", p=self.patch, q=self.patch)
        return self.embed_patch(patches) + self.position

    def forward(self, images: Float[Tensor, "b c i j"]) -> Float[Tensor, "b n"]:
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.out(self.final_norm(x).mean(1))


@torch.no_grad()
def gpt2_init_(model: GPT) -> GPT:
    r"""GPT-2's start: weights normal with deviation 0.02, biases zero, and every matrix that writes into the
    residual stream divided by :math:`\sqrt{2L}` for L blocks.

    A matrix writes into the stream if it is the last linear layer of a residual sublayer of the block.

    >>> model = gpt2_init_(GPT(65, 64, [nn.Identity()], max_length=16))
    >>> round(model.out.weight.std().item(), 2)
    0.02
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(0.0, 0.02)
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()
    for block in model.blocks:
        for sublayer in (m for m in block.modules() if hasattr(m, "norm_sum")):
            writers = [m for m in sublayer.modules() if isinstance(m, nn.Linear)]
            if writers:
                writers[-1].weight.div_(math.sqrt(2 * len(model.blocks)))
    return model
