"""★ The model: how it is fitted, how it predicts, and how it is kept. Another library is another file with this shape.

Gradient boosted trees (LightGBM). What a function takes and gives is said in batchloop/container/protocols.py.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from lightgbm.basic import LightGBMError
from lightgbm.callback import EarlyStopException

from batchloop.container import models, settings
from batchloop.container.job import InputError
from batchloop.container.protocols import Matrix, Predicted, Problem, Progress, Table

LOSSES = {"binary": "binary_logloss", "multiclass": "multi_logloss", "regression": "l2"}
OURS = {"num_iterations": 100, "early_stopping_rounds": 0, "native_categories": False}  # not LightGBM's: for `fit`
LEAST = {"num_iterations": 1, "early_stopping_rounds": 0, "seed": 0}  # of every seed
# they have an entry for each feature, or name a file: only with the data can they be tried
BY_FEATURE = (
    *("monotone_constraints", "feature_contri", "interaction_constraints", "max_bin_by_feature"),
    *("categorical_feature", "cegb_penalty_feature_lazy", "cegb_penalty_feature_coupled"),
    *("forcedsplits_filename", "forcedbins_filename"),
)
TEXT = "model.txt"
SAMPLED, CELLS = 200_000, 32_000_000  # rows that bins are drawn from (LightGBM's default), cells of them: 12 bytes each
SEVERAL_HOSTS = True


@dataclass(frozen=True)
class Best:
    """The number of trees (rounds of trees for several classes) with the lowest validation loss so far."""

    iteration: int = 0
    loss: float = float("inf")


def fit(
    train: Table,
    validation: Table,
    hyperparameters: Mapping[str, Any],
    problem: Problem,
    progress: Progress | None = None,
) -> lgb.Booster:
    """Boost until validation stops improving; the booster's best_iteration says how many rounds of trees it uses.

    The same data, hyperparameters and threads give the same booster. Raises InputError for what LightGBM refuses.
    """
    own, start = {**OURS, **hyperparameters}, progress.start if progress else None
    before, best = _interrupted(progress) or (start, Best())
    done, kept = (booster.current_iteration() if booster else 0 for booster in (before, start))
    left = int(own["num_iterations"]) - done + kept
    if before is not None and left < 1:
        before.best_iteration = best.iteration
        return before
    stop = Stopping(int(own["early_stopping_rounds"]), best, progress)
    kinds = [feature["kind"] for feature in problem.features]
    categories = [index for index, kind in enumerate(kinds) if kind == "category"] if own["native_categories"] else []
    names = [f"f{position}" for position in range(train.features.shape[1])]
    try:
        learned = lgb.Dataset(train.features, train.labels, feature_name=names, categorical_feature=categories)
        booster = lgb.train(
            to_lightgbm(hyperparameters, problem),
            learned,
            num_boost_round=left,
            valid_sets=[lgb.Dataset(validation.features, validation.labels, reference=learned)],
            valid_names=["validation"],
            feval=stop.on_prediction,
            init_model=before,
            callbacks=[stop],
        )
        booster.free_network()  # or the next fit would be a common one too
    except LightGBMError as error:
        refused = "refuses the hyperparameters", "mend [hyperparameters]"
        what, to_do = ("lost another host", "its log may say why") if problem.machines else refused
        raise InputError(f"LightGBM {what}: {_reason(error)}; {to_do}.") from None
    return booster


def to_lightgbm(hyperparameters: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    """LightGBM's own parameters: the hyperparameters, and what makes a run repeatable."""
    task = problem.task
    fixed: dict[str, Any] = {
        "objective": task,
        "metric": LOSSES[task],
        "num_threads": problem.threads,
        "verbosity": -1,
        "deterministic": True,
        "force_row_wise": True,
        "feature_pre_filter": False,
        "bin_construct_sample_cnt": min(SAMPLED, CELLS // max(1, len(problem.features))),
    }
    several = {"num_class": len(problem.classes)} if task == "multiclass" else {}
    if machines := problem.machines:  # "Distributed Learning Guide": each counts its own rows, and they add it up
        fixed |= {"tree_learner": "data", "pre_partition": True, "num_machines": len(machines)}
        fixed |= {"machines": ",".join(sorted(machines)), "local_listen_port": int(machines[0].rpartition(":")[2])}
    return fixed | several | {key: value for key, value in hyperparameters.items() if key not in OURS}


class Stopping:
    """Remembers the best round, and stops when there was none better for `patience` rounds (0: never).

    LightGBM's own callback can't take up where an interrupted run left off.
    """

    order, before_iteration = 30, False

    def __init__(self, patience: int, best: Best, progress: Progress | None) -> None:
        self.patience, self.best, self.progress = patience, best, progress

    def on_prediction(self, predicted: Any, _: lgb.Dataset) -> list[Any]:
        """What LightGBM has predicted for validation, always in the same array."""
        self.predicted = predicted
        return []

    def __call__(self, env: Any) -> None:
        _, _, value, larger_is_better, *_ = env.evaluation_result_list[0]
        rounds, loss = env.iteration + 1, -float(value) if larger_is_better else float(value)
        if loss < self.best.loss or self.patience == 0:
            self.best = Best(rounds, loss)
            if self.progress:
                self.progress.predicted = self.predicted.copy()
        if self.progress:
            self.progress.after_round(rounds, loss, lambda: _state(env.model, self.best))
        if rounds == env.end_iteration or 0 < self.patience <= rounds - self.best.iteration:
            raise EarlyStopException(self.best.iteration - 1, env.evaluation_result_list)


def _state(booster: lgb.Booster, best: Best) -> str:
    """All rounds so far, which of them were best, and nothing that a line break could tear apart."""
    return f"{json.dumps(asdict(best))}\n{booster.model_to_string(num_iteration=-1)}"


def _interrupted(progress: Progress | None) -> tuple[lgb.Booster, Best] | None:
    state = progress.interrupted() if progress else None
    if state is None:
        return None
    best, _, text = state.partition("\n")
    return lgb.Booster(model_str=text), Best(**json.loads(best))


def predict(model: lgb.Booster, features: Matrix, threads: int = 0) -> Predicted:
    """Probabilities (of the positive class, or rows × classes), or a regression's values."""
    return np.asarray(model.predict(features, num_threads=threads), dtype=np.float64)


def save(model: lgb.Booster, folder: Path) -> None:
    """Write model.txt, LightGBM's text format."""
    (folder / TEXT).write_text(model.model_to_string(num_iteration=model.best_iteration), encoding="utf-8")


def load(folder: Path) -> lgb.Booster:
    """The booster in model.txt."""
    return lgb.Booster(model_str=(folder / TEXT).read_text(encoding="utf-8"))


def describe(model: lgb.Booster) -> dict[str, Any]:
    """How many rounds of trees it has."""
    return {"best_iteration": model.best_iteration if model.best_iteration > 0 else model.current_iteration()}


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
    tried = {name: value for name, value in hyperparameters.items() if name not in BY_FEATURE} | {"num_iterations": 2}
    parameters = to_lightgbm(tried, problem)
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
