"""Dense networks and a convolution on signals, by rows and augmentation."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from course_lib.data.mnist1d import make_mnist1d
from course_lib.layers.dense import InvertedBottleneckMLP
from course_lib.measure import Sample, at_least, at_most, experiment, paper_claim, question
from course_lib.training.loop import evaluate, fit
from course_lib.training.validation import linear_accuracy

SIZES = (500, 2000, 8000)
RACE_STEPS, RACE_BATCH, MANY_STEPS = 500, 64, 3000


def race_mlp(depth: int = 2, dim: int = 20) -> nn.Module:
    """7710 parameters as it stands, 69 706 at width 64."""
    return InvertedBottleneckMLP(40, 10, dim=dim, depth=depth)


def race_cnn() -> nn.Module:
    """7402 parameters: three convolutions, an average over pairs of places, one dense layer."""
    return nn.Sequential(
        *(nn.Conv1d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv1d(16, 32, 5, stride=2, padding=2), nn.ReLU()),
        *(
            nn.Conv1d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AvgPool1d(2),
            nn.Flatten(),
            nn.Linear(160, 10),
        ),
    )


def standard_mlp(in_features: int, num_classes: int, *, dim: int, depth: int) -> nn.Module:
    """Norm, GELU and a dense layer, ``depth`` times, between embedding and output; no skip."""
    layers = [(nn.LayerNorm(dim), nn.GELU(), nn.Linear(dim, dim)) for _ in range(depth)]
    ends = nn.Linear(in_features, dim), nn.Linear(dim, num_classes)
    return nn.Sequential(nn.Flatten(), ends[0], *(part for layer in layers for part in layer), ends[1])


class _NoSkip(nn.Module):
    """A block without the way around it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, z: Tensor) -> Tensor:
        return self.block(z) - z


def changed_mlp(change: str) -> nn.Module:
    """Four blocks of width 20, as they are, without the skips, or without the norms."""
    mlp = race_mlp(4)
    if change == "no_skip":
        mlp.blocks = nn.Sequential(*map(_NoSkip, mlp.blocks))
    if change == "no_norm":
        for block in mlp.blocks:
            block.norm = nn.Identity()
    return mlp


