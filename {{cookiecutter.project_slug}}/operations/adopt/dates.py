"""Which format a column's dates have, and whether the day or the month comes first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from operations.adopt import Question, tables
from operations.adopt.facts import EXAMPLES, Facts, shown
from operations.adopt.tables import Table

DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d")
SHORT = ("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y")
NAMED = ("%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B %Y", "%B %d, %Y")
CLOCKS = (" %H:%M:%S", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S%#z", " %H:%M:%S%.f%#z")
ISO = tuple(f"%Y-%m-%dT%H:%M{seconds}{zone}" for seconds in ("", ":%S", ":%S%.f") for zone in ("", "Z", "%#z"))
FORMATS = (*DAYS, *SHORT, *NAMED, *ISO, *(day + clock for day in (*DAYS[:-1], *SHORT) for clock in CLOCKS))
ISO_DAY = re.compile(r"\d{4}-\d\d-\d\d")
EARLIEST = 1000  # a year below has two digits, and another format reads it
DIGIT, FEWEST_DIGITS = re.compile(r"\d"), 3
CLEARLY = 0.9  # the share of a column's values a format must read
LIKELY = 3  # formats that are tried together with another one


@dataclass(frozen=True)
class Dates:
    """A column's format, and how many of its values it does not read, the first of which is `example`."""

    format: str
    unread: int
    example: str


def find(table: Table, column: Facts, missing: Sequence[str], wish: str) -> Dates | str | None:
    """The format that reads the most values, None where none does, or in words that the dates have two formats.

    Raises Question where the day and the month could change places. `wish` is what the user said: this format, or for
    other formats the order of day and month in it.
    """
    column = _as_it_stands(table, column, missing)
    reads = _reads(column, (wish, *FORMATS) if wish else FORMATS)
    forms = [form for form, fits in reads.items() if fits.sum() >= CLEARLY * fits.len()]
    if not forms:
        return _two(column, reads)
    unread = dict(zip(forms, _unread(table, column, missing, forms), strict=True))
    best = [form for form in forms if unread[form] == min(unread.values())]
    exact, alike = [form for form in best if form == wish], [form for form in best if form[:2] == wish[:2]]
    best = exact or alike or best
    orders = {form[:2]: form for form in reversed(best) if form[:2] in ("%d", "%m") and "%b" not in form.lower()}
    if len(orders) > 1:
        raise Question(
            f"column {column.name!r}: is {column.texts[0]!r} day or month first? "
            f"Say DATES={orders['%d']} or DATES={orders['%m']}."
        )
    return Dates(best[0], unread[best[0]], _example(column, best[0]))


def written(table: Table, column: Facts) -> str:
    """The format in which pandas writes a column of dates as text: with a time of day where one of them has any."""
    moment = pl.col(column.name)
    if column.kind == pl.Date:
        return DAYS[0]
    clock, fraction = (moment != moment.dt.truncate(unit) for unit in ("1d", "1s"))
    timed, split = table.frame.select(clock.any(), fraction.any().alias("f")).collect(engine="streaming").row(0)
    zone = "%#z" if getattr(column.kind, "time_zone", None) else ""
    return f"{DAYS[0]} %H:%M:%S{'%.f' if split else ''}{zone}" if timed or zone else DAYS[0]


def _as_it_stands(table: Table, column: Facts, missing: Sequence[str]) -> Facts:
    """Facts with the texts of the file, where the one text of a moment may be another."""
    if not any(ISO_DAY.match(text) for text in column.texts):
        return column
    text = table.frame.select(tables.plain(column.name, column.kind, missing).alias("t")).head(EXAMPLES)
    return replace(column, texts=shown(text.collect(engine="streaming")["t"]))


def _reads(column: Facts, forms: Sequence[str]) -> dict[str, pl.Series]:
    """Which of the texts at hand each format reads; no format for texts that hold too few digits to be dates."""
    if sum(len(DIGIT.findall(text)) >= FEWEST_DIGITS for text in column.texts) < max(1, CLEARLY * len(column.texts)):
        return {}
    texts = pl.DataFrame({"t": column.texts}, schema={"t": pl.String})
    fits = texts.select(read(pl.col("t"), form).is_not_null().alias(form) for form in dict.fromkeys(forms))
    return fits.to_dict()


def _two(column: Facts, reads: dict[str, pl.Series]) -> str | None:
    """Two formats that together read nearly all texts, each a part of its own; in words, with an example of each."""
    for first in sorted(reads, key=lambda form: -reads[form].sum())[:LIKELY]:
        for second, fits in reads.items():
            alone, other = reads[first] & ~fits, fits & ~reads[first]
            if (reads[first] | fits).sum() >= CLEARLY * fits.len() and alone.any() and other.any():
                a, b = (pl.Series(column.texts).filter(part)[0] for part in (alone, other))
                return f"dates in two formats, {first} ({a!r}) and {second} ({b!r}); write them in one to use it"
    return None


def read(text: pl.Expr, form: str) -> pl.Expr:
    date = text.str.to_datetime(form, time_unit="us", strict=False, exact=True)
    return pl.when(date.dt.year() >= EARLIEST).then(date)


def _unread(table: Table, column: Facts, missing: Sequence[str], forms: Sequence[str]) -> tuple[int, ...]:
    """How many present values each format leaves, over all rows."""
    text = table.frame.select(tables.plain(column.name, column.kind, missing).alias("t")).drop_nulls()
    counts = [read(pl.col("t"), form).is_null().sum().alias(form) for form in forms]
    return text.select(counts).collect(engine="streaming").row(0)


def _example(column: Facts, form: str) -> str:
    texts = pl.DataFrame({"t": column.texts}, schema={"t": pl.String})
    unread = texts.filter(read(pl.col("t"), form).is_null())["t"]
    return str(unread[0]) if unread.len() else ""
