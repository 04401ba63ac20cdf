"""Champion and challenger on the same rows: how far their scores are apart, and how sure the lead is.

The rows are the challenger's test split. A retraining learns from the window that drifted, so its test rows are of the
newest window: the next batch that both models score, with its labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import measures
from runtime import metrics as names
from runtime.protocols import Predicted

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
