"""Scores as counts over a fine fixed grid of log-odds, in one streaming pass: all that a metric needs of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitoring.calibration import REACH, Floats, log_odds

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
