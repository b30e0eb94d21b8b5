"""The command line: status, run, restamp, verify; what is chosen, and what happens where things fail."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import course_lib
from course_lib import registry
from course_lib.measure import measured, store
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


def test_a_package_without_a_source_tree_is_not_written(lab, capsys, monkeypatch):
    (lab.folder / "pyproject.toml").unlink()
    monkeypatch.setenv("COURSE_CACHE", str(lab.folder / "cache"))
    assert lab.cli("run") == 0
    assert f"they go to {lab.folder / 'cache' / 'experiments'}" in capsys.readouterr().out
    assert not lab.json.exists()
    assert measured(lab.function()).fresh  # read from the cache
    assert lab.cli("status", "--check") == 0
    lab.change("layers/toy.py", "def constant", "def renamed")
    assert lab.cli("run") == 0
    assert lab.cli("status", "--check") == 0


def test_what_came_with_the_package_is_read_while_the_cache_is_older(lab, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(lab.folder / "cache"))
    lab.cli("run", "noisy")
    before = lab.values()
    (lab.folder / "pyproject.toml").unlink()
    lab.change("maths.py", "GAIN = 2.0", "GAIN = 4.0")
    lab.cli("run", "noisy")  # into the cache
    mine = measured(lab.function())
    assert mine["value"].values == pytest.approx([2 * value for value in before], rel=1e-6)
    lab.change("maths.py", "GAIN = 4.0", "GAIN = 2.0")  # another version is installed
    assert measured(lab.function())["value"].values == tuple(before)
    assert lab.runs() == dict.fromkeys(range(4), 2)
    assert lab.values() == before


TINY = """
from course_lib.measure import experiment

@experiment(paper="peri-ln", seeds=2)
def tiny(seed):
    return {"seed": seed}
"""


def test_the_installed_course_writes_nothing_into_itself_or_the_project_around_it(tmp_path):
    """The real command, in a virtual environment inside somebody else's project."""
    project = tmp_path / "project"
    site = project / ".venv" / "lib" / "python3" / "site-packages"
    chapters = shutil.ignore_patterns("__pycache__", "*.safetensors", "layers", "training", "data")
    shutil.copytree(Path(course_lib.__file__).parent, site / "course_lib", ignore=chapters)
    (project / "pyproject.toml").write_text('[project]\nname = "mine"\n')
    chapter = site / "course_lib" / "experiments" / "layers"
    chapter.mkdir()
    (chapter / "__init__.py").touch()
    (chapter / "tiny.py").write_text(TINY)

    def everything():
        return {file: file.read_bytes() for file in project.rglob("*") if file.is_file()}

    def command(*words):
        cache = str(tmp_path / "cache")
        environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "course_lib.experiments", *words],
            env={**environment, "COURSE_CACHE": cache},
            cwd=project,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    before = everything()
    assert "they go to " + str(tmp_path / "cache") in command("run", "tiny", "--jobs", "1")
    command("status", "--check", "tiny")
    assert "0 stale results" in command("restamp")
    assert everything() == before
    (result,) = (tmp_path / "cache").rglob("*.json")
    assert json.loads(result.read_text())["tiny"]["values"]["seed"]["each"] == [0, 1]


# -- status: core-seconds -----------------------------------------------------------------------------


def test_status_tells_what_a_chapter_and_the_course_take(lab, capsys, monkeypatch):
    lab.cli("run")
    file = json.loads(lab.json.read_text())
    stored = store.read(lab.function())
    slow = [store.Outcome(**{**vars(o), "seconds": 90.0}) for o in stored.outcomes]
    store.merge(lab.json, {"noisy": store.Result(file["noisy"]["code"], tuple(slow)), "constant": None})
    papers = {f"{i}": SimpleNamespace(chapter="layers/toy" if i < 3 else "else") for i in range(30)}
    monkeypatch.setattr(registry, "papers", lambda: papers)
    monkeypatch.setattr(registry, "chapters", lambda: dict.fromkeys(range(7)))
    capsys.readouterr()
    assert lab.cli("status") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "layers/toy 1 360 3 120 OVER" in lines
    assert "1 chapter: 6.0 min on one core" in lines
    assert "at 120 core-seconds a paper, 7 chapters with 30 papers take 1.0 core-hours" in lines


