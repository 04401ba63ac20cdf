"""Columns of dates: their format, whether the day or the month comes first, and which say when a row happened."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from batchloop.adopt.options import Question, types_option
from batchloop.adopt.profile import Column, Profile
from batchloop.container import values
from batchloop.container.job import InputError
from batchloop.container.usecase import EPOCHS
from batchloop.container.values import OF_UTC, Spelling

DAYS = [  # also with a clock behind
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%d %b %Y", "%b %d, %Y", "%b. %d, %Y", "%b %d %Y"),
    *("%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%Y-%b-%d", "%Y %b %d", "%d. %b %Y", "%d %B %Y", "%B %d, %Y", "%B %d %Y"),
    *("%d. %B %Y", "%a, %d %b %Y", "%a %b %d %Y", "%A, %B %d, %Y", "%A, %d %B %Y", "%G-W%V-%u", "%GW%V%u"),
]
PARTS = [  # alone
    *("%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%m.%Y", "%b %Y", "%Y %b", "%b-%Y", "%b-%y", "%B %Y", "%Y-Q%q", "%YQ%q"),
    *("%Y Q%q", "Q%q %Y", "Q%q-%Y", "Q%q/%Y", "%G-W%V", "%GW%V", "%Y-%j", "%Y%m%d%H%M%S", "%Y%m%d%H%M"),
    *("%a %b %d %H:%M:%S %Y", "%a %b %e %H:%M:%S %Z %Y"),
]
# what stands behind a day: a clock, which may end with AM or PM and with a zone or an offset
CLOCK = re.compile(
    r"(T|,? |:)(?:\d{1,2}(:)\d\d(:\d\d)?|\d{4}()(\d\d)?)(\.\d+)?( ?)([AaPp][Mm])?( ?)(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$"
)
OFFSET = r"(?:\d|\s|M)([+-]\d\d(?::?\d\d)?|Z)$"
AS_NUMBERS = re.compile(r"\d{8}|\d{12}|\d{14}|(0[1-9]|1[0-2])\.(19|20)\d\d")  # numbers that may be dates
DATED = re.compile(r"\d\D+(19|20)\d\d\b|\b(19|20)\d\d\D+\d")  # a year beside another number
DIRECTIVE = re.compile(r"%[-#.]?[A-Za-z]")
TWO_DIGITS = re.compile(r"\d.*\d", re.DOTALL)
EARLIEST = 1000  # a year below has two digits, and another format reads it
EXAMPLES = 6  # texts that a format does not read
CLEARLY = 0.9  # the share of a column's values a format must read
MOST = 4  # formats of one column
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
EVENT = re.compile(
    r"time|date|day|created|updated|modified|event|occurred|order|purchase|transact|booked|logged|record"
    r"|stamp|epoch|datum|zeit|tag$|jour|heure|fecha|(^|[\W_])ts($|[\W_])",
    re.I,
)
# of a thing, not of the row
OTHER = re.compile(r"birth|born|dob|expir|due|valid|until|deadline|matur|built|geburt|ablauf|fällig|gültig", re.I)
ORDERED, UNIQUE = 0.95, 0.9  # the rank correlation with the order of rows; the share of values that stand once
FEWEST, SPREAD = 5, 20  # distinct values, and those where the name has to tell


@dataclass(frozen=True)
class Dates:
    """A column's format, and how many of its values it does not read, and some of these."""

    format: str
    unread: int
    strays: Sequence[str]


def find(column: Column, profile: Profile) -> Dates | None:
    """The format that reads the most values, None where none does.

    Raises Question where the day and the month could change places, or where dates have several formats. What the user
    said with DATES is this format, or for other formats the order of day and month in it.
    """
    wish = profile.options.dates
    reads = _reads(column, wish)
    forms = [form for form, fits in reads.items() if fits.sum() >= CLEARLY * fits.len()]
    counts = [_read(pl.col("t"), form).is_null().sum().alias(form) for form in forms]
    unread = column.cells().select(counts).collect(engine="streaming").row(0, named=True) if forms else {}
    least = min(unread.values(), default=0)
    if not forms or least > profile.tolerated:
        _check_one_format(column, profile.tolerated, reads)
    if not forms:
        return None
    best = [form for form in forms if unread[form] == least]
    best = [form for form in best if form == wish] or [form for form in best if form[:2] == wish[:2]] or best
    orders = {form[:2]: form for form in reversed(best) if form[:2] in ("%d", "%m") and "%b" not in form.lower()}
    if len(orders) > 1:
        raise Question(
            f"column {column.name!r}: is {column.texts[0]!r} day or month first? "
            f"Say DATES={orders['%d']} or DATES={orders['%m']}."
        )
    strays = column.cells().filter(_read(pl.col("t"), best[0]).is_null()).unique().sort("t").head(EXAMPLES)
    return Dates(best[0], least, strays.collect(engine="streaming")["t"].to_list() if least else [])


