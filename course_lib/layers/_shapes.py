"""What layers ask of their arguments and inputs: one validator per meaning, one form of message.

A constructor passes the name of the layer that the user wrote (``type(self).__name__``), a forward passes the
layer itself, so that a message can show its sizes. Every validator raises ``ValueError`` for a value and
``TypeError`` for a type that does not fit, and names the layer, what was seen and what fits. A validator of
inputs lets symbolic tracing (``torch.fx``) pass: there is no tensor yet that could be wrong.
"""

import math
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

__numerics__ = 1

# -- Arguments of constructors -------------------------------------------------------------------------


def require_at_least(minimum: int, layer: str, **values: Any) -> None:
    """Raise unless every value is an integer, and ``minimum`` or more.

    >>> require_at_least(0, "Conv", padding=0)
    >>> require_at_least(0, "Conv", padding=-1)
    Traceback (most recent call last):
    ValueError: Conv: padding must be an integer of at least 0, got -1
    >>> require_at_least(1, "LayerNorm", dim=2.0)
    Traceback (most recent call last):
    TypeError: LayerNorm: dim must be an integer of at least 1, got 2.0 (float)
    """
    for name, value in values.items():
        fits = f"{layer}: {name} must be an integer of at least {minimum}, got {value!r}"
        if isinstance(value, (bool, Tensor)) or not hasattr(value, "__index__"):
            raise TypeError(f"{fits} ({type(value).__name__})")
        if operator.index(value) < minimum:
            raise ValueError(fits)


def require_positive(layer: str, **sizes: Any) -> None:
    """Raise unless every size is an integer of at least 1.

    >>> require_positive("LayerNorm", dim=-1)
    Traceback (most recent call last):
    ValueError: LayerNorm: dim must be an integer of at least 1, got -1
    """
    require_at_least(1, layer, **sizes)


def require_odd(layer: str, **sizes: Any) -> None:
    """Raise unless every size is an odd integer of at least 1, as a window with a centre is.

    >>> require_odd("PoolMixer", kernel_size=4)
    Traceback (most recent call last):
    ValueError: PoolMixer: kernel_size must be odd, so that it has a centre; got 4
    """
    require_positive(layer, **sizes)
    for name, value in sizes.items():
        if value % 2 == 0:
            raise ValueError(f"{layer}: {name} must be odd, so that it has a centre; got {value}")


def require_integer(layer: str, **values: Any) -> None:
    """Raise unless every value is an integer, of either sign.

    >>> require_integer("MixShift", shift=-2)
    >>> require_integer("MixShift", shift=1.5)
    Traceback (most recent call last):
    TypeError: MixShift: shift must be an integer, got 1.5 (float)
    """
    for name, value in values.items():
        if isinstance(value, (bool, Tensor)) or not hasattr(value, "__index__"):
            raise TypeError(f"{layer}: {name} must be an integer, got {value!r} ({type(value).__name__})")


def require_number(
    layer: str, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False, **values: Any
) -> None:
    """Raise unless every value is a finite number from ``low`` to ``high``, both included.

    Args:
        layer: the name of the layer.
        low: the smallest that fits.
        high: the largest that fits.
        open_low: leave ``low`` itself out.
        values: the arguments by name.

    >>> require_number("Swish", beta=float("nan"))
    Traceback (most recent call last):
    ValueError: Swish: beta must be a finite number, got nan
    >>> require_number("CELU", 0, open_low=True, alpha=0.0)
    Traceback (most recent call last):
    ValueError: CELU: alpha must be a finite number above 0, got 0.0
    """
    bounds = f" above {low}" if open_low else f" of at least {low}" if low > -math.inf else ""
    bounds += (" and" if bounds else "") + f" at most {high}" if high < math.inf else ""
    for name, value in values.items():
        fits = f"{layer}: {name} must be a finite number{bounds}, got {value!r}"
        if isinstance(value, (bool, str, Tensor)) or not hasattr(value, "__float__"):
            raise TypeError(f"{fits} ({type(value).__name__})")
        if not math.isfinite(value) or not low <= value <= high or (open_low and value == low):
            raise ValueError(fits)


