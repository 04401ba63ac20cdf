"""What evaluation.json holds: metrics of every split, the champion's on the same rows, and how the two compare."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithm import comparison
from algorithm.comparison import Side
from runtime import measures, models
from runtime import metrics as names
from runtime.failures import InputError
from runtime.models import Model
from runtime.protocols import Table

log = logging.getLogger(__name__)
Metrics = dict[str, float | None]
Labels = NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """A model and the test rows as its own preprocessor sees them; the group of each where they were split by group."""

    model: Model
    test: Table
    groups: comparison.Groups | None = None


def evaluate(
    candidate: Contender, validation: Mapping[str, float], champion: Contender | None, metric: str, threads: int
) -> dict[str, Any]:
    """The evaluation as plain data; `validation` are the candidate's metrics there.

    Raises InputError where the gate's metric can't be measured on the test split.
    """
    task, labels = candidate.model.metadata["task"], candidate.test.labels
    side = _side(candidate, threads)
    test = measures.measure(task, labels, side.predicted, side.threshold)
    if math.isnan(test[metric]):
        raise InputError(
            f"{metric} can't be measured on the test split: its {labels.size} rows hold too few different labels; "
            "give more data or another [gate] metric."
        )
    return {
        "task": task,
        "metric": metric,
        "threshold": side.threshold,
        "validation": finite(validation),
        "test": finite(test),
        **_beside(champion, metric, test[metric], (labels, side), threads),
        "calibration": measures.calibration(task, labels, side.predicted),
    }


def _beside(
    champion: Contender | None, metric: str, value: float, challenger: tuple[Labels, Side], threads: int
) -> dict[str, Any]:
    """The champion's metrics, the lead over it, and the comparison row by row; empty where there is no champion."""
    if champion is None:
        return {"champion": None, "lead": 0.0, "comparison": None}
    side, (labels, other), task = _side(champion, threads), challenger, champion.model.metadata["task"]
    before = measures.measure(task, champion.test.labels, side.predicted, side.threshold)
    compared = None
    if np.array_equal(labels, champion.test.labels):
        compared = comparison.compare(task, metric, labels, side, other)
    else:
        log.warning("champion_test/ and test/ hold other rows: champion and challenger can't be compared row by row")
    return {"champion": finite(before), "lead": names.lead(metric, value, before[metric]), "comparison": compared}


def _side(contender: Contender, threads: int) -> Side:
    """What a contender says to its test rows."""
    predicted = models.predict(contender.model, contender.test.features, threads)
    return Side(predicted, contender.model.metadata["threshold"], contender.groups)


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
    found += [("gate:compared", float(evaluation["champion"] is not None))]  # 0: the gate asks for no lead
    found += comparison.lines(evaluation["comparison"])
    return [f"metric {name}={_digits(value)}" for name, value in found]


def _digits(value: float) -> str:
    """Nine significant digits, never with an exponent, which a metric's pattern may not expect."""
    return np.format_float_positional(value, precision=9, fractional=False, trim="0")
