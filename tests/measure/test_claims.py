"""Statements: expectations, verdicts of each kind, arms that are not trained, drift."""

import json
import math

import numpy as np
import pytest
import torch

from course_lib.measure import (
    Measurement,
    at_least,
    at_most,
    between,
    each,
    equal,
    experiment,
    findings,
    near,
    paper_claim,
    question,
)
from course_lib.measure.claims import ClaimDrift, find
from course_lib.measure.journal import Outcome
from course_lib.measure.sample import Sample
from course_lib.measure.store import Result

NAN = float("nan")
UNTRAINED = "“weak” is not trained: 2.5, at most 2.4 is needed"


def claim(value, expect, **options):
    """A claim of Peri-LN's abstract."""
    return paper_claim("a claim", where="abstract", paper="peri-ln", value=value, expect=expect, **options)


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
def test_verdicts(measured, expect, verdict):
    assert find(claim(measured, expect)).verdict == verdict


@pytest.mark.parametrize("measured", [NAN, Sample(()), [], Sample((NAN, NAN)), Sample((1.0, 1.0, NAN))])
@pytest.mark.parametrize("expect", [at_least(-math.inf), at_most(math.inf), between(-1e9, 1e9)])
def test_nan_and_nothing_are_never_reproduced(measured, expect):
    assert find(claim(measured, expect)).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("value", "verdict"), [(2.0, "as expected"), (0.0, "not as expected"), ([0.0, 2.0], "open")]
)
def test_questions_have_words_of_their_own(value, verdict):
    asked = question("is it large", paper="peri-ln", value=value, expect=at_least(1.0), verdict=verdict)
    assert find(asked).verdict == verdict
    assert find(asked).confirm().data["kind"] == "question"


@pytest.mark.parametrize(
    ("noise", "verdict"),
    [(0.0, "reproduced"), (0.05, "reproduced"), (0.2, "inconclusive"), (-0.2, "inconclusive")],
)
def test_a_threshold_inside_the_noise_decides_nothing(noise, verdict):
    assert find(claim(1.1, at_least(1.0), noise=noise)).verdict == verdict
    m = measurement({}, a=(1.1, 1.1), b=(noise, noise))
    assert find(claim(lambda m: m["a"], at_least(1.0), noise=lambda m: m["b"]), m).verdict == verdict


def test_what_is_not_tested_says_why_and_counts_for_nothing():
    absent = paper_claim("wins on ImageNet", where="Table 1", paper="peri-ln", not_tested="no ImageNet")
    found = find(absent).confirm()
    assert (found.verdict, found.reason, found.found) == ("not tested", "no ImageNet", "")
    beside = find(claim(5.0, at_least(1.0), not_tested="another regime"))
    assert (beside.verdict, beside.found) == ("not tested", "5")
    assert json.loads(json.dumps(found.data, allow_nan=False))["measured"] is None


# -- arms ---------------------------------------------------------------------------------------------------


def measurement(trained, **values):
    """What an experiment of two seeds has measured."""
    keys = [{key: row[seed] for key, row in values.items()} for seed in (0, 1)]
    outcomes = tuple(Outcome(seed, row, 1.0, "2", "3", "x") for seed, row in enumerate(keys))
    return Measurement("toy", Result("code", outcomes), True, trained)


LOSSES = {
    "weak_loss": (2.3, 2.5),
    "weak_peak": (1.0, 2.0),
    "weak_norm_loss": (2.0, 2.0),
    "letters": (2.4, 2.4),
}


@pytest.mark.parametrize(
    "trained",
    [{"*_loss": at_most(2.4)}, {"*_loss": lambda m: at_most(m["letters"].mean)}],
    ids=["number", "measured"],
)
def test_an_arm_that_is_not_trained_under_every_seed_puts_its_numbers_in_doubt(trained):
    m = measurement(trained, **LOSSES)
    assert m["weak_loss"].doubt == m["weak_peak"].doubt == UNTRAINED
    assert m["weak_norm_loss"].doubt == m["letters"].doubt == ""
    assert find(claim(m["weak_peak"] - 0.5, at_least(0.0))).reason == UNTRAINED
    assert find(claim(m["weak_norm_loss"], at_least(0.0))).verdict == "reproduced"


def test_doubt_is_inherited_by_whatever_is_reckoned_and_named_once():
    m = measurement({"*_loss": at_most(2.4)}, **LOSSES)
    weak, sound = m["weak_peak"], m["weak_norm_loss"]
    for derived in (
        weak + sound,
        1 - weak,
        sound / weak,
        each(max, weak, sound),
        weak.bounded(0, 9),
        weak - weak,
    ):
        assert derived.doubt == UNTRAINED
    assert (sound * sound).doubt == ""


