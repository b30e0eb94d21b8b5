"""The book as ``make book OFFLINE=1`` makes it, read in a real browser that reaches no other host."""

import gzip
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.house.tree import ROOT
from tools.contents import Contents
from tools.deps import notebooks
from tools.turns import kind_of
from tools.vendor import vendored_files

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FILE = "tests/browser/test_site.py"
PAGES = Contents.read(ROOT).pages
SOURCES = ("book", "course_lib", "exercises", "solutions", "tools", "_config.yml", "_toc.yml")

# Formulas are set after the page is loaded.
READY = """async () => {
  if (document.querySelector(".math") && !window.MathJax?.startup?.promise) return false;
  await window.MathJax?.startup?.promise;
  return true;
}"""

# Dollars and backslashes that a reader would see, code left out.
RAW_MATHS = r"""() => {
  const walker = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const code = node.parentElement.closest("pre, code, script, style, mjx-container, .sig");
    if (!code && /\$\$|\\[([]|\\[a-z]+\{/.test(node.data)) found.push(node.data.trim().slice(0, 80));
  }
  return found;
}"""

UNSET_MATHS = """() => [...document.querySelectorAll("article .math")]
  .filter(part => !part.querySelector("mjx-container") || part.querySelector("mjx-merror"))
  .map(part => part.textContent.slice(0, 80))"""

# Text whose contrast with what lies behind it is below WCAG's 4.5 (3 for headings).
# Left out are the marks beside headings, which show when a pointer is near.
FAINT_TEXT = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = (top, under) => {
    const alpha = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map(i => alpha * top[i] + (1 - alpha) * under[i]);
  };
  const grounds = new Map([[null, [255, 255, 255]]]);
  const behind = element => {
    if (!grounds.has(element)) {
      const own = parse(getComputedStyle(element).backgroundColor);
      grounds.set(element, over(own, behind(element.parentElement)));
    }
    return grounds.get(element);
  };
  const light = colour => {
    const [r, g, b] = colour.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  const chosen = "p, li, td, th, dt, h1, h2, h3, a, label, output, .widget-label, .widget-readout, .verdict";
  for (const element of document.querySelectorAll(chosen)) {
    const seen = element.closest("article") && element.textContent.trim() && element.checkVisibility();
    if (!seen || element.matches(".headerlink")) continue;
    const back = behind(element);
    const front = over(parse(getComputedStyle(element).color), back);
    const lights = [light(front), light(back)].sort((a, b) => a - b);
    const contrast = (lights[1] + 0.05) / (lights[0] + 0.05);
    const where = element.tagName.toLowerCase() + "." + element.className;
    if (contrast < (/^H[123]$/.test(element.tagName) ? 3 : 4.5)) {
      found[where] = contrast.toFixed(2) + " " + where + ": " + element.textContent.trim().slice(0, 40);
    }
  }
  return Object.values(found);
}"""

TOO_WIDE = """() => {
  const page = document.documentElement;
  if (page.scrollWidth <= page.clientWidth) return [];
  const wide = [...document.querySelectorAll("main *")]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > page.clientWidth + 1)
    .map(e => e.tagName.toLowerCase() + "." + e.className);
  return [page.scrollWidth + " > " + page.clientWidth, ...wide.slice(0, 5)];
}"""

# A resize is handled in the next frames.
TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

NAMELESS_IMAGES = """() => [...document.images]
  .filter(i => !i.hasAttribute("alt") || (i.closest("article") && !i.alt.trim()))
  .map(i => i.src.slice(0, 80))
  .concat([...document.querySelectorAll("article :is(.course-figure, .course-drawing) svg")]
    .filter(i => i.getAttribute("role") !== (i.querySelector("a") ? "group" : "img")
      || !i.getAttribute("aria-label").trim())
    .map(i => i.outerHTML.slice(0, 80)))"""

FRAMES = """figure => [...figure.querySelectorAll(".course-frame svg")]
  .filter(i => i.checkVisibility({visibilityProperty: true}))
  .map(i => [i.outerHTML.length, i.outerHTML.slice(-2000), i.getAttribute("aria-label")])"""


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for many files

    def log_message(self, *arguments) -> None:
        """A test prints nothing."""

    def end_headers(self) -> None:
        """Let the browser keep what all pages share."""
        if "/_static/" in self.path:
            self.send_header("Cache-Control", "max-age=86400")
        super().end_headers()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The book, built to stand alone from the notebooks that are executed already."""
    pytest.importorskip("playwright", reason="Playwright is not installed")
    missing = [str(target) for target in notebooks(ROOT).values() if not (ROOT / target).exists()]
    if missing:
        pytest.skip(f"not executed yet (make notebooks): {', '.join(missing)}")
    _require_packages()
    root = _tree(tmp_path_factory.mktemp("site"))
    environment = {**os.environ, "OFFLINE": "1", "PYTHONPATH": str(root), "PYTHONWARNINGS": ""}
    for tool in ("assemble", "build_site"):  # what the rule of `make book` runs
        command = [sys.executable, f"tools/{tool}.py"]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        if done.returncode:
            pytest.fail(f"tools/{tool}.py failed:\n{done.stdout}{done.stderr}", pytrace=False)
    return root / "build/html"


