"""★ How much each feature moved a row's raw score away from the base value.

The method is path-dependent TreeSHAP (Lundberg et al., "From local explanations to global understanding with
explainable AI for trees", 2020), as LightGBM computes it, and of the model's line what each value adds. Attributions
and base value add up to the raw score: by how much the forecast differs from its series' level at the origin, as a
share of the series' size. What the model does not look at has no attribution. What a function takes and gives is said
in batchloop/container/protocols.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from batchloop.container.protocols import Attributions, Matrix

METHOD = "path-dependent TreeSHAP (LightGBM pred_contrib) of the trees, and the terms of the line"
UNIT = "share of the series' size"  # above or below its level at the origin
TOLERANCE = 1e-9  # of the sum, relative to the raw score where that is larger than 1


def fit(model: Any, features: Matrix) -> dict[str, Any]:
    """Nothing: a tree's own counts of rows say what is usual."""
    del model, features
    return {}


def explain(model: Any, learned: Mapping[str, Any], features: Matrix) -> Attributions:
    """Exact attributions of every row."""
    del learned
    seen = model.matrix(features)
    flat = np.asarray(model.booster.predict(seen, pred_contrib=True), dtype=np.float64)
    values = np.zeros((len(features), 1, features.shape[1]))
    values[:, 0, model.seen] = flat[:, :-1]
    naive, _, _, *past = model.steps(features)
    constant, *weights = model.weights  # of the level, which is 0 relative to itself, and of the past
    values[:, 0, model.line] += (np.reshape(past, (-1, len(features))) + naive).T * weights[1:]
    values[:, 0, model.scale[-1]] += naive * (1 - sum(weights))
    raw = np.asarray(model.booster.predict(seen, raw_score=True), dtype=np.float64) + model.straight(features)
    return Attributions(values, flat[:, -1:] + constant, raw.reshape(-1, 1))
