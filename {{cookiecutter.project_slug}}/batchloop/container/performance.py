"""★ How often a score comes true: learned where labels are known, applied where they are not.

A logistic regression of the event on the score's log-odds, with a correction at up to 15 knots (quantiles of the
validation scores, hat functions between them, constant beyond). Its prior says that a score is the chance that it
claims to be: intercept 0, slope 1, no correction, each give or take a standard deviation. So few labels change scores
little, many labels change them as they must, and what no label has shown stays wide: the posterior (Laplace's
approximation) is what the limits of an expected metric are drawn from.

Log-odds and not bins of the score: with bins, every row of the outer ones gets about the same chance, and a log loss of
0.001 lies in how the chances differ there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import metrics as names

Floats = NDArray[np.float64]
KNOTS, ROWS_A_KNOT = 15, 50
DOUBT = (1.0, 0.5, 1.0)  # standard deviations of the prior: intercept, slope, correction at a knot
REACH = 36.1  # in log-odds: no probability in double precision lies further out
SMALLEST = float(np.finfo(np.float64).eps)  # a probability of 0 has no log-odds


def log_odds(scores: Floats) -> Floats:
    """ln(s / (1 − s)), finite for 0 and 1 too."""
    inside = np.clip(scores, SMALLEST, 1 - SMALLEST)
    odds: Floats = np.log(inside) - np.log1p(-inside)
    return odds


@dataclass(frozen=True)
class Calibration:
    """Knots in log-odds, the most likely weights, and the precision matrix of the weights around them."""

    knots: Floats
    weights: Floats
    precision: Floats

    def chances(self, scores: Floats, weights: Floats | None = None) -> Floats:
        """The chance that each score's event happens; a row for each of `weights`, where they are given."""
        return _logistic((self.weights if weights is None else weights) @ _features(self.knots, scores))

    def draws(self, count: int, random: np.random.Generator) -> Floats:
        """Weights as other labels could have given them."""
        noise = random.standard_normal((self.weights.size, count))
        return self.weights + np.linalg.solve(np.linalg.cholesky(self.precision).T, noise).T


