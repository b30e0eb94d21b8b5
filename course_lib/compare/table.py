"""The table that closes a chapter: all its layers, counted, timed and trained in the same frame."""

from typing import Any

from course_lib.compare.rows import Row, experiments_of, rows
from course_lib.measure import Sample, measured
from course_lib.tables import Table

_COLUMNS = (
    "Layer",
    "Parameters",
    "Multiply-adds",
    "Elementwise",
    "Time, forward",
    "Time, with backward",
    "Accuracy, %",
)


def side_by_side_table(chapter: str) -> Table:
    """The variants of a chapter with parameters, operations, times and accuracy, ready to compare.

    Parameters and operations for one example are counted as the table is made. Times of a batch of
    64 are relative to the chapter's baseline, and come from the last ``make bench``; a dagger marks
    those whose code has changed since. Accuracies are of moved digits after equal training, mean and
    spread over seeds; for layers of sequences the loss on text stands beside them.

    Args:
        chapter: id such as ``layers/norm``; its experiments have ``SIDE_BY_SIDE``, ``FRAME`` and
            the experiment ``side_by_side``.

    Returns:
        A table; the last line of a cell shows it.

    Raises:
        ValueError: for a chapter without variants.
    """
    module = experiments_of(chapter)
    found = rows(chapter, measured(module.side_by_side) if module else None)
    text = any(row.text is not None for row in found)
    return Table(
        (_cells(row, text) for row in found),
        (*_COLUMNS, "Text, nats") if text else _COLUMNS,
        _caption(found),
        label="layers side by side",
        align="lrrrrrr" + "r" * text,
    )


def _cells(row: Row, text: bool) -> list[str]:
    return [
        row.variant.name,
        f"{row.parameters:,}",
        f"{row.operations.multiply_adds:,}",
        f"{row.operations.elementwise:,}",
        time_words(row, row.forward),
        time_words(row, row.both),
        accuracy_words(row),
        *([text_words(row)] if text else []),
    ]


def time_words(row: Row, ratio: Any) -> str:
    """A time relative to the baseline: ``1.3 x``, two digits, with a dagger where the code has changed.

    Args:
        row: the variant, for its state.
        ratio: the median, or None.
    """
    if ratio is None:
        return "–"
    digits = max(0, 1 - _magnitude(ratio.value))
    return f"{ratio.value:.{digits}f} ×" + ("†" if row.timed == "stale" else "")


def _magnitude(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


def accuracy_words(row: Row) -> str:
    """Mean and spread in percent: ``83.1 ± 0.9``.

    Args:
        row: the variant.
    """
    return _words(row, row.accuracy, 100, 1)


def text_words(row: Row) -> str:
    """Mean and spread in nats per character: ``1.85 ± 0.02``.

    Args:
        row: the variant.
    """
    return _words(row, row.text, 1, 2)


def _words(row: Row, sample: Sample | None, scale: float, digits: int) -> str:
    if sample is None:
        return "–"
    mean, spread = scale * sample.mean, scale * sample.spread
    if mean != mean:
        return "diverged"
    old = "†" if row.trained == "stale" else ""
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread == spread else "") + old


def _caption(found: list[Row]) -> str:
    leaders = ", ".join(row.variant.name for row in found if row.baseline)
    words = (
        f"Side by side: operations for one example; times relative to {leaders}; accuracy on moved digits."
    )
    if any(row.kind == "sequences" for row in found):
        words += " They are read pixel by pixel; text is foretold character by character."
    if any(row.timed == "missing" for row in found):
        words += " A dash in a time: not measured yet (make bench)."
    if any(row.timed == "stale" for row in found):
        words += " †: the code has changed since this was measured."
    return words
