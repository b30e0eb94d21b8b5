"""How a parameter starts: the mean and spread that a layer promises, at a width that shows them."""

import math

import torch
from torch import Tensor, nn


def starts(layer: nn.Module, name: str, *, mean: float = 0.0, std: float = 0.0) -> bool:
    """Whether a parameter, as built and reset from rubbish, has this mean and spread, within six errors."""
    return _is_spread(_parameter(layer, name), mean, std) and _is_spread(_reset(layer, name), mean, std)


def starts_uniform(layer: nn.Module, name: str, bound: float) -> bool:
    """Whether a parameter, as built and as reset, is uniform between plus and minus the bound."""
    for x in (_parameter(layer, name), _reset(layer, name)):
        if not _is_spread(x, 0.0, bound / math.sqrt(3)) or not 0.8 * bound < x.abs().max() <= bound:
            return False
    return True


def _parameter(layer: nn.Module, name: str) -> Tensor:
    return layer.get_parameter(name).detach().clone()


def _reset(layer: nn.Module, name: str) -> Tensor:
    with torch.no_grad():
        layer.get_parameter(name).fill_(torch.nan)
    layer.apply(lambda module: module.reset_parameters() if hasattr(module, "reset_parameters") else None)
    return _parameter(layer, name)


def _is_spread(x: Tensor, mean: float, std: float) -> bool:
    if not std:
        return torch.equal(x, torch.full_like(x, mean))
    error = 6 * std / math.sqrt(x.numel())
    return abs(x.mean().item() - mean) <= error and abs(x.std().item() - std) <= error
