"""★ How good the predictions of a batch are expected to be, before any label has arrived.

Confidence-based performance estimation: a score that is a calibrated chance says how often its prediction is right, so
an expected confusion matrix, and any metric of it, needs no labels (NannyML's documentation, "Confidence-based
performance estimation"; for its limits, Garg et al., "Leveraging unlabeled data to predict out-of-distribution
performance", 2022). It holds while features and scores move (covariate shift), and not when the relation between
features and label does: then the scores are confidently wrong, and only labels can tell.

A metric is computed from cells (scores and rows) and their hits, the rows where the score's event happened. With
several classes each class has its cells, and a metric that is a sum over classes needs no more than these. `hits` may
have leading axes, one entry a draw. Left out are average precision, which hangs on the few highest scores, where
validation has too few rows, and what needs the classes' joint counts (balanced accuracy, macro F1).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from monitoring import calibration
from monitoring.calibration import SMALLEST, Bins, Floats
from monitoring.cells import Cells
from runtime import metrics as names

DRAWS, LEVEL, SEED = 400, 0.95, 7
METHOD = "expected confusion matrix of scores calibrated on the validation split (CBPE)"
TOP = "score"  # of the predicted class; for a binary task of the positive one
Counted = Mapping[str, Cells]  # by score column
Hits = Mapping[str, Floats]


def auc(cells: Cells, hits: Floats) -> Floats:
    """The chance that a hit scores above a miss; rows of one cell tie."""
    misses = cells.rows - hits
    below = np.cumsum(misses, axis=-1) - misses / 2
    return _ratio((hits * below).sum(-1), hits.sum(-1) * misses.sum(-1))


def log_loss(cells: Cells, hits: Floats) -> Floats:
    """The mean negative logarithm of the probability of what happened."""
    scores = np.clip(cells.scores, SMALLEST, 1 - SMALLEST)
    loss = -(hits * np.log(scores) + (cells.rows - hits) * np.log1p(-scores))
    return _ratio(loss.sum(-1), cells.rows.sum())


def brier(cells: Cells, hits: Floats) -> Floats:
    """The mean squared distance of score and event."""
    loss = hits * (1 - cells.scores) ** 2 + (cells.rows - hits) * cells.scores**2
    return _ratio(loss.sum(-1), cells.rows.sum())


def accuracy(cells: Cells, hits: Floats) -> Floats:
    """The share of rows predicted right."""
    right = cells.chosen * hits + (1 - cells.chosen) * (cells.rows - hits)
    return _ratio(right.sum(-1), cells.rows.sum())


def precision(cells: Cells, hits: Floats) -> Floats:
    """The share of hits among the rows predicted as such."""
    return _ratio((cells.chosen * hits).sum(-1), (cells.chosen * cells.rows).sum())


def recall(cells: Cells, hits: Floats) -> Floats:
    """The share of hits that are predicted as such."""
    return _ratio((cells.chosen * hits).sum(-1), hits.sum(-1))


def f1(cells: Cells, hits: Floats) -> Floats:
    """The harmonic mean of precision and recall."""
    return _ratio(2 * (cells.chosen * hits).sum(-1), (cells.chosen * cells.rows).sum() + hits.sum(-1))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """0 for a share of nothing, as the algorithm's own metrics have it."""
    ratio: Floats = np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole != 0)
    return ratio


def _several_log_loss(counted: Counted, hits: Hits) -> Floats:
    """The negative logarithm of the chosen class's probability: a sum over the classes' hits."""
    losses = [-(hits[name] * np.log(np.clip(counted[name].scores, SMALLEST, 1))).sum(-1) for name in _classes(counted)]
    return _ratio(np.sum(losses, axis=0), counted[TOP].rows.sum())


def _several_auc(counted: Counted, hits: Hits) -> Floats:
    mean: Floats = np.mean([auc(counted[name], hits[name]) for name in _classes(counted)], axis=0)
    return mean


def _several_brier(counted: Counted, hits: Hits) -> Floats:
    total: Floats = np.sum([brier(counted[name], hits[name]) for name in _classes(counted)], axis=0)
    return total


def _classes(counted: Counted) -> list[str]:
    return [name for name in counted if name != TOP]


def _of_score(metric: Callable[[Cells, Floats], Floats]) -> Callable[[Counted, Hits], Floats]:
    return lambda counted, hits: metric(counted[TOP], hits[TOP])


BINARY = (auc, log_loss, brier, accuracy, precision, recall, f1)
METRICS: Mapping[str, Mapping[str, Callable[[Counted, Hits], Floats]]] = {
    "binary": {metric.__name__: _of_score(metric) for metric in BINARY},
    "multiclass": {
        "log_loss": _several_log_loss,
        "accuracy": _of_score(accuracy),  # its event: the predicted class is the true one
        "auc": _several_auc,
        "brier": _several_brier,
    },
}


@dataclass(frozen=True)
class Expected:
    """A metric's expected value, and the limits between which the batch's labels would put it, 19 times of 20."""

    estimated: float
    low: float
    high: float


def expected(task: str, counted: Counted, bins: Mapping[str, Bins]) -> dict[str, Expected]:
    """Every metric that can be estimated, by name, for cells of at least one row.

    The limits hold two kinds of chance: which labels this batch will have, and which ones the validation split happened
    to have when the scores were calibrated on it. Each of the draws makes both anew.
    """
    drawn = _drawn(counted, bins, np.random.default_rng(SEED))
    hits = {name: cells.rows * calibration.chances(bins[name], cells.scores) for name, cells in counted.items()}
    found = {}
    for name, metric in METRICS[task].items():
        low, high = np.quantile(metric(counted, drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[name] = Expected(float(metric(counted, hits)), float(low), float(high))
    return found


def _drawn(counted: Counted, bins: Mapping[str, Bins], random: np.random.Generator) -> dict[str, Floats]:
    """Hits a draw and cell. Classes are drawn one by one, which makes limits over several classes a little wide."""
    drawn = {}
    for name, cells in counted.items():
        redrawn = [calibration.redrawn(bins[name], random) for _ in range(DRAWS)]
        chances = np.array([calibration.chances(bins[name], cells.scores, hits) for hits in redrawn])
        drawn[name] = random.binomial(cells.rows.astype(int), chances).astype(float)
    return drawn


def alarming(metric: str, found: Expected, reference: float, drop: float) -> bool:
    """Whether the metric is expected to be worse than `reference` by more than `drop`, and chance is excluded."""
    excluded = not found.low <= reference <= found.high
    return excluded and names.lead(metric, reference, found.estimated) > drop
