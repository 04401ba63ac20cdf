"""How a table writes numbers: the sign before decimals, what stands between thousands, units, brackets, clocks."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from operations.adopt import Question, tables
from operations.adopt.facts import COLUMNS_AT_ONCE, Facts
from operations.adopt.tables import Table
from operations.adopt.wishes import Wishes, character
from runtime.usecase import CLOCKS
from runtime.values import CLOCK

BLANK = "[ \u00a0\u2009\u202f'’]"  # between thousands, besides a point and a comma
NEARLY = 0.95  # the share of a column's cells that have one of the shapes
ODD = 0.005  # the share of cells in another dress that are mistakes: their rows are left out
FEW = 10  # distinct values, among which another word may be a category
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
PATTERNS = {shape: rf"^(?:{pattern})(?:[eE][-+]?\d+)?$" for shape, pattern in SHAPES.items()}
GROUPS = {",": r"\d\.\d{3}(?:\D|$)", ".": r"\d,\d{3}(?:\D|$)"}  # thousands under the decimal sign
OTHER = {",": ".", ".": ","}
MARKED = re.compile(r"\d.*[.,'’ \u00a0\u2009\u202f]\d{2}|[.,]\d")
GROUPED = 10  # cells in groups of three among shorter ones without: no decimals
MONEY = r"[$€£¥₹₽₩₺₫₪฿₴₦]"
CODES = r"EUR|USD|GBP|CHF|JPY|CNY|INR|BRL|CAD|AUD|SEK|NOK|DKK|PLN|CZK|HUF|TRY|RUB|Rs\.?|kr\.?|zł"
# bracket, unit before, number, unit behind, minus or bracket behind
DRESS = (
    rf"^(\()?\s*[-+\u2212]?\s*((?:[A-Z]{{1,3}})?{MONEY}|{CODES})?\s*\(?[-+\u2212]?\s*"
    rf"([.,]?\d(?:[\d.,'’ \u00a0\u2009\u202f]*\d)?[.,]?(?:[eE][-+]?\d+)?)"
    rf"\s*((?:[%‰°]|{MONEY}|[^\W\d_])[^\d\s()|,;:=-]{{0,11}})?\s*(-|\))?$"
)
UNITS = re.compile(  # of which two in a column are two amounts, and none is not the same
    rf"(?i:{MONEY}|{CODES}|%|‰|[kmcdµ]?(g|m|l|s|w|wh|v|a|hz|b|bit|j|cal|pa)|[kmgt]i?b|[kmb]|t|lbs?|oz|ft|in|yd|mi|miles?"
    r"|°[cf]|[cf]|mg|ha|min|sec|hrs?|h|d|bar|psi|mio|mrd|bn|tsd|(second|minute|hour|day|week|month|year|tag|jahr)\w*)\.?"
)


@dataclass(frozen=True)
class Dress:
    """The units of a column's numbers and how many cells have each ("" for none), brackets and a minus behind."""

    units: dict[tuple[str, str], int]
    negative: str
    examples: dict[tuple[str, str], str]

    def forms(self, plain: str) -> str:
        """The formats that read all of them, each 1234.5 as the column writes it."""
        first, last = {")": ("(", ")"), "-": ("", "-")}.get(self.negative, ("", ""))
        return "|".join(f"{first}{f'{a} {plain} {b}'.strip()}{last}" for a, b in self.units)


