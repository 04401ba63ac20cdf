"""From the facts of a column to its place in the contract: a type, or out, and the reason in words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from operations.adopt import Question, facts
from operations.adopt.facts import Facts, Table
from runtime import raw

CODE = re.compile(r"(^|[\W_])(zip|zipcode|plz|postal|postcode|code|codes)($|[\W_])", re.IGNORECASE)
IDENTITY = re.compile(r"(^|[\W_])(id|uuid|guid|key|index|rowid|unnamed: 0)($|[\W_])|[a-z]I[dD]$", re.IGNORECASE)
COMMA = re.compile(r"^[+-]?\d+,\d+$")
FEW, MANY = 10, 200  # distinct values
TOLERATED = 0.005  # share of odd cells in a column of numbers: such rows are left out and said


@dataclass(frozen=True)
class Decision:
    """A column's type in the contract ("" leaves it out), why, and a date's format."""

    name: str
    type: str
    why: str
    format: str = ""
    missing: float = 0.0


@dataclass(frozen=True)
class Look:
    """What deciding needs besides the facts: the table, the missing markers, and the date format that was asked for."""

    table: Table
    markers: Sequence[str]
    dates: str


def markers(found: dict[str, Facts]) -> list[str]:
    """Texts that stand for "no value" among what would otherwise be numbers, beyond the usual ones."""
    extra: list[str] = []
    for column in found.values():
        if column.present and column.numbers >= column.present / 4 and set(column.odd) <= set(facts.MARKERS):
            extra += [text for text in column.odd if text not in extra]
    return extra


def decide(column: Facts, look: Look) -> Decision:
    """The column's place in the contract. Raises Question where it could be read two ways."""
    reason = _useless(column)
    if reason:
        return _out(column, reason)
    if isinstance(column.kind, pl.Date | pl.Datetime):
        return _in(column, "date", "")
    if column.kind == pl.Boolean or _boolean(column):
        return _in(column, "boolean", "" if column.kind == pl.Boolean else " / ".join(column.texts))
    if column.numbers >= column.present * (1 - TOLERATED):
        return _number(column)
    return _dated(column, look) or _text(column)


def _useless(column: Facts) -> str:
    if column.present == 0:
        return "has no value in any row"
    if column.distinct == 1 and column.present == column.rows:
        return f"is {column.texts[0]!r} in every row"
    if column.kind.is_nested() or column.kind in (pl.Binary, pl.Object, pl.Duration, pl.Time):
        return f"is of type {column.kind}, which a table for learning does not hold"
    return ""


def _in(column: Facts, kind: str, why: str, form: str = "") -> Decision:
    return Decision(column.name, kind, why, form, column.missing)


def _out(column: Facts, why: str) -> Decision:
    return Decision(column.name, "", why, missing=column.missing)


def _boolean(column: Facts) -> bool:
    """Two words for yes and no; 0 and 1 stay numbers, which take a 2 as well."""
    words = {text.lower() for text in column.texts}
    both = bool(words & set(raw.TRUE)) and bool(words & set(raw.FALSE))
    return both and words <= {*raw.TRUE, *raw.FALSE} and column.numbers == 0


def _number(column: Facts) -> Decision:
    if column.zero_padded:
        return _category(column, "digits with leading zeros are codes, not amounts")
    if column.whole and CODE.search(column.name):
        return _category(column, "whole numbers under a name that says code")
    odd = column.present - column.numbers
    why = f"{column.low:g} to {column.high:g}" if column.low is not None else ""
    if odd:
        why += f"; {odd} cells are no numbers (such as {column.odd[0]!r}): their rows are left out"
    if column.whole and column.distinct <= FEW:
        why += f'; {column.distinct} whole numbers: if they are codes, make it "category"'
    return _in(column, "number", why)


def _category(column: Facts, why: str) -> Decision:
    if column.distinct > MANY and column.distinct > column.present / 2:
        return _out(column, f"{why}, and nearly every row has another one")
    return _in(column, "category", f"{why}; {column.distinct:,} values")


def _dated(column: Facts, look: Look) -> Decision | None:
    forms = [form for form in facts.probed(column) if facts.unparsed(look.table, column, form, look.markers) == 0]
    if look.dates in forms or (look.dates and not facts.unparsed(look.table, column, look.dates, look.markers)):
        return _in(column, "date", f"as {look.dates}", look.dates)
    days = {form for form in forms if "%b" not in form}
    if len(days) > 1 and any(form.startswith("%d") for form in days) and any(form.startswith("%m") for form in days):
        example = column.texts[0]
        raise Question(
            f"column {column.name!r}: is {example!r} day or month first? Say DATES={min(days)} or DATES={max(days)}."
        )
    return _in(column, "date", f"as {forms[0]}", forms[0]) if forms else None


def _text(column: Facts) -> Decision:
    if column.texts and all(COMMA.match(text) for text in column.texts):
        return _out(column, "holds numbers with a decimal comma; write them with a point to use them")
    share = column.numbers / column.present
    if share > 0.5 and column.distinct > MANY:
        return _out(column, f"{share:.0%} numbers, but also {column.odd[0]!r}; mend it to use it")
    if column.distinct > column.present / 2 and column.present > 20:
        kind = "free text" if column.length > 25 else "nearly every row has another value"
        return _out(column, f"{kind}; a model could only learn it by heart")
    return _category(column, "text")


def identity(found: dict[str, Facts], look: Look, label: str) -> str:
    """The column that names a row: called like an id and different in every row; "" where there is none."""
    for name, column in found.items():
        alone = column.present == column.rows and column.distinct > 0.9 * column.rows
        named = IDENTITY.search(name) or not name.strip()
        fraction = column.numbers and not column.whole
        if name != label and named and alone and not fraction and facts.unique(look.table, name):
            return name
    return ""


def looks_like_rows(column: Facts, look: Look) -> str:
    """Why a column that is kept as a number or category would only identify rows; "" where it would not."""
    if column.present < column.rows or column.distinct < 0.9 * column.rows or column.rows < 20:
        return ""
    whole = column.numbers == column.present and column.whole
    sequence = whole and column.low is not None and column.high == column.low + column.rows - 1
    if sequence and facts.unique(look.table, column.name):
        return f"numbers the rows; to pass it through say ID={column.name}"
    if IDENTITY.search(column.name) and (whole or column.numbers == 0):
        return "names an entity, and a model could only learn it by heart"
    return ""
