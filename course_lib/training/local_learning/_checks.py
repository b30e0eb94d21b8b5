"""What every training step of this chapter asks of its data, before anything is changed."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.layers._shapes import layer_name, require_real


def require_finite(x: Tensor, layer: nn.Module | str, *, name: str = "x") -> None:
    """Raise if there is no row, or an entry that is no finite number: it would spread over all weights.

    >>> require_finite(torch.tensor([[0.0], [float("nan")]]), "RBM(1, 2)")
    Traceback (most recent call last):
    ValueError: RBM(1, 2) expects finite numbers, but 1 of 2 rows of x have others; leave those rows out
    """
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{layer_name(layer)} expects at least one row of {name}, got {tuple(x.shape)}")
    if not x.isfinite().all():
        bad = int((~x.isfinite()).reshape(len(x), -1).any(1).sum())
        raise ValueError(
            f"{layer_name(layer)} expects finite numbers, but {bad} of {len(x)} rows of {name} have others; "
            "leave those rows out"
        )


def require_as(x: Any, layer: nn.Module, own: Tensor, *, name: str = "x") -> None:
    """Raise unless x is of the dtype and on the device of ``own``, which may be a buffer."""
    require_real(x, layer, name=name)
    if x.dtype != own.dtype or x.device != own.device:
        raise TypeError(
            f"{layer_name(layer)} expects {name} of {own.dtype} on {own.device}, got {x.dtype} on "
            f"{x.device}; convert it: {name}.to({str(own.device)!r}, {own.dtype})"
        )


def require_rows(x: Any, dim: int, layer: nn.Module, own: Tensor, *, name: str = "x") -> None:
    """Raise unless x is ``(b, dim)`` with b > 0, finite, of the dtype and on the device of ``own``."""
    require_as(x, layer, own, name=name)
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"{layer_name(layer)} expects {name} (b, {dim}), got shape {tuple(x.shape)}")
    require_finite(x, layer, name=name)


def require_labels(y: Any, num_classes: int, rows: int, layer: nn.Module) -> None:
    """Raise unless y holds the number of a class for each row.

    >>> require_labels(torch.tensor([0, 3]), 3, 2, nn.Linear(2, 3))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: Linear(...): labels must lie in 0..2, got [0, 3]
    """
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        raise TypeError(f"{layer_name(layer)}: labels must be a tensor of torch.int64, got {y!r}")
    if y.shape != (rows,):
        raise ValueError(f"{layer_name(layer)}: expected {rows} labels, got shape {tuple(y.shape)}")
    if rows and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(
            f"{layer_name(layer)}: labels must lie in 0..{num_classes - 1}, got {y.unique().tolist()}"
        )


def following(
    optimizer: torch.optim.Optimizer | None,
    parameters: Iterable[nn.Parameter],
    make: Callable[..., torch.optim.Optimizer],
) -> torch.optim.Optimizer:
    """The optimiser, or a fresh one where the parameters are others now.

    ``to_empty`` and ``load_state_dict(assign=True)`` put new parameters into a module; an optimiser that was
    made before would go on moving the old ones.
    """
    parameters = list(parameters)
    held = [p for group in optimizer.param_groups for p in group["params"]] if optimizer else []
    if len(held) == len(parameters) and all(a is b for a, b in zip(held, parameters, strict=True)):
        return optimizer
    return make(parameters)
