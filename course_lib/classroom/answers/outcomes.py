"""What an answer does with one input, and how two such outcomes differ."""

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from course_lib.contexts import isolated

# In the order in which they are told: a wrong shape explains a wrong gradient, not the other way round.
KINDS = (
    *("unwritten", "exception", "type", "shape", "dtype", "in place", "nan", "value"),
    *("state", "gradient", "rule"),
)
_FORM = KINDS[: KINDS.index("in place")]


class UnwrittenError(Exception):
    """The answer returned nothing where something was needed."""


@dataclass
class Outcome:
    """All that a call did: what it returned, what flows back, what it changed, or how it failed."""

    value: Any = None
    through: list[bool] = field(default_factory=list)  # whether a gradient flows through each tensor
    gradients: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    overwritten: bool = False  # what the way back needed
    error: Exception | None = None


@dataclass(frozen=True)
class Difference:
    """One way in which an outcome is not the expected one; with numbers, both of them."""

    kind: str
    text: str
    expected: Any = None
    got: Any = None


@dataclass(frozen=True)
class Tolerance:
    """How near two numbers must be: ``atol`` plus ``rtol`` of the expected one, each for itself.

    A sum of large terms rounds at their size, whatever its own: ``noise`` of the largest entry is forgiven.
    """

    rtol: float = 1e-6
    atol: float = 1e-9
    noise: float = 1e-11

    def widened(self) -> "Tolerance":
        """The same for an answer that was computed in single precision."""
        return Tolerance(max(self.rtol, 1e-4), max(self.atol, 1e-6), 1e-6)


