"""Performance without labels: what a batch's metrics are expected to be, by how often scores come true (CBPE).

How often they do is learned on the validation split: a logistic regression of the outcome on the score's log-odds, with
a correction at up to 15 knots (quantiles of the validation scores, hat functions between them, constant beyond). Its
prior says that a score is the probability that it claims to be: intercept 0, slope 1, no correction, each give or take
a standard deviation. The limits of an expected metric are drawn from the posterior (Laplace's approximation).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import metrics, raw
from batchloop.container.measures import LEVEL, METRICS, SEED, SMALLEST, TOP, Cells, Counted, Floats
from batchloop.container.tables import LABEL
from batchloop.container.usecase import UseCase

KNOTS, ROWS_A_KNOT = 15, 50
DEVIATIONS = (1.0, 0.5, 1.0)  # of the prior: intercept, slope, correction at a knot
REACH = 36.1  # in log-odds: no probability in double precision lies further out
STEP = 0.05  # of the grid of cells, in log-odds
WIDTH = round(2 * REACH / STEP) + 1
BATCH = 131_072  # rows counted at once
DRAWS = 400
PERMUTATIONS, ENOUGH, AT_ONCE, TIE = 100_000, 10, 50, 1e-12  # of a test; smaller differences are none
SAMPLE, SCORES = 5_000, 100_000  # rows that the test takes of validation and of a batch, and scores in them
FEWEST, FEWEST_GROUPS = 10, 30  # rows of a class, and groups of rows, below which too little is known of them
SHARED = (("multiclass", "auc"), ("multiclass", "brier"))  # a label is a hit of one class and a miss of another
EVERY_CLASS = ("auc",)  # metrics of several classes in which a rare one weighs as much as any other
METHOD = "expected confusion matrix of scores calibrated on the validation split (CBPE)"
ONLY_LABELS = "only labels can tell; when they arrive, the realised performance is computed from them"
Numbers = NDArray[np.int64]  # of rows' cells
Plain = dict[str, Any]


def log_odds(scores: Floats) -> Floats:
    """ln(s / (1 − s)), finite for 0 and 1 too."""
    inside = np.clip(scores, SMALLEST, 1 - SMALLEST)
    return np.log(inside) - np.log1p(-inside)


@dataclass(frozen=True)
class Calibration:
    """Knots in log-odds, the most likely weights, and the precision matrix of the weights around them."""

    knots: Floats
    weights: Floats
    precision: Floats

    def probabilities(self, scores: Floats, weights: Floats | None = None) -> Floats:
        """How likely each score comes true; a row for each of `weights`, where they are given."""
        return _logistic((self.weights if weights is None else weights) @ _features(self.knots, scores))

    def draws(self, count: int, random: np.random.Generator) -> Floats:
        """Weights as other labels could have given them."""
        noise = random.standard_normal((self.weights.size, count))
        return self.weights + np.linalg.solve(np.linalg.cholesky(self.precision).T, noise).T


def fit(scores: Floats, rows: Floats, hits: Floats) -> Calibration:
    """Of scores from low to high, each with its rows and those where it came true."""
    count = int(np.clip(rows.sum() // ROWS_A_KNOT, 1, KNOTS))
    shares = (np.arange(count) + 0.5) / count
    knots = np.unique(log_odds(scores)[np.searchsorted(np.cumsum(rows), shares * rows.sum())])
    features = _features(knots, scores)
    prior = np.zeros(len(features))
    prior[1] = 1.0
    certainty = np.diag(1 / np.square([*DEVIATIONS[:2], *[DEVIATIONS[2]] * knots.size]))

    def loss(weights: Floats) -> float:
        odds, apart = weights @ features, weights - prior
        return float((rows * np.logaddexp(0, odds) - hits * odds).sum() + apart @ certainty @ apart / 2)

    weights, precision = prior, certainty
    for _ in range(100):  # Newton's method; the loss is convex
        expected = _logistic(weights @ features)
        precision = (features * (rows * expected * (1 - expected))) @ features.T + certainty
        step = np.linalg.solve(precision, features @ (hits - rows * expected) - certainty @ (weights - prior))
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
    return 1 / (1 + np.exp(-np.clip(odds, -700, 700)))


def count(frame: pl.LazyFrame, columns: Sequence[str], threshold: float) -> dict[str, Cells]:
    """The cells of each column of scores; missing scores are left out, and no cell lies across the threshold."""
    rows, sums = ({name: np.zeros(2 * WIDTH) for name in columns} for _ in range(2))
    for batch in frame.select(columns).collect_batches(chunk_size=BATCH, maintain_order=True):
        for name in columns:
            scores = batch[name].cast(pl.Float64).drop_nulls().to_numpy()
            scores = np.clip(scores[np.isfinite(scores)], 0.0, 1.0)
            numbers = cell_numbers(scores, threshold)
            rows[name] += np.bincount(numbers, minlength=2 * WIDTH)
            sums[name] += np.bincount(numbers, weights=scores, minlength=2 * WIDTH)
    used = {name: np.flatnonzero(rows[name]) for name in columns}
    return {
        name: Cells(sums[name][cells] / rows[name][cells], rows[name][cells], (cells % 2).astype(float))
        for name, cells in used.items()
    }


def cell_numbers(scores: Floats, threshold: float) -> Numbers:
    """The number of each score's cell, in the grid that has all of them."""
    grid = ((log_odds(scores) + REACH) / STEP).astype(np.int64)
    return 2 * grid + (scores >= threshold)


