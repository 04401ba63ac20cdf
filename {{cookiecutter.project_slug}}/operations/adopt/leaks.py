"""Columns that give the label away: what is only known once the answer is."""

from collections.abc import Sequence

import polars as pl

from operations.adopt import tables
from operations.adopt.facts import PROBED, Facts
from operations.adopt.tables import Table

ROWS_A_VALUE = 50  # so many rows for each value make it no accident that each goes with one class
ADVICE = "if you know it before the label, add it by hand"


def find(table: Table, columns: Sequence[Facts], label: Facts, task: str, missing: Sequence[str]) -> dict[str, str]:
    """The columns that say the same as the label, and in which way; one pass over the table, one more a suspect."""
    named = {column.name: column for column in columns if tables.readable(column.kind) and column.present}
    frame = _labelled(table, list(named.values()), label, missing)
    return _correlated(frame, named) if task == "regression" else _determined(frame, named, label)


def _labelled(table: Table, columns: Sequence[Facts], label: Facts, missing: Sequence[str]) -> pl.LazyFrame:
    """The rows that have a label, columns under the names c0, c1, … and label."""
    values = [tables.text(column.name, column.kind, missing).alias(f"c{n}") for n, column in enumerate(columns)]
    answer = tables.text(label.name, label.kind, missing).alias("label")
    return table.frame.select(answer, *values).filter(pl.col("label").is_not_null())


def _correlated(frame: pl.LazyFrame, named: dict[str, Facts]) -> dict[str, str]:
    """Numbers that are the label on another scale."""
    numbers = {f"c{n}": name for n, (name, facts) in enumerate(named.items()) if facts.numbers == facts.present}
    if not numbers:
        return {}
    both = frame.select(pl.col("label", *numbers).cast(pl.Float64, strict=False))
    row = both.select(pl.corr(place, "label").alias(place) for place in numbers).collect(engine="streaming").row(0)
    pairs = zip(numbers.values(), row, strict=True)
    reason = f"says the same as the label; {ADVICE}"
    return {name: reason for name, value in pairs if value is not None and abs(value) > 1 - 1e-9}


def _determined(frame: pl.LazyFrame, named: dict[str, Facts], label: Facts) -> dict[str, str]:
    """Values, or gaps, that each go with one class only."""
    places = {f"c{n}": facts for n, facts in enumerate(named.values())}
    few = {place: facts for place, facts in places.items() if facts.distinct <= PROBED}
    gaps = {place: facts for place, facts in places.items() if facts.present < facts.rows}
    pairs = [pl.concat_str(pl.col(place).fill_null(""), "label", separator="\n").approx_n_unique() for place in few]
    empty = [pl.concat_str(pl.col(place).is_null(), "label", separator="\n").approx_n_unique() for place in gaps]
    if not pairs + empty:
        return {}
    named_pairs = [pair.alias(f"values {place}") for pair, place in zip(pairs, few, strict=True)]
    named_gaps = [gap.alias(f"gaps {place}") for gap, place in zip(empty, gaps, strict=True)]
    row = frame.select(*named_pairs, *named_gaps).collect(engine="streaming").row(0, named=True)
    enough = label.rows >= 2 * ROWS_A_VALUE
    alone = [facts.name for place, facts in gaps.items() if enough and row[f"gaps {place}"] == 2]
    found = dict.fromkeys(alone, f"has a value for one class only; {ADVICE}")
    for place, facts in few.items():
        suspicious = facts.distinct > 1 and row[f"values {place}"] <= 1.1 * facts.distinct + 1
        if suspicious and (reason := _same(frame, place, label)):
            found[facts.name] = reason
    return found


def _same(frame: pl.LazyFrame, place: str, label: Facts) -> str:
    """Why a column tells the label exactly, or ""."""
    pairs = frame.select(place, "label").drop_nulls().group_by(place, "label").len().collect(engine="streaming")
    values, classes = pairs[place].n_unique(), pairs["label"].n_unique()
    if pairs.height != values or classes < 2:
        return ""
    if values == classes:
        return f"says the same as the label {label.name!r}; {ADVICE}"
    return f"each of its values goes with one class only; {ADVICE}" if label.rows >= ROWS_A_VALUE * values else ""
