"""Claims and identities on a page: one table, its data, and the page that fails."""

import json

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from course_lib.classroom.claims import MIME, collect, identities, show_claims
from course_lib.measure import Sample, at_least, at_most, equal, experiment, near, paper_claim, question
from course_lib.measure.claims import ClaimDrift


def claim(value, expect, text="a < b & c", **options):
    """A claim of Peri-LN's abstract."""
    return paper_claim(text, where="abstract", paper="peri-ln", value=value, expect=expect, **options)


@experiment(paper="peri-ln", seeds=1)
def silent(seed):
    return {"number": 1.0}


def test_a_table_outside_ipython(capsys):
    asked = question("is it?", paper="evonorm", value=0.0, expect=at_least(1.0), verdict="not as expected")
    show_claims(claim(Sample((1.9, 2.0, 2.1)), near(2.0, rel=0.5)), [asked])
    assert capsys.readouterr().out.splitlines() == [
        "claim or question  verdict            measured               expected          said in",
        "a < b & c          ✓ reproduced       2.00 ± 0.10 (3 seeds)  within 50 % of 2  abstract, peri-ln",
        "is it?             ✗ not as expected  0                      at least 1        our question",
    ]


def test_drift_fails_after_the_table_was_shown(capsys):
    with pytest.raises(ClaimDrift, match="measured is 'not reproduced'"):
        show_claims(claim(0.0, at_least(1.0)), claim(2.0, at_least(1.0), text="another"))
    assert "another" in capsys.readouterr().out


def test_an_experiment_without_statements_is_refused():
    with pytest.raises(ValueError, match="silent states nothing"):
        show_claims(silent)


def test_identities_hold_or_fail(capsys):
    identities("peri-ln", [("two and two", 4, equal(4)), ("each seed", Sample((0.1, 0.2)), at_most(0.3))])
    shown = capsys.readouterr().out
    assert "two and two" in shown
    rows = [("one", 2, equal(1)), ("fine", 1, equal(1)), ("two", Sample((0.1, 0.3)), at_most(0.2))]
    with pytest.raises(
        ClaimDrift, match=r"hold\n  one: computed 2, expected equal to 1\n  two: computed 0.20"
    ):
        identities(None, rows)
    with pytest.raises(ValueError, match="did you mean peri-ln"):
        identities("peri-nl", [("x", 1, equal(1))])


def executed(*cells):
    """A notebook of these cells, run in a real kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return notebook


IMPORTS = (
    "from course_lib.classroom.claims import identities, show_claims\n"
    "from course_lib.measure import at_least, at_most, equal, paper_claim"
)
FIRST = """paper_claim(
    "a < b & c", where="Table 2", paper="peri-ln", value=[1, 1.2], expect=at_least(0), verdict="inconclusive"
)"""
SECOND = 'paper_claim("is small", where="abstract", paper="evonorm", value=0.5, expect=at_most(1))'


def test_notebook_shows_one_table_and_the_ledger_finds_every_row():
    notebook = executed(
        IMPORTS, f"show_claims({FIRST}, {SECOND})", "identities(None, [('one', 1, equal(1))])"
    )
    (output,), (exact,) = notebook.cells[1].outputs, notebook.cells[2].outputs
    assert set(output.data) == set(exact.data) == {"text/plain", "text/html", MIME}
    page = output.data["text/html"]
    assert '<span id="peri-ln.a-b-c">a &lt; b &amp; c</span>' in page
    assert 'href="#peri-ln.a-b-c"' in page
    assert 'href="https://arxiv.org/abs/2502.02732"' in page
    assert exact.data["text/html"].startswith(
        '<details class="folded-rows"><summary>Exact: 1 statement holds<'
    )
    ledger = collect(json.loads(nbformat.writes(notebook)))
    assert [(row["kind"], row["paper"], row["verdict"]) for row in ledger] == [
        ("paper", "peri-ln", "inconclusive"),
        ("paper", "evonorm", "reproduced"),
        ("identity", "", "holds"),
    ]
    assert ledger[0]["values"] == [1.0, 1.2]
    assert ledger[1]["expect"] == "at most 1"


def test_rows_after_the_first_are_folded_and_all_are_found():
    notebook = executed(IMPORTS, f"show_claims({FIRST}, {SECOND}, {SECOND}, first=1)")
    (output,) = notebook.cells[1].outputs
    open_part, folded = output.data["text/html"].split(
        '<details class="folded-rows"><summary>2 more</summary>'
    )
    assert ("a &lt; b" in open_part, "is small" in open_part) == (True, False)
    assert ("a &lt; b" in folded, "is small" in folded) == (False, True)
    assert "is small" in output.data["text/plain"]
    assert len(collect(json.loads(nbformat.writes(notebook)))) == 3


def test_a_single_row_is_not_folded():
    notebook = executed(IMPORTS, f"show_claims({FIRST}, {SECOND}, first=1)")
    assert "<details" not in notebook.cells[1].outputs[0].data["text/html"]


def test_drift_fails_the_notebook():
    with pytest.raises(CellExecutionError, match="pinned as 'reproduced', but measured is 'not reproduced'"):
        executed(IMPORTS, f"show_claims({SECOND.replace('0.5', '2.0')})")


def test_collect_of_a_notebook_without_claims():
    assert collect({"cells": [{"cell_type": "markdown", "source": "x"}]}) == []
