"""Processed tables: from a channel's Parquet files into one matrix, batch by batch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runtime import artifacts, raw
from runtime.failures import InputError, listed
from runtime.protocols import Table
from runtime.tables import fill

Schema = Mapping[str, Any]  # what features.json holds: id, label, features
BATCH = 131_072  # rows


def schema(folder: Path) -> Schema:
    """The description of a channel's columns. Raises InputError where it is missing or damaged."""
    described: Schema = artifacts.read_json(folder / "features.json")
    return described


def read(folder: Path, described: Schema, classes: tuple[str, ...]) -> Table:
    """Features and labels of a channel, in the files' order; beside them at most a few batches are in memory.

    `classes` is empty for regression. Raises InputError for missing columns, labels or files.
    """
    frame, names = _scan(folder), [feature["name"] for feature in described["features"]]
    label = described["label"]
    absent = [name for name in [*names, label] if name not in frame.collect_schema()]
    if absent:
        raise InputError(
            f"{folder.name}/ has no column {absent[0]!r}, which its features.json names; prepare it again."
        )
    rows: int = frame.select(pl.len()).collect().item()
    table = Table(np.empty((rows, len(names)), dtype=np.float32), np.empty(rows, dtype=np.float64))
    start = 0
    for batch in frame.select(*names, label).collect_batches(chunk_size=BATCH, maintain_order=True):
        part = slice(start, start + batch.height)
        fill(table.features[part], batch, described["features"])
        table.labels[part] = _labels(batch[label], classes, folder)
        start += batch.height
    return table


def ids(folder: Path, described: Schema) -> pl.Series:
    """The id column of a channel, in the files' order."""
    return _scan(folder).select(described["id"]).collect().to_series()


def groups(folder: Path) -> pl.Series | None:
    """The group of each row of a channel as text, in the files' order; None where the split was not by group."""
    frame = _scan(folder)
    return frame.select(raw.GROUP).collect().to_series() if raw.GROUP in frame.collect_schema() else None


def coded(groups: pl.Series | None) -> NDArray[np.int64] | None:
    """Groups as numbers; a row without a group is one of its own."""
    if groups is None:
        return None
    known, alone = pl.col(raw.GROUP).rank("dense").cast(pl.Int64), -1 - pl.int_range(pl.len())
    return groups.to_frame().select(pl.coalesce(known, alone)).to_series().to_numpy()


def _scan(folder: Path) -> pl.LazyFrame:
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise InputError(f"{folder.name}/ holds no Parquet file; was the channel's data prepared?")
    return pl.scan_parquet(files)


def _labels(column: pl.Series, classes: tuple[str, ...], folder: Path) -> NDArray[np.float64]:
    known = column.cast(pl.Enum(classes), strict=False).to_physical() if classes else column
    values = known.cast(pl.Float64)
    if values.null_count():
        found = column.filter(values.is_null())[0]
        wanted = f"one of {listed(classes)}" if classes else "a number"
        raise InputError(f"{folder.name}/: label {column.name!r}: {found!r} is not {wanted}; prepare the data again.")
    return values.to_numpy()
