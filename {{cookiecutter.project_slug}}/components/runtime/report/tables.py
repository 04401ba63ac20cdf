"""Tables that scroll in a box of their own, keep their header in sight and can be copied."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from runtime.report import glossary
from runtime.report.rendering import aligned, number, render

LONG = 28  # characters from which on a cell's text may wrap
TALL = 20  # rows from which on a table has a height of its own, so that its header can stay in sight


@dataclass(frozen=True)
class Column:
    """A header, what it means, how its cells are set, and their text (a list of lines each)."""

    header: str
    term: tuple[str, str] | None
    kind: str  # number, text or long
    cells: list[list[str]]


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, marked: Sequence[int] = (), caption: str = ""
) -> Markup:
    """A table; numbers are rounded to four significant digits and right-aligned, a list in a cell is written in lines.

    `marked` rows (counted from 0) stand out. A header that the glossary knows is explained.
    """
    columns = [_column(header, [row[place] for row in rows]) for place, header in enumerate(headers)]
    lines = [[(column.kind, column.cells[place]) for column in columns] for place in range(len(rows))]
    return render("table", columns=columns, rows=lines, marked=set(marked), caption=caption, tall=len(rows) > TALL)


def matrix(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    title: str,
    unit: str = "",
) -> Markup:
    """A table whose numbers are tinted: from pale (lowest) to strong (highest), or by sign where some are negative."""
    known = [value for line in values for value in line if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    texts = [aligned(list(column)) for column in zip(*values, strict=True)] or [[]]
    lines = [
        (name, [(texts[place][line], *_tint(value, low, high)) for place, value in enumerate(values[line])])
        for line, name in enumerate(rows)
    ]
    scale = "" if low == high else _scale(low, high)
    return render("matrix", columns=columns, rows=lines, title=title, unit=unit, scale=scale, tall=len(rows) > TALL)


def _column(header: str, values: list[object]) -> Column:
    term = glossary.linked(header)
    if all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values):
        return Column(header, term, "number", [[text] for text in aligned(values)])
    cells = [[number(line) for line in value] if isinstance(value, list) else [number(value)] for value in values]
    longest = max((len(line) for cell in cells for line in cell), default=0)
    return Column(header, term, "long" if longest > LONG else "text", cells)


def _scale(low: float, high: float) -> str:
    if low < 0:
        return "the stronger the larger, orange below zero"
    return f"pale {number(low)} to strong {number(high)}"


def _tint(value: float | None, low: float, high: float) -> tuple[str, float]:
    """Which of the two colours, and how strong (0 to 1)."""
    if value is None or low == high:
        return "plus", 0.0
    if low >= 0:
        return "plus", (value - low) / (high - low)
    return ("minus" if value < 0 else "plus"), abs(value) / max(-low, abs(high))
