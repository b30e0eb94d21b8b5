"""The command line: status, run, verify, the choice of seeds and names, and what it does when things fail."""

import json
import os

import pytest

from course_lib.measure import store
from course_lib.measure.command import main


def test_status_tells_what_is_stale_and_why(lab, capsys):
    assert lab.cli("status") == 0
    assert "2 experiments: 2 missing" in capsys.readouterr().out
    assert lab.cli("status", "--check") == 1
    lab.cli("run")
    lab.change("layers/toy.py", "randn(3)", "randn(5)")
    capsys.readouterr()
    assert lab.cli("status", "--why") == 0
    out = capsys.readouterr().out
    assert "2 experiments: 1 fresh, 1 stale" in out
    assert "layers/toy:noisy" in out
    assert f"  {lab.package}.maths.GAIN\n" in out


def test_status_of_no_experiments(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "empty_lab").mkdir()
    (tmp_path / "empty_lab" / "__init__.py").touch()
    assert main(["status", "--check", "--package", "empty_lab"]) == 0
    assert main(["run", "--package", "empty_lab"]) == 0
    assert main(["verify", "--package", "empty_lab"]) == 0
    out = capsys.readouterr().out
    assert "0 experiments: none yet" in out
    assert "There are no experiments yet." in out


def test_run_measures_only_what_is_not_fresh(lab, capsys):
    lab.cli("run")
    assert "2 of 2 experiments measured" in capsys.readouterr().out
    assert lab.cli("run") == 0
    assert "All fresh: 2 results." in capsys.readouterr().out
    lab.change("maths.py", "GAIN = 2.0", "GAIN = 4.0")
    before = lab.values()
    lab.cli("run")
    assert lab.runs() == dict.fromkeys(range(4), 2)
    assert lab.runs("constant") == {0: 1}
    assert lab.values() == pytest.approx([2 * value for value in before], rel=1e-6)


def test_run_adds_the_seeds_that_lack(lab):
    lab.cli("run")
    before = lab.values()
    lab.change("layers/toy.py", "seeds=4", "seeds=6")
    lab.cli("run")
    assert lab.runs() == dict.fromkeys(range(6), 1)
    assert lab.values()[:4] == before


def test_run_shows_old_and_new(lab, capsys):
    lab.cli("run", "noisy")
    lab.change("maths.py", "GAIN = 2.0", "GAIN = 0.0")
    capsys.readouterr()
    lab.cli("run", "noisy")
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if " value " in line]
    assert row[:2] == ["layers/toy:noisy", "value"]
    assert row[-4:] == ["0", "±", "0", "4"]


@pytest.mark.parametrize("name", ["noisy", "layers/toy:noisy", "layers/toy", "layers"])
def test_names(lab, name):
    assert lab.cli("run", name) == 0
    assert lab.runs("constant") == ({0: 1} if "noisy" not in name else {})


def test_unknown_name_is_refused_with_a_suggestion(lab, capsys):
    assert lab.cli("run", "nosy") == 2
    assert "no experiment is called 'nosy'; did you mean noisy" in capsys.readouterr().err


def test_other_seeds_are_shown_but_not_stored(lab, capsys):
    lab.cli("run", "noisy")
    text = lab.json.read_text()
    assert lab.cli("run", "noisy", "--seeds", "10-12") == 0
    assert lab.json.read_text() == text
    assert lab.runs() == {**dict.fromkeys(range(4), 1), 10: 1, 11: 1, 12: 1}
    assert capsys.readouterr().out.splitlines()[-2].endswith("  3")  # three seeds beside the stored four
    assert lab.cli("run", "noisy", "--seeds", "10,12", "--store") == 0
    assert lab.entry()["seeds"] == [0, 1, 2, 3, 10, 12]
    assert sum(lab.runs().values()) == 7  # they were in the journal
    assert store.state(lab.function()) == "fresh"


def test_seeds_overlapping_the_stored_ones_are_run_once(lab):
    lab.cli("run", "noisy")
    lab.cli("run", "noisy", "--seeds", "6")
    assert lab.runs() == dict.fromkeys(range(6), 1)


