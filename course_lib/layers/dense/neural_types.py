"""Types for the meaning of tensors: what each axis runs over and what each number is."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass
from enum import Enum
from typing import Any

from torch import Tensor

from course_lib.layers._shapes import require_at_least, require_one_of
from course_lib.registry import implements

_KINDS = ("batch", "time", "dimension", "channel", "width", "height", "any")
_SAME_KIND = {"channel": "dimension"}  # two words for one kind, as in NeMo
_enabled: ContextVar[bool] = ContextVar("typecheck", default=True)


class NeuralTypeComparison(Enum):
    """How one type stands to another; only SAME and GREATER let a tensor in."""

    SAME = "the same"
    LESS = "more special"
    GREATER = "more general"
    DIM_INCOMPATIBLE = "the same axes with another fixed size"
    TRANSPOSE_SAME = "the same axes in another order"
    SAME_TYPE_INCOMPATIBLE_PARAMS = "the same element with other parameters"
    INCOMPATIBLE = "something else"


class NeuralTypeError(TypeError):
    """A tensor, or its name, is not what a module declares."""


@implements("nemo-neural-types")
@dataclass(frozen=True)
class AxisType:
    """What one axis runs over.

    Args:
        kind: "batch", "time", "dimension" or "channel" (two words for one kind), "width", "height", or "any",
            which, where it is declared, takes every kind.
        size: its length, if that is part of the type.

    Raises:
        ValueError: for an unknown kind, or a size below 0.
        TypeError: for a size that is no integer.

    Paper: NeMo: a toolkit for building AI applications using Neural Modules - https://arxiv.org/abs/1909.09577

    Differs from the paper's code: axes that are Python lists, its kinds "sequence", "flowgroup" and
    "singleton", and its short names ("B", "T") are left out.

    >>> AxisType("channel").matches(AxisType("dimension")), AxisType("any").matches(AxisType("time"))
    (True, True)
    >>> AxisType("time").matches(AxisType("any"))  # the direction counts: time is declared, anything is given
    False
    """

    kind: str
    size: int | None = None

    def __post_init__(self) -> None:
        require_one_of("AxisType", _KINDS, kind=self.kind)
        if self.size is not None:
            require_at_least(0, "AxisType", size=self.size)

    @property
    def _kind(self) -> str:
        return _SAME_KIND.get(self.kind, self.kind)

    def matches(self, other: "AxisType") -> bool:
        """Whether this axis, the declared one, takes another.

        Args:
            other: the axis of the tensor at hand, at the same place.
        """
        return self.kind == "any" or (self._kind == other._kind and self.size in (None, other.size))


@implements("nemo-neural-types")
@dataclass(frozen=True)
class ElementType:
    """What the numbers of a tensor are; a subclass is a more special kind, its fields are parameters.

    A tree of kinds is a tree of subclasses, and nothing else: write ``class Probs(ElementType): ...``. A
    parameter, a sample rate for instance, makes it a frozen dataclass with that field; None stands for any
    value of it.

    Paper: NeMo: a toolkit for building AI applications using Neural Modules - https://arxiv.org/abs/1909.09577

    Differs from the paper's code: its void type, which is the same as everything, and named fields along the
    last axis are left out; what takes everything here is the root, ``ElementType()``, as the more general.

    >>> class Spectrogram(ElementType): ...
    >>> class MelSpectrogram(Spectrogram): ...
    >>> Spectrogram().compare(MelSpectrogram()).name, MelSpectrogram().compare(Spectrogram()).name
    ('GREATER', 'LESS')
    """

    def compare(self, other: "ElementType") -> NeuralTypeComparison:
        """How this kind stands to another one, parameters last.

        Args:
            other: the kind of the tensor at hand, if this one is declared.
        """
        if type(self) is type(other):
            pairs = zip(astuple(self), astuple(other), strict=True)
            same = all(None in pair or pair[0] == pair[1] for pair in pairs)
            return _Result.SAME if same else _Result.SAME_TYPE_INCOMPATIBLE_PARAMS
        if isinstance(self, type(other)):
            return _Result.LESS
        return _Result.GREATER if isinstance(other, type(self)) else _Result.INCOMPATIBLE


_Result = NeuralTypeComparison


@implements("nemo-neural-types")
@dataclass(frozen=True)
class NeuralType:
    """The type of a tensor: its axes in order, and what its numbers are.

    Args:
        axes: an :class:`AxisType` per axis; a plain name such as "time" will do.
        element: what the numbers are.
        optional: whether a module may be called without it.

    Raises:
        ValueError: for an unknown axis.

    Paper: NeMo: a toolkit for building AI applications using Neural Modules - https://arxiv.org/abs/1909.09577

    The comparison is that of the authors' code, but for two cases. There a declared "any" forgives every axis
    that stands before it, so that ("time", "any") takes ("batch", "time"); here it speaks for its own place.
    And there axes are compared as a set where one kind occurs twice; here each is counted. A type without
    axes is left out.

    >>> audio = NeuralType(("batch", "time"), ElementType())
    >>> audio.compare(NeuralType(("time", "batch"), ElementType())).name
    'TRANSPOSE_SAME'
    """

    axes: tuple[AxisType | str, ...]
    element: ElementType
    optional: bool = False

    def __post_init__(self) -> None:
        axes = tuple(AxisType(axis) if isinstance(axis, str) else axis for axis in self.axes)
        object.__setattr__(self, "axes", axes)

    def compare(self, other: "NeuralType") -> NeuralTypeComparison:
        """How this type, the declared one, stands to another, that of the tensor at hand.

        Where every axis fits, the elements decide. Else the result names what is wrong with the axes, if the
        elements are the same, and is INCOMPATIBLE if they are not.

        Args:
            other: the type of the tensor at hand.
        """
        elements, ours, theirs = self.element.compare(other.element), self.axes, other.axes
        if len(ours) == len(theirs) and all(a.matches(b) for a, b in zip(ours, theirs, strict=True)):
            return elements
        kinds = [sorted(axis._kind for axis in axes) for axes in (ours, theirs)]
        if elements is not _Result.SAME or kinds[0] != kinds[1]:
            return _Result.INCOMPATIBLE
        sized = [sorted((axis._kind, str(axis.size)) for axis in axes) for axes in (ours, theirs)]
        return _Result.TRANSPOSE_SAME if sized[0] == sized[1] else _Result.DIM_INCOMPATIBLE

    def __repr__(self) -> str:
        axes = ", ".join(a.kind if a.size is None else f"{a.kind}={a.size}" for a in self.axes)
        return f"NeuralType(({axes}), {self.element})"


@implements("nemo-neural-types")
def typecheck(forward: Callable) -> Callable:
    """Make a ``forward`` check inputs against ``input_types`` and label outputs with ``output_types``.

    Both are dicts from a name to a :class:`NeuralType`, attributes of the module. Arguments go by name. A
    tensor that carries a type, because a checked module made it, gets in only if the declared type is the
    same or more general; one that carries none is checked for its number of axes and fixed sizes.

    Args:
        forward: the method to wrap; it returns one tensor, or one for each entry of ``output_types``.

    Raises:
        NeuralTypeError: when called with a wrong name or type, or without a name that is needed.

    Paper: NeMo: a toolkit for building AI applications using Neural Modules - https://arxiv.org/abs/1909.09577

    The label is an attribute, ``tensor.neural_type``: a view or the result of an operation carries none.

    >>> class Loss:
    ...     input_types = {"logprobs": NeuralType(("batch", "dimension"), ElementType())}
    ...     output_types = {"loss": NeuralType((), ElementType())}
    ...     @typecheck
    ...     def __call__(self, *, logprobs):
    ...         return -logprobs.mean()
    >>> import torch
    >>> Loss()(logprobs=torch.zeros(2, 3)).neural_type
    NeuralType((), ElementType())
    """

    @functools.wraps(forward)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _enabled.get():
            return forward(self, *args, **kwargs)
        if args:
            raise NeuralTypeError(f"{_name(self)} takes its inputs by name: {', '.join(self.input_types)}")
        _check_inputs(self, kwargs)
        result = forward(self, **kwargs)
        outputs = result if isinstance(result, tuple) else (result,)
        if len(outputs) != len(self.output_types):
            raise NeuralTypeError(
                f"{_name(self)} declares {list(self.output_types)}, but gave {len(outputs)}"
            )
        for tensor, (name, declared) in zip(outputs, self.output_types.items(), strict=True):
            _check_shape(self, name, declared, tensor)
            tensor.neural_type = declared
        return result

    checked.__signature__ = inspect.signature(forward)
    return checked


@contextmanager
def typecheck_disabled() -> Iterator[None]:
    """Within this context :func:`typecheck` checks nothing and labels nothing.

    >>> with typecheck_disabled():
    ...     ElementType().compare(ElementType()).name
    'SAME'
    """
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def _check_inputs(module: Any, given: dict[str, Any]) -> None:
    for name in given:
        if name not in module.input_types:
            raise NeuralTypeError(
                f"{_name(module)} has no input {name!r}, only {', '.join(module.input_types)}"
            )
    for name, declared in module.input_types.items():
        tensor = given.get(name)
        if tensor is None:
            if not declared.optional:
                raise NeuralTypeError(f"{_name(module)} needs the input {name!r}, a {declared}")
            continue
        carried = getattr(tensor, "neural_type", None)
        if carried is not None:
            result = declared.compare(carried)
            if result not in (_Result.SAME, _Result.GREATER):
                raise NeuralTypeError(
                    f"{_name(module)} declares {name!r} as {declared}, got {carried}: "
                    f"{result.value if result is not _Result.LESS else 'more general than declared'}"
                )
        _check_shape(module, name, declared, tensor)


def _check_shape(module: Any, name: str, declared: NeuralType, tensor: Tensor) -> None:
    fits = tensor.dim() == len(declared.axes) and all(
        axis.size in (None, n) for axis, n in zip(declared.axes, tensor.shape, strict=True)
    )
    if not fits:
        raise NeuralTypeError(
            f"{_name(module)} declares {name!r} as {declared}, got shape {tuple(tensor.shape)}"
        )


def _name(module: Any) -> str:
    return type(module).__name__
