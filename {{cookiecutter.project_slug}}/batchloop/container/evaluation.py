"""The evaluation of a new model, alone and beside the released one (the champion) on its test split."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from batchloop.container import artifacts, job, measures, metrics, models, tables
from batchloop.container.job import InputError, sentence
from batchloop.container.measures import Rows, Scored
from batchloop.container.metrics import NAIVE
from batchloop.container.models import Model
from batchloop.container.protocols import Table
from batchloop.container.usecase import UseCase

log = logging.getLogger(__name__)
SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SCORES = {
    "binary": "probability of the positive class",
    "multiclass": "probability of the predicted class",
    "regression": "predicted value",
    "forecasting": "forecast",
}


@dataclass(frozen=True)
class Champion:
    """The released model; where it is None `reason` says why it can't be used, and is "" where none is released."""

    model: Model | None = None
    reason: str = ""


def load(case: UseCase, scratch: Path) -> Champion:
    """The champion, if there is one that can be used; `scratch` is for unpacking."""
    folder = job.channel("champion")
    try:
        if artifacts.is_absent(folder) or artifacts.is_absent(folder := artifacts.unpacked(folder, scratch)):
            return Champion()
        artifacts.check_manifest(folder, "algorithm", case.contract())
        return Champion(models.load(folder))
    except Exception as error:  # another library's files can make ours fail in any way
        return Champion(reason=f"the champion can't be used: {sentence(error)}")


def start(champion: Champion, schema: tables.Schema, classes: tuple[str, ...]) -> Any:
    """The champion's fitted model, to go on from. Raises InputError where there is none that fits the features."""
    if not models.takes_progress():
        raise InputError(
            "components/algorithm/model.py can't go on from a model: its fit takes no `progress`. Leave out CONTINUE."
        )
    if champion.model is None:
        raise InputError(
            f"there is no champion to go on from (continue_training): {champion.reason or 'no model is released yet.'} "
            "Train without CONTINUE, or with FRESH=yes in its place."
        )
    metadata = champion.model.metadata
    if metadata["features"] != schema["features"] or metadata["classes"] != list(classes):
        raise InputError(
            "continue_training needs features from the champion's preprocessor, and these are from another; "
            "run the processing step with continue_training = true too."
        )
    return champion.model.fitted


def rival(champion: Champion, threads: int) -> tuple[Scored | None, str]:
    """The champion on the test rows as its own preprocessor sees them; without it the reason, "" for no champion."""
    folder, reason = job.channel("champion_test"), champion.reason
    if champion.model is not None:
        try:
            if artifacts.is_absent(folder):
                raise InputError(artifacts.absence(folder) or "there is no preprocessor that belongs to the champion.")
            return scored(champion.model, test_rows("champion_test", champion.model), threads), ""
        except Exception as error:  # as above
            reason = sentence(error)
    if reason:
        log.warning("not comparable: %s", reason)
    return None, reason


def naive(candidate: Scored) -> Scored:
    """The seasonal naive forecast of the same rows, without an interval: what the first model has to beat."""
    forecasts = candidate.predicted.copy()
    forecasts[:, 0], forecasts[:, 1:3] = forecasts[:, NAIVE], np.nan
    return replace(candidate, predicted=forecasts)


def test_rows(channel: str, model: Model) -> Table:
    """A channel's rows for a model. Raises InputError where they were prepared for another model, or are none."""
    folder = job.channel(channel)
    schema = tables.schema(folder)
    if schema["features"] != model.metadata["features"]:
        raise InputError(f"{channel}/ holds other features than its model was fitted on; prepare it again.")
    table = tables.read(folder, schema, tuple(model.metadata["classes"]))
    if not table.labels.size:
        raise InputError(f"{channel}/ has no rows; give more data or change [split].")
    return table


def scored(model: Model, test: Table, threads: int, groups: Rows | None = None) -> Scored:
    """Test rows and what a model predicts for them."""
    predicted = models.predict(model, test.features, threads)
    return Scored(model.metadata["task"], test.labels, predicted, float(model.metadata["threshold"]), groups)


