"""The way back: zeros between the values, and a kernel that must fill them in."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    require_at_least,
    require_divides,
    require_image,
    require_positive,
)
from course_lib.registry import implements


@implements("large-context-upsampling")
def zero_insert(x: Float[Tensor, "*b i j"], factor: int = 2) -> Float[Tensor, "*b _ _"]:
    r"""Put ``factor - 1`` zeros behind every value, along rows and columns.

    .. math:: x^{\uparrow}_{si,\, sj} = x_{ij}, \quad \text{else } 0; \qquad
        \widehat{x^{\uparrow}}_{kl} = \hat x_{k \bmod I,\; l \bmod J}

    The spectrum does not change: it is *repeated* s times along each axis. Whatever follows must remove the
    copies.

    Args:
        x: any leading axes, then rows and columns.
        factor: s.

    Shape: ``(*b, i, j)`` to ``(*b, s * i, s * j)``.

    Raises:
        ValueError: for a factor below 1 or fewer than two axes.

    Paper: Improving Feature Stability during Upsampling -- Spectral Artifacts and the Importance of Spatial
    Context - https://arxiv.org/abs/2311.17524

    >>> zero_insert(torch.tensor([[1.0, 2.0]]))
    tensor([[1., 0., 2., 0.],
            [0., 0., 0., 0.]])
    """
    if factor < 1 or x.ndim < 2:
        raise ValueError(f"need rows, columns and a factor of 1 or more, got {tuple(x.shape)} and {factor}")
    rows, columns = x.shape[-2:]
    y = x.new_zeros(*x.shape[:-2], rows, factor, columns, factor)
    y[..., :, 0, :, 0] = x
    return y.reshape(*x.shape[:-2], rows * factor, columns * factor)


def zero_insert_then_convolve(
    x: Float[Tensor, "b c i j"], weight: Float[Tensor, "c o k k"], *, stride: int = 2
) -> Float[Tensor, "b o _ _"]:
    r"""A transposed convolution in its two steps: zeros, then a convolution with the flipped kernel.

    .. math:: y = \mathrm{flip}(w) * x^{\uparrow}

    The kernel is odd and padded to k // 2, so that the output is ``stride`` times as large as the input.

    >>> zero_insert_then_convolve(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 3, 3))
    tensor([[[[1., 2., 1., 1.],
              [1., 2., 1., 1.]]]])
    """
    kernel = weight.flip(-2, -1).transpose(0, 1)
    return F.conv2d(zero_insert(x, stride), kernel, padding=weight.shape[-1] // 2)


@implements("large-context-upsampling")
def overlap_count(size: int, kernel_size: int, *, stride: int = 2) -> Float[Tensor, "n"]:
    r"""How many input values reach each output of a one-dimensional transposed convolution without padding.

    .. math:: n_o = \#\{\, m : 0 \le o - s m < k,\; 0 \le m < a \,\}

    Where the kernel is no multiple of the stride the counts alternate: equal inputs and equal weights give
    unequal outputs, a checkerboard in two dimensions. The larger the kernel, the smaller the difference
    relative to the count.

    Args:
        size: input values a.
        kernel_size: k.
        stride: s.

    Shape: three numbers to ``(s * (a - 1) + k,)``.

    Raises:
        ValueError: if one of the numbers is below 1.

    Paper: Improving Feature Stability during Upsampling -- Spectral Artifacts and the Importance of Spatial
    Context - https://arxiv.org/abs/2311.17524

    >>> overlap_count(4, 3).int().tolist(), overlap_count(4, 4).int().tolist()
    ([1, 1, 2, 1, 2, 1, 2, 1, 1], [1, 1, 2, 2, 2, 2, 2, 2, 1, 1])
    """
    require_positive("overlap_count", size=size, kernel_size=kernel_size, stride=stride)
    return F.conv_transpose1d(torch.ones(1, 1, size), torch.ones(1, 1, kernel_size), stride=stride)[0, 0]


@implements("large-context-upsampling")
def spectral_artifact_energy(
    x: Float[Tensor, "*b i j"], *, factor: int = 2, radius: float = 0.125
) -> Float[Tensor, "*b"]:
    r"""Share of the energy that lies where copies of the coarsest content would lie after upsampling.

    .. math:: \frac{\sum_{f \in R} |\hat x_f|^2}{\sum_{f \ne 0} |\hat x_f|^2}, \qquad
        R = \bigl\{ f : \exists\, m \ne 0,\; |f - m / s|_\infty < r \bigr\}

    Frequencies f are in cycles per pixel, on a circle of length 1. The mean does not count. A Hann window
    keeps the borders of the image from leaking into all frequencies.

    Args:
        x: any leading axes, then rows and columns.
        factor: s, by which the image was upsampled.
        radius: r, half the side of the square around each copy of the zero frequency.

    Shape: ``(*b, i, j)`` to ``(*b,)``, each between 0 and 1 (nan for a constant image).

    Raises:
        ValueError: for a radius that reaches the zero frequency, or images of fewer than 4 rows or columns.

    Paper: Improving Feature Stability during Upsampling -- Spectral Artifacts and the Importance of Spatial
    Context - https://arxiv.org/abs/2311.17524 (which shows spectra; this number is our summary of them)

    >>> board = torch.tensor([1.0, -1.0]).repeat(8)
    >>> spectral_artifact_energy(torch.outer(board, board)).round(decimals=2)
    tensor(1.)
    """
    if min(x.shape[-2:]) < 4 or not 0 < radius <= 1 / (2 * factor):
        raise ValueError(
            f"need at least 4 x 4 pixels and 0 < radius <= {1 / (2 * factor)}, "
            f"got {tuple(x.shape)} and radius {radius}"
        )
    rows, columns = x.shape[-2:]
    window = torch.outer(
        *(torch.hann_window(n, periodic=False, dtype=x.dtype) for n in (rows + 2, columns + 2))
    )
    window = window[1:-1, 1:-1].to(x.device)
    centred = x - (x * window).sum((-2, -1), keepdim=True) / window.sum()
    energy = torch.fft.fft2(centred * window).abs().square()
    near = [
        torch.stack([_circle(torch.fft.fftfreq(n) - m / factor) < radius for m in range(factor)])
        for n in (rows, columns)
    ]  # for each axis: which frequencies lie near copy m
    copies = torch.stack(
        [near[0][m][:, None] & near[1][n] for m in range(factor) for n in range(factor) if m or n]
    )
    return (energy * copies.any(0).to(energy)).sum((-2, -1)) / energy.sum((-2, -1))


@implements(
    "large-context-upsampling",
    example=lambda: (LargeContextTransposedConv2d(3, 2, kernel_size=5), torch.randn(2, 3, 4, 5)),
)
class LargeContextTransposedConv2d(nn.Module):
    r"""Upsampling by a transposed convolution with a large kernel, beside a small one for the detail.

    .. math:: y = w_{\mathrm{large}} * x^{\uparrow} + w_{\mathrm{small}} * x^{\uparrow} + b

    A small kernel cannot both remove the copies of the spectrum that the inserted zeros make and restore high
    frequencies; a large one comes nearer to the ideal filter. The small branch could be folded into the
    centre of the large kernel: it changes the training, not what can be expressed.

    Args:
        in_channels: c.
        out_channels: o.
        kernel_size: odd side of the large kernel.
        small_kernel_size: odd side of the parallel one; 0 leaves it out.
        stride: factor of the upsampling.
        num_groups: of channels, each upsampled for itself, by both branches.
        bias: one number per output channel.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, o, stride * i, stride * j)``.

    Raises:
        ValueError: for an even kernel, a small one that is not smaller, or a wrong number of channels.
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: Improving Feature Stability during Upsampling -- Spectral Artifacts and the Importance of Spatial
    Context - https://arxiv.org/abs/2311.17524

    The paper's sizes are 7 and 11 (tried up to 31) with a parallel 3. Values agree with code of the first
    author from the year before the paper (``tests/vectors``). There as many groups as possible are taken,
    ``gcd(in_channels, out_channels)``, wherever the kernel is larger than 2, while the 2 x 2 kernel that it
    is compared with mixes all channels; and both branches have a bias, which is one bias here.

    >>> LargeContextTransposedConv2d(3, 2)(torch.randn(1, 3, 4, 5)).shape
    torch.Size([1, 2, 8, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 7,
        small_kernel_size: int = 3,
        stride: int = 2,
        num_groups: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, out_channels=out_channels)
        require_positive(name, kernel_size=kernel_size, stride=stride)
        require_at_least(0, name, small_kernel_size=small_kernel_size)
        if kernel_size % 2 == 0 or (small_kernel_size and small_kernel_size % 2 == 0):
            raise ValueError(
                f"{name}: kernel_size={kernel_size} and small_kernel_size={small_kernel_size} must be odd"
            )
        if small_kernel_size >= kernel_size or kernel_size < stride:
            raise ValueError(
                f"{name}: need small_kernel_size < kernel_size and kernel_size >= stride, "
                f"got {small_kernel_size}, {kernel_size} and {stride}"
            )
        require_divides(name, in_channels=in_channels, num_groups=num_groups)
        require_divides(name, out_channels=out_channels, num_groups=num_groups)
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride

        def branch(size: int, bias: bool) -> nn.Module:
            options = {"output_padding": stride - 1, "groups": num_groups, "bias": bias, **factory}
            return nn.ConvTranspose2d(in_channels, out_channels, size, stride, size // 2, **options)

        self.large = branch(kernel_size, bias)
        self.small = branch(small_kernel_size, False) if small_kernel_size else None

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b o _ _"]:
        require_image(x, self.in_channels, self)
        y = self.large(x)
        return y if self.small is None else y + self.small(x)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"


def _circle(f: Tensor) -> Tensor:
    """Distance from zero on a circle of length 1."""
    return (f - f.round()).abs()