@pytest.fixture(scope="module")
def site(folder):
    """The address of the book."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _require_packages() -> None:
    """Have npm's packages in the cache of ``make book``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("npm_config_fetch_retries", "0")
        try:
            vendored_files(ROOT / "build/vendor")
        except (SystemExit, subprocess.CalledProcessError) as error:
            pytest.skip(f"the JavaScript packages cannot be had: {error}")


def _tree(root):
    """The repository with a ``build`` of its own, so that nobody's site is changed."""
    for name in SOURCES:
        (root / name).symlink_to(ROOT / name)
    (root / "build").mkdir()
    for name in ("notebooks", "vendor"):
        (root / "build" / name).symlink_to(ROOT / "build" / name)
    return root


def words_of(text: str) -> str:
    """Markup without its tags."""
    return re.sub(r"<[^>]*>", "", text).strip()


def test_what_can_be_operated_has_a_name_and_what_is_a_list_is_one(folder):
    faults = []
    for path in sorted(folder.rglob("*.html")):
        name = path.relative_to(folder).as_posix()
        if name.startswith("_static/"):
            continue
        text = path.read_text("utf-8")
        for tag, what in (("summary", "a fold"), ("th", "a head"), ("button", "a button")):
            for found in re.finditer(rf"<{tag}\b([^>]*)>(.*?)</{tag}>", text, re.DOTALL):
                if not words_of(found[2]) and not re.search(r'(aria-label|title)="[^"]', found[1]):
                    faults.append(f"{name}: {what} without words: {found[0][:80]}")
        if re.search(r"<dl>\s*<dd", text):
            faults.append(f"{name}: a list of definitions that defines nothing")
        regions = Counter(re.findall(r'role="region" aria-label="([^"]*)"', text))
        faults += [f"{name}: {n} regions are called {label}" for label, n in regions.items() if n > 1]
        if '<meta name="description"' not in text and name not in ("search.html", "genindex.html"):
            faults.append(f"{name}: no sentence to share")
    assert faults == []


def test_a_page_waits_for_one_style_sheet_and_no_script(folder):
    for name in PAGES:
        head = (folder / f"{name}.html").read_text("utf-8")
        assert len(re.findall(r'<link[^>]*rel="stylesheet"', head)) == 1, name
        waits = [tag for tag in re.findall(r"<script[^>]*src=[^>]*>", head) if "defer" not in tag]
        assert ["documentation_options.js" in tag for tag in waits] == [True], name


CHAPTERS = [name for name in Contents.read(ROOT).finished if name in PAGES]


def test_the_heaviest_chapters_weigh_at_most_half_a_megabyte(folder, site, browser):
    texts = {name: (folder / f"{name}.html").read_bytes() for name in CHAPTERS}
    longest = max(texts, key=lambda name: len(gzip.compress(texts[name])))
    mathematical = max(texts, key=lambda name: texts[name].count(b'class="math'))
    for name in {longest, mathematical}:
        context = browser.new_context()  # nothing is kept from other pages
        page, asked = context.new_page(), set()
        page.on("request", lambda request, asked=asked: asked.add(request.url))
        page.goto(f"{site}/{name}.html", wait_until="load")
        page.wait_for_function(READY)
        page.wait_for_load_state("networkidle")
        files = {folder / urlsplit(url).path[1:] for url in asked if url.startswith(site)}
        sizes = [
            len(data) if path.suffix.startswith(".woff") else len(gzip.compress(data))
            for path in files
            if (data := path.read_bytes())
        ]
        context.close()
        assert sum(sizes) <= 500_000, (name, sum(sizes))


