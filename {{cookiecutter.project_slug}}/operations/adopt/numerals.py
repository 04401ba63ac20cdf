"""How a table writes numbers: what stands before decimals, and what between thousands."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from operations.adopt import Question, tables
from operations.adopt.facts import COLUMNS_AT_ONCE, Facts
from operations.adopt.tables import Table
from operations.adopt.wishes import Wishes, character

BLANK = "[ \u00a0\u202f'’]"  # between thousands, besides a point and a comma
NEARLY, LEAST = 0.95, 0.25  # the share of the cells with a digit that have one of the shapes, and of all cells
_LEAD = rf"(0|\d{{4,}}|\d{{1,3}}({BLANK}\d{{3}})+)?"  # what can't be the first group of three
SHAPES = {
    "short": r"\d{1,3}",
    "long": r"\d{4,}",
    ",": rf"{_LEAD},\d+|\d+,(\d{{1,2}}|\d{{4,}})|\d{{1,3}}((\.\d{{3}})+,\d+|(\.\d{{3}}){{2,}})",
    ".": rf"{_LEAD}\.\d+|\d+\.(\d{{1,2}}|\d{{4,}})|\d{{1,3}}((,\d{{3}})+\.\d+|(,\d{{3}}){{2,}})",
    "one ,": r"[1-9]\d{0,2},\d{3}",  # a thousand or a decimal
    "one .": r"[1-9]\d{0,2}\.\d{3}",
    "blank": rf"\d{{1,3}}({BLANK}\d{{3}})+",
}
PATTERNS = {shape: rf"^[-+]?(?:{pattern})(?:[eE][-+]?\d+)?$" for shape, pattern in SHAPES.items()}
GROUPS = {",": r"\d\.\d{3}(?:\D|$)", ".": r"\d,\d{3}(?:\D|$)"}  # thousands under the decimal sign
OTHER = {",": ".", ".": ","}
MARKED = re.compile(r"\d.*[.,'’ \u00a0\u202f]\d{2}|[.,]\d")
GROUPED = 10  # cells in groups of three among shorter ones without: no decimals


@dataclass(frozen=True)
class Column:
    """How many cells have each shape, and one that is not plain."""

    name: str
    shapes: dict[str, int]
    example: str
    blank: str

    def sign(self) -> str:
        """The decimal sign that the cells show; "" where they show none, or both."""
        shown = [sign for sign in OTHER if self.shapes[sign]]
        if shown:
            return shown[0] if len(shown) == 1 else ""
        grouped = [sign for sign in OTHER if self.shapes[f"one {OTHER[sign]}"] >= GROUPED]
        return grouped[0] if len(grouped) == 1 and self.shapes["short"] and not self.shapes["long"] else ""

    def open(self) -> bool:
        """Whether the cells could be read two ways."""
        return not any(self.shapes[sign] for sign in OTHER) and bool(self.shapes["one ,"] + self.shapes["one ."])


def read(table: Table, found: dict[str, Facts], wishes: Wishes, missing: Sequence[str]) -> Table:
    """The table with [data] decimal and thousands as its cells have them. Raises Question where that is open."""
    texts = [column for column in found.values() if column.kind == pl.String and column.present]
    plain = [column for column in texts if column.numbers == column.present]
    points = [column for column in plain if any(re.match(PATTERNS["."], text) for text in column.texts)]
    odd = [column for column in texts if column.numbers < column.present and any(map(MARKED.search, column.odd))]
    if not odd and points and not (wishes.decimal or wishes.thousands):
        return table
    unclear = [column for column in plain if column not in points and any("." in text for text in column.texts)]
    columns = _counted(table, [*odd, *unclear], missing)
    decimal = wishes.decimal or _decimal(columns, len(points))
    thousands = character(wishes.thousands) if wishes.thousands else _thousands(columns, decimal)
    return replace(table, reading=replace(table.reading, decimal=decimal, thousands=thousands))


def _counted(table: Table, columns: Sequence[Facts], missing: Sequence[str]) -> list[Column]:
    """The columns of which nearly all cells but words are numbers in one of the shapes, counted over all rows."""
    found = []
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        some = columns[start : start + COLUMNS_AT_ONCE]
        texts = [tables.plain(column.name, column.kind, missing) for column in some]
        wanted = PATTERNS | {f"groups {sign}": pattern for sign, pattern in GROUPS.items()} | {"digits": r"\d"}
        counts = [
            text.str.contains(pattern).sum().alias(f"{place} {shape}")
            for place, text in enumerate(texts)
            for shape, pattern in wanted.items()
        ]
        row = table.frame.select(counts).collect(engine="streaming").row(0, named=True)
        for place, column in enumerate(some):
            shapes = {shape: row[f"{place} {shape}"] or 0 for shape in wanted}
            if sum(shapes[shape] for shape in SHAPES) >= max(NEARLY * shapes["digits"], LEAST * column.present):
                found.append(Column(column.name, shapes, *_example(column)))
    return found


def _example(column: Facts) -> tuple[str, str]:
    """A text that is not plain, and the blank between thousands."""
    marked = [text for text in column.texts if MARKED.search(text)] or column.odd or column.texts
    blanks = (re.search(rf"\d({BLANK})\d{{3}}", text) for text in column.texts)
    return marked[0], next((blank[1] for blank in blanks if blank), "")


def _decimal(columns: Sequence[Column], points: int) -> str:
    """The sign that more columns show. Raises Question where none shows one and some could be read both ways."""
    shown = [column.sign() for column in columns]
    commas, dots = shown.count(","), shown.count(".") + points
    unclear = [column for column in columns if column.open()]
    if commas or dots or not unclear:
        return "," if commas > dots else "."
    first = unclear[0]
    sign = next(sign for sign in OTHER if sign in first.example)
    raise Question(
        f"column {first.name!r}: is {first.example!r} one of thousands, or has it three decimals? "
        f"Say DECIMAL={OTHER[sign]} for thousands, DECIMAL={sign} for decimals."
    )


def _thousands(columns: Iterable[Column], decimal: str) -> str:
    """What stands between the thousands of columns that have this decimal sign, or none."""
    alike = [column for column in columns if column.sign() in ("", decimal)]
    if any(column.shapes[f"groups {decimal}"] for column in alike):
        return OTHER[decimal]
    return next((column.blank for column in alike if column.blank), "")
