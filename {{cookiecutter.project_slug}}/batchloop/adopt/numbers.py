"""How a table writes numbers: the sign before decimals, what stands between thousands, units, brackets, clocks."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from batchloop.adopt.profile import FEW, Column, Profile
from batchloop.adopt.source import CHARACTERS, Table, asked_of, row, types_option
from batchloop.container.formats import CLOCKS
from batchloop.container.values import CLOCK

BLANK = "[ \u00a0\u2009\u202f'’]"  # between thousands, besides a point and a comma
PLAIN = "1234.5"  # as formats write it
NEARLY, LEAST = 0.95, 0.25  # the share of the cells with a digit that have one of the shapes, and of all cells
ODD = 0.005  # the share of cells in another dress that are mistakes: their rows are left out
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
GROUPS = {"groups ,": r"\d\.\d{3}(?:\D|$)", "groups .": r"\d,\d{3}(?:\D|$)"}  # thousands under the decimal sign
OTHER = {",": ".", ".": ","}
MARKED = re.compile(r"\d.*[.,'’ \u00a0\u2009\u202f]\d{2}|[.,]\d")
BLANKS = rf"\d({BLANK})\d{{3}}"
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
class Shapes:
    """How many cells of a column have each shape; the decimal signs that they show, and the blank between thousands.

    `sign` is the one decimal sign; "" where they show none, or both.
    """

    column: Column
    counts: Mapping[str, int]
    signs: Sequence[str]
    sign: str
    blank: str

    def format(self, sign: str, thousands: str = "") -> str:
        """1234.5 under a decimal sign; `thousands` stand there where the cells show no others."""
        return f"1{OTHER[sign] if self.counts[f'groups {sign}'] else self.blank or thousands}234{sign}5"

    def check(self) -> None:
        """Raises Question for two signs before decimals."""
        if min(self.counts[sign] for sign in OTHER) <= ODD * sum(self.counts[shape] for shape in SHAPES):
            return
        texts, name = [*self.column.odd, *self.column.texts], self.column.name
        shown = {sign: next((t for t in texts if re.search(rf"[{sign}]\d+\D*$", t)), "") for sign in ".,"}
        both, out = (types_option(name, kind) for kind in (f"number({'|'.join(map(self.format, shown))})", "out"))
        cells = [(self.counts[sign], text) for sign, text in shown.items()]
        raise asked_of(name, "are these two decimal signs", f"{both} to read both", out, cells=cells)


def read(profile: Profile) -> Table:
    """The table with what reads its numbers, and the formats of other columns. Raises Question where two ways do."""
    table, options, told = profile.table, profile.options, profile.options.columns
    free = [each for each in profile.columns.values() if told.get(each.name, ("number", "")) == ("number", "")]
    texts = [column for column in free if column.kind == pl.String and column.present]
    timed = [each for each in texts if not each.numbers and _share(CLOCK, each.texts) >= NEARLY]
    formats = dict(table.formats) | {each.name: _clock(each) for each in timed}
    formats |= {name: form for name, (kind, form) in told.items() if kind == "number" and form}
    texts = [column for column in texts if column.name not in formats]
    plain = [column for column in texts if column.numbers == column.present]
    points = [each for each in plain if _share(f"[-+]?{PATTERNS['.'][1:]}", each.texts)]
    others = [column for column in texts if column.numbers < column.present]
    written = {each.name: found for each in others if (found := _number_formats(each))}
    odd = [column for column in others if column.name in written or any(map(MARKED.search, column.odd))]
    decimal, thousands = table.reading.decimal, table.reading.thousands
    if odd or not points or options.decimal or options.thousands:
        unclear = [column for column in plain if column not in points and any("." in text for text in column.texts)]
        shapes = list(_shapes([*odd, *unclear]))
        decimal = options.decimal or _decimal(shapes, len(points))
        thousands = CHARACTERS.get(options.thousands, options.thousands)
        if not options.thousands:  # what stands between them in columns that have this decimal sign
            alike = [each for each in shapes if each.column.name not in written and each.sign in ("", decimal)]
            grouped = OTHER[decimal] if any(each.counts[f"groups {decimal}"] for each in alike) else ""
            thousands = grouped or next((each.blank for each in alike if each.blank), "")
        for each in shapes:
            each.check()
            sign, name = (each.signs or [decimal])[0], each.column.name
            form = each.format(sign, thousands if sign == decimal else "")
            if name in written or form not in (f"1{thousands}234{decimal}5", f"1234{decimal}5"):
                formats |= {name: "|".join(dress.replace(PLAIN, form) for dress in written.get(name, [PLAIN]))}
        formats |= {column.name: PLAIN for column in points if decimal != "."}
    # a comma before decimals no longer hides which numbers are whole
    strings = [name for name, kind in table.frame.collect_schema().items() if kind == pl.String and name not in formats]
    whole = pl.col(strings if decimal == "," else []).str.replace(r"^\s*(-?(?:0|[1-9]\d*)),0+\s*$", "$1")
    reading = replace(table.reading, decimal=decimal, thousands=thousands)
    changed = replace(table, frame=table.frame.with_columns(whole), reading=reading, formats=formats)
    return table if (reading, formats) == (table.reading, table.formats) else changed


def _share(pattern: str, texts: Sequence[str]) -> float:
    return sum(bool(re.match(pattern, text)) for text in texts) / max(1, len(texts))


def _clock(column: Column) -> str:
    """Raises Question for clocks of two parts among some of three."""
    text, three = pl.col("t"), pl.col("t").str.count_matches(":") == 2
    count, first, last = row(column.cells(), three.sum(), text.filter(three).first(), text.filter(~three).first())
    if not ODD * column.present < count < (1 - ODD) * column.present:
        return CLOCKS[0]
    both = (types_option(column.name, f"number({clock})") for clock in CLOCKS)
    what = f"is {last!r} in hours and minutes, or in minutes and seconds"
    raise asked_of(column.name, what, *both, cells=[(count, first)])


def _number_formats(column: Column) -> list[str]:
    """The formats of numbers with a unit, brackets or a minus at the end. Raises Question for units that differ."""
    matches = [found for text in column.odd if (found := re.match(DRESS, text))]
    if len(matches) < NEARLY * len(column.odd) or not any(found[2] or found[4] or found[5] for found in matches):
        return []
    parts = column.cells().select("t", pl.col("t").str.extract_groups(DRESS).alias("part")).unnest("part")
    form = pl.format(f"{{}} {PLAIN} {{}}", *(pl.col(part).fill_null("") for part in "24")).str.strip_chars()
    zero = (~pl.col("3").str.contains("[1-9]")).all().alias("zero")
    ends = pl.col("5").drop_nulls().first().alias("end")
    kinds = parts.filter(pl.col("3").is_not_null()).group_by(form.alias("form"))
    held = kinds.agg(pl.len().alias("cells"), pl.col("t").first(), ends, zero)
    held = held.filter(pl.col("cells") > ODD * column.present).sort("cells", "form", descending=True)
    dresses = held.collect(engine="streaming")
    end, other = next(iter(dresses["end"].drop_nulls()), ""), pl.col("form") != PLAIN
    own = next((each.format(each.signs[0]) for each in _shapes([column]) if each.signs), PLAIN)
    dressed = end or dresses.filter(other).height
    if not dressed or not _one_unit(column, dresses.filter(~pl.col("zero") | other), own):  # 0 is none of any unit
        return []
    first, last = {")": ("(", ")"), "-": ("", "-")}.get(end, ("", ""))
    return [f"{first}{form}{last}" for form in dresses["form"]]


def _one_unit(column: Column, dresses: pl.DataFrame, own: str) -> bool:
    """Whether a column has one unit. Raises Question where it could be two amounts; `own` is how it writes 1234.5."""
    alike = {form.replace(PLAIN, "").strip().casefold().rstrip("s.") for form in dresses["form"]}
    units = alike - {""}
    money = all(re.fullmatch(f"{MONEY}|{CODES}", unit, re.IGNORECASE) for unit in units)
    if len(alike) == 1 or (len(units) == 1 and money):
        return True
    if column.distinct <= FEW or not all(map(UNITS.fullmatch, units)):
        return False
    reads, *others = (
        types_option(column.name, kind)
        for kind in (f"number({'|'.join(dresses['form']).replace(PLAIN, own)})", "category", "out")
    )
    options = [f"{reads} if the numbers mean the same", *others] if "" in alike else others
    cells = dresses.select("cells", "t").rows()
    raise asked_of(column.name, "are these numbers in different units, best written in one", *options, cells=cells)


def _shapes(columns: Sequence[Column]) -> Iterator[Shapes]:
    """The columns of which nearly all cells but words are numbers in one of the shapes, counted over all rows."""
    wanted, number = PATTERNS | GROUPS, pl.col("t").str.extract(DRESS, 3)
    for each in columns:
        measures = [number.str.contains(pattern).sum() for pattern in wanted.values()]
        digits, *cells = row(each.cells(), pl.col("t").str.contains(r"\d").sum(), *measures)
        counts = dict(zip(wanted, cells, strict=True))
        if sum(counts[shape] for shape in SHAPES) < max(NEARLY * digits, LEAST * each.present):
            continue
        grouped = [sign for sign in OTHER if counts[f"one {OTHER[sign]}"] >= GROUPED]
        signs, blanks = [sign for sign in OTHER if counts[sign]], (re.search(BLANKS, text) for text in each.texts)
        decimal = signs or (grouped if counts["short"] and not counts["long"] else [])
        blank = next((found[1] for found in blanks if found), "")
        yield Shapes(each, counts, signs, decimal[0] if len(decimal) == 1 else "", blank)


def _decimal(shapes: Sequence[Shapes], points: int) -> str:
    """The sign that more columns show. Raises Question where none shows one and some could be read both ways."""
    shown = [each.sign for each in shapes]
    commas, dots = shown.count(","), shown.count(".") + points
    unclear = [each for each in shapes if not each.signs and each.counts["one ,"] + each.counts["one ."]]
    if commas or dots or not unclear:
        return "," if commas > dots else "."
    column = unclear[0].column
    example = next(iter([*filter(MARKED.search, column.texts), *column.odd, *column.texts]))
    sign = next(sign for sign in OTHER if sign in example)
    options = f"DECIMAL={OTHER[sign]} for thousands", f"DECIMAL={sign} for decimals"
    raise asked_of(column.name, f"is {example!r} one of thousands, or has it three decimals", *options)
