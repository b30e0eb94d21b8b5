"""One exercise: the right answer, inputs, known mistakes, and what is to be said about an answer."""

import linecache
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

from course_lib.classroom.answers.failure import Diagnosis, Failure
from course_lib.classroom.answers.outcomes import (
    KINDS,
    Case,
    Difference,
    Outcome,
    Tolerance,
    beside,
    call,
    is_single,
)
from course_lib.classroom.answers.probes import explain
from course_lib.classroom.answers.results import explain_gradient, explain_nan, explain_shape
from course_lib.classroom.answers.rules import Rule, Usage, watched
from course_lib.classroom.answers.trial import Build, Mistakes, Trial, UnfitError, require_function

UNWRITTEN = "returned None: write its body first"
Cases = Callable[[], Iterator[Any] | Sequence[Any]] | Sequence[Any]


@dataclass(frozen=True)
class Verdict:
    """What was found out about an answer.

    Args:
        kind: ``"right"``, or the kind of the first finding: ``"unwritten"``, ``"exception"``, ``"type"``,
            ``"shape"``, ``"dtype"``, ``"in place"``, ``"nan"``, ``"value"``, ``"state"``, ``"gradient"``,
            ``"rule"``.
        text: the finding, several lines.
        diagnoses: the mistakes that would explain it.
        cause: what the answer raised.
    """

    kind: str
    text: str
    diagnoses: tuple[Diagnosis, ...] = ()
    cause: Exception | None = None

    @property
    def right(self) -> bool:
        """Whether nothing was found."""
        return self.kind == "right"


class Asked:
    """Which mistakes a copy of the right answer is to make: every other name is false.

    >>> Asked(("unbiased",)).unbiased, Asked(("unbiased",)).transposed
    (True, False)
    """

    def __init__(self, names: Sequence[str]):
        self._names = frozenset(names)

    def __getattr__(self, name: str) -> bool:
        return name in self._names


