"""How a table writes numbers: the sign before decimals, what stands between thousands, units, brackets, clocks."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from batchloop.adopt import tables
from batchloop.adopt.reading import Question, Wishes, character
from batchloop.adopt.tables import COLUMNS_AT_ONCE, Facts, Table
from batchloop.container.usecase import CLOCKS
from batchloop.container.values import CLOCK

BLANK = "[ \u00a0\u2009\u202f'’]"  # between thousands, besides a point and a comma
PLAIN = "1234.5"  # as formats write it
NEARLY, LEAST = 0.95, 0.25  # the share of the cells with a digit that have one of the shapes, and of all cells
ODD = 0.005  # the share of cells in another dress that are mistakes: their rows are left out
FEW = 10  # distinct values, among which another word may be a category
_TENS = r"[eE][-+]?\d+"  # behind decimals, never behind thousands
_LEAD = rf"(0|\d{{4,}}|\d{{1,3}}({BLANK}\d{{3}})+)?"  # what can't be the first group of three
SHAPES = {
    "short": r"\d{1,3}",
    "long": rf"\d{{4,}}|\d+{_TENS}",
    ",": rf"{_LEAD},\d+|\d+,(\d{{1,2}}|\d{{4,}})|\d{{1,3}}((\.\d{{3}})+,\d+|(\.\d{{3}}){{2,}})",
    ".": rf"{_LEAD}\.\d+|\d+\.(\d{{1,2}}|\d{{4,}})|\d{{1,3}}((,\d{{3}})+\.\d+|(,\d{{3}}){{2,}})",
    "one ,": r"[1-9]\d{0,2},\d{3}",  # a thousand or a decimal
    "one .": r"[1-9]\d{0,2}\.\d{3}",
    "blank": rf"\d{{1,3}}({BLANK}\d{{3}})+",
}
PATTERNS = {shape: rf"^(?:{pattern})$" for shape, pattern in SHAPES.items()}
PATTERNS |= {sign: rf"^(?:(?:{SHAPES[sign]})(?:{_TENS})?|\d+[{sign}]\d+{_TENS})$" for sign in ",."}
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

    def form(self, sign: str, thousands: str = "") -> str:
        """1234.5 under a decimal sign; `thousands` stand there where the cells show no others."""
        return f"1{OTHER[sign] if self.shapes[f'groups {sign}'] else self.blank or thousands}234{sign}5"

    def check(self) -> None:
        """Raises Question for two signs before decimals."""
        if min(self.shapes[sign] for sign in OTHER) <= ODD * sum(self.shapes[shape] for shape in SHAPES):
            return
        shown = {sign: next((t for t in self.texts if re.search(rf"[{sign}]\d+\D*$", t)), "") for sign in ".,"}
        told = " and ".join(f"{self.shapes[sign]:,} cells like {text!r}" for sign, text in shown.items())
        both = "|".join(map(self.form, shown))
        raise Question(
            f"column {self.name!r} has two decimal signs: {told}. Say "
            f"{option(self.name, f'number({both})')} to read both, or "
            f"{option(self.name, 'out')} to leave it out."
        )


def option(name: str, kind: str) -> str:
    """TYPES as a shell takes it."""
    quoted = '"' + name.replace('"', '""') + '"' if name[:1] == '"' or "," in name else name
    return "TYPES=" + shlex.quote(f"{quoted}={kind}")


def read(table: Table, found: dict[str, Facts], wishes: Wishes, missing: Sequence[str]) -> Table:
    """The table with [data] decimal and thousands, and the formats of columns that write numbers in another way.

    Raises Question where a number could be read two ways.
    """
    told = wishes.columns()
    free = [each for each in found.values() if told.get(each.name, ("number", "")) == ("number", "")]
    texts = [column for column in free if column.kind == pl.String and column.present]
    clocks = {column.name: _clock(table, column, missing) for column in texts if _timed(column)}
    formats = table.formats | clocks | {name: form for name, (kind, form) in told.items() if kind == "number" and form}
    table, texts = replace(table, formats=formats), [column for column in texts if column.name not in formats]
    plain = [column for column in texts if column.numbers == column.present]
    points = [column for column in plain if any(re.match(f"[-+]?{PATTERNS['.'][1:]}", text) for text in column.texts)]
    others = [column for column in texts if column.numbers < column.present]
    dressed = {each.name: dress for each in others if (dress := _dress(table, each, missing))}
    odd = [column for column in others if column.name in dressed or any(map(MARKED.search, column.odd))]
    if not odd and points and not (wishes.decimal or wishes.thousands):
        return table
    unclear = [column for column in plain if column not in points and any("." in text for text in column.texts)]
    columns = _counted(table, [*odd, *unclear], missing)
    decimal = wishes.decimal or _decimal(columns, len(points))
    bare = [column for column in columns if column.name not in dressed]
    thousands = character(wishes.thousands) if wishes.thousands else _thousands(bare, decimal)
    for column in columns:
        column.check()
        own = next((sign for sign in OTHER if column.shapes[sign]), decimal)
        form = column.form(own, thousands if own == decimal else "")
        if column.name in dressed or form not in (f"1{thousands}234{decimal}5", f"1234{decimal}5"):
            formats[column.name] = "|".join(each.replace(PLAIN, form) for each in dressed.get(column.name, [PLAIN]))
    formats |= {column.name: PLAIN for column in points if decimal != "."}
    return replace(table, reading=replace(table.reading, decimal=decimal, thousands=thousands))


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


def _dress(table: Table, column: Facts, missing: Sequence[str]) -> list[str]:
    """The formats of a column whose numbers have a unit, or brackets or an end for a minus; none where they have not.

    Raises Question for units that differ, and for amounts of which some have none.
    """
    matches = [found for text in column.odd if (found := re.match(DRESS, text))]
    if len(matches) < NEARLY * len(column.odd) or not any(found[2] or found[4] or found[5] for found in matches):
        return []
    text = table.frame.select(tables.plain(column.name, column.kind, missing).alias("text")).drop_nulls()
    parts = text.select("text", pl.col("text").str.extract_groups(DRESS).alias("part")).unnest("part")
    form = pl.format(f"{{}} {PLAIN} {{}}", *(pl.col(part).fill_null("") for part in "24")).str.strip_chars()
    kinds = (
        parts.filter(pl.col("3").is_not_null())
        .group_by(form.alias("form"))
        .agg(
            pl.len().alias("cells"),
            pl.col("text").first(),
            pl.col("5").drop_nulls().first().alias("end"),
            (~pl.col("3").str.contains("[1-9]")).all().alias("zero"),
        )
    )
    held = kinds.collect(engine="streaming").filter(pl.col("cells") > ODD * column.present)
    held = held.sort("cells", "form", descending=True)
    ends = held["end"].drop_nulls()
    if held.filter((pl.col("form") != PLAIN) | pl.col("end").is_not_null()).is_empty():
        return []
    shapes = _counted(table, [column], missing)
    own = next((each.form(sign) for each in shapes for sign in OTHER if each.shapes[sign]), PLAIN)
    if not _one(column, held.filter(~pl.col("zero") | (pl.col("form") != PLAIN)), own):  # 0 is none of any unit
        return []
    first, last = {")": ("(", ")"), "-": ("", "-")}.get(next(iter(ends), ""), ("", ""))
    return [f"{first}{form}{last}" for form in held["form"]]


def _one(column: Facts, held: pl.DataFrame, own: str) -> bool:
    """Whether a column has one unit. Raises Question where it could be two amounts; `own` is how it writes 1234.5."""
    alike = {form.replace(PLAIN, "").strip().casefold().rstrip("s.") for form in held["form"]}
    units = alike - {""}
    money = all(re.fullmatch(f"{MONEY}|{CODES}", unit, re.IGNORECASE) for unit in units)
    if len(alike) == 1 or (len(units) == 1 and money):
        return True
    if column.distinct <= FEW or not all(map(UNITS.fullmatch, units)):
        return False
    told = ", ".join(f"{cells:,} cells like {text!r}" for cells, text in held.select("cells", "text").rows())
    reads = option(column.name, f"number({'|'.join(held['form']).replace(PLAIN, own)})")
    raise Question(
        f"column {column.name!r} has numbers in different units: {told}. Write them in one; or say "
        f"{f'{reads} if the numbers mean the same, ' if '' in alike else ''}"
        f"{option(column.name, 'category')} or {option(column.name, 'out')}."
    )


def _counted(table: Table, columns: Sequence[Facts], missing: Sequence[str]) -> list[Column]:
    """The columns of which nearly all cells but words are numbers in one of the shapes, counted over all rows."""
    found = []
    wanted = PATTERNS | {f"groups {sign}": pattern for sign, pattern in GROUPS.items()}
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        some = columns[start : start + COLUMNS_AT_ONCE]
        plain = [tables.plain(column.name, column.kind, missing) for column in some]
        texts = [text.str.extract(DRESS, 3) for text in plain]
        counts = [
            text.str.contains(pattern).sum().alias(f"{place} {shape}")
            for place, text in enumerate(texts)
            for shape, pattern in wanted.items()
        ]
        counts += [text.str.contains(r"\d").sum().alias(f"{place} digits") for place, text in enumerate(plain)]
        row = table.frame.select(counts).collect(engine="streaming").row(0, named=True)
        for place, column in enumerate(some):
            shapes = {shape: row[f"{place} {shape}"] or 0 for shape in wanted}
            if sum(shapes[shape] for shape in SHAPES) >= max(NEARLY * row[f"{place} digits"], LEAST * column.present):
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
