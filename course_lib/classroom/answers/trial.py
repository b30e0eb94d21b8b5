"""The inputs of an exercise with their right outcomes, on which answers and mistakes are tried."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.classroom.answers.outcomes import (
    Case,
    Difference,
    Outcome,
    Tolerance,
    UnwrittenError,
    call,
    difference,
    expect,
    is_finite,
)
from course_lib.contexts import isolated

Build = tuple | Mapping[str, Any] | None


class UnfitError(Exception):
    """The answer cannot even be tried; the text continues a sentence that begins with its name."""

    def __init__(self, text: str, kind: str):
        super().__init__(text)
        self.kind = kind


def require_function(answer: Any) -> None:
    """Refuse what cannot be called: a learner has passed a result."""
    if not callable(answer):
        raise UnfitError(f"is {answer!r}: pass the function itself to check, not a result", "type")


class Trial:
    """Runs of the right answer: every case, and for modules every case in both modes."""

    def __init__(
        self,
        right: Any,
        cases: Sequence[Any],
        *,
        build: Build = None,
        tolerance: Tolerance | None = None,
        run: Callable | None = None,
        see: Callable | None = None,
    ):
        self.tolerance, self.build, self._run, self._see = tolerance or Tolerance(), build, run, see
        self._silent = False
        self.right = _built(right, build)
        self.state = _perturbed_state(self.right) if isinstance(self.right, nn.Module) else None
        self.cases = [Case.of(self.right, given) for given in cases]
        modes = (None,) if self.state is None else (True, False)
        self.runs = [(given, mode) for given in self.cases for mode in modes]
        seen = self.seen(self.right, oracle=True)
        self.expected = [expect(_in_mode(seen, mode), given) for given, mode in self.runs]
        self._require_sense()

    @property
    def has_gradients(self) -> bool:
        """True if a gradient flows in some run."""
        return any(outcome.gradients for outcome in self.expected)

    def seen(self, answer: Any, *, oracle: bool = False) -> Any:
        """The answer as it is compared: called by ``run``, its result read by ``see``."""
        if isinstance(answer, nn.Module) or (self._run is None and self._see is None):
            return answer

        def watched(*args: Any, **kwargs: Any) -> Any:
            result = answer(*args, **kwargs)
            if oracle:
                self._silent |= result is None
            elif result is None and not self._silent:
                raise UnwrittenError
            return result

        def seen(*args: Any, **kwargs: Any) -> Any:
            result = watched(*args, **kwargs) if self._run is None else self._run(watched, *args, **kwargs)
            return result if self._see is None or result is None else self._see(result)

        return seen

    def outcomes_of(self, candidate: Any) -> list[Outcome]:
        """What the candidate does in every run."""
        try:
            built = _built(candidate, self.build)
        except Exception as error:
            raise UnfitError(f"could not be built: {type(error).__name__}: {error}", "exception") from error
        require_function(built)
        if self.state is not None and isinstance(built, nn.Module):
            untouched = call(built, self.cases[0], tracked=False)
            if untouched.value is None and untouched.error is None:  # no use in speaking of parameters yet
                return [Outcome()] * len(self.runs)
            _load(built, self.state)
        pairs = zip(self.runs, self.expected, strict=True)
        seen = self.seen(built)
        return [call(_in_mode(seen, mode), given, like=right) for (given, mode), right in pairs]

    def differences(
        self, outcomes: Sequence[Outcome], *, values_only: bool = False
    ) -> list[Difference | None]:
        """How each run differs from the right one."""
        pairs = zip(self.expected, outcomes, strict=True)
        return [difference(e, o, self.tolerance, values_only=values_only) for e, o in pairs]

    def _require_sense(self) -> None:
        if not self.cases:
            raise ValueError("the exercise has no inputs: give at least one case")
        errors = [outcome.error for outcome in self.expected]
        for outcome, (given, _) in zip(self.expected, self.runs, strict=True):
            error, words = outcome.error, ", ".join([given.label, *given.describe({})]).strip(", ")
            if error is not None and (all(errors) or not isinstance(error, ValueError)):
                raise ValueError(
                    f"the right answer itself fails on {words}: {error!r}; are the inputs right?"
                )
            if not is_finite(outcome):
                raise ValueError(f"the right answer or its gradient is not finite on {words}")


class Mistakes:
    """Known wrong answers, tried on the same runs as the learner's."""

    def __init__(self, trial: Trial, wrong: Mapping[str, Any]):
        self.trial, self.wrong = trial, wrong
        self._tried: dict[str, tuple[list[Outcome], list[int]]] = {}

    def tried(self, name: str) -> tuple[list[Outcome], list[int]]:
        """The outcomes of a mistake, and the runs in which it shows."""
        if name not in self._tried:
            outcomes = self.trial.outcomes_of(self.wrong[name])
            seen = [run for run, found in enumerate(self.trial.differences(outcomes)) if found]
            self._tried[name] = outcomes, seen
        return self._tried[name]

    def matching(self, answer: Sequence[Outcome], *, values_only: bool = False) -> list[str]:
        """The mistakes that the answer equals wherever they show; of several, those that show most often."""
        shows: dict[str, int] = {}
        for name in self.wrong:
            outcomes, seen = self.tried(name)
            if seen and all(self._same(outcomes[run], answer[run], values_only) for run in seen):
                shows[name] = len(seen)
        return [name for name, count in shows.items() if count == max(shows.values())]

    def covering(self, answer: Sequence[Outcome], failing: Sequence[int]) -> list[str]:
        """Two mistakes of which one or the other explains each run that fails."""
        explains = {}
        for name in self.wrong:
            outcomes, seen = self.tried(name)
            explains[name] = {
                run for run in failing if run in seen and self._same(outcomes[run], answer[run])
            }
        for pair in combinations([name for name, runs in explains.items() if runs], 2):
            if explains[pair[0]] | explains[pair[1]] == set(failing):
                return list(pair)
        return []

    def _same(self, known: Outcome, answer: Outcome, values_only: bool = False) -> bool:
        return difference(known, answer, self.trial.tolerance, values_only=values_only) is None


def _built(target: Any, build: Build) -> Any:
    """A module in double precision; functions as they are."""
    if isinstance(target, nn.Module):
        return copy.deepcopy(target).double()
    if not (inspect.isclass(target) and issubclass(target, nn.Module)):
        return target
    with isolated(0):
        module = target(**build) if isinstance(build, Mapping) else target(*(build or ()))
    return module.double()


def _perturbed_state(module: nn.Module) -> dict[str, Tensor]:
    """Move every parameter a little: gains of one and shifts of zero would hide that they are not used."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return dict(module.state_dict())


def _load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    def shapes(of: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        return {k: tuple(v.shape) for k, v in of.items() if not k.endswith("num_batches_tracked")}

    wanted, have = shapes(state), shapes(module.state_dict())
    if wanted != have:
        text = f"has the parameters and buffers {have or 'none'}, expected {wanted or 'none'}"
        raise UnfitError(text, "state")
    module.load_state_dict(state, strict=False)


def _in_mode(target: Any, training: bool | None) -> Any:
    return target if training is None or not isinstance(target, nn.Module) else target.train(training)
