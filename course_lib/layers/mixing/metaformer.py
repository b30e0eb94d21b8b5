"""MetaFormer: one frame, any token mixer; and the mixers that hardly mix."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._images import ChannelScale
from course_lib.layers._shapes import (
    require_at_least,
    require_callable,
    require_grid,
    require_image,
    require_module,
    require_number,
    require_odd,
    require_pair,
    require_positive,
    require_sequence,
)
from course_lib.layers.norm import ResidualSublayer
from course_lib.registry import implements

OneGroupNorm = partial(nn.GroupNorm, 1)


def pool_minus_input_naive(x: Float[Tensor, "b c i j"], kernel_size: int = 3) -> Float[Tensor, "b c i j"]:
    r"""The pooling mixer as written: over the neighbours that exist, a mean, less the pixel itself.

    .. math:: y_{ij} = \frac{1}{|N_{ij}|} \sum_{(m, n) \in N_{ij}} x_{mn} - x_{ij}, \qquad
        N_{ij} = \{(m, n) : |m - i|, |n - j| \le \lfloor k/2 \rfloor\}

    >>> pool_minus_input_naive(torch.tensor([[[[0.0, 3.0, 0.0]]]]))
    tensor([[[[ 1.5000, -2.0000,  1.5000]]]])
    """
    half, (rows, columns) = kernel_size // 2, x.shape[-2:]
    y = torch.empty_like(x)
    for i in range(rows):
        for j in range(columns):
            window = x[..., max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1]
            y[..., i, j] = window.mean((-2, -1)) - x[..., i, j]
    return y


@implements("metaformer", example=lambda: (PoolMixer(), torch.randn(2, 3, 4, 5)))
class PoolMixer(nn.Module):
    r"""The smallest token mixer: the average of the neighbours, less the pixel itself; no parameters.

    .. math:: y = \mathrm{AvgPool}_{k \times k}(x) - x

    The block around it adds x again, so that pooling alone remains. At the border only the neighbours
    that exist are averaged.

    Args:
        kernel_size: side k of the window, odd.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``.

    Raises:
        ValueError: for a window that is even or below 1, or what is no image.
        TypeError: for a window that is no integer, or an input that is not real.

    Paper: MetaFormer Is Actually What You Need for Vision - https://arxiv.org/abs/2111.11418

    >>> PoolMixer()(torch.tensor([[[[0.0, 3.0, 0.0]]]]))
    tensor([[[[ 1.5000, -2.0000,  1.5000]]]])
    """

    def __init__(self, *, kernel_size: int = 3) -> None:
        super().__init__()
        require_odd(type(self).__name__, kernel_size=kernel_size)
        self.kernel_size = kernel_size

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, None, self)
        return F.avg_pool2d(x, self.kernel_size, 1, self.kernel_size // 2, count_include_pad=False) - x

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"


@implements("metaformer", example=lambda: (RandomMixer(5), torch.randn(2, 5, 4)))
class RandomMixer(nn.Module):
    r"""Mix the tokens with a random matrix that is never trained.

    .. math:: y = A x, \qquad A = \mathrm{softmax}(R), \quad R_{ts} \sim U(0, 1)

    Args:
        num_tokens: tokens t.
        device: of the matrix.
        dtype: of the matrix; it follows the input where that has another.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for a number of tokens below 1, or another one in the input.
        TypeError: for a number of tokens that is no integer, or an input that is not real.

    Paper: MetaFormer Is Actually What You Need for Vision - https://arxiv.org/abs/2111.11418 (one of its
    ablations). The softmax of uniform numbers is what the code of the authors' next paper,
    https://arxiv.org/abs/2210.13452, draws: in a row, the largest weight is at most e times the smallest, so
    it is nearly the mean over all tokens, plus a little noise.

    >>> RandomMixer(5)(torch.ones(1, 5, 1)).flatten().allclose(torch.ones(5))
    True
    """

    matrix: Tensor

    def __init__(
        self,
        num_tokens: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, num_tokens=num_tokens)
        self.num_tokens = num_tokens
        self.register_buffer("matrix", torch.empty(num_tokens, num_tokens, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw another matrix."""
        self.matrix.copy_(torch.rand_like(self.matrix).softmax(-1))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, (self.num_tokens, 1), None, self)
        return self.matrix.to(x) @ x

    def extra_repr(self) -> str:
        return f"{self.num_tokens}"


