"""A real browser, Chromium, that reaches this machine only."""

import shutil
from urllib.parse import urlsplit

import pytest

HERE = "127.0.0.1"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",  # containers have none, and every page comes from this machine
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HERE}",
]


# For one file of tests, not for all: while Playwright runs, its event loop is in the way of others.
@pytest.fixture(scope="module")
def browser():
    """Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Watched:
    """A page, and what it did that it must not: errors, and requests to other hosts."""

    def __init__(self, page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("request", self._on_request)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        page.on("response", self._on_response)

    def _on_request(self, request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob", "about") and address.hostname != HERE:
            self.faults.append(f"asks another host: {request.url}")

    def _on_console(self, message) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text}")

    def _on_response(self, response) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.status}: {response.url}")


@pytest.fixture(scope="module")
def context(browser):
    """One profile for all pages, so that scripts and fonts are fetched and compiled once."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(300_000)  # milliseconds: on a busy machine
    yield context
    context.close()


@pytest.fixture
def watched(context):
    """A new page, as wide as a laptop's screen."""
    page = context.new_page()
    yield Watched(page)
    page.close()
