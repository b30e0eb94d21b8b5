"""MLP-Mixer: a full matrix over the tokens, the same for every channel."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers.mixing._images import require_grid, require_image
from course_lib.layers.norm import LayerNorm, TransformerBlock
from course_lib.registry import implements

__all__ = ["MLPMixer", "MixerBlock", "TokenMLP"]


@implements("mlp-mixer", example=lambda: (TokenMLP(5, 7), torch.randn(2, 5, 4)))
class TokenMLP(nn.Module):
    r"""A multi-layer perceptron along the tokens: all channels share its two matrices.

    .. math:: y_{\cdot c} = W_2\, \mathrm{gelu}(W_1 x_{\cdot c} + b_1) + b_2, \qquad
        W_1: D_S \times S, \quad W_2: S \times D_S

    Without the gelu it is the matrix :math:`(W_2 W_1) \otimes I_C` on the tokens laid end to end.

    Args:
        num_tokens: tokens S; the matrices fix it.
        hidden_dim: width :math:`D_S`, chosen freely, so that the cost is linear in S.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for another number of tokens.

    Paper: MLP-Mixer: An all-MLP Architecture for Vision - https://arxiv.org/abs/2105.01601

    >>> sum(p.numel() for p in TokenMLP(16, 32).parameters())
    1072
    """

    def __init__(self, num_tokens: int, hidden_dim: int) -> None:
        super().__init__()
        self.num_tokens, self.hidden_dim = num_tokens, hidden_dim
        self.mlp = nn.Sequential(
            nn.Linear(num_tokens, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, num_tokens)
        )

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, (self.num_tokens, 1), None, self)
        return self.mlp(x.mT).mT

    def extra_repr(self) -> str:
        return f"{self.num_tokens}, hidden_dim={self.hidden_dim}"


@implements("mlp-mixer", example=lambda: (MixerBlock(5, 4, 7, 6), torch.randn(2, 5, 4)))
class MixerBlock(TransformerBlock):
    r"""A transformer block whose attention is a :class:`TokenMLP`.

    .. math:: U = X + W_2\, \mathrm{gelu}(W_1 \mathrm{LN}(X)), \qquad
        Y = U + \mathrm{gelu}(\mathrm{LN}(U)\, W_3)\, W_4

    Args:
        num_tokens: tokens S.
        dim: channels C.
        token_hidden: width of the token MLP.
        hidden_dim: width of the channel MLP.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for another number of tokens or channels.

    Paper: MLP-Mixer: An all-MLP Architecture for Vision - https://arxiv.org/abs/2105.01601

    >>> MixerBlock(16, 32, 32, 64)(torch.randn(2, 16, 32)).shape
    torch.Size([2, 16, 32])
    """

    def __init__(self, num_tokens: int, dim: int, token_hidden: int, hidden_dim: int) -> None:
        super().__init__(dim, 1, mixer=TokenMLP(num_tokens, token_hidden), hidden_dim=hidden_dim)
        self.num_tokens, self.dim = num_tokens, dim

    def extra_repr(self) -> str:
        return f"{self.num_tokens}, {self.dim}"


@implements(
    "mlp-mixer",
    example=lambda: (MLPMixer((4, 6, 2), 2, 5, 3, depth=2, token_hidden=7), torch.randn(2, 2, 4, 6)),
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
        image: rows, columns and channels of the image.
        patch: side of a square patch.
        dim: channels C.
        num_classes: logits.
        depth: blocks L.
        token_hidden: width of the token MLPs, S unless given.
        hidden_dim: width of the channel MLPs, 2 C unless given.

    Shape: ``(b, c, i, j)`` to ``(b, num_classes)``.

    Raises:
        ValueError: for an image that the patch does not divide, or of another size.

    Paper: MLP-Mixer: An all-MLP Architecture for Vision - https://arxiv.org/abs/2105.01601

    Differs from the paper: torch's start for linear layers, also for the read-out, which starts at zero
    there; no stochastic depth.

    >>> MLPMixer((8, 8, 1), 2, 32, 10, depth=2)(torch.randn(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        patch: int,
        dim: int,
        num_classes: int,
        *,
        depth: int = 2,
        token_hidden: int | None = None,
        hidden_dim: int | None = None,
    ) -> None:
        super().__init__()
        rows, columns, channels = image
        if rows % patch or columns % patch:
            raise ValueError(
                f"patch {patch} does not divide an image of {rows} x {columns}; image={tuple(image)} is "
                "read as (rows, columns, channels)"
            )
        self.image, self.patch = tuple(image), patch
        tokens = (rows // patch) * (columns // patch)
        token_hidden = tokens if token_hidden is None else token_hidden
        hidden_dim = 2 * dim if hidden_dim is None else hidden_dim
        self.embed = nn.Linear(channels * patch**2, dim)
        self.blocks = nn.Sequential(
            *(MixerBlock(tokens, dim, token_hidden, hidden_dim) for _ in range(depth))
        )
        self.norm = LayerNorm(dim)
        self.out = nn.Linear(dim, num_classes)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b n"]:
        rows, columns, channels = self.image
        require_image(x, channels, self)
        if x.shape[2:] != (rows, columns):
            raise ValueError(
                f"this MLPMixer is built for {rows} x {columns} pixels, got shape {tuple(x.shape)}; the "
                "token matrices fix the size: resize the images, or build it for another size"
            )
        patches = rearrange(x, "b c (i p) (j q) -> b (i j) (c p q)", p=self.patch, q=self.patch)
        return self.out(self.norm(self.blocks(self.embed(patches))).mean(1))

    def extra_repr(self) -> str:
        return f"image={self.image}, patch={self.patch}"
