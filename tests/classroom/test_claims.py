"""Claims: expectations, verdicts, drift, and what is shown."""

import json
import math

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from course_lib.classroom.claims import (
    MIME,
    ClaimDrift,
    at_least,
    at_most,
    between,
    claim,
    collect,
    equal,
    near,
)
from course_lib.measure.sample import Sample

NAN = float("nan")


# -- expectations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expectation", "inside", "outside"),
    [
        (near(2.0, rel=0.15), [1.7, 2.0, 2.3], [1.69, 2.31]),
        (near(-2.0, rel=0.15), [-1.71, -2.29], [-1.69, 2.0]),
        (near(0.0, abs=0.1), [0.1, -0.1], [0.11]),
        (near(1.0, rel=0.01, abs=0.5), [0.5, 1.5], [0.49]),
        (at_least(0.0), [0.0, math.inf], [-1e-9]),
        (at_most(1e-6), [1e-6, -5.0], [1.1e-6]),
        (between(1, 2), [1, 2], [0.99, 2.01]),
        (equal(3), [3, 3.0], [3.0000001]),
        (equal(True), [True], [False]),
    ],
)
def test_expectations(expectation, inside, outside):
    assert all(map(expectation.holds, inside))
    assert not any(map(expectation.holds, [*outside, NAN]))


def test_expectations_read_well():
    texts = [near(2, rel=0.15), near(2, abs=0.1), near(2, rel=0.1, abs=0.3), at_least(0.5), at_most(1e-6)]
    assert [str(text) for text in [*texts, between(1, 2), equal(7)]] == [
        "within 15 % of 2",
        "within 0.1 of 2",
        "within 10 % or 0.3 of 2",
        "at least 0.5",
        "at most 1e-6",
        "between 1 and 2",
        "equal to 7",
    ]


@pytest.mark.parametrize("make", [lambda: near(2.0), lambda: near(0.0, rel=0.1), lambda: between(2, 1)])
def test_expectations_that_allow_nothing_are_refused(make):
    with pytest.raises(ValueError, match=r"allows no distance|no number is between"):
        make()


# -- verdicts -----------------------------------------------------------------------------------------------


def judged(measured, expect):
    """The verdict that claim() finds, by trying the three."""
    found = []
    for verdict in ("reproduced", "not reproduced", "inconclusive"):
        try:
            found.append(
                claim("peri-ln", "a claim", measured=measured, expect=expect, verdict=verdict).verdict
            )
        except ClaimDrift:
            continue
    (only,) = found  # exactly one verdict is accepted
    return only


@pytest.mark.parametrize(
    ("measured", "expect", "verdict"),
    [
        (1.0, at_least(0.5), "reproduced"),
        (0.4, at_least(0.5), "not reproduced"),
        (True, equal(True), "reproduced"),
        (torch.tensor(2.0), near(2, rel=0.1), "reproduced"),
        (np.float32(3.0), at_most(2), "not reproduced"),
        # over seeds
        (Sample((1.0, 1.1, 0.9)), at_least(0.5), "reproduced"),
        (Sample((1.0, 1.1, 0.9)), at_least(2.0), "not reproduced"),
        (Sample((1.0, 1.1, 0.9)), at_least(1.0), "inconclusive"),
        (Sample((1.0, 1.1, 0.9)), at_most(2.0), "reproduced"),
        (Sample((1.0, 1.1, 0.9)), near(1.0, abs=0.01), "inconclusive"),  # reaches beyond both ends
        ([1.0, 1.1, 0.9], between(0, 2), "reproduced"),
        (torch.tensor([1.0, 1.1, 0.9]), at_most(0.0), "not reproduced"),
        # no spread
        (Sample((0.0, 0.0, 0.0)), at_least(0.0), "reproduced"),
        (Sample((0.0, 0.0, 0.0)), equal(0.0), "reproduced"),
        (Sample((True, True, True)), equal(True), "reproduced"),
        (Sample((True, True, False)), equal(True), "inconclusive"),
        (Sample((1.0, 1.0, 1.0)), at_most(0.9), "not reproduced"),
        # one seed is no evidence; limits of the quantity are kept
        (Sample((5.0,)), at_least(0.0), "inconclusive"),
        (Sample((1.0, 1.0, 0.97)), between(0.5, 1.0), "inconclusive"),
        (Sample((1.0, 1.0, 0.97)).bounded(0, 1), between(0.5, 1.0), "reproduced"),
    ],
)
def test_verdicts(measured, expect, verdict, capsys):
    assert judged(measured, expect) == verdict


@pytest.mark.parametrize("measured", [NAN, Sample(()), [], Sample((NAN, NAN)), Sample((1.0, 1.0, NAN))])
@pytest.mark.parametrize("expect", [at_least(-math.inf), at_most(math.inf), between(-1e9, 1e9)])
def test_nan_and_nothing_are_never_reproduced(measured, expect, capsys):
    assert judged(measured, expect) == "inconclusive"


