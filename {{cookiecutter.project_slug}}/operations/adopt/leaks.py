"""Columns that give the label away: what is only known once the answer is."""

from collections.abc import Sequence

import polars as pl

from operations.adopt import tables
from operations.adopt.facts import COLUMNS_AT_ONCE, PROBED, Facts
from operations.adopt.tables import Table

ROWS_A_VALUE = 50  # so many rows for each value make it no accident that each goes with one class
LIKELY = 1.6  # the estimate of a count may be a fourth off
ADVICE = "if you know it before the label, add it by hand"


def find(table: Table, columns: Sequence[Facts], label: Facts, task: str, missing: Sequence[str]) -> dict[str, str]:
    """The columns that say the same as the label, and in which way; one pass over the table, one more a suspect."""
    usable = [column for column in columns if tables.readable(column.kind) and column.present]
    found: dict[str, str] = {}
    for start in range(0, len(usable), COLUMNS_AT_ONCE):
        places = {f"c{place}": column for place, column in enumerate(usable[start : start + COLUMNS_AT_ONCE])}
        if task == "regression":
            found |= _correlated(table, places, label, missing)
            continue
        texts = [tables.plain(column.name, column.kind, missing).alias(place) for place, column in places.items()]
        frame = table.frame.select(tables.text(label.name, label.kind, missing).alias("label"), *texts)
        found |= _alone(frame, places, label) | _determined(frame, places, label)
    return found


def _correlated(table: Table, places: dict[str, Facts], label: Facts, missing: Sequence[str]) -> dict[str, str]:
    """Numbers that are the label on another scale."""
    numbers = {place: facts for place, facts in places.items() if facts.numbers == facts.present}
    if not numbers:
        return {}
    plain = {
        place: (tables.plain(each.name, each.kind, missing), each)
        for place, each in [("label", label), *numbers.items()]
    }
    both = table.frame.select(
        table.number(each.name, text, each.kind).alias(place) for place, (text, each) in plain.items()
    )
    row = both.select(pl.corr(place, "label").alias(place) for place in numbers).collect(engine="streaming").row(0)
    pairs = zip(numbers.values(), row, strict=True)
    reason = f"says the same as the label; {ADVICE}"
    return {facts.name: reason for facts, value in pairs if value is not None and abs(value) > 1 - 1e-9}


def _alone(frame: pl.LazyFrame, places: dict[str, Facts], label: Facts) -> dict[str, str]:
    """Columns with a value in all rows of one class and in no row of the others."""
    gaps = {place: facts for place, facts in places.items() if facts.present < facts.rows}
    if not gaps or label.rows < 2 * ROWS_A_VALUE:
        return {}
    sides = [pl.col("label").filter(pl.col(place).is_null() == empty) for place in gaps for empty in (False, True)]
    ends = [end.alias(f"{number}") for number, end in enumerate(e for side in sides for e in (side.min(), side.max()))]
    row = frame.select(ends).collect(engine="streaming").row(0)
    quarters = {place: row[4 * number : 4 * number + 4] for number, place in enumerate(gaps)}
    told = [place for place, (low, high, first, last) in quarters.items() if low == high != first == last]
    return {gaps[place].name: f"has a value for one class only; {ADVICE}" for place in told}


def _determined(frame: pl.LazyFrame, places: dict[str, Facts], label: Facts) -> dict[str, str]:
    """Values that each go with one class only: an estimate says where to look, and the look is exact."""
    few = {place: facts for place, facts in places.items() if 1 < facts.distinct <= PROBED}
    pairs = [pl.concat_str(pl.col(place).fill_null(""), "label", separator="\n").approx_n_unique() for place in few]
    if not pairs:
        return {}
    named = [pair.alias(place) for pair, place in zip(pairs, few, strict=True)]
    row = frame.select(named).collect(engine="streaming").row(0, named=True)
    likely = {place: facts for place, facts in few.items() if row[place] <= LIKELY * facts.distinct + len(label.texts)}
    reasons = {facts.name: _same(frame, place, label) for place, facts in likely.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _same(frame: pl.LazyFrame, place: str, label: Facts) -> str:
    """Why a column tells the label exactly, or ""."""
    pairs = frame.select(place, "label").drop_nulls().group_by(place, "label").len().collect(engine="streaming")
    values, classes = pairs[place].n_unique(), pairs["label"].n_unique()
    if pairs.height != values or classes < 2:
        return ""
    if values == classes:
        return f"says the same as the label {label.name!r}; {ADVICE}"
    return f"each of its values goes with one class only; {ADVICE}" if label.rows >= ROWS_A_VALUE * values else ""
