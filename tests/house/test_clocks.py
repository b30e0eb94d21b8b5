"""The pages of measurements: true when there is nothing, complete when there is something, not timed anew."""

import pytest
from torch import nn

from course_lib.compare import Case, Contest
from course_lib.compare import times as store
from course_lib.compare.clock import Median
from course_lib.compare.contest import Lap
from course_lib.compare.count import Operations
from course_lib.compare.frames import Variant
from course_lib.compare.rows import Row
from course_lib.measure import Sample
from tests.house.test_pages import PAGES, contents
from tools import clocks
from tools.pages import generate


def contest(width: int) -> Contest:
    """Never run: a page is made from what is stored."""
    raise AssertionError("a page must not measure")


def ours(seconds):
    return Lap(forward=seconds, both=2 * seconds, kept=1000, peak=2000)


def peer(forward, both):
    ratios = {"ratio_forward": Median(*forward), "ratio_both": Median(*both)}
    return Lap(forward=1e-3, both=2e-3, kept=1000, peak=2000, **ratios)


CASE = Case("LayerNorm", contest, sizes=(1, 2, 4), axis="width", why="it checks | its input")
SLOWER, EVEN, FASTER = (1.5, 1.2, 1.7), (1.0, 0.9, 1.1), (0.5, 0.4, 0.6)


@pytest.fixture
def measured(monkeypatch):
    """One case of layers/norm, measured at three sizes against two peers."""
    laps = {
        size: {"ours": ours(size * 1e-3), "a.Peer": peer(FASTER, EVEN), "b.Peer": peer(ratio, FASTER)}
        for size, ratio in zip(CASE.sizes, (SLOWER, EVEN, FASTER), strict=True)
    }
    sizes = {
        str(size): {name: store.to_entry(lap) for name, lap in row.items()} for size, row in laps.items()
    }
    entry = {"code": store.code_of_case(CASE), "torch": "9.9", "machine": "a_machine", "sizes": sizes}
    monkeypatch.setattr(clocks, "cases", lambda chapter: [CASE] if chapter == "layers/norm" else [])
    monkeypatch.setattr(
        store, "load", lambda chapter: {"cases": {"LayerNorm": entry}} if "norm" in chapter else {}
    )
    return entry


def test_a_case_is_shown_against_the_fastest_peer_of_each_size(measured):
    page = clocks.bench_page()
    (row,) = [line for line in page.splitlines() if line.startswith("| {py:obj}`LayerNorm")]
    cells = [cell.strip() for cell in row.split("|")]
    assert "width: 1, 2, 4" in row
    forward, both = cells[3].split("<br>"), cells[4].split("<br>")
    assert [("slower" in cell, "even" in cell, "faster" in cell) for cell in forward] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    assert "**1.50** (1.20 to 1.70) slower" in forward[0]
    assert all("**1.00**" in cell for cell in both)
    assert "1.00 (1.00 to 1.00)" in cells[5]  # the time is proportional to the width
    assert "0.00 (0.00 to 0.00)" in cells[6]
    assert "torch 9.9 on a\\_machine" in page
    assert "it checks" in row


def test_every_race_has_its_row(measured):
    page = clocks.bench_page()
    lines = [line for line in page.splitlines() if line.startswith("| `LayerNorm`")]
    assert len(lines) == 9
    assert sum("| ours |" in line for line in lines) == 3
    assert "| `LayerNorm` | 1 | `b.Peer` | 1 | 1.50 | 2 | 0.50 | 1 | 2 |" in lines


def test_an_old_measurement_is_marked_and_stops_nothing(measured):
    assert "†" not in clocks.bench_page()
    measured["code"] = "0123456789abcdef"
    page = clocks.bench_page()
    assert page.count("†") == 2
    assert "the code has changed since this was measured" in page


def test_what_was_never_measured_is_named(monkeypatch):
    monkeypatch.setattr(clocks, "cases", lambda chapter: [CASE] if chapter == "layers/norm" else [])
    monkeypatch.setattr(store, "load", lambda chapter: {})
    page = clocks.bench_page()
    assert "Nothing is measured yet." in page
    assert "Not measured yet: LayerNorm." in page


def row(**changes) -> Row:
    facts = {
        "chapter": "layers/norm",
        "variant": Variant("layer norm", nn.Identity, "LayerNorm", ("pointwise", "learned")),
        "kind": "vectors",
        "baseline": True,
        "parameters": 1234,
        "operations": Operations(1000, 24),
        "forward": Median(1.0, 1.0, 1.0),
        "both": Median(13.2, 13.0, 13.4),
        "timed": "fresh",
        "accuracy": Sample((0.8, 0.82)),
        "text": None,
        "trained": "fresh",
    }
    return Row(**{**facts, **changes})


@pytest.fixture
def shown(monkeypatch):
    """What the page says of given rows."""

    def page(*rows: Row) -> str:
        monkeypatch.setattr(
            clocks, "chapters_side_by_side", lambda chapters: {"layers/norm": None} if rows else {}
        )
        monkeypatch.setattr(clocks, "rows", lambda chapter: list(rows))
        return clocks.which_layer(contents(PAGES))

    return page


def test_a_variant_is_one_row_with_links_costs_and_properties(shown):
    (line,) = [line for line in shown(row()).splitlines() if line.startswith("| [")]
    assert line.startswith(
        "| [layer norm](/layers/norm)<br>{py:obj}`LayerNorm <course_lib.layers.norm.LayerNorm>` |"
    )
    assert line.endswith(
        "| vectors | 1,234 | 1,024 | 1.0 × | 13 × | 81.0 ± 1.4 | baseline, pointwise, learned |"
    )


def test_what_is_missing_is_a_dash_and_what_is_old_has_a_mark(shown):
    page = shown(row(forward=None, both=None, accuracy=None, baseline=False))
    assert "| – | – | – | pointwise, learned |" in page
    assert "†" not in page
    page = shown(row(timed="stale"))
    assert "1.0 ×†" in page
    assert "the code has changed" in page


def test_before_the_first_chapter_the_page_says_so(shown):
    assert "No chapter has put its layers side by side yet." in shown()


def test_the_controls_are_named_in_the_heads(shown):
    (head,) = [line for line in shown(row()).splitlines() if line.startswith("| Layer")]
    assert head.count('data-facet="choice"') == 2
    assert head.count('data-facet="most"') == 3
    assert head.count('data-facet="least"') == 1


def test_both_pages_are_made_where_the_table_of_contents_has_them():
    assert not {"bench.md", "which_layer.md"} & set(generate(contents(PAGES)))
    made = generate(contents([*PAGES, {"file": "bench"}, {"file": "which_layer"}]))
    assert made["bench.md"].startswith("# Against the clock")
    assert made["which_layer.md"].startswith("# Which layer?")