@dataclass(frozen=True)
class Known:
    """What the validation split has taught, by score column: its cells, and how often a score comes true."""

    cells: Counted
    calibrations: Mapping[str, Calibration]
    rows_a_group: float = 1.0

    def hits(self, counted: Counted, weights: Mapping[str, Floats]) -> dict[str, Floats]:
        """Expected hits, a row for each of `weights`."""
        return {
            name: cells.rows * self.calibrations[name].probabilities(cells.scores, weights[name])
            for name, cells in counted.items()
        }


@dataclass(frozen=True)
class Expected:
    """A metric's expected value, with 95 % limits of what the batch's labels would say.

    `drop`: by how much it is worse than the same estimate for the validation split. `doubt`: the share of other
    calibrations, as likely by the validation labels, by which it is no worse.
    """

    estimated: float
    low: float
    high: float
    drop: float
    doubt: float


def expected(task: str, counted: Counted, known: Known) -> dict[str, Expected]:
    """Every metric that can be estimated, by name, for cells of at least one row.

    Each draw makes two kinds of chance anew: which labels this batch will have, and which ones validation had.
    `known.rows_a_group` widens the limits as if each group were one row (the design effect of equal rows). Where a
    label counts in two classes, drawing those apart halves the variance, which is put back.
    """
    random, wider = np.random.default_rng(SEED), np.sqrt(known.rows_a_group)
    weights = {name: np.vstack([one.weights, one.draws(DRAWS, random)]) for name, one in known.calibrations.items()}
    parts: dict[str, list[Floats]] = {name: [] for name in METRICS[task]}
    rows = {name: cells.rows.astype(int) for name, cells in counted.items()}
    for start in range(0, DRAWS + 1, AT_ONCE):
        some = {name: drawn[start : start + AT_ONCE] for name, drawn in weights.items()}
        now, before = known.hits(counted, some), known.hits(known.cells, some)
        labels = {  # classes are drawn one by one
            name: random.binomial(rows[name], np.minimum(hits / rows[name], 1)).astype(float)
            for name, hits in now.items()
        }
        for name, metric in METRICS[task].items():
            values = [metric(counted, labels), metric(counted, now), metric(known.cells, before)]
            parts[name].append(np.stack(values))
    found = {}
    for name, arrays in parts.items():
        drawn, values, reference = np.concatenate(arrays, axis=1)
        apart = np.sqrt(2) if (task, name) in SHARED else 1.0
        limits = np.quantile(drawn[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="weibull")
        low, high = values[0] + apart * wider * (limits - values[0])
        low, high = np.clip([min(low, values[0]), max(high, values[0])], *metrics.values(name, task))
        drops = metrics.lead(name, reference, values)
        doubt = float(np.mean(wider * (drops[1:] - drops[0]) <= -drops[0]))
        found[name] = Expected(float(values[0]), float(low), float(high), float(drops[0]), doubt)
    return found


def p_value(
    wanted: tuple[str, str], known: Known, parts: tuple[Mapping[str, Numbers], Mapping[str, Numbers]], level: float
) -> float:
    """How often chance makes the second of `parts` worse than the first by as much; `wanted` is task and metric.

    A permutation test: the rows of both parts (the numbers of their cells, by score column) are parted anew at random.
    It ends early where the answer is clearly no at `level` (Besag and Clifford, 1991).
    """
    (task, metric), random, (before, now) = wanted, np.random.default_rng(SEED), parts
    pools = {name: _Pool(np.concatenate([before[name], now[name]]), one) for name, one in known.calibrations.items()}

    def drops(members: NDArray[np.bool_]) -> Floats:
        """By how much the members are expected to be worse than the others, for each row of `members`."""
        rows = {
            name: np.array([np.bincount(pool.places, some, pool.rows.size) for some in members])
            for name, pool in pools.items()
        }
        first, second = (
            METRICS[task][metric](
                {name: Cells(pool.scores, side[name], pool.chosen) for name, pool in pools.items()},
                {name: side[name] * pool.probabilities for name, pool in pools.items()},
            )
            for side in ({name: pool.rows - rows[name] for name, pool in pools.items()}, rows)
        )
        return metrics.lead(metric, first, second)

    real = np.arange(len(before[TOP]) + len(now[TOP])) >= len(before[TOP])
    seen, worse, done = drops(real[None])[0], 1, 1
    while worse <= ENOUGH and done < min(ENOUGH / level, PERMUTATIONS):
        worse += int((drops(random.permuted(np.tile(real, (AT_ONCE, 1)), axis=1)) >= seen - TIE).sum())
        done += AT_ONCE
    return worse / done


class _Pool:
    """The place of each row among the cells, and each cell: rows, score in its middle, class, probability."""

    def __init__(self, numbers: Numbers, calibration: Calibration) -> None:
        cells, self.places, rows = np.unique(numbers, return_inverse=True, return_counts=True)
        self.rows, self.chosen = rows.astype(float), (cells % 2).astype(float)
        self.scores = 1 / (1 + np.exp(-np.clip((cells // 2 + 0.5) * STEP - REACH, -REACH, REACH)))
        self.probabilities = calibration.probabilities(self.scores)


def learned(case: UseCase, scored: pl.LazyFrame, evaluation: Mapping[str, Any]) -> Plain:
    """How scores relate to labels on the validation split, and the metrics there; or the `reason` why there is none.

    By score column, `cells` holds scores, rows and chosen as in Cells, and the hits: rows where the score came true;
    `sample` the numbers of single rows' cells, one row a group.
    """
    metric, binary = evaluation.get("metric"), case.data.task == "binary"
    if reason := _obstacle(case, scored, evaluation):
        return {"metric": metric, "reason": reason}
    # each score and the class whose probability it is; "" stands for the predicted one
    several = {TOP: "", **{f"score:{name}": name for name in case.data.classes}}
    columns = {TOP: case.data.classes[-1]} if binary else several
    groups = [raw.GROUP] if raw.GROUP in scored.collect_schema() else []
    needed = ["prediction", LABEL, *columns]
    table = scored.select(*needed, *groups).drop_nulls(needed).collect()
    alone = table.select(*columns, *groups).sample(fraction=1, shuffle=True, seed=SEED)
    alone = alone.unique(groups, keep="first", maintain_order=True) if groups else alone
    if reason := _too_little(case, table, list(columns), alone.height):
        return {"metric": metric, "reason": reason}
    threshold = evaluation["threshold"] if binary else 0.0
    cells = {name: asdict(one) for name, one in count(table.lazy(), list(columns), threshold).items()}
    for name, label in columns.items():
        outcomes = (table[LABEL] == (label or table["prediction"])).to_numpy().astype(float)
        numbers = cell_numbers(table[name].cast(pl.Float64).to_numpy(), threshold)
        cells[name]["hits"] = np.bincount(numbers, weights=outcomes)[np.unique(numbers)]
    return {
        "metric": metric,
        "threshold": threshold,
        "rows": table.height,
        "rows_a_group": table.height / alone.height,
        "reference": {name: evaluation["validation"].get(name) for name in METRICS[case.data.task]},
        "cells": {name: {key: values.tolist() for key, values in one.items()} for name, one in cells.items()},
        "sample": {name: numbers.tolist() for name, numbers in _sample(alone, list(columns), threshold).items()},
    }


def _obstacle(case: UseCase, scored: pl.LazyFrame, evaluation: Mapping[str, Any]) -> str:
    if not case.data.classes:
        return f"a predicted value says nothing of its own chance to be right; {ONLY_LABELS}"
    if LABEL not in scored.collect_schema():
        return f"the evaluation's predictions have no column {LABEL}"
    if lacking := [name for name in ("metric", "validation", "threshold") if name not in evaluation]:
        return f"evaluation.json has no {' and no '.join(lacking)}"
    leak = evaluation.get("leak")
    if not isinstance(leak, Mapping) or leak.get("trusted") is not False:
        return ""
    words = f": {leak['reason'].rstrip('.')}" if isinstance(leak.get("reason"), str) else ""
    return f"to this model the validation rows are no new rows, so they don't show how it scores new ones{words}"


def _too_little(case: UseCase, table: pl.DataFrame, columns: list[str], groups: int) -> str:
    """Why these validation rows say nothing of scores; "" where they do."""
    rows = table.height
    if rows < max(case.drift.minimum_rows, 1):
        return f"{rows:,} labelled validation rows are fewer than [drift] minimum_rows = {case.drift.minimum_rows:,}"
    if not all(table[name].is_between(0, 1).all() for name in columns):
        return "the scores of the validation split are no probabilities from 0 to 1"
    if groups < min(rows, FEWEST_GROUPS):
        return f"the validation rows are of {groups} groups; fewer than {FEWEST_GROUPS} don't show how others differ"
    counts = {label: int((table[LABEL] == label).sum()) for label in case.data.classes}
    rarest = min(counts, key=counts.__getitem__)
    if counts[rarest] < FEWEST and (case.data.task == "binary" or case.gate.metric in EVERY_CLASS):
        return f"{counts[rarest]} validation rows are {rarest!r}; how such rows are scored takes {FEWEST} to learn"
    return ""


def _sample(table: pl.DataFrame, columns: list[str], threshold: float) -> dict[str, Numbers]:
    taken = table[: min(SAMPLE, SCORES // len(columns))]
    return {name: cell_numbers(taken[name].cast(pl.Float64).to_numpy(), threshold) for name in columns}


def estimated(case: UseCase, baseline: Mapping[str, Any], scored: pl.LazyFrame) -> Plain:
    """The `performance` of drift.json, for the rows that were scored.

    estimated, low, high: the gate's metric with 95 % limits, null with a `reason` where there is none. reference: its
    value on the labelled validation split. drop: by how much the estimate is worse than the same estimate for that
    split, limit: [drift] performance_drop, p_value: how often chance alone gives such a drop, null below the limit.
    metrics: the same but for p_value and alarm, for every metric that can be estimated.
    """
    known: Mapping[str, Any] = baseline.get("performance", {})
    metric, limit = known.get("metric"), case.drift.performance_drop
    report: Plain = {"metric": metric, "method": METHOD, "limit": limit}
    report |= dict.fromkeys(("estimated", "low", "high", "reference", "drop", "p_value")) | {"alarm": False}
    if "cells" not in known:
        reason = known.get("reason", "the baseline has not learned it; train again")
        return {**report, "reason": reason, "metrics": {}}
    counted = count(scored, list(known["cells"]), known["threshold"])
    rows = int(counted[TOP].rows.sum())
    if rows < max(case.drift.minimum_rows, 1):
        reason = f"{rows:,} scored rows are fewer than [drift] minimum_rows = {case.drift.minimum_rows:,}"
        return {**report, "reason": reason, "metrics": {}}
    validation = reference(known)
    found = expected(case.data.task, counted, validation)
    plain = {
        name: {"estimated": one.estimated, "low": one.low, "high": one.high}
        | {"reference": known["reference"].get(name), "drop": one.drop}
        for name, one in found.items()
    }
    if metric not in found:
        reason = f"{metric} can't be expected from scores alone; {', '.join(found)} can"
        return {**report, "reason": reason, "metrics": plain}
    report |= plain[metric]
    if found[metric].drop > limit:
        parts = (known["sample"], sample_of_batch(known, scored, rows))
        random = p_value((case.data.task, metric), validation, parts, case.drift.significance)
        report["p_value"] = min(1.0, 2 * max(random, found[metric].doubt))  # two-sided
        report["alarm"] = report["p_value"] < case.drift.significance
    return {**report, "reason": None, "metrics": plain}


def reference(learned: Mapping[str, Any]) -> Known:
    """What the baseline holds, as arrays, and the calibration that follows from it."""
    found = {name: {key: np.asarray(one[key], float) for key in one} for name, one in learned["cells"].items()}
    return Known(
        {name: Cells(one["scores"], one["rows"], one["chosen"]) for name, one in found.items()},
        {name: fit(one["scores"], one["rows"], one["hits"]) for name, one in found.items()},
        learned["rows_a_group"],
    )


def sample_of_batch(known: Mapping[str, Any], scored: pl.LazyFrame, rows: int) -> dict[str, Numbers]:
    """Every so many of a batch's rows, at most as many as there would be groups of them."""
    columns = list(known["cells"])
    most = min(SAMPLE, SCORES // len(columns), rows / known["rows_a_group"])
    usable = scored.select(columns).filter(pl.all_horizontal(pl.col(columns).is_finite()))
    table = usable.gather_every(int(np.ceil(rows / most))).collect(engine="streaming")
    return _sample(table, columns, known["threshold"])
