"""An image classifier around any list of blocks.

Letters in shapes: b batch, t time, d width, c channels, i rows and j columns of an image, n classes.
"""

import math
from collections.abc import Iterable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import require_image, require_module, require_pair, require_positive
from course_lib.layers.norm import LayerNorm
from course_lib.models.transformers._blocks import module_list

torch.fx.wrap("rearrange")


class VisionTransformer(nn.Module):
    r"""An image classifier: patches as tokens, your blocks, the mean over tokens, a linear read-out.

    .. math:: \text{logits} = W_{\mathrm{out}}\, \tfrac1T \textstyle\sum_t
        N(\text{blocks}(W_p\, \text{patch}_t + P_t))

    Args:
        in_channels: channels of the image.
        num_classes: number of logits.
        image_size: rows and columns of the image.
        patch: side of a square patch, a divisor of rows and columns.
        dim: width d.
        blocks: modules from ``(b, t, d)`` to ``(b, t, d)``, applied in order.
        final_norm: before the mean. None: a LayerNorm.
        device: of all parameters but those of your blocks and norm.
        dtype: of all parameters but those of your blocks and norm.

    Shape: images ``(b, c, i, j)`` to logits ``(b, num_classes)``; t = (i / patch) (j / patch) tokens.

    Raises:
        ValueError: if the patch does not divide the image, or an image has another shape.
        TypeError: for sizes or blocks of another type, or images that are not of the parameters' dtype.

    >>> net = VisionTransformer(1, 10, image_size=(8, 8), patch=2, dim=16, blocks=[nn.Identity()])
    >>> net(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        image_size: tuple[int, int],
        patch: int,
        dim: int,
        blocks: Iterable[nn.Module],
        final_norm: nn.Module | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, num_classes=num_classes, patch=patch, dim=dim)
        rows, columns = require_pair(name, image_size=image_size)
        if rows % patch or columns % patch:
            raise ValueError(f"{name}: patch={patch} does not divide image_size=({rows}, {columns})")
        self.in_channels, self.image_size, self.patch = in_channels, (rows, columns), patch
        self.grid = (rows // patch, columns // patch)
        self.embed_patch = nn.Linear(in_channels * patch**2, dim, **factory)
        self.position = nn.Parameter(torch.empty(math.prod(self.grid), dim, **factory))
        self.reset_parameters()
        self.blocks = module_list(name, blocks)
        self.final_norm = LayerNorm(dim, **factory) if final_norm is None else final_norm
        require_module(name, final_norm=self.final_norm)
        self.out = nn.Linear(dim, num_classes, **factory)

    def reset_parameters(self) -> None:
        """Small random positions."""
        nn.init.normal_(self.position, std=0.02)

    def embed(self, images: Float[Tensor, "b c i j"]) -> Float[Tensor, "b t d"]:
        """The tokens that enter the first block."""
        require_image(images, self.in_channels, self, sides=self.image_size, name="images")
        patches = rearrange(images, "b c (i p) (j q) -> b (i j) (c p q)", p=self.patch, q=self.patch)
        return self.embed_patch(patches) + self.position

    def forward(self, images: Float[Tensor, "b c i j"]) -> Float[Tensor, "b n"]:
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.out(self.final_norm(x).mean(1))

    def extra_repr(self) -> str:
        return f"in_channels={self.in_channels}, image_size={self.image_size}, patch={self.patch}"