@dataclass
class Exercise:
    """One function that learners write; made by :meth:`Exercises.add` or :meth:`Exercises.accept`."""

    name: str
    oracle: Callable
    cases: Cases
    hints: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    build: Build = None
    run: Callable | None = None
    see: Callable | None = None
    accepts: bool = False
    known: dict[str, tuple[str, Any]] = field(default_factory=dict)
    pairs: dict[str, tuple[tuple[str, ...], Any]] = field(default_factory=dict)
    copies: list[Callable] = field(default_factory=list)

    def mistake(self, hint: str) -> Callable[[Any], Any]:
        """Mark a small wrong answer; whoever makes the same mistake is shown the hint.

        Args:
            hint: one or two sentences that lead to the fault without giving the answer.

        Raises:
            ValueError: for an empty hint, or a name that stands for another mistake.
        """

        def mark(wrong: Any) -> Any:
            self._know(wrong.__name__, hint, wrong)
            return wrong

        return mark

    def mistakes(self, **hints: str) -> Callable[[Callable], Callable]:
        """Mark a copy of the right answer that makes mistakes on request, one or two at a time.

        The copy has one more argument, ``wrong``: where ``wrong.unbiased`` is true, it makes the mistake
        ``unbiased``.

        One copy may be marked twice: two at a time are then of one mark, which keeps their number small.

        Args:
            hints: what to tell a learner, by the names of the mistakes.

        Raises:
            ValueError: for an empty hint, or a name already in use.
        """

        def mark(function: Callable) -> Callable:
            def making(*names: str) -> Callable:
                wrong = Asked(names)

                def answer(*args: Any, **kwargs: Any) -> Any:
                    return function(*args, **kwargs, wrong=wrong)

                answer.__name__ = " and ".join(names) or "the copy"
                return answer

            for name, hint in hints.items():
                self._know(name, hint, making(name))
            for a, b in combinations(hints, 2):
                self.pairs[f"{a} and {b}"] = ((a, b), making(a, b))
            self.copies.append(making())
            return function

        return mark

    def _know(self, name: str, hint: str, wrong: Any) -> None:
        if not isinstance(hint, str) or not hint.strip():
            raise ValueError(f"the mistake {name} of {self.name} needs a hint")
        if name in self.known:
            raise ValueError(f"{self.name} has two mistakes of the name {name}")
        self.known[name] = (hint, wrong)

    @cached_property
    def trial(self) -> Trial:
        """The inputs with their right outcomes; computed when first asked for.

        Raises:
            ValueError: where the right answer fails, or is not finite in value and gradient.
        """
        cases = list(self.cases() if callable(self.cases) else self.cases)
        oracle = _nothing if self.accepts else self.oracle
        options = {"build": self.build, "run": self.run, "see": self.see}
        return Trial(oracle, cases, tolerance=self.tolerance, **options)

    @cached_property
    def _tried(self) -> Mistakes:
        return Mistakes(self.trial, {name: wrong for name, (_, wrong) in self.known.items()})

    @cached_property
    def _tried_pairs(self) -> Mistakes:
        return Mistakes(self.trial, {name: wrong for name, (_, wrong) in self.pairs.items()})

    # ----------------------------------------------------------------------------- judging

    def judge(self, answer: Any) -> Verdict:
        """What is to be said about an answer; nothing is printed or raised."""
        if self.accepts:
            return self._judge_accepted(answer)
        trial = self.trial
        try:
            outcomes = trial.outcomes_of(answer)
        except UnfitError as error:
            return Verdict(error.kind, str(error), cause=error.__cause__)
        found = trial.differences(outcomes)
        if not any(found):
            return self._judge_rules(answer, outcomes)
        order = sorted((KINDS.index(d.kind), trial.runs[i][0].size, i) for i, d in enumerate(found) if d)
        first = order[0][2]
        kind = found[first].kind
        if kind == "unwritten":
            if all(outcome.value is None for outcome in outcomes):
                return Verdict(kind, UNWRITTEN)
            kind = "type"  # only some of the cases end without a result
        if kind == "gradient" and (broken := self._judge_rules(answer, outcomes)).kind == "rule":
            return broken  # who uses autograd where it is forbidden has no gradient of the result either
        failing = [i for _, _, i in order if found[i].kind == found[first].kind]
        diagnoses = self._diagnose(answer, outcomes, kind, failing, found)
        text = self._text(answer, found[first], kind, first, failing, outcomes)
        return Verdict(kind, text, tuple(diagnoses), outcomes[first].error)

    def _judge_accepted(self, answer: Any) -> Verdict:
        try:
            require_function(answer)
        except UnfitError as error:
            return Verdict(error.kind, str(error))
        for given in self.trial.cases:
            try:
                result = answer(*given.args, **given.kwargs)
            except Exception as error:
                unwritten = isinstance(error, NotImplementedError)
                text = "\n".join([f"raised {type(error).__name__}: {error}", *_where(error)])
                return Verdict("unwritten" if unwritten else "exception", text, cause=error)
            if result is None:
                return Verdict("unwritten", UNWRITTEN)
            try:
                complaint = self.oracle(result, *given.args, **given.kwargs)
            except Exception as error:
                text = f"returned {result!r}, which is not of the form that is asked for"
                return Verdict("type", f"{text} ({type(error).__name__}: {error})", cause=error)
            if complaint:
                return Verdict("value", complaint)
        return Verdict("right", "accepted")

    def _judge_rules(self, answer: Any, outcomes: Sequence[Outcome]) -> Verdict:
        trial = self.trial
        for rule in self.rules:
            for given, _ in trial.runs:
                usage = self._usage(answer, given, rule)
                broken = rule.broken(usage, *given.args, **given.kwargs) if usage else ""
                if broken:
                    text = f"The values are right, but {broken}."
                    return Verdict("rule", text, (Diagnosis(rule.name, broken),))
        what = "values and gradients agree" if trial.has_gradients else "values agree"
        count = len(trial.cases)
        text = f"{count} case{'s' if count != 1 else ''}, {what}"
        if trial.has_gradients and any(is_single(outcome.value) for outcome in outcomes):
            text += " (to single precision: your result is float32 where the input is float64)"
        return Verdict("right", text)

    def _usage(self, answer: Any, given: Case, rule: Rule) -> Usage | None:
        """What the answer's own calls use; ``run`` may itself use what the rule forbids."""
        usage = None

        def own(*args: Any, **kwargs: Any) -> Any:
            nonlocal usage
            with watched(sizes=rule.sizes) as usage:
                return answer(*args, **kwargs)

        call(self.trial.seen(own), given, tracked=False)  # in double precision, as everywhere
        return usage

    def _diagnose(
        self,
        answer: Any,
        outcomes: Sequence[Outcome],
        kind: str,
        failing: Sequence[int],
        found: Sequence[Difference | None],
    ) -> list[Diagnosis]:
        """Listed mistakes; else two of them at once; else those that explain the values; else a guess."""
        known = self._tried
        if names := known.matching(outcomes):
            return [self._known(name) for name in names]
        if kind in ("exception", "type", "dtype", "in place"):
            return []
        if self.pairs and (names := self._tried_pairs.matching(outcomes)):
            return [self._known(name) for name in self.pairs[names[0]][0]]
        if names := known.covering(outcomes, [i for i, differs in enumerate(found) if differs]):
            return [self._known(name) for name in names]
        if names := known.matching(outcomes, values_only=True):
            return [self._known(name) for name in names[:1]]
        trial = self.trial
        right, mine = trial.seen(trial.right), trial.seen(answer)
        failures = [
            Failure(trial.runs[i][0], trial.expected[i], outcomes[i], right, mine)
            for i in failing
            if outcomes[i].error is None
        ]
        if not failures or self.build is not None:
            return []
        called = self._called(answer, failures[0].given)
        if kind == "shape":
            return explain_shape(failures)
        if kind == "nan":
            return explain_nan(failures)
        if kind == "gradient":
            name = found[failing[0]].text
            return explain_gradient(failures, name, called.get(name, name))
        return explain(failures, called) if kind == "value" else []

    def _known(self, name: str) -> Diagnosis:
        return Diagnosis(name, self.known[name][0])

    def _called(self, answer: Any, given: Case) -> dict[str, str]:
        """The answer's own names of its arguments; where ``run`` calls it, those of the oracle."""
        return {} if self.run is not None or self.build is not None else given.called(answer)

    def _text(
        self,
        answer: Any,
        worst: Difference,
        kind: str,
        first: int,
        failing: Sequence[int],
        outcomes: Sequence[Outcome],
    ) -> str:
        trial = self.trial
        given, training = trial.runs[first]
        called = self._called(answer, given)
        lines = _finding(worst, kind, called)
        if (error := outcomes[first].error) is not None:
            lines += _where(error)
        mode = {None: "", True: " in training mode", False: " in evaluation mode"}[training]
        label = f": {given.label}" if given.label else ""
        count = f"{len(failing)} of {len(trial.runs)} cases"
        lines += [
            f"  in {count}{mode}; the smallest{label}" if len(failing) > 1 else f"  in one case{mode}{label}"
        ]
        lines += [f"    {argument}" for argument in given.describe(called)]
        if kind in ("value", "nan", "gradient", "state") and worst.expected is not None:
            lines += [f"    {line}" for line in beside(worst)]
        return "\n".join(lines)

    # ----------------------------------------------------------------------------- the exercise itself

    def verify(self) -> None:
        """Make sure that the inputs tell the mistakes from the right answer and from each other.

        Raises:
            ValueError: if the right answer fails or is not finite; if a copy of it with no mistake asked
                for differs; if a mistake passes as right, or gets another one's hint; if a case has no label.
        """
        trial = self.trial
        if unlabelled := [given for given in trial.cases if not given.label and (given.args or given.kwargs)]:
            raise ValueError(f"{self.name}: {len(unlabelled)} cases have no label: say what each one tries")
        if self.accepts:
            return
        for function in self.copies:
            if (verdict := self.judge(function)).kind not in ("right", "rule"):
                raise ValueError(
                    f"{self.name}: {function.__name__} without a mistake is not right: {verdict.text}"
                )
        if not self.known:
            raise ValueError(f"{self.name} knows no mistake")
        for name, (hint, wrong) in self.known.items():
            verdict = self.judge(wrong)
            if verdict.right:
                raise ValueError(
                    f"{self.name}: the mistake {name} passes as right: add an input that shows it"
                )
            if verdict.diagnoses != (Diagnosis(name, hint),):
                others = [d.name for d in verdict.diagnoses if d.name != name]
                raise ValueError(f"{self.name}: the mistake {name} cannot be told from {others}")


def _nothing(*_: Any, **__: Any) -> int:
    return 0


def _finding(worst: Difference, kind: str, called: Mapping[str, str]) -> list[str]:
    """The finding in one line, or two."""
    where = worst.text
    if kind == "in place":
        return [f"your input {called.get(where, where)} was modified in place: work on a copy"]
    if kind == "gradient":
        return [f"the values are right, the gradient of {called.get(where, where)} is not"]
    if kind == "shape":
        return [f"{where} has the shape {worst.got}, expected {worst.expected}"]
    if kind == "dtype":
        return [f"{where} has the type {worst.got}, expected {worst.expected}"]
    if kind == "nan":
        return [f"{where} is not finite"]
    if kind == "value":
        return [f"{where} is wrong"]
    if kind == "state":
        return [where]
    return [worst.text]


def _where(error: Exception) -> list[str]:
    """The learner's line that raised: the last frame outside of this library and of installed packages."""
    foreign = ("site-packages", "course_lib", "/torch/")
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if not any(x in f.filename for x in foreign)
    ]
    if not frames:
        return []
    line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
    return [f"  raised by: {line}"] if line else []
