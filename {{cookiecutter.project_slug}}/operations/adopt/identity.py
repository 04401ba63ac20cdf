"""Columns that name rows: one is passed through to the predictions, none is learned from."""

import re
import shlex
from collections.abc import Sequence

import polars as pl

from operations.adopt import tables
from operations.adopt.columns import MANY
from operations.adopt.facts import Facts, Look
from operations.adopt.tables import Table
from runtime.failures import InputError

APART = re.compile(r"(^|[\W_])(id|uuid|guid|key|index|rowid)($|[\W_])", re.IGNORECASE)
JOINED = re.compile(r"[a-z](Id|ID|id)$")
# words that end like one
WORDS = {"paid", "unpaid", "prepaid", "bid", "valid", "invalid", "grid", "solid", "liquid", "fluid", "acid", "rapid"}
WORDS |= {"humid", "covid", "hybrid", "void", "avoid", "rigid", "lipid", "steroid", "aid", "raid", "mid", "kid", "lid"}
LAST_WORD = re.compile(r"[a-z]+$")


def named(column: str) -> bool:
    """Whether a column is called like the name of a row."""
    name = column.strip().lower() if column.isupper() else column.strip()
    last = LAST_WORD.search(name)
    ordinary = last is not None and (last[0] in WORDS or last[0].endswith(("paid", "valid")))
    return not ordinary and bool(APART.search(name) or JOINED.search(name))


def find(found: dict[str, Facts], look: Look, label: str) -> str:
    """The column that names a row: called like an id and different in every row; "" where there is none."""
    for name, column in found.items():
        alone = column.present == column.rows and column.distinct > 0.6 * column.rows  # an estimate, told exactly below
        fraction = column.numbers and not column.whole
        if name != label and name.strip() and named(name) and alone and not fraction and unique(look.table, name):
            return name
    return ""


def check(table: Table, column: Facts, missing: Sequence[str]) -> None:
    """Raises InputError for a column that does not name rows, because it repeats."""
    values = table.frame.select(tables.text(column.name, column.kind, missing).alias("id")).drop_nulls()
    distinct = values.select(pl.col("id").n_unique()).collect(engine="streaming").item()
    if distinct < column.present:
        raise InputError(
            f"column {column.name!r} (ID) names no row: {column.present:,} rows hold {distinct:,} values of it. "
            "Leave ID away to number the rows; if it says what rows belong to (a patient, a machine), "
            f"say GROUP={shlex.quote(column.name)}."
        )


def reason(column: Facts, look: Look) -> str:
    """Why a column that could be learned from would only name rows; "" where it would not."""
    whole = column.numbers == column.present and column.whole
    if named(column.name) and column.distinct > MANY and (whole or column.numbers == 0):
        return "names an entity, and a model could only learn it by heart"
    if column.present < column.rows or column.rows < 20 or not whole or column.low is None:
        return ""
    if column.high == column.low + column.rows - 1 and unique(look.table, column.name):
        return f"numbers the rows; to pass it through say ID={shlex.quote(column.name)}"
    return ""


def unique(table: Table, name: str) -> bool:
    """Whether a column has another value in every row, exactly."""
    counts = table.frame.select(pl.len().alias("rows"), pl.col(name).n_unique().alias("distinct"))
    rows, distinct = counts.collect(engine="streaming").row(0)
    return bool(rows == distinct)
