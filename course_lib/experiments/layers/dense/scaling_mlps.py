"""Dense networks and a convolution on signals, by rows and augmentation."""

from functools import partial

import torch
from torch import Tensor, nn

from course_lib.data.mnist1d import make_mnist1d
from course_lib.layers.dense import InvertedBottleneckMLP
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit

SIZES = (500, 2000, 8000)
RACE_STEPS, RACE_BATCH = 500, 64


def race_mlp(depth: int = 2, dim: int = 20) -> nn.Module:
    """7750 parameters as it stands, 69 834 at width 64."""
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


def plain_mlp() -> nn.Module:
    """Eight dense layers of width 40 between embedding and output, no norm, no skip: 15170 parameters."""
    layers = [nn.Sequential(nn.Linear(40, 40), nn.GELU()) for _ in range(8)]
    return nn.Sequential(nn.Flatten(), nn.Linear(40, 40), *layers, nn.Linear(40, 10))


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


RACERS = {"mlp": race_mlp, "wide": partial(race_mlp, dim=64), "cnn": race_cnn}


@experiment(paper="scaling-mlps", seeds=3)
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


@experiment(paper="scaling-mlps", seeds=3)
def eight_layers(seed: int) -> dict[str, float]:
    """Eight dense layers as four inverted bottlenecks and as a plain stack on mnist1d, 500 steps.

    Returns:
        ``blocks_{rows}``, ``plain_{rows}``: test accuracy (a share).
    """
    test, result = make_mnist1d(2000, seed=10_000 + seed), {}
    for size in SIZES:
        data = make_mnist1d(size, seed=seed)
        for name, make in (("blocks", partial(race_mlp, 4)), ("plain", plain_mlp)):
            torch.manual_seed(seed)
            model = make()
            fit(model, data, steps=RACE_STEPS, batch_size=RACE_BATCH, lr=5e-3, seed=seed)
            result[f"{name}_{size}"] = evaluate(model, test)
    return result
