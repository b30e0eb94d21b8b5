"""The cases of an exercise with their right outcomes, on which every answer and every mistake is tried."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.classroom._outcomes import Case, Difference, Outcome, Tolerance, call, difference, expect
from course_lib.contexts import isolated

Build = tuple | Mapping[str, Any] | None


class UnfitError(Exception):
    """The answer cannot even be tried; the text continues a sentence that begins with its name."""

    def __init__(self, text: str, kind: str):
        super().__init__(text)
        self.kind = kind


class Trial:
    """Runs of the right answer: every case, and for modules every case in both modes."""

    def __init__(self, against: Any, cases: Sequence[Any], build: Build, tolerance: Tolerance):
        self.tolerance, self.build = tolerance, build
        self.right = _built(against, build)
        self.state = _perturbed_state(self.right) if isinstance(self.right, nn.Module) else None
        self.cases = [Case.of(self.right, case) for case in cases]
        modes = (None,) if self.state is None else (True, False)
        self.runs = [(case, mode) for case in self.cases for mode in modes]
        self.expected = [expect(_in_mode(self.right, mode), case) for case, mode in self.runs]
        self._tried: dict[int, list[Outcome]] = {}
        self._require_sense()

    @property
    def count(self) -> int:
        """The number of cases."""
        return len(self.cases)

    @property
    def has_gradients(self) -> bool:
        """True if a gradient flows in some run."""
        return any(outcome.gradients for outcome in self.expected)

    def outcomes_of(self, candidate: Any) -> list[Outcome]:
        """What the candidate does in every run."""
        try:
            built = _built(candidate, self.build)
        except Exception as error:
            raise UnfitError(f"could not be built: {type(error).__name__}: {error}", "exception") from error
        if not callable(built):
            raise UnfitError(f"is {built!r}: pass the function itself to check, not a result", "type")
        if self.state is not None and isinstance(built, nn.Module):
            untouched = call(built, self.cases[0], tracked=False)
            if untouched.value is None and untouched.error is None:  # no use in speaking of parameters yet
                return [Outcome()] * len(self.runs)
            _load(built, self.state)
        pairs = zip(self.runs, self.expected, strict=True)
        return [call(_in_mode(built, mode), case, like=right) for (case, mode), right in pairs]

    def differences(self, outcomes: Sequence[Outcome]) -> list[Difference | None]:
        """How each run differs from the right one."""
        return [difference(e, o, self.tolerance) for e, o in zip(self.expected, outcomes, strict=True)]

    def matching(self, answer: Sequence[Outcome], mistakes: Sequence[Any]) -> list[int]:
        """The mistakes that the answer equals wherever they show; of several, those that show most often."""
        shows: dict[int, int] = {}
        for i, wrong in enumerate(mistakes):
            outcomes = self._tried.get(id(wrong)) or self.outcomes_of(wrong)
            self._tried[id(wrong)] = outcomes  # mistakes are often tried against each other
            seen = [run for run, found in enumerate(self.differences(outcomes)) if found]
            if seen and not any(difference(outcomes[run], answer[run], self.tolerance) for run in seen):
                shows[i] = len(seen)
        return [i for i, count in shows.items() if count == max(shows.values())]

    def _require_sense(self) -> None:
        if not self.cases:
            raise ValueError("the exercise has no inputs: give at least one case")
        errors = [outcome.error for outcome in self.expected]
        for error, (case, _) in zip(errors, self.runs, strict=True):
            if error is not None and (all(errors) or not isinstance(error, ValueError)):
                given = ", ".join(case.describe())
                raise ValueError(
                    f"the right answer itself fails on {given}: {error!r}; are the inputs right?"
                )


def _built(target: Any, build: Build) -> Any:
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
