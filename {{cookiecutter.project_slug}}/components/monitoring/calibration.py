"""★ How often a score comes true: learned where labels are known, applied where they are not.

A score's range is cut into at most 15 bins with about as many validation rows each. What the baseline keeps of a bin is
its mean score, its mean in log-odds, its rows, and its hits: the rows where the score's event happened. Between bins
the chance is interpolated in log-odds, beyond them it goes on with the mean slope, and it never falls while the score
rises. The mean score joins each bin as one more row, so that no chance is 0 or 1 only because a bin is small.

Bins and not isotonic regression, which fits single rows: over 60 trainings on the sample (3,000 validation rows) the
root mean square error of the estimated AUC of a batch that had drifted by 0.6 was 0.0084 with bins and 0.0106 with
isotonic regression. Logistic (Platt) calibration gave 0.0094 there, and does not follow a score that is distorted in
another way than it can bend: bent by a sine, a batch without drift gave 0.018, and 0.009 with bins.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bins = Mapping[str, list[float]]  # score, log_odds, rows and hits, from the lowest score to the highest
BINS, ROWS_A_BIN = 15, 50
REACH = 36.1  # in log-odds: no probability in double precision lies further out
SMALLEST = float(np.finfo(np.float64).eps)  # a probability of 0 has no log-odds


def log_odds(scores: Floats) -> Floats:
    """ln(s / (1 − s)), finite for 0 and 1 too."""
    inside = np.clip(scores, SMALLEST, 1 - SMALLEST)
    odds: Floats = np.log(inside) - np.log1p(-inside)
    return odds


def learn(scores: Floats, happened: NDArray[np.bool_]) -> dict[str, list[float]]:
    """The bins of at least one row with a score from 0 to 1; equal scores share a bin."""
    count = int(np.clip(scores.size // ROWS_A_BIN, 1, BINS))
    edges = np.unique(np.quantile(scores, np.arange(1, count) / count, method="lower"))
    places = np.searchsorted(edges, scores, side="left")
    rows = np.bincount(places)
    used = rows > 0
    summed = {"score": scores, "log_odds": log_odds(scores), "hits": happened.astype(float)}
    sums = {name: np.bincount(places, weights=values)[used] for name, values in summed.items()}
    means = {name: (sums[name] / rows[used]).tolist() for name in ("score", "log_odds")}
    return {**means, "rows": rows[used].tolist(), "hits": sums["hits"].astype(int).tolist()}


def chances(bins: Bins, scores: Floats, hits: Floats | None = None) -> Floats:
    """The chance that each score's event happens; `hits` stand in for the bins' own."""
    means, odds, rows = (np.asarray(bins[name], float) for name in ("score", "log_odds", "rows"))
    found = np.asarray(bins["hits"], float) if hits is None else hits
    known = _with_ends(odds, log_odds(pooled((found + means) / (rows + 1), rows)))
    chance: Floats = 1 / (1 + np.exp(-np.interp(log_odds(scores), *known)))
    return chance


def _with_ends(odds: Floats, calibrated: Floats) -> tuple[Floats, Floats]:
    """The line through the bins, drawn on as steeply as it is on the whole: the outer bins reach beyond their means."""
    slope = (calibrated[-1] - calibrated[0]) / (odds[-1] - odds[0]) if odds.size > 1 else 0.0
    low, high = calibrated[0] - slope * (odds[0] + REACH), calibrated[-1] + slope * (REACH - odds[-1])
    return np.array([-REACH, *odds, REACH]), np.array([low, *calibrated, high])


def redrawn(bins: Bins, random: np.random.Generator) -> Floats:
    """Hits as another validation split of this size could have had them: how uncertain the calibration is."""
    means, rows, hits = (np.asarray(bins[name], float) for name in ("score", "rows", "hits"))
    drawn: Floats = random.binomial(rows.astype(int), (hits + means) / (rows + 1)).astype(float)
    return drawn


def pooled(rates: Floats, rows: Floats) -> Floats:
    """The closest rates that never fall: neighbours that do are averaged (pool adjacent violators, 1955)."""
    blocks: list[tuple[float, float, int]] = []  # rate, rows, bins
    for rate, weight in zip(rates.tolist(), rows.tolist(), strict=True):
        block = (rate, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            before = blocks.pop()
            weights = before[1] + block[1]
            block = ((before[0] * before[1] + block[0] * block[1]) / weights, weights, before[2] + block[2])
        blocks.append(block)
    return np.repeat([rate for rate, _, _ in blocks], [count for _, _, count in blocks])
