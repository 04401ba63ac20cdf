"""★ How often a score comes true: learned where labels are known, applied where they are not.

A logistic regression of the event on the score's log-odds, with a correction at up to 15 knots (quantiles of the
validation scores, hat functions between them, constant beyond). Its prior says that a score is the chance that it
claims to be: intercept 0, slope 1, no correction, each give or take a standard deviation. So few labels change scores
little, many labels change them as they must, and what no label has shown stays wide: the posterior (Laplace's
approximation) is what the limits of an expected metric are drawn from.

Log-odds and not bins of the score: with bins, every row of the outer ones gets about the same chance, and a log loss of
0.001 lies in how the chances differ there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
