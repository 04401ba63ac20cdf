"""★ How much each feature moved a row's raw score away from the base value.

The model is linear, so the attribution is exact: weight × deviation from the feature's mean in training, a category's
columns added up. The base value is the score of the mean. What a function takes and gives is said in
batchloop/container/protocols.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from batchloop.container.protocols import Attributions, Matrix

METHOD = "weight × deviation from the training mean (exact for a linear model)"
UNIT = "log-odds"  # of the raw score of classes; a regression's is the label's
TOLERANCE = 1e-9  # of the sum, relative to the raw score where that is larger than 1


def fit(model: Any, features: Matrix) -> dict[str, Any]:
    """Nothing: the model knows the means it was trained on."""
    del model, features
    return {}


def explain(model: Any, learned: Mapping[str, Any], features: Matrix) -> Attributions:
    """Exact attributions of every row; `model` is a Linear of model.py."""
    del learned
    values = np.stack(list(model.contributions(features)), axis=2)
    return Attributions(values, np.tile(model.base, (len(features), 1)), model.raw(features))
