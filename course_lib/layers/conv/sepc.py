"""Convolution along the scale axis of a pyramid of feature maps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    layer_name,
    require_at_least,
    require_image,
    require_positive,
    require_real,
)
from course_lib.layers.conv.arithmetic import conv_output_size
from course_lib.registry import implements


@implements("sepc")
def gaussian_pyramid(image: Float[Tensor, "b c _ _"], levels: int) -> list[Float[Tensor, "b c _ _"]]:
    r"""The image, then again and again blurred and every second pixel taken, finest first.

    .. math:: x^{l+1} = \bigl(x^l * k k^\top\bigr) \downarrow_2, \qquad k = \tfrac{1}{16} (1, 4, 6, 4, 1)

    Args:
        image: the finest level.
        levels: how many in all.

    Raises:
        ValueError: for fewer than one level, what is no image, or one too small to be blurred.
        TypeError: for levels that are no integer, or an image that is not real.

    Paper: Scale-Equalizing Pyramid Convolution for Object Detection - https://arxiv.org/abs/2005.03101

    >>> [tuple(level.shape[2:]) for level in gaussian_pyramid(torch.rand(1, 1, 16, 12), 3)]
    [(16, 12), (8, 6), (4, 3)]
    """
    require_positive("gaussian_pyramid", levels=levels)
    require_image(image, None, "gaussian_pyramid", name="image")
    k = image.new_tensor([1, 4, 6, 4, 1]) / 16
    kernel = torch.outer(k, k).expand(image.shape[1], 1, 5, 5)
    pyramid = [image]
    while len(pyramid) < levels:
        finer = pyramid[-1]
        if min(finer.shape[2:]) < 3:
            raise ValueError(
                f"gaussian_pyramid: level {len(pyramid) - 1} has {tuple(finer.shape[2:])} pixels, too few to "
                "blur; ask for fewer levels"
            )
        padded = F.pad(finer, (2, 2, 2, 2), mode="reflect")
        pyramid.append(F.conv2d(padded, kernel, stride=2, groups=image.shape[1]))
    return pyramid


@implements("sepc")
def integrated_batch_norm(
    levels: Sequence[Float[Tensor, "b c _ _"]], norm: nn.BatchNorm1d
) -> list[Float[Tensor, "b c _ _"]]:
    """Batch normalisation with one mean and deviation per channel for the whole pyramid.

    Args:
        levels: feature maps of all sizes.
        norm: applied to all pixels of all levels at once.

    Paper: Scale-Equalizing Pyramid Convolution for Object Detection - https://arxiv.org/abs/2005.03101

    As in the authors' code, which is compared by value.

    >>> a, b = integrated_batch_norm([torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)], nn.BatchNorm1d(1))
    >>> [level.round().item() for level in (a, b)]
    [-1.0, 1.0]
    """
    flat = norm(torch.cat([x.flatten(2) for x in levels], 2))
    parts = flat.split([x.shape[2] * x.shape[3] for x in levels], 2)
    return [part.view_as(x) for part, x in zip(parts, levels, strict=True)]


@implements("sepc", example=lambda: (PyramidConv(3, 4), [torch.randn(2, 3, 8, 6), torch.randn(2, 3, 4, 3)]))
class PyramidConv(nn.Module):
    r"""A convolution over scale, rows and columns: three kernels that all levels share.

    .. math:: y^l = W_0 * x^l + W_{-1} *_{\downarrow 2} x^{l-1} + \mathrm{up}(W_{+1} * x^{l+1})

    The finer neighbour :math:`x^{l-1}` is convolved with stride 2, the coarser one convolved and then
    enlarged. At both ends of the pyramid the missing term is left out.

    Args:
        in_channels: c.
        out_channels: o.
        device: of the parameters.
        dtype: of the parameters.

    Shape: a list of ``(b, c, i, j)``, finest first, each half the size of the one before (rounded up), to a
    list of the same sizes with o channels.

    Raises:
        ValueError: for channels below 1, an empty list, other channels, or levels that do not halve.
        TypeError: for channels that are no integer, what is no list, or an input of another dtype.

    Paper: Scale-Equalizing Pyramid Convolution for Object Detection - https://arxiv.org/abs/2005.03101

    As in the authors' code, which is compared by value: enlarging is bilinear between pixel centres that span
    the whole map. Differs from it: normalisation (:func:`integrated_batch_norm`) and ReLU are left to the
    caller; dilation and groups are not offered.

    >>> levels = [torch.randn(1, 3, 8, 8), torch.randn(1, 3, 4, 4), torch.randn(1, 3, 2, 2)]
    >>> [tuple(y.shape) for y in PyramidConv(3, 5)(levels)]
    [(1, 5, 8, 8), (1, 5, 4, 4), (1, 5, 2, 2)]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        require_positive(type(self).__name__, in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.same, self.coarser = (
            nn.Conv2d(in_channels, out_channels, 3, padding=1, **factory) for _ in range(2)
        )
        self.finer = nn.Conv2d(in_channels, out_channels, 3, padding=1, stride=2, **factory)
        PyramidConv.reset_parameters(self)  # a subclass has made only this part yet

    def reset_parameters(self) -> None:
        """Small normal weights, biases zero."""
        for conv in (self.same, self.coarser, self.finer):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def _apply_kernel(self, name: str, x: Tensor, level: int) -> Tensor:
        return getattr(self, name)(x)

    def forward(self, levels: list[Float[Tensor, "b c _ _"]]) -> list[Float[Tensor, "b o _ _"]]:
        self._require_pyramid(levels)
        outputs = []
        for level, x in enumerate(levels):
            y = self._apply_kernel("same", x, level)
            if level > 0:
                y = y + self._apply_kernel("finer", levels[level - 1], level)
            if level + 1 < len(levels):
                above = self._apply_kernel("coarser", levels[level + 1], level)
                y = y + F.interpolate(above, size=x.shape[2:], mode="bilinear", align_corners=True)
            outputs.append(y)
        return outputs

    def _require_pyramid(self, levels: Sequence[Tensor]) -> None:
        if not isinstance(levels, (list, tuple)):
            raise TypeError(f"{layer_name(self)} expects a list of images, got {type(levels).__name__}")
        if not levels:
            raise ValueError(f"{layer_name(self)} expects at least one level, got an empty list")
        for level, x in enumerate(levels):
            require_image(x, self.in_channels, self, name=f"level {level}")
            if level:
                half = tuple(conv_output_size(n, 3, stride=2, padding=1) for n in levels[level - 1].shape[2:])
                if x.shape[2:] != half:
                    raise ValueError(
                        f"{layer_name(self)} expects level {level} of {half} pixels, got {tuple(x.shape[2:])}"
                    )

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


@implements("sepc")
def deformable_conv2d(
    x: Float[Tensor, "b c _ _"],
    offset: Float[Tensor, "b n i j"],
    weight: Float[Tensor, "o c k k"],
    *,
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "b o i j"]:
    r"""A convolution whose every tap is moved, at every position, by an offset of its own.

    .. math:: y_{p} = \sum_q W_q\, x(s p + q + \Delta_{q,p})

    Between pixels x is read off bilinearly; outside it is zero.

    Args:
        x: images.
        offset: for each tap, row by row, its shift along rows and along columns, in pixels: n = 2 k k.
        weight: kernels.
        stride: s.
        padding: p of the plain convolution.

    Raises:
        ValueError: if the offsets do not fit kernel and output size, or images and kernels do not meet.
        TypeError: for a number that is no integer, or an input that is not real.

    Paper: Scale-Equalizing Pyramid Convolution for Object Detection - https://arxiv.org/abs/2005.03101 (the
    operator is that of https://arxiv.org/abs/1703.06211; order of the offsets as in torchvision)

    >>> x, weight = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)
    >>> y = deformable_conv2d(x, torch.zeros(1, 18, 3, 3), weight)
    >>> torch.allclose(y, F.conv2d(x, weight), atol=1e-5)
    True
    """
    name = "deformable_conv2d"
    require_real(weight, name, name="weight")
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
        raise ValueError(f"{name} expects weight (o, c, k, k), got shape {tuple(weight.shape)}")
    require_image(x, weight.shape[1], name)
    require_positive(name, stride=stride)
    require_at_least(0, name, padding=padding)
    k, (rows, columns) = weight.shape[2], x.shape[2:]
    grid = tuple(conv_output_size(n, k, stride=stride, padding=padding) for n in (rows, columns))
    require_real(offset, name, name="offset")
    if offset.shape != (x.shape[0], 2 * k * k, *grid):
        raise ValueError(
            f"{name} expects offset {(x.shape[0], 2 * k * k, *grid)}, got shape {tuple(offset.shape)}"
        )
    # Half precision has no place between columns 256 and 258: coordinates are formed in float32.
    wide = torch.promote_types(torch.promote_types(x.dtype, offset.dtype), torch.float32)
    steps = [stride * torch.arange(n, device=x.device, dtype=wide) - padding for n in grid]
    tap = torch.arange(k, device=x.device, dtype=wide)
    shift = offset.to(wide).unflatten(1, (k, k, 2))  # (b, k, k, 2, i, j)
    row = shift[:, :, :, 0] + tap[:, None, None, None] + steps[0][:, None]
    column = shift[:, :, :, 1] + tap[:, None, None] + steps[1]
    points = torch.stack(
        [(2 * column + 1) / columns - 1, (2 * row + 1) / rows - 1], -1
    )  # grid_sample: x first
    patches = F.grid_sample(x.to(wide), points.flatten(1, 3), align_corners=False)  # (b, c, k k i, j)
    patches = patches.to(x.dtype).unflatten(2, (k * k, -1))
    return torch.einsum("bcqij,ocq->boij", patches, weight.flatten(2))


@implements(
    "sepc",
    example=lambda: (
        ScaleEqualizingPyramidConv(3, 4),
        [torch.randn(2, 3, 8, 6), torch.randn(2, 3, 4, 3), torch.randn(2, 3, 2, 2)],
    ),
)
class ScaleEqualizingPyramidConv(PyramidConv):
    """A :class:`PyramidConv` whose kernels deform at every level but the finest.

    Sharing kernels over levels supposes a Gaussian pyramid. Feature maps of a network are none, so each
    kernel gets offsets from a 3 x 3 convolution of its input, which starts at zero: at first this is the
    plain layer.

    Args:
        in_channels: c.
        out_channels: o.
        device: of the parameters.
        dtype: of the parameters.

    Shape: as :class:`PyramidConv`.

    Raises:
        ValueError: as :class:`PyramidConv`.
        TypeError: as :class:`PyramidConv`.

    Paper: Scale-Equalizing Pyramid Convolution for Object Detection - https://arxiv.org/abs/2005.03101

    As in the authors' code, which is compared by value, with the differences of :class:`PyramidConv`.

    >>> levels = [torch.randn(1, 3, 8, 8), torch.randn(1, 3, 4, 4)]
    >>> [tuple(y.shape) for y in ScaleEqualizingPyramidConv(3, 5)(levels)]
    [(1, 5, 8, 8), (1, 5, 4, 4)]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        super().__init__(in_channels, out_channels, **factory)
        self.offsets = nn.ModuleDict(
            {
                name: nn.Conv2d(in_channels, 18, 3, padding=1, stride=getattr(self, name).stride, **factory)
                for name in ("same", "coarser", "finer")
            }
        )
        self._zero_offsets()

    def reset_parameters(self) -> None:
        """The start of :class:`PyramidConv`, and no offsets."""
        super().reset_parameters()
        self._zero_offsets()

    def _zero_offsets(self) -> None:
        for conv in self.offsets.values():
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)

    def _apply_kernel(self, name: str, x: Tensor, level: int) -> Tensor:
        conv: nn.Conv2d = getattr(self, name)
        if level == 0:
            return conv(x)
        y = deformable_conv2d(x, self.offsets[name](x), conv.weight, stride=conv.stride[0], padding=1)
        return y + conv.bias[:, None, None]
