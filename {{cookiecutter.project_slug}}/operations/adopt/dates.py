"""Which format a column's dates have, and whether the day or the month comes first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from operations.adopt import Question, tables
from operations.adopt.facts import EXAMPLES, Facts, shown
from operations.adopt.tables import Table
from runtime.usecase import EPOCHS

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
YEARS = 946_684_800, 4_102_444_800  # from 2000 to 2100, in seconds since 1970
DAY = 24 * 3600
TIMELY = re.compile(  # names of moments
    r"(?i:time|(?<!candi)date|stamp|epoch|datum|zeit|created|modified|occurred|moment)"
    r"|(?i:(?:^|[\W_])(?:ts|at|dt|t|day|since|when)(?:$|[\W_]))|[a-z](?:At|Ts|TS)$"
)
NAMING = re.compile(  # names of numbers that name something, in whatever order they stand
    r"(?i:(?:number|phone|account|konto|code|barcode|nummer)s?$)|[a-z](?:Id|ID|No|Nr|Key)$"
    r"|(?i:(?:^|[\W_])(?:u?id|guid|key|index|no|nr|num|tel|mobile|fax|ean|gtin|isbn|imei|iban|msisdn|serial)s?$)"
    r"|(?i:(?:^|[\W_])(?:customer|client|member|user|patient|person|contract|policy|card)s?$)"
    r"|(?i:(?:^|[\W_])(?:invoice|order|transaction|ticket|session|case|device|machine)s?$)"
)
ORDERED, UNIQUE = 0.95, 0.9  # the rank correlation with the order of rows; the share of values that stand once


@dataclass(frozen=True)
class Dates:
    """A column's format, and how many of its values it does not read, the first of which is `example`."""

    format: str
    unread: int
    example: str

    @property
    def words(self) -> str:
        return f"{EPOCHS[self.format][0]} since 1970" if self.format in EPOCHS else self.format


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


def numbered(table: Table, column: Facts, missing: Sequence[str]) -> Dates | None:
    """Numbers of this century's seconds or milliseconds since 1970, if the name or how they stand says so."""
    if column.low is None or column.high is None or column.zero_padded or NAMING.search(column.name.strip()):
        return None
    first, last = YEARS
    for form, (_, unit) in EPOCHS.items():
        second = 1_000_000 // unit
        if first * second <= column.low and column.high <= last * second:
            apart = column.whole and column.high - column.low > DAY * second
            if not (TIMELY.search(column.name) or (apart and _as_moments(table, column, missing))):
                return None
            odd = column.present - column.numbers
            return Dates(form, odd, column.odd[0] if odd else "")
    return None


def _as_moments(table: Table, column: Facts, missing: Sequence[str]) -> bool:
    """Whether the rows are in the order of a column's numbers, or nearly each has its own of milliseconds."""
    number = tables.number(tables.plain(column.name, column.kind, missing), column.kind, table.reading)
    held = table.frame.select(number.alias("n")).drop_nulls()
    order = pl.corr(pl.col("n").rank(), pl.int_range(pl.len())).fill_nan(None)
    found, distinct = held.select(order, pl.col("n").n_unique().alias("d")).collect(engine="streaming").row(0)
    own = column.low is not None and column.low > YEARS[1] and distinct >= UNIQUE * column.present
    return bool(own or abs(found or 0.0) >= ORDERED)


def since_1970(number: pl.Expr, form: str) -> pl.Expr:
    """Microseconds."""
    return (number * EPOCHS[form][1]).round().cast(pl.Int64)


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
