"""Times are kept beside the cases, know the code that they are of, and are measured by one command."""

import json
import types
from functools import partial

import pytest
import torch
from torch import nn

from course_lib import registry
from course_lib.compare import Case, Contest, command, copy_parameters, store
from course_lib.compare.catalogue import cases
from course_lib.compare.clock import Median
from course_lib.compare.contest import Lap, measure

LAP = Lap(forward=1.23456e-3, both=None, kept=12, peak=34, ratio_forward=Median(1.0, 0.9, 1.1))


def linear(width: int) -> Contest:
    """Two equal layers."""
    ours, peer = nn.Linear(width, width), nn.Linear(width, width)
    copy_parameters(ours, peer)
    return Contest(ours, {"peer": peer}, (torch.randn(2, width),))


def other(width: int) -> Contest:
    """Another function of the same shape."""
    return linear(width + 1)


CASE = Case("Linear", linear, sizes=(2, 3), axis="width")


def entry(case: Case) -> dict:
    sizes = {str(size): {"ours": store.to_entry(LAP), "peer": store.to_entry(LAP)} for size in case.sizes}
    return {"code": store.code_of_case(case), "torch": "2", "machine": "any", "sizes": sizes}


def test_what_is_saved_is_loaded_again(tmp_path):
    stored = {"cases": {"Linear": entry(CASE)}}
    store.save("layers/toy", stored, tmp_path)
    assert store.load("layers/toy", tmp_path) == stored
    assert list(store.laps(stored["cases"]["Linear"])) == [2, 3]
    back = store.laps(store.load("layers/toy", tmp_path)["cases"]["Linear"])[3]["peer"]
    assert back == Lap(forward=1.235e-3, kept=12, peak=34, ratio_forward=Median(1.0, 0.9, 1.1))


def test_the_file_has_one_line_for_each_contender_and_nothing_that_dates_it(tmp_path):
    store.save("layers/toy", {"cases": {"Linear": entry(CASE)}}, tmp_path)
    text = store.results_file("layers/toy", tmp_path).read_text("utf-8")
    assert sum('"forward"' in line for line in text.splitlines()) == 4
    assert "date" not in text
    json.loads(text)


def test_without_entries_there_is_no_file(tmp_path):
    assert store.load("layers/toy", tmp_path) == {}
    store.save("layers/toy", {"cases": {"Linear": entry(CASE)}}, tmp_path)
    store.save("layers/toy", {"cases": {}}, tmp_path)
    assert not store.results_file("layers/toy", tmp_path).exists()


def test_a_case_is_stale_when_its_code_or_its_sizes_change_but_not_for_words():
    stored = entry(CASE)
    assert store.case_state(CASE, None) == "missing"
    assert store.case_state(CASE, stored) == "fresh"
    assert store.case_state(Case("Linear", linear, (2, 3), axis="size", why="because"), stored) == "fresh"
    assert store.case_state(Case("Linear", linear, (2, 4)), stored) == "stale"
    assert store.case_state(Case("Linear", other, (2, 3)), stored) == "stale"


def test_the_code_of_a_case_takes_in_the_layer_that_it_times():
    from course_lib.measure.hashing import reached

    (layer_norm,) = [case for case in cases("layers/norm") if case.name == "LayerNorm"]
    assert "course_lib.layers.norm.layer_norm.LayerNorm" in reached(layer_norm.make)


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """A course whose only case is ours, and whose results go to a folder of the test."""
    monkeypatch.setattr(registry, "chapters", lambda: {"layers/toy": None})
    monkeypatch.setattr(command, "cases", lambda chapter: [CASE])
    monkeypatch.setattr(command, "chapters_side_by_side", lambda chapters: {})
    monkeypatch.setattr(command, "measure", partial(measure, rounds=5))
    for name in ("load", "save"):
        function = getattr(store, name)
        monkeypatch.setattr(store, name, lambda *a, function=function: function(*a, tmp_path))
    return tmp_path


def test_the_command_measures_stores_and_then_calls_it_fresh(planted, capsys):
    assert command.main(["status"]) == 0
    assert "missing  layers/toy: Linear" in capsys.readouterr().out
    assert command.main(["run", "Linear"]) == 0
    assert "relative to the fastest peer: 2: " in capsys.readouterr().out
    assert command.main(["status"]) == 0
    assert "fresh    layers/toy: Linear" in capsys.readouterr().out
    stored = json.loads((planted / "layers/toy.json").read_text("utf-8"))["cases"]["Linear"]
    assert set(stored["sizes"]) == {"2", "3"}
    assert stored["machine"]
    assert stored["torch"] == str(torch.__version__)


def test_with_stale_what_is_fresh_is_left_alone(planted, capsys):
    command.main(["run"])
    capsys.readouterr()
    assert command.main(["run", "--stale"]) == 0
    assert capsys.readouterr().out == ""


def test_an_unknown_name_and_a_case_that_fails_are_said(planted, capsys, monkeypatch):
    assert command.main(["run", "Nothing"]) == 2
    assert "nothing is called Nothing" in capsys.readouterr().err
    unequal = types.SimpleNamespace(**{"name": "Linear"})
    monkeypatch.setattr(command, "cases", lambda chapter: [unequal])
    monkeypatch.setattr(command, "_state", lambda *task: "missing")
    assert command.main(["run"]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("chapter", list(registry.chapters()))
def test_every_case_of_the_course_can_be_hashed_and_has_a_name_of_its_own(chapter):
    found = cases(chapter)
    assert len({case.name for case in found}) == len(found)
    for case in found:
        assert len(store.code_of_case(case)) == 16
        assert list(case.sizes) == sorted(set(case.sizes))


@pytest.mark.parametrize("chapter", list(registry.chapters()))
def test_what_is_committed_belongs_to_a_case_and_can_be_read(chapter):
    stored = store.load(chapter).get("cases", {})
    assert set(stored) <= {case.name for case in cases(chapter)}
    for found in stored.values():
        for contenders in store.laps(found).values():
            assert "ours" in contenders
            assert len(contenders) > 1
            assert all(lap.forward > 0 for lap in contenders.values())


def _all_cases():
    return [(chapter, case.name) for chapter in registry.chapters() for case in cases(chapter)]


@pytest.mark.slow
@pytest.mark.parametrize(("chapter", "name"), _all_cases())
def test_ours_and_the_peers_compute_the_same_at_the_smallest_size(chapter, name):
    from course_lib.compare.contest import require_agreement

    (case,) = [case for case in cases(chapter) if case.name == name]
    assert require_agreement(case.contest(case.sizes[0])) is None  # raises otherwise