def test_claims_are_listed_by_experiment_in_lines_that_fit(capsys):
    main(["claims", "layers/norm"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 100] == []
    assert lines[0].split() == ["verdict", "measured", "expected"]
    assert sum(line.startswith("layers/norm/peri_ln:") for line in lines) == 1
    (row,) = [i for i, line in enumerate(lines) if line.startswith("    SLAB-Swin has 83.6 % top-1")]
    assert lines[row - 1].split() == ["not", "tested", "–"]  # neither a number nor an expectation


# -- re-stamping --------------------------------------------------------------------------------------


def moved_only(lab):
    """Measured results, then code of which the hash is another and the numbers are not."""
    lab.cli("run")
    lab.change("maths.py", "GAIN * x", "x * GAIN")
    assert store.state(lab.function()) == "stale"
    return lab.entry()


def test_one_equal_seed_stamps_the_result_anew_and_the_result_says_so(lab, capsys):
    before = moved_only(lab)
    assert lab.cli("restamp") == 0
    assert lab.runs() == {0: 2, 1: 1, 2: 1, 3: 1}
    after = lab.entry()
    assert after["restamped"] == {"seed": 0, "others_measured_by": before["code"]}
    assert {k: after[k] for k in ("values", "seconds", "seeds")} == {
        k: before[k] for k in ("values", "seconds", "seeds")
    }
    assert "re-stamped  layers/toy:noisy, seed 0" in capsys.readouterr().out
    assert lab.cli("status", "--check") == 0
    said = f"layers/toy:noisy: seed 0 run again and equal; the others measured by code {before['code']}"
    assert said in capsys.readouterr().out
    lab.change("maths.py", "x * GAIN", "GAIN * x * 1")
    lab.cli("restamp", "noisy")
    assert lab.entry()["restamped"]["others_measured_by"] == before["code"]  # not by what came between


def test_a_new_measurement_takes_the_note_away_and_more_seeds_do_not(lab):
    moved_only(lab)
    lab.cli("restamp")
    lab.cli("run", "noisy", "--seeds", "6", "--store")
    assert lab.entry()["seeds"] == [0, 1, 2, 3, 4, 5]
    assert lab.entry()["restamped"]["seed"] == 0
    lab.cli("run", "noisy", "--force", "--seeds", "6", "--store")
    assert "restamped" not in lab.entry()
    assert store.state(lab.function()) == "fresh"


def test_a_number_that_moved_is_named_and_nothing_is_written(lab, capsys):
    lab.cli("run")
    text = lab.json.read_text()
    lab.change("layers/toy.py", '"even": seed', '"even": 1 + seed')
    assert lab.cli("restamp") == 1
    out = capsys.readouterr().out
    assert "stays stale layers/toy:noisy, seed 0\n    even, seed 0: stored True, now False" in out
    assert lab.json.read_text() == text
    assert store.state(lab.function()) == "stale"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"even": seed', '"odd": seed', "measures value, odd, missing; stored are even, missing, value"),
        ("value = stretched", "assert seed\n    value = stretched", "AssertionError"),
        ('"value": value', '"value": value * (1 + 2e-6)', "value, seed 0: stored"),
    ],
)
def test_other_quantities_a_failure_or_a_small_change_stay_stale(lab, capsys, old, new, said):
    lab.cli("run")
    text = lab.json.read_text()
    lab.change("layers/toy.py", old, new)
    assert lab.cli("restamp") == 1
    assert said in capsys.readouterr().out
    assert lab.json.read_text() == text


def test_the_one_seed_of_an_experiment_is_a_whole_measurement(lab):
    lab.cli("run")
    lab.change("layers/toy.py", '"answer": 42', '"answer": 6 * 7')
    assert lab.cli("restamp", "constant") == 0
    assert store.state(lab.function("constant")) == "fresh"
    assert "restamped" not in lab.entry("constant")


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
    assert "agrees      layers/toy:constant" in out


def test_verify_notices_an_experiment_that_is_not_repeatable(lab, capsys):
    lab.change("layers/toy.py", "torch.randn(3).sum().item()", "float(uuid.uuid4().int % 1000)")
    lab.cli("run")
    assert lab.cli("verify", "noisy") == 1
    assert "it is not repeatable" in capsys.readouterr().out


def test_verify_keeps_to_its_time(lab, capsys):
    lab.cli("run")
    lab.cli("verify", "--minutes", "1e-9", "--date", "2026-01-01")
    assert "Running again 1 of 2 fresh results: 1 seed\n" in capsys.readouterr().out