EXACT = Tolerance(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Given:
    """The arguments of a call and what the call is there for; see :func:`case`."""

    label: str
    args: tuple
    kwargs: dict[str, Any]


def case(label: str, *args: Any, **kwargs: Any) -> Given:
    """One input of an exercise, labelled with the clause of the statement that it tries.

    >>> case("one token", 1, width=2).label
    'one token'
    """
    return Given(label, args, kwargs)


@dataclass(frozen=True, eq=False)
class Case:
    """The arguments of one call: by position under the names of the signature, then by keyword."""

    names: tuple[str, ...]
    args: tuple
    kwargs: dict[str, Any]
    label: str = ""

    @classmethod
    def of(cls, function: Callable, given: Any) -> "Case":
        """A :class:`Given`; or a tuple by position, a dict by keyword, all else a single argument."""
        if isinstance(given, Given):
            label, args, kwargs = given.label, given.args, given.kwargs
        elif isinstance(given, Mapping):
            label, args, kwargs = "", (), dict(given)
        else:
            label, args, kwargs = "", given if isinstance(given, tuple) else (given,), {}
        return cls(_names(function, args), args, kwargs, label)

    @property
    def items(self) -> dict[str, Any]:
        """All arguments by name."""
        return {**dict(zip(self.names, self.args, strict=True)), **self.kwargs}

    @property
    def size(self) -> int:
        """How many numbers a reader would have to read."""
        return sum(_size(value) for value in self.items.values())

    def called(self, function: Callable) -> dict[str, str]:
        """The names that ``function`` gives to the arguments by position."""
        return dict(zip(self.names, _names(function, self.args), strict=True))

    def with_(self, name: str, value: Any) -> "Case":
        """The same with another value of one argument."""
        args = tuple(value if n == name else a for n, a in zip(self.names, self.args, strict=True))
        return Case(self.names, args, {k: value if k == name else v for k, v in self.kwargs.items()})

    def describe(self, called: Mapping[str, str]) -> list[str]:
        """Every argument under its name, in full where that is short: short ones on one line."""
        lines = [f"{called.get(name, name)} {_describe(value)}" for name, value in self.items.items()]
        joined = ", ".join(lines)
        return [joined] if len(joined) <= 84 else lines


def expect(function: Callable, given: Case) -> Outcome:
    """The right outcome; where it leaves torch (``float(x)``, numpy), no gradient is asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = call(function, given, tracked=True)
    return outcome if any(outcome.through) else call(function, given, tracked=False)


def call(
    function: Callable, given: Case, like: Outcome | None = None, *, tracked: bool | None = None
) -> Outcome:
    """Run on fresh float64 copies of the arguments; gradients are asked for where ``like`` has them."""
    if isinstance(function, nn.Module):
        function = copy.deepcopy(function)  # a call may change its state
    tracked = any(like.through) if tracked is None and like is not None else bool(tracked)
    leaves: dict[str, Tensor] = {}
    fresh = {name: _fresh(value, name, leaves if tracked else None) for name, value in given.items.items()}
    before = {name: _fresh(value, name, None) for name, value in given.items.items()}
    if isinstance(function, nn.Module):
        leaves |= {f"the parameter {name}": p for name, p in function.named_parameters() if p.requires_grad}
    outcome = Outcome()
    with isolated(0), _double():  # both sides draw the same random numbers
        try:
            positional = [fresh[name] for name in given.names]
            outcome.value = function(*positional, **{name: fresh[name] for name in given.kwargs})
            outcome.changed = [n for n in fresh if compare(before[n], fresh[n], n, EXACT)]
            if not outcome.changed:  # autograd cannot be trusted after a change in place
                try:
                    _backward(outcome, leaves, like)
                except RuntimeError as error:
                    if "inplace operation" not in str(error):
                        raise
                    outcome.overwritten = True  # the values may well be right
        except Exception as error:
            outcome.error = error
    outcome.value = tree_map(
        lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, outcome.value
    )
    if isinstance(function, nn.Module):
        outcome.state = {name: buffer.detach().clone() for name, buffer in function.named_buffers()}
    return outcome


def difference(
    expected: Outcome, got: Outcome, tolerance: Tolerance, *, values_only: bool = False
) -> Difference | None:
    """The most telling difference of two outcomes, or None."""
    if expected.error is not None or got.error is not None:
        return _compare_errors(expected.error, got.error)
    if got.value is None and expected.value is not None:
        return Difference("unwritten", "returned None")
    found = compare(expected.value, got.value, "the result", tolerance)
    if values_only or (found is not None and found.kind in _FORM):
        return found
    for name in got.changed:
        if name not in expected.changed:
            return Difference("in place", name)
    if found is not None:
        return found
    for name, buffer in expected.state.items():
        if name in got.state and (found := compare(buffer, got.state[name], f"the buffer {name}", tolerance)):
            return Difference("state", found.text, found.expected, found.got)
    single = is_single(got.value)
    for name, gradient in expected.gradients.items():
        mine = got.gradients.get(name)
        if mine is None:
            mine = torch.zeros_like(gradient)
        found = compare(gradient, mine, name, tolerance.widened() if single else tolerance)
        if found is not None:
            return Difference("gradient", name, gradient, mine)
    return None


def is_single(value: Any) -> bool:
    """Whether a tensor of it is in single precision: the answer left double precision on its way."""
    return any(isinstance(leaf, Tensor) and leaf.dtype == torch.float32 for leaf in tree_leaves(value))


def numbers(value: Any) -> list[Tensor]:
    """The tensors, arrays and numbers of a result, as tensors."""
    kinds = ("a tensor", "a numpy array", "a number")
    return [_as_tensor(leaf) for leaf in tree_leaves(value) if _kind(leaf) in kinds]


def is_finite(outcome: Outcome) -> bool:
    """Whether every number of the result and of every gradient is finite."""
    found = [*numbers(outcome.value), *outcome.gradients.values()]
    return all(bool(torch.isfinite(x).all()) for x in found if x.is_floating_point() or x.is_complex())


@contextmanager
def _double() -> Iterator[None]:
    # `torch.zeros(n)` of an answer then holds what the float64 inputs put in.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _names(function: Callable, args: tuple) -> tuple[str, ...]:
    target = function.forward if isinstance(function, nn.Module) else function
    try:
        names = tuple(inspect.signature(target).bind(*args).arguments)
    except (TypeError, ValueError):  # a built-in, or a wrong call that will soon say so itself
        names = ()
    return names if len(names) == len(args) else tuple(f"argument {i + 1}" for i in range(len(args)))


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
            real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
            weights = torch.randn(real.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            total, parts = total + (real * weights).sum(), parts + 1
    if parts:
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        pairs = zip(leaves.items(), gradients, strict=True)
        outcome.gradients = {n: torch.zeros_like(leaf) if g is None else g for (n, leaf), g in pairs}
    elif like is not None and like.gradients:  # a known mistake without any gradient is not one with another
        outcome.gradients = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}


def _compare_errors(expected: Exception | None, got: Exception | None) -> Difference | None:
    if isinstance(got, UnwrittenError):
        return Difference("unwritten", "returned None")
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


def compare(expected: Any, got: Any, where: str, tolerance: Tolerance) -> Difference | None:
    """How two values differ in form or in value; ``where`` names them in the text."""
    if isinstance(expected, nn.Module) and isinstance(got, nn.Module):
        expected, got = expected.state_dict(), got.state_dict()
    wanted, kind = _kind(expected), _kind(got)
    scalars = ("a number", "a bool")
    if wanted in scalars and kind in ("a tensor", "a numpy array") and got.ndim == 0:
        got, kind = got.item(), wanted  # a scalar is a scalar
    if wanted == "a tensor" and not expected.ndim and kind in scalars:
        expected, wanted = expected.item(), kind
    if wanted != kind:
        return Difference("type", f"{where} is {kind}, expected {wanted}")
    if wanted == "a dict":
        return _compare_items(expected, got, where, tolerance)
    if wanted == "a list or tuple":
        if len(expected) != len(got):
            few = all(_kind(x) == "a number" for x in (*expected, *got)) and len(expected) + len(got) <= FEW
            text = f"is {short(list(got))}, expected {short(list(expected))}"
            return Difference("type", f"{where} {text if few else _parts(got, expected)}")
        parts = zip(expected, got, strict=True)
        found = (compare(e, g, f"{where}[{i}]", tolerance) for i, (e, g) in enumerate(parts))
        return next((f for f in found if f is not None), None)
    if wanted in ("a tensor", "a numpy array", "a number"):
        return _compare_numbers(expected, got, where, tolerance)
    same = expected is got or bool(np.all(expected == got))
    return None if same else Difference("value", where, expected, got)


def _parts(got: Sequence, expected: Sequence) -> str:
    return f"has {len(got)} parts, expected {len(expected)}"


def _compare_items(expected: Mapping, got: Mapping, where: str, tolerance: Tolerance) -> Difference | None:
    if set(expected) != set(got):
        keys, wanted = sorted(map(str, got)), sorted(map(str, expected))
        return Difference("type", f"{where} has the keys {keys}, expected {wanted}")
    found = (compare(expected[key], got[key], f"{where}[{key!r}]", tolerance) for key in expected)
    return next((f for f in found if f is not None), None)


def _family(x: Tensor) -> str:
    if x.dtype == torch.bool:
        return "bool"
    return "complex" if x.is_complex() else "float" if x.is_floating_point() else "int"


def _compare_numbers(expected: Any, got: Any, where: str, tolerance: Tolerance) -> Difference | None:
    e, g = _as_tensor(expected), _as_tensor(got)
    if e.shape != g.shape:
        return Difference("shape", where, tuple(e.shape), tuple(g.shape))
    if _family(e) != _family(g) and _kind(expected) != "a number":
        return Difference("dtype", where, e.dtype, g.dtype)
    if e.numel() == 0:
        return None
    exact = not any(x.is_floating_point() or x.is_complex() for x in (e, g))
    if isinstance(got, Tensor) and g.dtype in (torch.float32, torch.complex64) and tolerance != EXACT:
        tolerance = tolerance.widened()
    e, g = wide(e), wide(g)
    finite = e[torch.isfinite(e)].abs()
    scale = finite.max().item() if finite.numel() else 0.0
    allowed = (
        torch.zeros(()) if exact else tolerance.atol + tolerance.noise * scale + tolerance.rtol * e.abs()
    )
    equal = (e == g) | (torch.isnan(e) & torch.isnan(g))
    gap = torch.where(equal, 0.0, (e - g).abs()).nan_to_num(nan=torch.inf)
    if bool((gap <= allowed.nan_to_num(posinf=0.0)).all()):
        return None
    kind = "nan" if bool((torch.isfinite(e) & ~torch.isfinite(g)).any()) else "value"
    return Difference(kind, where, e, g)


def wide(x: Tensor) -> Tensor:
    """The numbers in double precision."""
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _as_tensor(value: Any) -> Tensor:
    # By way of numpy a Python float stays in double precision.
    return value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))


# ------------------------------------------------------------------------------------- in words


FEW = 12  # numbers that are shown in full


def _size(value: Any) -> int:
    if isinstance(value, Tensor | np.ndarray):
        return int(np.prod(value.shape))
    if isinstance(value, nn.Module):
        return sum(p.numel() for p in value.parameters())
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 1


def short(value: Any) -> str:
    """Numbers with four digits, nested as they are; what is no number as it prints itself."""
    if isinstance(value, Tensor | np.ndarray):
        return short(value.tolist())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(short, value))}]"
    if isinstance(value, complex):
        return f"{value.real:.4g}{value.imag:+.4g}j"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def beside(found: Difference) -> list[str]:
    """Expected and got, in full where they are few numbers, else at the largest difference."""
    e, g = found.expected, found.got
    if not isinstance(e, Tensor):
        return [f"expected  {short(e)}", f"got       {short(g)}"]
    e, g = wide(e), wide(g)
    if e.numel() <= FEW:
        text, other = short(e), short(g)
        if text == other:
            text, other = ([f"{x:.10g}" for x in y.flatten().tolist()] for y in (e.real, g.real))
        return [f"expected  {text}", f"got       {other}"]
    gap = (e - g).abs().nan_to_num(nan=torch.inf)
    gap = torch.where(e == g, 0.0, gap)
    place = np.unravel_index(int(gap.argmax()), gap.shape)
    off = int((gap > 1e-9 * (1 + e.abs())).sum())
    at = f"at [{', '.join(map(str, place))}]"
    count = f"{off} of {e.numel()} numbers differ, most" if off < e.numel() else "all numbers differ, most"
    return [f"{count} {at}:", f"expected  {e[place].item():.6g}", f"got       {g[place].item():.6g}"]


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        if value.numel() <= FEW:
            return f"= {short(value)}"
        shape = f"of shape {tuple(value.shape)}"
        if value.is_complex() or value.dtype == torch.bool:
            return shape
        low, high = value.min().item(), value.max().item()
        return f"{shape}, {low:.4g} everywhere" if low == high else f"{shape} from {low:.4g} to {high:.4g}"
    if isinstance(value, np.ndarray):
        return f"= {short(value)}" if value.size <= FEW else f"of shape {value.shape}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"= {short(value)}" if _size(value) <= FEW else f"of {len(value)} items"
    text = f"= {short(value)}"
    return text if len(text) < 60 else f"of type {type(value).__name__}"
