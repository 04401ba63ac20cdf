"""Metrics of predictions, with numpy alone, and how sure they are; their names stand in metrics.py.

A metric that the labels don't allow (the AUC of one class, the R² of a constant) is NaN.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchloop.container.metrics import INTERVAL

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]  # row numbers
TOP = "score"  # of the predicted class; for a binary task of the positive one
BINS = 10  # of the reliability table, equally wide
SMALLEST = float(np.finfo(np.float64).eps)  # a probability of 0 would make the log loss infinite
RESAMPLES, LEVEL, SEED = 200, 0.95, 7
MOST = 10_000  # rows of a resample: a metric of a million rows takes a second


@dataclass(frozen=True)
class Cells:
    """Rows of one score each: the score, the number of rows, and 1 where the class is predicted, else 0."""

    scores: Floats
    rows: Floats
    chosen: Floats


Counted = Mapping[str, Cells]  # by score column
Hits = Mapping[str, Floats]  # of each cell's rows, those that belong to the class


def auc(cells: Cells, hits: Floats) -> Floats:
    """The probability that a hit scores above a miss; a tie counts half (Mann and Whitney, 1947).

    `hits` (here and below): the rows of each cell that belong to the class, or expected ones, cells last.
    """
    if np.any((steps := np.diff(cells.scores)) <= 0):  # one cell a score is needed, from low to high
        # only single rows come unsorted: their sums are whole numbers, in any order of equal scores
        order = np.argsort(cells.scores) if np.any(steps < 0) else np.arange(cells.scores.size)
        scores = cells.scores[order]
        first = np.flatnonzero(np.diff(scores, prepend=-np.inf) > 0)
        rows, hits = (np.add.reduceat(each[..., order].astype(float), first, axis=-1) for each in (cells.rows, hits))
        cells = Cells(scores[first], rows, scores[first])
    misses = cells.rows - hits
    below = np.cumsum(misses, axis=-1) - misses / 2
    return _ratio((hits * below).sum(-1), hits.sum(-1) * misses.sum(-1))


def log_loss(cells: Cells, hits: Floats) -> Floats:
    """The mean negative logarithm of the probability given to what is true."""
    hit, miss = (np.log(np.clip(scores, SMALLEST, 1)) for scores in (cells.scores, 1 - cells.scores))
    return -_ratio((hits * hit + (cells.rows - hits) * miss).sum(-1), cells.rows.sum(-1))


def brier(cells: Cells, hits: Floats) -> Floats:
    """The mean squared distance of score and truth."""
    losses = hits * (1 - cells.scores) ** 2 + (cells.rows - hits) * cells.scores**2
    return _ratio(losses.sum(-1), cells.rows.sum(-1))


def accuracy(cells: Cells, hits: Floats) -> Floats:
    """The share of rows predicted right."""
    right = cells.chosen * hits + (1 - cells.chosen) * (cells.rows - hits)
    return _ratio(right.sum(-1), cells.rows.sum(-1))


def precision(cells: Cells, hits: Floats) -> Floats:
    """The share of hits among the rows predicted as such."""
    return _ratio((cells.chosen * hits).sum(-1), (cells.chosen * cells.rows).sum(-1))


def recall(cells: Cells, hits: Floats) -> Floats:
    """The share of hits that are predicted as such."""
    return _ratio((cells.chosen * hits).sum(-1), hits.sum(-1))


def f1(cells: Cells, hits: Floats) -> Floats:
    """The harmonic mean of precision and recall."""
    first, second = precision(cells, hits), recall(cells, hits)
    return _ratio(2 * first * second, first + second)


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole != 0)
    return ratio


def _top(metric: Callable[[Cells, Floats], Floats]) -> Callable[[Counted, Hits], Floats]:
    return lambda counted, hits: metric(counted[TOP], hits[TOP])


def _classes(metric: Callable[[Cells, Floats], Floats], combine: Any) -> Callable[[Counted, Hits], Floats]:
    def measured(counted: Counted, hits: Hits) -> Floats:
        values: Floats = combine([metric(counted[name], hits[name]) for name in counted if name != TOP], axis=0)
        return values

    return measured


def _class_loss(cells: Cells, hits: Floats) -> Floats:
    """A class's part of the log loss: the chosen class's probability alone counts."""
    loss: Floats = -(hits * np.log(np.clip(cells.scores, SMALLEST, 1))).sum(-1) / cells.rows.sum(-1)
    return loss


# those that can be measured on cells, and so be expected without labels
METRICS: Mapping[str, Mapping[str, Callable[[Counted, Hits], Floats]]] = {
    "binary": {one.__name__: _top(one) for one in (auc, log_loss, brier, accuracy, precision, recall, f1)},
    "multiclass": {
        "log_loss": _classes(_class_loss, np.sum),
        "accuracy": _top(accuracy),  # its outcome: the predicted class is the true one
        "auc": _classes(auc, np.mean),
        "brier": _classes(brier, np.sum),
    },
}


def average_precision(cells: Cells, hits: Floats) -> Floats:
    """The precision at each score that occurs, weighted by the recall it adds; of single rows."""
    order = np.argsort(-cells.scores)
    last_of_tie = np.append(np.diff(cells.scores[order]) != 0, True)
    above = np.cumsum(hits[order])[last_of_tie]
    return _ratio((np.diff(above, prepend=0) * (above / (np.flatnonzero(last_of_tie) + 1))).sum(), above[-1])


def measure(task: str, labels: Floats, predicted: Floats, threshold: float) -> dict[str, float]:
    """All metrics of a task. `predicted` is what model.predict gave; labels are class positions, or values."""
    if task == "binary":
        return binary(labels, predicted, threshold)
    return {"multiclass": multiclass, "forecasting": forecasting, "regression": regression}[task](labels, predicted)


def binary(labels: Floats, scores: Floats, threshold: float) -> dict[str, float]:
    """`scores` is the positive class's probability; from `threshold` on the positive class is predicted."""
    cells, hits = Cells(scores, np.ones_like(scores), (scores >= threshold).astype(float)), (labels == 1).astype(float)
    every = (auc, average_precision, log_loss, brier, accuracy, precision, recall, f1)
    found = {metric.__name__: float(metric(cells, hits)) for metric in every}
    if not 0 < hits.sum() < hits.size:
        found["auc"] = float("nan")
    if not hits.any():
        found["average_precision"] = float("nan")
    return found | {"expected_calibration_error": calibration_error(reliability(labels == 1, scores))}


