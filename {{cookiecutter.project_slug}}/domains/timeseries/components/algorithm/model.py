"""★ The model: how it is fitted, how it predicts, and how it is kept. Another library is another file with this shape.

Gradient boosted trees (LightGBM), one model for all series and steps: it learns by how much a value differs from its
series' level at the origin, in units of the series' size. Its interval is split conformal (Lei et al., 2018): what the
validation values missed their forecast by, step by step, in units of the seasonal naive forecast's error. What a
function takes and gives is said in batchloop/container/protocols.py.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from lightgbm.basic import LightGBMError
from lightgbm.callback import EarlyStopException
from numpy.typing import NDArray

from batchloop.container import models, settings
from batchloop.container.job import InputError
from batchloop.container.metrics import INTERVAL
from batchloop.container.protocols import Feature, Matrix, Predicted, Problem, Progress, Table

OURS = {"num_iterations": 100, "early_stopping_rounds": 0}  # not LightGBM's: for `fit`
LEAST = {"num_iterations": 1, "early_stopping_rounds": 0, "seed": 0}  # of every seed
SCALE = ("level", "size", "seasonal_error", "step")  # features that a forecast is computed with
UNLEARNED = ("seasonal_naive", "seasonal_error", "level", "size")  # in the label's unit: they would tell series apart
ENOUGH = 200  # validation values of a step and its neighbours, that an interval's ends are drawn from
TEXT, ENDS = "model.txt", "interval.json"


@dataclass(frozen=True)
class Forecaster:
    """A booster of relative values; of each step the interval's ends beside the forecast; positions of features."""

    booster: lgb.Booster
    ends: NDArray[np.float64]  # steps × 2, in units of the seasonal error
    places: Mapping[str, int]  # of SCALE
    learned: NDArray[np.int64]  # of those that the booster sees

    def seen(self, features: Matrix) -> Matrix:
        """The features that the booster sees."""
        return np.ascontiguousarray(features[:, self.learned])

    def scale(self, features: Matrix) -> list[NDArray[np.float64]]:
        """Level, size, seasonal error and step of each row."""
        return [features[:, self.places[name]].astype(np.float64) for name in SCALE]


@dataclass(frozen=True)
class Best:
    """The number of trees with the lowest validation loss so far."""

    iteration: int = 0
    loss: float = float("inf")


def fit(
    train: Table,
    validation: Table,
    hyperparameters: Mapping[str, Any],
    problem: Problem,
    progress: Progress | None = None,
) -> Forecaster:
    """Boost until validation stops improving, then learn the interval; both are repeatable.

    Raises InputError for what LightGBM refuses.
    """
    own, start = {**OURS, **hyperparameters}, progress.start.booster if progress and progress.start else None
    before, best = _interrupted(progress) or (start, Best())
    done, kept = (booster.current_iteration() if booster else 0 for booster in (before, start))
    left = int(own["num_iterations"]) - done + kept
    places, learned = _places(problem.features)
    model = Forecaster(before, np.zeros((1, 2)), places, learned)
    if before is not None and left < 1:
        before.best_iteration = best.iteration
        return _with_interval(model, validation, problem.threads)
    categories = [at for at, place in enumerate(learned) if problem.features[place]["kind"] == "category"]
    names = [f"f{position}" for position in range(len(learned))]
    try:
        data = lgb.Dataset(
            model.seen(train.features), _relative(model, train), feature_name=names, categorical_feature=categories
        )
        booster = lgb.train(
            to_lightgbm(hyperparameters, problem),
            data,
            num_boost_round=left,
            valid_sets=[lgb.Dataset(model.seen(validation.features), _relative(model, validation), reference=data)],
            init_model=before,
            callbacks=[Stopping(int(own["early_stopping_rounds"]), best, progress)],
        )
    except LightGBMError as error:
        raise InputError(f"LightGBM refuses the hyperparameters: {_reason(error)}; mend [hyperparameters].") from None
    return _with_interval(Forecaster(booster, model.ends, places, learned), validation, problem.threads)


