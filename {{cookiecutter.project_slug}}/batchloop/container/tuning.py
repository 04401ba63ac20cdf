"""Search for better hyperparameters with Optuna: a seeded, in-memory study that starts from the defaults."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from batchloop.container import measures, models
from batchloop.container.models import Model
from batchloop.container.protocols import Problem, Table
from batchloop.container.settings import HUGE, Wrong, nearest

REPORT = 20  # rounds between two looks at whether a trial is worth going on with


@dataclass(frozen=True)
class Range:
    """Values to try for one hyperparameter: `choices`, or numbers from `low` to `high`."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    whole: bool = False

    def suggest(self, trial: optuna.Trial) -> Any:
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Budget:
    """How long to search: a number of trials, and seconds after which no new trial starts."""

    trials: int
    timeout_seconds: int
    seed: int


def ranges(search: Mapping[str, list[Any]], defaults: Mapping[str, Any]) -> list[Range]:
    """[tuning.search] as ranges, widened where the default lies outside. Raises Wrong naming the wrong one."""
    for name, spec in search.items():
        if name not in defaults:
            words = f"[tuning.search] {name!r} is not among [hyperparameters]; {nearest(name, defaults)}."
            raise Wrong(words, "tuning", "search", name)
        if not isinstance(spec, list):
            raise _wrong(name, spec)
    return [_range(name, spec, defaults[name]) for name, spec in search.items()]


def _range(name: str, spec: list[Any], default: Any) -> Range:
    log = spec[-1:] == ["log"]
    bounds = spec[:-1] if log else spec
    choices = tuple(dict.fromkeys([*spec, default]))
    if not log and spec and len(choices) > 1 and len({type(value) for value in choices} - {bool, str}) == 0:
        return Range(name, choices=choices)
    numbers = all(type(value) in (int, float) and abs(value) < HUGE for value in [*bounds, default])
    if len(bounds) != 2 or not numbers or bounds[0] >= bounds[1]:
        raise _wrong(name, spec)
    low, high = min(bounds[0], default), max(bounds[1], default)
    if log and low <= 0:
        whose = "[hyperparameters] has" if low < bounds[0] else "it has"
        words = f'[tuning.search] {name}: "log" needs values above 0, and {whose} {low}.'
        raise Wrong(words, "tuning", "search", name)
    return Range(name, low=low, high=high, log=log, whole=all(isinstance(value, int) for value in (low, high, default)))


def _wrong(name: str, spec: Any) -> Wrong:
    words = (
        f'[tuning.search] {name} = {spec!r} is not [low, high] or [low, high, "log"] with low below high, or choices.'
    )
    return Wrong(words, "tuning", "search", name)


def search(
    tables: tuple[Table, Table],
    defaults: Mapping[str, Any],
    options: Sequence[Range],
    problem: Problem,
    budget: Budget,
) -> dict[str, Any]:
    """The hyperparameters with the lowest validation loss; the defaults are the first trial, so it is never worse.

    The same seed gives the same answer as long as the time does not run out. Prints a line a trial.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=budget.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=REPORT),
    )
    study.enqueue_trial({option.name: defaults[option.name] for option in options})

    def objective(trial: optuna.Trial) -> float:
        chosen = {**defaults, **{option.name: option.suggest(trial) for option in options}}
        fitted = models.fit(*tables, chosen, problem, Pruning(trial))
        predicted = models.predict(Model(fitted, {"classes": problem.classes}), tables[1].features, problem.threads)
        metric = "rmse" if problem.task == "regression" else "log_loss"
        return measures.measure(problem.task, tables[1].labels, predicted, threshold=0.5)[metric]

    study.optimize(objective, n_trials=budget.trials, timeout=budget.timeout_seconds, callbacks=[_say])
    return {**defaults, **study.best_params}


class Pruning:
    """The Progress of a trial: ends it when it is clearly behind the others at the same round."""

    start = None

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial, self.best = trial, float("inf")

    def interrupted(self) -> None:
        """A trial starts afresh."""

    def after_round(self, rounds: int, loss: float, _state: Callable[[], str]) -> None:
        """Report the lowest loss so far, now and then."""
        self.best = min(self.best, loss)
        if rounds % REPORT == 0:
            self.trial.report(self.best, rounds)
            if self.trial.should_prune():
                raise optuna.TrialPruned


def _say(_study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    result = f"loss {trial.value:.6f}" if trial.value is not None else trial.state.name.lower()
    values = ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.params.items()
    )
    print(f"trial {trial.number}: {result} ({values})", flush=True)
