"""What a function does with one input, and how two such outcomes differ: the ground under ``check``."""

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from course_lib.contexts import isolated

# Reported first when several things are wrong: a wrong shape explains a wrong gradient, not vice versa.
KINDS = ("unwritten", "exception", "type", "shape", "dtype", "value", "in place", "state", "gradient")


@dataclass
class Outcome:
    """All that a call did: what it returned, what flows back, what it changed, or how it failed."""

    value: Any = None
    through: list[bool] = field(default_factory=list)  # whether a gradient flows through each tensor
    gradients: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    error: Exception | None = None


@dataclass(frozen=True)
class Difference:
    """One way in which an outcome is not the expected one."""

    kind: str
    text: str


@dataclass(frozen=True)
class Tolerance:
    """How near two numbers must be: relative to the largest expected one, and absolute."""

    rtol: float
    atol: float


@dataclass(frozen=True, eq=False)
class Case:
    """The arguments of one call: by position under the names of the signature, then by keyword."""

    names: tuple[str, ...]
    args: tuple
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, function: Callable, given: Any) -> "Case":
        """A tuple is positional, a dict by keyword, all else a single argument."""
        if isinstance(given, Mapping):
            return cls((), (), dict(given))
        args = given if isinstance(given, tuple) else (given,)
        target = function.forward if isinstance(function, nn.Module) else function
        try:
            names = [*inspect.signature(target).bind(*args).arguments]
        except (TypeError, ValueError):  # a built-in, or a wrong call that will soon say so itself
            names = []
        if len(names) != len(args):
            names = [f"argument {i + 1}" for i in range(len(args))]
        return cls(tuple(names), args, {})

    @property
    def items(self) -> dict[str, Any]:
        """All arguments by name."""
        return {**dict(zip(self.names, self.args, strict=True)), **self.kwargs}

    def describe(self) -> list[str]:
        """Every argument in a few words: its shape and range."""
        return [f"{name} {_describe(value)}" for name, value in self.items.items()]


