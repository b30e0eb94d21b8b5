"""Drawings of mechanisms in one vocabulary: tensors, boxes, arrows, one colour for each role.

A drawing is laid out on a loose grid of places ``(column, row)``, which may be fractions, and comes out as
SVG with text that can be searched, read aloud and printed; strokes and words take the colour of the page,
light or dark. Fifteen lines are a whole picture::

    with drawing(alt="Each query compares itself with all keys; the weights mix the values.") as d:
        x = d.tensor((4, 3), at=(0, 1), label="x", role="input")
        q = d.tensor((4, 2), at=(1, 0), label="Q", role="query")
        k = d.tensor((4, 2), at=(1, 1), label="K", role="key")
        v = d.tensor((4, 2), at=(1, 2), label="V", role="value")
        a = d.tensor((4, 4), at=(2.2, 0.5), label="weights", role="mixed", mark={(2, 0), (2, 1), (2, 2)})
        y = d.tensor((4, 2), at=(3.4, 1.2), label="y", role="output")
        d.arrow(x, q, k, v)
        d.arrow(q, a, label="softmax")
        d.arrow(k, a)
        d.arrow(a, y)
        d.arrow(v, y, label="mean")
"""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from course_lib.classroom.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, contrast
from course_lib.tables import Displayed

__all__ = ["ROLES", "Drawing", "Node", "drawing"]

# What a thing is decides its colour, in every drawing of the course.
ROLES = {
    "input": GREY,
    "weight": ORANGE,
    "query": BLUE,
    "key": GREEN,
    "value": PURPLE,
    "mixed": SKY,
    "output": VERMILLION,
    "plain": GREY,
}
# Words on a marked cell, whose colour is the same on a light and on a dark page.
INK = {colour: max("#000000", "#ffffff", key=lambda ink: contrast(ink, colour)) for colour in ROLES.values()}
CELL, COLUMN, ROW = 18, 150, 110  # pixels: a cell of a tensor, from place to place
_SHEET = """<style>
.course-drawing{margin:0.5rem 0;overflow-x:auto}
.course-drawing svg{max-width:100%;min-width:min(var(--drawn),34rem);height:auto}
.course-drawing svg{color:inherit;font-family:inherit}
.course-drawing text{fill:currentColor;stroke:none}
.course-drawing .line{stroke:currentColor;fill:none;stroke-width:1.4;opacity:.75}
.course-drawing .head{fill:currentColor;stroke:none;opacity:.75}
.course-drawing .frame{stroke:currentColor;fill:none;stroke-dasharray:5 4;opacity:.6}
</style>"""


@dataclass(frozen=True)
class Node:
    """Something that arrows lead from and to: its centre and its size in pixels."""

    x: float
    y: float
    width: float
    height: float

    def edge(self, toward: "Node") -> tuple[float, float]:
        """Where the straight line to another node leaves this one, a little outside."""
        dx, dy = toward.x - self.x, toward.y - self.y
        if not (dx or dy):
            return self.x, self.y
        reach = min(
            (self.width / 2 + 4) / abs(dx) if dx else float("inf"),
            (self.height / 2 + 4) / abs(dy) if dy else float("inf"),
        )
        return self.x + dx * reach, self.y + dy * reach