def evaluate(
    candidate: Scored, validation: Mapping[str, float], champion: Scored | None, metric: str
) -> dict[str, Any]:
    """The evaluation as plain data; `validation` are the candidate's metrics there, `intervals` those of test.

    Raises InputError where the gate's metric can't be measured on the test split.
    """
    test, before = candidate.measured(), None if champion is None else champion.measured()
    if math.isnan(test[metric]):
        raise InputError(
            f"{metric} can't be measured on the test split: its {candidate.labels.size} rows hold too few different "
            "labels; give more data or another [gate] metric."
        )
    compared = None
    if champion is not None and np.array_equal(candidate.labels, champion.labels):
        compared = compare(metric, champion, candidate)
    elif champion is not None:
        log.warning("champion_test/ and test/ hold other rows: champion and challenger can't be compared row by row")
    other = naive(candidate) if candidate.task == "forecasting" else None
    # it has no interval, and so no rival's value of a metric of intervals
    if other is not None and champion is None and math.isfinite(other.measured()[metric]):
        before, compared = other.measured(), compare(metric, other, candidate) | {"rival": "seasonal naive forecast"}
    return {
        "task": candidate.task,
        "metric": metric,
        "threshold": candidate.threshold,
        "validation": finite(validation),
        "test": finite(test),
        "intervals": {name: {"low": its.low, "high": its.high} for name, its in candidate.spreads().items()},
        "champion": None if before is None else finite(before),
        **({} if other is None else {"naive": finite(other.measured())}),
        "lead": 0.0 if before is None else metrics.lead(metric, test[metric], before[metric]),
        "comparison": compared,
        "calibration": measures.calibration(candidate.task, candidate.labels, candidate.predicted),
    }


def compare(metric: str, champion: Scored, challenger: Scored) -> dict[str, Any]:
    """Both models on the same labelled rows, as plain data.

    groups: how many the rows belong to, null where each stands for itself. quantiles: of the `score` that is named.
    mean_absolute_difference: of the scores, over all classes. lead: of the challenger in `metric`, positive is better.
    """
    before, after = champion.measured()[metric], challenger.measured()[metric]
    low, high = limits(metric, champion, challenger)
    points = [measures.points(side.task, side.predicted) for side in (champion, challenger)]
    quantiles = [np.quantile(each, SHARES).tolist() for each in points]
    pair = points if challenger.task == "forecasting" else [champion.predicted, challenger.predicted]
    return {
        "rows": int(challenger.labels.size),
        "groups": None if challenger.groups is None else len(np.unique(challenger.groups)),
        "score": SCORES[challenger.task],
        "quantiles": {"share": list(SHARES), "champion": quantiles[0], "challenger": quantiles[1]},
        "disagreement": disagreement(champion, challenger),
        "mean_absolute_difference": float(np.abs(np.subtract(*pair)).mean()),
        "metric": metric,
        **finite({"champion": before, "challenger": after, "lead": metrics.lead(metric, after, before)}),
        **finite({"lead_low": low, "lead_high": high}),
    }


def disagreement(champion: Scored, challenger: Scored) -> float | None:
    """The share of rows whose predicted class differs; None for regression, where nearly every value does."""
    if challenger.task in ("regression", "forecasting"):
        return None
    before, after = (
        side.predicted.argmax(axis=1) if side.predicted.ndim > 1 else side.predicted >= side.threshold
        for side in (champion, challenger)
    )
    return float(np.mean(before != after))


def limits(metric: str, champion: Scored, challenger: Scored) -> tuple[float, float]:
    """95 % limits of the lead, both models on the same rows of each resample; NaN where too few can be measured."""

    def lead(rows: Rows | slice) -> dict[str, float]:
        after, before = challenger.measured(rows)[metric], champion.measured(rows)[metric]
        return {metric: metrics.lead(metric, after, before)}

    groups = np.arange(challenger.labels.size) if challenger.groups is None else challenger.groups
    found = measures.spreads(lead, groups.size, groups).get(metric) if np.unique(groups).size > 1 else None
    return (found.low, found.high) if found else (math.nan, math.nan)


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: a metric that could not be measured is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def metric_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """The lines a training job's metric definitions catch: `metric <split>:<name>=<value>`, without an exponent."""
    found = {
        f"{split}:{name}": value
        for split in ("validation", "test", "champion")
        for name, value in (evaluation[split] or {}).items()
        if value is not None
    }
    found |= {"gate:value": evaluation["test"][evaluation["metric"]], "gate:lead": evaluation["lead"]}
    found["gate:compared"] = float(evaluation["champion"] is not None)  # 0: the gate asks for no lead
    compared = evaluation["comparison"] or {}
    found["gate:disagreement"] = compared.get("disagreement") or 0.0
    limits = [name for name in ("lead_low", "lead_high") if compared.get(name) is not None]
    found |= {f"gate:{name}": compared[name] for name in limits}
    found |= {f"gate:{name}": value for name, value in evaluation.get("slices", {}).get("gate", {}).items()}
    digits = partial(np.format_float_positional, precision=9, fractional=False, trim="0")
    return [f"metric {name}={digits(value)}" for name, value in found.items()]
