"""Columns of dates: their format, whether the day or the month comes first, and which say when a row happened."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from batchloop.adopt.profile import FEW, Column, Profile
from batchloop.adopt.source import asked_of, row, types_option
from batchloop.container import values
from batchloop.container.formats import EPOCHS
from batchloop.container.job import InputError
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
CENTURIES = 1500, 2200  # years that a table may be of
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
USUAL = ("0001-01-01", "1753-01-01", "1899-12-30", "1900-01-01", "1970-01-01", "2099-12-31", "9999-12-31")
REPEATED, LEAST = 0.002, 3  # the share of the cells, and the cells, in which a value stands again and again
CROWDED = 5  # times as often as a value on average
Match = tuple[str, int, Sequence[str]]  # a column's format, how many of its values it does not read, some of these


def find(column: Column, profile: Profile) -> Match | None:
    """The format that reads the most values, None where none does; DATES decides between day and month.

    Raises Question where these could change places, or where dates have several formats.
    """
    wish = profile.options.dates
    reads = _reads(column, wish)
    forms = [form for form, fits in reads.items() if fits.sum() >= CLEARLY * fits.len()]
    counts = row(column.cells(), *(_read(pl.col("t"), form).is_null().sum() for form in forms))
    unread = dict(zip(forms, counts, strict=True))
    least = min(unread.values(), default=0)
    if not forms or least > profile.tolerated:
        _check_one_format(column, profile.tolerated, reads)
    if not forms:
        return None
    best = [form for form in forms if unread[form] == least]
    best = [form for form in best if form == wish] or [form for form in best if form[:2] == wish[:2]] or best
    orders = {form[:2]: form for form in reversed(best) if form[:2] in ("%d", "%m") and "%b" not in form.lower()}
    if len(orders) > 1:
        both = (f"DATES={orders[first]}" for first in ("%d", "%m"))
        raise asked_of(column.name, f"is {column.texts[0]!r} day or month first", *both)
    strays = column.cells().filter(_read(pl.col("t"), best[0]).is_null()).unique().sort("t").head(EXAMPLES)
    return best[0], least, strays.collect(engine="streaming")["t"].to_list() if least else []


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
    join, _, seconds, basic, more, fraction, gap, half, space, zone = found.groups()
    colon = ":" if basic is None else ""
    clock = f"{join}{'%I' if half else '%H'}{colon}%M" + (f"{colon}%S" if seconds or more else "")
    zone = zone if zone in OF_UTC else "%#z" * bool(zone)
    return f"{clock}{'%.f' if fraction else ''}{gap}{'%p' if half else ''}{space}{zone}"


def _check_one_format(column: Column, tolerated: int, reads: dict[str, pl.Series]) -> None:
    """Raises Question where several formats together read nearly all dates, each a part of its own."""
    chain, left = list[str](), pl.repeat(True, len(column.texts), eager=True)
    for _ in range(MOST):
        best = max(reads, key=lambda form: (reads[form] & left).sum(), default="")
        if not best or not (reads[best] & left).any():
            break
        chain.append(best)
        left &= ~reads[best]
    if len(chain) < 2 or left.sum() > (1 - CLEARLY) * len(left):
        return
    first = pl.coalesce(pl.when(_read(pl.col("t"), form).is_not_null()).then(pl.lit(form)) for form in chain)
    counts = column.cells().group_by(first.alias("form")).agg(pl.len().alias("n"), pl.col("t").first())
    held = counts.drop_nulls().sort("n", descending=True).select("n", "t", "form").collect(engine="streaming")
    if held["n"][1:].sum() > tolerated:
        forms, out = (types_option(column.name, kind) for kind in (f"date({'|'.join(chain)})", "out"))
        read = f"{forms} to read them, a date that fits two by the first,"
        raise asked_of(column.name, "are these dates in several formats", read, out, cells=held.rows())


def _moments(texts: pl.Series, form: str) -> pl.Series:
    """Texts as the components read them, but for years of two digits under a format of four."""
    found = values.date(texts, Spelling(format=form), "UTC")[0]
    return found.set((found.dt.year() < EARLIEST).fill_null(False), None)


def _read(text: pl.Expr, form: str) -> pl.Expr:
    return text.map_batches(partial(_moments, form=form), return_dtype=pl.Datetime("us"), is_elementwise=True)


def since_1970(column: Column) -> Match | None:
    """Numbers of this century's seconds, or parts of them, since 1970, if the name or how they stand says so."""
    low, high, named = column.low or 0.0, column.high or 0.0, NAMING.search(column.name.strip())
    for form, (_, unit) in EPOCHS.items():
        second = round(1e6 / unit)
        if YEARS[0] * second <= low and high <= YEARS[1] * second and not (column.zero_padded or named):
            apart = column.whole and high - low > DAY * second
            if TIMELY.search(column.name) or (apart and _as_moments(column, low > YEARS[1] >= high / 1000)):
                return form, column.present - column.numbers, column.odd
            break
    return None