@implements("metaformer", example=lambda: (GridMixer(PoolMixer(), grid=(2, 3)), torch.randn(2, 6, 4)))
class GridMixer(nn.Module):
    r"""Give an image-shaped mixer to a block of tokens: rows of tokens become an image and back.

    .. math:: y = \mathrm{tokens}\bigl(T(\mathrm{image}(x))\bigr), \qquad t = i \cdot \text{columns} + j

    Args:
        mixer: T, from ``(b, c, i, j)`` to ``(b, c, i, j)``.
        grid: rows and columns of the tokens.

    Shape: ``(b, t, d)`` to ``(b, t, d)`` with t = rows x columns.

    Raises:
        ValueError: for a grid with a side below 1, or another number of tokens.
        TypeError: for a mixer that is no module, or a grid of anything but integers.

    Paper: MetaFormer Is Actually What You Need for Vision - https://arxiv.org/abs/2111.11418 (an adapter, so
    that every mixer fits ``TransformerBlock(mixer=...)``)

    >>> GridMixer(PoolMixer(), grid=(1, 3))(torch.tensor([[[0.0], [3.0], [0.0]]])).flatten()
    tensor([ 1.5000, -2.0000,  1.5000])
    """

    def __init__(self, mixer: nn.Module, *, grid: tuple[int, int]) -> None:
        super().__init__()
        require_module(type(self).__name__, mixer=mixer)
        self.mixer, self.grid = mixer, require_pair(type(self).__name__, grid=grid)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, self.grid, None, self)
        image = x.mT.unflatten(2, self.grid)
        return self.mixer(image).flatten(2).mT

    def extra_repr(self) -> str:
        return f"grid={self.grid}"


