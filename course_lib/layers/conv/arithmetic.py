"""Convolution arithmetic: sizes, three ways to compute a convolution, its transpose, and what a unit sees."""

from collections.abc import Callable
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from course_lib.layers._shapes import require_at_least, require_positive
from course_lib.registry import implements


@implements("convolution-arithmetic")
def conv_output_size(
    size: int, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    r"""Output size of a convolution or a pooling along one axis.

    .. math:: o = \Bigl\lfloor \frac{i + 2p - k - (k - 1)(d - 1)}{s} \Bigr\rfloor + 1

    Args:
        size: input size i.
        kernel_size: k.
        stride: s.
        padding: p zeros on each side.
        dilation: d, the distance of neighbouring taps.

    Raises:
        ValueError: if the dilated kernel is larger than the padded input, or a number is too small.
        TypeError: for a number that is no integer.

    Paper: A guide to convolution arithmetic for deep learning - https://arxiv.org/abs/1603.07285

    >>> conv_output_size(5, 3), conv_output_size(5, 3, padding=1), conv_output_size(6, 3, stride=2, padding=1)
    (3, 5, 3)
    """
    sizes = {"size": size, "kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    require_positive("conv_output_size", **sizes)
    require_at_least(0, "conv_output_size", padding=padding)
    reach = kernel_size + (kernel_size - 1) * (dilation - 1)
    if reach > size + 2 * padding:
        raise ValueError(
            f"a kernel that reaches over {reach} entries does not fit an input of {size} "
            f"with padding {padding}; pad more or dilate less"
        )
    return (size + 2 * padding - reach) // stride + 1


@implements("convolution-arithmetic")
def transposed_output_size(
    size: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    output_padding: int = 0,
) -> int:
    r"""Output size of a transposed convolution along one axis.

    .. math:: o' = s\,(i' - 1) + a + d\,(k - 1) + 1 - 2p

    Several inputs of a strided convolution have the same output size; the output padding
    :math:`a = (i + 2p - d(k-1) - 1) \bmod s` says which of them is meant.

    Args:
        size: input size i'.
        kernel_size: k.
        stride: s of the convolution that is transposed.
        padding: p of the convolution that is transposed, as in torch.
        dilation: d.
        output_padding: a, smaller than the stride or the dilation.

    Raises:
        ValueError: for an output padding that is too large, an output without entries, or a number that is
            too small.
        TypeError: for a number that is no integer.

    Paper: A guide to convolution arithmetic for deep learning - https://arxiv.org/abs/1603.07285

    >>> [transposed_output_size(3, 3, stride=2, padding=1, output_padding=a) for a in (0, 1)]
    [5, 6]
    """
    sizes = {"size": size, "kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    require_positive("transposed_output_size", **sizes)
    require_at_least(0, "transposed_output_size", padding=padding, output_padding=output_padding)
    if output_padding >= max(stride, dilation):
        raise ValueError(
            f"output_padding must be below stride or dilation, got {output_padding}, {stride} and {dilation}"
        )
    out = stride * (size - 1) + output_padding + dilation * (kernel_size - 1) + 1 - 2 * padding
    if out < 1:
        raise ValueError(f"padding {padding} leaves an output of {out} entries; pad less")
    return out


def _require_kernel(x: Tensor, weight: Tensor) -> None:
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"images (b, c, i, j) meet kernels (o, c, k, k) of the same c, got {tuple(x.shape)} and "
            f"{tuple(weight.shape)}"
        )


def _output_grid(x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> tuple[int, int]:
    rows, columns = (
        conv_output_size(x.shape[a], weight.shape[a], stride=stride, padding=padding, dilation=dilation)
        for a in (2, 3)
    )
    return rows, columns


@implements("convolution-arithmetic")
def conv2d_naive(
    x: Float[Tensor, "b c i j"],
    weight: Float[Tensor, "o c _ _"],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Float[Tensor, "b o _ _"]:
    r"""A convolution by six loops (and a batch axis); what ``torch.nn.functional.conv2d`` computes.

    .. math:: y_{o,p,q} = \sum_{c,u,v} W_{o,c,u,v}\, x_{c,\, sp + du,\, sq + dv}

    What deep learning calls convolution is a correlation: the kernel is not flipped.

    Args:
        x: images.
        weight: kernels.
        stride: s.
        padding: zeros on each side of both axes.
        dilation: d.

    Raises:
        ValueError: if channels differ or the kernel does not fit.

    Paper: A guide to convolution arithmetic for deep learning - https://arxiv.org/abs/1603.07285

    >>> conv2d_naive(torch.arange(9.0).view(1, 1, 3, 3), torch.ones(1, 1, 2, 2))
    tensor([[[[ 8., 12.],
              [20., 24.]]]])
    """
    _require_kernel(x, weight)
    rows, columns = _output_grid(x, weight, stride, padding, dilation)
    x = F.pad(x, (padding,) * 4)
    pixels = []
    for o in range(weight.shape[0]):
        for p in range(rows):
            for q in range(columns):
                total = x.new_zeros(len(x))
                for c in range(weight.shape[1]):
                    for u in range(weight.shape[2]):
                        for v in range(weight.shape[3]):
                            pixel = x[:, c, stride * p + dilation * u, stride * q + dilation * v]
                            total = total + weight[o, c, u, v] * pixel
                pixels.append(total)
    return torch.stack(pixels, 1).view(len(x), weight.shape[0], rows, columns)


@implements("convolution-arithmetic")
def conv2d_im2col(
    x: Float[Tensor, "b c i j"],
    weight: Float[Tensor, "o c _ _"],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Float[Tensor, "b o _ _"]:
    """A convolution as one matrix product with all patches side by side; equals :func:`conv2d_naive`.

    Args:
        x: images.
        weight: kernels.
        stride: steps between patches.
        padding: zeros on each side of both axes.
        dilation: distance of neighbouring taps.

    Raises:
        ValueError: if channels differ or the kernel does not fit.

    Paper: A guide to convolution arithmetic for deep learning - https://arxiv.org/abs/1603.07285

    >>> conv2d_im2col(torch.arange(9.0).view(1, 1, 3, 3), torch.ones(1, 1, 2, 2)).flatten()
    tensor([ 8., 12., 20., 24.])
    """
    _require_kernel(x, weight)
    grid = _output_grid(x, weight, stride, padding, dilation)
    patches = F.unfold(x, weight.shape[2:], stride=stride, padding=padding, dilation=dilation)
    return (weight.flatten(1) @ patches).unflatten(-1, grid)  # (o, c k k) times (b, c k k, positions)


@implements("convolution-arithmetic")
def conv_matrix(
    kernel: Float[Tensor, "_ _"],
    size: tuple[int, int],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Float[Tensor, "n i"]:
    """The sparse matrix C of a convolution between one input and one output channel: y = C x.

    Each row holds the kernel, shifted. Applying the transpose of C is the transposed convolution.

    Args:
        kernel: of one pair of channels.
        size: rows and columns of the input.
        stride: steps between outputs.
        padding: zeros on each side of both axes.
        dilation: distance of neighbouring taps.

    Shape: ``(output pixels, input pixels)``, both row by row.

    Raises:
        ValueError: if the kernel does not fit.

    Paper: A guide to convolution arithmetic for deep learning - https://arxiv.org/abs/1603.07285

    >>> conv_matrix(torch.tensor([[1.0, 2.0]]), (1, 4))
    tensor([[1., 2., 0., 0.],
            [0., 1., 2., 0.],
            [0., 0., 1., 2.]])
    """
    rows, columns = (
        conv_output_size(i, k, stride=stride, padding=padding, dilation=dilation)
        for i, k in zip(size, kernel.shape, strict=True)
    )
    matrix = kernel.new_zeros(rows, columns, *size)
    for p, q, u, v in product(range(rows), range(columns), *map(range, kernel.shape)):
        i, j = stride * p + dilation * u - padding, stride * q + dilation * v - padding
        if 0 <= i < size[0] and 0 <= j < size[1]:  # outside are the padded zeros
            matrix[p, q, i, j] = kernel[u, v]
    return matrix.view(rows * columns, -1)


@implements("convolution-arithmetic")
def conv_transpose2d_naive(
    y: Float[Tensor, "b o i j"],
    weight: Float[Tensor, "o c _ _"],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    output_padding: int = 0,
) -> Float[Tensor, "b c _ _"]:
    """The transpose of a convolution, as an ordinary convolution of a stretched input with flipped kernels.

    Between neighbouring entries stand s - 1 zeros, around them d (k - 1) - p; the stride is then 1. It has
    the connectivity of the convolution backwards; it is its adjoint, not its inverse.

    Args:
        y: images with the channels that the convolution puts out.
        weight: kernels of the convolution; its inputs are the outputs here.
        stride: s of the convolution.
        padding: p of the convolution.
        dilation: d of the convolution.
        output_padding: further rows and columns at the end, see :func:`transposed_output_size`.

    Raises:
        ValueError: if channels differ or the output would be empty.

    Paper: A guide to convolution arithmetic for deep learning - https://arxiv.org/abs/1603.07285

    Equals ``torch.nn.functional.conv_transpose2d``.

    >>> conv_transpose2d_naive(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), stride=2).shape
    torch.Size([1, 1, 4, 4])
    """
    flipped = weight.transpose(0, 1).flip(2, 3)
    _require_kernel(y, flipped)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": output_padding}
    for axis in (2, 3):
        transposed_output_size(y.shape[axis], weight.shape[axis], **options)  # refuses what is too small
    b, o, i, j = y.shape
    stretched = y.new_zeros(b, o, stride * (i - 1) + 1, stride * (j - 1) + 1)
    stretched[:, :, ::stride, ::stride] = y
    top, left = (dilation * (k - 1) - padding for k in weight.shape[2:])
    frame = (left, left + output_padding, top, top + output_padding)  # negative: cropped
    return F.conv2d(F.pad(stretched, frame), flipped, dilation=dilation)


@implements("convolution-arithmetic")
def receptive_field(
    function: Callable[[Tensor], Tensor], channels: int, size: tuple[int, int], *, seed: int = 0
) -> Bool[Tensor, "i j"]:
    """Which input pixels move the output pixel in the middle, found by a gradient at a random input.

    Args:
        function: a module or function on images; run in float64 as it stands.
        channels: of its input.
        size: rows and columns of the input.
        seed: of the random input.

    Paper: A guide to convolution arithmetic for deep learning - https://arxiv.org/abs/1603.07285 (the measure
    is ours)

    >>> receptive_field(torch.nn.Conv2d(1, 1, 3, padding=1, dilation=2).double(), 1, (7, 7)).sum()
    tensor(9)
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    y = function(x)
    middle = y[0, :, y.shape[2] // 2, y.shape[3] // 2]
    weights = torch.randn(len(middle), generator=generator, dtype=torch.float64)  # so that no terms cancel
    (gradient,) = torch.autograd.grad(middle @ weights, x)
    return (gradient[0] != 0).any(0)