def require_fraction(layer: str, **values: Any) -> None:
    """Raise unless every value is a number from 0 to 1, as a dropout rate is.

    >>> require_fraction("TransformerBlock", dropout=1.5)
    Traceback (most recent call last):
    ValueError: TransformerBlock: dropout must be a finite number of at least 0 and at most 1, got 1.5
    """
    require_number(layer, 0, 1, **values)


def require_eps(layer: str, eps: Any) -> None:
    """Raise unless ``eps`` is a finite number of at least 0: a negative one gives NaN under the root.

    >>> require_eps("LayerNorm", -1)
    Traceback (most recent call last):
    ValueError: LayerNorm: eps must be a finite number of at least 0, got -1
    """
    require_number(layer, 0, eps=eps)


def require_divides(layer: str, **pair: int) -> None:
    """Raise unless the second value divides the first; both positive integers, ``dim=64, num_heads=5``.

    >>> require_divides("MultiHeadAttention", dim=64, num_heads=5)
    Traceback (most recent call last):
    ValueError: MultiHeadAttention: num_heads=5 does not divide dim=64; 4 and 8 do
    """
    require_positive(layer, **pair)
    (whole_name, whole), (part_name, part) = pair.items()
    if whole % part:
        below = max(n for n in range(1, min(part, whole) + 1) if whole % n == 0)
        above = next((n for n in range(part, whole) if whole % n == 0), whole)
        near = f"{below} and {above} do" if below != above else f"{below} does"
        raise ValueError(f"{layer}: {part_name}={part} does not divide {whole_name}={whole}; {near}")


def require_one_of(layer: str, options: Any, **value: Any) -> None:
    """Raise unless the value is one of the options.

    >>> require_one_of("TransformerBlock", ("pre", "post"), norm="mid")
    Traceback (most recent call last):
    ValueError: TransformerBlock: norm must be one of 'pre', 'post', got 'mid'
    """
    ((name, seen),) = value.items()
    options = tuple(options)
    if not any(type(seen) is type(option) and seen == option for option in options):
        words = ", ".join(map(repr, options))
        raise ValueError(f"{layer}: {name} must be one of {words}, got {seen!r}")


def require_sequence(layer: str, length: int | None = None, **value: Any) -> None:
    """Raise unless the value is a tuple or a list, of ``length`` entries where that is given.

    >>> require_sequence("PoolFormer", 2, dims=(8,))
    Traceback (most recent call last):
    ValueError: PoolFormer: dims must have 2 entries, got (8,)
    """
    ((name, seen),) = value.items()
    if not isinstance(seen, (tuple, list)):
        raise TypeError(f"{layer}: {name} must be a tuple or a list, got {seen!r} ({type(seen).__name__})")
    if length is not None and len(seen) != length:
        raise ValueError(f"{layer}: {name} must have {length} entries, got {seen!r}")


def require_module(layer: str, **modules: Any) -> None:
    """Raise unless every value is a ``torch.nn.Module``.

    >>> require_module("GridMixer", mixer=nn.ReLU)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: GridMixer: mixer must be a torch.nn.Module, got <class '...ReLU'> (type)
    """
    for name, seen in modules.items():
        if not isinstance(seen, nn.Module):
            fits = f"{layer}: {name} must be a torch.nn.Module"
            raise TypeError(f"{fits}, got {seen!r} ({type(seen).__name__})")


def require_callable(layer: str, **factories: Any) -> None:
    """Raise unless every value can be called, as a class or a function that builds a module can.

    >>> require_callable("ResidualSublayer", norm_layer="LayerNorm")
    Traceback (most recent call last):
    TypeError: ResidualSublayer: norm_layer must be callable, got 'LayerNorm' (str)
    """
    for name, seen in factories.items():
        if not callable(seen):
            raise TypeError(f"{layer}: {name} must be callable, got {seen!r} ({type(seen).__name__})")


