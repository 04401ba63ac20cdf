"""From the facts of a column to its place in the contract: a type, or out, and the reason in words."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from batchloop.adopt import dates, tables
from batchloop.adopt.numerals import option
from batchloop.adopt.tables import EXACT, Facts, Look
from batchloop.container import raw
from batchloop.container.job import InputError
from batchloop.container.usecase import EPOCHS

CODE = re.compile(r"(^|[\W_])(zip|zipcode|plz|postal|postcode|code|codes)($|[\W_])|[a-z]Code$|^zipCode", re.IGNORECASE)
FEW, MANY = 10, 200  # distinct values
SHEET = 20_000, 73_051  # from 1954 to 2100 in a spreadsheet's days


@dataclass(frozen=True)
class Decision:
    """A column's type in the contract ("" leaves it out), why, and how its dates are read.

    `drift` is false for a column that moves by its nature, `strays` are texts among dates that are none.
    """

    name: str
    type: str
    why: str
    format: str = ""
    missing: float = 0.0
    drift: bool = True
    time_zone: str = ""
    strays: Sequence[str] = ()


def decide(column: Facts, look: Look) -> Decision:
    """The column's place in the contract. Raises Question where it could be read two ways."""
    if column.name in look.types:
        return _told(column, look)
    if reason := _useless(column):
        return out(column, reason)
    if isinstance(column.kind, pl.Date | pl.Datetime):
        zone = getattr(column.kind, "time_zone", None) or ""
        zone = look.zone if zone and look.zone else zone
        decision = _in(column, "date", f"in the time of {zone}" if zone else "", dates.written(look.table, column))
        return replace(decision, time_zone=zone)
    if column.kind == pl.Boolean or _boolean(column):
        return _in(column, "boolean", "" if column.kind == pl.Boolean else " / ".join(column.texts))
    numbers = column.numbers and column.present - column.numbers <= look.tolerated
    return _dated(column, look) or (_number(column, look) if numbers else _text(column, look))


def _told(column: Facts, look: Look) -> Decision:
    """As TYPES says."""
    kind, form = look.types[column.name]
    if kind == "out":
        return out(column, "as TYPES says")
    form = look.table.formats.get(column.name, "") if kind == "number" else form
    zone = dates.zone(column, look, form) if kind == "date" else ""
    return replace(_in(column, kind, f"as TYPES says{f', {form}' if form else ''}", form), time_zone=zone)


def out(column: Facts, why: str) -> Decision:
    """Left out."""
    return Decision(column.name, "", why, missing=column.missing)


def _in(column: Facts, kind: str, why: str, form: str = "") -> Decision:
    return Decision(column.name, kind, why, form, column.missing)


def _useless(column: Facts) -> str:
    if not column.name.strip():
        return "has no name; give it one to use it"
    if column.present == 0:
        return "has no value in any row"
    if not tables.readable(column.kind):
        return f"is of type {column.kind}, which a table for learning does not hold"
    if column.distinct == 1 and column.present == column.rows:
        return f"is {column.texts[0]!r} in every row"
    return ""


def _boolean(column: Facts) -> bool:
    """Two words for yes and no; 0 and 1 stay numbers, which take a 2 as well."""
    words = {text.lower() for text in column.texts}
    both = bool(words & set(raw.TRUE)) and bool(words & set(raw.FALSE))
    return both and words <= {*raw.TRUE, *raw.FALSE} and column.numbers == 0


def exceeds(column: Facts, limit: float, look: Look) -> bool:
    """Whether a column has more distinct values than a limit: counted one by one where the estimate comes near."""
    if column.distinct <= EXACT or not 0.6 * limit < column.distinct < 1.6 * limit:
        return column.distinct > limit
    text = look.table.frame.select(tables.text(column.name, column.kind, look.markers).alias("text"))
    return int(text.drop_nulls().select(pl.col("text").n_unique()).collect(engine="streaming").item()) > limit


