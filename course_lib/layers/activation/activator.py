"""A gate in the place of attention, and what such a network cannot see."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    require_at_least,
    require_divides,
    require_fraction,
    require_image,
    require_pair,
    require_positive,
    require_width,
)
from course_lib.layers.norm import LayerNorm
from course_lib.registry import implements


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
        device, dtype: of the parameters, as in torch.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: for a size below 1, or if the last axis is not ``dim`` wide.
        TypeError: for arguments and inputs of another type.

    Paper: Activator: GLU Activations as The Core Functions of a Vision Transformer -
    https://arxiv.org/abs/2405.15953

    The three maps have biases, and act on the features of one token only. That the norm is shared is read
    from the authors' code.

    >>> ActivatorGatingUnit(6, 8)(torch.randn(2, 5, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, dim=dim, hidden_dim=hidden_dim)
        factory = {"device": device, "dtype": dtype}
        self.dim, self.hidden_dim = dim, hidden_dim
        self.gate = nn.Linear(dim, hidden_dim, **factory)
        self.value = nn.Linear(dim, hidden_dim, **factory)
        self.norm = LayerNorm(hidden_dim, **factory)
        self.out = nn.Linear(hidden_dim, dim, **factory)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, self)
        return self.out(self.norm(F.gelu(self.gate(x))) * self.norm(self.value(x)))

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.hidden_dim}"


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
        device, dtype: of the parameters, as in torch.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for a size below 1, or if the last axis is not ``dim`` wide.
        TypeError: for arguments and inputs of another type.

    Paper: Activator: GLU Activations as The Core Functions of a Vision Transformer -
    https://arxiv.org/abs/2405.15953. As in the authors' code, both lines use the same layer norm.

    >>> ActivatorBlock(6, 8, full=False)(torch.randn(2, 5, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        full: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, dim=dim, hidden_dim=hidden_dim)
        require_fraction(type(self).__name__, dropout=dropout)
        factory = {"device": device, "dtype": dtype}
        self.dim, self.hidden_dim = dim, hidden_dim
        self.norm = LayerNorm(dim, **factory)
        self.gate = ActivatorGatingUnit(dim, hidden_dim, **factory)
        self.mlp = None
        if full:
            self.mlp = nn.Sequential(
                nn.Linear(dim, hidden_dim, **factory),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(hidden_dim, dim, **factory),
                nn.Dropout(dropout),
            )

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_width(x, self.dim, self)
        x = x + self.gate(self.norm(x))
        return x if self.mlp is None else x + self.mlp(self.norm(x))

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.hidden_dim}"


@implements(
    "activator-glu",
    example=lambda: (
        Activator(1, 3, image_size=(4, 4), patch=2, dim=6, hidden_dim=8, depth=2),
        torch.randn(2, 1, 4, 4),
    ),
)
class Activator(nn.Module):
    r"""An image classifier of Activator blocks: patches in, mean over the patches, linear read-out.

    .. math:: \text{logits} = W_{\mathrm{out}}\, \tfrac1T \textstyle\sum_t
        \text{blocks}(W_p\, \text{patch}_t)

    There are no positions and no block lets two patches meet, so the logits are a mean of votes: they do not
    change when the patches are shuffled.

    Args:
        in_channels: channels c of the images.
        num_classes: number of logits n.
        image_size: rows i and columns j of the images; one number for both.
        patch: side of a square patch, a divisor of rows and columns.
        dim: width d.
        hidden_dim: width h of every block.
        depth: number of blocks.
        full: blocks with a feed-forward network.
        dropout: in those networks; the authors take 0.5.
        device, dtype: of the parameters, as in torch.

    Shape: images ``(b, c, i, j)`` to logits ``(b, n)``.

    Raises:
        ValueError: for a size below 1, a patch that does not divide the image, or an image of another shape.
        TypeError: for arguments and inputs of another type.

    Paper: Activator: GLU Activations as The Core Functions of a Vision Transformer -
    https://arxiv.org/abs/2405.15953

    >>> model = Activator(1, 10, image_size=(8, 8), patch=2, dim=16, hidden_dim=32, depth=2)
    >>> model(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        image_size: tuple[int, int] | int,
        patch: int,
        dim: int,
        hidden_dim: int,
        depth: int,
        full: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, in_channels=in_channels, num_classes=num_classes)
        require_positive(name, dim=dim, hidden_dim=hidden_dim)
        require_at_least(0, name, depth=depth)
        require_fraction(name, dropout=dropout)
        self.in_channels, self.image_size = in_channels, require_pair(name, image_size=image_size)
        for axis, side in enumerate(self.image_size):
            require_divides(name, **{f"image_size[{axis}]": side, "patch": patch})
        factory = {"device": device, "dtype": dtype}
        self.embed_patch = nn.Conv2d(in_channels, dim, patch, stride=patch, **factory)
        self.blocks = nn.ModuleList(
            ActivatorBlock(dim, hidden_dim, full=full, dropout=dropout, **factory) for _ in range(depth)
        )
        self.out = nn.Linear(dim, num_classes, **factory)

    def forward(self, images: Float[Tensor, "b c i j"]) -> Float[Tensor, "b n"]:
        require_image(images, self.in_channels, self, sides=self.image_size)
        x = self.embed_patch(images).flatten(2).mT  # row after row
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(1))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, image_size={self.image_size}"