@pytest.mark.parametrize(
    ("trained", "doubted"),
    [
        ({"accuracy_*": at_least(0.5)}, {"accuracy_b", "steps_b"}),
        ({"accuracy_b": at_least(0.5)}, {"accuracy_b"}),
        ({"accuracy_a": at_least(0.5)}, set()),
        ({}, set()),
    ],
)
def test_the_name_of_an_arm_is_what_the_star_stands_for(trained, doubted):
    m = measurement(trained, accuracy_a=(0.9, 0.9), accuracy_b=(0.4, 0.6), steps_a=(1, 1), steps_b=(2, 2))
    assert {key for key in m if m[key].doubt} == doubted


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(ValueError, match=r"trained=\{'\*_acc': ...\} of toy fits none of weak_loss"):
        measurement({"*_acc": at_least(1.0)}, **LOSSES)


@experiment(
    paper="peri-ln",
    seeds=2,
    trained={"*_loss": at_most(2.4)},
    claims=[
        paper_claim(
            "the weak one peaks",
            where="abstract",
            value=lambda m: m["weak_peak"],
            expect=at_least(0.0),
            verdict="not tested",
        ),
        question(
            "the strong one learns", value=lambda m: m["strong_loss"], expect=at_most(2.2), paper="evonorm"
        ),
    ],
)
def two_arms(seed):
    return {"weak_loss": 2.5, "weak_peak": 1.0, "strong_loss": 2.0 + 0.01 * seed}


def test_statements_stand_at_the_experiment_and_are_judged_with_its_numbers():
    claimed, asked = [finding.confirm() for finding in findings(two_arms)]
    assert (claimed.paper, claimed.experiment, claimed.verdict) == ("peri-ln", "two_arms", "not tested")
    assert (asked.paper, asked.verdict) == ("evonorm", "as expected")


# -- drift and mistakes -------------------------------------------------------------------------------------


def test_drift_says_both_verdicts_the_numbers_and_what_to_do():
    with pytest.raises(ClaimDrift) as caught:
        find(claim(Sample((1.0, 3.0, 2.0)), near(2.0, rel=0.1))).confirm()
    message = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    for part in ("pinned as 'reproduced'", "measured is 'inconclusive'", "1, 3, 2", "-0.4841 to 4.484",
                 "within 10 % of 2", "--seeds 10-19", "verdict='inconclusive'"):  # fmt: skip
        assert part in message


@pytest.mark.parametrize("pinned", ["reproduced", "inconclusive", "not tested"])
def test_a_negative_result_is_guarded_too(pinned):
    with pytest.raises(ClaimDrift, match="measured is 'not reproduced'"):
        find(claim(-0.1, at_least(0.0), verdict=pinned)).confirm()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paper": "peri-nl"}, "did you mean peri-ln"),
        ({"verdict": "true"}, "verdict='true' of 'x' is none of 'reproduced'"),
        ({"verdict": "as expected"}, "is none of 'reproduced'"),
        ({"where": ""}, "where='abstract' is always possible"),
        ({"value": None}, "needs value= and expect=, or not_tested="),
        ({"expect": None}, "needs value= and expect=, or not_tested="),
        ({"not_tested": "too large", "verdict": "reproduced"}, "was not tested, so its verdict is not"),
    ],
)
def test_a_claim_that_says_too_little_is_refused(change, message):
    arguments = {"paper": "peri-ln", "where": "abstract", "value": 2.0, "expect": at_least(1.0)} | change
    with pytest.raises(ValueError, match=message):
        paper_claim("x", **arguments)


@pytest.mark.parametrize("value", ["2.0", {"gap": 1.0}, torch.ones(2, 2)])
def test_a_value_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="is no number"):
        find(claim(value, at_least(1.0)))


def test_a_statement_of_no_paper_is_refused():
    nobody = paper_claim("x", where="abstract", value=1.0, expect=at_least(0.0))
    with pytest.raises(ValueError, match="say of which paper"):
        find(nobody)
    assert find(nobody, paper="peri-ln").paper == "peri-ln"


# -- as data ------------------------------------------------------------------------------------------------


def test_data_are_plain_json():
    sample = Sample((1.0, 1.0, NAN), (3, 4, 5))
    row = find(claim(sample, at_least(0.0), verdict="inconclusive", of="16 blocks", headline=True))
    data = json.loads(json.dumps(row.data, allow_nan=False))
    assert data["values"] == [1.0, 1.0, None]
    assert data["seeds"] == [3, 4, 5]
    assert data["measured"] is None
    assert (data["verdict"], data["where"], data["headline"]) == ("inconclusive", "abstract", True)
    assert (data["text"], data["id"]) == ("16 blocks: a claim", "peri-ln.16-blocks-a-claim")


def test_a_finding_in_one_line():
    row = find(claim(Sample((1.9, 2.0, 2.1)), near(2.0, rel=0.5)))
    assert str(row) == (
        "✓ reproduced | peri-ln: a claim | measured 2.00 ± 0.10 (3 seeds), expected within 50 % of 2"
    )
