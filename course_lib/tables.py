"""What is shown: HTML for a page, text for a terminal, and tables, which have Markdown too."""

import base64
import html
import numbers
from collections.abc import Iterable, Sequence
from typing import Any


class Displayed:
    """Something to show: HTML for the page, other forms for readers that cannot show HTML.

    Args:
        html_text: what a browser shows.
        plain: what a terminal, a plain-text export or a diff shows.
        png: an image for exports without HTML.
    """

    def __init__(self, html_text: str, plain: str, png: bytes | None = None):
        self.html_text, self.plain, self.png = html_text, plain, png

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/html": self.html_text, "text/plain": self.plain}
        if self.png is not None:
            bundle["image/png"] = base64.b64encode(self.png).decode()
        return bundle

    def __repr__(self) -> str:
        return self.plain


class Table(Displayed):
    """Rows under heads; one cell of a row heads it, and a wide table scrolls inside its own box.

    Args:
        rows: one sequence of cells per row. Floats show three significant digits and ``None`` a
            dash; a :class:`Displayed`, such as a link, shows each of its forms.
        columns: the head of every column.
        caption: a line above the table.
        label: what the table is, for readers who hear it; the caption unless given.
        align: ``l`` or ``r`` for each column; columns of numbers stand right unless given.
        head: the column that heads the row.

    Raises:
        ValueError: if a row or ``align`` has more or fewer entries than there are columns.

    >>> scores = Table([["LayerNorm", 64, 0.98765]], ["layer", "width", "accuracy"])
    >>> scores
    layer      width  accuracy
    LayerNorm     64     0.988
    >>> print(scores.markdown)
    | layer | width | accuracy |
    | --- | ---: | ---: |
    | LayerNorm | 64 | 0.988 |
    """

    png = None

    def __init__(
        self,
        rows: Iterable[Sequence[Any]],
        columns: Iterable[Any],
        caption: str | None = None,
        *,
        label: str | None = None,
        align: str | None = None,
        head: int = 0,
    ):
        self.columns, self.rows = [str(column) for column in columns], [list(row) for row in rows]
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"the row {row} has {len(row)} cells, but there are {len(self.columns)} "
                    f"columns: {self.columns}"
                )
        if align is not None and (len(align) != len(self.columns) or set(align) - set("lr")):
            raise ValueError(f"align={align!r} must have an l or an r for each of {self.columns}")
        self.align = align or "".join(map(_side, zip(*self.rows, strict=True))) or "l" * len(self.columns)
        self.caption, self.head = caption, head
        self.label = label or caption or ", ".join(self.columns)

    @property
    def html_text(self) -> str:
        """What a browser shows."""
        styles = [f' style="text-align:{"left" if side == "l" else "right"}"' for side in self.align]
        columns = "".join(
            f'<th scope="col"{style}>{html.escape(column)}</th>'
            for column, style in zip(self.columns, styles, strict=True)
        )
        body = "".join(f"<tr>{self._html_row(row, styles)}</tr>" for row in self.rows)
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        # The book's theme knows "dataframe"; a box that takes the focus scrolls by keyboard.
        return (
            f'<div class="course-table" role="region" aria-label="{html.escape(self.label)}" '
            'tabindex="0" style="overflow-x:auto"><style>'
            ".course-table :is(th,td){padding:.25em .75em!important}"
            ".course-table tbody :is(th,td){vertical-align:top!important}"
            ".course-table td[style*=right]{white-space:nowrap!important}</style>"
            f'<table class="dataframe">{caption}<thead><tr>{columns}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def _html_row(self, row: list[Any], styles: list[str]) -> str:
        cells = ""
        for i, (value, style) in enumerate(zip(row, styles, strict=True)):
            cell = value.html_text if isinstance(value, Displayed) else html.escape(cell_text(value))
            if i == self.head:
                cells += f'<th scope="row" style="text-align:left">{cell}</th>'
            else:
                cells += f"<td{style}>{cell}</td>"
        return cells

    @property
    def plain(self) -> str:
        """What a terminal shows."""
        lines = [self.columns, *(list(map(cell_text, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                cell.ljust(width) if side == "l" else cell.rjust(width)
                for cell, width, side in zip(line, widths, self.align, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join(([self.caption] if self.caption else []) + text)

    @property
    def markdown(self) -> str:
        """For a Markdown page, without the caption; text is Markdown and has no line breaks."""
        rules = ["---" if side == "l" else "---:" for side in self.align]
        lines = [self.columns, rules, *(map(cell_text, row) for row in self.rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell_text(value: Any) -> str:
    """What a cell says: three digits of a float, a dash for None, the text of anything else.

    Args:
        value: a number, a tensor with one, text, or what prints itself, as a mean with its spread.

    >>> [cell_text(value) for value in (0.123456, 12345.6, 7, None, "seven")]
    ['0.123', '12346', '7', '–', 'seven']
    """
    if value is None:
        return "–"
    if isinstance(value, numbers.Integral | str) or not (
        isinstance(value, numbers.Real) or hasattr(value, "item")
    ):
        return str(value)
    number = float(value)
    return f"{number:.0f}" if 1e3 <= abs(number) < 1e6 else f"{number:.3g}"


def _side(column: tuple[Any, ...]) -> str:
    """Right for a column of numbers."""
    numeric = all(hasattr(v, "__float__") and not isinstance(v, bool) for v in column if v is not None)
    return "r" if numeric else "l"