@implements(
    "metaformer",
    example=lambda: (
        MetaFormerBlock(4, nn.MaxPool2d(3, 1, 1), layer_scale=0.1),
        torch.randn(2, 4, 3, 5),
    ),
)
class MetaFormerBlock(nn.Module):
    r"""The frame: mix tokens with anything, then mix channels, each behind a norm and beside a skip.

    .. math:: y = x + \lambda_1 \odot T(N(x)), \qquad z = y + \lambda_2 \odot W_2\, \mathrm{gelu}(W_1 N(y))

    It is two :class:`~course_lib.layers.norm.ResidualSublayer` for images; for tokens, take
    ``TransformerBlock(dim, 1, mixer=...)``.

    Args:
        channels: c.
        mixer: T, from ``(b, c, i, j)`` to the same shape.
        hidden_dim: width of the channel MLP, 4 c unless given.
        layer_scale: start of the factors :math:`\lambda`, one per channel; None leaves them out.
        norm_layer: N, called with ``channels``; PoolFormer's averages over channels and positions.
        device: of the parameters, except those of the mixer.
        dtype: of the parameters, except those of the mixer.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``.

    Raises:
        ValueError: for a size below 1, a layer scale that is not finite, or another number of channels.
        TypeError: for an argument of another type.

    Paper: MetaFormer Is Actually What You Need for Vision - https://arxiv.org/abs/2111.11418

    Differs from the released code: no dropout and no stochastic depth; its MLP starts with weights of 0.02
    and no biases, its layer scales at 1e-5, which 200 steps do not leave.

    >>> MetaFormerBlock(8, PoolMixer())(torch.randn(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        mixer: nn.Module,
        *,
        hidden_dim: int | None = None,
        layer_scale: float | None = None,
        norm_layer: Callable[..., nn.Module] = OneGroupNorm,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels)
        require_module(name, mixer=mixer)
        require_callable(name, norm_layer=norm_layer)
        hidden_dim = 4 * channels if hidden_dim is None else hidden_dim
        require_positive(name, hidden_dim=hidden_dim)
        if layer_scale is not None:
            require_number(name, layer_scale=layer_scale)
        self.channels = channels
        mlp = nn.Sequential(
            nn.Conv2d(channels, hidden_dim, 1, **factory),
            nn.GELU(),
            nn.Conv2d(hidden_dim, channels, 1, **factory),
        )

        def residual(mixer: nn.Module) -> ResidualSublayer:
            if layer_scale is not None:
                mixer = nn.Sequential(mixer, ChannelScale(channels, layer_scale, **factory))
            return ResidualSublayer(mixer, channels, norm="pre", norm_layer=norm_layer, **factory)

        self.mix_tokens = residual(mixer)
        self.mix_channels = residual(mlp)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        return self.mix_channels(self.mix_tokens(x))

    def extra_repr(self) -> str:
        return f"{self.channels}"


@implements(
    "metaformer",
    example=lambda: (PoolFormer(2, 3, dims=(4, 6), depth=(1, 1)), torch.randn(2, 2, 16, 24)),
    exceptions={
        "gradients": "pooling minus input drops a constant, so the shift of the norm before it is dead"
    },
)
class PoolFormer(nn.Module):
    r"""A pyramid of MetaFormer blocks that only pool: an image classifier without attention.

    .. math:: x_0 = \mathrm{conv}_{\text{stem}}(\text{image}), \qquad
        x_{l+1} = \mathrm{blocks}_l(\mathrm{conv}_{3 \times 3, /2}(x_l)), \qquad
        \text{logits} = W\, \tfrac{1}{IJ} \textstyle\sum_{ij} N(x_L)_{ij}

    Args:
        in_channels: channels of the image.
        num_classes: logits.
        dims: channels of every stage; the map halves between two stages.
        depth: blocks of every stage.
        stem: kernel and stride of the first convolution; the paper's are 7 and 4. The padding is half of
            what the kernel is larger than the stride, rounded up, so that whole strides are covered.
        layer_scale: start of the layer scales.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, num_classes)``.

    Raises:
        ValueError: for stages that do not match, a size below 1, or another number of channels.
        TypeError: for an argument of another type.

    Paper: MetaFormer Is Actually What You Need for Vision - https://arxiv.org/abs/2111.11418 (there four
    stages of 64, 128, 320 and 512 channels)

    Differs from the released code: the start, dropout and stochastic depth of :class:`MetaFormerBlock`.

    >>> PoolFormer(1, 10, dims=(8, 16), depth=(1, 1), stem=(3, 1))(torch.randn(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        dims: Sequence[int] = (16, 32),
        depth: Sequence[int] = (2, 2),
        stem: tuple[int, int] = (7, 4),
        layer_scale: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, num_classes=num_classes)
        require_sequence(name, dims=dims)
        require_sequence(name, len(dims) or 1, depth=depth)
        require_positive(name, **{f"dims[{i}]": dim for i, dim in enumerate(dims)})
        require_at_least(0, name, **{f"depth[{i}]": blocks for i, blocks in enumerate(depth)})
        require_number(name, layer_scale=layer_scale)
        self.in_channels, kernel_and_stride, stages = in_channels, require_pair(name, stem=stem), []
        for channels, blocks in zip(dims, depth, strict=True):
            kernel_size, stride = kernel_and_stride
            padding = max(kernel_size - stride + 1, 0) // 2
            stages.append(nn.Conv2d(in_channels, channels, kernel_size, stride, padding, **factory))
            for _ in range(blocks):
                stages.append(MetaFormerBlock(channels, PoolMixer(), layer_scale=layer_scale, **factory))
            in_channels, kernel_and_stride = channels, (3, 2)
        self.stages = nn.Sequential(*stages)
        self.norm = OneGroupNorm(in_channels, **factory)
        self.out = nn.Linear(in_channels, num_classes, **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b n"]:
        require_image(x, self.in_channels, self)
        return self.out(self.norm(self.stages(x)).mean((2, 3)))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, num_classes={self.out.out_features}"
