"""What an exercise asks to do without, measured while the answer runs."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Usage:
    """What an answer used: torch's functions by name and how often, and its largest tensor."""

    calls: Counter
    largest: int = 0


@dataclass(frozen=True)
class Rule:
    """A clause of a statement that values cannot show; ``broken`` says how, or gives an empty text.

    ``sizes`` says that it asks for the largest tensor, which is dear: torch loads its compiler to see it.
    """

    name: str
    broken: Callable[..., str]
    sizes: bool = False


def without(*names: str) -> Rule:
    """The answer calls none of these functions of torch (``"softmax"``, ``"mish"``; ``"autograd"``).

    Args:
        names: as torch calls them; a function and the method of the same name are one.

    >>> without("softmax").name
    'without softmax'
    """

    def broken(usage: Usage, *_: Any, **__: Any) -> str:
        used = [name for name in names if usage.calls[name]]
        return f"it uses {' and '.join(used)}, and the exercise asks to do without" if used else ""

    return Rule(f"without {', '.join(names)}", broken)


def at_most_calls(limit: Callable[..., int] | int, why: str) -> Rule:
    """The answer calls torch at most so often: a number, or a function of the arguments.

    Args:
        limit: of a run.
        why: the sentence of the statement that asks for it, for the learner.
    """

    def broken(usage: Usage, *args: Any, **kwargs: Any) -> str:
        most, count = limit(*args, **kwargs) if callable(limit) else limit, usage.calls.total()
        return f"it calls torch {count} times, at most {most} are needed: {why}" if count > most else ""

    return Rule("at most so many calls", broken)


def no_tensor_above(limit: Callable[..., int], why: str) -> Rule:
    """No tensor that the answer makes holds more numbers than ``limit(*arguments)``.

    Args:
        limit: of a run, from its arguments.
        why: the sentence of the statement that asks for it, for the learner.
    """

    def broken(usage: Usage, *args: Any, **kwargs: Any) -> str:
        most = limit(*args, **kwargs)
        if usage.largest <= most:
            return ""
        return f"it makes a tensor of {usage.largest} numbers, the largest that is needed has {most}: {why}"

    return Rule("no tensor above a size", broken, sizes=True)


class _Functions(TorchFunctionMode):
    def __init__(self, calls: Counter):
        super().__init__()
        self._calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if not name.startswith("__get"):  # an attribute, such as x.shape
            self._calls[name] += 1
        if name == "backward":
            self._calls["autograd"] += 1
        return func(*args, **(kwargs or {}))


class _Sizes(TorchDispatchMode):
    def __init__(self, usage: Usage):
        super().__init__()
        self._usage = usage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_storage(x).data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for leaf in tree_leaves(result):
            # What only looks at a given tensor in another way (a view) takes no memory.
            if isinstance(leaf, Tensor) and _storage(leaf).data_ptr() not in given:
                self._usage.largest = max(self._usage.largest, _storage(leaf).nbytes() // leaf.element_size())
        return result


def _storage(x: Tensor) -> torch.UntypedStorage:
    return x.untyped_storage()


@contextmanager
def watched(*, sizes: bool = True) -> Iterator[Usage]:
    """Count what runs inside the block, and with ``sizes`` find its largest tensor."""
    usage = Usage(Counter())

    def counted(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            usage.calls["autograd"] += 1
            return function(*args, **kwargs)

        return wrapper

    with ExitStack() as stack:
        for owner, name in (
            (torch.autograd, "grad"),
            (torch.autograd, "backward"),
            (torch.func, "grad"),
            (torch.func, "vjp"),
            (torch.func, "jacrev"),
            (torch.func, "jacfwd"),
            (torch.autograd.functional, "jacobian"),
            (torch.autograd.functional, "vjp"),
        ):
            stack.enter_context(mock.patch.object(owner, name, counted(getattr(owner, name))))
        stack.enter_context(_Functions(usage.calls))
        if sizes:
            stack.enter_context(_Sizes(usage))
        yield usage
