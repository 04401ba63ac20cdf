"""From the facts of a column to its place in the contract: a type, or out, and the reason in words."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from operations.adopt import dates, tables
from operations.adopt.facts import EXACT, Facts, Look
from operations.adopt.numerals import option
from runtime import raw
from runtime.usecase import EPOCHS

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
