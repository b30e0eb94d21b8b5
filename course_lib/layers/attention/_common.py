"""What every layer of this chapter checks and draws in the same way."""

from torch import nn

from course_lib.layers._shapes import require_divides, require_positive


def head_width(layer: str, dim: int, num_heads: int, head_dim: int | None, **heads: int) -> int:
    """``head_dim``, or ``dim`` shared out evenly among the heads.

    Args:
        layer: the name of the layer, for messages.
        dim: width to be shared out.
        num_heads: heads that share it.
        head_dim: their width, if given.
        heads: the argument of the layer that is to blame, where it is not called ``num_heads``.
    """
    require_positive(layer, dim=dim, **(heads or {"num_heads": num_heads}))
    if head_dim is None:
        require_divides(layer, dim=dim, num_heads=num_heads)
        return dim // num_heads
    require_positive(layer, head_dim=head_dim)
    return head_dim


def reset_projections(*projections: nn.Linear) -> None:
    """Xavier-uniform weights, biases zero."""
    for projection in projections:
        nn.init.xavier_uniform_(projection.weight)
        if projection.bias is not None:
            nn.init.zeros_(projection.bias)