def multiclass(labels: Floats, scores: Floats) -> dict[str, float]:
    """`scores` is rows × classes; averages over classes count only those the labels hold (F1: or the predictions)."""
    chosen, classes, single = scores.argmax(axis=1), range(scores.shape[1]), np.ones(labels.size)
    parts = {one: Cells(scores[:, one], single, (chosen == one).astype(float)) for one in classes}
    hits = {one: (labels == one).astype(float) for one in classes}
    held = [one for one in classes if hits[one].any()]
    given = np.take_along_axis(scores, labels.astype(int)[:, None], axis=1)
    return {
        "log_loss": float(-np.mean(np.log(np.clip(given, SMALLEST, 1.0)))),
        "accuracy": float(np.mean(chosen == labels)),
        "balanced_accuracy": float(np.mean([recall(parts[one], hits[one]) for one in held])),
        "macro_f1": float(np.mean([f1(parts[one], hits[one]) for one in classes if one in held or one in chosen])),
        "auc": float(np.mean([auc(parts[one], hits[one]) for one in held])) if len(held) > 1 else float("nan"),
        "brier": float(np.mean(np.sum((scores - np.eye(scores.shape[1])[labels.astype(int)]) ** 2, axis=1))),
        "expected_calibration_error": calibration_error(reliability(chosen == labels, scores.max(axis=1))),
    }


def regression(labels: Floats, values: Floats) -> dict[str, float]:
    """The percentage error is over the labels that are not zero: a share of nothing means nothing."""
    errors = np.abs(values - labels)
    spread, nonzero = float(np.sum((labels - labels.mean()) ** 2)), labels != 0
    shares = errors[nonzero] / np.abs(labels[nonzero])
    return {
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae": float(np.mean(errors)),
        "r2": 1 - float(np.sum(errors**2)) / spread if spread > 0 else float("nan"),
        "mean_absolute_percentage_error": float(np.mean(shares)) if shares.size else float("nan"),
        "median_absolute_error": float(np.median(errors)),
    }


def forecasting(labels: Floats, forecasts: Floats) -> dict[str, float]:
    """`forecasts` has the columns metrics.FORECAST.

    mase: the mean absolute error in units of the series' error of the seasonal naive forecast, before the origin
    (Hyndman and Koehler, 2006). relative_mase: that over the seasonal naive forecast's on these rows. smape: 0 to 2.
    pinball: the mean loss of the interval's ends and the middle as quantiles, in the units of mase.
    """
    middle, low, high, naive, unit = forecasts[:, :5].T
    errors, tail = np.abs(labels - middle), (1 - INTERVAL) / 2
    both = np.abs(labels) + np.abs(middle)
    mase, other = float(np.mean(errors / unit)), float(np.mean(np.abs(labels - naive) / unit))
    losses = [
        np.maximum(level * (labels - quantile), (level - 1) * (labels - quantile)) / unit
        for level, quantile in ((tail, low), (0.5, middle), (1 - tail, high))
    ]
    covered = np.where(np.isnan(low), np.nan, (low <= labels) & (labels <= high))
    return {
        "mase": mase,
        "smape": float(np.mean(2 * np.divide(errors, both, out=np.zeros_like(errors), where=both > 0))),
        "pinball": float(np.mean(losses)),
        "mae": float(np.mean(errors)),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "relative_mase": mase / other if other > 0 else float("nan"),
        "coverage": float(np.mean(covered)),
    }


