"""Times are kept beside the cases and know the code that they are of; one command measures them."""

import json
from functools import partial
from itertools import count

import pytest
import torch
from torch import nn

from course_lib import registry
from course_lib.compare import Case, Contest, command, copy_parameters, times
from course_lib.compare.catalogue import cases
from course_lib.compare.clock import Median
from course_lib.compare.contest import Lap, measure, require_agreement
from course_lib.measure.hashing import reached

LAP = Lap(forward=1.23456e-3, both=None, kept=12, peak=34, ratio_forward=Median(1.0, 0.9, 1.1))


def linear(width: int) -> Contest:
    """Two equal layers."""
    ours, peer = nn.Linear(width, width), nn.Linear(width, width)
    copy_parameters(ours, peer)
    return Contest(ours, {"peer": peer}, (torch.randn(2, width),))


def other(width: int) -> Contest:
    """Another function of the same shape."""
    return linear(width + 1)


def unequal(width: int) -> Contest:
    """Two layers that differ."""
    return Contest(nn.Linear(width, width), {"peer": nn.Linear(width, width)}, (torch.randn(2, width),))


CASE = Case("Linear", linear, sizes=(2, 3), axis="width")


def entry(case: Case) -> dict:
    sizes = {str(size): {"ours": times.to_entry(LAP), "peer": times.to_entry(LAP)} for size in case.sizes}
    return {"code": times.code_of_case(case), "torch": "2", "machine": "any", "sizes": sizes}


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The package as it is without its source tree."""
    monkeypatch.setattr(times, "source_tree", lambda: None)
    monkeypatch.setattr(command, "source_tree", lambda: None)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    return tmp_path / "bench"


def test_what_is_saved_is_loaded_again_one_line_for_each_contender(installed):
    stored = {"cases": {"Linear": entry(CASE)}}
    times.save("layers/toy", stored)
    assert times.load("layers/toy") == stored
    back = times.laps(times.load("layers/toy")["cases"]["Linear"])
    assert list(back) == [2, 3]
    rounded = Lap(forward=1.235e-3, kept=12, peak=34, ratio_forward=Median(1.0, 0.9, 1.1))
    assert back[3]["peer"] == rounded
    text = (installed / "layers/toy.json").read_text("utf-8")
    assert sum('"forward"' in line for line in text.splitlines()) == 4
    assert "date" not in text


def test_without_entries_there_is_no_file(installed):
    assert times.load("layers/toy") == {}
    times.save("layers/toy", {"cases": {"Linear": entry(CASE)}})
    times.save("layers/toy", {"cases": {}})
    assert list(installed.rglob("*.json")) == []


def test_a_case_is_stale_when_its_code_or_its_sizes_change_but_not_for_words():
    stored = entry(CASE)
    assert times.case_state(CASE, None) == "missing"
    assert times.case_state(CASE, stored) == "fresh"
    words = Case("Linear", linear, (2, 3), axis="size", why="because")
    assert times.case_state(words, stored) == "fresh"
    assert times.case_state(Case("Linear", linear, (2, 4)), stored) == "stale"
    assert times.case_state(Case("Linear", other, (2, 3)), stored) == "stale"


def test_the_code_of_a_case_takes_in_the_layer_that_it_times():
    (layer_norm,) = [case for case in cases("layers/norm") if case.name == "LayerNorm"]
    assert "course_lib.layers.norm.layer_norm.LayerNorm" in reached(layer_norm.make)


@pytest.fixture
def planted(monkeypatch, installed):
    """A course whose only case is ours, and a clock that ticks once whenever it is read."""
    monkeypatch.setattr(registry, "chapters", lambda: {"layers/toy": None})
    monkeypatch.setattr(command, "cases", lambda chapter: [CASE])
    monkeypatch.setattr(command, "chapters_side_by_side", lambda chapters: {})
    monkeypatch.setattr(command, "measure", partial(measure, clock=count().__next__))
    return installed


def test_the_command_measures_stores_and_then_calls_it_fresh(planted, capsys):
    assert command.main(["status"]) == 0
    assert "missing  layers/toy: Linear" in capsys.readouterr().out
    assert command.main(["run", "Linear"]) == 0
    said = capsys.readouterr().out
    assert "relative to the fastest peer: 2: 1.00 and 1.00, 3: 1.00 and 1.00" in said
    assert f"not written to: the times are in {planted}" in said
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
    assert "Linear" not in capsys.readouterr().out


def test_an_unknown_name_and_a_case_that_fails_are_said(planted, capsys, monkeypatch):
    assert command.main(["run", "Nothing"]) == 2
    assert "nothing is called Nothing; see the status command" in capsys.readouterr().err
    assert command.main(["run", "Liner", "layers/toi"]) == 2
    assert (
        "nothing is called Liner or layers/toi; did you mean Linear, layers/toy?" in capsys.readouterr().err
    )
    monkeypatch.setattr(command, "cases", lambda chapter: [Case("Linear", unequal, (2,))])
    assert command.main(["run"]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert times.load("layers/toy") == {}


def peerless(width: int) -> Contest:
    """A case whose peer is not installed."""
    raise ModuleNotFoundError("No module named 'fastest'", name="fastest")


def test_a_peer_that_is_not_installed_is_named_without_a_traceback(planted, capsys, monkeypatch):
    monkeypatch.setattr(command, "cases", lambda chapter: [Case("Linear", peerless, (2,)), CASE])
    assert command.main(["run"]) == 1
    said, errors = capsys.readouterr()
    assert 'FAILED: fastest is not installed: pip install ".[test]" in the source tree' in said
    assert "Traceback" not in said + errors


@pytest.mark.parametrize("chapter", list(registry.chapters()))
def test_every_case_of_the_course_has_a_name_a_hash_and_times_that_can_be_read(chapter):
    found = {case.name: case for case in cases(chapter)}
    assert len(found) == len(cases(chapter))
    for case in found.values():
        assert len(times.code_of_case(case)) == 16
        assert list(case.sizes) == sorted(set(case.sizes))
    stored = times.load(chapter).get("cases", {})
    assert set(stored) <= set(found)
    for each in stored.values():
        for contenders in times.laps(each).values():
            assert "ours" in contenders
            assert len(contenders) > 1
            assert all(lap.forward > 0 for lap in contenders.values())


ALL_CASES = [(chapter, case.name) for chapter in registry.chapters() for case in cases(chapter)]


@pytest.mark.slow
@pytest.mark.parametrize(("chapter", "name"), ALL_CASES)
def test_ours_and_the_peers_compute_the_same_at_the_smallest_size(chapter, name):
    (case,) = [case for case in cases(chapter) if case.name == name]
    assert require_agreement(case.contest(case.sizes[0])) is None  # raises otherwise
