"""The one check that every layer of fixed width makes, with a message that names the fix."""

from torch import Tensor

__numerics__ = 1


def require_width(x: Tensor, dim: int, layer: str, *, axis: int = -1) -> None:
    """Raise ``ValueError`` unless ``x`` has ``dim`` entries along ``axis``.

    >>> import torch
    >>> require_width(torch.zeros(2, 5), 4, "LayerNorm(4)")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: LayerNorm(4) expects 4 entries along axis -1, got shape (2, 5); build the layer for ...
    """
    if x.ndim == 0 or x.ndim <= (axis if axis >= 0 else -axis - 1) or x.shape[axis] != dim:
        seen = x.shape[axis] if x.ndim > (axis if axis >= 0 else -axis - 1) else "none"
        raise ValueError(
            f"{layer} expects {dim} entries along axis {axis}, got shape {tuple(x.shape)}; "
            f"build the layer for width {seen} or reshape the input"
        )
