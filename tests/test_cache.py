"""Where the course may write: its own source tree, or one folder for what can be made again."""

import os
from pathlib import Path

import pytest

import course_lib
from course_lib.cache import cache_folder, source_tree


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("COURSE_CACHE", raising=False)
    assert cache_folder() == tmp_path / "xdg" / "course_lib"
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("COURSE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder().name == "course_lib"
    assert Path.home() in cache_folder().parents


def test_the_package_under_test_lies_in_its_source_tree():
    assert source_tree() == Path(course_lib.__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("folder", "project", "found"),
    [
        ("tree/course_lib", '[project]\nname = "course-lib"', True),
        ("tree/course_lib", '[project]\nname = "course_lib"', True),
        ("tree/course_lib", '[project]\nname = "mine"', False),
        ("tree/deeper/course_lib", '[project]\nname = "course-lib"', False),
        ("tree/course_lib", "[tool.ruff]", False),
        ("tree/course_lib", "project = 3", False),
        ("tree/course_lib", "[project]\nname = 3", False),
        ("tree/course_lib", "no toml", False),
        ("tree/course_lib", None, False),
        ("site-packages/course_lib", '[project]\nname = "course-lib"', False),
        ("dist-packages/course_lib", '[project]\nname = "course-lib"', False),
        ("tree/.venv/lib/site-packages/tree/course_lib", '[project]\nname = "course-lib"', False),
    ],
)
def test_only_the_course_itself_is_a_source_tree(tmp_path, folder, project, found):
    package = tmp_path / folder
    package.mkdir(parents=True)
    tree = tmp_path / "tree" if "deeper" in folder else package.parent
    if project is not None:
        (tree / "pyproject.toml").write_text(project)
    assert source_tree(package) == (tree if found else None)


def test_a_tree_that_cannot_be_written_is_none(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "course-lib"')
    (tmp_path / "course_lib").mkdir()
    assert source_tree(tmp_path / "course_lib") == tmp_path
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert source_tree(tmp_path / "course_lib") is None