def _number(column: Facts, look: Look) -> Decision:
    if column.zero_padded:
        return _category(column, "digits with leading zeros are codes, not amounts", look)
    if column.whole and CODE.search(column.name):
        return _category(column, "whole numbers under a name that says code", look)
    odd = column.present - column.numbers
    why = f"{column.low:g} to {column.high:g}" if column.low is not None else ""
    if odd:
        why += f"; {odd:,} cells are no numbers (such as {column.odd[0]!r}): their rows are left out"
        why += f" (MISSING={shlex.quote(column.odd[0])} keeps them)"
    if column.whole and column.distinct <= FEW:
        why += f'; {column.distinct} whole numbers: if they are codes, make it "category"'
    if column.low and column.high and SHEET[0] <= column.low <= column.high <= SHEET[1] and _timely(column):
        why += f"; if a spreadsheet's days since 1900, write them as 2024-01-31 or say {option(column.name, 'out')}"
    form = look.table.formats.get(column.name, "")
    return _in(column, "number", f"{why}, written as {form}" if form else why, form)


def _timely(column: Facts) -> bool:
    return column.distinct > FEW and bool(dates.TIMELY.search(column.name))


def _category(column: Facts, why: str, look: Look) -> Decision:
    if column.distinct > MANY and exceeds(column, column.present / 2, look):
        return out(column, f"{why}, and nearly every row has another one")
    about = "about " if column.distinct > EXACT else ""
    return _in(column, "category", f"{why}; {about}{column.distinct:,} {'value' if column.distinct == 1 else 'values'}")


def _dated(column: Facts, look: Look) -> Decision | None:
    """As a date, where nearly every cell is one; numbers only as days like 20240131 or since 1970."""
    numbers, found = column.numbers == column.present, None
    if column.present - column.numbers <= look.tolerated and column.distinct > FEW:
        found = dates.numbered(column, look)
    if found is None and numbers and not (column.distinct > FEW and all(map(dates.AS_NUMBERS.fullmatch, column.texts))):
        return None
    found = found or dates.find(column, look)
    if found is None or (numbers and found.unread > look.tolerated):
        return None
    example = f" (such as {found.strays[0]!r})" if found.strays else ""
    if found.unread > look.tolerated:
        why = f"dates as {found.format}, but {found.unread:,} cells are not{example}; mend it to use it"
        return replace(out(column, why), strays=found.strays)
    zone = dates.zone(column, look, found.format)
    why = f"as {EPOCHS[found.format][0]} since 1970" if found.format in EPOCHS else f"as {found.format}"
    if found.unread:
        why += f"; {found.unread:,} cells are no such dates{example}: their rows are left out"
    if zone or found.format in EPOCHS:
        why += f"; hours are those of {zone or 'UTC'}: for another clock say TIME_ZONE"
    return replace(_in(column, "date", why, found.format), time_zone=zone)


def _text(column: Facts, look: Look) -> Decision:
    share = column.numbers / column.present
    if share > 0.5 and column.distinct > MANY:
        gap = f"MISSING={shlex.quote(column.odd[0])} if that means no value"
        return out(column, f"{share:.1%} numbers, but also {column.odd[0]!r}; mend it to use it, or say {gap}")
    dated = column.distinct > FEW and all(map(dates.DATED.search, column.texts))
    told = option(column.name, "date(%d.%m.%Y)")
    date = f"; if {column.texts[0]!r} is a date, say {told} with its format" if dated else ""
    if column.present > 20 and exceeds(column, column.present / 2, look):
        kind = "free text" if column.length > 25 else "nearly every row has another value"
        naming = column.present == column.rows and column.length <= 25 and exceeds(column, 0.9 * column.rows, look)
        hint = f"; if it names the row say ID={shlex.quote(column.name)}" if naming else ""
        return out(column, f"{kind}; a model could only learn it by heart{date or hint}")
    return _category(column, f"text{date}", look)


def tolerated(found: dict[str, Facts], columns: Sequence[str], rows: int, share: float) -> int:
    """How many odd cells one column may have, so that all together break at most half of `share` of the rows."""
    broken = [name for name in columns if 0 < found[name].present - found[name].numbers < 0.05 * found[name].present]
    return int(share * rows / 2 / max(1, len(broken)))


