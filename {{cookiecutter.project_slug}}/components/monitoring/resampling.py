"""How sure a metric of labelled rows is: all metrics of a task on resamples of the rows, or of whole groups of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime import measures
from runtime.measures import Floats

RESAMPLES, LEVEL, SEED = 200, 0.95, 7
ROWS = 10_000  # of a resample at most: a metric of a million rows takes a second
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """Labelled rows: class positions or values, what the model predicted for them, and the group of each, if any.

    From `threshold` on a binary task's positive class is predicted.
    """

    task: str
    labels: Floats
    predicted: Floats
    threshold: float = 0.5
    groups: Places | None = None

    def measured(self, rows: Places | slice = slice(None)) -> dict[str, float]:
        """All metrics of the task on some of the rows; NaN where the labels don't allow one."""
        return measures.measure(self.task, self.labels[rows], self.predicted[rows], self.threshold)


@dataclass(frozen=True)
class Spread:
    """A metric's value, its 95 % limits and its standard error."""

    value: float
    low: float
    high: float
    error: float


def spreads(judged: Judged) -> dict[str, Spread]:
    """Every metric that these rows allow, by name, from a bootstrap of rows, or of groups where there are any.

    Resamples of many rows are smaller than the table, and their spread is scaled to its size (the m out of n bootstrap;
    Bickel, Götze and van Zwet, 1997). A metric that half of the resamples don't allow is left out.
    """
    whole = judged.measured()
    scale, drawn = _resampled(judged)
    draws = [judged.measured(rows) for rows in drawn]
    found = {}
    for name, value in whole.items():
        each = np.array([draw[name] for draw in draws])
        known = each[np.isfinite(each)]
        if np.isfinite(value) and known.size >= RESAMPLES / 2:
            low, high = value + scale * (np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - value)
            found[name] = Spread(value, float(low), float(high), float(scale * known.std()))
    return found


def _resampled(judged: Judged) -> tuple[float, Iterator[Places]]:
    """The rows of each resample, and by how much wider their spread is than the table's."""
    random, rows = np.random.default_rng(SEED), judged.labels.size
    if judged.groups is None:
        size = min(rows, ROWS)
        return float(np.sqrt(size / rows)), (random.integers(0, rows, size) for _ in range(RESAMPLES))
    order = np.argsort(judged.groups, kind="stable")
    _, first, lengths = np.unique(judged.groups[order], return_index=True, return_counts=True)
    size = max(1, min(first.size, round(ROWS * first.size / rows)))

    def drawn() -> Places:
        chosen = random.integers(0, first.size, size)
        ends = np.cumsum(lengths[chosen])
        places = np.arange(ends[-1]) + np.repeat(first[chosen] - (ends - lengths[chosen]), lengths[chosen])
        return np.asarray(order[places], np.int64)

    return float(np.sqrt(size / first.size)), (drawn() for _ in range(RESAMPLES))
