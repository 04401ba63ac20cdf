"""★ The model: how it is fitted, how it predicts, and how it is kept. Another library is another file with this shape.

Logistic regression, of several classes multinomial, and ridge regression for numbers (scikit-learn). A number is scaled
and, where it is missing, its mean and a mark that it was; a category is one column each. Fitted, it is a table of
weights. See batchloop/container/protocols.py.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge

from batchloop.container.protocols import Feature, Matrix, Predicted, Problem, Table

FILE = "model.json"
HARDLY = 1e-3  # the weight of a row that stands for a class without one
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """One feature: its columns, the outputs' weights of them, and the columns' means in training.

    A category has a column each (0 or 1; all 0 where it is missing), anything else a scaled value and whether it is
    missing.
    """

    name: str
    categories: list[str]
    mean: float
    scale: float
    columns: list[float]  # each column's mean in training
    weights: list[list[float]]  # columns × outputs

    def contribution(self, values: Matrix) -> Values:
        """Rows × outputs: weight × deviation from the training mean."""
        weights, missing = np.array(self.weights), np.isnan(values)
        usual: Values = np.array(self.columns) @ weights
        if self.categories:
            absent = np.zeros((1, weights.shape[1]))
            found: Values = np.vstack([weights, absent])[np.where(missing, len(weights), values).astype(int)]
        else:
            found = np.column_stack([_scaled(values, self.mean, self.scale), missing]) @ weights
        return found - usual


@dataclass(frozen=True)
class Linear:
    """The raw scores of a row (log-odds, or a value): `base` + what each feature contributes."""

    task: str
    base: list[float]
    terms: list[Term]

    def contributions(self, features: Matrix) -> Iterator[Values]:
        """Of each feature, rows × outputs."""
        return (term.contribution(features[:, place]) for place, term in enumerate(self.terms))

    def raw(self, features: Matrix) -> Values:
        """Rows × outputs."""
        return np.array(self.base) + sum(self.contributions(features))


def fit(train: Table, validation: Table, hyperparameters: Mapping[str, Any], problem: Problem) -> Linear:
    """Learn the weights. Nothing is stopped early, so `validation` is not looked at."""
    del validation
    kinds = problem.features or tuple({"name": f"f{n}", "kind": "number"} for n in range(train.features.shape[1]))
    terms = [_described(column, feature) for column, feature in zip(train.features.T, kinds, strict=True)]
    features, labels, weights = _every_class(train, problem)
    columns = sparse.hstack([_columns(features[:, place], term) for place, term in enumerate(terms)], format="csr")
    estimator = _estimator(hyperparameters, problem).fit(columns, labels, sample_weight=weights)
    learned = np.atleast_2d(estimator.coef_).T  # columns × outputs
    return _assembled(problem.task, terms, learned, np.atleast_1d(estimator.intercept_))


def _described(column: Matrix, feature: Feature) -> Term:
    """What is known of a feature before its weights are."""
    present = column[~np.isnan(column)].astype(np.float64)
    if categories := list(feature.get("categories", ())):
        counts = np.bincount(present.astype(int), minlength=len(categories))
        return Term(feature["name"], categories, 0.0, 1.0, (counts / len(column)).tolist(), [])
    mean, scale = (float(present.mean()), float(present.std()) or 1.0) if present.size else (0.0, 1.0)
    return Term(feature["name"], [], mean, scale, [0.0, 1 - present.size / len(column)], [])


def _columns(values: Matrix, term: Term) -> Any:
    """A feature's columns, sparse."""
    if not term.categories:
        scaled = _scaled(values, term.mean, term.scale)
        return sparse.csr_array(np.column_stack([scaled, np.isnan(values)]))
    rows = np.flatnonzero(~np.isnan(values))
    ones = (np.ones(len(rows)), (rows, values[rows].astype(int)))
    return sparse.csr_array(ones, shape=(len(values), len(term.categories)))


def _scaled(values: Matrix, mean: float, scale: float) -> Values:
    """In standard deviations from the mean; 0 where it is missing."""
    return np.nan_to_num((values.astype(np.float64) - mean) / scale)


def _every_class(train: Table, problem: Problem) -> tuple[Matrix, Any, Any]:
    """Features, labels and weights; a class that training lacks has an empty row, so that it gets its probability."""
    lacking = np.setdiff1d(np.arange(len(problem.classes)), train.labels)
    empty = np.full((len(lacking), train.features.shape[1]), np.nan, dtype=np.float32)
    weights = np.repeat([1.0, HARDLY], [len(train.labels), len(lacking)])
    return np.vstack([train.features, empty]), np.append(train.labels, lacking), weights


def _estimator(hyperparameters: Mapping[str, Any], problem: Problem) -> Any:
    """Both take the same hyperparameters: ridge's alpha is 1 / C."""
    if problem.classes:
        return LogisticRegression(**hyperparameters)
    others = {name: value for name, value in hyperparameters.items() if name != "C"}
    return Ridge(alpha=1 / hyperparameters.get("C", 1.0), **others)


def _assembled(task: str, terms: list[Term], learned: Values, intercept: Values) -> Linear:
    """The terms with their weights."""
    parts = np.split(learned, np.cumsum([len(term.columns) for term in terms])[:-1])
    whole = [Term(**{**asdict(term), "weights": part.tolist()}) for term, part in zip(terms, parts, strict=True)]
    means = np.concatenate([term.columns for term in terms])
    return Linear(task, (intercept + means @ learned).tolist(), whole)


def predict(model: Linear, features: Matrix, threads: int = 0) -> Predicted:
    """Probabilities (of the positive class, or rows × classes), or a regression's values."""
    del threads  # a sum needs one
    raw = model.raw(features)
    if model.task == "multiclass":
        return np.asarray(softmax(raw, axis=1), dtype=np.float64)
    return np.asarray(expit(raw[:, 0]) if model.task == "binary" else raw[:, 0], dtype=np.float64)


def save(model: Linear, folder: Path) -> None:
    """Write model.json."""
    (folder / FILE).write_text(json.dumps(asdict(model), indent=1), encoding="utf-8")


def load(folder: Path) -> Linear:
    """The weights in model.json."""
    found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return Linear(found["task"], found["base"], [Term(**term) for term in found["terms"]])
