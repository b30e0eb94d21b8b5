"""Experiments and their committed results: what is stored, when it is stale, what a notebook gets."""

import json
import math
import os
import random

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout

from course_lib.measure import Sample, experiment, measured, store
from course_lib.measure.run import place, run_seed
from course_lib.measure.verify import disagreements, plan

# -- declaring ----------------------------------------------------------------------------------------------


def test_unknown_paper_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="did you mean peri-ln"):
        experiment(paper="peri-nl")


@pytest.mark.parametrize("bad", [{"paper": ()}, {"paper": "peri-ln", "seeds": 0}])
def test_experiment_needs_a_paper_and_a_seed(bad):
    with pytest.raises(ValueError, match="needs a paper and at least one seed"):
        experiment(**bad)


def test_inner_function_is_refused():
    with pytest.raises(ValueError, match="not at the top level of a module file"):

        @experiment(paper="peri-ln")
        def inner(seed):
            return {"value": 1.0}


def test_function_stays_a_function(lab):
    function = lab.function()
    assert function.experiment.papers == ("peri-ln",)
    assert function.experiment.seeds == (0, 1, 2, 3)
    assert lab.function("constant").experiment.papers == ("peri-ln", "evonorm")
    assert function(2)["even"] is True


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{}", "returned dict: return a dictionary of numbers"),
        ("3.0", "returned float: return a dictionary of numbers"),
        ("{'a': torch.ones(1)}", r"'a': tensor\(\[1\.\]\), of type Tensor.*\.item\(\)"),
        ("{'a': [1.0]}", "of type list"),
        ("{1: 1.0}", "keys are strings"),
        ("{'a': float('inf')}", "return nan where a run diverges"),
    ],
)
def test_results_are_plain_numbers(lab, returned, message):
    lab.change("layers/toy.py", '{"answer": 42}', returned)
    with pytest.raises(ValueError, match=message):
        run_seed(lab.function("constant"), 0)


# -- one seed -----------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_numbers_and_leaves_no_trace(lab):
    torch.manual_seed(7)
    expected = torch.randn(3), np.random.rand(), random.random()
    torch.manual_seed(7)
    np.random.seed(3)
    random.seed(3)
    threads = torch.get_num_threads()
    first, second = run_seed(lab.function(), 1), run_seed(lab.function(), 1)
    after = torch.randn(3)
    assert first.values["value"] == second.values["value"] != run_seed(lab.function(), 2).values["value"]
    assert torch.equal(after, expected[0])  # the page's own generator has not moved
    assert torch.get_num_threads() == threads
    np.random.seed(3)
    assert np.random.rand() == np.random.RandomState(3).rand()


def test_machine_is_described_without_its_name():
    import platform

    here = place()
    assert here["torch"] == torch.__version__
    assert platform.machine() in here["machine"]
    assert "processors" in here["machine"]
    assert platform.node() not in here["machine"]


# -- what is stored -----------------------------------------------------------------------------------------


def test_stored_result_has_all_that_it_must(lab):
    assert lab.cli("run") == 0
    entry = lab.entry()
    assert entry["seeds"] == [0, 1, 2, 3]
    assert set(entry) == {"checksum", "code", "machine", "python", "seconds", "seeds", "torch", "values"}
    value = entry["values"]["value"]
    assert len(value["each"]) == 4
    assert value["mean"] == pytest.approx(np.mean(value["each"]), rel=1e-5)
    assert value["spread"] == pytest.approx(np.std(value["each"], ddof=1), rel=1e-5)
    assert entry["values"]["even"]["each"] == [True, False, True, False]
    assert entry["values"]["missing"] == {"mean": None, "spread": None, "each": [None] * 4}
    assert lab.entry("constant")["values"]["answer"]["each"] == [42]


def test_file_is_diff_friendly(lab):
    lab.cli("run")
    text = lab.json.read_text()
    lines = text.splitlines()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["constant", "noisy"]
    assert sum('"each"' in line for line in lines) == 4  # one line per quantity
    assert next(line for line in lines if '"value":' in line).startswith('      "value": {"mean": ')
    lab.cli("run", "constant", "--force")
    changed = [a for a, b in zip(lines, lab.json.read_text().splitlines(), strict=True) if a != b]
    assert all('"seconds"' in line or '"checksum"' in line for line in changed)


def test_measured_reads_the_fresh_result(lab):
    lab.cli("run")
    measurement = measured(lab.function())
    assert measurement.fresh
    assert lab.runs() == {0: 1, 1: 1, 2: 1, 3: 1}  # nothing was run again
    assert isinstance(measurement["value"], Sample)
    assert measurement["value"].values == tuple(lab.values())
    assert float(measurement["value"]) == pytest.approx(np.mean(lab.values()))
    assert measurement["value"].spread == pytest.approx(np.std(lab.values(), ddof=1))
    assert measurement["value"].seeds == measurement.seeds == (0, 1, 2, 3)
    assert math.isnan(float(measurement["missing"]))
    assert (measurement.torch, measurement.machine) == (place()["torch"], place()["machine"])
    assert list(measurement) == sorted(measurement) == ["even", "missing", "value"]
    assert measured(lab.function(), seeds=2)["value"].values == tuple(lab.values()[:2])