def require_pair(layer: str, **value: Any) -> tuple[int, int]:
    """Two positive integers (rows, columns); one integer stands for both.

    >>> require_pair("MixShift", kernel_size=3), require_pair("GridMixer", grid=(4, 6))
    ((3, 3), (4, 6))
    """
    ((name, seen),) = value.items()
    pair = tuple(seen) if isinstance(seen, (tuple, list)) else (seen, seen)
    if len(pair) != 2:
        raise ValueError(f"{layer}: {name} must be an integer or a pair (rows, columns), got {seen!r}")
    each = {name: pair[0]} if pair[0] is seen else {f"{name}[{i}]": n for i, n in enumerate(pair)}
    require_positive(layer, **each)
    return int(pair[0]), int(pair[1])


# -- Inputs of forward ---------------------------------------------------------------------------------


def layer_name(layer: nn.Module | str) -> str:
    """How a message names a layer: as it prints, ``LayerNorm(4)``; a name stays as it is.

    >>> layer_name(nn.ReLU()), layer_name("layer_norm")
    ('ReLU()', 'layer_norm')
    """
    return layer if isinstance(layer, str) else f"{type(layer).__name__}({layer.extra_repr()})"


def require_real(x: Any, layer: nn.Module | str, *, name: str = "x", mixed: bool = False) -> None:
    """Raise unless x is a tensor of real numbers, of the layer's own dtype and on its device.

    Args:
        x: the input.
        layer: the layer, or its name where there are no parameters to agree with.
        name: of the input, for the message.
        mixed: let half precision pass beside float32 parameters, as torch's norms do.

    >>> require_real(torch.ones(2, dtype=torch.int64), nn.Linear(2, 2))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: Linear(in_features=2, ...) expects x of torch.float32, got torch.int64; convert it: x.float()
    """
    if isinstance(x, Proxy):
        return
    if not isinstance(x, Tensor):
        raise TypeError(f"{layer_name(layer)} expects {name} to be a tensor, got {type(x).__name__}")
    own = None if isinstance(layer, str) else _first_parameter(layer)
    halves = mixed and own is not None and own.dtype == torch.float32
    if own is None or (halves and x.dtype in (torch.float16, torch.bfloat16)):
        if not x.is_floating_point():
            raise TypeError(
                f"{layer_name(layer)} expects {name} of real numbers, got {x.dtype}; "
                f"convert it: {name}.float()"
            )
    elif x.dtype != own.dtype and not torch.is_autocast_enabled(x.device.type):
        to = f"{name}.float()" if own.dtype == torch.float32 else f"{name}.to({own.dtype})"
        raise TypeError(f"{layer_name(layer)} expects {name} of {own.dtype}, got {x.dtype}; convert it: {to}")
    if own is not None and x.device != own.device:
        raise ValueError(
            f"{layer_name(layer)} is on {own.device}, {name} is on {x.device}; move one to the other"
        )


def _first_parameter(layer: nn.Module) -> Tensor | None:
    """By hand: ``layer.parameters()`` keeps a set of all modules, which takes longer than a small layer."""
    for parameter in layer._parameters.values():
        if parameter is not None and parameter.is_floating_point():
            return parameter
    for child in layer._modules.values():
        if child is not None and (found := _first_parameter(child)) is not None:
            return found
    return None


def require_width(
    x: Any,
    dim: int,
    layer: nn.Module | str,
    *,
    axis: int = -1,
    name: str = "x",
    mixed: bool = False,
    real: bool = True,
) -> None:
    """Raise unless ``x`` has ``dim`` entries along ``axis``, and is real unless ``real=False``.

    >>> require_width(torch.zeros(2, 5), 4, "LayerNorm(4)")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: LayerNorm(4) expects 4 entries along axis -1 of x, got shape (2, 5); build the layer for ...
    """
    if real:
        require_real(x, layer, name=name, mixed=mixed)
    if isinstance(x, Proxy):
        return
    has_axis = x.ndim > (axis if axis >= 0 else -axis - 1)
    if not has_axis or x.shape[axis] != dim:
        seen = x.shape[axis] if has_axis else "none"
        raise ValueError(
            f"{layer_name(layer)} expects {dim} entries along axis {axis} of {name}, got shape "
            f"{tuple(x.shape)}; build the layer for width {seen} or reshape the input"
        )


