"""Two generated pages of measurements: "Against the clock" and "Which layer?".

Both read what is committed and import the chapters for what can be counted; nothing is timed or trained here,
so a page never changes by itself, and no build fails because a machine was busy.
"""

import importlib
from collections.abc import Iterable

import api
from api import escape
from contents import Contents
from table import facet, filterable, table

from course_lib import registry
from course_lib.classroom import growth
from course_lib.compare import times as store
from course_lib.compare.catalogue import cases, chapters_side_by_side
from course_lib.compare.clock import Median
from course_lib.compare.contest import Case, Lap
from course_lib.compare.rows import Row, rows
from course_lib.compare.table import accuracy_words, time_words
from course_lib.tables import Table

OLD = '<span class="stale" title="the code has changed since this was measured">†</span>'


# ---------------------------------------------------------------------------------- against the clock


def bench_page() -> str:
    """All cases of the bench: ours against the fastest peer, growth exponents, and every single time."""
    found = [(chapter, case) for chapter in registry.chapters() for case in cases(chapter)]
    measured = [(chapter, case, entry) for chapter, case in found if (entry := _entry(chapter, case))]
    waiting = [case.name for chapter, case in found if not _entry(chapter, case)]
    lines = [
        "# Against the clock",
        "",
        "Where another library has the same layer, both run here with equal weights and equal outputs",
        "(checked before every race), in one process, on one thread, in turns. A number is our time divided",
        "by the peer's: below 1 ours is faster. It is the median over many short rounds, and in brackets",
        "stands its 95 % interval; *faster* and *slower* say that the whole interval lies on one side of 1.",
        "Times belong to a machine, ratios much less so; the numbers come from `make bench` and change only",
        "with it.",
        "",
        *_places(entry for _, _, entry in measured),
        "## Against the fastest peer",
        "",
        "For every size, against whichever peer is fastest there; *with backward* is the forward and the",
        "backward pass together. The exponent says how our time and memory grow with the size: the slope",
        "between their logarithms, with its 95 % interval. A constant part, such as the cost of a call,",
        "makes it smaller.",
        "",
        _summary(measured) if measured else "Nothing is measured yet.",
        "",
    ]
    if measured:
        head = ["Object", "Size", "Runs", "Forward, ms", "Ours / it", "With backward, ms", "Ours / it"]
        head += ["Kept, kB", "Peak, kB"]
        lines += [
            "## Every race",
            "",
            "*Kept* are the bytes that the forward pass stores for the backward pass, *peak* the most that",
            "torch gave out at once in both.",
            "",
            filterable("bench-races", table(head, _races(measured)), "sortable"),
            "",
        ]
    if any(store.case_state(case, entry) == "stale" for _, case, entry in measured):
        lines += [f"{OLD}: the code has changed since this was measured.", ""]
    if waiting:
        lines += [f"Not measured yet: {', '.join(map(escape, waiting))}.", ""]
    return "\n".join(lines)


def _entry(chapter: str, case: Case) -> dict | None:
    return store.load(chapter).get("cases", {}).get(case.name)


def _places(entries: Iterable[dict]) -> list[str]:
    found = sorted({f"torch {entry['torch']} on {entry['machine']}" for entry in entries})
    return [f"Measured with {'; '.join(map(escape, found))}.", ""] if found else []


def _summary(measured: list[tuple[str, Case, dict]]) -> str:
    head = ["Object", "Size", "Forward", "With backward", "Time grows by", "Kept bytes grow by", "Why"]
    rows = Table((_summary_row(*row) for row in measured), head).markdown
    return f":::{{div}} names-whole\n:name: bench-summary\n\n{rows}\n:::\n"


def _summary_row(chapter: str, case: Case, entry: dict) -> list[str]:
    found = store.laps(entry)
    ours = {size: laps["ours"] for size, laps in found.items()}
    peers = {size: [lap for name, lap in laps.items() if name != "ours"] for size, laps in found.items()}
    old = OLD if store.case_state(case, entry) == "stale" else ""
    time = {size: lap.both or lap.forward for size, lap in ours.items()}
    kept = {size: lap.kept for size, lap in ours.items()}
    return [
        f"{_object(chapter, case.name)}{old}",
        f"{escape(case.axis)}: {', '.join(map(str, found))}",
        _against_fastest([[lap.ratio_forward for lap in laps] for laps in peers.values()]),
        _against_fastest([[lap.ratio_both for lap in laps] for laps in peers.values()]),
        _exponent(time),
        _exponent(kept),
        escape(case.why),
    ]


def _object(chapter: str, name: str) -> str:
    """A name, which leads to the catalogue where the chapter exports it, with the words that follow it."""
    first, _, rest = name.partition(" ")
    return f"{_linked(chapter, first)} {escape(rest)}".rstrip()


