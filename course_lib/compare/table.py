"""The table that closes a chapter: all its layers, counted, timed and trained in the same frame."""

import html
from typing import Any

from course_lib.classroom.style import Displayed
from course_lib.compare.rows import Row, experiments_of, rows
from course_lib.measure import measured

__all__ = ["accuracy_words", "side_by_side_table", "time_words"]

_HEAD = (
    ("layer", "Layer"),
    ("parameters", "Parameters"),
    ("multiply_adds", "Multiply-adds"),
    ("elementwise", "Elementwise"),
    ("forward", "Time, forward"),
    ("both", "Time, with backward"),
    ("accuracy", "Accuracy, %"),
)


def side_by_side_table(chapter: str) -> Displayed:
    """The variants of a chapter with parameters, operations, times and accuracy; numbers ready to compare.

    Parameters and operations for one example are counted as the table is made. Times of a batch of 64 are
    relative to the chapter's baseline, and come from the last ``make bench``; a dagger marks those whose code
    has changed since. Accuracies are of moved digits after equal training, mean and spread over seeds.

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
    cells = [_cells(row) for row in found]
    return Displayed(_as_html(cells, found), _as_text(cells, found))


def _cells(row: Row) -> dict[str, str]:
    """What the table says of one variant, by column."""
    return {
        "layer": row.variant.name,
        "parameters": f"{row.parameters:,}",
        "multiply_adds": f"{row.operations.multiply_adds:,}",
        "elementwise": f"{row.operations.elementwise:,}",
        "forward": time_words(row, row.forward),
        "both": time_words(row, row.both),
        "accuracy": accuracy_words(row),
    }


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
    if row.accuracy is None:
        return "–"
    mean, spread = 100 * row.accuracy.mean, 100 * row.accuracy.spread
    if mean != mean:
        return "diverged"
    old = "†" if row.trained == "stale" else ""
    return f"{mean:.1f}" + (f" ± {spread:.1f}" if spread == spread else "") + old


def _caption(found: list[Row]) -> str:
    leaders = ", ".join(row.variant.name for row in found if row.baseline)
    words = (
        f"Side by side: operations for one example; times relative to {leaders}; accuracy on moved digits."
    )
    if any(row.timed == "missing" for row in found):
        words += " A dash in a time: not measured yet (make bench)."
    if any(row.timed == "stale" for row in found):
        words += " †: the code has changed since this was measured."
    return words


def _as_html(cells: list[dict[str, str]], found: list[Row]) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for _, title in _HEAD)
    body = ""
    for row in cells:
        first, *rest = (html.escape(row[key]) for key, _ in _HEAD)
        body += f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
    return (
        '<div class="course-table side-by-side" role="region" aria-label="layers side by side" tabindex="0"'
        ' style="overflow-x:auto"><style>.side-by-side :is(th,td){padding:.25em .75em!important;'
        "text-align:right!important;white-space:nowrap}.side-by-side :is(th:first-child,caption)"
        "{text-align:left!important}.side-by-side caption{white-space:normal}"
        ".side-by-side thead th{white-space:normal;vertical-align:bottom}</style>"
        f'<table class="dataframe"><caption>{html.escape(_caption(found))}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _as_text(cells: list[dict[str, str]], found: list[Row]) -> str:
    lines = [[title for _, title in _HEAD], *([row[key] for key, _ in _HEAD] for row in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    text = [
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    return "\n".join([_caption(found), *text])
