"""★ How much each feature moved a row's raw score away from the base value.

The method is Shapley values by sampled permutations (Štrumbelj and Kononenko, "Explaining prediction models and
individual predictions with feature contributions", 2014), each walked forwards and backwards. It asks the model for
scores and for nothing else, so it explains any. See batchloop/container/protocols.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from batchloop.container.protocols import Attributions, Matrix

METHOD = "Shapley values by sampled permutations, against rows of the validation split"
UNIT = "log-odds"  # of the raw score of classes; a regression's is the label's
TOLERANCE = 1e-9  # of the sum, relative to the raw score where that is larger than 1
BACKGROUND = 64  # rows; each is the start of one permutation's walk. Four times as many halve the error
SEED = 7
AT_ONCE = 4_000_000  # values in the rows that are scored at once
Estimator = Any  # HistGradientBoostingClassifier or HistGradientBoostingRegressor
Scores = NDArray[np.float64]


def fit(model: Estimator, features: Matrix) -> dict[str, Any]:
    """The background: rows that stand for what is usual. None is a missing value."""
    del model
    chosen = np.random.default_rng(SEED).permutation(len(features))[:BACKGROUND]
    rows = [[None if np.isnan(value) else float(value) for value in row] for row in features[chosen]]
    return {"background": rows}


def explain(model: Estimator, learned: Mapping[str, Any], features: Matrix) -> Attributions:
    """Estimates for every row, whose sum is exact. The same row gets the same ones in any batch."""
    background = np.array(learned["background"], dtype=np.float32)
    width = features.shape[1]
    random = np.random.default_rng(SEED)
    orders = [random.permutation(width) for _ in background]
    rows = max(1, AT_ONCE // ((width + 1) * width))
    blocks = [features[start : start + rows] for start in range(0, len(features), rows)]
    found = [_moments(np.array(list(_walks(model, background, orders, block)))) for block in blocks]
    base = raw_scores(model, background).mean(axis=0)
    return Attributions(
        values=np.concatenate([mean for mean, _ in found]),
        base=np.tile(base, (len(features), 1)),
        raw=raw_scores(model, features),
        sampling_error=max(float(error.max(initial=0.0)) for _, error in found),
    )


def _walks(model: Estimator, background: Matrix, orders: list[Any], rows: Matrix) -> Iterator[Scores]:
    """For each background row, rows × outputs × features: what a step from there to each row changed, both ways."""
    for start, order in zip(background, orders, strict=True):
        yield (_walk(model, start, order, rows) + _walk(model, start, order[::-1], rows)) / 2


def _walk(model: Estimator, start: Matrix, order: Any, rows: Matrix) -> Scores:
    """Rows × outputs × features: what the score gains where each feature, in this order, takes on the row's value."""
    steps = np.tile(start, (len(order) + 1, len(rows), 1))
    for step, feature in enumerate(order, start=1):
        steps[step:, :, feature] = rows[:, feature]
    scores = raw_scores(model, steps.reshape(-1, rows.shape[1])).reshape(len(order) + 1, len(rows), -1)
    gains = np.empty((len(rows), scores.shape[2], len(order)))
    gains[:, :, order] = np.diff(scores, axis=0).transpose(1, 2, 0)
    return gains


def _moments(walks: Scores) -> tuple[Scores, Scores]:
    """The mean over the walks, and its standard error."""
    return walks.mean(axis=0), walks.std(axis=0, ddof=min(1, len(walks) - 1)) / np.sqrt(len(walks))


def raw_scores(model: Estimator, features: Matrix) -> Scores:
    """Rows × outputs: log-odds, or a regression's values."""
    classes = isinstance(model, HistGradientBoostingClassifier)
    scores = model.decision_function(features) if classes else model.predict(features)
    return np.asarray(scores, dtype=np.float64).reshape(len(features), -1)
