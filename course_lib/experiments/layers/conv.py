"""The trained claims of layers/conv. Each function trains for one seed and returns a few numbers."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.compare.frames import Variant, compare, image_frame
from course_lib.data import load
from course_lib.layers.conv import (
    InceptionDWConv2d,
    InceptionModule,
    InceptionNeXtBlock,
    LSConv,
    MalConv,
    MlpConv2d,
    NetworkInNetwork,
    SICLayer,
    SpartanBlock,
    SpatialBottleneck,
    TopologicalPointwise,
    locate_activation,
)
from course_lib.measure import experiment
from course_lib.training.loop import cosine_schedule, evaluate, fit

__all__ = ["context", "economies", "heads", "heads_faster", "needle", "needle_longer", "side_by_side"]


# -- Network in network ----------------------------------------------------------------------------


class DenseHead(NetworkInNetwork):
    """The same trunk with what stood there before: flatten, a hidden layer of 64, the scores."""

    def __init__(self, in_channels: int, num_classes: int, *, width: int = 16) -> None:
        super().__init__(in_channels, width, width=width, dropout=0.0)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(4 * width, 64), nn.ReLU(), nn.Linear(64, num_classes)
        )


HEADS: dict[str, Callable[[], nn.Module]] = {
    "gap": lambda: NetworkInNetwork(1, 10, dropout=0.0, activate_last=False),
    "dense": lambda: DenseHead(1, 10),
}


def shifted(images: Tensor) -> list[Tensor]:
    """The images moved by one pixel in each of four directions; zeros come in."""
    padded = F.pad(images, (1, 1, 1, 1))
    return [padded[..., i : i + 8, j : j + 8] for i, j in ((0, 1), (2, 1), (1, 0), (1, 2))]


@experiment(paper="network-in-network", seeds=5)
def heads(seed: int) -> dict[str, float]:
    """300 training digits, one trunk, two heads: accuracy seen, unseen, and unseen but moved by a pixel."""
    digits, result = load("digits"), {}
    train = digits.train[:300]
    for name, build in HEADS.items():
        torch.manual_seed(seed)
        model = build()
        fit(model, train, steps=300, batch_size=50, lr=3e-3, seed=seed)
        test = evaluate(model, digits.test)
        moved = [evaluate(model, (x, digits.test.y)) for x in shifted(digits.test.x)]
        result[f"{name}_test"], result[f"{name}_gap"] = test, evaluate(model, train) - test
        result[f"{name}_drop"] = test - sum(moved) / 4
    for key in ("gap", "drop"):
        result[f"{key}_saved"] = result[f"dense_{key}"] - result[f"gap_{key}"]
    return result


@experiment(paper="network-in-network", seeds=5)
def heads_faster(seed: int) -> dict[str, float]:
    """What both heads lose to a shift by a pixel when the learning rate is three times as high."""
    digits, drops = load("digits"), {}
    for name, build in HEADS.items():
        torch.manual_seed(seed)
        model = build()
        fit(model, digits.train[:300], steps=300, batch_size=50, lr=1e-2, seed=seed)
        moved = [evaluate(model, (x, digits.test.y)) for x in shifted(digits.test.x)]
        drops[f"{name}_drop"] = evaluate(model, digits.test) - sum(moved) / 4
    return drops | {"drop_saved": drops["dense_drop"] - drops["gap_drop"]}


# -- The economies -----------------------------------------------------------------------------------

WIDTH = 16


def plain_layer(width: int) -> nn.Module:
    """A dense 3 x 3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def inception_layer(width: int) -> nn.Module:
    """An inception module, normalised, that costs what a dense 3 x 3 convolution of 16 channels costs."""
    module = InceptionModule(
        width, one=width // 4, reduce_three=9, three=12, reduce_five=3, five=8, pool=width // 4
    )
    return nn.Sequential(
        module, nn.BatchNorm2d(module.out_channels), nn.Conv2d(module.out_channels, width, 1)
    )


def depthwise_block(width: int) -> nn.Module:
    """The block of ConvNeXt in small: depthwise 7 x 7, then a channel network of expansion 4."""
    return InceptionNeXtBlock(width, mixer=nn.Conv2d(width, width, 7, padding=3, groups=width), scale=1.0)


# name to (builder of a layer, its width, how many of them)
BODIES: dict[str, tuple[Callable[[int], nn.Module], int, int]] = {
    "plain": (plain_layer, WIDTH, 3),
    "inception": (inception_layer, WIDTH, 3),
    "sic": (SICLayer, WIDTH, 3),
    "depthwise7": (depthwise_block, WIDTH, 2),
    "inceptionnext": (partial(InceptionNeXtBlock, scale=1.0), WIDTH, 2),
    "lsconv": (lambda width: InceptionNeXtBlock(width, mixer=LSConv(width), scale=1.0), WIDTH, 2),
    "depthwise7_wider": (depthwise_block, 18, 2),  # as many parameters as the next one, within 5 %
    "spartan": (partial(SpartanBlock, depthwise=True, scale=1.0), WIDTH, 2),
}


