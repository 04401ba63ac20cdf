"""★ The model: how it is fitted, how it predicts, and how it is kept. Another library is another file with this shape.

Gradient boosted trees by histograms (scikit-learn). See batchloop/container/protocols.py.
"""

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from skops import io
from threadpoolctl import threadpool_limits

from batchloop.container import models
from batchloop.container.protocols import Matrix, Predicted, Problem, Table

Estimator = Any  # HistGradientBoostingClassifier or HistGradientBoostingRegressor
FILE = "model.skops"
# beyond what skops trusts by itself; what a `partial` holds is looked at too
TRUSTED = [
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
]
FEW = 10  # rows on which hyperparameters are tried: so few are never split, and that ends early
HARDLY = 1e-3  # the weight of a row that stands for a class without one


def fit(train: Table, validation: Table, hyperparameters: Mapping[str, Any], problem: Problem) -> Estimator:
    """Boost until the validation loss stops improving for `n_iter_no_change` rounds, or until `max_iter`."""
    features, labels, weights = _every_class(train, problem)
    kind = HistGradientBoostingClassifier if problem.classes else HistGradientBoostingRegressor
    estimator = kind(**hyperparameters, early_stopping=True, categorical_features=_categories(hyperparameters, problem))
    with threadpool_limits(problem.threads, user_api="openmp"):
        return estimator.fit(features, labels, weights, X_val=validation.features, y_val=validation.labels)


def _categories(hyperparameters: Mapping[str, Any], problem: Problem) -> list[int]:
    """The columns of categories; those of more than there are bins are taken as numbers."""
    bins = hyperparameters.get("max_bins", 255)
    return [place for place, each in enumerate(problem.features) if 0 < len(each.get("categories", ())) <= bins]


def _every_class(train: Table, problem: Problem) -> tuple[Matrix, Any, Any]:
    """Features, labels and weights; a class that training lacks has an empty row, so that it gets its probability."""
    lacking = np.setdiff1d(np.arange(len(problem.classes)), train.labels)
    if not lacking.size:
        return train.features, train.labels, None
    empty = np.full((len(lacking), train.features.shape[1]), np.nan, dtype=np.float32)
    weights = np.repeat([1.0, HARDLY], [len(train.labels), len(lacking)])
    return np.vstack([train.features, empty]), np.append(train.labels, lacking), weights


def predict(model: Estimator, features: Matrix, threads: int = 0) -> Predicted:
    """Probabilities (of the positive class, or rows × classes), or a regression's values."""
    with threadpool_limits(threads or None, user_api="openmp"):
        if isinstance(model, HistGradientBoostingRegressor):
            return np.asarray(model.predict(features), dtype=np.float64)
        found: Predicted = model.predict_proba(features)
    return found[:, 1] if found.shape[1] == 2 else found


def save(model: Estimator, folder: Path) -> None:
    """Write model.skops: a description of the object, which runs nothing when it is read.

    skops names its parts by their addresses in memory and the time of day; here they are counted, so that the same
    model is the same bytes.
    """
    with ZipFile(BytesIO(io.dumps(model))) as described, ZipFile(folder / FILE, "w") as target:
        schema = described.read("schema.json").decode()
        parts = re.findall(r'"__id__": (\d+)|"(\d+)\.npy"', schema)
        numbers = {old: str(n) for n, old in enumerate(dict.fromkeys(one or other for one, other in parts))}
        renamed = re.sub(r'(?<="__id__": )\d+|(?<=")\d+(?=\.npy")', lambda found: numbers[found[0]], schema)
        target.writestr(ZipInfo("schema.json"), renamed)
        for name in described.namelist():
            if name != "schema.json":
                old, dot, kind = name.partition(".")
                target.writestr(ZipInfo(f"{numbers[old]}{dot}{kind}"), described.read(name))


def load(folder: Path) -> Estimator:
    """The estimator in model.skops. Raises for a file that names any other type than those of this estimator."""
    found: Estimator = io.load(folder / FILE, trusted=TRUSTED)
    return found


def describe(model: Estimator) -> dict[str, Any]:
    """How many rounds of trees it has."""
    return {"best_iteration": model.n_iter_}


def check(hyperparameters: Mapping[str, Any], problem: Problem) -> Iterator[tuple[str, str]]:
    """A name and the reason why its value can't be used; "" for values that don't go together."""
    rows = models.example(problem)
    few = Table(rows.features[:FEW], rows.labels[:FEW])

    def refusal(**values: Any) -> str:
        try:
            fit(few, few, values, problem)
        except (TypeError, ValueError) as error:
            return str(error).partition("__init__() ")[2] or str(error)
        return ""

    if refused := refusal(**hyperparameters):
        alone = {name: refusal(**{name: value}) for name, value in hyperparameters.items()}
        yield from ((name, reason.rstrip(".")) for name, reason in alone.items() if reason)
        yield "", refused.rstrip(".")