def _as_moments(column: Column, milliseconds: bool) -> bool:
    """Whether the rows are in the order of a column's numbers, or nearly each has its own of milliseconds."""
    ordered, distinct = row(column.cells(n=column.number()), _order(pl.col("n")), pl.col("n").n_unique())
    return bool((milliseconds and distinct >= UNIQUE * column.present) or ordered >= ORDERED)


def _order(value: pl.Expr) -> pl.Expr:
    """How far values rise or fall with the rows, from 0 to 1: the rank correlation."""
    return pl.corr(value.rank(), pl.int_range(pl.len())).fill_nan(None).abs().fill_null(0.0)


def are_years(column: Column) -> bool:
    """Whether all values are whole numbers that could be years."""
    whole = column.whole and column.numbers == column.present
    return bool(whole and CENTURIES[0] <= (column.low or 0) < (column.high or 0) < CENTURIES[1])


def written(column: Column) -> str:
    """The format in which pandas writes a column of dates as text: with a time of day where one of them has any."""
    moment = pl.col(column.name)
    if column.kind == pl.Date:
        return DAYS[0]
    timed, split = row(column.table.frame, *((moment != moment.dt.truncate(part)).any() for part in ("1d", "1s")))
    zone = "%#z" if getattr(column.kind, "time_zone", None) else ""
    return f"{DAYS[0]} %H:%M:%S{'%.f' if split else ''}{zone}" if timed or zone else DAYS[0]


def zone(column: Column, wish: str, form: str) -> str:
    """The zone in whose clocks moments of a format are read. Raises Question for offsets, which name no clock."""
    if wish and (form in EPOCHS or form.endswith((*OF_UTC, "z"))):
        return wish
    if not form.endswith("%#z"):
        return "UTC" if form.endswith(OF_UTC) else ""
    counts = column.cells(o=column.plain.str.extract(OFFSET)).group_by("o").len().sort("len", "o", descending=True)
    offsets = counts.select("len", "o").collect(engine="streaming").rows()
    if not any(re.search("[1-9]", text) for _, text in offsets):
        return "UTC"
    zones = "TIME_ZONE=Europe/Berlin (or another)", "TIME_ZONE=UTC"
    raise asked_of(column.name, "whose clock shows the hour", *zones, cells=offsets[:4])


@dataclass(frozen=True)
class Moments:
    """A column's values in microseconds, their correlation with the order of rows, why it looks like an event's time.

    `suspects` are moments that could mean "no value", as texts and in words.
    """

    at: pl.Expr
    order: float
    event: str
    suspects: Sequence[tuple[Sequence[str], str]]


def moments(column: Column, form: str) -> Moments:
    """The moments of a column in a format. Raises InputError where it reads none."""
    at = pl.col("at")
    if column.kind.is_temporal():
        held = pl.col(column.name).cast(pl.Datetime("us", getattr(column.kind, "time_zone", None))).cast(pl.Int64)
        moment: pl.Expr = pl.when(column.text.is_not_null()).then(held)
    elif form in EPOCHS:
        moment = (column.number() * EPOCHS[form][1]).round().cast(pl.Int64)
    else:
        moment = _read(column.plain, form).cast(pl.Int64)
    frame = column.cells(at=moment)
    low, high = row(frame, at.min(), at.max())
    if low is None:
        told = f"column {column.name!r}: {column.texts[0]!r} is no date like {form or 'those that are read'}"
        raise InputError(f"{column.table.files[0].name}: {told}; say its own format.")
    rows = pl.len(), at.n_unique(), _order(at), (at % (DAY * 1_000_000) != 0).any()
    inner = at.filter(at > low).min().fill_null(high), at.filter(at < high).max().fill_null(low)
    found = row(frame, *rows, (at == low).sum(), (at == high).sum(), *inner)
    present, distinct, ordered, clocks, *cells, after, before = found
    suspects = []
    for end, count, following in zip((low, high), cells, (after, before), strict=True):
        day = str(pl.Series([end], dtype=pl.Datetime("us")).dt.strftime("%Y-%m-%d")[0])
        far = abs(end - following) > max(before - after, 1)
        if distinct > FEW and stands_out(count, (present, distinct), far, day in USUAL):
            texts = column.texts_where(moment == end)
            suspects.append((texts, f"{texts[0]} stands in {count:,} cells of {column.name!r}, as no other date"))
    return Moments(moment, ordered, _event(column.name, (present, distinct, ordered, clocks)), suspects)


def stands_out(cells: int, of: tuple[int, int], far: bool, usual: bool) -> bool:
    """Whether a value comes again and again among so many cells and values, and is far from the rest or a usual gap."""
    present, distinct = of
    return cells >= max(LEAST, REPEATED * present) and (far or (usual and cells * distinct > CROWDED * present))


def _event(name: str, found: tuple[int, int, float, bool]) -> str:
    """Why a column looks like the time of an event, by its name, its values, their order and clocks."""
    present, distinct, order, timed = found
    if distinct >= FEWEST and order >= ORDERED:
        return "rows are in its order"
    if OTHER.search(name) or distinct < SPREAD:
        return ""
    if timed and distinct >= UNIQUE * present:
        return "nearly every row has a moment of its own"
    return "its name says so" if EVENT.search(name) else ""
