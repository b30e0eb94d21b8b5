"""Four functions, four families of basis functions, and a network that picks among them."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers.activation import KANLinear, SelectableKANLinear, prune_kan, selection_stage
from course_lib.measure import Sample, at_least, at_most, each, experiment, paper_claim, question
from course_lib.training.loop import fit

TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "polynomial": lambda x: 16 * x**5 - 20 * x**3 + 5 * x,
    "kink": torch.abs,
    "bump": lambda x: torch.exp(-200 * (x - 0.3).square()),
    "waves": lambda x: torch.sin(12 * torch.pi * x),
}
FAMILIES = ("bspline", "chebyshev", "rbf", "wavelet")


def kan(layer: Callable[..., nn.Module]) -> nn.Sequential:
    """One input in [-1, 1], five nodes, one output; twelve functions on every edge."""
    return nn.Sequential(layer(1, 5, num_basis=12, squash=False), layer(5, 1, num_basis=12))


# Root mean square error of the best straight line.
LINE = {"polynomial": 0.70, "kink": 0.29, "bump": 0.20, "waves": 0.70}
PLACE = "four functions of one variable, five nodes, 400 steps"


def log_ratio(measured: Mapping[str, Sample], target: str, arm: str, other: str = "") -> Sample:
    """Logarithm of the error of an arm over that of another, or of the best family."""
    others = [other] if other else FAMILIES
    best = each(lambda *errors: min(errors), *(measured[f"{target}_{name}"] for name in others))
    return each(lambda a, b: math.log(a / b), measured[f"{target}_{arm}"], best)


def worst(measured: Mapping[str, Sample], arm: str) -> Sample:
    """The largest over the functions of an arm's logarithm against the best family."""
    return each(max, *(log_ratio(measured, target, arm) for target in TARGETS))


def picked_best(measured: Mapping[str, Sample], target: str) -> Sample:
    """The share of nodes that picked the family whose error is smallest, seed by seed."""

    def share(*values: float) -> float:
        errors, shares = values[: len(FAMILIES)], values[len(FAMILIES) :]
        return shares[errors.index(min(errors))]

    keys = [f"{target}_{what}{family}" for what in ("", "picked_") for family in FAMILIES]
    return each(share, *(measured[key] for key in keys))


@experiment(
    paper="s-kan",
    seeds=5,
    trained={
        f"{target}_{arm}": at_most(error) for target, error in LINE.items() for arm in (*FAMILIES, "selected")
    },
    claims=[
        paper_claim(
            "S-KAN outperforms the KAN of splines in function fitting: logarithm of the ratio of their "
            "errors, mean over the functions",
            of=PLACE,
            where="abstract",
            headline=True,
            scale="four functions of one variable and 400 steps, with the selection inferred; the paper: "
            "seven tasks",
            value=lambda m: sum(log_ratio(m, target, "selected", "bspline") for target in TARGETS) / 4,
            expect=at_most(0.0),
            verdict="not reproduced",
        ),
        paper_claim(
            "a single family does worse on some task: logarithm of its error over that of the best family on "
            "its worst function, for the safest family",
            of=PLACE,
            where="abstract",
            value=lambda m: each(min, *(worst(m, family) for family in FAMILIES)),
            expect=at_least(math.log(1.5)),
            verdict="inconclusive",
        ),
        question(
            "selected, a network comes within 1.5 times the error of the best family on each function: "
            "logarithm of the worst ratio",
            of=PLACE,
            value=lambda m: worst(m, "selected"),
            expect=at_most(math.log(1.5)),
            verdict="not as expected",
        ),
        question(
            "on the polynomial most nodes pick the family that is best there alone: share",
            of=PLACE,
            value=lambda m: picked_best(m, "polynomial"),
            expect=at_least(0.5),
            verdict="not as expected",
        ),
    ],
)
def function_fitting(seed: int) -> dict[str, float]:
    """Each family, and a mixture that selects, on four functions; 400 full-batch steps of Adam for each.

    Returns:
        ``{target}_{family}`` and ``{target}_selected``: root mean square error between the training points.
        ``{target}_picked_{family}``: share of the six nodes that keep this family.
    """
    x, between = torch.linspace(-1, 1, 257)[:, None], torch.linspace(-0.996, 0.996, 200)[:, None]
    result = {}
    for target, f in TARGETS.items():
        run = partial(fit, data=lambda _, f=f: (x, f(x)), lr=1e-2, loss=F.mse_loss, seed=seed)

        def error(model: nn.Module, f: Callable[[Tensor], Tensor] = f) -> float:
            with torch.no_grad():
                return F.mse_loss(model(between), f(between)).sqrt().item()

        for family in FAMILIES:
            torch.manual_seed(seed)
            model = kan(partial(KANLinear, family=family))
            run(model, steps=400)
            result[f"{target}_{family}"] = error(model)
        torch.manual_seed(seed)
        model = kan(SelectableKANLinear)
        run(selection_stage(model, "full"), steps=200)
        run(selection_stage(model, "selective"), steps=100)
        model = prune_kan(model)
        picked = [name for layer in model for name, columns in layer.columns.items() for _ in columns]
        run(model, steps=100)
        result[f"{target}_selected"] = error(model)
        for family in FAMILIES:
            result[f"{target}_picked_{family}"] = picked.count(family) / len(picked)
    return result