@dataclass(frozen=True)
class Column:
    """How many cells have each shape, and one that is not plain."""

    name: str
    shapes: dict[str, int]
    example: str
    blank: str
    texts: tuple[str, ...]

    def sign(self) -> str:
        """The decimal sign that the cells show; "" where they show none, or both."""
        if shown := [sign for sign in OTHER if self.shapes[sign]]:
            return shown[0] if len(shown) == 1 else ""
        grouped = [sign for sign in OTHER if self.shapes[f"one {OTHER[sign]}"] >= GROUPED]
        return grouped[0] if len(grouped) == 1 and self.shapes["short"] and not self.shapes["long"] else ""

    def open(self) -> bool:
        """Whether the cells could be read two ways."""
        return not any(self.shapes[sign] for sign in OTHER) and bool(self.shapes["one ,"] + self.shapes["one ."])

    def written(self, sign: str) -> str:
        """1234.5 under a decimal sign."""
        between = OTHER[sign] if self.shapes[f"groups {sign}"] else self.blank
        return f"1{between}234{sign}5"

    def form(self, decimal: str, thousands: str) -> str:
        """1234.5 as the column writes it; under other signs than these only where its cells show them."""
        sign = self.sign() if any(self.shapes[sign] for sign in OTHER) else decimal
        form = self.written(sign)
        return form if sign != decimal or form[1:-5] else f"1{thousands}234{decimal}5"

    def check(self) -> None:
        """Raises Question for two signs before decimals."""
        few = sum(self.shapes[shape] for shape in SHAPES) * ODD
        if min(self.shapes[sign] for sign in OTHER) <= few:
            return
        shown = [(sign, next((t for t in self.texts if re.search(rf"[{sign}]\d+\D*$", t)), "")) for sign in ".,"]
        told = " and ".join(f"{self.shapes[sign]:,} cells like {text!r}" for sign, text in shown)
        reads = option(self.name, f"number({self.written('.')}|{self.written(',')})")
        raise Question(
            f"column {self.name!r} has two decimal signs: {told}. Say {reads} to read both, or "
            f"{option(self.name, 'out')} to leave it out."
        )


def option(name: str, kind: str) -> str:
    """TYPES as a shell takes it."""
    return "TYPES=" + shlex.quote(f"{name}={kind}")


def read(table: Table, found: dict[str, Facts], wishes: Wishes, missing: Sequence[str]) -> Table:
    """The table with [data] decimal and thousands, and the formats of columns that write numbers in another way.

    Raises Question where a number could be read two ways.
    """
    told = {name: form for name, (_, form) in wishes.columns().items() if form or name in table.formats}
    texts = [each for each in found.values() if each.kind == pl.String and each.present and each.name not in told]
    texts = [column for column in texts if wishes.columns().get(column.name, ("number",))[0] == "number"]
    formats = table.formats | {column.name: _clock(table, column, missing) for column in texts if _timed(column)} | told
    texts = [column for column in texts if column.name not in formats]
    plain = [column for column in texts if column.numbers == column.present]
    points = [column for column in plain if any(re.match(f"[-+]?{PATTERNS['.'][1:]}", text) for text in column.texts)]
    others = [column for column in texts if column.numbers < column.present]
    dressed = {each.name: dress for each in others if (dress := _dress(table, each, missing))}
    odd = [column for column in others if column.name in dressed or any(map(MARKED.search, column.odd))]
    table = replace(table, formats=formats)
    if not odd and points and not (wishes.decimal or wishes.thousands):
        return table
    unclear = [column for column in plain if column not in points and any("." in text for text in column.texts)]
    columns = _counted(table, [*odd, *unclear], missing)
    decimal = wishes.decimal or _decimal(columns, len(points))
    thousands = (
        character(wishes.thousands)
        if wishes.thousands
        else _thousands([column for column in columns if column.name not in dressed], decimal)
    )
    usual = f"1{thousands}234{decimal}5"
    for column in columns:
        column.check()
        form = column.form(decimal, thousands)
        if column.name in dressed:
            formats[column.name] = dressed[column.name].forms(form)
        elif form != usual and form[1:-5] + form[-2] != thousands + decimal:
            formats[column.name] = form
    formats |= {column.name: "1234.5" for column in points if decimal != "."}
    reading = replace(table.reading, decimal=decimal, thousands=thousands)
    return replace(table, reading=reading, formats=formats)


def _timed(column: Facts) -> bool:
    clocks = sum(bool(re.match(CLOCK, text)) for text in column.texts)
    return column.numbers == 0 and clocks >= NEARLY * len(column.texts)


def _clock(table: Table, column: Facts, missing: Sequence[str]) -> str:
    """Raises Question for clocks of two parts among some of three."""
    text = table.frame.select(tables.plain(column.name, column.kind, missing).alias("t"))
    three = pl.col("t").str.count_matches(":") == 2
    shown = (pl.col("t").filter(three).first().alias("three"), pl.col("t").filter(~three).first().alias("two"))
    count, first, last = text.select(three.sum().alias("n"), *shown).collect(engine="streaming").row(0)
    if not ODD * column.present < count < (1 - ODD) * column.present:
        return CLOCKS[0]
    raise Question(
        f"column {column.name!r}: are {last!r} hours and minutes ({first!r} stands in {count:,} cells), or minutes and "
        f"seconds? Say {option(column.name, f'number({CLOCKS[0]})')} or {option(column.name, f'number({CLOCKS[1]})')}."
    )


