"""What evaluation.json holds: metrics of every split, the champion's on the same rows, and the lead over it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from algorithm import metrics
from algorithm.model import Model, Table, predict
from runtime import metrics as names
from runtime.failures import InputError

Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Contender:
    """A model and the test rows as its own preprocessor sees them."""

    model: Model
    test: Table


def evaluate(
    candidate: Contender, validation: Mapping[str, float], champion: Contender | None, metric: str, threads: int
) -> dict[str, Any]:
    """The evaluation as plain data; `validation` are the candidate's metrics there.

    Raises InputError where the gate's metric can't be measured on the test split.
    """
    task = candidate.model.metadata["task"]
    predicted = predict(candidate.model, candidate.test.features, threads)
    test = metrics.measure(task, candidate.test.labels, predicted, candidate.model.metadata["threshold"])
    before = None if champion is None else measured(champion, threads)
    if math.isnan(test[metric]):
        raise InputError(
            f"{metric} can't be measured on the test split: its {candidate.test.labels.size} rows hold too few "
            "different labels; give more data or another [gate] metric."
        )
    return {
        "task": task,
        "metric": metric,
        "validation": finite(validation),
        "test": finite(test),
        "champion": None if before is None else finite(before),
        "lead": 0.0 if before is None else names.lead(metric, test[metric], before[metric]),
        "calibration": metrics.calibration(task, candidate.test.labels, predicted),
    }


def measured(contender: Contender, threads: int) -> dict[str, float]:
    """A contender's metrics on its test rows."""
    metadata, test = contender.model.metadata, contender.test
    predicted = predict(contender.model, test.features, threads)
    return metrics.measure(metadata["task"], test.labels, predicted, metadata["threshold"])


def finite(values: Mapping[str, float]) -> Metrics:
    """JSON has no NaN: a metric that could not be measured is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def lines(evaluation: Mapping[str, Any]) -> list[str]:
    """The lines a training job's metric definitions catch: `metric <split>:<name>=<value>`."""
    found = [
        (f"{split}:{name}", value)
        for split in ("validation", "test", "champion")
        for name, value in (evaluation[split] or {}).items()
        if value is not None
    ]
    found += [("gate:value", evaluation["test"][evaluation["metric"]]), ("gate:lead", evaluation["lead"])]
    return [f"metric {name}={_digits(value)}" for name, value in found]


def _digits(value: float) -> str:
    """Nine significant digits, never with an exponent, which a metric's pattern may not expect."""
    return np.format_float_positional(value, precision=9, fractional=False, trim="0")
