"""What a set of attributions says as a whole: importance, direction, spread; added up chunk by chunk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explainability import rows
from runtime.failures import InputError
from runtime.models import Model
from runtime.protocols import Attributions, AttributionsFile, Feature, Matrix
from runtime.tables import matrix

Values = NDArray[np.float64]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Summary:
    """Of the explained rows: importance a feature, attributions towards the prediction, values, base, worst errors."""

    importance: Values
    values: Values  # rows × features
    matrix: Matrix  # rows × features
    base: list[float]
    error: float
    sampling_error: float


def module() -> AttributionsFile:
    """★ components/explainability/attributions.py."""
    return cast(AttributionsFile, import_module("explainability.attributions"))


def explained(
    model: Model, learned: Mapping[str, Any], frame: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, Attributions]]:
    """Each chunk of rows with its attributions. Raises InputError where they do not add up."""
    for chunk in rows.chunks(frame):
        found = module().explain(model.fitted, learned, matrix(chunk, model.metadata["features"]))
        _check(found)
        yield chunk, found


def additivity_error(found: Attributions) -> Values:
    """How far base + values of each row and output are from the raw score, relative to it where it is larger than 1."""
    deviation: Values = np.abs(found.values.sum(axis=2) + found.base - found.raw) / np.maximum(1.0, np.abs(found.raw))
    return deviation


def _check(found: Attributions) -> None:
    deviation, tolerance = additivity_error(found), module().TOLERANCE
    if deviation.size and deviation.max() > tolerance:
        row = int(deviation.max(axis=1).argmax())
        raise InputError(
            f"the attributions of row {row + 1} miss its raw score by {deviation.max():.2g} (tolerance {tolerance:g}); "
            "the model can't be explained in this way: check the model's files and attributions.py."
        )


def summarise(model: Model, parts: list[tuple[pl.DataFrame, Attributions]]) -> Summary:
    """The whole of some explained chunks."""
    total = sum(len(chunk) for chunk, _ in parts)
    weighted = [importance(found.values) * (len(chunk) / total) for chunk, found in parts]
    return Summary(
        importance=np.sum(weighted, axis=0),
        values=np.concatenate([towards_prediction(found) for _, found in parts]),
        matrix=np.concatenate([matrix(chunk, model.metadata["features"]) for chunk, _ in parts]),
        base=[float(value) for value in parts[0][1].base[0]],
        error=max(float(additivity_error(found).max(initial=0.0)) for _, found in parts),
        sampling_error=max(found.sampling_error for _, found in parts),
    )


def described(model: Model, found: Summary) -> list[dict[str, Any]]:
    """A line a feature, the most important first: importance, direction, quantiles of its attributions."""
    lines = []
    for place, feature in enumerate(model.metadata["features"]):
        values = found.values[:, place]
        numeric = feature["kind"] != "category"
        lines.append(
            {
                "feature": feature["name"],
                "source": feature["source"],
                "importance": float(found.importance[place]),
                "direction": direction(found.matrix[:, place], values) if numeric else None,
                "quantiles": [float(value) for value in np.quantile(values, QUANTILES)],
            }
        )
    return sorted(lines, key=lambda line: (-line["importance"], line["feature"]))


def importance(values: Values) -> Values:
    """Mean absolute attribution of each feature, summed over outputs; `values` rows × outputs × features."""
    result: Values = np.abs(values).sum(axis=1).mean(axis=0)
    return result


def by_source(features: Sequence[Feature], scores: Values) -> dict[str, float]:
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


def in_words(column: pl.Series, feature: Feature) -> pl.Series:
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
