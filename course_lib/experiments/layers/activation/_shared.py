"""What several experiments of layers/activation use."""

from collections.abc import Callable
from itertools import pairwise

from torch import nn


def plain_mlp(sizes: list[int], activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Linear layers with the same function between them, no norm; biases start at zero."""
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (a, b) in enumerate(pairwise(sizes)):
        layers += [activation()] if i else []
        layers.append(nn.Linear(a, b))
        nn.init.zeros_(layers[-1].bias)
    return nn.Sequential(*layers)
