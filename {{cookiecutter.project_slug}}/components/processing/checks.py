"""What a raw table must hold before it is learned from or scored: counted in one pass, said in one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from runtime import files, raw
from runtime.failures import InputError, listed
from runtime.usecase import UseCase

Schema = dict[str, Any]  # what preprocessor.json holds
FEW = 3  # rows, below which a batch of new categories is only warned of
BY_CHANCE = (0.05, 1e-5)  # a chance below the first is worth a word, below the second it is none


@dataclass(frozen=True)
class Counts:
    """Of one table: all rows, those that break the contract, those without a label or group; values per column."""

    rows: int
    broken: int
    unlabelled: int
    classes: int
    present: dict[str, int]
    ungrouped: int = 0


def count(table: raw.RawTable, usecase: UseCase, labelled: bool) -> Counts:
    """One streaming pass over the table. Raises InputError for a file that turns out unreadable on the way."""
    label = usecase.data.label
    expressions = [pl.len().alias("rows"), pl.col(raw.BROKEN).sum().alias("broken")]
    expressions += [pl.col(column.name).count().alias(f"present:{column.name}") for column in usecase.columns]
    if labelled:
        unlabelled = pl.col(label).is_null() & ~pl.col(raw.BROKEN)
        classes = pl.col(label).n_unique()
        expressions += [
            unlabelled.sum().alias("unlabelled"),
            (classes - pl.col(label).is_null().any()).alias("classes"),
        ]
    if labelled and usecase.split.group:
        expressions.append(pl.col(raw.GROUP).null_count().alias("ungrouped"))
    try:
        row: dict[str, Any] = table.frame.select(expressions).collect(engine="streaming").row(0, named=True)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    present = {column.name: row[f"present:{column.name}"] for column in usecase.columns}
    unlabelled, classes, ungrouped = (row.get(name, 0) for name in ("unlabelled", "classes", "ungrouped"))
    return Counts(row["rows"], row["broken"], unlabelled, classes, present, ungrouped)


def check(table: raw.RawTable, usecase: UseCase, counts: Counts) -> None:
    """Raises InputError for a table without rows, or with more broken rows than [data] bad_rows allows."""
    names = listed((file.name for file in table.files), 3)
    if counts.rows == 0:
        raise InputError(f"{names} holds a header and no rows.")
    if counts.broken > usecase.data.bad_rows * counts.rows:
        raise InputError(
            f"{first_break(table)}; {counts.broken:,} of {counts.rows:,} rows break the contract, "
            f"[data] bad_rows allows {usecase.data.bad_rows:.2%}: mend the data or the contract."
        )


def check_training(table: raw.RawTable, usecase: UseCase, counts: Counts) -> None:
    """What training needs on top. Raises InputError for one class only, no label at all, or a column without values."""
    check(table, usecase, counts)
    label, name = usecase.data.label, table.files[0].name
    if counts.rows == counts.unlabelled + counts.broken:
        raise InputError(f"{name}: column {label!r} (the label) has no value in any of {counts.rows:,} rows.")
    if counts.classes < 2:
        raise InputError(f"{name}: column {label!r} (the label) holds one value only; there is nothing to learn.")
    if usecase.split.group and counts.ungrouped == counts.rows:
        raise InputError(f"{name}: column {usecase.split.group!r} ([split] group) has no value in any row.")
    empty = [column for column, present in counts.present.items() if present == 0]
    if empty:
        raise InputError(
            f"{name}: column {empty[0]!r} has no value in any of {counts.rows:,} rows; "
            "take it out of [columns] or mend the export."
        )


def check_known(
    table: raw.RawTable, usecase: UseCase, learned: Schema, now: Mapping[str, tuple[int, int]]
) -> list[str]:
    """What to warn of: columns with categories of which training knew none, in too few rows to exclude chance.

    Raises InputError where chance is excluded: such a column is written in another way, or it is another column. A
    column with drift = false may move by its nature, as the name of a month does.
    """
    warnings, moving = [], {column.name for column in usecase.columns if not column.drift}
    for feature in learned["features"]:
        then, (present, known) = learned.get("known", {}).get(feature["name"]), now.get(feature["name"], (0, 0))
        bare = _without_zeros(table, feature) if known < present else ""
        if bare and known:
            warnings.append(f"column {feature['source']!r}: {bare}")
        if then is None or known or not present:
            continue
        unknown = (then[0] - then[1] + 1) / (then[0] + 2)  # of a value, as training saw it (Laplace's rule)
        if unknown**present > BY_CHANCE[0]:
            continue
        cells = pl.col(feature["source"]).filter(~pl.col(raw.BROKEN)).drop_nulls().unique(maintain_order=True).head(3)
        seen = ", ".join(repr(text) for text in table.frame.select(cells).collect().to_series())
        wanted = ", ".join(repr(text) for text in feature["categories"][1:4])
        said = f"column {feature['source']!r}: training knew no value of its {present:,} here: {seen}; it knew {wanted}"
        said += f"; {bare}" if bare else ""
        if present >= FEW and unknown**present < BY_CHANCE[1] and feature["source"] not in moving:
            raise InputError(
                f"{said} …; mend the data, train again, or write drift = false beside it if it moves by its nature."
            )
        warnings.append(said)
    return warnings


def shared_ids(table: raw.RawTable, usecase: UseCase) -> list[str]:
    """What to warn of where rows have the id of another one: how many, and the first such ids."""
    rows, first = raw.shared(table.frame.select(pl.col(usecase.data.id).alias("id"))) if usecase.data.id else (0, [])
    shown = ", ".join(map(repr, first))
    said = f"{rows:,} rows share their {usecase.data.id!r} with another row, such as {shown}: nothing tells them apart"
    return [said] if rows else []


def _without_zeros(table: raw.RawTable, feature: dict[str, Any]) -> str:
    """Codes that lost their leading zeros where they were read as numbers, in words; "" where there are none."""
    codes = {str(int(code)): code for code in feature.get("categories", ()) if code.isdecimal()}
    codes = {bare: code for bare, code in codes.items() if bare != code and bare not in feature["categories"]}
    if not codes:
        return ""
    values = pl.col(feature["source"]).filter(~pl.col(raw.BROKEN))
    cells = table.frame.select(values.filter(values.is_in(list(codes)))).collect(engine="streaming").to_series()
    if cells.is_empty():
        return ""
    lost = f"leading zeros are missing in {len(cells):,} rows ({cells[0]!r} was {codes[cells[0]]!r} in training)"
    return f"{lost}: write the column as text, not as numbers"


def first_break(table: raw.RawTable) -> str:
    """The first row that breaks the contract: file, row and what is wrong."""
    file, row, error = table.reasons.head(1).collect(engine="streaming").row(0)
    return f"{file}, row {row}: {error}"
