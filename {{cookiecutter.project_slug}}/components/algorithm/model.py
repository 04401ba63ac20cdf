"""★ The model: how it is fitted, how it predicts, and the two files it is kept in.

Gradient boosted trees (LightGBM). A matrix is float32, one row an example, one column a feature; a category is the
position of its name in the feature's `categories`, and NaN is a missing value.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
from lightgbm.basic import LightGBMError
from numpy.typing import NDArray

from algorithm.stopping import Best, Stopping, Watch
from runtime import artifacts
from runtime.failures import InputError

Matrix = NDArray[np.float32]
Predicted = NDArray[np.float64]
Feature = Mapping[str, Any]
OBJECTIVES = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}
LOSSES = {"binary": "binary_logloss", "multiclass": "multi_logloss", "regression": "l2"}
OURS = {
    "num_iterations": 100,
    "early_stopping_rounds": 0,
    "native_categories": False,
}  # not LightGBM's: `fit` reads them
REFUSED, REMEDY = "LightGBM refuses the hyperparameters: ", "; mend it in [hyperparameters]."
TEXT, METADATA = "model.txt", "metadata.json"


@dataclass(frozen=True)
class Model:
    """A fitted booster; `metadata` says what it predicts (task, classes, threshold) and from which features."""

    booster: lgb.Booster
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Examples: features (rows × features) and labels (rows; a class is its position in `classes`)."""

    features: Matrix
    labels: NDArray[np.float64]


NOTHING_YET = Best()


@dataclass(frozen=True)
class Problem:
    """What there is to learn, and with how many threads; `start` is a booster to go on from."""

    task: str
    classes: int
    categories: tuple[int, ...]  # positions of the category features
    threads: int
    start: lgb.Booster | None = None
    best: Best = NOTHING_YET


def fit(
    train: Table, validation: Table, hyperparameters: Mapping[str, Any], problem: Problem, watch: Watch | None = None
) -> tuple[lgb.Booster, Best]:
    """Boost until validation stops improving; the answer's best iteration says how many rounds of trees to use.

    The same data, hyperparameters and threads give the same booster. `watch` is called after every round with the
    booster, the rounds so far and the best of them. Raises InputError for a hyperparameter LightGBM refuses.
    """
    parameters, own = to_lightgbm(hyperparameters, problem), {**OURS, **hyperparameters}
    native = list(problem.categories) if own["native_categories"] else []
    names = [f"f{position}" for position in range(train.features.shape[1])]
    stop = Stopping(int(own["early_stopping_rounds"]), problem.best, watch)
    try:
        learned = lgb.Dataset(train.features, train.labels, feature_name=names, categorical_feature=native)
        booster = lgb.train(
            parameters,
            learned,
            num_boost_round=int(own["num_iterations"]),
            valid_sets=[lgb.Dataset(validation.features, validation.labels, reference=learned)],
            valid_names=["validation"],
            init_model=problem.start,
            callbacks=[stop],
        )
    except LightGBMError as error:
        raise _refused(str(error)) from None
    return booster, stop.best


def _refused(text: str) -> InputError:
    """LightGBM's complaint without the place in its source."""
    failed, words = text.startswith("Check failed: "), text.removeprefix("Check failed: ").partition(" at /")[0]
    reason = " ".join(words.split()) + (" does not hold" if failed else "")
    return InputError(f"{REFUSED}{reason}{REMEDY}")


def to_lightgbm(hyperparameters: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    """LightGBM's own parameters: the hyperparameters, and what makes a run repeatable."""
    task = problem.task
    fixed = {
        "objective": OBJECTIVES[task],
        "metric": LOSSES[task],
        "num_threads": problem.threads,
        "verbosity": -1,
        "deterministic": True,
        "force_row_wise": True,
        "feature_pre_filter": False,
    }
    several = {"num_class": problem.classes} if task == "multiclass" else {}
    return fixed | several | {key: value for key, value in hyperparameters.items() if key not in OURS}


def matrix(frame: pl.DataFrame, features: Sequence[Feature]) -> Matrix:
    """The features of a frame (numeric columns, and Enum or text columns for categories) in the model's order."""
    return fill(np.empty((frame.height, len(features)), dtype=np.float32), frame, features)


def fill(target: Matrix, frame: pl.DataFrame, features: Sequence[Feature]) -> Matrix:
    """Write the frame's features into `target`, rows × features, one column at a time; the answer is `target`."""
    for position, feature in enumerate(features):
        column = frame[feature["name"]]
        if feature["kind"] == "category":
            column = column.cast(pl.Enum(feature["categories"]), strict=False).to_physical()
        target[:, position] = column.cast(pl.Float32).to_numpy()
    return target


def predict(model: Model, features: Matrix, threads: int = 0) -> Predicted:
    """Binary: the positive class's probability a row; multiclass: rows × classes; regression: the value a row.

    `threads` = 0 uses all cores.
    """
    return np.asarray(model.booster.predict(features, num_threads=threads), dtype=np.float64)


def raw_score(model: Model, features: Matrix, threads: int = 0) -> Predicted:
    """The sum of the trees before the link function (log-odds for classes), shaped as `predict`'s answer."""
    return np.asarray(model.booster.predict(features, num_threads=threads, raw_score=True), dtype=np.float64)


def save(model: Model, folder: Path) -> None:
    """Write model.txt (LightGBM's text format) and metadata.json."""
    text: str = model.booster.model_to_string(num_iteration=model.metadata["best_iteration"])
    (folder / TEXT).write_text(text, encoding="utf-8")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    artifacts.write_json(folder / METADATA, {**model.metadata, "sha256": checksum})


def load(folder: Path) -> Model:
    """The model in a folder. Raises InputError where a file is missing, damaged, or not of the same model."""
    metadata: dict[str, Any] = artifacts.read_json(folder / METADATA)
    try:
        text = (folder / TEXT).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{TEXT} is missing from {folder.name}/; was the model uploaded whole?") from None
    # LightGBM reads a damaged text without complaint more often than not.
    if not isinstance(metadata, dict) or hashlib.sha256(text).hexdigest() != metadata.get("sha256"):
        raise InputError(f"{TEXT} and {METADATA} in {folder.name}/ are not of the same model; restore both.")
    try:
        booster = lgb.Booster(model_str=text.decode("utf-8"))
    except (LightGBMError, UnicodeDecodeError) as error:
        raise InputError(f"{TEXT} in {folder.name}/ is not a LightGBM model: {error}.") from None
    if booster.num_feature() != len(metadata["features"]):
        raise InputError(
            f"{TEXT} has {booster.num_feature()} features, {METADATA} names {len(metadata['features'])}; restore both."
        )
    return Model(booster, metadata)
