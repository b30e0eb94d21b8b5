"""A gate in the place of attention, and what such a network cannot see."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_width
from course_lib.layers.norm import LayerNorm
from course_lib.registry import implements

__all__ = ["Activator", "ActivatorBlock", "ActivatorGatingUnit"]


@implements(
    "activator-glu",
    example=lambda: (ActivatorGatingUnit(6, 8), torch.randn(2, 5, 6)),
    permutation_equivariant=True,
)
class ActivatorGatingUnit(nn.Module):
    r"""A gated unit whose two branches are normalised by one shared layer norm.

    .. math:: y = W_3 \bigl( \mathrm{LN}(\mathrm{GELU}(W_1 x)) \odot \mathrm{LN}(W_2 x) \bigr)

    Args:
        dim: width d of a token.
        hidden_dim: width h of the branches.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: if the last axis is not ``dim`` wide.

    Paper: Activator: GLU Activations as The Core Functions of a Vision Transformer -
    https://arxiv.org/abs/2405.15953

    The three maps have biases, and act on the features of one token only. That the norm is shared is read
    from the authors' code.

    >>> ActivatorGatingUnit(6, 8)(torch.randn(2, 5, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.dim, self.hidden_dim = dim, hidden_dim
        self.gate = nn.Linear(dim, hidden_dim)
        self.value = nn.Linear(dim, hidden_dim)
        self.norm = LayerNorm(hidden_dim)
        self.out = nn.Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, f"ActivatorGatingUnit({self.dim}, {self.hidden_dim})")
        return self.out(self.norm(F.gelu(self.gate(x))) * self.norm(self.value(x)))


@implements(
    "activator-glu",
    example=lambda: (ActivatorBlock(6, 8), torch.randn(2, 5, 6)),
    permutation_equivariant=True,
)
class ActivatorBlock(nn.Module):
    r"""A transformer block without attention: the gate, and in the full form a feed-forward network after it.

    .. math:: x \leftarrow x + \mathrm{Gate}(\mathrm{LN}(x)), \qquad
        x \leftarrow x + \mathrm{FFN}(\mathrm{LN}(x))

    Args:
        dim: width d of a token.
        hidden_dim: width h of the gate and of the feed-forward network.
        full: keep the second line; the reduced form drops it to save operations.
        dropout: after both matrices of the feed-forward network.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: if the last axis is not ``dim`` wide.

    Paper: Activator: GLU Activations as The Core Functions of a Vision Transformer -
    https://arxiv.org/abs/2405.15953. As in the authors' code, both lines use the same layer norm.

    >>> ActivatorBlock(6, 8, full=False)(torch.randn(2, 5, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(self, dim: int, hidden_dim: int, *, full: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim, self.hidden_dim = dim, hidden_dim
        self.norm = LayerNorm(dim)
        self.gate = ActivatorGatingUnit(dim, hidden_dim)
        self.mlp = None
        if full:
            self.mlp = nn.Sequential(
                nn.Linear(dim, hidden_dim),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(hidden_dim, dim),
                nn.Dropout(dropout),
            )

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_width(x, self.dim, f"ActivatorBlock({self.dim}, {self.hidden_dim})")
        x = x + self.gate(self.norm(x))
        return x if self.mlp is None else x + self.mlp(self.norm(x))


@implements("activator-glu", example=lambda: (Activator((4, 4, 1), 2, 6, 8, 3, 2), torch.randn(2, 1, 4, 4)))
class Activator(nn.Module):
    r"""An image classifier of Activator blocks: patches in, mean over the patches, linear read-out.

    .. math:: \text{logits} = W_{\mathrm{out}}\, \tfrac1T \textstyle\sum_t
        \text{blocks}(W_p\, \text{patch}_t)

    There are no positions and no block lets two patches meet, so the logits are a mean of votes: they do not
    change when the patches are shuffled.

    Args:
        image: rows, columns and channels of the image.
        patch: side of a square patch, a divisor of rows and columns.
        dim: width d.
        hidden_dim: width h of every block.
        num_classes: number of logits n.
        num_layers: number of blocks.
        full: blocks with a feed-forward network.
        dropout: in those networks; the authors take 0.5.

    Shape: images ``(b, c, i, j)`` to logits ``(b, n)``.

    Raises:
        ValueError: if the patch does not divide the image, or an image has another shape.

    Paper: Activator: GLU Activations as The Core Functions of a Vision Transformer -
    https://arxiv.org/abs/2405.15953

    >>> Activator((8, 8, 1), 2, 16, 32, 10, 2)(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        patch: int,
        dim: int,
        hidden_dim: int,
        num_classes: int,
        num_layers: int,
        *,
        full: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        rows, columns, channels = image
        if rows % patch or columns % patch:
            raise ValueError(f"patch {patch} does not divide an image of {rows} x {columns}")
        self.image = image
        self.embed_patch = nn.Conv2d(channels, dim, patch, stride=patch)
        self.blocks = nn.ModuleList(
            ActivatorBlock(dim, hidden_dim, full=full, dropout=dropout) for _ in range(num_layers)
        )
        self.out = nn.Linear(dim, num_classes)

    def forward(self, images: Float[Tensor, "b c i j"]) -> Float[Tensor, "b n"]:
        rows, columns, channels = self.image
        if images.shape[1:] != (channels, rows, columns):
            raise ValueError(f"built for images {(channels, rows, columns)}, got {tuple(images.shape[1:])}")
        x = rearrange(self.embed_patch(images), "b d i j -> b (i j) d")
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(1))
