"""The numbers of one experiment, and which of its arms are trained."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from course_lib.measure import store
from course_lib.measure.claims import Finding, find
from course_lib.measure.sample import Sample, number
from course_lib.tables import Table

__all__ = ["Measurement"]


class Measurement(Mapping[str, Sample]):
    """The numbers of one experiment: a mapping from each measured quantity to its :class:`Sample` over seeds.

    Args:
        name: the experiment's name.
        result: its measured seeds.
        fresh: True if all of them were read from the committed result, False if any was run just now.
        trained: what its arms must reach, as :func:`experiment` has it.

    Raises:
        ValueError: for a pattern in ``trained`` that fits no quantity.
    """

    def __init__(
        self, name: str, result: store.Result, fresh: bool, trained: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.fresh = fresh
        self.seeds = result.seeds
        self.seconds = result.seconds
        self.torch = result.place("torch")
        self.machine = result.place("machine")
        self._samples = result.samples
        self.untrained = _untrained(name, self._samples, trained or {})
        arms = sorted(self.untrained, key=len)
        for key, sample in self._samples.items():
            # The longest name that fits: "pre" is another arm than "pre_norm".
            held = [arm for arm in arms if f"_{arm}_" in f"_{key}_"]
            if held and self.untrained[held[-1]]:
                self._samples[key] = replace(sample, doubt=self.untrained[held[-1]])

    def __getitem__(self, key: str) -> Sample:
        if key not in self._samples:
            raise KeyError(f"{self.name} does not measure {key!r}, but {', '.join(self._samples)}")
        return self._samples[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._samples)

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def _table(self) -> Table:
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"
        caption = f"{self.name}: {seeds}, {'stored' if self.fresh else 'run just now'}"
        return Table(self.items(), ["quantity", "mean ± spread over seeds"], caption)

    def __repr__(self) -> str:
        return self._table.plain

    def _repr_html_(self) -> str:
        return self._table.html_text

    def judge(self, noted: Any) -> list[Finding]:
        """Every claim and question that is noted at the experiment, judged by these numbers.

        Args:
            noted: its attribute ``experiment``.
        """
        return [find(s, self, paper=noted.papers[0], experiment=self.name) for s in noted.claims]


def _untrained(name: str, samples: Mapping[str, Sample], trained: Mapping[str, Any]) -> dict[str, str]:
    """For each arm what it misses; empty for one that is trained."""
    found = {}
    for pattern, expected in trained.items():
        expect = expected(samples) if callable(expected) else expected
        before, star, after = pattern.partition("*")
        keys = [
            key
            for key in samples
            if key == pattern
            or (star and len(key) > len(pattern) - 1 and key.startswith(before) and key.endswith(after))
        ]
        if not keys:
            raise ValueError(f"trained={{{pattern!r}: ...}} of {name} fits none of {', '.join(samples)}")
        for key in keys:
            arm = (key[len(before) : len(key) - len(after)] if star else key).strip("_")
            failed = [value for value in samples[key] if not expect.holds(value)]
            words = (
                f"“{arm.replace('_', ' ')}” is not trained: {number(failed[0])}, {expect} is needed"
                if failed
                else ""
            )
            found[arm] = found.get(arm) or words
    return found