def fit(scores: Floats, rows: Floats, hits: Floats) -> Calibration:
    """Of scores from low to high, each with its rows and those where the event happened."""
    count = int(np.clip(rows.sum() // ROWS_A_KNOT, 1, KNOTS))
    shares = (np.arange(count) + 0.5) / count
    knots = np.unique(log_odds(scores)[np.searchsorted(np.cumsum(rows), shares * rows.sum())])
    features = _features(knots, scores)
    prior = np.zeros(len(features))
    prior[1] = 1.0
    certainty = np.diag(1 / np.square([*DOUBT[:2], *[DOUBT[2]] * knots.size]))

    def loss(weights: Floats) -> float:
        odds, apart = weights @ features, weights - prior
        return float((rows * np.logaddexp(0, odds) - hits * odds).sum() + apart @ certainty @ apart / 2)

    weights, precision = prior, certainty
    for _ in range(100):  # Newton's method; the loss is convex
        chances = _logistic(weights @ features)
        precision = (features * (rows * chances * (1 - chances))) @ features.T + certainty
        step = np.linalg.solve(precision, features @ (hits - rows * chances) - certainty @ (weights - prior))
        size, before = 1.0, loss(weights)
        while loss(weights + size * step) > before and size > 1e-6:
            size /= 2
        weights = weights + size * step
        if np.abs(size * step).max() < 1e-6:
            break
    return Calibration(knots, weights, precision)


def _features(knots: Floats, scores: Floats) -> Floats:
    """1, the log-odds, and a hat function a knot; a row each."""
    odds = log_odds(scores)
    return np.array([np.ones_like(odds), odds, *(np.interp(odds, knots, hat) for hat in np.eye(knots.size))])


def _logistic(odds: Floats) -> Floats:
    chance: Floats = 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
    return chance


BATCH = 131_072  # rows counted at once
STEP = 0.05  # of the grid, in log-odds
WIDTH = round(2 * REACH / STEP) + 1
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """Rows with nearly the same score, from low to high: mean score, number of rows, whether the class is predicted."""

    scores: Floats
    rows: Floats
    chosen: Floats  # 1 from the threshold on


def count(frame: pl.LazyFrame, columns: Sequence[str], threshold: float) -> dict[str, Cells]:
    """The cells of each column of scores; missing scores are left out, and no cell lies across the threshold."""
    rows = {name: np.zeros(2 * WIDTH) for name in columns}
    sums = {name: np.zeros(2 * WIDTH) for name in columns}
    for batch in frame.select(columns).collect_batches(chunk_size=BATCH, maintain_order=True):
        for name in columns:
            scores = batch[name].cast(pl.Float64).drop_nulls().to_numpy()
            scores = np.clip(scores[np.isfinite(scores)], 0.0, 1.0)
            found = places(scores, threshold)
            rows[name] += np.bincount(found, minlength=2 * WIDTH)
            sums[name] += np.bincount(found, weights=scores, minlength=2 * WIDTH)
    return {name: _cells(rows[name], sums[name]) for name in columns}


def places(scores: Floats, threshold: float) -> Places:
    """The number of each score's cell, in the grid that has all of them."""
    grid = ((log_odds(scores) + REACH) / STEP).astype(np.int64)
    return 2 * grid + (scores >= threshold)


def _cells(rows: Floats, sums: Floats) -> Cells:
    used = np.flatnonzero(rows)
    return Cells(sums[used] / rows[used], rows[used], (used % 2).astype(float))


def middles(numbers: Places) -> Floats:
    """The score in the middle of each numbered cell."""
    odds = np.clip((numbers // 2 + 0.5) * STEP - REACH, -REACH, REACH)
    scores: Floats = 1 / (1 + np.exp(-odds))
    return scores


DRAWS, LEVEL, SEED = 400, 0.95, 7
PARTINGS, ENOUGH, AT_ONCE, TIE = 100_000, 10, 50, 1e-12  # of a permutation test; smaller differences are none
UNBOUNDED = ("log_loss", "brier")  # others end at 1
SHARED = (
    ("multiclass", "auc"),
    ("multiclass", "brier"),
)  # sums in which a label is a hit of one class, a miss of another
METHOD = "expected confusion matrix of scores calibrated on the validation split (CBPE)"
TOP = "score"  # of the predicted class; for a binary task of the positive one
Counted = Mapping[str, Cells]  # by score column
Hits = Mapping[str, Floats]
Rows = Mapping[str, Places]  # the numbers of rows' cells, by score column


@dataclass(frozen=True)
class Known:
    """What the validation split has taught, by score column: its cells, and how often a score comes true."""

    cells: Counted
    calibrations: Mapping[str, Calibration]
    rows_a_group: float = 1.0


def auc(cells: Cells, hits: Floats) -> Floats:
    """The chance that a hit scores above a miss; rows of one cell tie."""
    misses = cells.rows - hits
    below = np.cumsum(misses, axis=-1) - misses / 2
    return _ratio((hits * below).sum(-1), hits.sum(-1) * misses.sum(-1))


def log_loss(cells: Cells, hits: Floats) -> Floats:
    """The mean negative logarithm of the probability of what happened."""
    scores = np.clip(cells.scores, SMALLEST, 1 - SMALLEST)
    loss = -(hits * np.log(scores) + (cells.rows - hits) * np.log1p(-scores))
    return _ratio(loss.sum(-1), cells.rows.sum(-1))


def brier(cells: Cells, hits: Floats) -> Floats:
    """The mean squared distance of score and event."""
    loss = hits * (1 - cells.scores) ** 2 + (cells.rows - hits) * cells.scores**2
    return _ratio(loss.sum(-1), cells.rows.sum(-1))


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
    return _ratio(2 * (cells.chosen * hits).sum(-1), (cells.chosen * cells.rows).sum(-1) + hits.sum(-1))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """0 for a share of nothing, as the algorithm's own metrics have it."""
    ratio: Floats = np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole != 0)
    return ratio


def _several_log_loss(counted: Counted, hits: Hits) -> Floats:
    """The negative logarithm of the chosen class's probability: a sum over the classes' hits."""
    losses = [-(hits[name] * np.log(np.clip(counted[name].scores, SMALLEST, 1))).sum(-1) for name in _classes(counted)]
    return _ratio(np.sum(losses, axis=0), counted[TOP].rows.sum(-1))


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
    """A metric's expected value, and the limits between which the batch's labels would put it, 19 times of 20.

    `drop` is by how much worse it is than the same estimate for the validation split: what the calibration gets wrong
    is in both. `doubt` is the share of other calibrations, as likely by the validation labels, by which it is no worse.
    """

    estimated: float
    low: float
    high: float
    drop: float
    doubt: float


def expected(task: str, counted: Counted, known: Known) -> dict[str, Expected]:
    """Every metric that can be estimated, by name, for cells of at least one row.

    The limits hold two kinds of chance: which labels this batch will have, and which ones the validation split happened
    to have when the scores were calibrated on it. Each of the draws makes both anew. Where validation rows come in
    groups, `known.rows_a_group` widens them as if each group were one row (the design effect of equal rows). Where a
    label counts in two classes, drawing those apart halves the variance, which is put back.
    """
    random, wider = np.random.default_rng(SEED), np.sqrt(known.rows_a_group)
    weights = {name: np.vstack([one.weights, one.draws(DRAWS, random)]) for name, one in known.calibrations.items()}
    parts = [
        _draws(task, counted, known, {name: drawn[start : start + AT_ONCE] for name, drawn in weights.items()}, random)
        for start in range(0, DRAWS + 1, AT_ONCE)
    ]
    found = {}
    for name in METRICS[task]:
        labels, values, before = np.concatenate([part[name] for part in parts], axis=1)
        apart = np.sqrt(2) if (task, name) in SHARED else 1.0
        low, high = values[0] + apart * wider * (_limits(labels[1:]) - values[0])
        low, high = np.clip([min(low, values[0]), max(high, values[0])], 0, None if name in UNBOUNDED else 1)
        drops = _drop(name, before, values)
        doubt = float(np.mean(wider * (drops[1:] - drops[0]) <= -drops[0]))
        found[name] = Expected(float(values[0]), float(low), float(high), float(drops[0]), doubt)
    return found


def _draws(
    task: str, counted: Counted, known: Known, weights: Mapping[str, Floats], random: np.random.Generator
) -> dict[str, Floats]:
    """By metric: its values for drawn labels, expected now, and expected of validation, for each row of `weights`."""
    now, before = (_hits(cells, known, weights) for cells in (counted, known.cells))
    labels = {name: _drawn(counted[name].rows, hits, random) for name, hits in now.items()}
    return {
        name: np.stack([metric(counted, labels), metric(counted, now), metric(known.cells, before)])
        for name, metric in METRICS[task].items()
    }


def _limits(values: Floats) -> Floats:
    """Between which one more such value lies with a chance of LEVEL."""
    limits: Floats = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="weibull")
    return limits


def _hits(counted: Counted, known: Known, weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """Expected hits, a row for each of `weights`."""
    return {
        name: cells.rows * known.calibrations[name].chances(cells.scores, weights[name])
        for name, cells in counted.items()
    }


def _drawn(rows: Floats, hits: Floats, random: np.random.Generator) -> Floats:
    """Hits as labels could give them; classes are drawn one by one, and `expected` makes up for it."""
    return random.binomial(rows.astype(int), np.minimum(hits / rows, 1)).astype(float)


def chance(wanted: tuple[str, str], known: Known, parts: tuple[Rows, Rows], level: float) -> float:
    """How often chance makes the second of `parts` worse than the first by as much; `wanted` is task and metric.

    A permutation test: the rows of both parts are parted anew at random, again and again. Where both come from the same
    distribution every parting is as likely as the real one, so `level` is kept whatever the number of rows, how skewed
    their scores are, and however wrong the calibration is, which is the same for all partings. It ends early where the
    answer is clearly no (Besag and Clifford, 1991).
    """
    random, (before, now) = np.random.default_rng(SEED), parts
    pool = {name: _pooled(before[name], now[name], one) for name, one in known.calibrations.items()}
    real = np.arange(len(before[TOP]) + len(now[TOP])) >= len(before[TOP])
    seen, worse, done = _drops(wanted, pool, real[None])[0], 1, 1
    while worse <= ENOUGH and done < min(ENOUGH / level, PARTINGS):
        members = random.permuted(np.tile(real, (AT_ONCE, 1)), axis=1)
        worse += int((_drops(wanted, pool, members) >= seen - TIE).sum())
        done += AT_ONCE
    return worse / done


@dataclass(frozen=True)
class _Pool:
    """The rows of both parts in the order of their cells, and each cell: begin, rows, score, class, chance."""

    order: Places
    starts: Places
    rows: Floats
    scores: Floats
    chosen: Floats
    chances: Floats


def _pooled(before: Places, now: Places, calibration: Calibration) -> _Pool:
    both = np.concatenate([before, now])
    used, starts, rows = np.unique(np.sort(both), return_index=True, return_counts=True)
    scores, order = middles(used), np.argsort(both, kind="stable")
    return _Pool(order, starts, rows.astype(float), scores, (used % 2).astype(float), calibration.chances(scores))


def _drops(wanted: tuple[str, str], pool: Mapping[str, _Pool], members: NDArray[np.bool_]) -> Floats:
    """By how much the members are expected to be worse than the others, for each row of `members`."""
    (task, metric), values = wanted, []
    now = {name: np.add.reduceat(members[:, one.order], one.starts, axis=1, dtype=float) for name, one in pool.items()}
    for rows in ({name: one.rows - now[name] for name, one in pool.items()}, now):
        counted = {name: Cells(one.scores, rows[name], one.chosen) for name, one in pool.items()}
        values.append(METRICS[task][metric](counted, {name: rows[name] * one.chances for name, one in pool.items()}))
    return _drop(metric, *values)


def _drop(metric: str, before: Floats, now: Floats) -> Floats:
    """By how much `now` is worse."""
    return now - before if metric in names.SMALLER_IS_BETTER else before - now
