"""JupyterLab as ``make lab`` starts it: a real server, a real kernel, a real browser."""

import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.house.tree import ROOT
from tools.lab import command, deliver, set_defaults

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EXERCISE = "layers/norm.md"
TODO = "write its body first"
PATIENCE = 300_000  # milliseconds: a kernel that imports torch on a busy machine of two cores
ATTEMPTS = 5


@pytest.fixture
def learn(tmp_path):
    """A learner's folder with the copies of the exercises."""
    deliver(ROOT / "exercises", tmp_path / "learn")
    return tmp_path / "learn"


@pytest.fixture
def lab(learn, tmp_path):
    """The address of JupyterLab on that folder, with nobody's settings but the course's."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    prefix = tmp_path / "prefix"
    set_defaults(prefix)
    own = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    own["JUPYTER_CONFIG_PATH"] = str(prefix / "etc/jupyter")
    own["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    own["PYTHONWARNINGS"] = ""
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token="]
    options += ["--ServerApp.disable_check_xsrf=True", f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}"]
    options += [f"--LabApp.user_settings_dir={tmp_path / 'settings'}"]
    log = tmp_path / "lab.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            command(learn, options), env={**os.environ, **own}, stdout=stream, stderr=stream, cwd=tmp_path
        )
        try:
            yield _address(server, log)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _address(server, log) -> str:
    """Where the server listens, once it answers."""
    for _ in range(3000):  # ten minutes, on any machine
        if server.poll() is not None:
            break
        text = log.read_text("utf-8")
        if "http://127.0.0.1:" in text:
            address = "http://127.0.0.1:" + text.split("http://127.0.0.1:")[1].split("/")[0]
            try:
                with urllib.request.urlopen(f"{address}/api", timeout=5):
                    return address
            except urllib.error.URLError:
                pass
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text('utf-8')[-3000:]}", pytrace=False)


def open_by_double_click(page, address: str) -> None:
    """Go through the file browser to the exercise, as a learner does."""
    page.goto(f"{address}/lab")
    for name in EXERCISE.split("/"):
        page.locator(f'.jp-DirListing-item[title^="Name: {name}"]').dblclick()
    page.wait_for_selector(".jp-NotebookPanel:visible .jp-CodeCell")


def run_all(page) -> None:
    """Run > Run All Cells, from the menu, and once more if JupyterLab lost the request.

    It does where the kernel is still starting, also when its status says idle; a learner clicks again.
    """
    from playwright.sync_api import TimeoutError as Expired  # the fixture has skipped where it is missing

    page.get_by_text("(ipykernel) | Idle").wait_for(timeout=PATIENCE)
    started = page.locator(".jp-InputPrompt", has_text=re.compile(r"[\d*]"))
    for _ in range(ATTEMPTS):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        try:
            started.first.wait_for(timeout=60_000)
            return
        except Expired:
            continue
    pytest.fail(f"no cell began to run after {ATTEMPTS} times Run All Cells")


def test_an_exercise_says_what_to_do_and_then_that_it_is_done(watched, lab, learn):
    page = watched.page
    copy = learn / EXERCISE
    open_by_double_click(page, lab)
    run_all(page)
    page.locator(".jp-OutputArea", has_text=TODO).first.wait_for(timeout=PATIENCE)
    assert page.locator(".jp-OutputArea", has_text="✓").count() == 0

    shutil.copy(ROOT / "solutions" / EXERCISE, copy)
    solved = copy.read_bytes()
    page.reload()
    page.wait_for_selector(".jp-NotebookPanel:visible .jp-CodeCell")
    run_all(page)
    page.locator(".jp-OutputArea", has_text="✓").first.wait_for(timeout=PATIENCE)
    assert page.get_by_text(TODO).count() == 0

    assert deliver(ROOT / "exercises", learn) == []  # a second `make lab`
    assert copy.read_bytes() == solved
