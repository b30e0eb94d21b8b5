"""``check_layer``: one contract that every layer of the course passes, for anyone's own ``nn.Module`` too."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from course_lib.classroom._contract import CHECKS, HOUSE_RULES, SLOW
from course_lib.classroom._contract.subject import (
    SEED,
    Failure,
    NotApplicable,
    Subject,
    described,
    reseed,
    tensors_in,
)
from course_lib.contexts import isolated, one_thread
from course_lib.registry import Traits, suggest
from course_lib.tables import Displayed, Table

_SIGNS = {"passed": "✓", "failed": "✗", "excepted": "!", "not applicable": "–"}


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        status: "passed", "failed", "excepted" (fails, and an exception says why) or "not applicable".
        message: what was seen and the likely fix; empty where the check passed.
        seconds: how long it took.
    """

    status: str
    message: str
    seconds: float


@dataclass(frozen=True, repr=False)
class Report:
    """What all checks found about one layer; prints as a list, shows as a table in a notebook.

    Attributes:
        name: the layer's class.
        results: name of the check to its :class:`Result`, in the order of the contract.
    """

    name: str
    results: dict[str, Result]

    @property
    def ok(self) -> bool:
        """True where no check failed."""
        return not self.failed

    @property
    def failed(self) -> list[str]:
        """Names of the failed checks."""
        return [name for name, result in self.results.items() if result.status == "failed"]

    @property
    def seconds(self) -> float:
        """How long all checks took together; not printed, since a page of the book must repeat itself."""
        return sum(result.seconds for result in self.results.values())

    @property
    def summary(self) -> str:
        """One line: how many checks ended how."""
        statuses = [result.status for result in self.results.values()]
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in _SIGNS if status in statuses)
        return f"{self.name}: {counts}"

    def __repr__(self) -> str:
        width = max(map(len, self.results))
        lines = [
            f"  {_SIGNS[r.status]} {name:<{width}}  {r.message}".rstrip() for name, r in self.results.items()
        ]
        return "\n".join([self.summary, *lines])

    def _repr_html_(self) -> str:
        what = documented_checks()
        rows = [
            [
                Displayed(f"<code>{name}</code>", name),
                f"{_SIGNS[r.status]} {r.status}",
                r.message or what[name],
            ]
            for name, r in self.results.items()
        ]
        return Table(rows, ["check", "result", "what"], self.summary, align="lll").html_text


class LayerCheckError(AssertionError):
    """A layer breaks the contract; the message lists every failed check, ``report`` holds all."""

    def __init__(self, report: Report) -> None:
        self.report = report
        lines = [f"  {name}: {report.results[name].message}" for name in report.failed]
        super().__init__("\n".join([report.summary, *lines]))

    def __reduce__(self) -> tuple:
        return type(self), (self.report,)  # so that it survives the way back from another process


def check_layer(
    module_or_factory: Any,
    *inputs: Any,
    slow: bool = False,
    house_rules: bool = True,
    exceptions: dict[str, str] | None = None,
    **traits: bool,
) -> Report:
    """Run every check of the contract on a layer, and raise one error that lists all failures.

    The layer is copied, never changed; random numbers are seeded inside and left as they were outside. Axis 0
    of the inputs is the batch, axis 1 time or position; give the axes of the example different sizes. If the
    layer returns several tensors, the first is the output. :func:`documented_checks` lists the checks.

    Args:
        module_or_factory: an ``nn.Module``; or a function without arguments that returns
            ``(module, *inputs)``, which also lets ``state_dict_round_trip`` build the layer anew.
        inputs: example inputs, small, beside an ``nn.Module``.
        slow: also run what takes seconds (``compiled``, ``export``).
        house_rules: also ask what this course asks of its own layers beyond what torch asks of any: that
            traits are declared, what a wrong width raises, start values by ``reset_parameters``. False for
            layers of other libraries.
        exceptions: ``{check: reason}`` for what this layer cannot pass. Strict: one that is not needed fails.
        traits: fields of :class:`course_lib.registry.Traits` that hold for the layer: ``causal=True``.

    Returns: the :class:`Report`.

    Raises:
        LayerCheckError: if a check fails.
        ValueError: for an unknown check or trait, an exception without a reason, or no layer with inputs.

    >>> from torch import nn, ones, randn
    >>> reason = "torch raises RuntimeError"
    >>> check_layer(nn.LayerNorm(6), randn(2, 5, 6), exceptions={"wrong_last_dim": reason}).ok
    True
    >>> try:
    ...     check_layer(nn.Dropout(0.5), ones(2, 6))
    ... except LayerCheckError as error:
    ...     print(error.report.failed)
    ['eval_deterministic']
    """
    exceptions = dict(exceptions or {})
    _require_known("check", exceptions, CHECKS)
    _require_known("trait", traits, {field.name for field in fields(Traits)})
    for name, reason in exceptions.items():
        if not str(reason).strip():
            raise ValueError(f"the exception from {name} has no reason; say why the layer cannot pass")
    # One thread: layers this small lose time with more, about tenfold on a busy machine.
    with one_thread(), isolated(SEED), torch.inference_mode(False), torch.enable_grad():
        layer = _subject(module_or_factory, inputs, Traits(**traits))
        layer.house_rules = house_rules
        if any(nn.parameter.is_lazy(p) for p in layer.module.parameters()):
            raise ValueError("the layer has no sizes yet; call it once on an input, then check it")
        broken = _does_not_run(layer)
        left_out = dict.fromkeys(() if slow else SLOW, "slow=True runs it")
        left_out |= dict.fromkeys(() if house_rules else HOUSE_RULES, "a house rule")
        results = broken or {
            name: Result("not applicable", left_out[name], 0.0)
            if name in left_out
            else _judge(name, layer, exceptions.get(name))
            for name in CHECKS
        }
    report = Report(layer.name, results)
    if not report.ok:
        raise LayerCheckError(report)
    return report


