"""What several experiments of this chapter share."""

from torch import nn

from course_lib.layers.structured import (
    LowRankLinear,
)


def default_start_(layer: LowRankLinear) -> LowRankLinear:
    """Each factor as torch starts a linear layer: uniform, by its own fan-in."""
    nn.init.uniform_(layer.u, -(layer.rank**-0.5), layer.rank**-0.5)
    nn.init.uniform_(layer.v, -(layer.in_features**-0.5), layer.in_features**-0.5)
    return layer
