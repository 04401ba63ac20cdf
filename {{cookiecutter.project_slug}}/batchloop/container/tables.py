"""Feature tables as the model's matrix (one row an example), and predictions as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import artifacts, job, matrices, memory, models, raw, values
from batchloop.container.job import InputError, column_hint, listed
from batchloop.container.metrics import FORECAST
from batchloop.container.models import Model
from batchloop.container.protocols import Feature, Matrix, Predicted, Table

Schema = Mapping[str, Any]  # what features.json holds: id, label, features
BATCH = 16_384  # rows: as numbers they fit into a processor's cache
PREDICTION, SCORE, ERROR = "prediction", "score", "error"
TEXTS = (pl.String, pl.Categorical, pl.Enum)
LABEL = "__label"  # what is true, in an evaluation's predictions; no column of a contract begins with __
WANTED = {
    "number": "a number",
    "boolean": "a yes or no",
    "date": "a number (a part of a date)",
    "category": "a category",
    "image": "the pixels of a picture, a byte a value (Parquet can hold them)",
}


def matrix(frame: pl.DataFrame, features: Sequence[Feature]) -> Matrix:
    """The features of a frame (numbers, pictures' bytes, Enum or text columns for categories) in the model's order."""
    kinds = frame.schema
    chosen = frame.select(_at_once(kinds[feature["name"]], feature) for feature in features)
    return matrices.joined(chosen, features)


def schema(folder: Path) -> Schema:
    """The description of a channel's columns. Raises InputError where it is missing or damaged."""
    described: Schema = artifacts.read_json(folder / "features.json")
    return described


def check_memory(described: Schema, *channels: str) -> None:
    """Raises InputError where all rows of these channels together would not fit into memory."""
    files = [file for name in channels for file in job.channel(name).glob("*.parquet")]
    rows = sum(pl.scan_parquet(file, glob=False).select(pl.len()).collect().item() for file in files)
    memory.check(rows, len(described["features"]))


def read(folder: Path, described: Schema, classes: tuple[str, ...]) -> Table:
    """Features and labels of a channel, in the files' order. Raises InputError for missing columns, labels or files."""
    frame, features, label = _scan(folder), described["features"], described["label"]
    kinds = frame.collect_schema()
    if absent := [name for name in [*(feature["name"] for feature in features), label] if name not in kinds]:
        named = f"column {absent[0]!r}, which its features.json names"
        raise InputError(f"{folder.name}/ has no {named}; prepare it again.")
    rows: int = frame.select(pl.len()).collect().item()
    table = Table(matrices.empty(rows, features), np.empty(rows, dtype=np.float64))
    start = 0
    columns = (_at_once(kinds[feature["name"]], feature) for feature in features)
    for batch in frame.select(*columns, label).collect_batches(chunk_size=BATCH, maintain_order=True):
        part = slice(start, start + batch.height)
        table.features[part] = matrices.joined(batch, features)
        known = batch[label].cast(pl.Enum(classes), strict=False).to_physical() if classes else batch[label]
        numbers = known.cast(pl.Float64)
        if numbers.null_count():
            wrong = batch[label].filter(numbers.is_null())[0]
            wanted = f"one of {listed(classes)}" if classes else "a number"
            raise InputError(f"{folder.name}/: label {label!r}: {wrong!r} is not {wanted}; prepare the data again.")
        table.labels[part] = numbers.to_numpy()
        start += batch.height
    return table


def ids(folder: Path, described: Schema) -> pl.Series:
    """The id column of a channel, in the files' order."""
    return _scan(folder).select(described["id"]).collect().to_series()


def groups(folder: Path) -> pl.DataFrame:
    """The group of each row of a channel as text, in the files' order; no column where the split was not by group."""
    return _scan(folder).select(pl.selectors.by_name(raw.GROUP, require_all=False)).collect()


def slices(folder: Path) -> pl.DataFrame:
    """The slices of each row of a channel, a column each, in the files' order."""
    return _scan(folder).select(pl.selectors.starts_with(raw.SLICE)).collect()


def coded(rows: pl.DataFrame) -> NDArray[np.int64] | None:
    """The groups of rows as numbers, a row without one as one of its own; None where rows have none."""
    if raw.GROUP not in rows.columns:
        return None
    known, alone = pl.col(raw.GROUP).rank("dense").cast(pl.Int64), -1 - pl.int_range(pl.len())
    return rows.select(pl.coalesce(known, alone)).to_series().to_numpy()


def _scan(folder: Path) -> pl.LazyFrame:
    if not (files := sorted(folder.glob("*.parquet"))):
        raise InputError(f"{folder.name}/ holds no Parquet file; was the channel's data prepared?")
    return pl.scan_parquet(files, glob=False)


def table(
    identity: pl.Series, predicted: Predicted, metadata: Mapping[str, Any], errors: pl.Series | None = None
) -> pl.DataFrame:
    """Id, prediction, score (`score:<class>` too for several classes; the columns of a forecast) and error, a row each.

    `predicted` is what models.predict gave. A row with an error has no prediction and no score.
    """
    chosen: Any = predicted
    columns = {}
    if metadata["task"] == "binary":
        chosen, columns = predicted >= metadata["threshold"], {SCORE: predicted}
    elif metadata["task"] == "multiclass":
        chosen, columns = predicted.argmax(axis=1), {SCORE: predicted.max(axis=1)}
        columns |= {f"{SCORE}:{name}": predicted[:, position] for position, name in enumerate(metadata["classes"])}
    elif metadata["task"] == "forecasting":
        chosen, columns = predicted[:, 0], dict(zip(FORECAST[1:], predicted.T[1:], strict=True))
    prediction = labels(chosen, metadata).alias(PREDICTION)
    frame = pl.DataFrame([identity, prediction, *(pl.Series(name, column) for name, column in columns.items())])
    reasons = pl.lit(None, dtype=pl.String) if errors is None else errors
    answers = [pl.when(pl.col(ERROR).is_null()).then(pl.col(name)).alias(name) for name in (PREDICTION, *columns)]
    return frame.with_columns(reasons.alias(ERROR)).with_columns(answers)


def labels(numbers: NDArray[Any], metadata: Mapping[str, Any]) -> pl.Series:
    """The labels of a protocols.Table (class positions, or values) as a column beside predictions: names, or values."""
    if not metadata["classes"]:
        return pl.Series(LABEL, numbers)
    return pl.Series(LABEL, pl.Enum(metadata["classes"]).categories.gather(numbers.astype(np.uint32)).cast(pl.String))


def needed(model: Model) -> list[str]:
    """The columns a request must have: the id and the features."""
    return [model.metadata["id"], *(feature["name"] for feature in model.metadata["features"])]


def score(model: Model, frame: pl.DataFrame, missing: Sequence[str]) -> pl.DataFrame:
    """Predictions in the frame's order. Texts in `missing` are missing values. Raises InputError for a missing column.

    A row with an `__error`, without an id, or with a value of a wrong type gets the reason instead of a prediction;
    a category the model does not know counts as "other".
    """
    absent = [name for name in needed(model) if name not in frame.columns]
    if absent:
        which = f"column {absent[0]!r} is" if len(absent) == 1 else f"columns {listed(map(repr, absent), 5)} are"
        present = [name for name in frame.columns if name != raw.ERROR]
        has = listed(map(repr, present), 12) + column_hint(absent, present)
        raise InputError(f"{which} missing; the table has {has}")
    metadata: Any = model.metadata
    identity, described = frame[metadata["id"]], metadata["features"]
    kinds = frame.schema
    known = frame.select(_at_once(kinds[feature["name"]], feature, missing) for feature in described)
    read = [pl.col(name) for name, kind in frame.select(known.columns).schema.items() if kind == pl.String]
    known = known.with_columns(pl.when(column.is_finite()).then(column).name.keep() for column in read)
    reasons = [pl.when(identity.is_null()).then(pl.lit(f"column {identity.name!r}: the id is missing"))]
    for feature in described:
        column, numbers = frame[name := feature["name"]], known[name]
        if feature["kind"] == "image" and column.null_count():
            reasons.append(pl.when(column.is_null()).then(pl.lit(f"column {name!r}: there is no picture")))
        if column.null_count() == numbers.null_count():
            continue
        rows = (column.is_not_null() & numbers.is_null()).arg_true()
        found, shown = _numbers(column.gather(rows), feature, missing)
        known = known.with_columns(numbers.scatter(rows, found))
        if shown is not None:
            cells = pl.Series([None], dtype=pl.String).new_from_index(0, frame.height).scatter(rows, shown)
            where, wanted = pl.lit(f"column {name!r}: "), pl.lit(f" is not {WANTED[feature['kind']]}")
            reasons.append(pl.when(cells.is_not_null()).then(pl.concat_str(where, cells, wanted)))
    text = frame[raw.ERROR].cast(pl.String) if raw.ERROR in frame.columns else pl.lit(None, dtype=pl.String)
    said = pl.when(text.str.strip_chars() != "").then(text)  # by processing; a text without a letter is no reason
    errors = frame.select(pl.coalesce(said, *reasons).alias(ERROR)).to_series()
    return table(identity, models.predict(model, matrices.joined(known, described), threads=1), metadata, errors)


def _at_once(kind: pl.DataType, feature: Feature, missing: Sequence[str] = ()) -> pl.Expr:
    """A column as the model's numbers (Float32); null where a cell needs a closer look, or has no value."""
    column, category, names = pl.col(feature["name"]), feature["kind"] == "category", feature.get("categories", ())
    if feature["kind"] == "image":
        fits = column.bin.size() == matrices.width(feature) if kind == pl.Binary else pl.lit(value=False)
        nothing = pl.repeat(None, pl.len(), dtype=pl.Binary)
        return pl.when(fits).then(column if kind == pl.Binary else nothing).alias(feature["name"])
    if category and kind in TEXTS:
        numbers = column.cast(pl.Enum(names), strict=False).to_physical().cast(pl.Float32)
    elif category or not (kind.is_numeric() or kind in (pl.Boolean, pl.Null, pl.String)):
        return pl.repeat(None, pl.len(), dtype=pl.Float32).alias(feature["name"])
    else:
        numbers = column.cast(pl.Float32, strict=False)
    markers = [text for text in missing if (text in names if category else any(map(str.isdigit, text)))]
    if not markers or kind not in TEXTS or kind == pl.Enum(names):
        return numbers
    return pl.when(~column.cast(pl.String).is_in(markers)).then(numbers).alias(feature["name"])


def _numbers(column: pl.Series, feature: Feature, missing: Sequence[str]) -> tuple[pl.Series, pl.Series | None]:
    """Cells as the model's numbers (Float32, null is missing), and how to show each that is none of them."""
    kind, category = column.dtype, feature["kind"] == "category"
    if feature["kind"] == "image" or ((kind.is_nested() or kind == pl.Binary) if category else kind not in TEXTS):
        shown = pl.Series([f"a value of type {kind}"]).new_from_index(0, len(column))
        nothing = pl.Series([None], dtype=pl.Binary if feature["kind"] == "image" else pl.Float32)
        return nothing.new_from_index(0, len(column)), shown
    if category:  # the first one stands for all that are not known
        text = values.texts(column, ["", *missing])
        codes = text.cast(pl.Enum(feature["categories"]), strict=False).to_physical().cast(pl.Float32)
        return codes.set(text.is_not_null() & codes.is_null(), 0.0), None
    text = column.cast(pl.String).str.strip_chars()
    text = text.set(text.is_in(["", *missing]).fill_null(value=False), None)
    numbers = text.cast(pl.Float32, strict=False)
    if feature["kind"] == "boolean":
        words = text.str.to_lowercase().replace_strict(values.WORDS, default=None, return_dtype=pl.Boolean)
        numbers = numbers.fill_null(words.cast(pl.Float32))
    bad = text.is_not_null() & ~numbers.is_finite().fill_null(value=False)
    if not bad.any():
        return numbers, None
    return numbers.set(bad, None), ("'" + column.cast(pl.String).str.slice(0, 40) + "'").set(~bad, None)
