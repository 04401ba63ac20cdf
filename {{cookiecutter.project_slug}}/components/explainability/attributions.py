"""★ Exact attributions of a tree model: how much each feature moved one row's raw score away from the base value.

The method is path-dependent TreeSHAP (Lundberg et al., "From local explanations to global understanding with
explainable AI for trees", 2020), as LightGBM computes it. Attributions and base value add up to the raw score (log-odds
for classes, the label's unit for regression); that is checked for every row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from algorithm import model
from runtime.failures import InputError

Values = NDArray[np.float64]
TOLERANCE = 1e-9  # of the sum, relative to the raw score where that is larger than 1
METHOD = "path-dependent TreeSHAP (LightGBM pred_contrib)"


@dataclass(frozen=True)
class Attributions:
    """Of some rows: `values` rows × outputs × features, `base` and `raw` rows × outputs; one output a class if several.

    `error` is the largest deviation from additivity, relative as TOLERANCE is.
    """

    values: Values
    base: Values
    raw: Values
    error: float


def attribute(fitted: model.Model, matrix: model.Matrix) -> Attributions:
    """Exact attributions of every row. Raises InputError where they do not add up."""
    outputs = max(1, fitted.booster.num_model_per_iteration())
    flat = np.asarray(fitted.booster.predict(matrix, pred_contrib=True), dtype=np.float64)
    blocks = flat.reshape(len(matrix), outputs, -1)
    raw = model.raw_score(fitted, matrix).reshape(len(matrix), outputs)
    deviation = np.abs(blocks.sum(axis=2) - raw) / np.maximum(1.0, np.abs(raw))
    error = float(deviation.max()) if len(matrix) else 0.0
    if error > TOLERANCE:
        row = int(deviation.max(axis=1).argmax())
        raise InputError(
            f"the attributions of row {row + 1} miss its raw score by {error:.2g} (tolerance {TOLERANCE:g}); "
            "the model can't be explained exactly: check model.txt."
        )
    return Attributions(blocks[:, :, :-1], blocks[:, :, -1], raw, error)


def importance(values: Values) -> Values:
    """Mean absolute attribution of each feature, summed over outputs; `values` rows × outputs × features."""
    result: Values = np.abs(values).sum(axis=1).mean(axis=0)
    return result


def by_source(features: Sequence[model.Feature], scores: Values) -> dict[str, float]:
    """Importance a raw column, the most important first: the parts of a date add up."""
    total: dict[str, float] = {}
    for feature, score in zip(features, scores, strict=True):
        total[feature["source"]] = total.get(feature["source"], 0.0) + float(score)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def towards_prediction(found: Attributions) -> Values:
    """Rows × features: the attributions of the output that decided; with several classes that of the predicted one."""
    chosen = found.raw.argmax(axis=1)
    result: Values = found.values[np.arange(len(chosen)), chosen]
    return result


def top(values: Values, count: int) -> NDArray[np.intp]:
    """Rows × count: the positions of the features that moved a row most, ties in the features' order."""
    return np.argsort(-np.abs(values), axis=1, kind="stable")[:, :count]


def in_words(column: pl.Series, feature: model.Feature) -> pl.Series:
    """A feature's values as people read them."""
    text = column.cast(pl.String)
    if feature["kind"] == "boolean":
        text = pl.select(pl.when(column == 1).then(pl.lit("yes")).when(column == 0).then(pl.lit("no"))).to_series()
    elif feature["name"].endswith("__days"):
        text = pl.from_epoch(column.cast(pl.Int64), time_unit="d").cast(pl.String)
    elif feature["kind"] in ("number", "date"):
        text = pl.Series([None if value is None else f"{value:,.6g}" for value in column], dtype=pl.String)
    return text.fill_null("missing").alias(feature["name"])


def direction(column: Any, values: Values) -> float | None:
    """The correlation of a number's value and its attribution, from -1 to 1; None where either does not vary."""
    present = ~np.isnan(column)
    if present.sum() < 2 or np.ptp(column[present]) == 0 or np.ptp(values[present]) == 0:
        return None
    return round(float(np.corrcoef(column[present], values[present])[0, 1]), 6)


def moved(before: Values, after: Values) -> float:
    """How far importance has moved, from 0 (the same shares) to 1 (nothing in common): total variation distance."""
    shares = [
        scores / scores.sum() if scores.sum() > 0 else np.full(len(scores), 1 / len(scores))
        for scores in (before, after)
    ]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)
