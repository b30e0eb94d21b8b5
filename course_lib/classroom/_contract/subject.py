"""The layer under test: a fresh copy, fresh inputs and a fixed seed for every run.

No check can see what another one left behind, and the caller's module, inputs and random numbers stay as they
were.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import jaxtyping
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from course_lib.contexts import seed_all
from course_lib.registry import Traits

SEED = 0


class Failure(Exception):
    """The layer breaks the contract; the message says what was seen and the likely fix."""


class NotApplicable(Exception):
    """The check says nothing about this layer; the message says why."""


def reseed(seed: int = SEED) -> None:
    """Start all sources of random numbers that a layer may draw from."""
    seed_all(seed)


@contextmanager
def as_installed() -> Iterator[None]:
    """Switch jaxtyping's run-time checks off, which exist under pytest only.

    They would raise before the layer's own ``ValueError`` could, and dynamo cannot trace through them.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Apply a function to every tensor in nested tuples, lists and dicts; all else stays."""
    return tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts, in the order in which they stand."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def other_values(x: Tensor) -> Tensor:
    """A tensor that differs from ``x`` in every entry, made of values that occur in ``x``.

    So token ids stay valid ids and positive numbers positive. A constant float tensor gets noise instead; a
    constant integer tensor stays, since nothing tells which other values are allowed.
    """
    values, where = x.detach().unique(return_inverse=True)
    if len(values) < 2:
        return x + torch.randn(x.shape, dtype=x.dtype).to(x.device) if x.is_floating_point() else x.clone()
    shift = torch.randint(1, len(values), x.shape).to(x.device)
    return values[(where + shift) % len(values)]


def gap(a: Tensor, b: Tensor) -> Tensor:
    """Distance entry by entry; 0 where both are NaN or the same infinity, infinite where only one is."""
    same = (a == b) | (a.isnan() & b.isnan())
    return torch.where(same, 0.0, (a.double() - b.double()).abs()).nan_to_num(nan=torch.inf)


def described(error: Exception) -> str:
    """Type and first line of an exception, at most 200 characters."""
    line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {line}"[:200]


def listed(names: list[str]) -> str:
    """The first three names, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _cloned(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    wanted = dtype if dtype is not None and x.is_floating_point() else x.dtype
    return x.detach().to(wanted, copy=True)


def _changed(x: Tensor, axis: int, index: int) -> Tensor:
    return x.detach().index_copy(
        axis, torch.tensor([index]).to(x.device), other_values(x).narrow(axis, index, 1)
    )


class Subject:
    """One layer with its example inputs and declared traits.

    Attributes:
        house_rules: whether traits must be declared.

    Args:
        module: the layer; only copies of it are run.
        inputs: what its forward takes.
        traits: what is declared to hold for it.
        factory: builds module and inputs anew, where the caller gave one.
    """

    def __init__(
        self, module: nn.Module, inputs: tuple, traits: Traits, factory: Callable[[], tuple] | None = None
    ) -> None:
        self.module, self.inputs, self.traits, self.factory = module, inputs, traits, factory
        self.house_rules = True

    @property
    def rebuild(self) -> Callable[[], nn.Module] | None:
        """Builds the module anew, where there is a factory."""
        factory = self.factory
        return None if factory is None else lambda: factory()[0]

    @property
    def name(self) -> str:
        """The class of the module."""
        return type(self.module).__name__

    @property
    def x(self) -> Tensor | None:
        """The first input, whose axes the traits speak of."""
        return self.inputs[0] if isinstance(self.inputs[0], Tensor) else None

    def fresh(self, *, train: bool = False, dtype: torch.dtype | None = None) -> nn.Module:
        """A copy as handed in (rebuilt if it cannot be copied), in evaluation mode unless ``train``."""
        try:
            module = copy.deepcopy(self.module)
        except Exception:
            if self.rebuild is None:
                raise
            module = self.rebuilt()
        return (module if dtype is None else module.to(dtype)).train(train)

    def rebuilt(self, seed: int = SEED) -> nn.Module:
        """The module built anew under a seed; a copy of it, in case it shares parts with an earlier build."""
        reseed(seed)
        module = self.rebuild()
        try:
            return copy.deepcopy(module)
        except Exception:
            return module

    def arguments(self, inputs: tuple | None = None, *, dtype: torch.dtype | None = None) -> tuple:
        """Clones of the inputs, floating ones in the dtype asked for."""
        return map_tensors(lambda x: _cloned(x, dtype), self.inputs if inputs is None else inputs)

    def call(
        self,
        module: nn.Module,
        inputs: tuple | None = None,
        *,
        dtype: torch.dtype | None = None,
        seed: int = SEED,
    ) -> Any:
        """What ``module`` returns for clones of the inputs, seeded and without gradients."""
        reseed(seed)
        with torch.no_grad():
            return module(*self.arguments(inputs, dtype=dtype))

    def output(
        self,
        inputs: tuple | None = None,
        *,
        train: bool = False,
        dtype: torch.dtype | None = None,
        seed: int = SEED,
    ) -> Tensor:
        """The first tensor that a fresh copy returns."""
        return tensors_in(self.call(self.fresh(train=train, dtype=dtype), inputs, dtype=dtype, seed=seed))[0]

    @cached_property
    def exact(self) -> torch.dtype | None:
        """float64 where the layer runs in it, else None: its own dtype. For comparisons free of rounding."""
        try:
            return torch.float64 if self.output(dtype=torch.float64).dtype == torch.float64 else None
        except Exception:
            return None  # reported by the check of dtypes

    def differ(self, a: Tensor, b: Tensor) -> Tensor:
        """Where two outputs differ by more than rounding."""
        finite = torch.cat([a.flatten(), b.flatten()]).double().nan_to_num(0.0, 0.0, 0.0).abs()
        scale = finite.max() if len(finite) else finite.sum()
        return gap(a, b) > (1e-9 if a.dtype == torch.float64 else 1e-4) * scale

    def changed(self, axis: int, index: int) -> tuple:
        """Inputs with other values at one index of one axis.

        Every input that has the same sizes as the first one up to that axis is changed there: queries, keys
        and values, or input and state.
        """
        lead = self.x.shape[: axis + 1]
        reseed()
        return map_tensors(
            lambda x: _changed(x, axis, index) if x.shape[: axis + 1] == lead else x, self.inputs
        )

    @cached_property
    def draws_random(self) -> bool:
        """True where two seeds give two outputs in training mode."""
        first = self.output(train=True)
        others = (self.output(train=True, seed=SEED + i) for i in range(1, 8))
        return any(other.shape != first.shape or self.differ(first, other).any() for other in others)