EVENT = re.compile(
    r"time|date|day|created|updated|modified|event|occurred|order|purchase|transact|booked|logged|record"
    r"|stamp|epoch|datum|zeit|tag$|jour|heure|fecha|(^|[\W_])ts($|[\W_])",
    re.I,
)
# of a thing, not of the row
OTHER = re.compile(r"birth|born|dob|expir|due|valid|until|deadline|matur|built|geburt|ablauf|fällig|gültig", re.I)
ORDERED, UNIQUE = 0.95, 0.9  # the rank correlation with the order of rows; the share of values that stand once
DAY = 86_400_000_000  # microseconds
FEWEST, SPREAD = 5, 20  # distinct values, and those where the name has to tell


@dataclass(frozen=True)
class Moments:
    """Of one column of dates: values, how they go with the order of rows, whether any has a time of day, the ends.

    `low` and `high` are microseconds, as is `after_low` and `before_high`, the next values to them.
    """

    values: int
    distinct: int
    order: float | None
    timed: bool
    low: int
    low_cells: int
    after_low: int
    high: int
    high_cells: int
    before_high: int

    def reason(self, name: str) -> str:
        """Why a column of this name looks like the time of an event; "" where it does not."""
        if self.distinct >= FEWEST and abs(self.order or 0.0) >= ORDERED:
            return "rows are in its order"
        if OTHER.search(name) or self.distinct < SPREAD:
            return ""
        if self.timed and self.distinct >= UNIQUE * self.values:
            return "nearly every row has a moment of its own"
        return "its name says so" if EVENT.search(name) else ""


def look(found: dict[str, Facts], decisions: dict[str, Decision], look: Look) -> dict[str, Moments]:
    """The moments of each column of dates."""
    return {
        name: _moments(found[name], decision, look) for name, decision in decisions.items() if decision.type == "date"
    }


def events(moments: dict[str, Moments]) -> dict[str, str]:
    """The columns that look like the time of an event and why, the clearest first."""
    reasons = {name: each.reason(name) for name, each in moments.items()}
    clearest = sorted(reasons, key=lambda name: -abs(moments[name].order or 0.0))
    return {name: reasons[name] for name in clearest if reasons[name]}


def moment(column: Facts, decision: Decision, look: Look) -> pl.Expr:
    """The column's values in microseconds."""
    if column.kind.is_temporal():
        at = pl.col(column.name).cast(pl.Datetime("us", getattr(column.kind, "time_zone", None))).cast(pl.Int64)
        return pl.when(tables.text(column.name, column.kind, look.markers).is_not_null()).then(at)
    text = tables.plain(column.name, column.kind, look.markers)
    if decision.format in EPOCHS:
        return dates.since_1970(look.table.number(column.name, text, column.kind), decision.format)
    return dates.read(text, decision.format).cast(pl.Int64)


def day(moment: int) -> str:
    """The day of a moment, as 2024-01-31."""
    return str(pl.Series([moment // DAY], dtype=pl.Int32).cast(pl.Date).dt.to_string()[0])


def _moments(column: Facts, decision: Decision, look: Look) -> Moments:
    at = pl.col("at")
    held = look.table.frame.select(moment(column, decision, look).alias("at")).drop_nulls()
    ends = held.select(at.min().alias("low"), at.max().alias("high")).collect(engine="streaming").row(0, named=True)
    low, high = ends["low"], ends["high"]
    if low is None:
        told = f"column {column.name!r}: {column.texts[0]!r} is no date like {decision.format or 'those that are read'}"
        raise InputError(f"{look.table.files[0].name}: {told}; say its own format.")
    counts = held.select(
        values=pl.len(),
        distinct=at.n_unique(),
        order=pl.corr(at.rank(), pl.int_range(pl.len())).fill_nan(None),
        timed=(at % DAY != 0).any(),
        low_cells=(at == low).sum(),
        after_low=at.filter(at > low).min().fill_null(high),
        high_cells=(at == high).sum(),
        before_high=at.filter(at < high).max().fill_null(low),
    )
    return Moments(**ends, **counts.collect(engine="streaming").row(0, named=True))
