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

from course_lib.classroom import style
from course_lib.classroom.style import CYCLE, GREY, STYLE_SHEET, contrast, figure, png_bytes, table, use_style

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


def brighter(colour: str, factor: float) -> tuple[float, ...]:
    """What the CSS filter brightness() makes of a colour: it multiplies the sRGB components."""
    return tuple(min(1.0, c * factor) for c in mpl.colors.to_rgb(colour))


def filters() -> dict[str, float]:
    """The brightness of each theme, from the style sheet."""
    rules = re.findall(r"\[data-theme=(\w+)\].*?\{filter:brightness\(([.\d]+)\)", STYLE_SHEET)
    return {theme: float(factor) for theme, factor in rules}


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


def test_text_reaches_the_guidelines_where_the_theme_is_known():
    assert set(filters()) == {"light", "dark"}
    assert contrast(brighter(GREY, filters()["light"]), WHITE) >= 4.5
    assert contrast(brighter(GREY, filters()["dark"]), DARK) >= 4.5


@pytest.mark.parametrize("colour", CYCLE)
def test_every_line_stands_out_on_both_pages(colour):
    assert contrast(brighter(colour, filters()["light"]), WHITE) >= 3
    assert contrast(brighter(colour, filters()["dark"]), DARK) >= 3


def test_the_text_of_a_figure_is_drawn_in_that_grey():
    image = np.asarray(Image.open(io.BytesIO(png_bytes(curve()))).convert("RGBA")).astype(int)
    opaque = image[image[..., 3] > 250][:, :3]
    grey = opaque[np.ptp(opaque, axis=1) <= 4]
    assert len(grey) > 500
    assert abs(np.median(grey) - int(GREY[1:3], 16)) <= 3  # the palette of 256 colours moves it a little


def test_the_background_is_transparent():
    image = np.asarray(Image.open(io.BytesIO(png_bytes(curve()))).convert("RGBA"))
    assert (image[..., 3] == 0).mean() > 0.5
    assert image[0, 0, 3] == 0


def test_the_bytes_are_the_same_every_time_and_tell_no_date():
    first, second = png_bytes(curve(), tight=True), png_bytes(curve(), tight=True)
    assert first == second
    for chunk in (b"tEXt", b"iTXt", b"zTXt", b"tIME"):
        assert chunk not in first


def test_few_colours_look_like_all():
    fig = curve()
    raw = io.BytesIO()
    fig.savefig(raw, format="png", dpi=100, transparent=True)
    full = Image.open(raw).convert("RGBA")
    small = Image.open(io.BytesIO(png_bytes(fig, dpi=100))).convert("RGBA")
    assert small.size == full.size
    for page in (WHITE, DARK):
        plates = [Image.new("RGBA", full.size, page) for _ in range(2)]
        plates[0].alpha_composite(full)
        plates[1].alpha_composite(small)
        difference = np.abs(np.subtract(*[np.asarray(p).astype(int) for p in plates]))
        assert difference.max() < 40  # of 255, on the edge of a letter
        assert difference.mean() < 1
    assert len(png_bytes(fig, dpi=100)) < len(raw.getvalue()) / 2


def test_a_figure_is_an_image_with_alt_text_and_is_closed(shown):
    fig = curve()
    figure(fig, alt='A "square" & its axes', caption="Rising <fast>")
    assert not plt.fignum_exists(fig.number)
    bundle = shown[0]._repr_mimebundle_()
    page = Tags(bundle["text/html"])
    (image,) = page.all("img")
    assert image["alt"] == 'A "square" & its axes'
    assert image["src"] == "data:image/png;base64," + bundle["image/png"]
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).format == "PNG"
    assert "Rising <fast>" in page.text
    assert bundle["text/plain"] == '[figure] A "square" & its axes\nRising <fast>'


def test_a_figure_is_no_wider_than_the_page(shown):
    figure(curve(), alt="A square.")
    assert ".course-figure img{max-width:100%;height:auto}" in shown[0].html_text
    (image,) = Tags(shown[0].html_text).all("img")
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