def points(task: str, predicted: Floats) -> Floats:
    """One number a row of what a model predicts: the forecast, the value, or the (highest) probability."""
    several = predicted.ndim > 1
    return predicted[:, 0] if task == "forecasting" else np.asarray(predicted.max(axis=1)) if several else predicted


def reliability(outcomes: NDArray[np.bool_], scores: Floats) -> list[dict[str, Any]]:
    """In each tenth of the score's range that holds rows: their mean score, and the share for which it came true."""
    bins = np.clip(scores * BINS, 0, BINS - 1).astype(np.int8)
    parts = {position: bins == position for position in range(BINS) if np.any(bins == position)}
    return [
        {
            "from": position / BINS,
            "to": (position + 1) / BINS,
            "mean_score": float(scores[inside].mean()),
            "observed": float(outcomes[inside].mean()),
            "rows": int(inside.sum()),
        }
        for position, inside in parts.items()
    ]


def calibration(task: str, labels: Floats, predicted: Floats) -> list[dict[str, Any]]:
    """The reliability table of the positive class (binary) or the predicted one (multiclass); none for regression."""
    if task == "binary":
        return reliability(labels == 1, predicted)
    return reliability(predicted.argmax(axis=1) == labels, predicted.max(axis=1)) if task == "multiclass" else []


def calibration_error(table: list[dict[str, Any]]) -> float:
    """The mean distance between what was scored and what came true, weighted by rows."""
    distances = [row["rows"] * abs(row["mean_score"] - row["observed"]) for row in table]
    return float(sum(distances) / sum(row["rows"] for row in table))


@dataclass(frozen=True)
class Scored:
    """Labels (class positions or values), what is predicted for them (binary: positive from `threshold` on), groups."""

    task: str
    labels: Floats
    predicted: Floats
    threshold: float = 0.5
    groups: Rows | None = None

    def part(self, rows: Rows) -> "Scored":
        """Some of the rows by themselves."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, labels=self.labels[rows], predicted=self.predicted[rows], groups=groups)

    def measured(self, rows: Rows | slice = slice(None)) -> dict[str, float]:
        return measure(self.task, self.labels[rows], self.predicted[rows], self.threshold)

    def spreads(self) -> dict[str, "Spread"]:
        """Every metric that these rows allow, by name, with its limits."""
        return spreads(self.measured, self.labels.size, self.groups)


@dataclass(frozen=True)
class Spread:
    """A value, its 95 % limits and its standard error."""

    value: float
    low: float
    high: float
    error: float


def spreads(
    measured: Callable[[Rows | slice], Mapping[str, float]], rows: int, groups: Rows | None = None
) -> dict[str, Spread]:
    """Every value that is measured on rows, by name, with limits from a bootstrap; without those it rarely allows.

    Where rows have several groups, whole groups are drawn (the cluster bootstrap; Field and Welsh, 2007). Resamples of
    many rows are smaller, and their spread is scaled (the m out of n bootstrap; Bickel, Götze and van Zwet, 1997).
    """
    whole = measured(slice(None))
    scale, drawn = _resamples(np.arange(rows) if groups is None or np.ptp(groups) == 0 else groups)
    draws = [measured(sample) for sample in drawn]
    found = {}
    for name, value in whole.items():
        each = np.array([draw[name] for draw in draws])
        known = each[np.isfinite(each)]
        if np.isfinite(value) and known.size >= RESAMPLES / 2:
            low, high = value + scale * (np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - value)
            found[name] = Spread(value, float(low), float(high), float(scale * known.std()))
    return found


def _resamples(groups: Rows) -> tuple[float, Iterator[Rows]]:
    """By how much the spread of resamples is wider than the table's, and the rows of each."""
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    count = min(sizes.size, max(2, MOST * sizes.size // groups.size))
    random = np.random.default_rng(SEED)

    def sample() -> Rows:
        """All rows of some groups, one group after another; those of group g stand in `order` from starts[g] on."""
        chosen = random.integers(0, sizes.size, count)
        ends = np.cumsum(sizes[chosen])
        rows: Rows = order[np.arange(ends[-1]) + np.repeat(starts[chosen] - (ends - sizes[chosen]), sizes[chosen])]
        return rows

    return float(np.sqrt(count / sizes.size)), (sample() for _ in range(RESAMPLES))
