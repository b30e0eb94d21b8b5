"""MLP-Mixer: a full matrix over the tokens, the same for every channel."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    require_at_least,
    require_divides,
    require_grid,
    require_image,
    require_pair,
    require_positive,
)
from course_lib.layers.norm import LayerNorm, TransformerBlock
from course_lib.registry import implements


@implements("mlp-mixer", example=lambda: (TokenMLP(5, 7), torch.randn(2, 5, 4)))
class TokenMLP(nn.Module):
    r"""A multi-layer perceptron along the tokens: all channels share its two matrices.

    .. math:: y_{\cdot c} = W_2\, \mathrm{gelu}(W_1 x_{\cdot c} + b_1) + b_2, \qquad
        W_1: D_S \times S, \quad W_2: S \times D_S

    Without the gelu it is the matrix :math:`(W_2 W_1) \otimes I_C` on the tokens laid end to end.

    Args:
        num_tokens: tokens S; the matrices fix it.
        hidden_dim: width :math:`D_S`, chosen freely, so that the cost is linear in S.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for a size below 1, or another number of tokens.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: MLP-Mixer: An all-MLP Architecture for Vision - https://arxiv.org/abs/2105.01601

    >>> sum(p.numel() for p in TokenMLP(16, 32).parameters())
    1072
    """

    def __init__(
        self,
        num_tokens: int,
        hidden_dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        require_positive(type(self).__name__, num_tokens=num_tokens, hidden_dim=hidden_dim)
        self.num_tokens, self.hidden_dim = num_tokens, hidden_dim
        self.mlp = nn.Sequential(
            nn.Linear(num_tokens, hidden_dim, **factory),
            nn.GELU(),
            nn.Linear(hidden_dim, num_tokens, **factory),
        )

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, (self.num_tokens, 1), None, self)
        return self.mlp(x.mT).mT

    def extra_repr(self) -> str:
        return f"{self.num_tokens}, hidden_dim={self.hidden_dim}"


@implements(
    "mlp-mixer", example=lambda: (MixerBlock(5, 4, token_hidden_dim=7, hidden_dim=6), torch.randn(2, 5, 4))
)
class MixerBlock(TransformerBlock):
    r"""A transformer block whose attention is a :class:`TokenMLP`.

    .. math:: U = X + W_2\, \mathrm{gelu}(W_1 \mathrm{LN}(X)), \qquad
        Y = U + \mathrm{gelu}(\mathrm{LN}(U)\, W_3)\, W_4

    Args:
        num_tokens: tokens S.
        dim: channels C.
        token_hidden_dim: width of the token MLP.
        hidden_dim: width of the channel MLP.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for a size below 1, or another number of tokens or channels.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: MLP-Mixer: An all-MLP Architecture for Vision - https://arxiv.org/abs/2105.01601

    Differs from the released code: the exact gelu, where there it is the one with a tanh; 1e-5 in the norms,
    there 1e-6; torch's start for linear layers.

    >>> MixerBlock(16, 32, token_hidden_dim=32, hidden_dim=64)(torch.randn(2, 16, 32)).shape
    torch.Size([2, 16, 32])
    """

    def __init__(
        self,
        num_tokens: int,
        dim: int,
        *,
        token_hidden_dim: int,
        hidden_dim: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        sizes = {"dim": dim, "token_hidden_dim": token_hidden_dim, "hidden_dim": hidden_dim}
        require_positive(type(self).__name__, num_tokens=num_tokens, **sizes)
        mixer = TokenMLP(num_tokens, token_hidden_dim, **factory)
        super().__init__(dim, 1, mixer=mixer, hidden_dim=hidden_dim, **factory)
        self.num_tokens, self.dim = num_tokens, dim

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, (self.num_tokens, 1), self.dim, self)
        return super().forward(x)

    def extra_repr(self) -> str:
        return f"{self.num_tokens}, {self.dim}"


@implements(
    "mlp-mixer",
    example=lambda: (
        MLPMixer(2, 3, image_size=(4, 6), patch=2, dim=5, token_hidden_dim=7),
        torch.randn(2, 2, 4, 6),
    ),
    exceptions={"gradients": "the last bias of a token MLP moves all channels alike, which LayerNorm undoes"},
)
class MLPMixer(nn.Module):
    r"""An image classifier of matrices alone: patches, Mixer blocks, the mean over tokens, a read-out.

    .. math:: X = P\, W_p, \qquad \text{logits} = W_{\mathrm{out}}\, \tfrac1S \textstyle\sum_s
        \mathrm{LN}(\mathrm{blocks}(X))_s

    No table of positions: each row of the token matrices belongs to one place already. The last bias of
    every token MLP has no effect: it adds one number to all channels of a token, and all that reads the
    stream is a layer normalisation.

    Args:
        in_channels: channels c of the image.
        num_classes: logits.
        image_size: rows and columns of the image; one integer for a square.
        patch: side of a square patch.
        dim: channels C.
        depth: blocks L.
        token_hidden_dim: width of the token MLPs, C / 2 unless given.
        hidden_dim: width of the channel MLPs, 4 C unless given.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, num_classes)``.

    Raises:
        ValueError: for a size below 1, or an image that the patch does not divide, or of another size: the
            token matrices fix it.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: MLP-Mixer: An all-MLP Architecture for Vision - https://arxiv.org/abs/2105.01601

    Differs from the released code: torch's start for linear layers, also for the read-out, which starts at
    zero there; the exact gelu, where there it is the one with a tanh; 1e-5 in the norms, there 1e-6; no
    stochastic depth (which the paper has and the released model has not).

    >>> MLPMixer(1, 10, image_size=(8, 8), patch=2, dim=32)(torch.randn(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        image_size: int | tuple[int, int],
        patch: int,
        dim: int,
        depth: int = 2,
        token_hidden_dim: int | None = None,
        hidden_dim: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, num_classes=num_classes, patch=patch, dim=dim)
        require_at_least(0, name, depth=depth)
        rows, columns = require_pair(name, image_size=image_size)
        for side in (rows, columns):
            require_divides(name, image_size=side, patch=patch)
        tokens = (rows // patch) * (columns // patch)
        token_hidden_dim = max(dim // 2, 1) if token_hidden_dim is None else token_hidden_dim
        hidden_dim = 4 * dim if hidden_dim is None else hidden_dim
        require_positive(name, token_hidden_dim=token_hidden_dim, hidden_dim=hidden_dim)
        self.in_channels, self.image_size, self.patch = in_channels, (rows, columns), patch
        widths = {"token_hidden_dim": token_hidden_dim, "hidden_dim": hidden_dim}
        self.embed = nn.Linear(in_channels * patch**2, dim, **factory)
        self.blocks = nn.Sequential(*(MixerBlock(tokens, dim, **widths, **factory) for _ in range(depth)))
        self.norm = LayerNorm(dim, **factory)
        self.out = nn.Linear(dim, num_classes, **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b n"]:
        require_image(x, self.in_channels, self, sides=self.image_size)
        patches = F.pixel_unshuffle(x, self.patch).flatten(2).mT  # (b, patches, channels and pixels)
        return self.out(self.norm(self.blocks(self.embed(patches))).mean(1))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, image_size={self.image_size}, patch={self.patch}"
