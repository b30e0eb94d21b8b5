"""What every layer of this chapter checks and draws in the same way."""

from torch import Tensor, nn

from course_lib.layers._shapes import require_width

__all__ = ["head_width", "require_tokens", "reset_projections"]


def require_tokens(x: Tensor, dim: int, layer: nn.Module) -> None:
    """Raise ``ValueError`` unless x is ``(b, t, dim)``."""
    name = f"{type(layer).__name__}({layer.extra_repr()})"
    require_width(x, dim, name)
    if x.ndim != 3:
        raise ValueError(
            f"{name} expects (b, t, {dim}), got {tuple(x.shape)}; add or flatten the leading axes"
        )


def head_width(dim: int, num_heads: int, head_dim: int | None) -> int:
    """``head_dim``, or ``dim`` shared out evenly among the heads."""
    if min(dim, num_heads, 1 if head_dim is None else head_dim) < 1:
        raise ValueError(f"sizes must be positive, got dim={dim}, num_heads={num_heads}, head_dim={head_dim}")
    if head_dim is None and dim % num_heads:
        raise ValueError(f"{num_heads} heads do not divide dim={dim}; choose another number or give head_dim")
    return dim // num_heads if head_dim is None else head_dim


def reset_projections(*projections: nn.Linear) -> None:
    """Xavier-uniform weights, biases zero."""
    for projection in projections:
        nn.init.xavier_uniform_(projection.weight)
        if projection.bias is not None:
            nn.init.zeros_(projection.bias)
