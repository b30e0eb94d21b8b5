"""Kernels of several sizes side by side, and the 1 x 1 reductions that pay for them."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_fraction, require_image, require_pair, require_positive
from course_lib.registry import implements


def _conv(in_channels: int, out_channels: int, kernel_size: int, **factory: Any) -> nn.Sequential:
    """A convolution that keeps the size, then ReLU."""
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, **factory)
    return nn.Sequential(conv, nn.ReLU())


@implements(
    "inception",
    example=lambda: (
        InceptionModule(4, out_1x1=3, reduce_3x3=2, out_3x3=3, reduce_5x5=1, out_5x5=2, out_pool=2),
        torch.randn(2, 4, 5, 7),
    ),
)
class InceptionModule(nn.Module):
    r"""Four branches on the same input, side by side on the channel axis.

    .. math:: y = [\,K_1 x,\; K_3 R_3 x,\; K_5 R_5 x,\; K_1' \max_{3 \times 3} x\,]

    K is a convolution of the named size, R a 1 x 1 reduction; a ReLU follows each of them.

    Args:
        in_channels: c.
        out_1x1: channels of the 1 x 1 branch.
        reduce_3x3: channels between reduction and 3 x 3 kernel.
        out_3x3: channels of the 3 x 3 branch.
        reduce_5x5: channels between reduction and 5 x 5 kernel.
        out_5x5: channels of the 5 x 5 branch.
        out_pool: channels of the pooling branch.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, out_1x1 + out_3x3 + out_5x5 + out_pool, i, j)``.

    Raises:
        ValueError: for a number of channels below 1, or others than built for.
        TypeError: for a number that is no integer, or an input of another dtype.

    Paper: Going Deeper with Convolutions - https://arxiv.org/abs/1409.4842

    >>> widths = {"reduce_3x3": 96, "out_3x3": 128, "reduce_5x5": 16, "out_5x5": 32}
    >>> block = InceptionModule(192, out_1x1=64, **widths, out_pool=32)
    >>> block.out_channels, sum(p.numel() for p in block.parameters())
    (256, 163696)
    """

    def __init__(
        self,
        in_channels: int,
        *,
        out_1x1: int,
        reduce_3x3: int,
        out_3x3: int,
        reduce_5x5: int,
        out_5x5: int,
        out_pool: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, out_1x1=out_1x1, out_pool=out_pool)
        require_positive(name, reduce_3x3=reduce_3x3, out_3x3=out_3x3)
        require_positive(name, reduce_5x5=reduce_5x5, out_5x5=out_5x5)
        self.in_channels, self.out_channels = in_channels, out_1x1 + out_3x3 + out_5x5 + out_pool
        self.branch_1x1 = _conv(in_channels, out_1x1, 1, **factory)
        self.branch_3x3 = nn.Sequential(
            _conv(in_channels, reduce_3x3, 1, **factory), _conv(reduce_3x3, out_3x3, 3, **factory)
        )
        self.branch_5x5 = nn.Sequential(
            _conv(in_channels, reduce_5x5, 1, **factory), _conv(reduce_5x5, out_5x5, 5, **factory)
        )
        self.branch_pool = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), _conv(in_channels, out_pool, 1, **factory)
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b o i j"]:
        require_image(x, self.in_channels, self)
        branches = (self.branch_1x1, self.branch_3x3, self.branch_5x5, self.branch_pool)
        return torch.cat([branch(x) for branch in branches], 1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


@implements(
    "inception",
    example=lambda: (NaiveInceptionModule(4, out_1x1=3, out_3x3=3, out_5x5=2), torch.randn(2, 4, 5, 7)),
)
class NaiveInceptionModule(nn.Module):
    """The module without reductions: larger, and wider at every stage, since pooling keeps all channels.

    Args:
        in_channels: c.
        out_1x1: channels of the 1 x 1 branch.
        out_3x3: channels of the 3 x 3 branch.
        out_5x5: channels of the 5 x 5 branch.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, out_1x1 + out_3x3 + out_5x5 + c, i, j)``.

    Raises:
        ValueError: for a number of channels below 1, or others than built for.
        TypeError: for a number that is no integer, or an input of another dtype.

    Paper: Going Deeper with Convolutions - https://arxiv.org/abs/1409.4842

    >>> NaiveInceptionModule(192, out_1x1=64, out_3x3=128, out_5x5=32).out_channels
    416
    """

    def __init__(
        self,
        in_channels: int,
        *,
        out_1x1: int,
        out_3x3: int,
        out_5x5: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        widths = {"out_1x1": out_1x1, "out_3x3": out_3x3, "out_5x5": out_5x5}
        require_positive(type(self).__name__, in_channels=in_channels, **widths)
        self.in_channels, self.out_channels = in_channels, out_1x1 + out_3x3 + out_5x5 + in_channels
        self.branch_1x1, self.branch_3x3, self.branch_5x5 = (
            _conv(in_channels, width, k, **factory)
            for k, width in zip((1, 3, 5), widths.values(), strict=True)
        )
        self.branch_pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b o i j"]:
        require_image(x, self.in_channels, self)
        branches = (self.branch_1x1, self.branch_3x3, self.branch_5x5, self.branch_pool)
        return torch.cat([branch(x) for branch in branches], 1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


@implements(
    "inception",
    example=lambda: (
        AuxiliaryClassifier(3, 4, image_size=(6, 5), channels=5, hidden_dim=7, dropout=0.0),
        torch.randn(2, 3, 6, 5),
    ),
)
class AuxiliaryClassifier(nn.Module):
    """A small classifier on an inner layer, which brings gradient to the layers below it.

    Average pooling 5 x 5 at stride 3, a 1 x 1 convolution, a dense layer, dropout, the class scores.

    Args:
        in_channels: c.
        num_classes: k.
        image_size: rows and columns of the input, 5 or more each; one integer for a square.
        channels: of the 1 x 1 convolution.
        hidden_dim: width of the dense layer.
        dropout: before the scores.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, k)``.

    Raises:
        ValueError: for an image too small to pool, a size below 1, a dropout that is no share, or an input of
            other channels or sides.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: Going Deeper with Convolutions - https://arxiv.org/abs/1409.4842

    >>> AuxiliaryClassifier(512, 1000, image_size=14)(torch.randn(1, 512, 14, 14)).shape
    torch.Size([1, 1000])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        image_size: int | tuple[int, int],
        channels: int = 128,
        hidden_dim: int = 1024,
        dropout: float = 0.7,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, num_classes=num_classes)
        require_positive(name, channels=channels, hidden_dim=hidden_dim)
        require_fraction(name, dropout=dropout)
        self.in_channels, self.image_size = in_channels, _require_poolable(name, image_size)
        rows, columns = ((side - 5) // 3 + 1 for side in self.image_size)
        self.layers = nn.Sequential(
            nn.AvgPool2d(5, stride=3),
            _conv(in_channels, channels, 1, **factory),
            nn.Flatten(),
            nn.Linear(channels * rows * columns, hidden_dim, **factory),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, num_classes, **factory),
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b k"]:
        require_image(x, self.in_channels, self, sides=self.image_size)
        return self.layers(x)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, image_size={self.image_size}"


def _require_poolable(layer: str, image_size: int | tuple[int, int]) -> tuple[int, int]:
    rows, columns = require_pair(layer, image_size=image_size)
    if min(rows, columns) < 5:
        raise ValueError(f"{layer}: image_size must be 5 or more on both sides, got {image_size!r}")
    return rows, columns


@implements("inception")
class MiniGoogLeNet(nn.Module):
    """GoogLeNet in small: a stem, three inception modules, an average, and one auxiliary classifier.

    In training it returns the scores and the auxiliary scores, for :func:`googlenet_loss`; in evaluation the
    auxiliary classifier is not run.

    Args:
        in_channels: c.
        num_classes: k.
        image_size: rows and columns of the input, 5 or more each; one integer for a square.
        channels: of the stem, a multiple of 8; each module puts out twice as many.
        dropout: before the scores.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, k)``, in training to two of them.

    Raises:
        ValueError: for channels that are no multiple of 8, an image too small to pool, a dropout that is no
            share, or an input of other channels or sides.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: Going Deeper with Convolutions - https://arxiv.org/abs/1409.4842

    Differs from the paper: three modules of equal width instead of nine, one auxiliary classifier instead of
    two, a stem of one 3 x 3 convolution, no local response normalisation.

    >>> MiniGoogLeNet(1, 10, image_size=8).eval()(torch.randn(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        image_size: int | tuple[int, int],
        channels: int = 16,
        dropout: float = 0.4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, num_classes=num_classes, channels=channels)
        if channels % 8:
            raise ValueError(f"{name}: channels must be a multiple of 8, got {channels}")
        require_fraction(name, dropout=dropout)
        self.in_channels, self.image_size = in_channels, _require_poolable(name, image_size)

        def module(width: int) -> InceptionModule:
            return InceptionModule(
                width,
                out_1x1=channels // 2,
                reduce_3x3=3 * channels // 4,
                out_3x3=channels,
                reduce_5x5=channels // 8,
                out_5x5=channels // 4,
                out_pool=channels // 4,
                **factory,
            )

        self.lower = nn.Sequential(_conv(in_channels, channels, 3, **factory), module(channels))
        auxiliary = {"image_size": image_size, "channels": channels, "hidden_dim": 4 * channels}
        self.auxiliary = AuxiliaryClassifier(2 * channels, num_classes, **auxiliary, **factory)
        self.upper = nn.Sequential(
            nn.MaxPool2d(3, stride=2, padding=1),
            module(2 * channels),
            module(2 * channels),
            nn.AdaptiveAvgPool2d(1),
        )
        self.out = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * channels, num_classes, **factory)
        )

    def forward(
        self, x: Float[Tensor, "b c i j"]
    ) -> Float[Tensor, "b k"] | tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        require_image(x, self.in_channels, self, sides=self.image_size)
        inner = self.lower(x)
        scores = self.out(self.upper(inner))
        return (scores, self.auxiliary(inner)) if self.training else scores

    def extra_repr(self) -> str:
        return f"{self.in_channels}, image_size={self.image_size}"


@implements("inception")
def googlenet_loss(
    outputs: tuple[Float[Tensor, "b k"], ...] | Float[Tensor, "b k"],
    y: Int64[Tensor, "b"],
    *,
    weight: float = 0.3,
) -> Float[Tensor, ""]:
    r"""Cross-entropy of the scores plus a share of that of each auxiliary classifier.

    .. math:: L = \mathrm{CE}(z, y) + 0.3 \sum_m \mathrm{CE}(z^{(m)}, y)

    Args:
        outputs: the scores, in training followed by the auxiliary ones.
        y: classes.
        weight: of every auxiliary loss.

    Paper: Going Deeper with Convolutions - https://arxiv.org/abs/1409.4842

    >>> z, y = torch.zeros(1, 2), torch.tensor([0])
    >>> googlenet_loss((z, z), y).div(googlenet_loss(z, y)).round(decimals=3)
    tensor(1.3000)
    """
    scores, *auxiliary = (outputs,) if isinstance(outputs, Tensor) else outputs
    return F.cross_entropy(scores, y) + sum(weight * F.cross_entropy(z, y) for z in auxiliary)
