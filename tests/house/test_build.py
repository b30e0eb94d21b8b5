"""`make book` itself: it fails when it must, and it does nothing twice."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from html import unescape

import pytest

from tests.house.tiny_course import CHAPTER, INDEX, make, plant
from tests.house.tree import ROOT, tomllib
from tools.links import problems
from tools.publish import publishable, requirements

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A tiny course, built once for the tests that only look at it or change one file of it."""
    root = plant(tmp_path_factory.mktemp("course"))
    done = make(root, "book")
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def executed(root) -> dict[str, float]:
    """When each notebook was written."""
    found = (root / "build/notebooks").rglob("*.ipynb")
    return {path.relative_to(root / "build/notebooks").as_posix(): path.stat().st_mtime for path in found}


def touch(path) -> None:
    """Make the file newer than everything built so far, on coarse clocks too."""
    later = time.time() + 2
    os.utime(path, (later, later))


def test_the_site_holds_pages_index_and_ledger(built):
    html = built / "build/html"
    assert "42" in (html / "index.html").read_text("utf-8")
    catalogue = unescape(re.sub(r"<[^>]+>", "", (html / "catalogue/layers/toy.html").read_text("utf-8")))
    assert "double(x: int) → int" in catalogue
    assert "Twice the number" in catalogue
    ledger = json.loads((html / "claims.json").read_text("utf-8"))
    assert ledger["counts"]["headline"] == ledger["counts"]["paper"]
    assert ledger["counts"]["paper"]["reproduced"] == ledger["counts"]["identity"]["holds"] == 1
    assert ledger["statements"][0]["page"] == "layers/toy"
    assert (
        (html / "claims.csv")
        .read_text("utf-8")
        .splitlines()[1]
        .startswith("toy-paper.doubling-makes-larger,paper")
    )
    page = (html / "papers/1234.56789.html").read_text("utf-8")
    assert "doubling makes larger" in page
    assert "archivePrefix = {arXiv}" in unescape(re.sub(r"<[^>]+>", "", page))
    papers = (html / "papers.html").read_text("utf-8")
    assert "All about $toys$ | and _more_" in papers
    assert "1 of 2 papers are built" in papers


def test_a_second_build_does_nothing(built):
    before = executed(built)
    done = make(built, "book")
    assert done.returncode == 0, done.stdout + done.stderr
    assert executed(built) == before
    assert done.stdout.startswith("the book is in ")  # no notebook and no site is reported before


def test_a_changed_style_sheet_reaches_the_site(built):
    style = built / "book/_static/custom.css"
    style.write_text(style.read_text("utf-8") + "/* changed */\n", "utf-8")
    touch(style)
    done = make(built, "book")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/* changed */" in (built / "build/html/_static/custom.css").read_text("utf-8")


def test_a_changed_module_executes_its_chapter_and_no_other(built):
    before = executed(built)
    touch(built / "course_lib/layers/toy.py")
    done = make(built, "notebooks")
    assert done.returncode == 0, done.stdout + done.stderr
    changed = [name for name, written in executed(built).items() if written != before[name]]
    assert changed == ["layers/toy.ipynb"]


def test_a_failing_cell_fails_the_book_and_is_named(tmp_path):
    root = plant(tmp_path)
    page = root / "book/layers/toy.md"
    page.write_text(CHAPTER + "\n```{code-cell} ipython3\n1 / 0\n```\n", "utf-8")
    done = make(root, "book")
    assert done.returncode != 0
    assert "FAILED book/layers/toy.md, line" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert not (root / "build/html").exists()
    assert (root / "build/notebooks/index.ipynb").exists()  # the other notebooks are made all the same


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import warnings\nwarnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
        ("import urllib.request\nurllib.request.urlopen('http://example.org')", "runs without network"),
    ],
    ids=["warning", "network"],
)
def test_a_cell_may_neither_warn_nor_reach_another_host(tmp_path, code, message):
    (tmp_path / "page.md").write_text(INDEX + f"\n```{{code-cell}} ipython3\n{code}\n```\n", "utf-8")
    command = [sys.executable, str(ROOT / "tools/execute.py"), "page.md", "page.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "page.ipynb").exists()


def test_a_link_to_nowhere_fails_the_book_each_time(built, tmp_path):
    root = tmp_path / "course"
    shutil.copytree(built, root)
    page = root / "book/index.md"
    page.write_text(INDEX + "\nSee [this](layers/nowhere.md).\n", "utf-8")
    touch(page)
    for _ in range(2):  # Sphinx would be silent about a page that it has kept
        done = make(root, "book")
        assert done.returncode != 0
        assert "nowhere" in done.stderr
    assert not list((root / "build").glob("site-*.stamp"))


def test_the_link_check_finds_dead_links_anchors_and_other_hosts(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">ok</a> <a href="b.html#gone">no</a> <a href="c.html">no</a>'
        '<script src="https://cdn.example/x.js"></script> <a href="https://example.org">fine</a>'
    )
    (tmp_path / "b.html").write_text('<p id="here">')
    (tmp_path / "s.css").write_text("@font-face { src: url(https://fonts.example/f.woff2) } a { color: red }")
    dead = ["a.html: b.html#gone leads nowhere", "a.html: c.html leads nowhere"]
    assert problems(tmp_path, offline=False) == dead
    asked = ["a.html: loads https://cdn.example/x.js", "s.css: loads https://fonts.example/f.woff2"]
    assert problems(tmp_path, offline=True) == dead + asked


def test_published_notebooks_install_the_library_and_lead_to_each_other():
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["See [toys](layers/toy.md#use).\n"]}
    made = publishable({"cells": [cell], "metadata": {}}, "owner/name")
    first, second = made["cells"]
    assert '%pip install --quiet "course-lib[book] @ git+https://github.com/owner/name"' in first["source"]
    assert second["source"] == "See [toys](layers/toy.ipynb#use).\n"
    wanted = requirements("owner/name", (ROOT / "requirements.lock").read_text())
    assert re.search(r"^torch==\d", wanted, re.MULTILINE)
    assert "git+https://github.com/owner/name" in wanted


def test_the_lock_pins_every_package_and_brings_no_cuda():
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != "#"]
    assert all(re.match(r"[a-z0-9-]+==[\w.]+( ; .+)?$", pin) for pin in pins)
    names = {pin.split("==")[0] for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    direct = {re.match(r"[\w-]+", name)[0].lower() for name in wanted} - {"course-lib"}
    assert direct <= names
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_buttons_for_colab_need_a_repository(built, monkeypatch):
    """sphinx reads build/source/conf.py; here it is read with and without the address of a repository."""
    options = {}
    for repository in ("owner/name", ""):
        monkeypatch.setenv("GITHUB_REPOSITORY", repository)
        found = runpy.run_path(str(built / "build/source/conf.py"))["html_theme_options"]
        options[repository] = found["repository_url"], found["launch_buttons"]
    assert options[""] == ("", {})
    address, buttons = options["owner/name"]
    assert address == "https://github.com/owner/name"
    assert set(buttons) >= {"colab_url", "binderhub_url"}
