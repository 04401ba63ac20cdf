"""From a request's table to predictions: rows that can't be scored say why, all others are."""

from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl

from batchloop.container import models, raw, tables, values
from batchloop.container.job import listed, unlike
from batchloop.container.models import Model
from batchloop.container.protocols import Feature

WANTED = {"number": "a number", "boolean": "a yes or no", "date": "a number (a part of a date)"}


class ColumnError(Exception):
    """A table without a column the model needs."""


def columns(model: Model) -> list[str]:
    """The columns a request must have: the id and the features."""
    return [model.metadata["id"], *(feature["name"] for feature in model.metadata["features"])]


def score(model: Model, frame: pl.DataFrame, missing: Collection[str]) -> pl.DataFrame:
    """Predictions in the frame's order. Texts in `missing` are missing values. Raises ColumnError.

    A row with an `__error`, without an id, or with a value of a wrong type gets the reason instead of a prediction;
    a category the model does not know counts as "other".
    """
    absent = [name for name in columns(model) if name not in frame.columns]
    if absent:
        which = f"column {absent[0]!r} is" if len(absent) == 1 else f"columns {listed(map(repr, absent), 5)} are"
        present = [name for name in frame.columns if name != raw.ERROR]
        raise ColumnError(f"{which} missing; the table has {listed(map(repr, present), 12)}{unlike(absent, present)}")
    metadata: Any = model.metadata
    features = np.empty((frame.height, len(metadata["features"])), dtype=np.float32)
    reasons = [_known_error(frame)] if raw.ERROR in frame.columns else []
    identity = frame[metadata["id"]]
    if identity.null_count():
        reasons.append(_where(identity.is_null(), f"column {identity.name!r}: the id is missing"))
    for position, feature in enumerate(metadata["features"]):
        values, reason = values_of(frame[feature["name"]], feature, missing)
        features[:, position] = values.to_numpy()
        reasons += [] if reason is None else [reason]
    error = pl.select(pl.coalesce(reasons)).to_series() if reasons else None
    return tables.table(identity, models.predict(model, features, threads=1), metadata, error)


def values_of(column: pl.Series, feature: Feature, missing: Collection[str]) -> tuple[pl.Series, pl.Series | None]:
    """A column as the model's numbers (Float32, null is missing), and a reason for each value that is none of them."""
    if feature["kind"] == "category":
        return _category(column, feature["categories"], missing)
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Float32), None
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return _wrong_type(column, WANTED[feature["kind"]])
    text = _present(column.cast(pl.String), missing)
    values = text.cast(pl.Float32, strict=False)
    if feature["kind"] == "boolean":
        values = values.fill_null(_boolean(text))
    bad = text.is_not_null() & ~values.is_finite().fill_null(False)
    if not bad.any():
        return values, None
    return values.set(bad, None), _bad_values(column, bad, WANTED[feature["kind"]])


def _category(column: pl.Series, names: list[str], missing: Collection[str]) -> tuple[pl.Series, pl.Series | None]:
    """Codes; the first category stands for all that are not known."""
    kind = pl.Enum(names)
    if column.dtype != kind:
        if column.dtype.is_nested() or column.dtype == pl.Binary:
            return _wrong_type(column, "a category")
        column = values.texts(column, ["", *missing])
        known = column.cast(kind, strict=False)
        column = known.set(column.is_not_null() & known.is_null(), names[0])
    return column.to_physical().cast(pl.Float32), None


def _present(text: pl.Series, missing: Collection[str]) -> pl.Series:
    text = text.str.strip_chars()
    return text.set(text.is_in(["", *missing]).fill_null(False), None)


def _boolean(text: pl.Series) -> pl.Series:
    lower = text.str.to_lowercase()
    return pl.select(
        pl.when(lower.is_in(list(raw.TRUE))).then(1.0).when(lower.is_in(list(raw.FALSE))).then(0.0).cast(pl.Float32)
    ).to_series()


def _bad_values(column: pl.Series, bad: pl.Series, wanted: str) -> pl.Series:
    shown = column.cast(pl.String).str.slice(0, 40)
    text = pl.concat_str([pl.lit(f"column {column.name!r}: '"), shown, pl.lit(f"' is not {wanted}")])
    return pl.select(pl.when(bad).then(text)).to_series()


def _wrong_type(column: pl.Series, wanted: str) -> tuple[pl.Series, pl.Series]:
    reason = f"column {column.name!r}: a value of type {column.dtype} is not {wanted}"
    empty = pl.Series([None], dtype=pl.Float32).extend_constant(None, len(column))[: len(column)]
    return empty, _where(column.is_not_null(), reason)


def _where(rows: pl.Series, reason: str) -> pl.Series:
    return pl.select(pl.when(rows).then(pl.lit(reason))).to_series()


def _known_error(frame: pl.DataFrame) -> pl.Series:
    """The reasons that processing gave; a text without a letter in it is none."""
    text = frame[raw.ERROR].cast(pl.String)
    return text.set((text.str.strip_chars() == "").fill_null(False), None)
