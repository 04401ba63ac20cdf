"""The table of predictions: the same columns wherever predictions are written."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

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
