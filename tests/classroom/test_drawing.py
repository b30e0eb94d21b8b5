"""Drawings and predictions: what is refused, what is drawn where, and that it is read aloud."""

import re
import xml.etree.ElementTree as ET

import pytest
import torch

from course_lib.classroom.drawing import CELL, COLUMN, ROLES, ROW, Drawing, drawing
from course_lib.classroom.predict import predict
from course_lib.classroom.style import contrast

SVG = "{http://www.w3.org/2000/svg}"


def parts(made, tag):
    """The elements of a kind in the picture, which must be well-formed."""
    return list(ET.fromstring(made.svg()).iter(SVG + tag))


def test_a_tensor_has_a_cell_for_each_number_and_marks_in_the_colour_of_a_role():
    made = Drawing("a grid")
    made.tensor((2, 3), at=(1, 2), role="query", label="Q", below="(t, d)", mark={(0, 1): "key"})
    cells = parts(made, "rect")
    assert len(cells) == 6
    assert float(cells[0].get("x")) == COLUMN - 1.5 * CELL
    assert float(cells[0].get("y")) == 2 * ROW - CELL
    assert [cell.get("fill") for cell in cells] == [ROLES["query"], ROLES["key"], *[ROLES["query"]] * 4]
    assert [float(cell.get("fill-opacity")) for cell in cells] == [0.2, 1, 0.2, 0.2, 0.2, 0.2]
    assert [text.text for text in parts(made, "text")] == ["Q", "(t, d)"]


def test_numbers_are_written_into_cells_that_hold_them():
    made = Drawing("numbers")
    node = made.tensor((1, 2), at=(0, 0), values=[[1, -0.25]])
    assert [text.text for text in parts(made, "text")] == ["1", "-0.25"]
    assert node.width == 2 * (8 + 7.5 * 5)


def test_numbers_take_their_shape_from_the_values_and_have_a_true_minus_sign():
    made = Drawing("numbers")
    row = made.numbers([1, -2, "a-b"], at=(0, 0), cell=40)
    grid = made.numbers(torch.tensor([[0.0, -1.25], [3.5, 0.0]]), at=(2, 0), places=1, mark="nonzero")
    assert (row.width, row.height) == (120, 40)
    assert grid.width == grid.height
    words = [text.text for text in parts(made, "text")]
    assert words == ["1", "−2", "a-b", "0.0", "−1.2", "3.5", "0.0"]
    strengths = [float(cell.get("fill-opacity")) for cell in parts(made, "rect")]
    assert strengths == [0.2] * 3 + [0.2, 1.0, 1.0, 0.2]


def test_a_chain_is_an_arrow_between_neighbours():
    made, same = Drawing("a chain"), Drawing("a chain")
    for drawn in (made, same):
        nodes = [drawn.box(name, at=(i, 0)) for i, name in enumerate("abc")]
        if drawn is made:
            drawn.chain(*nodes, labels=["first"])
        else:
            drawn.arrow(nodes[0], nodes[1], label="first")
            drawn.arrow(nodes[1], nodes[2])
    assert made.svg() == same.svg()


# Background and text of the site, and of JupyterLab.
PAGES = {"light": ("#ffffff", "#222832"), "dark": ("#14181e", "#ced6dd"), "lab": ("#111111", "#ffffff")}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("page", PAGES)
def test_numbers_in_cells_can_be_read_on_every_page(role, page):
    background, ink = PAGES[page]
    made = Drawing("numbers")
    made.tensor((1, 2), at=(0, 0), values=[[1, 2]], role=role, mark={(0, 1)})
    for cell, text in zip(parts(made, "rect"), parts(made, "text"), strict=True):
        strength = float(cell.get("fill-opacity"))
        behind = [
            strength * _part(cell.get("fill"), i) + (1 - strength) * _part(background, i) for i in range(3)
        ]
        fill = text.get("style", f"fill:{ink}").removeprefix("fill:")
        assert contrast(fill, tuple(behind)) >= 4.5


def _part(colour, i):
    """Red, green or blue of ``#rrggbb``, from 0 to 1."""
    return int(colour[1 + 2 * i : 3 + 2 * i], 16) / 255


def test_links_of_a_drawing_can_be_reached():
    made = Drawing("a map")
    made.box("a chapter", at=(0, 0))
    assert ET.fromstring(made.svg()).get("role") == "img"
    made.box("another", at=(1, 0), href="other.html")
    assert ET.fromstring(made.svg()).get("role") == "group"