@pytest.mark.parametrize("seeds", ["x", "5-3", "0", "1,y"])
def test_seeds_that_are_none(lab, seeds, capsys):
    with pytest.raises(SystemExit):
        lab.cli("run", "--seeds", seeds)
    assert "names no seeds: write 10 (for 0 to 9), 10-19, or 3,5,8" in capsys.readouterr().err


def test_force_measures_again_what_is_fresh(lab):
    lab.cli("run")
    before = lab.values()
    for count in (2, 3):
        lab.cli("run", "noisy", "--force")
        assert lab.runs() == dict.fromkeys(range(4), count)
    assert lab.values() == before
    assert lab.runs("constant") == {0: 1}


def test_one_failing_experiment_does_not_stop_the_others(lab, capsys):
    lab.change("layers/toy.py", "value = stretched", 'assert seed != 2, "seed two"\n    value = stretched')
    assert lab.cli("run") == 1
    captured = capsys.readouterr()
    assert "1 of 2 experiments measured" in captured.out
    assert "layers/toy:noisy failed:\nseed 2\nTraceback" in captured.err
    assert "AssertionError: seed two" in captured.err
    assert list(json.loads(lab.json.read_text())) == ["constant"]


def test_result_without_experiment_is_taken_out(lab, capsys):
    lab.cli("run")
    lab.change("layers/toy.py", "def constant", "def renamed")
    assert lab.cli("status", "--check") == 1
    assert "toy:constant" in capsys.readouterr().out
    lab.cli("run")
    assert sorted(json.loads(lab.json.read_text())) == ["noisy", "renamed"]
    assert lab.cli("status", "--check") == 0


def test_installed_package_is_not_written(lab, capsys):
    (lab.folder / "pyproject.toml").unlink()
    os.environ["COURSE_CACHE"] = str(lab.folder / "cache")
    try:
        assert lab.cli("run", "constant") == 0
    finally:
        del os.environ["COURSE_CACHE"]
    assert not lab.json.exists()
    assert "layers/toy:constant is not stored" in capsys.readouterr().out


def test_cache_that_cannot_be_written_costs_nothing_but_the_resuming(lab, monkeypatch):
    (lab.folder / "file").touch()
    monkeypatch.setenv("COURSE_CACHE", str(lab.folder / "file" / "cache"))  # a folder inside a file
    assert lab.cli("run", "constant") == 0
    assert lab.entry("constant")["values"]["answer"]["each"] == [42]


def test_verify_agrees_with_what_was_stored(lab, capsys):
    lab.cli("run")
    assert lab.cli("verify") == 0
    assert capsys.readouterr().out.count("agrees") == 2
    assert sum(lab.runs().values()) == 5  # the same machine: one seed of four


def test_verify_notices_a_forged_number(lab, capsys):
    """One that carries a right checksum, so that only running the code can tell."""
    lab.cli("run")
    function = lab.function()
    kept = store.read(function)
    forged = [
        store.Outcome(**{**vars(o), "values": {**o.values, "value": 9.5 + o.seed}}) for o in kept.outcomes
    ]
    store.merge(lab.json, {"noisy": store.Result(kept.code, tuple(forged))})
    assert store.state(function) == "fresh"
    assert lab.cli("verify") == 1
    out = capsys.readouterr().out
    assert "DIFFERS" in out
    assert "stored" in out
    assert "agrees   layers/toy:constant" in out


def test_verify_notices_an_experiment_that_is_not_repeatable(lab, capsys):
    lab.change("layers/toy.py", "torch.randn(3).sum().item()", "float(uuid.uuid4().int % 1000)")
    lab.cli("run")
    assert lab.cli("verify", "noisy") == 1
    assert "it is not repeatable" in capsys.readouterr().out


def test_verify_keeps_to_its_time(lab, capsys):
    lab.cli("run")
    lab.cli("verify", "--minutes", "1e-9", "--date", "2026-01-01")
    assert "Running again 1 of 2 fresh results: 1 seed\n" in capsys.readouterr().out