def documented_checks() -> dict[str, str]:
    """Name of every check to the sentence that says what it asks, in the order of the report.

    >>> documented_checks()["input_unmodified"]
    'The inputs hold the same values after the call as before.'
    """
    return {name: check.__doc__.strip().splitlines()[0] for name, check in CHECKS.items()}


def _subject(module_or_factory: Any, inputs: tuple, traits: Traits) -> Subject:
    if isinstance(module_or_factory, nn.Module):
        if not inputs:
            raise ValueError("no example input; call check_layer(module, x) with a small x")
        return Subject(module_or_factory, inputs, traits)
    if isinstance(module_or_factory, type) or not callable(module_or_factory):
        raise ValueError(
            "check_layer takes a module or a function that returns (module, *inputs), "
            f"got {str(module_or_factory)[:100]}; build the layer first, for instance Layer(16)"
        )
    if inputs:
        raise ValueError(
            "a factory brings its own inputs; let it return (module, *inputs) and pass nothing else"
        )
    return _built(module_or_factory, traits)


def _built(factory: Callable[[], tuple], traits: Traits) -> Subject:
    def build() -> tuple:
        reseed()
        built = factory()
        if not isinstance(built, tuple) or len(built) < 2 or not isinstance(built[0], nn.Module):
            raise ValueError(f"the factory must return (module, *inputs), got {type(built).__name__}")
        return built

    module, *inputs = build()
    # A factory that hands out one and the same module builds nothing anew.
    builds_anew = build()[0] is not module
    return Subject(module, tuple(inputs), traits, factory if builds_anew else None)


def _does_not_run(layer: Subject) -> dict[str, Result]:
    """The whole report of a layer that cannot be copied or called at all; empty where it runs."""
    culprit, start = "deepcopy_pickle", time.perf_counter()
    try:
        for train in (False, True):
            module = layer.fresh(train=train)
            culprit = "output_shape_dtype"
            if not tensors_in(layer.call(module)):
                raise TypeError("forward returns no tensor; return the output")
    except Exception as error:
        fix = {
            "output_shape_dtype": "call it on these inputs",
            "deepcopy_pickle": "pass a function that builds it",
        }
        message = f"the layer does not run: {described(error)}; {fix[culprit]}"
        failed = Result("failed", message, time.perf_counter() - start)
        skipped = Result("not applicable", f"see {culprit}", 0.0)
        return {name: failed if name == culprit else skipped for name in CHECKS}
    return {}


def _judge(name: str, layer: Subject, reason: str | None) -> Result:
    start = time.perf_counter()
    reseed()
    status, message = "passed", ""
    try:
        CHECKS[name](layer)
    except NotApplicable as why:
        status, message = "not applicable", str(why)
    except Failure as seen:
        status, message = "failed", str(seen)
    except Exception as error:
        status, message = "failed", f"the layer raises {described(error)}"
    if reason is not None:
        useless = f"the check is {status} for this layer; remove the exception ({reason})"
        status, message = ("excepted", reason) if status == "failed" else ("failed", useless)
    return Result(status, message, time.perf_counter() - start)


def _require_known(kind: str, given: Any, known: Any) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}{suggest(name, known) or f'; known: {sorted(known)}'}")
