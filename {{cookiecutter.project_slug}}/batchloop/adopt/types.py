"""From what is known of a column to its place in the contract: a type, or out, and the reason in words."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from batchloop.adopt import dates
from batchloop.adopt.missing import CODE
from batchloop.adopt.options import Question, types_option
from batchloop.adopt.profile import EXACT, FEW, MANY, Column, Profile
from batchloop.container import raw
from batchloop.container.usecase import EPOCHS

SHEET = 20_000, 73_051  # from 1954 to 2100 in a spreadsheet's days
ASKED = 5  # columns in one question


@dataclass(frozen=True)
class Decision:
    """A column's type in the contract ("" leaves it out), why, and how its dates are read.

    `drift` is false for a column that moves by its nature, `strays` are texts among dates that are none.
    """

    column: Column
    type: str
    why: str
    format: str = ""
    time_zone: str = ""
    drift: bool = True
    strays: Sequence[str] = ()

    @property
    def name(self) -> str:
        return self.column.name


def decide(profile: Profile) -> dict[str, Decision]:
    """The type of every column but the label. Raises Question with what all of them leave open."""
    decided, asked = dict[str, Decision](), list[str]()
    for name, column in profile.columns.items():
        try:
            if column is not profile.label:
                decided[name] = _decide(column, profile)
        except Question as question:
            asked.append(str(question))
    if asked:
        more = f" And {len(asked) - ASKED} more columns are open." if len(asked) > ASKED else ""
        raise Question(" ".join(asked[:ASKED]) + more)
    return decided


def _decide(column: Column, profile: Profile) -> Decision:
    """Raises Question where the column could be read two ways."""
    wish = profile.options.time_zone
    if column.name in profile.options.columns:
        kind, form = profile.options.columns[column.name]
        form = column.format if kind == "number" else form
        zone = dates.zone(column, wish, form) if kind == "date" else ""
        told = f"as TYPES says{f', {form}' if form and kind != 'out' else ''}"
        return Decision(column, "" if kind == "out" else kind, told, form, zone)
    if reason := _useless(column):
        return Decision(column, "", reason)
    if isinstance(column.kind, pl.Date | pl.Datetime):
        zone = getattr(column.kind, "time_zone", None) or ""
        zone = wish if zone and wish else zone
        return Decision(column, "date", f"in the time of {zone}" if zone else "", dates.written(column), zone)
    words = {text.lower() for text in column.texts}
    yes, no = words & set(raw.TRUE), words & set(raw.FALSE)  # 0 and 1 stay numbers, which take a 2 as well
    if column.kind == pl.Boolean or (yes and no and words == yes | no and column.numbers == 0):
        return Decision(column, "boolean", "" if column.kind == pl.Boolean else " / ".join(column.texts))
    if decision := _dated(column, profile):
        return decision
    numbers = column.numbers and column.present - column.numbers <= profile.tolerated
    return _number(column) if numbers else _text(column)


def _useless(column: Column) -> str:
    if not column.name.strip():
        return "has no name; give it one to use it"
    if column.present == 0:
        return "has no value in any row"
    if not column.readable:
        return f"is of type {column.kind}, which a table for learning does not hold"
    if column.distinct == 1 and column.present == column.rows:
        return f"is {column.texts[0]!r} in every row"
    return ""


def _dated(column: Column, profile: Profile) -> Decision | None:
    """As a date, where nearly every cell is one; numbers only as days like 20240131 or since 1970."""
    numbers, found, tolerated = column.numbers == column.present, None, profile.tolerated
    if column.present - column.numbers <= tolerated and column.distinct > FEW:
        found = dates.since_1970(column)
    if found is None and numbers and not (column.distinct > FEW and all(map(dates.AS_NUMBERS.fullmatch, column.texts))):
        return None
    found = found or dates.find(column, profile)
    if found is None or (numbers and found.unread > tolerated):
        return None
    example = f" (such as {found.strays[0]!r})" if found.strays else ""
    if found.unread > tolerated:
        why = f"dates as {found.format}, but {found.unread:,} cells are not{example}; mend it to use it"
        return Decision(column, "", why, strays=found.strays)
    zone = dates.zone(column, profile.options.time_zone, found.format)
    why = f"as {EPOCHS[found.format][0]} since 1970" if found.format in EPOCHS else f"as {found.format}"
    if found.unread:
        why += f"; {found.unread:,} cells are no such dates{example}: their rows are left out"
    if zone or found.format in EPOCHS:
        why += f"; hours are those of {zone or 'UTC'}: for another clock say TIME_ZONE"
    return Decision(column, "date", why, found.format, zone)


def _number(column: Column) -> Decision:
    if column.zero_padded:
        return _category(column, "digits with leading zeros are codes, not amounts")
    if column.whole and CODE.search(column.name):
        return _category(column, "whole numbers under a name that says code")
    odd = column.present - column.numbers
    why = f"{column.low:g} to {column.high:g}" if column.low is not None else ""
    if odd:
        why += f"; {odd:,} cells are no numbers (such as {column.odd[0]!r}): their rows are left out"
        why += f" (MISSING={shlex.quote(column.odd[0])} keeps them)"
    if column.whole and column.distinct <= FEW:
        why += f'; {column.distinct} whole numbers: if they are codes, make it "category"'
    sheet = column.low and column.high and SHEET[0] <= column.low <= column.high <= SHEET[1] and column.distinct > FEW
    if sheet and dates.TIMELY.search(column.name):
        other = types_option(column.name, "out")
        why += f"; if a spreadsheet's days since 1900, write them as 2024-01-31 or say {other}"
    return Decision(column, "number", why + (f", written as {column.format}" if column.format else ""), column.format)


def _category(column: Column, why: str) -> Decision:
    if column.distinct > MANY and column.exceeds(column.present / 2):
        return Decision(column, "", f"{why}, and nearly every row has another one")
    about = "about " if column.distinct > EXACT else ""
    values = "value" if column.distinct == 1 else "values"
    return Decision(column, "category", f"{why}; {about}{column.distinct:,} {values}")


def _text(column: Column) -> Decision:
    share = column.numbers / column.present
    if share > 0.5 and column.distinct > MANY:
        gap = f"MISSING={shlex.quote(column.odd[0])} if that means no value"
        why = f"{share:.1%} numbers, but also {column.odd[0]!r}; mend it to use it, or say {gap}"
        return Decision(column, "", why)
    dated = column.distinct > FEW and all(map(dates.DATED.search, column.texts))
    told = types_option(column.name, "date(%d.%m.%Y)")
    date = f"; if {column.texts[0]!r} is a date, say {told} with its format" if dated else ""
    if column.present <= 20 or not column.exceeds(column.present / 2):
        return _category(column, f"text{date}")
    kind = "free text" if column.length > 25 else "nearly every row has another value"
    naming = column.present == column.rows and column.length <= 25 and column.exceeds(0.9 * column.rows)
    hint = f"; if it names the row say ID={shlex.quote(column.name)}" if naming else ""
    return Decision(column, "", f"{kind}; a model could only learn it by heart{date or hint}")


def out(decision: Decision, why: str) -> Decision:
    """Left out."""
    return replace(decision, type="", why=why, format="", time_zone="", drift=True)