def _places(features: Sequence[Feature]) -> tuple[dict[str, int], NDArray[np.int64]]:
    """Where the features of SCALE stand, and those that are learned from."""
    names = [str(feature["name"]) for feature in features]
    return {name: names.index(name) for name in SCALE}, np.flatnonzero([name not in UNLEARNED for name in names])


def _relative(model: Forecaster, table: Table) -> NDArray[np.float64]:
    level, size, _, _ = model.scale(table.features)
    return (table.labels - level) / size


def _with_interval(model: Forecaster, validation: Table, threads: int) -> Forecaster:
    """With the ends that the validation values give: quantiles of what they missed, corrected for their number."""
    _, _, error, step = model.scale(validation.features)
    missed = (validation.labels - _middle(model, validation.features, threads)) / error
    ends = [_ends(missed[_near(step, number)]) for number in range(1, int(step.max()) + 1)]
    return Forecaster(model.booster, np.array(ends), model.places, model.learned)


def _near(step: NDArray[np.float64], number: int) -> NDArray[np.bool_]:
    """Which values are of a step; of those beside it too, as far as it takes to have enough."""
    distances = np.abs(step - number)
    furthest = np.sort(distances)[min(ENOUGH, distances.size) - 1]
    near: NDArray[np.bool_] = distances <= furthest
    return near


def _ends(missed: NDArray[np.float64]) -> list[float]:
    """Half of what the interval may miss lies below it, half above."""
    level = 1 - (1 - INTERVAL) / 2
    share = min(1.0, np.ceil((missed.size + 1) * level) / missed.size)
    return [-float(np.quantile(-missed, share, method="higher")), float(np.quantile(missed, share, method="higher"))]


