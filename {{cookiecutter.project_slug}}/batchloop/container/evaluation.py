"""Champion and challenger on the same rows: how far their scores are apart, and how sure the lead is.

The rows are the challenger's test split. A retraining learns from the window that drifted, so its test rows are of the
newest window: the next batch that both models score, with its labels.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchloop.container import artifacts, job, measures, models, tables
from batchloop.container import metrics as names
from batchloop.container.job import InputError, told
from batchloop.container.models import Model
from batchloop.container.protocols import Predicted, Table
from batchloop.container.usecase import UseCase

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
RESAMPLES, LEVEL, SEED = 200, 0.95, 7
ROWS = 10_000  # of a resample at most: a metric of a million rows would take longer than fitting
Groups = NDArray[np.int64]
SCORES = {
    "binary": "probability of the positive class",
    "multiclass": "probability of the predicted class",
    "regression": "predicted value",
}


@dataclass(frozen=True)
class Side:
    """What one model says to the rows, and from which score on it predicts the positive class."""

    predicted: Predicted
    threshold: float
    groups: Groups | None = None  # of each row; None where rows are independent

    def rows(self, chosen: NDArray[np.int64]) -> "Side":
        return Side(self.predicted[chosen], self.threshold)


def compare(task: str, metric: str, labels: Predicted, champion: Side, challenger: Side) -> dict[str, Any]:
    """Both models on the same labelled rows, as plain data.

    groups: how many the rows belong to, null where each stands for itself. quantiles: of the `score` that is named.
    disagreement: the share of rows whose predicted class differs (null for regression). mean_absolute_difference: of
    the scores, over all classes. lead: of the challenger in `metric`, positive is better; lead_low and lead_high: its
    95 % limits, null where resamples can't be measured.
    """
    before, after = (_measured(task, metric, labels, side) for side in (champion, challenger))
    low, high = limits(task, metric, labels, champion, challenger)
    return {
        "rows": int(labels.size),
        "groups": None if challenger.groups is None else len(np.unique(challenger.groups)),
        "score": SCORES[task],
        "quantiles": {
            "share": list(SHARES),
            "champion": np.quantile(_scores(champion), SHARES).tolist(),
            "challenger": np.quantile(_scores(challenger), SHARES).tolist(),
        },
        "disagreement": disagreement(task, champion, challenger),
        "mean_absolute_difference": float(np.abs(champion.predicted - challenger.predicted).mean()),
        "metric": metric,
        "champion": _finite(before),
        "challenger": _finite(after),
        "lead": _finite(names.lead(metric, after, before)),
        "lead_low": _finite(low),
        "lead_high": _finite(high),
    }


def disagreement(task: str, champion: Side, challenger: Side) -> float | None:
    """The share of rows whose predicted class differs; None for regression, where nearly every value does."""
    if task == "regression":
        return None
    first, second = (_classes(side) for side in (champion, challenger))
    return float(np.mean(first != second))


def limits(task: str, metric: str, labels: Predicted, champion: Side, challenger: Side) -> tuple[float, float]:
    """95 % limits of the lead, from a bootstrap of whole rows: both models see the same ones in each resample.

    Where the challenger's rows have groups, whole groups are drawn: rows of one say the same, not something new each
    (the cluster bootstrap; Field and Welsh, 2007). Resamples of many rows are smaller than the table, and their spread
    is scaled to its size (the m out of n bootstrap; Bickel, Götze and van Zwet, 1997). NaN where fewer than half of the
    resamples can be measured, or all rows are of one group.
    """
    random, rows = np.random.default_rng(SEED), labels.size
    members = _members(np.arange(rows) if challenger.groups is None else challenger.groups)
    size = min(len(members), max(2, ROWS * len(members) // rows))
    whole = _lead(task, metric, labels, champion, challenger)
    if len(members) < 2:
        return float("nan"), float("nan")
    leads = np.empty(RESAMPLES)
    for place in range(RESAMPLES):
        chosen = members.drawn(random.integers(0, len(members), size))
        leads[place] = _lead(task, metric, labels[chosen], champion.rows(chosen), challenger.rows(chosen))
    known = leads[np.isfinite(leads)]
    if known.size < RESAMPLES / 2 or not np.isfinite(whole):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    scale = np.sqrt(size / len(members))
    return float(whole + scale * (low - whole)), float(whole + scale * (high - whole))


@dataclass(frozen=True)
class Members:
    """The rows of each group: those of group g stand in `order` from `starts[g]` on, `sizes[g]` of them."""

    order: Groups
    starts: Groups
    sizes: Groups

    def __len__(self) -> int:
        return int(self.sizes.size)

    def drawn(self, groups: Groups) -> Groups:
        """All rows of these groups, one group after another."""
        sizes = self.sizes[groups]
        ends = np.cumsum(sizes)
        within = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
        rows: Groups = self.order[np.repeat(self.starts[groups], sizes) + within]
        return rows


def _members(groups: Groups) -> Members:
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    return Members(order, starts, sizes)


def _lead(task: str, metric: str, labels: Predicted, champion: Side, challenger: Side) -> float:
    before, after = (_measured(task, metric, labels, side) for side in (champion, challenger))
    return names.lead(metric, after, before)


def _measured(task: str, metric: str, labels: Predicted, side: Side) -> float:
    return measures.measure(task, labels, side.predicted, side.threshold)[metric]


def _classes(side: Side) -> NDArray[np.int64]:
    several = side.predicted.ndim > 1
    return side.predicted.argmax(axis=1) if several else (side.predicted >= side.threshold).astype(np.int64)


def _scores(side: Side) -> Predicted:
    return side.predicted.max(axis=1) if side.predicted.ndim > 1 else side.predicted


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def lines(found: Mapping[str, Any] | None) -> list[tuple[str, float]]:
    """What the gate's message names: zeros without a champion, for a final metric that is missing would end the run."""
    return [(f"gate:{name}", (found or {}).get(name) or 0.0) for name in ("lead_low", "lead_high", "disagreement")]


