"""One table for pages, terminals and Markdown."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from course_lib.tables import Displayed, Table, cell_text


class Tags(HTMLParser):
    """Every opening tag with its attributes, and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_table_has_heads_for_columns_and_rows_and_escapes_what_it_holds():
    shown = Table([["a<b", 1, 0.5], ["c", 20, None]], ["name", "s&ze", "score"], "Sizes & scores")
    page = Tags(shown._repr_mimebundle_()["text/html"])
    assert [th["scope"] for th in page.all("th")] == ["col"] * 3 + ["row"] * 2
    assert len(page.all("td")) == 4
    assert len(page.all("caption")) == 1
    for text in ("a<b", "s&ze", "Sizes & scores"):
        assert text in page.text
    (box,) = page.all("div")
    assert (box["tabindex"], box["role"], box["aria-label"]) == ("0", "region", "Sizes & scores")
    assert "overflow-x:auto" in box["style"]


def test_all_three_forms_say_the_same():
    link = Displayed('<a href="x">here</a>', "here (x)")
    shown = Table([[2016, link], [7, "there"]], ["year", "place"], "Places", head=1)
    assert str(shown) == "Places\nyear  place\n2016  here (x)\n   7  there"
    assert shown.markdown == "| year | place |\n| ---: | --- |\n| 2016 | here (x) |\n| 7 | there |"
    assert '<th scope="row" style="text-align:left"><a href="x">here</a></th>' in shown.html_text


def test_numbers_stand_right_unless_the_sides_are_given():
    columns = ["name", "number"]
    sides = re.compile(r'scope="col" style="text-align:(\w+)"')
    assert sides.findall(Table([["a", 1.0], ["b", None]], columns).html_text) == ["left", "right"]
    assert sides.findall(Table([["a", "1"]], columns).html_text) == ["left", "left"]
    assert sides.findall(Table([["a", "1"]], columns, align="rr").html_text) == ["right", "right"]
    assert str(Table([], columns)) == "name  number"


class Spread:
    """A mean with its spread."""

    def __float__(self):
        return 0.5

    def __str__(self):
        return "0.5 ± 0.1"


CELLS = [
    (0.123456, "0.123"),
    (12345.6, "12346"),
    (1e-7, "1e-07"),
    (3, "3"),
    (True, "True"),
    (torch.tensor(0.25), "0.25"),
    (np.float32(2.5), "2.5"),
    (Spread(), "0.5 ± 0.1"),
    (None, "–"),
    (float("nan"), "nan"),
]


@pytest.mark.parametrize(("value", "text"), CELLS)
def test_cells_are_short(value, text):
    assert cell_text(value) == text


def test_ragged_tables_are_refused():
    with pytest.raises(ValueError, match=r"has 1 cells, but there are 2 columns: \['a', 'b'\]"):
        Table([[1, 2], [3]], ["a", "b"])
    with pytest.raises(ValueError, match="an l or an r for each"):
        Table([[1, 2]], ["a", "b"], align="lc")
