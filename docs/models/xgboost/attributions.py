"""★ How much each feature moved a row's raw score away from the base value.

The method is path-dependent TreeSHAP (Lundberg et al., "From local explanations to global understanding with
explainable AI for trees", 2020), as XGBoost computes it, in single precision. What a function takes and gives is said
in batchloop/container/protocols.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost as xgb

from batchloop.container.protocols import Attributions, Matrix

METHOD = "path-dependent TreeSHAP (XGBoost pred_contribs)"
UNIT = "log-odds"  # of the raw score of classes; a regression's is the label's
TOLERANCE = 1e-4  # of the sum, relative to the raw score where that is larger than 1: single precision


def fit(model: xgb.Booster, features: Matrix) -> dict[str, Any]:
    """Nothing: a tree's own weights of rows say what is usual."""
    del model, features
    return {}


def explain(model: xgb.Booster, learned: Mapping[str, Any], features: Matrix) -> Attributions:
    """Exact attributions of every row."""
    del learned
    rows = xgb.DMatrix(features, feature_types=model.feature_types, enable_categorical=True)
    contributions = np.asarray(model.predict(rows, pred_contribs=True), dtype=np.float64)
    blocks = contributions.reshape(len(features), -1, features.shape[1] + 1)
    raw = np.asarray(model.predict(rows, output_margin=True), dtype=np.float64).reshape(len(features), -1)
    return Attributions(blocks[:, :, :-1], blocks[:, :, -1], raw)