def _require_form(
    x: Any, form: str, sizes: dict[int, int], layer: nn.Module | str, name: str, mixed: bool, hint: str
) -> None:
    """Raise unless x has as many axes as ``form`` names, and these sizes on some of them."""
    require_real(x, layer, name=name, mixed=mixed)
    if isinstance(x, Proxy):
        return
    axes = form.count(",") + 1
    if x.ndim != axes or any(x.shape[axis] != size for axis, size in sizes.items()):
        raise ValueError(f"{layer_name(layer)} expects {name} {form}, got shape {tuple(x.shape)}; {hint}")


def require_tokens(x: Any, dim: int, layer: nn.Module | str, *, name: str = "x", mixed: bool = False) -> None:
    """Raise unless x is ``(b, t, dim)``.

    >>> require_tokens(torch.zeros(5, 4), 4, "Attention(4)")
    Traceback (most recent call last):
    ValueError: Attention(4) expects x (b, t, 4), got shape (5, 4); add or flatten leading axes, or build it \
for your width
    """
    hint = "add or flatten leading axes, or build it for your width"
    _require_form(x, f"(b, t, {dim})", {2: dim}, layer, name, mixed, hint)


def require_image(
    x: Any,
    channels: int | None,
    layer: nn.Module | str,
    *,
    sides: tuple[int, int] | None = None,
    multiple_of: int = 1,
    name: str = "x",
    mixed: bool = False,
) -> None:
    """Raise unless x is ``(b, channels, i, j)``; None lets any number of channels pass.

    Args:
        x: the input.
        channels: on axis 1.
        layer: the layer, or its name where there are no parameters to agree with.
        sides: rows and columns, where only these fit.
        multiple_of: what has to divide rows and columns.
        name: of the input, for the message.
        mixed: let half precision pass beside float32 parameters, as torch's norms do.

    >>> require_image(torch.zeros(1, 2, 6, 5), 2, "Half(2)", multiple_of=2)
    Traceback (most recent call last):
    ValueError: Half(2) expects x (b, 2, i, j) with sides that 2 divides, got shape (1, 2, 6, 5); crop or \
pad it
    """
    sizes = {} if channels is None else {1: channels}
    rows, columns = ("i", "j") if sides is None else sides
    sizes |= {} if sides is None else {2: sides[0], 3: sides[1]}
    form = f"(b, {'c' if channels is None else channels}, {rows}, {columns})"
    hint = "put channels on axis 1, or build the layer for their number"
    hint += "" if sides is None else " and these sides"
    _require_form(x, form, sizes, layer, name, mixed, hint)
    if (
        multiple_of > 1
        and not isinstance(x, Proxy)
        and (x.shape[2] % multiple_of or x.shape[3] % multiple_of)
    ):
        raise ValueError(
            f"{layer_name(layer)} expects {name} {form} with sides that {multiple_of} divides, got shape "
            f"{tuple(x.shape)}; crop or pad it"
        )


def require_signal(
    x: Any, channels: int | None, layer: nn.Module | str, *, name: str = "x", mixed: bool = False
) -> None:
    """Raise unless x is ``(b, channels, t)``; None lets any number of channels pass."""
    sizes = {} if channels is None else {1: channels}
    form = f"(b, {'c' if channels is None else channels}, t)"
    hint = "put channels on axis 1, or build the layer for their number"
    _require_form(x, form, sizes, layer, name, mixed, hint)


def require_grid(
    x: Any,
    grid: tuple[int, int],
    dim: int | None,
    layer: nn.Module | str,
    *,
    name: str = "x",
    mixed: bool = False,
) -> None:
    """Raise unless x is ``(b, rows * columns, dim)``: the tokens of a grid, row by row."""
    rows, columns = grid
    sizes = {1: rows * columns} if dim is None else {1: rows * columns, 2: dim}
    form = f"(b, {rows * columns}, {'d' if dim is None else dim})"
    hint = f"these are the tokens of a grid of {rows} x {columns}; build the layer for the grid of yours"
    _require_form(x, form, sizes, layer, name, mixed, hint)