class Drawing:
    """A picture under construction; :func:`drawing` makes one and shows it."""

    def __init__(self, alt: str) -> None:
        if not alt.strip():
            raise ValueError("a drawing needs an alt text: what it shows, in words")
        self.alt = alt
        self._parts: list[str] = []
        self._box = [float("inf"), float("inf"), -float("inf"), -float("inf")]

    def tensor(
        self,
        shape: tuple[int, int],
        *,
        at: tuple[float, float],
        label: str = "",
        role: str = "plain",
        below: str = "",
        values: Sequence[Sequence[Any]] | None = None,
        mark: Iterable[tuple[int, int]] | Mapping[tuple[int, int], str] = (),
        cell: float = CELL,
    ) -> Node:
        """A grid of rows and columns.

        Args:
            shape: rows and columns.
            at: place of its centre.
            label: its name, above it.
            role: a key of :data:`ROLES`, which gives the colour.
            below: its shape or what it is, below it: ``"(t, d)"``.
            values: numbers to write into the cells.
            mark: cells ``(row, column)`` to fill fully; or for each the role whose colour it takes.
            cell: side of a cell in pixels.

        Raises:
            ValueError: for an unknown role, or values or marks that do not fit the shape.
        """
        rows, columns = shape
        roles = dict(mark) if isinstance(mark, Mapping) else dict.fromkeys(mark, role)
        _known(role, *roles.values())
        if values is not None and [len(row) for row in values] != [columns] * rows:
            raise ValueError(f"values must be {rows} rows of {columns}, got {values}")
        if any(not (0 <= i < rows and 0 <= j < columns) for i, j in roles):
            raise ValueError(f"mark={sorted(roles)} lies outside a grid of {rows} x {columns}")
        if values is not None:
            cell = max(cell, 8 + 7.5 * max(len(str(v)) for row in values for v in row))
        node = self._node(at, columns * cell, rows * cell)
        left, top = node.x - node.width / 2, node.y - node.height / 2
        for i in range(rows):
            for j in range(columns):
                marked, colour = (i, j) in roles, ROLES[roles.get((i, j), role)]
                strength = 1 if marked else 0.2
                self._parts.append(
                    f'<rect x="{left + j * cell:.1f}" y="{top + i * cell:.1f}" width="{cell:.1f}" '
                    f'height="{cell:.1f}" fill="{colour}" fill-opacity="{strength}" stroke="{colour}"/>'
                )
                if values is not None:
                    place = left + (j + 0.5) * cell, top + (i + 0.5) * cell + 4
                    self._text(*place, str(values[i][j]), size=12, ink=INK[colour] if marked else "")
        self._titles(node, label, below)
        return node

    def box(
        self,
        text: str,
        *,
        at: tuple[float, float],
        role: str = "plain",
        below: str = "",
        width: float = 0,
        height: float = 0,
        href: str = "",
    ) -> Node:
        """An operation: a rounded box with its name, which may have several lines.

        Args:
            text: the name.
            at: place of its centre.
            role: a key of :data:`ROLES`.
            below: a remark below it.
            width: pixels; as wide as the text unless given.
            height: pixels; as high as the text unless given.
            href: where a click on it leads.
        """
        _known(role)
        lines = text.split("\n")
        node = self._node(at, width or 26 + 7.6 * max(map(len, lines)), height or 16 + 17 * len(lines))
        if href:
            self._parts.append(f'<a href="{html.escape(href)}">')
        self._parts.append(
            f'<rect x="{node.x - node.width / 2:.1f}" y="{node.y - node.height / 2:.1f}" rx="8" '
            f'width="{node.width:.1f}" height="{node.height:.1f}" fill="{ROLES[role]}" fill-opacity="0.2" '
            f'stroke="{ROLES[role]}" stroke-width="1.5"/>'
        )
        for i, line in enumerate(lines):
            self._text(node.x, node.y + 17 * (i - (len(lines) - 1) / 2) + 4.5, line)
        if href:
            self._parts.append("</a>")
        self._titles(node, "", below)
        return node

    def text(self, words: str, *, at: tuple[float, float], size: float = 13) -> Node:
        """Words by themselves, centred at a place; arrows may lead to them."""
        node = self._node(at, 7.4 * len(words) * size / 13, size + 6)
        self._text(node.x, node.y + size / 3, words, size=size)
        return node

    def arrow(self, start: Node, *ends: Node, label: str = "", bend: float = 0.0) -> None:
        """An arrow from a node to each of the others.

        Args:
            start: where it begins.
            ends: where it ends.
            label: what happens on the way, beside the middle.
            bend: how far the middle lies beside the straight line, in pixels; for what skips something.
        """
        for end in ends:
            dx, dy = end.x - start.x, end.y - start.y
            length = (dx**2 + dy**2) ** 0.5 or 1.0
            # The control point of the curve lies twice as far out as its middle.
            control = Node(
                (start.x + end.x) / 2 + 2 * bend * dy / length,
                (start.y + end.y) / 2 - 2 * bend * dx / length,
                0,
                0,
            )
            x0, y0 = start.edge(control if bend else end)
            x1, y1 = end.edge(control if bend else start)
            middle = (x0 + x1) / 2, (y0 + y1) / 2
            if bend:
                middle = (middle[0] + control.x) / 2, (middle[1] + control.y) / 2
            back = (x1 - control.x, y1 - control.y) if bend else (x1 - x0, y1 - y0)
            norm = (back[0] ** 2 + back[1] ** 2) ** 0.5 or 1.0
            ux, uy = back[0] / norm, back[1] / norm
            tip = [(x1, y1), (x1 - 9 * ux - 4 * uy, y1 - 9 * uy + 4 * ux)]
            tip += [(x1 - 9 * ux + 4 * uy, y1 - 9 * uy - 4 * ux)]
            curve = f"Q{control.x:.1f} {control.y:.1f} " if bend else "L"
            self._parts.append(
                f'<path class="line" d="M{x0:.1f} {y0:.1f} {curve}{x1 - 7 * ux:.1f} {y1 - 7 * uy:.1f}"/>'
                f'<polygon class="head" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in tip)}"/>'
            )
            self._grow(middle[0] - 6, middle[1] - 6, 12, 12)
            if label:
                steep = abs(y1 - y0) > 2 * abs(x1 - x0)
                shift = (10 + 3.7 * len(label), 4) if steep else (0, 18 if bend < 0 else -9)
                self._text(middle[0] + shift[0], middle[1] + shift[1], label, size=12)

    def numbers(
        self,
        values: Any,
        *,
        at: tuple[float, float],
        places: int | None = None,
        mark: Iterable[tuple[int, int]] | Mapping[tuple[int, int], str] | str = (),
        cell: float = 30,
        **options: Any,
    ) -> Node:
        """A tensor with its numbers written in; its shape is theirs.

        Args:
            values: rows of numbers or words, or a torch tensor; one row alone is a row.
            at: place of its centre.
            places: digits after the point; as the numbers are written unless given.
            mark: as in :meth:`tensor`; or ``"nonzero"``, for every entry that is not 0.
            cell: side of a cell in pixels.
            options: what else :meth:`tensor` takes: label, role, below.
        """
        rows = values.tolist() if hasattr(values, "tolist") else list(values)
        rows = rows if isinstance(rows[0], list | tuple) else [rows]
        if mark == "nonzero":
            mark = {(i, j) for i, row in enumerate(rows) for j, value in enumerate(row) if value}
        written = [[_written(value, places) for value in row] for row in rows]
        shape = len(rows), len(rows[0])
        return self.tensor(shape, at=at, values=written, mark=mark, cell=cell, **options)

    def chain(self, *nodes: Node, labels: Sequence[str] = ()) -> None:
        """Arrows from each node to the next.

        Args:
            nodes: in order.
            labels: what happens on the first arrows.
        """
        words = [*labels, *[""] * len(nodes)]
        for start, end, label in zip(nodes, nodes[1:], words, strict=False):
            self.arrow(start, end, label=label)

    def frame(self, *nodes: Node, label: str = "") -> Node:
        """A dashed frame around nodes that belong together, with a name above it."""
        left = min(n.x - n.width / 2 for n in nodes) - 16
        right = max(n.x + n.width / 2 for n in nodes) + 16
        top = min(n.y - n.height / 2 for n in nodes) - 28
        bottom = max(n.y + n.height / 2 for n in nodes) + 26
        node = Node((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        self._grow(left, top, node.width, node.height)
        self._parts.append(
            f'<rect class="frame" x="{left:.1f}" y="{top:.1f}" width="{node.width:.1f}" '
            f'height="{node.height:.1f}" rx="10"/>'
        )
        if label:
            self._text(node.x, top - 6, label, size=12)
        return node

    def svg(self) -> str:
        """The picture as an SVG element."""
        left, top, right, bottom = self._box
        if left > right:
            raise ValueError("the drawing is empty")
        width, height = right - left + 12, bottom - top + 12
        view = f"{left - 6:.0f} {top - 6:.0f} {width:.0f} {height:.0f}"
        # What is in an image cannot be reached; links must be.
        role = "group" if any(part.startswith("<a ") for part in self._parts) else "img"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="{role}" aria-label="{html.escape(self.alt)}" '
            f'viewBox="{view}" width="{width:.0f}" height="{height:.0f}" font-size="13" '
            f'style="--drawn:{width:.0f}px">'
            f"{''.join(self._parts)}</svg>"
        )

    def shown(self, caption: str = "") -> Displayed:
        """The picture for a page, with a line below it."""
        below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        plain = f"[drawing] {self.alt}" + (f"\n{caption}" if caption else "")
        return Displayed(f'{_SHEET}<figure class="course-drawing">{self.svg()}{below}</figure>', plain)

    def _node(self, at: tuple[float, float], width: float, height: float) -> Node:
        node = Node(at[0] * COLUMN, at[1] * ROW, width, height)
        self._grow(node.x - width / 2, node.y - height / 2, width, height)
        return node

    def _titles(self, node: Node, above: str, below: str) -> None:
        if above:
            self._text(node.x, node.y - node.height / 2 - 7, above)
        if below:
            self._text(node.x, node.y + node.height / 2 + 16, below, size=12)

    def _text(self, x: float, y: float, words: str, size: float = 13, ink: str = "") -> None:
        self._grow(x - 3.8 * len(words) * size / 13, y - size, 7.6 * len(words) * size / 13, size + 4)
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{size:g}"'
        place += f' style="fill:{ink}"' if ink else ""
        self._parts.append(f"<text {place}>{html.escape(words)}</text>")

    def _grow(self, x: float, y: float, width: float, height: float) -> None:
        left, top, right, bottom = self._box
        self._box = [min(left, x), min(top, y), max(right, x + width), max(bottom, y + height)]


@contextmanager
def drawing(*, alt: str, caption: str = "") -> Iterator[Drawing]:
    """Draw a mechanism and show it at the end of the block.

    Args:
        alt: what the drawing shows, in words; read aloud instead of it.
        caption: a line below it.

    Raises:
        ValueError: without an alt text, or for a drawing without anything in it.

    >>> with drawing(alt="One number becomes another.") as d:
    ...     d.arrow(d.tensor((1, 1), at=(0, 0), label="x"), d.box("f", at=(1, 0)))
    [drawing] One number becomes another.
    """
    from IPython.display import display

    made = Drawing(alt)
    yield made
    display(made.shown(caption))


def _known(*roles: str) -> None:
    for role in roles:
        if role not in ROLES:
            raise ValueError(f"role={role!r} is none of {', '.join(ROLES)}")


def _written(value: Any, places: int | None) -> str:
    """A number with a minus sign that is one; words as they are."""
    text = str(value) if places is None or isinstance(value, str) else f"{value:.{places}f}"
    return text if isinstance(value, str) else text.replace("-", "−")