def _linked(chapter: str, name: str) -> str:
    module = f"course_lib.{chapter.replace('/', '.')}"
    if name in registry.public_names(module):
        return api.link(getattr(importlib.import_module(module), name))
    entry = registry.entries().get(name)  # from another chapter
    return api.link(entry.obj) if entry else f"`{name}`"


def _against_fastest(ratios: list[list[Median | None]]) -> str:
    """One word and one number for each size; the peer with the largest ratio is the fastest."""
    found = [max((r for r in row if r is not None), default=None) for row in ratios]
    return "<br>".join(_ratio(ratio) for ratio in found) if any(found) else "–"


def _ratio(ratio: Median | None) -> str:
    if ratio is None:
        return "–"
    kind = "faster" if ratio.high <= 1 else "slower" if ratio.low > 1 else "even"
    words = f"**{ratio.value:.2f}** ({ratio.low:.2f} to {ratio.high:.2f})"
    return f'<span class="race race-{kind}">{words} {kind}</span>'


def _exponent(values: dict[int, float | None]) -> str:
    known = {size: value for size, value in values.items() if value}
    return str(growth(list(known), list(known.values()))) if len(known) > 2 else "–"


def _races(measured: list[tuple[str, Case, dict]]) -> Iterable[list[str]]:
    for _, case, entry in measured:
        for size, laps in store.laps(entry).items():
            for name, lap in laps.items():
                yield [f"`{case.name}`", str(size), _runner(name), *_lap_cells(lap)]


def _runner(name: str) -> str:
    return "ours" if name == "ours" else f"`{name}`"


def _lap_cells(lap: Lap) -> list[str]:
    return [
        _milliseconds(lap.forward),
        f"{lap.ratio_forward.value:.2f}" if lap.ratio_forward else "–",
        _milliseconds(lap.both),
        f"{lap.ratio_both.value:.2f}" if lap.ratio_both else "–",
        _kilobytes(lap.kept),
        _kilobytes(lap.peak),
    ]


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1e3 * seconds:.3g}"


def _kilobytes(count: int | None) -> str:
    return f"{count / 1000:,.0f}" if count else "–"  # what is not torch's own is not seen


# ---------------------------------------------------------------------------------------- which layer?


def which_layer(contents: Contents) -> str:
    """One row for each variant of every finished chapter that has put its layers side by side."""
    modules = chapters_side_by_side(list(contents.finished))
    found = [row for chapter in modules for row in rows(chapter)]
    lines = [
        "# Which layer?",
        "",
        "Every layer of the course that was put into the gap of the same small classifier, what it costs and",
        "what it brought. Narrow the list by words, by what goes in, by a property or by a limit; a column's",
        "title sorts by it. The address of the page keeps what you chose, so a list can be sent to somebody.",
        "",
    ]
    if not found:
        return "\n".join([*lines, "No chapter has put its layers side by side yet.", ""])
    head = [
        "Layer",
        facet("Input", "choice"),
        facet("Parameters", "most"),
        facet("Operations", "most"),
        facet("Forward", "most"),
        "With backward",
        facet("Accuracy, %", "least"),
        facet("Properties", "choice"),
    ]
    lines += [
        filterable("layer-table", table(head, map(_layer_row, found)), "sortable"),
        "",
        "- **Parameters** are what training changes, **operations** what one example takes: multiply-adds",
        "  of matrix products, convolutions and Fourier transforms, and one for each element of all else.",
        "- **Forward** and **with backward** are times of a batch of 64 through the layer alone, relative to",
        "  the *baseline* of its chapter and input, on one thread of a CPU (`make bench`). They compare the",
        "  layers of one chapter, and small layers at that: at these sizes a call costs as much as the",
        "  arithmetic. What grows with the size is told by the chapters and by the operations.",
        "- **Accuracy** is of scikit-learn's digits, each moved by up to a pixel, after 300 steps (500 for",
        "  sequences, which read them pixel by pixel), mean and spread over seeds. It says what one",
        "  layer adds to a network without any other, and nothing about a large one; compare rows with the",
        "  same input.",
        "",
    ]
    if any("stale" in (row.timed, row.trained) for row in found):
        lines += [f"{OLD}: the code has changed since this was measured.", ""]
    return "\n".join(lines)


def _layer_row(row: Row) -> list[str]:
    name = f"[{escape(row.variant.name)}](/{row.chapter})"
    properties = ["baseline"] * row.baseline + [p for p in row.variant.properties if p != "baseline"]
    return [
        f"{name}<br>{_linked(row.chapter, row.variant.symbol)}" if row.variant.symbol else name,
        row.kind,
        f"{row.parameters:,}",
        f"{row.operations.total:,}",
        time_words(row, row.forward),
        time_words(row, row.both),
        accuracy_words(row),
        escape(", ".join(properties)),
    ]
