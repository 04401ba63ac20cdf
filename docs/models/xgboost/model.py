"""★ The model: how it is fitted, how it predicts, and how it is kept. Another library is another file with this shape.

Gradient boosted trees (XGBoost). See batchloop/container/protocols.py.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from batchloop.container import models, settings
from batchloop.container.job import InputError
from batchloop.container.protocols import Matrix, Predicted, Problem, Progress, Table

OBJECTIVES = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}
LOSSES = {"binary": "logloss", "multiclass": "mlogloss", "regression": "rmse"}
OURS = {"num_boost_round": 100, "early_stopping_rounds": 0}  # not the booster's: for `fit`
GIVEN = ("objective", "eval_metric", "num_class", "nthread", "verbosity")  # by the task and the machine
FILE = "model.ubj"


def fit(
    train: Table,
    validation: Table,
    hyperparameters: Mapping[str, Any],
    problem: Problem,
    progress: Progress | None = None,
) -> xgb.Booster:
    """Boost until validation stops improving; the booster holds the rounds of trees up to the best one.

    The same data, hyperparameters and threads give the same booster; so does a fit that goes on after an interruption,
    except where rows or features are drawn (subsample, colsample_…): XGBoost draws others then. Raises InputError for
    what XGBoost refuses.
    """
    own, start = {**OURS, **hyperparameters}, progress.start if progress else None
    state = progress.interrupted() if progress else None
    before = start if state is None else xgb.Booster(model_file=bytearray(state, "utf-8"))
    learned, judged = (_data(table.features, problem, table.labels) for table in (train, validation))
    try:
        booster = xgb.Booster(to_xgboost(hyperparameters, problem), [learned, judged], before)
        if state is None:  # what was best for a model to go on from is not for this one
            booster.set_attr(best=None, lowest=None)
        last = _rounds(start) + int(own["num_boost_round"])
        return booster[: _boosted(booster, (learned, judged), last, int(own["early_stopping_rounds"]), progress)]
    except xgb.core.XGBoostError as error:
        raise InputError(f"XGBoost refuses the hyperparameters: {_reason(error)}; mend [hyperparameters].") from None


def to_xgboost(hyperparameters: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    """XGBoost's own parameters: the hyperparameters, and what goes with the task."""
    task = problem.task
    fixed = {"objective": OBJECTIVES[task], "eval_metric": LOSSES[task], "nthread": problem.threads}
    several = {"num_class": len(problem.classes)} if task == "multiclass" else {}
    return fixed | several | {key: value for key, value in hyperparameters.items() if key not in OURS}


def _data(features: Matrix, problem: Problem, labels: Any) -> xgb.DMatrix:
    """Rows in XGBoost's form; codes of categories are categories to it too."""
    types = ["c" if feature["kind"] == "category" else "q" for feature in problem.features]
    return xgb.DMatrix(features, labels, feature_types=types, enable_categorical=True, nthread=problem.threads)


def _boosted(
    booster: xgb.Booster, data: tuple[xgb.DMatrix, xgb.DMatrix], last: int, patience: int, progress: Progress | None
) -> int:
    """Boost to the last round or until none was better for `patience` rounds (0: never stop); the best round.

    What is best so far stands in the booster's attributes, so an interrupted fit goes on with it.
    """
    known: Any = booster.attributes()
    best, lowest = int(known.get("best", 0)), float(known.get("lowest", "inf"))
    for done in range(_rounds(booster), last):
        booster.update(data[0], iteration=done)
        rounds, loss = done + 1, float(booster.eval(data[1], iteration=done).rpartition(":")[2])
        if loss < lowest or patience == 0:
            best, lowest = rounds, loss
        booster.set_attr(best=str(best), lowest=repr(lowest))
        if progress:
            progress.after_round(rounds, loss, lambda: booster.save_raw("json").decode())
        if 0 < patience <= rounds - best:
            break
    return best


def _rounds(booster: xgb.Booster | None) -> int:
    return booster.num_boosted_rounds() if booster is not None else 0


def predict(model: xgb.Booster, features: Matrix, threads: int = 0) -> Predicted:
    """Probabilities (of the positive class, or rows × classes), or a regression's values; with all cores."""
    del threads  # a booster has one setting for all who ask it at once
    rows = xgb.DMatrix(features, feature_types=model.feature_types, enable_categorical=True)
    return np.asarray(model.predict(rows), dtype=np.float64)


def save(model: xgb.Booster, folder: Path) -> None:
    """Write model.ubj, XGBoost's own format: binary JSON."""
    model.save_model(folder / FILE)


def load(folder: Path) -> xgb.Booster:
    """The booster in model.ubj."""
    return xgb.Booster(model_file=folder / FILE)


def describe(model: xgb.Booster) -> dict[str, Any]:
    """How many rounds of trees it has."""
    return {"best_iteration": model.num_boosted_rounds()}


def check(hyperparameters: Mapping[str, Any], problem: Problem) -> Iterator[tuple[str, str]]:
    """A name and the reason why its value can't be used; "" for values that don't go together."""
    for name, value in hyperparameters.items():
        if name in GIVEN:
            yield name, "it goes with the task; [gate] metric is what a model is judged by"
        elif name in OURS and type(value) is not int:
            yield name, f"it is not {settings.wanted(int)}"
        elif name in OURS and value < (name == "num_boost_round"):
            yield name, "it is at least 1" if value == 0 else "it can't be negative"
        elif name not in OURS and (reason := _refusal({name: value}, problem)):
            yield name, reason
    if refused := _refusal(hyperparameters, problem):  # only together
        yield "", refused


def _refusal(hyperparameters: Mapping[str, Any], problem: Problem) -> str:
    """Why XGBoost does not take these, "" where it does; a name that it does not know is but a warning to it."""
    rows = models.example(problem)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            xgb.train(to_xgboost(hyperparameters, problem), _data(rows.features, problem, rows.labels), 1)
        except (xgb.core.XGBoostError, ValueError) as error:
            return _reason(error)
    unused = any("are not used" in str(each.message) for each in said)
    return "XGBoost does not know or use it here" if unused else ""


def _reason(error: Exception) -> str:
    """XGBoost's complaint without the time, the place in its source and the stack."""
    text = str(error).partition("\nStack trace")[0]
    return (text.partition(".cc:")[2].partition(": ")[2] or text).strip().rstrip(".").replace("\n", "; ")
