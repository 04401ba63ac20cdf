"""★ The model: how it is fitted, how it predicts, and how it is kept. Another library is another file with this shape.

One model for all series and steps, in two parts: a line of past values, which goes on where a trend does, and gradient
boosted trees (LightGBM) of what it leaves, which know no value beyond those they saw. Both learn differences from the
series' level at the origin, in units of the series' size. What a function takes and gives is said in
batchloop/container/protocols.py; the interval around a forecast is the same for all models (container/models.py).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from lightgbm.basic import LightGBMError
from lightgbm.callback import EarlyStopException

from batchloop.container import models, settings
from batchloop.container.job import InputError
from batchloop.container.protocols import Matrix, Predicted, Problem, Progress, Table

OURS = {"num_iterations": 100, "early_stopping_rounds": 0}  # not LightGBM's: for `fit`
LEAST = {"num_iterations": 1, "early_stopping_rounds": 0, "seed": 0}  # of every seed
SCALE = ("series_level", "series_size", "seasonal_naive")  # features that a forecast is computed with
UNLEARNED = ("seasonal_error", *SCALE)  # in the label's unit: they would tell series apart
STRAIGHT = ("lag_", "season_", "mean_")  # names of past values of the label begin so: the line is drawn by them
STRENGTHS, ROWS = (0.001, 0.01, 0.1, 1.0, 10.0), 100_000  # of the line's ridge: validation chooses; rows it is drawn by
MOST = 1e30  # sizes; beyond it there are no squares, and Float32 ends
TEXT, PLACES = "model.txt", "features.json"


@dataclass(frozen=True)
class Forecaster:
    """A booster of relative values, the positions of the features that it sees, of those of SCALE, and of the line's.

    `weights` are the line's: of a constant, of the level, and of each value of the past.
    """

    booster: Any
    seen: list[int]
    scale: list[int]
    line: list[int]
    weights: list[float]

    def matrix(self, features: Matrix) -> Matrix:
        """What the booster sees."""
        return np.ascontiguousarray(features[:, self.seen])

    @np.errstate(invalid="ignore", over="ignore")  # of values that Float32 does not hold
    def steps(self, features: Matrix) -> Any:
        """The seasonal naive forecast, relative, and what the line adds to it for each weight: a row each."""
        level, size, naive = features[:, self.scale].astype(np.float64).T
        naive = (naive - level) / size
        past = np.nan_to_num(features[:, self.line].T - naive, posinf=0, neginf=0)  # what is not known says nothing
        return np.vstack([naive, np.ones_like(naive), -naive, past])

    def straight(self, features: Matrix) -> Any:
        """What the line says."""
        naive, *steps = self.steps(features)
        return naive + np.asarray(self.weights) @ steps

    def drawn(self, train: Table, validation: Table) -> "Forecaster":
        """With the weights whose mean absolute error on validation is lowest, or none: the naive forecast."""
        every = slice(None, None, 1 + len(train.labels) // ROWS)
        none = replace(self, weights=[0.0] * (2 + len(self.line)))
        steps, left = none.usual(Table(train.features[every], train.labels[every]))
        products = steps @ steps.T
        unit = np.diag(products.diagonal() + 1e-4 * products.diagonal().mean() + 1e-12)  # rounding has no weight
        found = [np.linalg.solve(products + strength * unit, steps @ left).tolist() for strength in STRENGTHS]
        steps, left = none.usual(validation)
        return replace(self, weights=min([none.weights, *found], key=lambda one: np.abs(left - one @ steps).sum()))

    def usual(self, table: Table) -> tuple[Any, Any]:
        """What the line adds for each weight, and what is to be added, where these are numbers to count with."""
        steps, left = self.steps(table.features)[1:], self.relative(table)
        usual = (np.abs(left) < MOST) & (np.abs(steps).max(axis=0) < MOST)
        return steps[:, usual], left[usual]

    @np.errstate(invalid="ignore", over="ignore")
    def relative(self, table: Table) -> Any:
        """What the line leaves of the labels."""
        level, size, _ = table.features[:, self.scale].astype(np.float64).T
        return (table.labels - level) / size - self.straight(table.features)

    def data(self, table: Table, **settings: Any) -> lgb.Dataset:
        """Examples as the booster learns them."""
        return lgb.Dataset(self.matrix(table.features), np.clip(self.relative(table), -MOST, MOST), **settings)


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
    """Boost until validation stops improving; the booster's best_iteration says how many rounds of trees it uses.

    The same data, hyperparameters and threads give the same booster. Raises InputError for what LightGBM refuses.
    """
    own, start = {**OURS, **hyperparameters}, progress.start.booster if progress and progress.start else None
    before, best = _interrupted(progress) or (start, Best())
    done, kept = (booster.current_iteration() if booster else 0 for booster in (before, start))
    names, left = [str(feature["name"]) for feature in problem.features], int(own["num_iterations"]) - done + kept
    seen = [place for place, name in enumerate(names) if name not in UNLEARNED]
    scale, sources = [names.index(name) for name in SCALE], [feature["source"] for feature in problem.features]
    line = [place for place in seen if names[place].startswith(STRAIGHT) and sources[place] == sources[scale[0]]]
    model = Forecaster(before, seen, scale, line, [])
    first = progress.start if progress else None
    model = replace(model, weights=first.weights) if first else model.drawn(train, validation)
    if before is not None and left < 1:
        before.best_iteration = best.iteration
        return model
    columns = [f"f{position}" for position in range(len(seen))]
    categories = [column for column, place in enumerate(seen) if problem.features[place]["kind"] == "category"]
    try:
        learned = model.data(train, feature_name=columns, categorical_feature=categories)
        booster = lgb.train(
            to_lightgbm(hyperparameters, problem),
            learned,
            num_boost_round=left,
            valid_sets=[model.data(validation, reference=learned)],
            init_model=before,
            callbacks=[Stopping(int(own["early_stopping_rounds"]), best, progress)],
        )
    except LightGBMError as error:
        raise InputError(f"LightGBM refuses the hyperparameters: {_reason(error)}; mend [hyperparameters].") from None
    return replace(model, booster=booster)


def to_lightgbm(hyperparameters: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    """LightGBM's own parameters: the hyperparameters, and what makes a run repeatable."""
    fixed: dict[str, Any] = {
        "objective": "regression_l1",
        "metric": "l1",
        "boost_from_average": False,  # the line has a constant
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
    if not progress or (state := progress.interrupted()) is None:
        return None
    best, _, text = state.partition("\n")
    return lgb.Booster(model_str=text), Best(*json.loads(best))


def predict(model: Forecaster, features: Matrix, threads: int = 0) -> Predicted:
    """The forecast of each row, in the label's unit."""
    level, size, _ = features[:, model.scale].astype(np.float64).T
    relative = model.straight(features) + model.booster.predict(model.matrix(features), num_threads=threads)
    return np.asarray(level + size * relative)


def save(model: Forecaster, folder: Path) -> None:
    """Write model.txt, LightGBM's text format, and features.json, the positions and the line's weights."""
    text = model.booster.model_to_string(num_iteration=model.booster.best_iteration)
    (folder / TEXT).write_text(text, encoding="utf-8")
    known = {name: value for name, value in vars(model).items() if name != "booster"}
    (folder / PLACES).write_text(json.dumps(known), encoding="utf-8")


def load(folder: Path) -> Forecaster:
    """What `save` wrote."""
    booster = lgb.Booster(model_str=(folder / TEXT).read_text(encoding="utf-8"))
    return Forecaster(booster, **json.loads((folder / PLACES).read_text(encoding="utf-8")))


def describe(model: Forecaster) -> dict[str, Any]:
    """How many trees it has."""
    best = model.booster.best_iteration
    return {"best_iteration": best if best > 0 else model.booster.current_iteration()}


def check(hyperparameters: Mapping[str, Any], problem: Problem) -> Iterator[tuple[str, str]]:
    """A name and the reason why its value can't be used; "" for values that don't go together."""
    known = _defaults()
    for name, value in hyperparameters.items():
        kind, low = type(OURS.get(name, value)), LEAST.get("seed" if name.endswith("seed") else name)
        word, default = isinstance(value, str), known.get(name, "")
        reasons = {
            f"LightGBM knows no such name; {settings.nearest(name, known)}": name not in known,
            "it goes with the task; [gate] metric is what a model is judged by": name in ("metric", "objective"),
            f"it is not {settings.wanted(kind)}": type(value) is not kind,
            "it is not a number; leave out the quotes": word and default.replace(".", "").lstrip("-").isdigit(),
            f"it is at least {low}": low is not None and not word and value < low,
        }
        yield from ((name, reason) for reason, holds in reasons.items() if holds)
    if refused := _refusal(hyperparameters, problem):
        yield from ((name, refused) for name, value in hyperparameters.items() if _refusal({name: value}, problem))
        yield "", refused


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