def _reads(column: Column, wish: str) -> dict[str, pl.Series]:
    """Which of the texts at hand each format reads; no format for texts that hold too few digits to be dates."""
    if sum(map(bool, map(TWO_DIGITS.search, column.texts))) < max(1, CLEARLY * len(column.texts)):
        return {}
    clocks = sorted({_clock(found) for text in column.texts if (found := CLOCK.search(text))}, key=len)
    forms = [*([wish] if wish else []), *(day + clock for clock in ["", *clocks] for day in DAYS), *PARTS]
    texts, signs = pl.Series(column.texts, dtype=pl.String), set("".join(column.texts))
    possible = [form for form in dict.fromkeys(forms) if form == wish or set(DIRECTIVE.sub("", form)) <= signs]
    return {form: _moments(texts, form).is_not_null() for form in possible}


def _clock(found: re.Match[str]) -> str:
    """The format of a clock."""
    join, _, seconds, basic, more, fraction, gap, half, space, zone = found.groups()
    colon = ":" if basic is None else ""
    clock = f"{join}{'%I' if half else '%H'}{colon}%M" + (f"{colon}%S" if seconds or more else "")
    zone = zone if zone in OF_UTC else "%#z" * bool(zone)
    return f"{clock}{'%.f' if fraction else ''}{gap}{'%p' if half else ''}{space}{zone}"


def _check_one_format(column: Column, tolerated: int, reads: dict[str, pl.Series]) -> None:
    """Raises Question where several formats together read nearly all dates, each a part of its own."""
    chain: list[str] = []
    left = pl.repeat(True, len(column.texts), eager=True)
    while reads and left.any() and len(chain) < MOST:
        best = max(reads, key=lambda form: (reads[form] & left).sum())
        if not (reads[best] & left).any():
            break
        chain.append(best)
        left &= ~reads[best]
    if len(chain) < 2 or left.sum() > (1 - CLEARLY) * len(left):
        return
    first = pl.coalesce(pl.when(_read(pl.col("t"), form).is_not_null()).then(pl.lit(form)) for form in chain)
    counts = column.cells().group_by(first.alias("form")).agg(pl.len().alias("n"), pl.col("t").first())
    held = counts.drop_nulls().sort("n", descending=True).collect(engine="streaming")
    if held["n"][1:].sum() <= tolerated:
        return
    told = ", ".join(f"{count:,} like {text!r} ({form})" for form, count, text in held.rows())
    forms = types_option(column.name, f"date({'|'.join(chain)})")
    raise Question(
        f"column {column.name!r} has dates in several formats: {told}. Say {forms} to read them, a date that fits two "
        f"by the first of them; or {types_option(column.name, 'out')}."
    )


def _moments(texts: pl.Series, form: str) -> pl.Series:
    """Texts as the runtime reads them, but for years of two digits under a format of four."""
    found = values.date(texts, form, "UTC", Spelling())[0]
    return found.set((found.dt.year() < EARLIEST).fill_null(False), None)


def _read(text: pl.Expr, form: str) -> pl.Expr:
    return text.map_batches(partial(_moments, form=form), return_dtype=pl.Datetime("us"), is_elementwise=True)


def since_1970(column: Column) -> Dates | None:
    """Numbers of this century's seconds, or parts of them, since 1970, if the name or how they stand says so."""
    if column.low is None or column.high is None or column.zero_padded or NAMING.search(column.name.strip()):
        return None
    for form, (_, unit) in EPOCHS.items():
        second = round(1e6 / unit)
        if YEARS[0] * second <= column.low and column.high <= YEARS[1] * second:
            apart = column.whole and column.high - column.low > DAY * second
            if not (TIMELY.search(column.name) or (apart and _as_moments(column))):
                return None
            odd = column.present - column.numbers
            return Dates(form, odd, column.odd[:odd])
    return None


def _as_moments(column: Column) -> bool:
    """Whether the rows are in the order of a column's numbers, or nearly each has its own of milliseconds."""
    held = column.table.frame.select(column.number.alias("n")).drop_nulls()
    order = pl.corr(pl.col("n").rank(), pl.int_range(pl.len())).fill_nan(None)
    found, distinct = held.select(order, pl.col("n").n_unique().alias("d")).collect(engine="streaming").row(0)
    milli = column.low is not None and column.high is not None and column.low > YEARS[1] >= column.high / 1000
    return bool((milli and distinct >= UNIQUE * column.present) or abs(found or 0.0) >= ORDERED)


