"""``make lab``: every exercise arrives, and nothing that a learner has written is ever lost."""

import json
import re
import subprocess
import sys

import pytest

from tests.house.tree import ROOT
from tools.lab import RECORD, command, deliver, set_defaults, show_book


@pytest.fixture
def house(tmp_path):
    """An exercise in ``exercises``, and the path of its copy in ``learn``, not made yet."""
    exercise = tmp_path / "exercises/layers/norm.md"
    exercise.parent.mkdir(parents=True)
    exercise.write_text("first version", "utf-8")
    return exercise, tmp_path / "learn/layers/norm.md"


def delivered(house) -> list[str]:
    exercise, copy = house
    return deliver(exercise.parents[1], copy.parents[1])


def files(house) -> dict[str, str]:
    """What stands in the learner's folder."""
    return {p.name: p.read_text("utf-8") for p in sorted(house[1].parent.iterdir())}


def test_exercises_arrive_once(house):
    assert delivered(house) == ["new: layers/norm.md"]
    assert files(house) == {"norm.md": "first version"}
    assert delivered(house) == []


def test_work_is_kept_when_nothing_changed_upstream(house):
    delivered(house)
    house[1].write_text("my answer", "utf-8")
    assert delivered(house) == []
    assert files(house) == {"norm.md": "my answer"}


def test_work_is_kept_when_the_exercise_changed_and_the_new_version_comes_beside_it(house):
    exercise, copy = house
    delivered(house)
    copy.write_text("my answer", "utf-8")
    exercise.write_text("second version", "utf-8")
    assert delivered(house) == ["changed: layers/norm.md; your work is kept, the new version is norm.new.md"]
    assert files(house) == {"norm.md": "my answer", "norm.new.md": "second version"}
    assert delivered(house) == []


def test_work_in_the_new_version_is_kept_as_well(house):
    exercise, copy = house
    delivered(house)
    copy.write_text("my answer", "utf-8")
    exercise.write_text("second version", "utf-8")
    delivered(house)
    copy.with_name("norm.new.md").write_text("my second answer", "utf-8")
    assert delivered(house) == []
    exercise.write_text("third version", "utf-8")
    delivered(house)
    expected = {"norm.md": "my answer", "norm.new.md": "my second answer", "norm.new2.md": "third version"}
    assert files(house) == expected
    exercise.write_text("fourth version", "utf-8")
    delivered(house)
    assert files(house) == {**expected, "norm.new2.md": "fourth version"}


def test_a_copy_that_nobody_touched_is_renewed(house):
    delivered(house)
    house[0].write_text("second version", "utf-8")
    assert delivered(house) == ["renewed: layers/norm.md (you had not begun it)"]
    assert files(house) == {"norm.md": "second version"}


def test_a_new_version_that_the_learner_took_over_does_not_come_again(house):
    exercise, copy = house
    delivered(house)
    copy.write_text("my answer", "utf-8")
    exercise.write_text("second version", "utf-8")
    delivered(house)
    copy.with_name("norm.new.md").replace(copy)
    copy.write_text("my answer to the second version", "utf-8")
    assert delivered(house) == []
    assert files(house) == {"norm.md": "my answer to the second version"}


def test_a_deleted_copy_comes_back(house):
    delivered(house)
    house[1].unlink()
    assert delivered(house) == ["new: layers/norm.md"]


def test_an_exercise_that_is_gone_leaves_its_copy(house):
    delivered(house)
    house[1].write_text("my answer", "utf-8")
    house[0].unlink()
    assert delivered(house) == []
    assert files(house) == {"norm.md": "my answer"}


@pytest.mark.parametrize("lost", ["", "{", "[]", None])
def test_without_its_record_every_copy_counts_as_work(house, lost):
    exercise, copy = house
    delivered(house)
    record = copy.parents[1] / RECORD
    if lost is None:
        record.unlink()
    else:
        record.write_text(lost, "utf-8")
    assert delivered(house) == []  # the same version: nothing to say
    record.unlink()
    for version in ("second version", "third version"):
        exercise.write_text(version, "utf-8")
        delivered(house)
        assert delivered(house) == []
        assert files(house) == {"norm.md": "first version", "norm.new.md": version}


def test_an_interrupted_delivery_goes_on(house, monkeypatch):
    monkeypatch.setattr("tools.lab.json.dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        delivered(house)
    monkeypatch.undo()
    assert delivered(house) == []
    house[0].write_text("second version", "utf-8")
    assert delivered(house) == ["renewed: layers/norm.md (you had not begun it)"]


def test_a_double_click_opens_a_notebook_and_other_settings_stay(tmp_path):
    settings = tmp_path / "etc/jupyter/labconfig/default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"other": {"kept": true}}', "utf-8")
    assert set_defaults(tmp_path) == settings
    config = json.loads(settings.read_text("utf-8"))
    assert config["other"] == {"kept": True}
    viewers = config["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"]
    assert viewers == {"markdown": "Jupytext Notebook", "myst": "Jupytext Notebook"}
    assert config["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_options_reach_jupyterlab_after_ours(tmp_path):
    line = command(tmp_path, ["--no-browser", "--port=9999"])
    assert line[:3] == [sys.executable, "-m", "jupyterlab"]
    assert line[3:] == [f"--notebook-dir={tmp_path}", "--no-browser", "--port=9999"]


def test_jupyterlab_knows_the_way_it_is_started(tmp_path):
    pytest.importorskip("jupyterlab")
    help_text = subprocess.run(
        command(tmp_path, ["--help"]), capture_output=True, text=True, timeout=300, check=True, cwd=ROOT
    ).stdout
    assert "--notebook-dir=" in help_text


def test_links_lead_to_the_built_book_which_stands_beside_the_exercises(tmp_path):
    site, learn = tmp_path / "build/html", tmp_path / "learn"
    assert not show_book(site, learn)
    (site / "layers").mkdir(parents=True)
    (site / "index.html").write_text("", "utf-8")
    (site / "layers/norm.html").write_text("the page", "utf-8")
    exercise = tmp_path / "exercises/layers/norm.md"
    exercise.parent.mkdir(parents=True)
    exercise.write_text("[page](../../layers/norm.md#how) [site](https://pytorch.org/a.md)", "utf-8")
    deliver(tmp_path / "exercises", learn)
    assert show_book(site, learn)
    assert show_book(site, learn)  # a second time, too
    text = (learn / "layers/norm.md").read_text("utf-8")
    assert text == "[page](../book/layers/norm.html#how) [site](https://pytorch.org/a.md)"
    assert (learn / "layers/../book/layers/norm.html").read_text("utf-8") == "the page"


@pytest.mark.parametrize("source", sorted((ROOT / "exercises").rglob("*.md")), ids=lambda path: path.stem)
def test_every_link_of_an_exercise_has_its_page(source, tmp_path):
    deliver(source.parents[1], tmp_path)
    text = (tmp_path / source.relative_to(source.parents[1])).read_text("utf-8")
    for target in re.findall(r"\]\((\.\./book/[^)#]+)\.html", text):
        assert (ROOT / "book" / target.removeprefix("../book/")).with_suffix(".md").exists()
