"""A small network at every pixel, and an average in place of the dense head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import (
    require_fraction,
    require_image,
    require_odd,
    require_positive,
    require_sequence,
)
from course_lib.registry import implements


@implements("network-in-network", example=lambda: (MlpConv2d(3, (5, 4, 6), 3), torch.randn(2, 3, 5, 7)))
class MlpConv2d(nn.Sequential):
    r"""A three-layer network that slides over the image, the same at every position.

    .. math:: f_1 = \mathrm{relu}(W_1 x_{ij} + b_1), \quad f_2 = \mathrm{relu}(W_2 f_1 + b_2), \quad
        f_3 = \mathrm{relu}(W_3 f_2 + b_3)

    with :math:`x_{ij}` the patch around position (i, j): one k x k convolution, then two 1 x 1 convolutions.

    Args:
        in_channels: c.
        dims: channels of the three layers; the last is the number of output channels.
        kernel_size: k, odd; the size of the image is kept.
        activate_last: a ReLU after the third layer too, as in the paper.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, dims[-1], i, j)``.

    Raises:
        ValueError: for an even kernel, a size below 1, not three widths, or other channels.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: Network In Network - https://arxiv.org/abs/1312.4400

    Without the last ReLU small networks train faster, since no class map can die; hence the option.

    >>> MlpConv2d(3, (16, 16, 10), 5)(torch.randn(1, 3, 8, 8)).shape
    torch.Size([1, 10, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        dims: tuple[int, int, int],
        kernel_size: int,
        *,
        activate_last: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels)
        require_sequence(name, 3, dims=dims)
        require_positive(name, **{f"dims[{i}]": dim for i, dim in enumerate(dims)})
        require_odd(name, kernel_size=kernel_size)
        first, second, third = dims
        super().__init__(
            nn.Conv2d(in_channels, first, kernel_size, padding=kernel_size // 2, **factory),
            nn.ReLU(),
            nn.Conv2d(first, second, 1, **factory),
            nn.ReLU(),
            nn.Conv2d(second, third, 1, **factory),
            nn.ReLU() if activate_last else nn.Identity(),
        )
        self.in_channels = in_channels
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming's start of the weights, torch's of the biases."""
        for layer in (self[0], self[2], self[4]):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b o i j"]:
        require_image(x, self.in_channels, self)
        return super().forward(x)


@implements("network-in-network", example=lambda: (GlobalAveragePoolingHead(4), torch.randn(2, 4, 5, 3)))
class GlobalAveragePoolingHead(nn.Module):
    r"""One feature map per class; its mean is the score of the class. No parameters.

    .. math:: z_k = \frac{1}{IJ} \sum_{i,j} x_{k,i,j}

    Args:
        num_classes: maps k.

    Shape: ``(b, k, i, j)`` to ``(b, k)``.

    Raises:
        ValueError: for no classes, or if there is not one map per class.
        TypeError: for a number of classes that is no integer, or maps that are not real.

    Paper: Network In Network - https://arxiv.org/abs/1312.4400

    >>> GlobalAveragePoolingHead(2)(torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]]))
    tensor([[2., 5.]])
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        require_positive(type(self).__name__, num_classes=num_classes)
        self.num_classes = num_classes

    def forward(self, x: Float[Tensor, "b k i j"]) -> Float[Tensor, "b k"]:
        require_image(x, self.num_classes, self)
        return x.mean((2, 3))

    def extra_repr(self) -> str:
        return f"{self.num_classes}"


@implements(
    "network-in-network",
    example=lambda: (NetworkInNetwork(2, 3, channels=4, dropout=0.0), torch.randn(2, 2, 9, 8)),
)
class NetworkInNetwork(nn.Module):
    r"""Three :class:`MlpConv2d` layers, two poolings, and the average of the class maps.

    .. math:: z = \mathrm{GAP}(M_3(P(M_2(P(M_1(x))))))

    with P a max-pooling of 3 x 3 at stride 2, followed by dropout.

    Args:
        in_channels: c.
        num_classes: k.
        channels: of every layer but the last.
        kernel_size: of the first layer of each small network.
        dropout: after each pooling.
        activate_last: whether class maps pass a ReLU before they are averaged, as in the paper.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, k)``.

    Raises:
        ValueError: for an even kernel, a size below 1, a dropout that is no share, or other channels.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: Network In Network - https://arxiv.org/abs/1312.4400

    Differs from the paper and the definition files that its authors released: those have 96 to 192 maps that
    differ from layer to layer, kernels of 5, 5 and 3 pixels, and poolings that begin at the first pixel where
    ours are centred; their weights start normal with one deviation for all layers.

    >>> NetworkInNetwork(1, 10).class_maps(torch.randn(2, 1, 8, 8)).shape
    torch.Size([2, 10, 2, 2])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        channels: int = 16,
        kernel_size: int = 3,
        dropout: float = 0.5,
        activate_last: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, num_classes=num_classes, channels=channels)
        require_odd(name, kernel_size=kernel_size)
        require_fraction(name, dropout=dropout)
        self.in_channels, dims = in_channels, (channels, channels, channels)

        def pool() -> nn.Module:
            return nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), nn.Dropout(dropout))

        self.trunk = nn.Sequential(
            MlpConv2d(in_channels, dims, kernel_size, **factory),
            pool(),
            MlpConv2d(channels, dims, kernel_size, **factory),
            pool(),
        )
        last = (channels, channels, num_classes)
        self.last = MlpConv2d(channels, last, kernel_size, activate_last=activate_last, **factory)
        self.head = GlobalAveragePoolingHead(num_classes)

    def class_maps(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b k _ _"]:
        """Where in the image each class is seen: the maps whose means are the scores."""
        require_image(x, self.in_channels, self)
        return self.last(self.trunk(x))

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b k"]:
        return self.head(self.class_maps(x))

    def extra_repr(self) -> str:
        return f"{self.in_channels}"