def rolled(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of signals, each rolled round by a random number of places."""
    chosen = torch.randint(len(x), (RACE_BATCH,), generator=generator)
    places = (torch.arange(40) + torch.randint(40, (RACE_BATCH, 1), generator=generator)) % 40
    return x[chosen].gather(2, places[:, None]), y[chosen]


def energy_around_peak(weight: Tensor) -> Tensor:
    """Share of a unit's energy by distance from its strongest place (round the end), mean over units."""
    energy = weight.square() / weight.square().sum(1, keepdim=True)
    places = (energy.argmax(1)[:, None] + torch.arange(weight.shape[1])) % weight.shape[1]
    around = energy.gather(1, places).mean(0)
    half = len(around) // 2
    return torch.cat([around[:1], around[1:half] + around[half + 1 :].flip(0), around[half : half + 1]])


def near_peak(measurement: Mapping[str, Sample], key: object) -> Sample:
    """Share of energy within four inputs of the strongest, 9 of 40."""
    return sum(measurement[f"energy_{key}_{d:02d}"] for d in range(1, 5)) + measurement[f"energy_{key}_00"]


RACERS = {"mlp": race_mlp, "wide": partial(race_mlp, dim=64), "cnn": race_cnn}


# 0.283, 0.261 and 0.231 by least squares from 500, 2000 and 8000 rows (eight_layers stores two of them).
LINEAR = 0.3
LARGE = "from 7710 parameters, 500 rows and 500 steps to 69 706, 8000 and 3000"


@experiment(
    paper="scaling-mlps",
    seeds=10,
    trained={
        f"{name}_{n}{rolls}": at_least(LINEAR) for name in RACERS for n in SIZES for rolls in ("", "_rolled")
    },
    claims=[
        paper_claim(
            "a CNN of equal size is ahead of an MLP that is trained from scratch",
            of="7500 parameters, 8000 rows of mnist1d",
            where="Table 1",
            value=lambda m: m["cnn_8000"] - m["mlp_8000"],
            expect=at_least(0.05),
        ),
        question(
            "more rows alone halve the gap between CNN and MLP",
            of="7500 parameters, 500 steps, 500 to 8000 rows",
            value=lambda m: (m["cnn_8000"] - m["mlp_8000"]) / (m["cnn_500"] - m["mlp_500"]),
            expect=at_most(0.5),
            verdict="not as expected",
        ),
        question(
            "more rows alone halve the gap between CNN and MLP",
            of="an MLP with nine times the parameters of the CNN, 500 steps, 500 to 8000 rows",
            value=lambda m: (m["cnn_8000"] - m["wide_8000"]) / (m["cnn_500"] - m["wide_500"]),
            expect=at_most(0.5),
            verdict="open",
        ),
        question(
            "rolling the signals helps the MLP more than the CNN",
            of="nine times the parameters, 500 rows",
            value=lambda m: (m["wide_500_rolled"] - m["wide_500"]) - (m["cnn_500_rolled"] - m["cnn_500"]),
            expect=at_least(0.0),
        ),
        question(
            "rolling makes the first layer local: gain in the share of energy within four inputs of the "
            "strongest",
            of="500 steps",
            value=lambda m: sum(near_peak(m, f"{n}_rolled") - near_peak(m, n) for n in SIZES) / len(SIZES),
            expect=at_least(0.05),
            verdict="not as expected",
        ),
    ],
)
def race(seed: int) -> dict[str, float]:
    """An MLP, a wide one and a CNN on mnist1d, by training rows, rolled or not, 500 steps.

    Returns:
        ``{model}_{rows}`` and ``{model}_{rows}_rolled``: test accuracy (a share) of ``mlp``, ``wide``, and
        ``cnn``.
        ``energy_{rows}_{d}``, ``energy_{rows}_rolled_{d}``, ``energy_start_{d}``: share of a unit's energy at
        distance d from its strongest input, mean over the first layer of the wide MLP.
    """
    test, result = make_mnist1d(2000, seed=10_000 + seed), {}
    for size in SIZES:
        x, y = make_mnist1d(size, seed=seed)
        for rolls, data in (("", (x, y)), ("_rolled", partial(rolled, x, y))):
            for name, make in RACERS.items():
                torch.manual_seed(seed)
                model = make()
                fit(model, data, steps=RACE_STEPS, batch_size=RACE_BATCH, lr=5e-3, seed=seed)
                result[f"{name}_{size}{rolls}"] = evaluate(model, test)
                if name == "wide":
                    around = energy_around_peak(model.embed.weight.detach()).tolist()
                    result |= {f"energy_{size}{rolls}_{d:02d}": share for d, share in enumerate(around)}
    torch.manual_seed(seed)
    start = energy_around_peak(race_mlp(dim=64).embed.weight.detach()).tolist()
    return result | {f"energy_start_{d:02d}": share for d, share in enumerate(start)}


@experiment(
    paper="scaling-mlps",
    seeds=10,
    trained={
        name: lambda m: at_least(m["500_least_squares"].mean)
        for name in ("mlp_at_the_start", "cnn_at_the_start", "mlp", "wide", "cnn")
    },
    claims=[
        paper_claim(
            "lack of inductive bias can be compensated by scale: gap to a CNN at the large scale, relative "
            "to that at the small one",
            of=LARGE,
            where="abstract",
            headline=True,
            scale="70 000 parameters and 8000 rows of 40 values; the paper: up to 124 million parameters, "
            "trained on ImageNet-21k and then on CIFAR",
            value=lambda m: (m["cnn"] - m["wide"]) / (m["cnn_at_the_start"] - m["mlp_at_the_start"]),
            expect=at_most(0.5),
        ),
        paper_claim(
            "the performance of MLPs improves drastically with scale: gain in accuracy",
            of=LARGE,
            where="abstract",
            value=lambda m: m["wide"] - m["mlp_at_the_start"],
            expect=at_least(0.2),
        ),
        question(
            "parameters are what the small MLP lacks: accuracy of the large one minus that of the small one",
            of="8000 rows, 3000 steps",
            value=lambda m: m["wide"] - m["mlp"],
            expect=at_least(0.05),
        ),
    ],
)
def scaled(seed: int) -> dict[str, float]:
    """MLP and CNN at both ends of the scale on mnist1d.

    Returns:
        ``mlp_at_the_start``, ``cnn_at_the_start``: test accuracy (a share), 500 rows and 500 steps.
        ``mlp``, ``wide``, ``cnn``: of the three, 8000 rows and 3000 steps.
        ``500_least_squares``: of a linear map on 500 rows.
    """
    test, result = make_mnist1d(2000, seed=10_000 + seed), {}
    start, many = make_mnist1d(500, seed=seed), make_mnist1d(8000, seed=seed)
    for name, make in RACERS.items():
        for key, data, steps in (("_at_the_start", start, RACE_STEPS), ("", many, MANY_STEPS)):
            if key and name == "wide":
                continue
            torch.manual_seed(seed)
            model = make()
            fit(model, data, steps=steps, batch_size=RACE_BATCH, lr=5e-3, seed=seed)
            result[f"{name}{key}"] = evaluate(model, test)
    return result | {"500_least_squares": linear_accuracy(start, test)}


@experiment(
    paper="scaling-mlps",
    seeds=10,
    trained={
        f"{name}_{rows}": lambda m, rows=rows: at_least(m[f"{rows}_least_squares"].mean)
        for name in ("blocks", "no_skip", "standard")
        for rows in (500, 8000)
    },
    claims=[
        paper_claim(
            "inverted bottlenecks beat the standard MLP of the same depth, in accuracy",
            of=f"eight dense layers, about 15 000 parameters, {rows} rows of mnist1d",
            where="Table 1",
            value=lambda m, rows=rows: m[f"blocks_{rows}"] - m[f"standard_{rows}"],
            expect=at_least(0.0),
        )
        for rows in (500, 8000)
    ]
    + [
        question(
            f"the blocks lose accuracy without their {what}",
            of="eight dense layers, 8000 rows of mnist1d",
            value=lambda m, key=key: m["blocks_8000"] - m[f"{key}_8000"],
            expect=at_least(0.0),
        )
        for what, key in (("skips", "no_skip"), ("norms", "no_norm"))
    ],
)
def eight_layers(seed: int) -> dict[str, float]:
    """Eight dense layers on mnist1d: four inverted bottlenecks, changed in one thing, or the standard MLP.

    Returns:
        ``{arm}_{rows}``: test accuracy (a share) after 500 steps of ``blocks``, ``no_skip`` and ``no_norm``
        (the blocks without their skips or norms; all of 14 390 parameters, ``no_norm`` of 14 230), and
        ``standard`` (15 810).
        ``{rows}_least_squares``: of a linear map.
    """
    test, result = make_mnist1d(2000, seed=10_000 + seed), {}
    arms = {name: partial(changed_mlp, name) for name in ("blocks", "no_skip", "no_norm")}
    arms["standard"] = partial(standard_mlp, 40, 10, dim=40, depth=8)
    for size in (500, 8000):
        data = make_mnist1d(size, seed=seed)
        for name, make in arms.items():
            torch.manual_seed(seed)
            model = make()
            fit(model, data, steps=RACE_STEPS, batch_size=RACE_BATCH, lr=5e-3, seed=seed)
            result[f"{name}_{size}"] = evaluate(model, test)
        result[f"{size}_least_squares"] = linear_accuracy(data, test)
    return result
