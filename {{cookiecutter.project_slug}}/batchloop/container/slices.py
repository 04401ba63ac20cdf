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
    found, count = dict[str, list[Any]](), case.slices.bins
    for name in case.slices.columns:
        column, kind = _column(case, name)
        if kind in ("number", "date"):
            shares = [column.quantile(part / count).alias(str(part)) for part in range(1, count)]
            borders = training.select(shares).collect(engine="streaming").row(0)
            found[name] = sorted({border for border in borders if border is not None})
            continue
        counts = training.select(column.cast(pl.String).alias("value")).drop_nulls().group_by("value").len()
        rows = counts.sort(["len", "value"], descending=[True, False]).head(case.slices.values)
        found[name] = rows.collect(engine="streaming")["value"].to_list()
    return found


def _column(case: UseCase, name: str) -> tuple[pl.Expr, str]:
    """A sliced column of a raw table, a date as microseconds, and its type, "" of one that is none of [columns]."""
    kind = {column.name: column.type for column in case.columns}.get(name, "")
    column = pl.col(name if kind else SLICE + name)
    return column.dt.epoch("us") if kind == "date" else column, kind


def assigned(found: Learned, case: UseCase) -> list[pl.Expr]:
    """Which slice of each column a row is in, as text."""
    expressions = []
    for name, parts in found.items():
        column, kind = _column(case, name)
        if kind in ("number", "date"):
            place = sum((column > border).cast(pl.UInt32) for border in parts) if parts else pl.lit(0, pl.UInt32)
            text = pl.lit(pl.Series(_labels(parts, kind))).gather(pl.when(column.is_not_null()).then(place))
        else:
            text = column.cast(pl.String)
            text = pl.when(text.is_in(parts)).then(text).otherwise(pl.lit(OTHER))
        expressions.append(pl.when(column.is_null()).then(pl.lit(MISSING)).otherwise(text).alias(SLICE + name))
    return expressions


def names(part_of: str, parts: Sequence[Any], case: UseCase) -> list[str]:
    """The slices of a column in their order: parts of a number from low to high, categories by their names."""
    _, kind = _column(case, part_of)
    known = _labels(parts, kind) if kind in ("number", "date") else sorted(parts)
    return [*dict.fromkeys([*known, MISSING, OTHER])]


def _labels(borders: Sequence[float], kind: str) -> list[str]:
    days = [str(EPOCH + timedelta(microseconds=border))[:10] for border in borders] if kind == "date" else []
    shown = days or [f"{border:,.4g}" for border in borders]
    if not shown:
        return ["all"]
    middle = [f"{low} to {high}" for low, high in pairwise(shown)]
    return [f"≤ {shown[0]}", *middle, f"> {shown[-1]}"]
