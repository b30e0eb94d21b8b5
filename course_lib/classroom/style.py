"""How figures and tables look: colours that every reader can tell apart, on a light and on a dark page.

Text and axes of a figure take the colour of the page (:mod:`course_lib.classroom.picture`); matplotlib knows
them as :data:`GREY`, which can be read on both.
"""

from collections.abc import Sequence
from typing import Any

from course_lib.optional import needs

with needs("book"):
    import matplotlib as mpl
    from IPython.display import display

from course_lib.tables import Table

# The palette of Okabe and Ito: eight colours that stay apart under the common kinds of colour blindness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#797979"  # text and axes: contrast 4.35 on white and 4.30 on #121212
# Black and yellow vanish on one of the two pages; orange and sky come last, being pale on white.
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
# Pale on white, so that a light page has darker ones.
VARIABLES = {ORANGE: "var(--course-orange,#E69F00)", SKY: "var(--course-sky,#56B4E9)"}

# Sphinx' theme puts a light plate under every output of a dark page; our figures need none.
STYLE_SHEET = """<style>
.course-figure{margin:0;overflow-x:auto;scrollbar-width:thin}
.course-figure svg{max-width:100%;min-width:min(var(--drawn,0px),34rem);height:auto}
.course-figure figcaption{position:sticky;left:0}
:is([data-theme=light],[data-jp-theme-light=true]){--course-orange:#BD8200;--course-sky:#2F8FCF}
[data-theme=dark] .cell_output .text_html:has(.course-figure)
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