@pytest.mark.parametrize("bend", [0.0, 60.0, -60.0])
def test_an_arrow_runs_from_edge_to_edge(bend):
    made = Drawing("an arrow")
    start, end = made.box("f", at=(0, 0)), made.box("g", at=(2, 0))
    made.arrow(start, end, label="then", bend=bend)
    (line,), (head,) = parts(made, "path"), parts(made, "polygon")
    x0, y0 = map(float, re.match(r"M(\S+) (\S+) ", line.get("d")).groups())
    tip = tuple(map(float, head.get("points").split()[0].split(",")))
    inside = [
        abs(p[0] - n.x) < n.width / 2 and abs(p[1] - n.y) < n.height / 2
        for p, n in (((x0, y0), start), (tip, end))
    ]
    assert inside == [False, False]
    if bend:
        assert (y0 < 0) == (bend > 0)  # it leaves on the side to which it bends
    else:
        assert y0 == tip[1] == 0
        assert start.width / 2 < x0 < tip[0] < end.x - end.width / 2


def test_everything_lies_inside_the_picture():
    made = Drawing("a skip")
    a, b = made.tensor((3, 3), at=(0, 0), label="x"), made.box("norm\nReLU", at=(3, 1), below="a remark")
    made.arrow(a, b, bend=120)
    made.frame(a, b, label="a block")
    made.text("by itself", at=(1, 3))
    left, top, width, height = map(float, ET.fromstring(made.svg()).get("viewBox").split())
    for rect in parts(made, "rect"):
        x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        assert left <= x
        assert top <= y
        assert x + w <= left + width
        assert y + h <= top + height
    for text in parts(made, "text"):
        assert top <= float(text.get("y")) <= top + height


def test_words_are_text_and_no_markup():
    made = Drawing('a "quoted" < b')
    made.box("a < b & c", at=(0, 0))
    assert parts(made, "text")[0].text == "a < b & c"
    assert ET.fromstring(made.svg()).get("aria-label") == 'a "quoted" < b'
    assert "<figcaption>x &lt; y</figcaption>" in made.shown("x < y").html_text


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda d: d.tensor((1, 1), at=(0, 0), role="keys"), "role='keys' is none of input"),
        (lambda d: d.tensor((1, 1), at=(0, 0), mark={(0, 0): "x"}), "role='x' is none of"),
        (lambda d: d.tensor((2, 2), at=(0, 0), values=[[1, 2]]), "2 rows of 2"),
        (lambda d: d.tensor((2, 2), at=(0, 0), mark={(0, 2)}), "outside a grid of 2 x 2"),
        (lambda d: d.svg(), "is empty"),
        (lambda d: Drawing(" "), "needs an alt text"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw(Drawing("x"))


def test_a_drawing_is_shown_at_the_end_of_its_block_and_not_after_an_error(capsys):
    with drawing(alt="A box.", caption="One.") as d:
        d.box("f", at=(0, 0))
    assert capsys.readouterr().out == "[drawing] A box.\nOne.\n"
    with pytest.raises(ZeroDivisionError), drawing(alt="A box.") as d:
        d.box(str(1 / 0), at=(0, 0))
    assert capsys.readouterr().out == ""


def test_any_choice_opens_the_answer():
    box = predict("Is 2 < 1?", ["yes", "no <b>"], right=1, answer="No: 2 > 1.").html_text
    assert re.findall(r"<summary>(.*?)</summary>", box) == ["yes", "no &lt;b&gt;"]
    answers = re.findall(r"</summary><p>(.*?)</p>", box)
    assert answers == ["✗ It is “no &lt;b&gt;”. No: 2 &gt; 1.", "✓ No: 2 &gt; 1."]
    names = re.findall(r"<details name=(\S+?)[ >]", box)
    assert re.findall(r"class=right><summary>(.*?)</summary>", box) == ["no &lt;b&gt;"]  # printed alone
    assert len(set(names)) == 1  # opening one closes the other
    other = predict("b?", "xy", right=0, answer="x").html_text
    assert names != re.findall(r"<details name=(\S+?)[ >]", other)


@pytest.mark.parametrize(
    ("choices", "right"), [(["a"], 0), (list("abcde"), 0), (["a", "b"], 2), (["a", "b"], -1)]
)
def test_a_prediction_has_two_to_four_choices_and_a_right_one(choices, right):
    with pytest.raises(ValueError, match="choices"):
        predict("?", choices, right=right, answer="a")