def _dress(table: Table, column: Facts, missing: Sequence[str]) -> Dress | None:
    """Raises Question for units that differ, and for amounts of which some have none."""
    matches = [found for text in column.odd if (found := re.match(DRESS, text))]
    worn = [found for found in matches if found[2] or found[4] or found[5]]
    if not worn or len(matches) < NEARLY * len(column.odd):
        return None
    text = table.frame.select(tables.plain(column.name, column.kind, missing).alias("t")).drop_nulls()
    parts = text.select("t", pl.col("t").str.extract_groups(DRESS).alias("g")).unnest("g")
    rows = parts.filter(pl.col("3").is_not_null()).group_by(pl.col("2", "4").fill_null(""), pl.col("5").fill_null(""))
    counts = rows.agg(pl.len(), pl.col("t").first(), (pl.col("3").cast(pl.Float64, strict=False) != 0).any().alias("n"))
    least = ODD * column.present
    held = counts.collect(engine="streaming").filter(pl.col("len") > least).sort("len", "t", descending=[True, False])
    ends = [end for end in held["5"] if end]
    units: dict[tuple[str, str], int] = {}
    examples: dict[tuple[str, str], str] = {}
    for before, behind, _, count, text, nonzero in held.iter_rows():
        unit = (before, behind)
        if any(unit) or nonzero:
            units[unit] = units.get(unit, 0) + count
            examples.setdefault(unit, text)
        else:  # 0 is none of any unit
            units.setdefault(unit, 0)
    if not ends and not any(map(any, units)):
        return None
    dress = Dress(units, ends[0] if ends else "", examples)
    return dress if _one(column, dress, {each for each in units if units[each]}) else None


def _one(column: Facts, dress: Dress, units: set[tuple[str, str]]) -> bool:
    """Whether a column has one unit. Raises Question where it could be two amounts."""
    alike = {"".join(unit).casefold().rstrip("s.") for unit in units}
    money = all(re.fullmatch(f"{MONEY}|{CODES}", each, re.IGNORECASE) for each in alike - {""})
    if len(alike) == 1 or (len(alike) == 2 and "" in alike and money):
        return True
    known = all(UNITS.fullmatch(each) for each in alike - {""})
    if column.distinct <= FEW or not known:
        return False
    told = ", ".join(f"{dress.units[unit]:,} cells like {dress.examples[unit]!r}" for unit in sorted(units)[::-1])
    shown = "|".join(f"{a} 1234.5 {b}".strip() for a, b in sorted(units)[::-1])
    same = f"{option(column.name, f'number({shown})')} if the numbers mean the same, " if "" in alike else ""
    raise Question(
        f"column {column.name!r} has numbers in different units: {told}. Write them in one; or say {same}"
        f"{option(column.name, 'category')} or {option(column.name, 'out')}."
    )


def _counted(table: Table, columns: Sequence[Facts], missing: Sequence[str]) -> list[Column]:
    """The columns of which nearly all cells are numbers in one of the shapes, counted over all rows."""
    found = []
    wanted = PATTERNS | {f"groups {sign}": pattern for sign, pattern in GROUPS.items()}
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        some = columns[start : start + COLUMNS_AT_ONCE]
        texts = [tables.plain(column.name, column.kind, missing).str.extract(DRESS, 3) for column in some]
        counts = [
            text.str.contains(pattern).sum().alias(f"{place} {shape}")
            for place, text in enumerate(texts)
            for shape, pattern in wanted.items()
        ]
        row = table.frame.select(counts).collect(engine="streaming").row(0, named=True)
        for place, column in enumerate(some):
            shapes = {shape: row[f"{place} {shape}"] or 0 for shape in wanted}
            if sum(shapes[shape] for shape in SHAPES) >= NEARLY * column.present:
                found.append(Column(column.name, shapes, *_example(column), (*column.odd, *column.texts)))
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