def digits_network(name: str) -> nn.Module:
    """A stem of one 3 x 3 convolution, some layers of one kind, the mean over space, ten outputs."""
    layer, width, depth = BODIES[name]
    stem = nn.Conv2d(1, width, 3, padding=1)
    body = [layer(width) for _ in range(depth)]
    return nn.Sequential(
        stem, *body, nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    )


@experiment(
    paper=("inception", "single-intra-channel-convolution", "inceptionnext", "lsnet", "spartan"), seeds=3
)
def economies(seed: int) -> dict[str, float]:
    """Test accuracy on digits of eight small networks that differ in their layers; 200 steps of 32."""
    digits, result = load("digits"), {}
    for name in BODIES:
        torch.manual_seed(seed)
        model = digits_network(name)
        schedule = cosine_schedule(warmup=20)
        fit(model, digits.train, steps=200, batch_size=32, lr=1e-2, schedule=schedule, seed=seed)
        result[name] = evaluate(model, digits.test)
    for name in ("inception", "sic"):
        result[f"{name}_lost"] = result["plain"] - result[name]
    for name in ("inceptionnext", "lsconv"):
        result[f"{name}_lost"] = result["depthwise7"] - result[name]
    result["spartan_lost"] = result["depthwise7_wider"] - result["spartan"]
    return result


# -- Far context for a near choice -------------------------------------------------------------------


def context_batch(generator: torch.Generator, *, size: int = 32, side: int = 12) -> tuple[Tensor, Tensor]:
    """Fields of two channels; the target is one neighbour in the first, which one says the second.

    Where the 7 x 7 mean of the second channel is positive, the target is the right neighbour, else the left.
    """
    fields = torch.randn(size, 2, side, side, generator=generator)
    values, switch = fields.split(1, 1)
    right, left = F.pad(values, (0, 1))[..., 1:], F.pad(values, (1, 0))[..., :-1]
    return fields, torch.where(F.avg_pool2d(switch, 7, 1, 3) > 0, right, left)


def depthwise_separable(width: int) -> list[nn.Module]:
    """A depthwise 7 x 7 and a 1 x 1 convolution."""
    return [nn.Conv2d(width, width, 7, padding=3, groups=width), nn.Conv2d(width, width, 1)]


CONTEXT: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Conv2d(2, 16, 1), *depthwise_separable(16), nn.Conv2d(16, 1, 1)),
    "relu": lambda: nn.Sequential(
        nn.Conv2d(2, 16, 1),
        *depthwise_separable(16),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *depthwise_separable(16),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 1, 1),
    ),
    "lsconv": lambda: nn.Sequential(nn.Conv2d(2, 32, 1), LSConv(32), nn.Conv2d(32, 1, 1)),
}


@experiment(paper="lsnet", seeds=3)
def context(seed: int) -> dict[str, float]:
    """Squared error, relative to the variance, when far context chooses between two near neighbours."""
    test_x, test_y = context_batch(torch.Generator().manual_seed(10_000 + seed), size=256)
    result = {}
    for name, build in CONTEXT.items():
        torch.manual_seed(seed)
        model = build()
        fit(model, context_batch, steps=200, lr=1e-2, loss=F.mse_loss, seed=seed)
        with torch.no_grad():
            error = (model.eval()(test_x) - test_y).square().mean()
        result[name] = (error / test_y.square().mean()).item()
    return result


# -- A needle in a file ------------------------------------------------------------------------------

WINDOW = 32
LENGTHS = (512, 2048, 8192)
SIGNATURES = (b"vqz_kx", b"jw.qhz")  # ordinary characters, so that no single byte gives them away
PLACES = (4, 20)  # both within one window


class MeanConv(MalConv):
    """The same network with the mean over all windows in place of the maximum."""

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x).mean(2))


class NormedMalConv(MalConv):
    """The same network with batch normalisation behind the gated convolution."""

    def __init__(self, num_classes: int, *, channels: int, **options: int) -> None:
        super().__init__(num_classes, channels=channels, **options)
        self.norm = nn.BatchNorm1d(channels)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(super().features(x))


def planted_files(
    text: Tensor, length: int, generator: torch.Generator, *, size: int = 16
) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces of source code; every second one carries both signatures in one random window.

    Returns the bytes, which files are infected, and in which window.
    """
    start = torch.randint(len(text) - length, (size, 1), generator=generator)
    files = text[start + torch.arange(length)]
    infected = torch.arange(size) % 2
    block = torch.randint(length // WINDOW, (size,), generator=generator)
    for signature, place in zip(SIGNATURES, PLACES, strict=True):
        where = (block * WINDOW + place)[:, None] + torch.arange(len(signature))
        planted = files.scatter(1, where, torch.tensor(list(signature)).expand(size, -1))
        files = torch.where(infected[:, None].bool(), planted, files)
    return files, infected, block


def source_bytes(split: str) -> Tensor:
    """Python's standard library as bytes; the rare character beyond one byte becomes a question mark."""
    source = load("source_code")
    characters = source.decode(getattr(source, split).tokens)
    return torch.tensor(list(characters.encode("latin-1", "replace")))


