"""Four functions, four families of basis functions, and a network that picks among them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers.activation import KANLinear, SelectableKANLinear, prune_kan, selection_stage
from course_lib.measure import experiment
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


@experiment(paper="s-kan", seeds=3)
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