def expect(function: Callable, case: Case) -> Outcome:
    """The reference's outcome; where it leaves torch (``float(x)``, numpy), no gradient is asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = call(function, case, tracked=True)
    return outcome if any(outcome.through) else call(function, case, tracked=False)


def call(
    function: Callable, case: Case, like: Outcome | None = None, *, tracked: bool | None = None
) -> Outcome:
    """Run on fresh float64 copies of the arguments; gradients are asked for where ``like`` has them."""
    if isinstance(function, nn.Module):
        function = copy.deepcopy(function)  # a call may change its state
    tracked = any(like.through) if tracked is None and like is not None else bool(tracked)
    leaves: dict[str, Tensor] = {}
    given = {name: _fresh(value, name, leaves if tracked else None) for name, value in case.items.items()}
    before = {name: _fresh(value, name, None) for name, value in case.items.items()}
    if isinstance(function, nn.Module):
        leaves |= {f"the parameter {name}": p for name, p in function.named_parameters() if p.requires_grad}
    outcome = Outcome()
    with isolated(0):  # both sides draw the same random numbers
        try:
            positional = [given[name] for name in case.names]
            outcome.value = function(*positional, **{name: given[name] for name in case.kwargs})
            outcome.changed = [n for n in given if _compare(before[n], given[n], n, Tolerance(0.0, 0.0))]
            if not outcome.changed:  # autograd cannot be trusted after a change in place
                _backward(outcome, leaves, like)
        except Exception as error:
            outcome.error = error
    outcome.value = tree_map(
        lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, outcome.value
    )
    if isinstance(function, nn.Module):
        outcome.state = {name: buffer.detach().clone() for name, buffer in function.named_buffers()}
    return outcome


def difference(expected: Outcome, got: Outcome, tolerance: Tolerance) -> Difference | None:
    """The most telling difference of two outcomes, or None."""
    if expected.error is not None or got.error is not None:
        return _compare_errors(expected.error, got.error)
    if got.value is None and expected.value is not None:
        return Difference("unwritten", "returned None")
    found = _compare(expected.value, got.value, "the result", tolerance)
    if found is not None:
        return found
    for name in got.changed:
        if name not in expected.changed:
            return Difference("in place", f"the input {name} was modified in place: work on a copy")
    for name, buffer in expected.state.items():
        if name in got.state and (
            found := _compare(buffer, got.state[name], f"the buffer {name}", tolerance)
        ):
            return Difference("state", found.text)
    for name, gradient in expected.gradients.items():
        mine = got.gradients.get(name)
        if mine is None:
            mine = torch.zeros_like(gradient)
        if (found := _compare(gradient, mine, f"the gradient of {name}", tolerance)) is not None:
            cut = " (no gradient reaches it: detached, or left torch on the way?)" if not mine.any() else ""
            return Difference("gradient", found.text + cut)
    return None


def _fresh(value: Any, name: str, leaves: dict[str, Tensor] | None) -> Any:
    """A copy in double precision; with ``leaves``, float tensors are tracked and noted there by name."""
    if isinstance(value, Tensor):
        if not (value.is_floating_point() or value.is_complex()):
            return value.detach().clone()
        leaf = value.detach().to(torch.complex128 if value.is_complex() else torch.float64, copy=True)
        if leaves is None:
            return leaf
        leaves[name] = leaf.requires_grad_()
        return leaf.clone()  # not a leaf itself, so that a change in place is possible, and seen
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).double()
    if isinstance(value, Mapping):
        return {key: _fresh(item, f"{name}[{key!r}]", leaves) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_fresh(item, f"{name}[{i}]", leaves) for i, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value.copy() if isinstance(value, np.ndarray) else value


def _backward(outcome: Outcome, leaves: dict[str, Tensor], like: Outcome | None) -> None:
    tensors = [leaf for leaf in tree_leaves(outcome.value) if isinstance(leaf, Tensor)]
    outcome.through = [t.requires_grad for t in tensors]
    asked = outcome.through if like is None else like.through
    total, parts = torch.zeros((), dtype=torch.float64), 0
    for i, (tensor, ask) in enumerate(zip(tensors, asked, strict=False)):
        if ask and tensor.requires_grad:
            real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
            weights = torch.randn(real.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            total, parts = total + (real * weights).sum(), parts + 1
    if parts:
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        pairs = zip(leaves.items(), gradients, strict=True)
        outcome.gradients = {n: torch.zeros_like(leaf) if g is None else g for (n, leaf), g in pairs}


def _compare_errors(expected: Exception | None, got: Exception | None) -> Difference | None:
    if got is None:
        return Difference("exception", f"raised nothing, expected {type(expected).__name__}: {expected}")
    if expected is None:
        kind = "unwritten" if isinstance(got, NotImplementedError) else "exception"
        return Difference(kind, f"raised {type(got).__name__}: {got}")
    if isinstance(got, type(expected)):
        return None
    return Difference("exception", f"raised {type(got).__name__}: {got}; expected {type(expected).__name__}")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "a tensor"
    if isinstance(value, np.ndarray):
        return "a numpy array" if value.dtype.kind in "biufc" else "an array of objects"
    if isinstance(value, bool | np.bool_):
        return "a bool"
    if isinstance(value, int | float | complex | np.number):
        return "a number"
    if isinstance(value, Mapping):
        return "a dict"
    if isinstance(value, list | tuple):
        return "a list or tuple"
    return "None" if value is None else f"of type {type(value).__name__}"


def _compare(expected: Any, got: Any, where: str, tolerance: Tolerance) -> Difference | None:
    if isinstance(expected, nn.Module) and isinstance(got, nn.Module):
        expected, got = expected.state_dict(), got.state_dict()
    wanted, kind = _kind(expected), _kind(got)
    if wanted in ("a number", "a bool") and kind in ("a tensor", "a numpy array") and got.ndim == 0:
        got, kind = got.item(), wanted  # a scalar is a scalar
    if wanted != kind:
        return Difference("type", f"{where} is {kind}, expected {wanted}")
    if wanted == "a dict":
        return _compare_items(expected, got, where, tolerance)
    if wanted == "a list or tuple":
        if len(expected) != len(got):
            return Difference("type", f"{where} has {len(got)} parts, expected {len(expected)}")
        parts = zip(expected, got, strict=True)
        found = (_compare(e, g, f"{where}[{i}]", tolerance) for i, (e, g) in enumerate(parts))
        return next((f for f in found if f is not None), None)
    if wanted in ("a tensor", "a numpy array", "a number"):
        return _compare_numbers(expected, got, where, tolerance)
    same = expected is got or bool(np.all(expected == got))
    return None if same else Difference("value", f"{where} is {got!r}, expected {expected!r}")


def _compare_items(expected: Mapping, got: Mapping, where: str, tolerance: Tolerance) -> Difference | None:
    if set(expected) != set(got):
        return Difference(
            "type", f"{where} has the keys {sorted(map(str, got))}, expected {sorted(map(str, expected))}"
        )
    found = (_compare(expected[key], got[key], f"{where}[{key!r}]", tolerance) for key in expected)
    return next((f for f in found if f is not None), None)


def _compare_numbers(expected: Any, got: Any, where: str, tolerance: Tolerance) -> Difference | None:
    e, g = _as_tensor(expected), _as_tensor(got)
    if e.shape != g.shape:
        return Difference("shape", f"{where} has the shape {tuple(g.shape)}, expected {tuple(e.shape)}")
    if e.dtype != g.dtype and _kind(expected) != "a number":
        tip = (
            " (new tensors take the type of an old one by dtype=x.dtype)" if g.dtype == torch.float32 else ""
        )
        return Difference("dtype", f"{where} has the dtype {g.dtype}, expected {e.dtype}{tip}")
    if e.numel() == 0:
        return None
    exact = not (e.is_floating_point() or e.is_complex() or g.is_floating_point() or g.is_complex())
    wide = torch.complex128 if e.is_complex() or g.is_complex() else torch.float64
    e, g = e.to(wide), g.to(wide)
    finite = e[torch.isfinite(e)].abs()
    scale = finite.max().item() if finite.numel() else 0.0
    allowed = 0.0 if exact else tolerance.atol + tolerance.rtol * scale
    equal = (e == g) | (torch.isnan(e) & torch.isnan(g))
    gap = torch.where(equal, 0.0, (e - g).abs()).nan_to_num(nan=torch.inf)
    if gap.max() <= allowed:
        return None
    place = np.unravel_index(int(gap.argmax()), gap.shape)
    index = f" at [{', '.join(map(str, place))}]" if gap.ndim else ""
    values = f"expected {_short(e[place])}, got {_short(g[place])}"
    return Difference("value", f"{where} differs by up to {_short(gap.max())}{index}: {values}")


def _as_tensor(value: Any) -> Tensor:
    # By way of numpy a Python float stays in double precision.
    return value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))


def _short(number: Tensor) -> str:
    return f"{number.item():.6g}"


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        shape = f"of shape {tuple(value.shape)}"
        if value.is_complex() or value.dtype == torch.bool or value.numel() == 0:
            return shape
        low, high = value.min().item(), value.max().item()
        return f"{shape}, {low:.4g} everywhere" if low == high else f"{shape} from {low:.4g} to {high:.4g}"
    if isinstance(value, np.ndarray):
        return f"of shape {value.shape}"
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 4:
        return f"of {len(value)} items"
    text = f"= {value!r}"
    return text if len(text) < 60 else f"of type {type(value).__name__}"