def test_measured_without_a_result_runs_live_and_writes_nothing(lab, capsys):
    measurement = measured(lab.function())
    assert not measurement.fresh
    assert not lab.json.exists()
    assert not (lab.folder / "build").exists()
    assert "seeds" in capsys.readouterr().err  # the progress bar
    assert measured(lab.function())["value"].values == measurement["value"].values
    assert lab.runs() == {0: 1, 1: 1, 2: 1, 3: 1}  # the second call of the page did not run it again
    lab.cli("run")
    assert tuple(lab.values()) == measurement["value"].values


def test_seeds_that_lack_and_reruns_run_live(lab, monkeypatch):
    lab.cli("run")
    assert len(measured(lab.function(), seeds=())) == 0
    assert len(measured(lab.function(), seeds=6)["value"]) == 6
    assert lab.runs() == dict.fromkeys(range(6), 1)
    assert not measured(lab.function(), rerun=True, seeds=[1]).fresh
    assert lab.runs()[1] == 2
    monkeypatch.setenv("COURSE_RERUN", "1")
    measured(lab.function(), seeds=(3,))
    assert lab.runs() == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 1}


def test_measurement_is_shown_as_a_table(lab):
    lab.cli("run")
    measurement = measured(lab.function())
    page = measurement._repr_html_()
    assert page.count('scope="row"') == 3
    assert str(measurement["value"]) in page
    assert "±" in repr(measurement)
    assert "4 seeds, stored" in repr(measurement)
    with pytest.raises(KeyError, match="does not measure 'slope', but even, missing, value"):
        measurement["slope"]


def test_only_experiments_are_measured():
    with pytest.raises(ValueError, match="decorate it with @experiment"):
        measured(len)