def visit(watched, address: str):
    """Open a page and wait until nothing of it is missing."""
    page = watched.page
    page.goto(address, wait_until="load")
    page.wait_for_function(READY)
    return page


def test_the_pages_tested_are_all_of_the_book():
    assert {"index", "papers", "claims", "start/first_steps", "layers/norm"} <= set(PAGES)


def rotating(names: list[str]) -> list:
    """The pages of the whole course are visited every day, what there is of each chapter goes round."""
    rotates = pytest.mark.rotates(3)
    return [
        pytest.param(name, marks=rotates) if kind_of(f"{FILE}::test[{name}]") == "browser, chapters" else name
        for name in names
    ]


@pytest.mark.parametrize("name", rotating(PAGES))
def test_a_page_is_complete_in_light_and_dark_on_a_laptop_and_a_phone(site, watched, name):
    page = visit(watched, f"{site}/{name}.html")
    assert page.evaluate(UNSET_MATHS) == []
    assert page.evaluate(RAW_MATHS) == []
    assert page.evaluate(NAMELESS_IMAGES) == []
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_selector(f'html[data-theme="{scheme}"]', state="attached")
        assert page.evaluate(FAINT_TEXT) == [], scheme
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 844})
            page.evaluate(TWO_FRAMES)
            assert page.evaluate(TOO_WIDE) == [], f"{scheme}, {width} px"
    assert grounds[0] != grounds[1]
    page.set_viewport_size({"width": 1280, "height": 900})
    for figure in page.locator(".course-explore").all():
        for slider in figure.locator("input[type=range]").all():
            _move(page, figure, slider)
    assert watched.faults == []


def test_formulas_are_set_where_the_course_has_formulas(site, watched):
    page = visit(watched, f"{site}/layers/norm.html")
    assert page.locator("article .math mjx-container").count() >= 20


def test_the_chapters_have_sliders(site, watched):
    for name in PAGES:
        with urllib.request.urlopen(f"{site}/{name}.html") as answer:
            if b'class="course-explore"' in answer.read():
                break
    page = visit(watched, f"{site}/{name}.html")
    assert page.locator(
        ".course-explore input[type=range]"
    ).count()  # each is moved where the page is visited


def _move(page, figure, slider) -> None:
    """Press the right arrow: another setting is announced, and another drawing with its own text is seen."""
    (before,), value = figure.evaluate(FRAMES), slider.get_attribute("aria-valuetext")
    assert slider.evaluate("input => input.labels[0].textContent.trim()")
    slider.focus()
    page.keyboard.press("ArrowRight")
    for _ in range(1000):  # another drawing comes in some frame, at the latest after a minute
        (after,) = figure.evaluate(FRAMES)
        if after[:2] != before[:2]:
            break
        page.wait_for_timeout(50)
    assert after[:2] != before[:2], "the drawing is the same"
    assert after[2] != before[2], "the alt text is the same"
    assert slider.get_attribute("aria-valuetext") != value


def test_the_filter_of_the_papers_hides_what_does_not_fit(site, watched):
    page = visit(watched, f"{site}/papers.html")
    rows, shown = page.locator("#paper-table tbody tr"), page.locator("#paper-table tbody tr:visible")
    box, count = page.get_by_role("searchbox", name="Filter"), page.locator("#paper-table output")
    assert (rows.count(), shown.count(), count.inner_text()) == (421, 421, "421 rows")
    box.press_sequentially("Normalization layer")
    texts = rows.all_text_contents()
    fitting = [t for t in texts if "normalization" in t.lower() and "layer" in t.lower()]
    assert 0 < len(fitting) < 421
    assert shown.all_text_contents() == fitting
    assert count.inner_text() == f"{len(fitting)} of 421"
    box.press("Escape")
    assert (shown.count(), count.inner_text()) == (421, "421 rows")
    assert watched.faults == []


