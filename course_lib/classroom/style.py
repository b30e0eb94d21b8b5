"""How figures and tables look: colours that every reader can tell apart, on a light and on a dark page.

A figure is a PNG with a transparent background, mid-grey text and an alt text. No grey reaches a contrast of
4.5 on white *and* on the dark theme's ``#121212``: the two contrasts multiply to 18.7, so 4.3 on both is the
best there is. Where the page says which theme it shows, a CSS filter brings the text above 5.5 on either.
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from course_lib.optional import needs

with needs("book"):
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from IPython.display import display
    from matplotlib.figure import Figure
    from PIL import Image

from course_lib.tables import Displayed, Table

# The palette of Okabe and Ito: eight colours that stay apart under the common kinds of colour blindness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#797979"  # text and axes: contrast 4.35 on white and 4.30 on #121212
# Black and yellow vanish on one of the two pages; orange and sky come last, being pale on white.
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)

_COLOURS = 256  # a quarter of the bytes of a full-colour PNG, and no visible difference
_DPI = 144  # 1.5 pixels per CSS pixel: crisp on a telephone, still small

# Sphinx' theme puts a light plate under every output of a dark page; our figures need none.
STYLE_SHEET = """<style>
.course-figure img{max-width:100%;height:auto}
:is([data-theme=light],[data-jp-theme-light=true]) .course-figure img{filter:brightness(.85)!important}
:is([data-theme=dark],[data-jp-theme-light=false]) .course-figure img{filter:brightness(1.2)!important}
[data-theme=dark] .cell_output :is(.text_html,.widget-subarea):has(.course-figure),
[data-theme=dark] .cell_output .course-figure img
{background:none!important;color:inherit!important;padding:0!important}
</style>"""

_RC = {
    "figure.figsize": (6.4, 3.6),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 11,
    "axes.titlesize": 11,
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "hatch.color": GREY,
    "patch.edgecolor": GREY,
    "lines.linewidth": 2.0,
    "boxplot.boxprops.color": GREY,
    "boxplot.whiskerprops.color": GREY,
    "boxplot.capprops.color": GREY,
    "boxplot.flierprops.markeredgecolor": GREY,
    "errorbar.capsize": 3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=CYCLE),
    "legend.frameon": False,
    "image.cmap": "cividis",  # made for colour-blind readers, monotone in lightness
}


def use_style() -> None:
    """Set matplotlib's defaults for the course (size, colours, no frame); call it before the first figure.

    >>> use_style()
    >>> mpl.rcParams["text.color"]
    '#797979'
    """
    mpl.rcParams.update(_RC)


def figure(fig: Any, *, alt: str = "", caption: str | None = None) -> None:
    """Show a figure with an alt text, and close it.

    Args:
        fig: a matplotlib figure.
        alt: what the figure shows, in words: axes, curves, and what a reader should take from it.
        caption: a line under the figure.

    Raises:
        ValueError: without an alt text, or for something that is no figure.

    >>> fig, ax = plt.subplots()
    >>> figure(fig, alt="An empty pair of axes.")
    [figure] An empty pair of axes.
    """
    if not alt.strip():
        raise ValueError("a figure needs an alt text: figure(fig, alt='what it shows, in words')")
    if not isinstance(fig, Figure):
        got = type(fig).__name__
        raise ValueError(f"figure() takes a matplotlib Figure, got {got}; for axes pass ax.figure")
    png = png_bytes(fig, tight=True)
    plt.close(fig)
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    plain = f"[figure] {alt}" + (f"\n{caption}" if caption else "")
    display(Displayed(STYLE_SHEET + image_html(png, alt, below), plain, png))


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str], caption: str | None = None) -> None:
    """Show a small table; the first column heads its row, and a wide table scrolls inside its own box.

    Args:
        rows: one sequence of cells per row; floats show three significant digits, ``None`` a dash.
        columns: the head of every column.
        caption: a line above the table.

    Raises:
        ValueError: if a row has more or fewer cells than there are columns.

    >>> table([["LayerNorm", 64, 0.98765]], ["layer", "width", "accuracy"])
    layer      width  accuracy
    LayerNorm     64     0.988
    """
    display(Table(rows, columns, caption))


def contrast(colour: str | tuple, background: str | tuple) -> float:
    """The contrast of two colours by the Web Content Accessibility Guidelines, from 1 (equal) to 21.

    Args:
        colour: any colour that matplotlib understands.
        background: the colour behind it.

    >>> round(contrast(GREY, "white"), 2)
    4.35
    """

    def luminance(name: str | tuple) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(name)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(colour), luminance(background)])
    return (light + 0.05) / (dark + 0.05)


def png_bytes(fig: Figure, *, dpi: int = _DPI, tight: bool = False) -> bytes:
    """The figure as a transparent PNG of 256 colours, the same bytes every time.

    Args:
        fig: a matplotlib figure.
        dpi: pixels per inch.
        tight: cut the empty border; frames of one series need equal sizes and leave it.
    """
    raw = io.BytesIO()
    box = {"bbox_inches": "tight", "pad_inches": 0.05} if tight else {}
    fig.savefig(raw, format="png", dpi=dpi, transparent=True, pil_kwargs={"compress_level": 0}, **box)
    small = io.BytesIO()
    image = Image.open(raw).quantize(_COLOURS, method=Image.Quantize.FASTOCTREE)
    image.info.clear()  # matplotlib's version would change the bytes with every release
    image.save(small, format="PNG", optimize=True, dpi=(dpi, dpi))
    return small.getvalue()


def image_html(png: bytes, alt: str, below: str = "") -> str:
    """An HTML ``<figure>`` that holds the PNG, no wider than the page.

    Args:
        png: the image.
        alt: its alt text.
        below: HTML under the image.
    """
    image = Image.open(io.BytesIO(png))
    css_pixels = 96 / image.info["dpi"][0]
    size = f'width="{round(image.width * css_pixels)}" height="{round(image.height * css_pixels)}"'
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    # "dark-light" tells Sphinx' theme that the image is made for both pages.
    tag = f'<img class="dark-light" alt="{html.escape(alt)}" {size} src="{source}">'
    return f'<figure class="course-figure" style="margin:0">{tag}{below}</figure>'