# -- fresh, stale, edited -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "state"),
    [
        ("maths.py", "GAIN * x", "GAIN * x + 1", "stale"),  # two imports away
        ("maths.py", "GAIN = 2.0", "GAIN = 3.0", "stale"),
        ("layers/toy.py", "randn(3)", "randn(4)", "stale"),
        ("maths.py", "Stretches.", "Stretches a number.", "fresh"),
        ("maths.py", "def gain", "# a comment\ndef other(): pass\n\ndef gain", "fresh"),
        ("layers/toy.py", "Noise of", "The noise of", "fresh"),
        ("layers/toy.py", "def noisy(seed):", "def noisy(seed: int) -> dict:", "fresh"),
        ("layers/toy.py", "seeds=4", "seeds=5", "incomplete"),
        ("layers/toy.py", 'paper="peri-ln", seeds=4', 'paper="evonorm", seeds=3', "fresh"),
    ],
)
def test_result_is_stale_when_the_computation_changed_and_not_else(lab, file, old, new, state):
    lab.cli("run", "noisy")
    text = lab.json.read_text()
    lab.change(file, old, new)
    assert store.state(lab.function()) == state
    measurement = measured(lab.function())
    assert measurement.fresh == (state == "fresh")
    run = {"fresh": 0, "incomplete": 1, "stale": 4}[state]  # what is not stored is run here
    assert sum(lab.runs().values()) == 4 + run
    assert lab.json.read_text() == text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"each": [42]', '"each": [43]'),
        ('"mean": 42', '"mean": 43'),
        ('"seeds": [0]', '"seeds": [1]'),
        ('"python": "3', '"python": "4'),
    ],
)
def test_result_edited_by_hand_is_noticed(lab, old, new):
    lab.cli("run")
    text = lab.json.read_text()
    assert old in text
    lab.json.write_text(text.replace(old, new))
    function = lab.function("constant")
    with pytest.raises(store.EditedResult, match=r"changed by hand.*run constant"):
        measured(function)
    assert store.state(function) == "edited"
    assert store.state(lab.function()) == ("edited" if old == '"python": "3' else "fresh")
    assert lab.cli("status", "--check") == 1
    assert lab.cli("run") == 0
    assert store.state(function) == "fresh"
    assert lab.entry("constant")["values"]["answer"]["each"] == [42]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "is no JSON"),
        (b"[]", "holds no results of experiments"),
        (b'{"noisy": 3}', "holds no results of experiments"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_is_none_of_ours_is_named_and_left_alone(lab, content, said):
    lab.json.mkdir() if content is None else lab.json.write_bytes(content)
    with pytest.raises(store.EditedResult, match=rf"toy\.json {said}"):
        store.read(lab.function())
    with pytest.raises(store.EditedResult, match=said):
        store.merge(lab.json, {"noisy": result((1.0,))})
    assert store.state(lab.function()) == "edited"
    assert content is None or lab.json.read_bytes() == content


# -- the lock: every fault but a missing place for it is a fault ------------------------------------------


@pytest.fixture
def lock(lab):
    return lab.folder / "build" / "experiments" / "layers-toy.lock"


def test_results_are_read_and_written_within_the_lock(lab, lock, monkeypatch):
    held = []

    def write(file, text):
        with pytest.raises(Timeout):
            FileLock(lock).acquire(timeout=0)
        held.append(file)

    monkeypatch.setattr(store, "write_atomically", write)
    store.merge(lab.json, {"noisy": result((1.0,))})
    assert held == [lab.json]
    with FileLock(lock).acquire(timeout=0):  # given back
        pass


def test_a_lock_that_cannot_be_had_is_an_error(lab, lock):
    lab.cli("run", "noisy")
    text = lab.json.read_text()
    lock.unlink(missing_ok=True)
    lock.mkdir(parents=True)
    with pytest.raises(OSError, match=r"layers-toy\.lock"):
        store.merge(lab.json, {"noisy": None})
    assert lab.json.read_text() == text


def test_a_fault_while_writing_is_an_error_and_leaves_the_old_file(lab, lock, monkeypatch):
    lab.cli("run", "noisy")
    text = lab.json.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        store.merge(lab.json, {"noisy": result((1.0,))})
    assert lab.json.read_text() == text
    assert [file.name for file in lab.json.parent.glob(".toy*")] == []
    with FileLock(lock).acquire(timeout=0):
        pass


def test_half_merged_file_is_named(lab, capsys):
    lab.cli("run")
    lab.json.write_text("<<<<<<< ours\n" + lab.json.read_text())
    with pytest.raises(store.EditedResult, match=r"toy\.json is no JSON.*one side of the merge"):
        measured(lab.function())
    assert lab.cli("run") == 2  # before any work
    assert "is no JSON" in capsys.readouterr().err
    assert lab.json.read_text().startswith("<<<<<<<")


def test_seeds_must_measure_the_same(lab, capsys):
    lab.change("layers/toy.py", '{"answer": 42}', '{"odd" if seed % 2 else "even": 1}')
    lab.change("layers/toy.py", "seeds=1", "seeds=2")
    assert lab.cli("run", "constant") == 1
    assert "only one of the seeds 0 and 1 gives ['even', 'odd']" in capsys.readouterr().err


# -- again, and the same? -----------------------------------------------------------------------------------


def result(values, *, machine="a", code="c", seconds=1.0):
    outcomes = [
        store.Outcome(seed, {"x": value}, seconds, torch="2", python="3", machine=machine)
        for seed, value in enumerate(values)
    ]
    return store.Result(code, tuple(outcomes))


NOISE = (1.0, 1.2, 0.9, 1.1)


@pytest.mark.parametrize(
    ("again", "machine", "agrees"),
    [
        (NOISE, "a", True),
        ((1.0 + 1e-8, 1.2, 0.9, 1.1), "a", True),
        ((1.001, 1.2, 0.9, 1.1), "a", False),  # the same machine gives the same number
        ((1.3, 0.8, 1.0, 1.2), "b", True),  # another machine: other noise around the same mean
        ((3.0, 3.2, 2.9, 3.1), "b", False),
        ((math.nan, 1.2, 0.9, 1.1), "a", False),
        ((math.nan, 1.2, 0.9, 1.1), "b", False),
    ],
)
def test_agreement(again, machine, agrees):
    again = result(again, machine=machine)
    differences = disagreements(result(NOISE), again, lambda seed: again.outcomes[seed].values)
    assert (differences == []) == agrees


@pytest.mark.parametrize(
    ("stored", "again", "agrees"),
    [
        (7.0, 7.0, True),
        (7.0, 8.0, False),  # counts and other constants agree to a thousandth, wherever they are run
        (2e-7, 9e-7, True),  # rounding errors do not
        (math.nan, math.nan, True),
    ],
)
def test_agreement_of_constants_on_another_machine(stored, again, agrees):
    again = result([again] * 3, machine="b")
    assert (disagreements(result([stored] * 3), again, lambda seed: {}) == []) == agrees


def test_experiment_that_is_not_repeatable_is_told():
    again = result((1.5, 1.2, 0.9, 1.1))
    (line,) = disagreements(result(NOISE), again, lambda seed: {"x": 1.7})
    assert line == "x, seed 0: stored 1.0, now 1.5, then 1.7: it is not repeatable"


def test_plan_comes_round_to_every_experiment():
    here = {"torch": "2", "python": "3", "machine": "a"}
    stored = {f"e{i}": result(NOISE, seconds=float(i + 1)) for i in range(12)}
    stored["long"] = result(NOISE, seconds=1000.0)
    days = [plan(stored, here, seconds=60, day=day) for day in range(738000, 738000 + 20)]
    assert set().union(*days) == set(stored)
    for day in days:
        assert 1 <= len(day) < len(stored)
        assert all(len(seeds) == 1 for seeds in day.values())  # here one seed proves it
    elsewhere = plan(stored, {**here, "machine": "b"}, seconds=1e9, day=0)
    assert all(seeds == (0, 1, 2, 3) for seeds in elsewhere.values())
    assert set(elsewhere) == set(stored)
    assert plan({}, here, seconds=60, day=0) == {}
