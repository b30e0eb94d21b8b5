"""One folder for everything that can be made again, and the user's word on it."""

from pathlib import Path

from course_lib.cache import cache_folder


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
