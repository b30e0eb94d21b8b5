"""Kernels of several sizes side by side, and the 1 x 1 reductions that pay for them."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers.conv._shared import require_image
from course_lib.layers.conv.arithmetic import conv_output_size
from course_lib.registry import implements

__all__ = [
    "AuxiliaryClassifier",
    "InceptionModule",
    "MiniGoogLeNet",
    "NaiveInceptionModule",
    "googlenet_loss",
]


def _conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """A convolution that keeps the size, then ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2), nn.ReLU()
    )


@implements(
    "inception",
    example=lambda: (
        InceptionModule(4, one=3, reduce_three=2, three=3, reduce_five=1, five=2, pool=2),
        torch.randn(2, 4, 5, 7),
    ),
)
class InceptionModule(nn.Module):
    r"""Four branches on the same input, side by side on the channel axis.

    .. math:: y = [\,K_1 x,\; K_3 R_3 x,\; K_5 R_5 x,\; K_1' \max_{3 \times 3} x\,]

    K is a convolution of the named size, R a 1 x 1 reduction; a ReLU follows each of them.

    Args:
        in_channels: c.
        one: channels of the 1 x 1 branch.
        reduce_three: channels between reduction and 3 x 3 kernel.
        three: channels of the 3 x 3 branch.
        reduce_five: channels between reduction and 5 x 5 kernel.
        five: channels of the 5 x 5 branch.
        pool: channels of the pooling branch.

    Shape: ``(b, c, i, j)`` to ``(b, one + three + five + pool, i, j)``.

    Raises:
        ValueError: for other channels.

    Paper: Going Deeper with Convolutions - https://arxiv.org/abs/1409.4842

    >>> block = InceptionModule(192, one=64, reduce_three=96, three=128, reduce_five=16, five=32, pool=32)
    >>> block.out_channels, sum(p.numel() for p in block.parameters())
    (256, 163696)
    """

    def __init__(
        self,
        in_channels: int,
        *,
        one: int,
        reduce_three: int,
        three: int,
        reduce_five: int,
        five: int,
        pool: int,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, one + three + five + pool
        self.one = _conv(in_channels, one, 1)
        self.three = nn.Sequential(_conv(in_channels, reduce_three, 1), _conv(reduce_three, three, 3))
        self.five = nn.Sequential(_conv(in_channels, reduce_five, 1), _conv(reduce_five, five, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _conv(in_channels, pool, 1))

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b o i j"]:
        require_image(x, self.in_channels, "InceptionModule")
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


@implements(
    "inception", example=lambda: (NaiveInceptionModule(4, one=3, three=3, five=2), torch.randn(2, 4, 5, 7))
)
class NaiveInceptionModule(nn.Module):
    """The module without reductions: larger, and wider at every stage, since pooling keeps all channels.

    Args:
        in_channels: c.
        one: channels of the 1 x 1 branch.
        three: channels of the 3 x 3 branch.
        five: channels of the 5 x 5 branch.

    Shape: ``(b, c, i, j)`` to ``(b, one + three + five + c, i, j)``.

    Raises:
        ValueError: for other channels.

    Paper: Going Deeper with Convolutions - https://arxiv.org/abs/1409.4842

    >>> NaiveInceptionModule(192, one=64, three=128, five=32).out_channels
    416
    """

    def __init__(self, in_channels: int, *, one: int, three: int, five: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, one + three + five + in_channels
        self.one, self.three, self.five = (
            _conv(in_channels, width, k) for k, width in ((1, one), (3, three), (5, five))
        )
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b o i j"]:
        require_image(x, self.in_channels, "NaiveInceptionModule")
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


@implements(
    "inception",
    example=lambda: (
        AuxiliaryClassifier(3, (6, 5), 4, channels=5, hidden=7, dropout=0.0),
        torch.randn(2, 3, 6, 5),
    ),
)
class AuxiliaryClassifier(nn.Module):
    """A small classifier on an inner layer, which brings gradient to the layers below it.

    Average pooling 5 x 5 at stride 3, a 1 x 1 convolution, a dense layer, dropout, the class scores.

    Args:
        in_channels: c.
        size: rows and columns of the input, 5 or more each.
        num_classes: k.
        channels: of the 1 x 1 convolution.
        hidden: width of the dense layer.
        dropout: before the scores.

    Shape: ``(b, c, i, j)`` to ``(b, k)``.

    Raises:
        ValueError: for other channels or a size too small to pool.

    Paper: Going Deeper with Convolutions - https://arxiv.org/abs/1409.4842

    >>> AuxiliaryClassifier(512, (14, 14), 1000)(torch.randn(1, 512, 14, 14)).shape
    torch.Size([1, 1000])
    """

    def __init__(
        self,
        in_channels: int,
        size: tuple[int, int],
        num_classes: int,
        *,
        channels: int = 128,
        hidden: int = 1024,
        dropout: float = 0.7,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        rows, columns = (conv_output_size(i, 5, stride=3) for i in size)
        self.layers = nn.Sequential(
            nn.AvgPool2d(5, stride=3),
            _conv(in_channels, channels, 1),
            nn.Flatten(),
            nn.Linear(channels * rows * columns, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b k"]:
        require_image(x, self.in_channels, "AuxiliaryClassifier")
        return self.layers(x)


@implements("inception")
class MiniGoogLeNet(nn.Module):
    """GoogLeNet in small: a stem, three inception modules, an average, and one auxiliary classifier.

    In training it returns the scores and the auxiliary scores, for :func:`googlenet_loss`; in evaluation the
    auxiliary classifier is not run.

    Args:
        in_channels: c.
        size: rows and columns of the input, 5 or more each.
        num_classes: k.
        width: a multiple of 8; each module puts out twice as many channels.
        dropout: before the scores.

    Shape: ``(b, c, i, j)`` to ``(b, k)``, in training to two of them.

    Raises:
        ValueError: for other channels or a width that is no multiple of 8.

    Paper: Going Deeper with Convolutions - https://arxiv.org/abs/1409.4842

    Differs from the paper: three modules of equal width instead of nine, one auxiliary classifier instead of
    two, a stem of one 3 x 3 convolution, no local response normalisation.

    >>> MiniGoogLeNet(1, (8, 8), 10).eval()(torch.randn(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        size: tuple[int, int],
        num_classes: int,
        *,
        width: int = 16,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise ValueError(f"width must be a multiple of 8, got {width}")
        self.in_channels = in_channels

        def module(channels: int) -> InceptionModule:
            return InceptionModule(
                channels,
                one=width // 2,
                reduce_three=3 * width // 4,
                three=width,
                reduce_five=width // 8,
                five=width // 4,
                pool=width // 4,
            )

        self.lower = nn.Sequential(_conv(in_channels, width, 3), module(width))
        self.auxiliary = AuxiliaryClassifier(2 * width, size, num_classes, channels=width, hidden=4 * width)
        self.upper = nn.Sequential(
            nn.MaxPool2d(3, stride=2, padding=1),
            module(2 * width),
            module(2 * width),
            nn.AdaptiveAvgPool2d(1),
        )
        self.out = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width, num_classes))

    def forward(
        self, x: Float[Tensor, "b c i j"]
    ) -> Float[Tensor, "b k"] | tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        require_image(x, self.in_channels, "MiniGoogLeNet")
        inner = self.lower(x)
        scores = self.out(self.upper(inner))
        return (scores, self.auxiliary(inner)) if self.training else scores


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