def test_layers_can_be_chosen_by_keyboard_and_the_choice_sent_to_somebody(site, watched):
    page = visit(watched, f"{site}/which_layer.html")
    shown, count = page.locator("#layer-table tbody tr:visible"), page.locator("#layer-table output")
    if not count.count():
        pytest.skip("no chapter has put its layers side by side yet")
    total = shown.count()
    assert count.inner_text() == f"{total} rows"
    kind = shown.nth(0).locator("td").nth(1).inner_text()
    page.get_by_label("Input").select_option(kind)
    page.get_by_label("Parameters, at most").press_sequentially("1,000")
    page.get_by_role("button", name="Operations").press("Enter")
    numbers = [
        [_number(text) for text in shown.nth(i).locator("td").all_inner_texts()] for i in range(shown.count())
    ]
    assert all(row[2] <= 1000 for row in numbers)
    operations = [row[3] for row in numbers]
    assert operations == sorted(operations)
    chosen, words = shown.all_inner_texts(), count.inner_text()
    assert set(shown.locator("td:nth-child(2)").all_inner_texts()) <= {kind}
    assert words == f"{len(chosen)} of {total}"
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Operations")
    page.get_by_role("button", name="Operations").press("Enter")
    assert shown.all_inner_texts() != chosen or len(set(operations)) < 2
    page.goto("about:blank")
    other = visit(watched, f"{site}/which_layer.html#input={kind}&parameters=1%2C000")
    assert sorted(shown.all_inner_texts()) == sorted(chosen)
    assert other.locator("#layer-table output").inner_text() == words
    assert watched.faults == []


def _number(text: str) -> float | None:
    digits = text.replace(",", "").split()
    try:
        return float(digits[0])
    except (IndexError, ValueError):
        return None


# What readers typed, and the pages of which one must be among the first two found.
QUERIES = {
    "rmsnorm vs layernorm": ["layers/norm", "papers/1607.06450"],
    "why post-ln explodes": ["layers/norm"],
    "kv cache size": ["layers/attention", "papers/1911.02150"],
    "grouped query attention": ["layers/attention"],
    "monarch matrix": ["layers/structured"],
    "how does batch norm work": ["layers/norm"],
    "what is attention": ["layers/attention"],
    "peri-ln reproduce": ["papers/2502.02732", "layers/norm"],
    "low rank adaptation": ["layers/structured", "papers/2209.13569"],
    "forward-forward": ["training/local_learning"],
    "swiglu": ["layers/activation"],
    "2307.11888": ["papers"],
}


@pytest.mark.parametrize("words", QUERIES)
def test_what_readers_look_for_is_among_the_first_two(site, watched, words):
    page = watched.page
    page.goto(f"{site}/search.html?q={words.replace(' ', '+')}")
    page.wait_for_function("document.getElementById('course-search-state').textContent", timeout=60_000)
    links = page.locator("#course-search-results > li > a")
    found = [links.nth(i).get_attribute("href") for i in range(min(2, links.count()))]
    names = [link.removeprefix(f"{site}/").removesuffix(".html") for link in found]
    assert set(names) & set(QUERIES[words]), names
    assert watched.faults == []


def test_the_parts_of_the_course_fold_and_what_one_looks_up_stands_above_them(site, watched):
    page = visit(watched, f"{site}/layers/norm.html")
    parts = page.locator(".bd-docs-nav details.part")
    opened = parts.evaluate_all("parts => parts.filter(part => part.open).map(part => part.innerText)")
    assert [text.split()[0] for text in opened] == ["Layers"]
    captions = page.locator(".bd-docs-nav .caption-text").all_inner_texts()
    assert captions[:2] == ["Start here", "Look things up"]
    assert watched.faults == []


def test_only_the_search_page_asks_for_the_index(site, watched):
    asked = []
    watched.page.on("request", lambda request: asked.append(request.url))
    visit(watched, f"{site}/layers/norm.html")
    assert not [url for url in asked if "pagefind" in url or "searchindex" in url]
