"""Notebooks that everybody can read, anywhere: figures in words, no network, no empty phrases."""

import ast
import re

import pytest

from tests.house.tree import ROOT, assert_none, called, cells, inside, notebooks, prose

NETWORK_MODULES = {
    "requests",
    "urllib",
    "urllib3",
    "http",
    "httpx",
    "aiohttp",
    "socket",
    "ftplib",
    "wget",
    "gdown",
}
NETWORK_CALLS = re.compile(r"^(download\w*|urlopen|urlretrieve|hf_hub_download|snapshot_download|fetch_\w+)$")
SHELL_NETWORK = re.compile(r"^\s*[!%](?:.*\W)?(pip|conda|wget|curl|git)\s", re.MULTILINE)
PHRASES = ("as you can see", "as can be seen", "as we can see", "obviously")


def silent_figures(root) -> list[str]:
    """Figures of code cells and images of the text that a screen reader cannot read."""
    found = []
    for page in notebooks(root):
        found += [f"{inside(page, root)}: {fault}" for code in cells(page) for fault in _code_faults(code)]
        found += [f"{inside(page, root)}: {fault}" for fault in _image_faults(prose(page))]
    return found


def _code_faults(code: str) -> list[str]:
    calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)]
    faults = []
    for call in calls:
        owner = getattr(getattr(call.func, "value", None), "id", "")
        if called(call) in ("figure", "explore") and owner != "plt":
            alt = next((k.value for k in call.keywords if k.arg == "alt"), None)
            if alt is None or (isinstance(alt, ast.Constant) and not str(alt.value).strip()):
                faults.append(f"{called(call)}(...) without alt=")
        if owner == "plt" and called(call) == "show":
            faults.append("plt.show() shows a figure without alt text; use figure(fig, alt=...)")
    made = [c for c in _outside_functions(code) if called(c) in ("subplots", "figure") and _owner(c) == "plt"]
    shown = [c for c in calls if called(c) in ("figure", "explore") and _owner(c) != "plt"]
    if made and not shown:
        faults.append("a figure is made in a cell without figure(fig, alt=...)")
    return faults


def _owner(call: ast.Call) -> str:
    return getattr(getattr(call.func, "value", None), "id", "")


def _outside_functions(code: str) -> list[ast.Call]:
    """Calls that run when the cell runs, not when a function is called later."""
    tree = ast.parse(code)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Lambda)]
    later = {id(n) for f in functions for n in ast.walk(f)}
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and id(n) not in later]


def _image_faults(text: str) -> list[str]:
    faults = [f"image {url} without alt text" for url in re.findall(r"!\[\s*\]\(([^)]*)\)", text)]
    for tag in re.findall(r"<img\b[^>]*>", text):
        if not re.search(r"""\balt=(["'])\s*\S.*?\1""", tag):
            faults.append(f"{tag} without alt text")
    for kind, options in re.findall(
        r"^[`:]{3,}\{(figure|image)\}[^\n]*\n((?::\w+:.*\n)*)", text, re.MULTILINE
    ):
        if not re.search(r"^:alt:\s*\S", options, re.MULTILINE):
            faults.append(f"{{{kind}}} without :alt:")
    return faults


def network_uses(root) -> list[str]:
    """Code cells that reach for the network, or install something."""
    found = []
    for page in notebooks(root):
        faults = [f"shell command with {name}" for name in SHELL_NETWORK.findall(page.read_text("utf-8"))]
        for code in cells(page):
            for node in ast.walk(ast.parse(code)):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                faults += [f"imports {m}" for m in modules if m.split(".")[0] in NETWORK_MODULES]
                if isinstance(node, ast.Call) and NETWORK_CALLS.match(called(node)):
                    faults.append(f"calls {called(node)}()")
                if isinstance(node, ast.Attribute) and node.attr == "hub":
                    faults.append("uses a model hub")
        found += [f"{inside(page, root)}: {fault}" for fault in faults]
    return found


def empty_phrases(root) -> list[str]:
    """Phrases that tell a reader to see what she may not see, or that praise."""
    found = []
    for page in notebooks(root):
        text = " ".join(page.read_text("utf-8").lower().split())
        found += [f"{inside(page, root)}: {phrase!r}" for phrase in PHRASES if phrase in text]
    return found


def test_every_figure_and_image_has_words():
    assert_none(silent_figures(ROOT))


def test_no_notebook_reaches_for_the_network():
    assert_none(network_uses(ROOT))


def test_no_page_says_as_you_can_see():
    assert_none(empty_phrases(ROOT))


def cell(code: str) -> dict[str, str]:
    """A page with one code cell."""
    return {"solutions/layers/toy.md": f"# Toys\n\n```{{code-cell}} ipython3\n{code}\n```\n"}


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("figure(fig)", "figure(...) without alt="),
        ("figure(fig, alt=' ')", "figure(...) without alt="),
        ("explore(draw, depth=[1, 2])", "explore(...) without alt="),
        ("plt.plot(x)\nplt.show()", "plt.show()"),
        ("fig, ax = plt.subplots()\nax.plot(x)", "a figure is made"),
        ("plt.figure()", "a figure is made"),
    ],
)
def test_a_figure_without_words_is_found(plant, code, fault):
    found = silent_figures(plant(cell(code)))
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    "code",
    [
        "fig, ax = plt.subplots()\nfigure(fig, alt='a line')",
        "def draw(depth):\n    fig, ax = plt.subplots()\n    return fig",
        "explore(draw, depth=[1, 2], alt=lambda depth: f'depth {depth}')",
        "text = 'plt.show()'",
    ],
)
def test_a_figure_with_words_passes(plant, code):
    assert silent_figures(plant(cell(code))) == []


@pytest.mark.parametrize(
    "text",
    [
        "![](a.png)",
        '<img src="a.png">',
        '<img src="a.png" alt="">',
        "```{figure} a.png\n:width: 50%\n\nCaption\n```",
        ":::{image} a.png\n:::",
    ],
)
def test_an_image_without_words_is_found(plant, text):
    assert len(silent_figures(plant({"book/layers/toy.md": f"Text\n\n{text}\n"}))) == 1


@pytest.mark.parametrize(
    "text", ["![A line](a.png)", '<img alt="A line" src="a.png">', "```{image} a.png\n:alt: A line\n```"]
)
def test_an_image_with_words_passes(plant, text):
    assert silent_figures(plant({"book/layers/toy.md": f"Text\n\n{text}\n"})) == []


@pytest.mark.parametrize(
    "code",
    [
        "import requests",
        "from urllib.request import urlopen as get",
        "import urllib.request",
        "data.download()",
        "download_mnist()",
        "fetch_openml('mnist_784')",
        "model = torch.hub.load('a', 'b')",
        "!pip install torch",
        "%pip install torch",
        "!cd x && wget http://a",
    ],
)
def test_each_way_to_the_network_is_found(plant, code):
    assert len(network_uses(plant(cell(code)))) == 1


def test_local_code_is_no_network(plant):
    assert network_uses(plant(cell("from course_lib.data import load\n!ls\nload('digits')"))) == []


def test_an_empty_phrase_is_found_over_a_line_break_and_in_any_case(plant):
    root = plant({"book/layers/toy.md": "As you\ncan see, it works."})
    assert empty_phrases(root) == ["book/layers/toy.md: 'as you can see'"]