@experiment(paper="malconv", seeds=3)
def needle(seed: int) -> dict[str, float]:
    """Accuracy of three poolings on files of three lengths, and how often the planted window is found."""
    train, test = source_bytes("train"), source_bytes("test")
    options = {"channels": 32, "window": WINDOW, "hidden": 32}
    result = {}
    for length in LENGTHS:
        models = {"max": MalConv, "mean": MeanConv} | (
            {"normed": NormedMalConv} if length == LENGTHS[0] else {}
        )
        held_out = planted_files(test, length, torch.Generator().manual_seed(99 + seed), size=200)
        for name, build in models.items():
            torch.manual_seed(seed)
            model = build(2, **options)
            fit(
                model,
                lambda generator, n=length: planted_files(train, n, generator)[:2],
                steps=100,
                lr=3e-3,
                seed=seed,
            )
            result[f"{name}_{length}"] = evaluate(model, held_out[:2])
            if name == "max":
                files, _, block = (t[held_out[1] == 1] for t in held_out)
                with torch.no_grad():
                    found = model(files).argmax(1) == 1
                best = locate_activation(model, files, target=1).argmax(1)
                result[f"located_{length}"] = (best == block)[found].float().mean().item()
    return result


@experiment(paper="malconv", seeds=3)
def needle_longer(seed: int) -> dict[str, float]:
    """The mean on the longest files, with three times the steps and twice the batch."""
    train, length = source_bytes("train"), LENGTHS[-1]
    held_out = planted_files(source_bytes("test"), length, torch.Generator().manual_seed(99 + seed), size=200)
    torch.manual_seed(seed)
    model = MeanConv(2, channels=32, window=WINDOW, hidden=32)
    fit(
        model,
        lambda generator: planted_files(train, length, generator, size=32)[:2],
        steps=300,
        lr=3e-3,
        seed=seed,
    )
    return {"mean": evaluate(model, held_out[:2])}


# -- Side by side ------------------------------------------------------------------------------------

FRAME = image_frame(channels=16)


def _dense() -> nn.Module:
    return nn.Conv2d(16, 16, 3, padding=1)


def _inception() -> nn.Module:
    return InceptionModule(16, one=4, reduce_three=6, three=6, reduce_five=2, five=2, pool=4)


def _sparse_projection(channels: int) -> nn.Module:
    return TopologicalPointwise((4, channels // 4), (2, 2))


def _topological() -> nn.Module:
    return SICLayer(16, stages=1, projection=_sparse_projection)


SIDE_BY_SIDE = [
    Variant(
        "dense 3 x 3", _dense, "torch.nn.Conv2d", ("baseline", "local", "mixes channels", "mixes positions")
    ),
    Variant(
        "network in network",
        lambda: MlpConv2d(16, (16, 16, 16), 3),
        "MlpConv2d",
        ("local", "mixes channels", "mixes positions"),
    ),
    Variant("inception", _inception, "InceptionModule", ("local", "mixes channels", "mixes positions")),
    Variant(
        "intra-channel + projection",
        lambda: SICLayer(16, stages=1),
        "SICLayer",
        ("local", "structured", "few parameters", "mixes channels", "mixes positions"),
    ),
    Variant(
        "intra-channel + topological projection",
        _topological,
        "TopologicalPointwise",
        ("local", "structured", "sparse", "few parameters", "mixes channels", "mixes positions"),
    ),
    Variant(
        "spatial bottleneck",
        lambda: SpatialBottleneck(16),
        "SpatialBottleneck",
        ("local", "structured", "few parameters", "mixes channels", "mixes positions"),
    ),
    Variant(
        "inception depthwise",
        lambda: InceptionDWConv2d(16),
        "InceptionDWConv2d",
        ("structured", "sparse", "few parameters", "mixes positions"),
    ),
    Variant(
        "large-small convolution",
        lambda: LSConv(16),
        "LSConv",
        ("local", "input dependent", "mixes positions"),
    ),
    Variant(
        "SpaRTAN block",
        lambda: SpartanBlock(16, scale=1.0),
        "SpartanBlock",
        ("input dependent", "mixes channels", "mixes positions"),
    ),
]


@experiment(
    paper=(
        "network-in-network",
        "inception",
        "single-intra-channel-convolution",
        "inceptionnext",
        "lsnet",
        "spartan",
    ),
    seeds=3,
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
