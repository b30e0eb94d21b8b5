"""MNIST-1D: ten short strokes on a line, hidden by shifting, stretching and noise; made on the spot.

Linear models do poorly on it, perceptrons better, convolutional networks best, at a cost of seconds.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from course_lib.data.dataset import Dataset, Meta, Split, dataset

__all__ = ["MNIST1D_TEMPLATES", "make_mnist1d"]
__numerics__ = 1

# The pen's place between left (-1) and right (1) while it draws each digit from top to bottom.
MNIST1D_TEMPLATES = torch.tensor(
    [
        [0.0, 0.5, 0.8, 0.9, 1.0, 1.0, 1.0, 1.0, 0.9, 0.8, 0.5, 0.0],  # 0: the right half of a ring
        [-0.4, -0.9, -0.6, -0.4, -0.2, 0.0, 0.0, 0.2, 0.2, 0.2, 0.2, 0.2],  # 1: a hook, then a slanting line
        [-0.5, 0.3, 0.8, 0.9, 0.7, 0.3, -0.1, -0.5, -0.8, -1.0, -0.2, 0.8],  # 2: a bow, a slope, a foot
        [-0.3, 0.5, 0.9, 0.6, 0.0, -0.2, 0.1, 0.7, 1.0, 0.9, 0.4, -0.4],  # 3: two bows
        [0.6, 0.2, -0.1, -0.4, -0.7, -1.0, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3],  # 4: a slope, a bar, a stem
        [0.9, -0.7, -0.7, -0.7, -0.7, 0.0, 0.6, 0.9, 0.9, 0.7, 0.2, -0.6],  # 5: a bar, a stem, a bow
        [0.6, 0.1, -0.3, -0.6, -0.8, -0.9, -1.0, -1.0, -0.9, -0.6, -0.2, 0.4],  # 6: a long left bow
        [-0.9, 0.0, 0.9, 0.8, 0.6, 0.5, 0.3, 0.2, 0.0, -0.1, -0.3, -0.4],  # 7: a bar, a slope
        [0.0, -0.6, -0.8, -0.6, 0.0, 0.5, 0.0, -0.7, -1.0, -0.9, -0.6, 0.0],  # 8: two left bows and a knot
        [0.2, -0.5, -0.9, -0.9, -0.5, 0.3, 0.5, 0.5, 0.4, 0.3, 0.2, 0.0],  # 9: a ring, a tail
    ]
)


def make_mnist1d(
    n: int,
    *,
    seed: int = 0,
    length: int = 40,
    padding: tuple[int, int] = (36, 60),
    scale: float = 0.4,
    shear: float = 0.75,
    noise: float = 0.25,
    white_noise: float = 0.02,
) -> tuple[Float[Tensor, "n 1 t"], Int64[Tensor, "n"]]:
    r"""Draw ``n`` signals of ``length`` samples and their digits.

    A template of twelve points is followed by a random number of empty points, multiplied by a random factor,
    tilted by a random slope and rolled round by a random shift; correlated noise (white noise smoothed by a
    Gaussian of width 2) fills the empty part, white noise is added to everything, and the result is resampled
    to ``length`` points.

    Inferred: the order of the steps and the sizes of scale, shear, noise and padding follow the paper as we
    remember it. Differs from the paper: the ten strokes are our own drawings and reach from -1 to 1, so
    accuracies compare in order (linear, perceptron, convolution), not in value.

    Args:
        n: number of signals; the digits take turns.
        seed: of all random numbers.
        length: samples of a signal.
        padding: fewest and most empty points before resampling.
        scale: the factor is uniform in 1 +- scale / 2.
        shear: the slope is uniform in +- shear / 2 over the template.
        noise: deviation of the noise before smoothing.
        white_noise: deviation of the noise added at the end.

    Paper: Scaling Down Deep Learning with MNIST-1D - https://arxiv.org/abs/2011.14439

    >>> x, y = make_mnist1d(20)
    >>> x.shape, y[:12].tolist()
    (torch.Size([20, 1, 40]), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
    """
    points = MNIST1D_TEMPLATES.shape[1]
    low, high = padding
    if n < 1 or length < 2 or not 0 <= low <= high:
        raise ValueError(
            f"need n >= 1, length >= 2 and 0 <= padding[0] <= padding[1], got {n}, {length}, {padding}"
        )
    g = torch.Generator().manual_seed(seed)
    uniform = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    y = torch.arange(n) % 10
    stroke = MNIST1D_TEMPLATES[y] * (1 + scale * (uniform(n, 1) - 0.5))
    stroke = stroke + shear * (uniform(n, 1) - 0.5) * torch.linspace(-1, 1, points)
    # Each signal has its own width: the template and its empty points, rolled round within that width.
    width = points + torch.randint(low, high + 1, (n, 1), generator=g)
    place = torch.arange(points + high)
    shift = (uniform(n, 1) * width).long()
    source = (place - shift) % width  # (n, widest): which point of the unrolled signal comes to this place
    drawn = source < points
    background = noise * _smooth(torch.randn(n, points + high, generator=g), width=2.0)
    signal = torch.where(drawn, stroke.gather(1, source.clamp(max=points - 1)), background)
    signal = _resample(signal, width, length)
    signal = signal + white_noise * torch.randn(n, length, generator=g)
    return signal[:, None], y


@dataset(
    "mnist1d",
    task="classification",
    x="(n, 1, 40) float32: a short stroke somewhere on a noisy line; no unit, about -1.5 to 1.5",
    y="(n,) int64: the digit, 0 to 9",
    licence="MIT (made by this package)",
    source="our own generator, after 'Scaling Down Deep Learning with MNIST-1D' by Greydanus and Kobak",
)
def _mnist1d(meta: Meta, n: int = 4000, seed: int = 0) -> Dataset:
    sizes = (n, 1000, 1000)
    parts = [Split(*make_mnist1d(size, seed=3 * seed + i)) for i, size in enumerate(sizes)]
    return Dataset(*parts, replace(meta, classes=tuple("0123456789")))


def _smooth(x: Float[Tensor, "n t"], width: float) -> Float[Tensor, "n t"]:
    reach = int(4 * width)
    window = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)
    return F.conv1d(F.pad(x[:, None], (reach, reach), mode="reflect"), (window / window.sum())[None, None])[
        :, 0
    ]


def _resample(x: Float[Tensor, "n t"], width: Int64[Tensor, "n 1"], length: int) -> Float[Tensor, "n s"]:
    """Linear interpolation of the first ``width`` points of each row at ``length`` places."""
    place = torch.linspace(0, 1, length) * (width - 1)
    left = place.long().clamp(max=x.shape[1] - 2)
    share = place - left
    return (1 - share) * x.gather(1, left) + share * x.gather(1, left + 1)