def test_drift_says_both_verdicts_the_numbers_and_what_to_do(capsys):
    with pytest.raises(ClaimDrift) as caught:
        claim("peri-ln", "grows linearly", measured=Sample((1.0, 3.0, 2.0)), expect=near(2.0, rel=0.1))
    message = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    for part in ("pinned as 'reproduced'", "measured is 'inconclusive'", "1, 3, 2", "-0.4841 to 4.484",
                 "within 10 % of 2", "--seeds 10-19", "verdict='inconclusive'"):  # fmt: skip
        assert part in message
    assert "inconclusive" in capsys.readouterr().out  # the row is shown all the same


@pytest.mark.parametrize("pinned", ["reproduced", "inconclusive"])
def test_a_negative_result_is_guarded_too(pinned, capsys):
    with pytest.raises(ClaimDrift, match="measured is 'not reproduced'"):
        claim("relu-revival", "ReLU beats GELU", measured=-0.1, expect=at_least(0.0), verdict=pinned)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paper_id": "peri-nl"}, "did you mean peri-ln"),
        ({"verdict": "true"}, "verdict='true' is none of 'reproduced'"),
        ({"measured": "2.0"}, "is no number"),
        ({"measured": None}, "is no number"),
        ({"measured": {"gap": 1.0}}, "is no number"),
        ({"measured": torch.ones(2, 2)}, "is no number"),
    ],
)
def test_bad_input(change, message):
    arguments = {"paper_id": "peri-ln", "text": "a claim", "measured": 2.0, "expect": at_least(1.0)} | change
    with pytest.raises(ValueError, match=message):
        claim(arguments.pop("paper_id"), arguments.pop("text"), **arguments)


# -- what is shown ------------------------------------------------------------------------------------------


def test_line_outside_ipython(capsys):
    claim("peri-ln", "grows linearly", measured=Sample((1.9, 2.0, 2.1)), expect=near(2.0, rel=0.5))
    line = (
        "✓ reproduced | peri-ln: grows linearly | measured 2.00 ± 0.10 (3 seeds), expected within 50 % of 2\n"
    )
    assert capsys.readouterr().out == line


def test_row_is_html_with_a_link_and_escaped_words(capsys):
    row = claim("peri-ln", "a < b & c", measured=1.0, expect=at_least(0.0))._repr_html_()
    assert "a &lt; b &amp; c" in row
    assert 'href="https://arxiv.org/abs/2502.02732"' in row
    assert '<th scope="row">' in row


def test_metadata_is_plain_json(capsys):
    sample = Sample((1.0, 1.0, NAN), (3, 4, 5))
    row = claim("peri-ln", "x", measured=sample, expect=at_least(0.0), verdict="inconclusive")
    metadata = json.loads(json.dumps(row.metadata, allow_nan=False))
    assert metadata["values"] == [1.0, 1.0, None]
    assert metadata["seeds"] == [3, 4, 5]
    assert metadata["measured"] is None
    assert metadata["verdict"] == "inconclusive"


def executed(*cells):
    """A notebook of these cells, run in a real kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return notebook


IMPORTS = "from course_lib.classroom.claims import claim, at_least, at_most"


def test_notebook_shows_each_claim_once_and_the_ledger_finds_it():
    first = 'claim("peri-ln", "grows", measured=[1.0, 1.2], expect=at_least(0.0), verdict="inconclusive")'
    second = 'row = claim("evonorm", "is small", measured=0.5, expect=at_most(1))'
    notebook = executed(IMPORTS, f"{first}\n{second}")
    outputs = notebook.cells[1].outputs
    assert [set(output.data) for output in outputs] == [{"text/plain", "text/html", MIME}] * 2
    ledger = collect(json.loads(nbformat.writes(notebook)))
    assert [(row["paper"], row["verdict"]) for row in ledger] == [
        ("peri-ln", "inconclusive"),
        ("evonorm", "reproduced"),
    ]
    assert ledger[0]["values"] == [1.0, 1.2]
    assert ledger[1]["expect"] == "at most 1"


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("at_most(1)", "pinned as 'reproduced', but measured is 'not reproduced'"),
        ("2.0", "expect=2.0 is no expectation: use near"),
    ],
)
def test_drift_and_mistakes_fail_the_notebook(expect, message):
    with pytest.raises(CellExecutionError, match=message):
        executed(IMPORTS, f'claim("evonorm", "is small", measured=2.0, expect={expect})')


def test_collect_of_a_notebook_without_claims():
    assert collect({"cells": [{"cell_type": "markdown", "source": "x"}]}) == []
