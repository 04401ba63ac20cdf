"""From the facts of a column to its place in the contract: a type, or out, and the reason in words."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from operations.adopt import dates, tables
from operations.adopt.facts import Facts
from operations.adopt.tables import Table
from runtime import raw

CODE = re.compile(r"(^|[\W_])(zip|zipcode|plz|postal|postcode|code|codes)($|[\W_])|[a-z]Code$|^zipCode", re.IGNORECASE)
# numbers as people write them: a comma, a sign of money, a percent sign
WRITTEN = re.compile(r"^[$€£¥]?\s?[+-]?\s?[$€£¥]?\s?\d[\d.,' ]*\s?[%$€£¥]?$")
FEW, MANY = 10, 200  # distinct values


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
    """What deciding needs besides the facts.

    The table, the missing markers, the date format that was asked for, and how many odd cells a column may have: their
    rows are left out of training and said.
    """

    table: Table
    markers: Sequence[str]
    dates: str
    tolerated: int = 0


def markers(found: dict[str, Facts], label: str) -> dict[str, list[str]]:
    """Texts that stand for "no value" among what would otherwise be numbers, by the column; none that is a class."""
    extra: dict[str, list[str]] = {}
    for name, column in found.items():
        numbers = column.numbers >= column.present / 4 and column.unmarked == 0 and name != label
        if numbers and column.marked and not set(column.marked) & set(found[label].texts):
            extra[name] = column.marked
    return extra


def decide(column: Facts, look: Look) -> Decision:
    """The column's place in the contract. Raises Question where it could be read two ways."""
    reason = _useless(column)
    if reason:
        return out(column, reason)
    if isinstance(column.kind, pl.Date | pl.Datetime):
        return _in(column, "date", "")
    if column.kind == pl.Boolean or _boolean(column):
        return _in(column, "boolean", "" if column.kind == pl.Boolean else " / ".join(column.texts))
    dated = _dated(column, look)
    if dated:
        return dated
    if column.numbers and column.present - column.numbers <= look.tolerated:
        return _number(column)
    return _text(column)


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


def _number(column: Facts) -> Decision:
    if column.zero_padded:
        return _category(column, "digits with leading zeros are codes, not amounts")
    if column.whole and CODE.search(column.name):
        return _category(column, "whole numbers under a name that says code")
    odd = column.present - column.numbers
    why = f"{column.low:g} to {column.high:g}" if column.low is not None else ""
    if odd:
        why += f"; {odd:,} cells are no numbers (such as {column.odd[0]!r}): their rows are left out"
    if column.whole and column.distinct <= FEW:
        why += f'; {column.distinct} whole numbers: if they are codes, make it "category"'
    return _in(column, "number", why)


def _category(column: Facts, why: str) -> Decision:
    if column.distinct > MANY and column.distinct > column.present / 2:
        return out(column, f"{why}, and nearly every row has another one")
    return _in(column, "category", f"{why}; {column.distinct:,} {'value' if column.distinct == 1 else 'values'}")


def _dated(column: Facts, look: Look) -> Decision | None:
    """As a date, where nearly every cell is one; numbers only where all of them are days like 20240131."""
    numbers = column.numbers == column.present
    if numbers and not (column.whole and column.length == 8 and column.distinct > FEW):
        return None
    found = dates.find(look.table, column, look.markers, look.dates)
    if found is None:
        return None
    if found.unread == 0:
        return _in(column, "date", f"as {found.format}", found.format)
    example = f" (such as {found.example!r})" if found.example else ""
    if found.unread <= look.tolerated:
        why = f"as {found.format}; {found.unread:,} cells are no such dates{example}: their rows are left out"
        return _in(column, "date", why, found.format)
    if numbers:
        return None
    return out(column, f"dates as {found.format}, but {found.unread:,} cells are not{example}; mend it to use it")


def _text(column: Facts) -> Decision:
    written = [text for text in column.odd if WRITTEN.match(text)]
    if column.distinct > FEW and len(written) > 0.95 * len(column.odd):
        kind = "a decimal comma or thousands" if "," in written[0] else "signs"
        return out(column, f"numbers with {kind}, such as {written[0]!r}; write them like 1234.5 to use them")
    share = column.numbers / column.present
    if share > 0.5 and column.distinct > MANY:
        return out(column, f"{share:.1%} numbers, but also {column.odd[0]!r}; mend it to use it")
    if column.distinct > column.present / 2 and column.present > 20:
        kind = "free text" if column.length > 25 else "nearly every row has another value"
        naming = column.present == column.rows and column.distinct > 0.9 * column.rows and column.length <= 25
        hint = f"; if it names the row say ID={shlex.quote(column.name)}" if naming else ""
        return out(column, f"{kind}; a model could only learn it by heart{hint}")
    return _category(column, "text")


def tolerated(found: dict[str, Facts], columns: Sequence[str], rows: int, share: float) -> int:
    """How many odd cells one column may have, so that all together break at most half of `share` of the rows."""
    broken = [name for name in columns if 0 < found[name].present - found[name].numbers < 0.05 * found[name].present]
    return int(share * rows / 2 / max(1, len(broken)))