def to_lightgbm(hyperparameters: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    """LightGBM's own parameters: the hyperparameters, and what makes a run repeatable."""
    fixed: dict[str, Any] = {
        "objective": "regression_l1",
        "metric": "l1",
        "num_threads": problem.threads,
        "verbosity": -1,
        "deterministic": True,
        "force_row_wise": True,
        "feature_pre_filter": False,
    }
    return fixed | {key: value for key, value in hyperparameters.items() if key not in OURS}


class Stopping:
    """Remembers the best round, and stops when there was none better for `patience` rounds (0: never).

    LightGBM's own callback can't take up where an interrupted run left off.
    """

    order, before_iteration = 30, False

    def __init__(self, patience: int, best: Best, progress: Progress | None) -> None:
        self.patience, self.best, self.progress = patience, best, progress

    def __call__(self, env: Any) -> None:
        rounds, loss = env.iteration + 1, float(env.evaluation_result_list[0][2])
        if loss < self.best.loss or self.patience == 0:
            self.best = Best(rounds, loss)
        if self.progress:
            self.progress.after_round(rounds, loss, lambda: _state(env.model, self.best))
        if rounds == env.end_iteration or 0 < self.patience <= rounds - self.best.iteration:
            raise EarlyStopException(self.best.iteration - 1, env.evaluation_result_list)


def _state(booster: lgb.Booster, best: Best) -> str:
    """All rounds so far, which of them were best, and nothing that a line break could tear apart."""
    return f"{json.dumps([best.iteration, best.loss])}\n{booster.model_to_string(num_iteration=-1)}"


def _interrupted(progress: Progress | None) -> tuple[lgb.Booster, Best] | None:
    state = progress.interrupted() if progress else None
    if state is None:
        return None
    best, _, text = state.partition("\n")
    return lgb.Booster(model_str=text), Best(*json.loads(best))


def _middle(model: Forecaster, features: Matrix, threads: int) -> NDArray[np.float64]:
    level, size, _, _ = model.scale(features)
    relative = np.asarray(model.booster.predict(model.seen(features), num_threads=threads), dtype=np.float64)
    middle: NDArray[np.float64] = level + size * relative
    return middle


def predict(model: Forecaster, features: Matrix, threads: int = 0) -> Predicted:
    """The forecast and the ends of its interval, of any step; beyond those that were learned, the last one's."""
    _, _, error, step = model.scale(features)
    place = np.clip(np.nan_to_num(step, nan=1.0).astype(int) - 1, 0, len(model.ends) - 1)
    middle = _middle(model, features, threads)
    return np.column_stack([middle, middle[:, None] + error[:, None] * model.ends[place]])


def save(model: Forecaster, folder: Path) -> None:
    """Write model.txt, LightGBM's text format, and interval.json."""
    text = model.booster.model_to_string(num_iteration=model.booster.best_iteration)
    (folder / TEXT).write_text(text, encoding="utf-8")
    beside = {"ends": model.ends.tolist(), "places": dict(model.places), "learned": model.learned.tolist()}
    (folder / ENDS).write_text(json.dumps(beside), encoding="utf-8")


def load(folder: Path) -> Forecaster:
    """What `save` wrote."""
    beside = json.loads((folder / ENDS).read_text(encoding="utf-8"))
    booster = lgb.Booster(model_str=(folder / TEXT).read_text(encoding="utf-8"))
    return Forecaster(booster, np.array(beside["ends"]), beside["places"], np.array(beside["learned"]))


def describe(model: Forecaster) -> dict[str, Any]:
    """How many trees it has."""
    best = model.booster.best_iteration
    return {"best_iteration": best if best > 0 else model.booster.current_iteration()}


def check(hyperparameters: Mapping[str, Any], problem: Problem) -> Iterator[tuple[str, str]]:
    """A name and the reason why its value can't be used; "" for values that don't go together."""
    known = _defaults()
    for name, value in hyperparameters.items():
        if reason := _misread(name, value, known):
            yield name, reason
    if refused := _refusal(hyperparameters, problem):
        alone = {name: _refusal({name: value}, problem) for name, value in hyperparameters.items()}
        yield from ((name, reason) for name, reason in alone.items() if reason)
        yield "", refused


def _misread(name: str, value: Any, known: Mapping[str, str]) -> str:
    """Why LightGBM would only warn about a value, or `fit` would misread it."""
    if name not in known:
        return f"LightGBM knows no such name; {settings.nearest(name, known)}"
    low = LEAST.get("seed" if name.endswith("seed") else name)
    kind, word = type(OURS.get(name, value)), isinstance(value, str)
    reasons = {
        "it goes with the task; [gate] metric is what a model is judged by": name == "metric",  # fit stops by its loss
        f"it is not {settings.wanted(kind)}": type(value) is not kind,
        "it is not a number; leave out the quotes": word and known[name].replace(".", "").lstrip("-").isdigit(),
        f"it is at least {low}": low is not None and not word and value < low,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _refusal(hyperparameters: Mapping[str, Any], problem: Problem) -> str:
    """Why LightGBM does not fit two rounds with these, "" where it does."""
    rows = models.example(problem)
    parameters = to_lightgbm({**hyperparameters, "num_iterations": 2}, problem)
    try:
        lgb.train(parameters, lgb.Dataset(rows.features, rows.labels), num_boost_round=2)
    except LightGBMError as error:
        return _reason(error)
    return ""


def _reason(error: LightGBMError) -> str:
    """LightGBM's complaint without the place in its source."""
    failed, words = str(error).startswith("Check failed: "), str(error).removeprefix("Check failed: ")
    return " ".join(words.partition(" at /")[0].split()) + (" does not hold" if failed else "")


def _defaults() -> dict[str, str]:
    """Every parameter's main name and default, as a model's text lists them."""
    smallest = lgb.Dataset(np.zeros((2, 1), dtype=np.float32), [0.0, 1.0])
    text = lgb.train({"verbosity": -1, "num_threads": 1}, smallest, num_boost_round=1).model_to_string()
    listed = text.partition("\nparameters:\n")[2].partition("\nend of parameters")[0]
    pairs = (line.strip("[]").partition(": ")[::2] for line in listed.splitlines())
    return {**dict(pairs), **dict.fromkeys(OURS, "")}