log = logging.getLogger(__name__)
Metrics = dict[str, float | None]
Labels = NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """A model and the test rows as its own preprocessor sees them; the group of each where they were split by group."""

    model: Model
    test: Table
    groups: Groups | None = None


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
        compared = compare(task, metric, labels, side, other)
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


def metric_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """The lines a training job's metric definitions catch: `metric <split>:<name>=<value>`."""
    found = [
        (f"{split}:{name}", value)
        for split in ("validation", "test", "champion")
        for name, value in (evaluation[split] or {}).items()
        if value is not None
    ]
    found += [("gate:value", evaluation["test"][evaluation["metric"]]), ("gate:lead", evaluation["lead"])]
    found += [("gate:compared", float(evaluation["champion"] is not None))]  # 0: the gate asks for no lead
    found += lines(evaluation["comparison"])
    return [f"metric {name}={_digits(value)}" for name, value in found]


def _digits(value: float) -> str:
    """Nine significant digits, never with an exponent, which a metric's pattern may not expect."""
    return np.format_float_positional(value, precision=9, fractional=False, trim="0")


@dataclass(frozen=True)
class Champion:
    """The released model; where it is None `reason` says why it can't be used, and is "" where none is released."""

    model: Model | None = None
    reason: str = ""


def load(case: UseCase, scratch: Path) -> Champion:
    """The champion, if there is one that can be used; `scratch` is for unpacking."""
    folder = job.channel("champion")
    try:
        if artifacts.is_absent(folder):
            return Champion()
        folder = artifacts.unpacked(folder, scratch)
        if artifacts.is_absent(folder):
            return Champion()
        artifacts.check_manifest(folder, "algorithm", case.contract())
        return Champion(models.load(folder))
    except Exception as error:  # another library's files can make ours fail in any way
        return _unusable(f"the champion can't be used: {told(error)}")


def _unusable(reason: str) -> Champion:
    log.warning("not comparable: %s", reason)
    return Champion(reason=reason)


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


def contender(champion: Champion) -> tuple[Contender | None, str]:
    """The champion with the test rows as its own preprocessor sees them; without it the reason, "" for no champion."""
    if champion.model is None:
        return None, champion.reason
    folder = job.channel("champion_test")
    try:
        if artifacts.is_absent(folder):
            raise InputError(artifacts.absence(folder) or "there is no preprocessor that belongs to the champion.")
        found = Contender(champion.model, test_rows("champion_test", champion.model))
        models.predict(found.model, found.test.features[:1])
        float(found.model.metadata["threshold"])
    except Exception as error:  # as above
        return None, _unusable(told(error)).reason
    return found, ""


def test_rows(channel: str, judged: Model) -> Table:
    """A channel's rows for a model. Raises InputError where they were prepared for another model, or are none."""
    folder = job.channel(channel)
    schema = tables.schema(folder)
    if schema["features"] != judged.metadata["features"]:
        raise InputError(f"{channel}/ holds other features than its model was fitted on; prepare it again.")
    table = tables.read(folder, schema, tuple(judged.metadata["classes"]))
    if not table.labels.size:
        raise InputError(f"{channel}/ has no rows; give more data or change [split].")
    return table
