"""What a set of attributions says as a whole: importance, direction, spread; added up chunk by chunk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from algorithm import model
from explainability import attributions, rows
from explainability.attributions import Attributions, Values

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Summary:
    """Of the explained rows: importance a feature, attributions towards the prediction, values, base, largest error."""

    importance: Values
    values: Values  # rows × features
    matrix: model.Matrix  # rows × features
    base: list[float]
    error: float


def explained(fitted: model.Model, frame: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, Attributions]]:
    """Each chunk of rows with its attributions."""
    for chunk in rows.chunks(frame):
        yield chunk, attributions.attribute(fitted, model.matrix(chunk, fitted.metadata["features"]))


def summarise(fitted: model.Model, parts: list[tuple[pl.DataFrame, Attributions]]) -> Summary:
    """The whole of some explained chunks."""
    total = sum(len(chunk) for chunk, _ in parts)
    weighted = [attributions.importance(found.values) * (len(chunk) / total) for chunk, found in parts]
    return Summary(
        importance=np.sum(weighted, axis=0),
        values=np.concatenate([attributions.towards_prediction(found) for _, found in parts]),
        matrix=np.concatenate([model.matrix(chunk, fitted.metadata["features"]) for chunk, _ in parts]),
        base=[float(value) for value in parts[0][1].base[0]],
        error=max(found.error for _, found in parts),
    )


def described(fitted: model.Model, found: Summary) -> list[dict[str, Any]]:
    """A line a feature, the most important first: importance, direction, quantiles of its attributions."""
    lines = []
    for place, feature in enumerate(fitted.metadata["features"]):
        values = found.values[:, place]
        numeric = feature["kind"] != "category"
        lines.append(
            {
                "feature": feature["name"],
                "source": feature["source"],
                "importance": float(found.importance[place]),
                "direction": attributions.direction(found.matrix[:, place], values) if numeric else None,
                "quantiles": [float(value) for value in np.quantile(values, QUANTILES)],
            }
        )
    return sorted(lines, key=lambda line: (-line["importance"], line["feature"]))