def written(column: Column) -> str:
    """The format in which pandas writes a column of dates as text: with a time of day where one of them has any."""
    moment = pl.col(column.name)
    if column.kind == pl.Date:
        return DAYS[0]
    clock, fraction = ((moment != moment.dt.truncate(unit)).any().alias(unit) for unit in ("1d", "1s"))
    timed, split = column.table.frame.select(clock, fraction).collect(engine="streaming").row(0)
    zone = "%#z" if getattr(column.kind, "time_zone", None) else ""
    return f"{DAYS[0]} %H:%M:%S{'%.f' if split else ''}{zone}" if timed or zone else DAYS[0]


def zone(column: Column, wish: str, form: str) -> str:
    """The time zone in whose clocks moments of a format are read: UTC for numbers since 1970 and where texts say so.

    Raises Question for other offsets: they say which instant it is, and not whose clock shows the hour.
    """
    if wish and (form in EPOCHS or form.endswith((*OF_UTC, "z"))):
        return wish
    if not form.endswith("%#z"):
        return "UTC" if form.endswith(OF_UTC) else ""
    offset = column.table.frame.select(column.plain.str.extract(OFFSET).alias("o")).drop_nulls()
    counts = offset.group_by("o").len().sort("len", "o", descending=True).collect(engine="streaming")
    if not counts.filter(pl.col("o").str.contains("[1-9]")).height:
        return "UTC"
    told = ", ".join(f"{count:,} cells have {text}" for text, count in counts.head(4).iter_rows())
    raise Question(
        f"column {column.name!r}: whose clock shows the hour? {told}. Say TIME_ZONE=Europe/Berlin (or another), or "
        "TIME_ZONE=UTC."
    )


@dataclass(frozen=True)
class Moments:
    """Of one column of dates: values, how they go with the order of rows, whether any has a time of day, the ends.

    `at` reads the values in microseconds, as are `low` and `high`, and the next values to them.
    """

    at: pl.Expr
    values: int
    distinct: int
    order: float
    timed: bool
    low: int
    low_cells: int
    after_low: int
    high: int
    high_cells: int
    before_high: int


def moments(column: Column, form: str) -> Moments:
    """Count the moments of a column in a format. Raises InputError where it reads none."""
    at = pl.col("at")
    if column.kind.is_temporal():
        held = pl.col(column.name).cast(pl.Datetime("us", getattr(column.kind, "time_zone", None))).cast(pl.Int64)
        moment: pl.Expr = pl.when(column.text.is_not_null()).then(held)
    elif form in EPOCHS:
        moment = (column.number * EPOCHS[form][1]).round().cast(pl.Int64)
    else:
        moment = _read(column.plain, form).cast(pl.Int64)
    frame = column.table.frame.select(moment.alias("at")).drop_nulls()
    low, high = frame.select(at.min().alias("low"), at.max().alias("high")).collect(engine="streaming").row(0)
    if low is None:
        told = f"column {column.name!r}: {column.texts[0]!r} is no date like {form or 'those that are read'}"
        raise InputError(f"{column.table.files[0].name}: {told}; say its own format.")
    counts = frame.select(
        values=pl.len(),
        distinct=at.n_unique(),
        order=pl.corr(at.rank(), pl.int_range(pl.len())).fill_nan(None).abs().fill_null(0.0),
        timed=(at % (DAY * 1_000_000) != 0).any(),
        low_cells=(at == low).sum(),
        after_low=at.filter(at > low).min().fill_null(high),
        high_cells=(at == high).sum(),
        before_high=at.filter(at < high).max().fill_null(low),
    )
    return Moments(at=moment, low=low, high=high, **counts.collect(engine="streaming").row(0, named=True))


def events(moments: Mapping[str, Moments]) -> dict[str, str]:
    """The columns that look like the time of an event and why, the clearest first."""
    reasons = {name: _event(name, moments[name]) for name in sorted(moments, key=lambda name: -moments[name].order)}
    return {name: reason for name, reason in reasons.items() if reason}


def _event(name: str, found: Moments) -> str:
    if found.distinct >= FEWEST and found.order >= ORDERED:
        return "rows are in its order"
    if OTHER.search(name) or found.distinct < SPREAD:
        return ""
    if found.timed and found.distinct >= UNIQUE * found.values:
        return "nearly every row has a moment of its own"
    return "its name says so" if EVENT.search(name) else ""
