"""Features of a frame as the model's matrix: float32, one row an example, one column a feature."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import artifacts, raw
from batchloop.container.job import InputError, listed
from batchloop.container.protocols import Feature, Matrix, Table


def matrix(frame: pl.DataFrame, features: Sequence[Feature]) -> Matrix:
    """The features of a frame (numeric columns, and Enum or text columns for categories) in the model's order."""
    return fill(np.empty((frame.height, len(features)), dtype=np.float32), frame, features)


def fill(target: Matrix, frame: pl.DataFrame, features: Sequence[Feature]) -> Matrix:
    """Write the frame's features into `target`, rows × features, one column at a time; the answer is `target`."""
    for position, feature in enumerate(features):
        column = frame[feature["name"]]
        if feature["kind"] == "category":
            column = column.cast(pl.Enum(feature["categories"]), strict=False).to_physical()
        target[:, position] = column.cast(pl.Float32).to_numpy()
    return target


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


PREDICTION, SCORE, ERROR = "prediction", "score", "error"
LABEL = "__label"  # what is true, in an evaluation's predictions; no column of a contract begins with __


def table(
    identity: pl.Series, predicted: NDArray[np.float64], metadata: Mapping[str, Any], error: pl.Series | None = None
) -> pl.DataFrame:
    """Id, prediction, score (a probability; `score:<class>` too for several classes) and error, a row an example.

    `predicted` is what models.predict gave. A row with an error has no prediction and no score.
    """
    reasons = (pl.Series([None], dtype=pl.String) if error is None else error).alias(ERROR)
    if error is None:
        reasons = reasons.extend_constant(None, len(identity))[: len(identity)]
    columns = _columns(predicted, metadata)
    frame = pl.DataFrame([identity, *columns, reasons])
    names = [column.name for column in columns]
    return frame.with_columns(pl.when(pl.col(ERROR).is_null()).then(pl.col(name)).alias(name) for name in names)


def labels(values: NDArray[np.float64], metadata: Mapping[str, Any]) -> pl.Series:
    """The labels of a protocols.Table (class positions, or values) as a column beside predictions: names, or values."""
    if metadata["task"] == "regression":
        return pl.Series(LABEL, values)
    return _names(values.astype(np.uint32), pl.Enum(metadata["classes"])).alias(LABEL)


def _columns(predicted: NDArray[np.float64], metadata: Mapping[str, Any]) -> list[pl.Series]:
    if metadata["task"] == "regression":
        return [pl.Series(PREDICTION, predicted)]
    classes = pl.Enum(metadata["classes"])
    if metadata["task"] == "binary":
        chosen = (predicted >= metadata["threshold"]).astype(np.uint32)
        return [_names(chosen, classes), pl.Series(SCORE, predicted)]
    each = [pl.Series(f"{SCORE}:{name}", predicted[:, place]) for place, name in enumerate(metadata["classes"])]
    return [
        _names(predicted.argmax(axis=1).astype(np.uint32), classes),
        pl.Series(SCORE, predicted.max(axis=1)),
        *each,
    ]


def _names(chosen: NDArray[np.uint32], classes: pl.Enum) -> pl.Series:
    """The names of classes, given by position."""
    return pl.Series(PREDICTION, classes.categories.gather(chosen).cast(pl.String))
