"""★ How much each feature moved a row's raw score away from the base value.

The method is path-dependent TreeSHAP (Lundberg et al., "From local explanations to global understanding with
explainable AI for trees", 2020), as LightGBM computes it. Attributions and base value add up to the raw score (log-odds
for classes, the label's unit for regression). What a function takes and gives is said in
batchloop/container/protocols.py.
"""

from collections.abc import Mapping
from typing import Any

import lightgbm as lgb
import numpy as np

from batchloop.container.protocols import Attributions, Matrix

METHOD = "path-dependent TreeSHAP (LightGBM pred_contrib)"
UNIT = "log-odds"  # of the raw score of classes; a regression's is the label's
TOLERANCE = 1e-9  # of the sum, relative to the raw score where that is larger than 1


def fit(model: lgb.Booster, features: Matrix) -> dict[str, Any]:
    """Nothing: a tree's own counts of rows say what is usual."""
    del model, features
    return {}


def explain(model: lgb.Booster, learned: Mapping[str, Any], features: Matrix) -> Attributions:
    """Exact attributions of every row."""
    del learned
    outputs = max(1, model.num_model_per_iteration())
    flat = np.asarray(model.predict(features, pred_contrib=True), dtype=np.float64)
    blocks = flat.reshape(len(features), outputs, -1)
    raw = np.asarray(model.predict(features, raw_score=True), dtype=np.float64).reshape(len(features), outputs)
    return Attributions(blocks[:, :, :-1], blocks[:, :, -1], raw)
