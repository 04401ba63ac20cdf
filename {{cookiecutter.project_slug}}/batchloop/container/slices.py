"""Metrics of parts of the rows: [slices] names columns, and each of their values is a slice, or each part of a number.

A column need not be one that the model sees: those beside [columns] are read as categories where there are labels.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from batchloop.container.raw import SLICE
from batchloop.container.usecase import UseCase

EPOCH = datetime(1970, 1, 1)
MISSING, OTHER = "missing", "other"
Learned = Mapping[str, list[Any]]  # column → the values, or the borders between a number's parts


def learned(training: pl.LazyFrame, case: UseCase) -> dict[str, list[Any]]:
    """From the training part: each column's most frequent values, or the quantiles that part a number or date."""
    found: dict[str, list[Any]] = {}
    kinds = {column.name: column.type for column in case.columns}
    for name in case.slices.columns:
        column, count = pl.col(source(case, name)), case.slices.bins
        if kinds.get(name) in ("number", "date"):
            number = column.cast(pl.Float64) if kinds[name] == "number" else column.dt.epoch("us")
            shares = [number.quantile(part / count).alias(str(part)) for part in range(1, count)]
            borders = training.select(shares).collect(engine="streaming").row(0)
            found[name] = sorted({border for border in borders if border is not None})
            continue
        counts = training.select(column.cast(pl.String).alias("value")).drop_nulls().group_by("value").len()
        rows = counts.sort(["len", "value"], descending=[True, False]).head(case.slices.values)
        found[name] = rows.collect(engine="streaming")["value"].to_list()
    return found


def source(case: UseCase, name: str) -> str:
    """What a sliced column is called in a raw table."""
    return name if name in {column.name for column in case.columns} else SLICE + name


def assigned(found: Learned, case: UseCase) -> list[pl.Expr]:
    """Which slice of each column a row is in, as text."""
    kinds = {column.name: column.type for column in case.columns}
    expressions = []
    for name, parts in found.items():
        column = pl.col(source(case, name))
        if kinds.get(name) in ("number", "date"):
            number = column if kinds[name] == "number" else column.dt.epoch("us")
            labels = _labels(parts, kinds[name])
            place = sum((number > border).cast(pl.UInt32) for border in parts) if parts else pl.lit(0, pl.UInt32)
            text = pl.lit(pl.Series(labels)).gather(pl.when(number.is_not_null()).then(place))
            made = pl.when(number.is_null()).then(pl.lit(MISSING)).otherwise(text)
        else:
            text = column.cast(pl.String)
            made = pl.when(text.is_null()).then(pl.lit(MISSING)).when(text.is_in(parts)).then(text)
            made = made.otherwise(pl.lit(OTHER))
        expressions.append(made.alias(SLICE + name))
    return expressions


def _labels(borders: Sequence[float], kind: str) -> list[str]:
    days = [str(EPOCH + timedelta(microseconds=border))[:10] for border in borders] if kind == "date" else []
    shown = days or [f"{border:,.4g}" for border in borders]
    if not shown:
        return ["all"]
    middle = [f"{low} to {high}" for low, high in pairwise(shown)]
    return [f"≤ {shown[0]}", *middle, f"> {shown[-1]}"]
