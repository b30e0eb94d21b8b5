"""Figures and tables: legible on both pages, described in words, the same bytes every time."""

import base64
import io
import re
from html.parser import HTMLParser

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from course_lib.classroom import picture, style
from course_lib.classroom.picture import figure, svg_text
from course_lib.classroom.style import (
    CYCLE,
    GREY,
    ORANGE,
    STYLE_SHEET,
    VARIABLES,
    contrast,
    table,
    use_style,
)

WHITE, DARK = "#ffffff", "#121212"  # the two pages of the book's theme


@pytest.fixture(autouse=True)
def plain_matplotlib():
    with mpl.rc_context({"backend": "agg"}):
        use_style()
        yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """What was displayed."""
    objects = []
    monkeypatch.setattr(picture, "display", objects.append)
    monkeypatch.setattr(style, "display", objects.append)
    return objects


def curve():
    fig, ax = plt.subplots(figsize=(4, 2))
    ax.plot([0, 1, 2], [0, 1, 4], label="square")
    ax.set(xlabel="input", ylabel="output", title="A square")
    ax.legend()
    return fig


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


def test_contrast_is_that_of_the_guidelines():
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#767676", "white") == pytest.approx(
        4.54, abs=0.005
    )  # the lightest grey that reaches 4.5
    assert contrast("white", "#767676") == contrast("#767676", "white")
    assert contrast("#ff0000", "white") == pytest.approx(4.0, abs=0.005)


def test_no_grey_is_more_legible_on_both_pages():
    worst = {
        g: min(contrast(c, WHITE), contrast(c, DARK)) for g in range(256) if (c := f"#{g:02x}{g:02x}{g:02x}")
    }
    assert max(worst, key=worst.get) == int(GREY[1:3], 16)
    assert worst[int(GREY[1:3], 16)] > 4.29


def on_white(colour):
    """The colour that a light page has in the place of a pale one."""
    name = re.match(r"var\((--[\w-]+),", VARIABLES.get(colour, ""))
    return re.search(rf"{name[1]}:(#\w+)", STYLE_SHEET)[1] if name else colour


@pytest.mark.parametrize("colour", CYCLE)
def test_every_line_stands_out_on_both_pages(colour):
    assert contrast(on_white(colour), WHITE) >= 3
    assert contrast(colour, DARK) >= 3


def test_words_and_axes_take_the_colour_of_the_page_and_data_keep_theirs(shown):
    fig, ax = plt.subplots(figsize=(4, 2))
    ax.plot([0, 1], [0, 1], color="#123456")
    ax.plot([0, 1], [1, 0], color=ORANGE)
    ax.set(title="A title of 0.12345", xlabel="$x^2$")
    page = svg_text(fig, "Two lines.")
    assert GREY.lower() not in page.lower()
    assert "stroke: #123456" in page
    assert "stroke: var(--course-orange,#E69F00)" in page
    texts = re.findall(r"<text style=\"([^\"]*)\"[^>]*>([^<]*)</text>", page)
    assert "A title of 0.12345" in [words for _, words in texts]
    assert all("fill: currentColor" in look and "Verdana" in look for look, _ in texts)
    assert "filter" not in STYLE_SHEET


def test_the_text_is_the_same_every_time_and_tells_no_date():
    assert svg_text(curve(), "A square.") == svg_text(curve(), "A square.")
    assert "<metadata>" not in svg_text(curve(), "A square.")


def test_names_inside_a_figure_belong_to_it_alone():
    first, second = svg_text(curve(), "A."), svg_text(curve(), "B.", tight=False)
    names = [set(re.findall(r'id="([^"]+)"', page)) for page in (first, second)]
    assert not names[0] & names[1]
    for page, own in zip((first, second), names, strict=True):
        assert set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", page)) <= own


def test_an_image_of_few_colours_gets_smaller_and_keeps_every_pixel(monkeypatch):
    def drawn():
        fig, ax = plt.subplots(figsize=(3, 3))
        ax.imshow(np.random.default_rng(0).random((40, 40)), cmap="gray", alpha=0.5)
        ax.axis("off")
        return svg_text(fig, "Noise.")

    def pixels(page):
        raw = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
        return np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA"))

    small = drawn()
    monkeypatch.setattr(picture, "_smaller", lambda found: found[0])
    whole = drawn()
    assert len(small) < 0.9 * len(whole)
    assert np.array_equal(pixels(small), pixels(whole))


def test_what_is_heavy_becomes_an_image_and_its_words_stay_text():
    fig, ax = plt.subplots(figsize=(4, 3))
    ax.scatter(*np.random.default_rng(0).random((2, 5000)), s=4)
    ax.set_title("Many points")
    page = svg_text(fig, "Many points.")
    assert len(page) < 150_000
    assert "data:image/png" in page
    assert ">Many points</text>" in page


def test_a_figure_is_an_image_with_alt_text_and_is_closed(shown):
    fig = curve()
    figure(fig, alt='A "square" & its axes', caption="Rising <fast>")
    assert not plt.fignum_exists(fig.number)
    bundle = shown[0]._repr_mimebundle_()
    page = Tags(bundle["text/html"])
    (image,) = page.all("svg")
    assert image["role"] == "img"
    assert image["aria-label"] == 'A "square" & its axes'
    assert "Rising <fast>" in page.text
    assert bundle["text/plain"] == '[figure] A "square" & its axes\nRising <fast>'


def test_a_figure_is_no_wider_than_the_page(shown):
    figure(curve(), alt="A square.")
    assert "min-width:min(var(--drawn,0px),34rem);height:auto}" in shown[0].html_text  # a phone scrolls it
    (image,) = Tags(shown[0].html_text).all("svg")
    assert 0.8 * 4 * 96 < int(image["width"]) < 1.1 * 4 * 96  # inches in CSS pixels, without the empty border


@pytest.mark.parametrize("options", [{}, {"alt": ""}, {"alt": " \n"}])
def test_a_figure_without_alt_text_is_refused(options):
    with pytest.raises(ValueError, match="needs an alt text"):
        figure(curve(), **options)


def test_the_style_draws_no_frame_and_tells_colours_apart():
    fig = curve()
    assert [side for side, spine in fig.axes[0].spines.items() if spine.get_visible()] == ["left", "bottom"]
    assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(CYCLE)
    assert len(set(CYCLE)) == 6


def test_a_table_is_displayed(shown):
    table([["a", 1.0], ["b", None]], ["name", "number"], caption="Numbers")
    assert shown[0].plain == "Numbers\nname  number\na          1\nb          –"
    assert "<caption>Numbers</caption>" in shown[0].html_text


def test_axes_are_no_figure():
    with pytest.raises(ValueError, match=r"got Axes; for axes pass ax\.figure"):
        figure(curve().axes[0], alt="A square.")
