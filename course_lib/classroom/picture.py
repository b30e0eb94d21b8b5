"""A matplotlib figure as HTML: vector text and axes in the colour of the page, data as they were drawn.

SVG, so that words follow a light and a dark page by ``currentColor`` and can be searched and read aloud, and
no filter touches the data. What is heavy as vectors (many points, large meshes) becomes an image inside.
"""

import base64
import html
import io
import re
import zlib
from typing import Any

from course_lib.optional import needs

with needs("book"):
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    import numpy as np
    from IPython.display import display
    from matplotlib.figure import Figure
    from PIL import Image

from course_lib.classroom.style import GREY, STYLE_SHEET, VARIABLES
from course_lib.tables import Displayed

__all__ = ["figure", "picture_html", "svg_text"]

_HEAVY = 80_000  # bytes of one SVG, from which on its data become an image
_SMALL = 128  # rows and columns of an array, up to which its cells are stored, not the pixels they cover
_DPI = 144  # of that image: 1.5 pixels per CSS pixel
_RC = {"svg.fonttype": "none", "svg.hashsalt": "layer by layer", "path.simplify_threshold": 0.4}
# Verdana has the widths of DejaVu Sans, which few readers have installed.
_FONTS = "'DejaVu Sans', Verdana, sans-serif"


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
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    plain = f"[figure] {alt}" + (f"\n{caption}" if caption else "")
    picture = picture_html(fig, alt, below)
    plt.close(fig)
    display(Displayed(STYLE_SHEET + picture, plain))


def picture_html(fig: Figure, alt: str, below: str = "", *, tight: bool = True) -> str:
    """An HTML ``<figure>`` with the drawing, no wider than the page; on a phone a wide one scrolls inside.

    Args:
        fig: a matplotlib figure.
        alt: what it shows, in words.
        below: HTML under the drawing.
        tight: cut the empty border; frames of one series need equal sizes and leave it.
    """
    return f'<figure class="course-figure">{svg_text(fig, alt, tight=tight)}{below}</figure>'


def svg_text(fig: Figure, alt: str, *, tight: bool = True) -> str:
    """The figure as an SVG element, the same text every time.

    Args:
        fig: a matplotlib figure; where it is heavy, its data are drawn as an image from then on.
        alt: what it shows, in words.
        tight: cut the empty border.
    """
    for ax in fig.axes:
        for image in ax.images:
            if image.get_interpolation() in ("auto", "antialiased") and max(image.get_size()) <= _SMALL:
                image.set_interpolation("none")
    text = _save(fig, tight)
    if len(text) > _HEAVY:
        for ax in fig.axes:
            for artist in [*ax.lines, *ax.collections, *ax.patches]:
                artist.set_rasterized(True)
        text = min(text, _save(fig, tight), key=len)
    return _for_page(re.sub(r"(?<=data:image/png;base64,)[^\"]+", _smaller, text), alt)


def _save(fig: Figure, tight: bool) -> str:
    raw = io.StringIO()
    box = {"bbox_inches": "tight", "pad_inches": 0.05} if tight else {}
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context(_RC):
        fig.savefig(raw, format="svg", transparent=True, dpi=_DPI, metadata=nothing, **box)
    return raw.getvalue()


def _smaller(found: re.Match) -> str:
    """An image of at most 256 colours with a palette of just these; no pixel changes."""
    raw = base64.b64decode(found[0])
    pixels = np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA"))
    colours, places = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    if len(colours) > 256:
        return found[0]
    image = Image.fromarray(places.reshape(pixels.shape[:2]).astype(np.uint8), mode="P")
    image.putpalette(colours[:, :3].tobytes(), "RGB")
    packed = io.BytesIO()
    image.save(packed, format="PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return base64.b64encode(min(raw, packed.getvalue(), key=len)).decode()


def _for_page(text: str, alt: str) -> str:
    """Without prologue, with short coordinates, the colour of the page, names that no other figure has."""
    prologue = r"<!--.*?-->|<metadata>.*?</metadata>|<\?xml.*?\?>|<!DOCTYPE[^>]*>"
    text = re.sub(prologue, "", text, flags=re.DOTALL)
    text = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    for colour, name in {GREY: "currentColor", **VARIABLES}.items():
        text = re.sub(rf"(?<=: ){colour}\b", name, text, flags=re.IGNORECASE)
    text = re.sub(r"'?DejaVu Sans'?(?=[;\"])", _FONTS, text)
    # Text without a colour of its own would be black on a dark page.
    text = re.sub(r'(<text style="(?:(?!fill)[^"])*)"', r'\1; fill: currentColor"', text)
    # Paths for clipping and markers are referred to by name, and a page has many figures.
    mark = f"{zlib.crc32(text.encode()):08x}"
    text = re.sub(r'id="([^"]+)"', rf'id="\1-{mark}"', text)
    text = re.sub(r"(url\(#|href=\"#)([^\")]+)", rf"\1\2-{mark}", text)
    text = re.sub(r"\n\s*", " ", text).replace("> <", "><").strip()
    size = {}
    for name in ("width", "height"):
        points = re.match(rf'<svg [^>]*?{name}="([\d.]+)pt"', text)
        size[name] = round(float(points[1]) * 96 / 72) if points else 0
    view = re.search(r'viewBox="([^"]+)"', text)
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{html.escape(alt)}" viewBox="{view[1] if view else ""}" width="{size["width"]}" '
        f'height="{size["height"]}" style="--drawn:{size["width"]}px">'
    )
    return re.sub(r"^<svg [^>]*>", lambda _: head, text)
