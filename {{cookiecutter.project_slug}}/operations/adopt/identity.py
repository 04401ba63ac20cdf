"""Columns that name rows: one is passed through to the predictions, none is learned from."""

import re
import shlex
from collections.abc import Sequence

from operations.adopt import tables
from operations.adopt.facts import Facts, Look
from operations.adopt.tables import Table
from runtime import raw
from runtime.failures import InputError

APART = re.compile(r"(^|[\W_])(id|uuid|guid|key|index|rowid)($|[\W_])", re.IGNORECASE)
JOINED = re.compile(r"[a-z](Id|ID|id)$")
# words that end like one
WORDS = {"paid", "unpaid", "prepaid", "bid", "valid", "invalid", "grid", "solid", "liquid", "fluid", "acid", "rapid"}
WORDS |= {"humid", "covid", "hybrid", "void", "avoid", "rigid", "lipid", "steroid", "aid", "raid", "mid", "kid", "lid"}
THINGS = "patient|subject|participant|person|customer|client|member|user|visitor|employee|student|player|driver"
THINGS += "|unit|volunteer|athlete|pupil|proband"
THINGS += "|machine|device|sensor|engine|vehicle|animal|household|family|account|policy|contract|loan|asset|turbine"
THINGS += (
    "|kunde|kunden|patienten|maschine|maschinen|anlage|anlagen|gerät|geraet|fahrzeug|konto|appareil|capteur|compte"
)
NUMBER = r"[\W_]?(no|nr|num|number|nummer|numero|#)"
ENTITY = re.compile(rf"(^|[\W_])({THINGS})s?(?P<ending>{NUMBER}|[\W_]?(name|code))?$", re.IGNORECASE)
DIGIT = re.compile(r"\d")
PLURAL = re.compile(r"(s|kunden|patienten|maschinen|anlagen)$", re.IGNORECASE)  # numbers there count the things
NUMBERED = re.compile(rf"{NUMBER}$", re.IGNORECASE)
LAST_WORD = re.compile(r"[a-z]+$")
FEW, OFTEN = 20, 20  # values, and rows of each, that a model can learn something of


def named(column: str) -> bool:
    """Whether a column is called like the name of a row."""
    name = column.strip().lower() if column.isupper() else column.strip()
    last = LAST_WORD.search(name)
    ordinary = last is not None and (last[0] in WORDS or last[0].endswith(("paid", "valid")))
    return not ordinary and bool(APART.search(name) or JOINED.search(name))


def called(column: Facts) -> bool:
    """Whether a column names rows or entities: by its name, or by codes under the name of an entity."""
    name = column.name.strip()
    entity, numbered = ENTITY.search(name), NUMBERED.search(name)
    if (column.numbers and not column.whole) or not column.present:
        return False
    if named(name) or (entity and entity["ending"]):
        return True
    return bool(entity or numbered) and column.numbers == 0 and all(DIGIT.search(text) for text in column.texts)


def find(found: dict[str, Facts], look: Look, label: str) -> str:
    """The column that names a row: called like an id and different in every row; "" where there is none."""
    for name, column in found.items():
        alone = column.present == column.rows and column.distinct > 0.6 * column.rows  # an estimate, told exactly below
        if (
            name != label
            and name.strip()
            and called(column)
            and alone
            and not _shared(look.table, column, look.markers)[0]
        ):
            return name
    return ""


def check(table: Table, column: Facts, missing: Sequence[str]) -> None:
    """Raises InputError for a column that does not name rows, because it repeats."""
    if shared := sharing(table, column, missing):
        raise InputError(
            f"column {column.name!r} (ID) names no row: {shared}. "
            "Leave ID away to number the rows; if it says what rows belong to (a patient, a machine), "
            f"say GROUP={shlex.quote(column.name)}."
        )


def sharing(table: Table, column: Facts, missing: Sequence[str]) -> str:
    """How many rows share a column's value with another one, and the first such values; "" where none does."""
    rows, first = _shared(table, column, missing)
    return f"{rows:,} rows share it with another one (such as {', '.join(map(repr, first))})" if rows else ""


def _shared(table: Table, column: Facts, missing: Sequence[str]) -> tuple[int, list[str]]:
    return raw.shared(table.frame.select(tables.text(column.name, column.kind, missing).alias("id")))


def reason(column: Facts, look: Look) -> str:
    """Why a column that could be learned from would only name rows; "" where it would not."""
    whole = column.numbers == column.present and column.whole
    if not tables.readable(column.kind):
        return ""
    if called(column) and (column.distinct > FEW or column.present < OFTEN * column.distinct):
        why, option = "names an entity, and a model could only learn it by heart", f"={shlex.quote(column.name)}"
        if column.distinct < 0.8 * column.present:
            return f"{why}; if its rows belong together say GROUP{option}"
        shared = sharing(look.table, column, look.markers)
        return f"{why}; {shared}: mend that to name rows by it (ID{option})" if shared else why
    if column.present < column.rows or column.rows < 20 or not whole or column.low is None:
        return ""
    if column.high == column.low + column.rows - 1 and not _shared(look.table, column, look.markers)[0]:
        return f"numbers the rows; to pass it through say ID={shlex.quote(column.name)}"
    return ""
