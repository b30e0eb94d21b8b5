"""Start and learning rate of a factor, from its fans alone."""

from collections.abc import Iterator

from torch import nn

from course_lib.layers._shapes import require_positive
from course_lib.registry import implements


@implements("block-tensor-train")
def structured_init_std(fan_in: int, fan_out: int) -> float:
    r"""Deviation of a normal start for one dense block inside a product of factors.

    .. math:: \frac{1}{\sqrt n} \min\Bigl(1, \sqrt{m / n}\Bigr)

    With n inputs and m outputs the spectral norm is then of the order :math:`\sqrt{m / n}` at every width:
    an input whose entries are of size one gives an output whose entries are of size one at most.

    Args:
        fan_in: inputs n of the block.
        fan_out: outputs m of the block.

    Raises:
        ValueError: for a fan below 1.

    Paper: Compute Better Spent: Replacing Dense Layers with Structured Matrices -
    https://arxiv.org/abs/2406.06248

    >>> structured_init_std(16, 64), structured_init_std(16, 4)
    (0.25, 0.125)
    """
    require_positive("structured_init_std", fan_in=fan_in, fan_out=fan_out)
    return fan_in**-0.5 * min(1.0, (fan_out / fan_in) ** 0.5)


@implements("block-tensor-train")
def structured_lr_multiplier(fan_in: int, base_fan_in: int, num_factors: int = 1) -> float:
    r"""How much to multiply Adam's learning rate with, for a block with this fan-in.

    .. math:: \frac{n_{\text{base}}}{n\, F}

    Adam moves every entry by about the learning rate, whatever the size of the gradient; the moves of n
    entries add up coherently in the output. Dividing by n keeps the output's move the same at every width. In
    a product of F factors each factor adds a move of its own, so each gets the F-th part.

    Args:
        fan_in: inputs n of the block.
        base_fan_in: fan-in at which the learning rate was found.
        num_factors: how many factors F the product has; 1 for a dense layer.

    Raises:
        ValueError: for a fan or a number below 1.

    Paper: Compute Better Spent: Replacing Dense Layers with Structured Matrices -
    https://arxiv.org/abs/2406.06248 (the division by F is in the authors' code, where it is called a
    heuristic)

    >>> structured_lr_multiplier(16, 64), structured_lr_multiplier(8, 64, num_factors=2)
    (4.0, 4.0)
    """
    require_positive(
        "structured_lr_multiplier", fan_in=fan_in, base_fan_in=base_fan_in, num_factors=num_factors
    )
    return base_fan_in / (fan_in * num_factors)


@implements("block-tensor-train")
def structured_param_groups(model: nn.Module, lr: float, base_fan_in: int) -> list[dict]:
    """Parameter groups for Adam: every factor with the learning rate of its own fan-in.

    A module tells its factors by ``factor_fans()``; ``nn.Linear`` is one factor. All else (biases, norms,
    embeddings) keeps ``lr``.

    Args:
        model: any module; structured layers are found inside.
        lr: learning rate of a block with ``base_fan_in`` inputs.
        base_fan_in: see :func:`structured_lr_multiplier`.

    Paper: Compute Better Spent: Replacing Dense Layers with Structured Matrices -
    https://arxiv.org/abs/2406.06248

    >>> groups = structured_param_groups(nn.Linear(16, 4), lr=0.1, base_fan_in=64)
    >>> [(group["lr"], len(group["params"])) for group in groups]
    [(0.1, 1), (0.4, 1)]
    """
    multiplier = {
        id(parameter): structured_lr_multiplier(fan_in, base_fan_in, factors)
        for parameter, fan_in, factors in _factors(model)
    }
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        groups.setdefault(lr * multiplier.get(id(parameter), 1), []).append(parameter)
    return [{"params": groups[rate], "lr": rate} for rate in sorted(groups)]


def _factors(model: nn.Module) -> Iterator[tuple[nn.Parameter, int, int]]:
    """Every factor, its fan-in, and how many factors its product has."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            yield module.weight, module.in_features, 1
        elif hasattr(module, "factor_fans"):
            fans = module.factor_fans()
            for name, (fan_in, _) in fans.items():
                yield getattr(module, name), fan_in, len(fans)
