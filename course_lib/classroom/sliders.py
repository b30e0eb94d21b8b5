"""Interactive figures that need no kernel: every setting is drawn once, a slider shows one drawing at a time.

A figure is plain HTML, sliders of the browser and twenty lines of script, so it is the same in JupyterLab and
on the static page of the book, where no Python runs. Without scripts, and on paper, the first drawing stands.
"""

import html
import itertools
import json
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from course_lib.optional import needs

with needs("book"):
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

from course_lib.classroom.picture import picture_html
from course_lib.classroom.style import STYLE_SHEET
from course_lib.tables import Displayed

__all__ = ["Explore", "explore"]

_MOST_FRAMES = 120
_HEAVY_KB, _TOO_HEAVY_KB = 400, 800

_SHEET = """<style>
.course-explore label{display:flex;gap:.8em;align-items:center;max-width:34em;margin:.2em 0}
.course-explore input{flex:1;min-width:6em;accent-color:#0072B2}
.course-explore output{min-width:5em}
</style>"""

# The place of the drawing is counted like the digits of a number, the last control fastest.
_SCRIPT = """<script>
window.courseExplore = window.courseExplore || function (input) {
  var box = input.closest(".course-explore"), place = 0;
  box.querySelectorAll("input").forEach(function (control) {
    var labels = JSON.parse(control.dataset.labels), label = labels[control.value];
    place = place * labels.length + Number(control.value);
    control.setAttribute("aria-valuetext", label);
    control.parentNode.querySelector("output").textContent = label;
  });
  box.querySelectorAll(".course-frame").forEach(function (frame, i) { frame.hidden = i !== place; });
};
</script>"""


class Explore(Displayed):
    """The sliders with their drawings, as :func:`explore` returns them; the last line of a cell shows it.

    Args:
        html_text: the figure.
        plain: the description for readers that see no image at all.
        size_kb: what the drawings weigh on their way to the reader, compressed, in kB.
    """

    def __init__(self, html_text: str, plain: str, *, size_kb: float):
        super().__init__(html_text, plain)
        self.size_kb = size_kb


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
        What is to be shown; ``.size_kb`` is its compressed weight (a warning above 400 kB).

    Raises:
        ValueError: for no or more than two controls, fewer than two values, an empty alt text, a ``draw``
            that returns no figure, more than 120 drawings, or more than 800 kB.

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
    size_kb = len(zlib.compress("".join(frame for frame, _ in drawings).encode())) / 1000
    _judge_size(size_kb, len(drawings))
    sliders = "".join(_slider(name, [label for label, _ in pairs]) for name, pairs in options.items())
    frames = "".join(
        f'<div class="course-frame"{" hidden" * (i > 0)}>{frame}</div>'
        for i, (frame, _) in enumerate(drawings)
    )
    box = f'<div class="course-explore">{sliders}{frames}</div>'
    ranges = "; ".join(f"{_label(name)} {', '.join(label for label, _ in o)}" for name, o in options.items())
    plain = f"[interactive figure: {ranges}] {drawings[0][1]}"
    return Explore(STYLE_SHEET + _SHEET + box + _SCRIPT, plain, size_kb=size_kb)


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


def _draw(draw: Callable, alt: str | Callable, names: list[str], setting: tuple) -> tuple[str, str]:
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
        labels = [f"{_label(name)} {label}" for name, (label, _) in zip(names, setting, strict=True)]
        text += f" ({', '.join(labels)})"
    frame = picture_html(fig, text, tight=False)
    plt.close(fig)
    return frame, text


def _judge_size(size_kb: float, frames: int) -> None:
    advice = (
        f"{frames} drawings weigh {size_kb:.0f} kB: take fewer values, a smaller figsize or thinner marks"
    )
    if size_kb > _TOO_HEAVY_KB:
        raise ValueError(f"{advice} ({_TOO_HEAVY_KB} kB at most)")
    if size_kb > _HEAVY_KB:
        warnings.warn(f"{advice} (aim for {_HEAVY_KB} kB)", stacklevel=3)


def _slider(name: str, labels: list[str]) -> str:
    first, data = html.escape(labels[0]), html.escape(json.dumps(labels, ensure_ascii=False))
    return (
        f'<label><span>{html.escape(_label(name))}</span><input type="range" min="0" max="{len(labels) - 1}" '
        f'value="0" aria-valuetext="{first}" data-labels="{data}" oninput="courseExplore(this)">'
        f"<output>{first}</output></label>"
    )
