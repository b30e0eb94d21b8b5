"""Interactive figures that need no kernel: every setting is drawn once, a slider shows one drawing at a time.

The sliders and the stacks of images are tied in the browser (``jslink``), so the figure works in JupyterLab
and on the static page of the book alike, where no Python runs.
"""

import base64
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from course_lib.optional import needs

with needs("book"):
    import matplotlib.pyplot as plt
    from ipywidgets import HTML, Layout, SelectionSlider, SliderStyle, Stack, VBox, jslink
    from matplotlib.figure import Figure

from course_lib.classroom.style import STYLE_SHEET, image_html, png_bytes

_DPI = 120
_MOST_FRAMES = 120
_HEAVY_KB, _TOO_HEAVY_KB = 500, 1500

# The widgets' own text colour is made for white pages only; here it follows the page.
_CONTROL_STYLE = """<style>
.course-explore,.course-explore .widget-label,.course-explore .widget-readout{color:inherit}
.course-explore .widget-inline-hbox .widget-label{width:auto;min-width:6em}
.course-explore .noUi-handle{background:#0072B2!important;border-color:#0072B2!important}
.course-explore .noUi-handle:focus-visible{outline:3px solid #D55E00;outline-offset:2px}
</style>"""


class Explore(VBox):
    """The sliders with their drawings, as :func:`explore` returns them; the last line of a cell shows it.

    Args:
        parts: the widgets, from top to bottom.
        first_png: the first drawing, for exports that know no widgets.
        plain: the description for readers that see no image at all.
        size_kb: what the drawings weigh in the page, in kB.
    """

    def __init__(self, parts: Sequence[Any], *, first_png: bytes, plain: str, size_kb: float):
        super().__init__(list(parts))
        self.add_class("course-explore").add_class("course-figure")
        self.first_png, self.plain, self.size_kb = first_png, plain, size_kb

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {
            **super()._repr_mimebundle_(**kwargs),
            "text/plain": self.plain,
            "image/png": base64.b64encode(self.first_png).decode(),
        }

    def __repr__(self) -> str:
        return self.plain


def explore(
    draw: Callable[..., Figure],
    *,
    alt: str | Callable[..., str] = "",
    **controls: Any,
) -> Explore:
    """Draw a figure for every setting of one or two controls, and let the reader move between the drawings.

    Args:
        draw: called as ``draw(depth=4, norm="pre")`` with one value of every control; returns a new figure.
        alt: the alt text of a drawing: a function of the same arguments (best, since it can say what is seen
            in this one), or one text, to which the setting is added.
        controls: one or two names with their values, a list or ``{label: value}``. Underscores in a name
            become spaces in its label.

    Returns:
        A widget; ``.size_kb`` is its weight in the page (a warning above 500 kB).

    Raises:
        ValueError: for no or more than two controls, fewer than two values, an empty alt text, a ``draw``
            that returns no figure, more than 120 drawings, or more than 1500 kB.

    >>> def draw(power):
    ...     fig, ax = plt.subplots(figsize=(2, 1))
    ...     ax.plot([0, 1, 2], [0, 1, 2**power])
    ...     return fig
    >>> explore(draw, alt="A curve through the origin.", power=[1, 2, 3])
    [interactive figure: power 1, 2, 3] A curve through the origin. (power 1)
    """
    options = {name: _options(name, values) for name, values in controls.items()}
    if not 1 <= len(options) <= 2:
        raise ValueError(f"explore() takes one or two controls, got {len(options)}: {list(options)}")
    settings = list(itertools.product(*options.values()))
    if len(settings) > _MOST_FRAMES:
        raise ValueError(
            f"{len(settings)} drawings are too many to wait for ({_MOST_FRAMES} at most): take fewer values"
        )

    drawings = [_draw(draw, alt, list(options), setting) for setting in settings]
    frames = [image_html(png, text) for png, text in drawings]
    size_kb = sum(map(len, frames)) / 1000
    _judge_size(size_kb, len(frames))

    # One shared layout and style instead of one per frame: about 0.5 kB less of state for each.
    first = HTML(frames[0])
    pictures = [first, *(HTML(frame, layout=first.layout, style=first.style) for frame in frames[1:])]
    last = len(list(options.values())[-1])
    stacks = [_stack(pictures[i : i + last]) for i in range(0, len(pictures), last)]
    outer = stacks if len(options) == 1 else [_stack(stacks)]
    sliders = [_slider(name, labels) for name, labels in options.items()]
    if len(options) == 2:
        jslink((sliders[0], "index"), (outer[0], "selected_index"))
    for stack in stacks:
        jslink((sliders[-1], "index"), (stack, "selected_index"))

    first_png, first_alt = drawings[0]
    ranges = "; ".join(f"{_label(name)} {', '.join(label for label, _ in o)}" for name, o in options.items())
    plain = f"[interactive figure: {ranges}] {first_alt}"
    css = HTML(STYLE_SHEET + _CONTROL_STYLE, layout=Layout(display="none"))
    return Explore([css, *sliders, *outer], first_png=first_png, plain=plain, size_kb=size_kb)


def _options(name: str, values: Any) -> list[tuple[str, Any]]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"the control {name!r} needs a list of values or {{label: value}}, got {values!r}")
    pairs = (
        list(values.items()) if isinstance(values, Mapping) else [(_text(value), value) for value in values]
    )
    labels = [label for label, _ in pairs]
    if len(pairs) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"the control {name!r} needs two or more different values, got {labels}")
    return pairs


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _label(name: str) -> str:
    return name.replace("_", " ")


def _draw(draw: Callable, alt: str | Callable, names: list[str], setting: tuple) -> tuple[bytes, str]:
    arguments = {name: value for name, (_, value) in zip(names, setting, strict=True)}
    fig = draw(**arguments)
    if not isinstance(fig, Figure):
        raise ValueError(
            f"draw({arguments}) returned {type(fig).__name__}; it must return the matplotlib Figure"
        )
    text = alt(**arguments) if callable(alt) else alt
    if not text.strip():
        raise ValueError("an interactive figure needs alt texts: explore(draw, alt='what it shows', ...)")
    if not callable(alt):
        text += (
            " ("
            + ", ".join(f"{_label(n)} {label}" for n, (label, _) in zip(names, setting, strict=True))
            + ")"
        )
    png = png_bytes(fig, dpi=_DPI)
    plt.close(fig)
    return png, text


def _judge_size(size_kb: float, frames: int) -> None:
    advice = (
        f"{frames} drawings weigh {size_kb:.0f} kB: take fewer values, a smaller figsize or thinner marks"
    )
    if size_kb > _TOO_HEAVY_KB:
        raise ValueError(f"{advice} ({_TOO_HEAVY_KB} kB at most)")
    if size_kb > _HEAVY_KB:
        warnings.warn(f"{advice} (aim for {_HEAVY_KB} kB)", stacklevel=3)


def _stack(children: Sequence[Any]) -> Stack:
    return Stack(children, selected_index=0)


def _slider(name: str, options: list[tuple[str, Any]]) -> SelectionSlider:
    return SelectionSlider(
        options=[label for label, _ in options],
        description=_label(name),
        description_allow_html=False,
        style=SliderStyle(description_width="initial"),
        layout=Layout(width="auto", max_width="32em"),
    )
