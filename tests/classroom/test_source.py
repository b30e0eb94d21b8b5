"""The source on the page is that of the library, without registration, with short docstrings."""

import ast
import functools
import inspect
import linecache
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import course_lib
from course_lib import registry
from course_lib.classroom import show_source, source
from course_lib.classroom.source import source_of
from course_lib.layers.norm import LayerNorm, layer_norm
from course_lib.registry import Chapter, entries

SAMPLE = '''
@implements(
    "layer-normalization",
    example=lambda: 1,
)
@functools.cache
class Sample(Base):
    """One line that stays.

    Args:
        x: goes.
    """

    """Not a docstring, stays."""

    @registry.implements("peri-ln")
    def method(self, x):
        r"""A formula \\alpha.

        Goes, too.
        """
        text = """
  kept as it is
"""

        def inner():
            \'\'\'Also
            cut.\'\'\'
            return text

        return inner

    def short(self):
        """Short."""

    def bare(self): "On the same line."; return 1
'''

SHOWN = '''@functools.cache
class Sample(Base):
    """One line that stays."""

    """Not a docstring, stays."""

    def method(self, x):
        r"""A formula \\alpha."""
        text = """
  kept as it is
"""

        def inner():
            """Also"""
            return text

        return inner

    def short(self):
        """Short."""

    def bare(self): "On the same line."; return 1'''


@pytest.fixture
def shown(monkeypatch):
    """What was displayed."""
    objects = []
    monkeypatch.setattr(source, "display", objects.append)
    return objects


class Places(HTMLParser):
    """File and line of every head, and the text of the page without its styles."""

    def __init__(self, text: str):
        super().__init__()
        self.places, self.text = [], ""
        self.feed(re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL))

    def handle_starttag(self, tag, attrs):
        if "data-path" in dict(attrs):
            self.places.append((dict(attrs)["data-path"], int(dict(attrs)["data-line"])))

    def handle_data(self, data):
        self.text += data


def test_registration_and_all_but_the_first_line_of_docstrings_are_cut(monkeypatch):
    monkeypatch.setattr(inspect, "getsourcelines", lambda _: (SAMPLE.splitlines(True)[1:], 1))
    assert source_of(LayerNorm) == SHOWN


CHECKED = '''
class Layer:
    """Doubles."""

    def __init__(self, dim):
        """Widths."""
        name = type(self).__name__
        require_positive(name, dim=dim)
        if dim > 9:
            raise ValueError("too wide")
        for value in (dim,):
            if value < 1:
                raise ValueError("too narrow")
        self.dim = dim

    def forward(self, x):
        require_real(x)
        if x is None:
            return 0
        return 2 * x

    def refuse(self):
        """Only this."""
        require_real(self)

    @property
    def size(self):
        return self.dim

    def extra_repr(self):
        return "2"
'''
UNCHECKED = '''class Layer:
    """Doubles."""

    def __init__(self, dim):
        """Widths."""
        self.dim = dim

    def forward(self, x):
        if x is None:
            return 0
        return 2 * x

    def refuse(self):
        """Only this."""
        require_real(self)

    @property
    def size(self):
        return self.dim'''


def test_checks_of_arguments_are_left_out_unless_they_are_all_there_is(monkeypatch):
    monkeypatch.setattr(inspect, "getsourcelines", lambda _: (CHECKED.splitlines(True)[1:], 1))
    assert source_of(LayerNorm) == UNCHECKED
    assert source_of(LayerNorm, checks=True) == CHECKED.strip()


def test_whole_docstrings_on_request():
    assert source_of(Chapter, docstring=True) == inspect.getsource(Chapter).rstrip()
    assert "Args:" in source_of(LayerNorm, docstring=True)
    assert "Args:" not in source_of(LayerNorm)


@pytest.mark.parametrize("name", sorted(entries()))
def test_everything_registered_can_be_shown_and_is_the_code_that_runs(name):
    obj = entries()[name].obj
    text = source_of(obj, checks=True)
    assert "@implements" not in text

    def skeleton(code: str) -> str:
        tree = ast.parse(code)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                decorators = [d for d in node.decorator_list if "implements" not in ast.unparse(d)]
                node.decorator_list = decorators
                if ast.get_docstring(node) is not None:
                    node.body = node.body[1:] or [ast.Pass()]
        return ast.dump(tree)

    original = inspect.getsource(inspect.unwrap(obj) if callable(obj) else obj)
    assert skeleton(text) == skeleton(inspect.cleandoc("\n" + original))


def test_the_head_names_file_and_line(shown):
    show_source(LayerNorm, layer_norm, LayerNorm.forward)
    root = Path(course_lib.__file__).parents[1]
    places = Places(shown[0].html_text).places
    assert len(places) == 3
    for (path, line), start in zip(
        places, ("class LayerNorm", "def layer_norm", "    def forward"), strict=True
    ):
        following = (root / path).read_text().splitlines()[line - 1 :]
        code = next(text for text in following if text.lstrip().startswith(("class ", "def ")))
        assert code.startswith(start)
    assert shown[0].plain.startswith(f"# {places[0][0]}, line {places[0][1]}\nclass LayerNorm")


def test_html_and_plain_text_hold_the_same_code(shown):
    show_source(layer_norm)
    page = Places(shown[0].html_text)
    assert source_of(layer_norm) in page.text
    assert source_of(layer_norm) in shown[0].plain
    assert '<div class="highlight">' in shown[0].html_text
    assert "style=" not in shown[0].html_text.split("</style>")[-1]  # colours come from the page's theme


def test_an_instance_a_property_and_a_partial_stand_for_their_code():
    assert source_of(LayerNorm(3)) == source_of(LayerNorm)
    assert source_of(Chapter.part) == source_of(Chapter.part.fget)
    assert source_of(functools.partial(layer_norm, eps=1.0)) == source_of(layer_norm)
    assert source_of(registry.papers).startswith("@cache\ndef papers")


def test_what_a_cell_defines_is_in_this_notebook(shown):
    code = "def twice(x):\n    return 2 * x\n"
    linecache.cache["<cell 1>"] = (len(code), None, code.splitlines(True), "<cell 1>")
    namespace = {"__name__": "__main__"}
    exec(compile(code, "<cell 1>", "exec"), namespace)
    show_source(namespace["twice"])
    assert shown[0].plain == "# this notebook, line 1\ndef twice(x):\n    return 2 * x"


@pytest.mark.parametrize("obj", [len, torch.relu, int])
def test_without_python_source_the_message_says_so(obj):
    with pytest.raises(ValueError, match=f"{obj.__name__} has no Python source"):
        show_source(obj)


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="needs something to show"):
        show_source()
