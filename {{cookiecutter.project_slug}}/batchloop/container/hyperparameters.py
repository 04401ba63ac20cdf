"""Hyperparameters: what a job was given, what the model refuses, and a search for better ones with Optuna.

`python -m batchloop.container.hyperparameters [name=value …]` checks those of usecase.toml.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchloop.container import measures, models, settings, usecase
from batchloop.container.job import InputError, sentence
from batchloop.container.models import Model
from batchloop.container.protocols import Predicted, Problem, Table
from batchloop.container.settings import HUGE, SettingError, nearest
from batchloop.container.usecase import Tuning, UseCase

SETTINGS = ("trials", "trial", "continue_training")  # of the job, not of the model
SERVICE = ("sagemaker_", "_tuning_")  # the service and its SDK add names of their own
OBJECTIVE = "trial:loss"  # what a trial of TuneModel prints
KINDS = ("IntegerParameterRanges", "ContinuousParameterRanges", "CategoricalParameterRanges")  # of a tuning job
INTEGER, CONTINUOUS, CATEGORICAL = KINDS
Option = dict[str, Any]  # an entry of one of these
EXAMPLE = tuple({"name": name, "source": name, "kind": "number"} for name in ("a", "b"))  # features
REPORT = 20  # rounds between two looks at whether a trial is worth going on with


def resolve(defaults: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The defaults, overridden by what was given, each in its default's type. Raises InputError naming a wrong one."""
    chosen = {name: text for name, text in given.items() if name not in SETTINGS and not name.startswith(SERVICE)}
    if unknown := [name for name in chosen if name not in defaults]:
        raise InputError(f"there is no hyperparameter {unknown[0]!r}; usecase.toml has {', '.join(defaults)}.")
    return {**defaults, **{name: _parsed(name, text, defaults[name]) for name, text in chosen.items()}}


def text(value: Any) -> str:
    """A hyperparameter as the text that a training job takes."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def trials(given: Mapping[str, str], default: int) -> int:
    """How many trials a search has; 0 turns it off. Raises InputError."""
    value: int = _parsed("trials", given.get("trials", str(default)), default)
    if value < 0:
        raise InputError(f"trials = {value} is negative; 0 turns it off.")
    return value


def _parsed(name: str, text: str, default: Any) -> Any:
    """A text as a value of its default's type. Raises InputError."""
    if (value := settings.parsed(type(default), text)) is None:
        raise InputError(f"hyperparameter {name} = {text!r} is not {settings.KINDS[type(default)]}.")
    return value


def check(case: UseCase, given: Mapping[str, str]) -> None:
    """Ask the model about its hyperparameters and the ends of the search space. Raises InputError for a refused one."""
    values = resolve(case.hyperparameters, given)
    refuse(case, values)
    for _, option in ranges(case.tuning.search, values):
        name = option["Name"]
        for end in option.get("Values") or (option["MinValue"], option["MaxValue"]):
            tried = resolve(values, {name: end})
            for _, reason in _refused(case, tried):
                raise _search_error(name, f": {tried[name]!r} can't be tried: {reason}.")


def refuse(case: UseCase, values: Mapping[str, Any]) -> None:
    """Raises SettingError for the first hyperparameter that the model says it can't use."""
    for name, reason in _refused(case, values):
        if not name:
            raise SettingError(f"[hyperparameters] don't go together: {reason}.")
        raise SettingError(f"[hyperparameters] {name} = {values[name]!r}: {reason}.", "hyperparameters", name)


def _refused(case: UseCase, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and reasons, the model's own where it has a `check`; else the complaint of a fit of a few made-up rows."""
    file: Any = models.module()
    problem = Problem(case.data.task, case.data.classes, EXAMPLE)
    if hasattr(file, "check"):
        yield from file.check(values, problem)
        return
    rows = models.example(problem)
    try:
        models.fit(rows, rows, values, problem)
    except Exception as error:  # of any library
        reason = sentence(error).rstrip(".")
        yield "", f"components/algorithm/model.py refuses them on a few made-up rows: {reason}"


def ranges(search: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[tuple[str, Option]]:
    """[tuning.search] as a tuning job's request has it: KINDS and options, widened where the default lies outside.

    Raises SettingError naming the wrong one.
    """
    if unknown := [name for name in search if name not in defaults]:
        close = nearest(unknown[0], defaults)
        raise SettingError(f"[tuning.search] {unknown[0]!r} is not among [hyperparameters]; {close}.")
    return [_range(name, values, defaults[name]) for name, values in search.items()]


def _range(name: str, given: Any, default: Any) -> tuple[str, Option]:
    values = given if isinstance(given, list) else []
    log = values[-1:] == ["log"]
    bounds = values[:-1] if log else values
    choices = [*dict.fromkeys([*values, default])]
    if not log and values and len(choices) > 1 and not {type(value) for value in choices} - {bool, str}:
        return CATEGORICAL, {"Name": name, "Values": [text(value) for value in choices]}
    taken = (int,) if type(default) is int else (int, float)  # a trial is told texts, read in the default's type
    numbers = all(type(value) in taken and abs(value) < HUGE for value in [*bounds, default])
    if len(bounds) != 2 or not numbers or bounds[0] >= bounds[1]:
        whole = f" (whole numbers, as {default} is; {default}.0 takes fractions)" if type(default) is int else ""
        kinds = f'[low, high] or [low, high, "log"] with low below high{whole}, or choices'
        raise _search_error(name, f" = {given!r} is not {kinds}.")
    low, high = min(bounds[0], default), max(bounds[1], default)
    if log and low <= 0:
        whose = "[hyperparameters] has" if low < bounds[0] else "it has"
        raise _search_error(name, f': "log" needs values above 0, and {whose} {low}.')
    kind, scale = INTEGER if type(default) is int else CONTINUOUS, "Logarithmic" if log else "Linear"
    return kind, {"Name": name, "MinValue": text(low), "MaxValue": text(high), "ScalingType": scale}


def _search_error(name: str, message: str) -> SettingError:
    return SettingError(f"[tuning.search] {name}{message}", "tuning", "search", name)


def suggested(options: Iterable[tuple[str, Option]], trial: Any) -> dict[str, str]:
    """Optuna's choice for ranges, as the texts that a training job takes."""
    chosen = {}
    for kind, option in options:
        name, log = option["Name"], option.get("ScalingType") == "Logarithmic"
        if kind == CATEGORICAL:
            value = trial.suggest_categorical(name, option["Values"])
        elif kind == INTEGER:
            value = trial.suggest_int(name, int(option["MinValue"]), int(option["MaxValue"]), log=log)
        else:
            value = trial.suggest_float(name, float(option["MinValue"]), float(option["MaxValue"]), log=log)
        chosen[name] = text(value)
    return chosen


def study(seed: int, direction: str = "minimize") -> Any:
    """Optuna's search, which gives up trials that are behind."""
    import optuna  # noqa: PLC0415 - only a search needs it, and serving must start fast

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=REPORT)
    return optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)


def search(
    tables: tuple[Table, Table], defaults: Mapping[str, Any], problem: Problem, tuning: Tuning, trials: int
) -> dict[str, Any]:
    """The hyperparameters with the lowest validation loss; the defaults are the first trial, so it is never worse.

    The same seed gives the same answer as long as the time does not run out. Prints a line a trial.
    """
    from optuna import TrialPruned  # noqa: PLC0415 - see `study`

    options, trying = ranges(tuning.search, defaults), study(int(defaults.get("seed", 0)))
    given = {name: defaults[name] for name in tuning.search}
    trying.enqueue_trial({name: text(value) if isinstance(value, bool) else value for name, value in given.items()})

    def objective(trial: Any) -> float:
        def report(rounds: int, best: float, _predicted: Any) -> None:
            trial.report(best, rounds)
            if trial.should_prune():
                raise TrialPruned

        return _loss(tables, resolve(defaults, suggested(options, trial)), problem, Watched(report))

    trying.optimize(objective, n_trials=trials, timeout=tuning.timeout_seconds, callbacks=[_print_trial])
    return resolve(defaults, {name: text(value) for name, value in trying.best_params.items()})


def attempt(tables: tuple[Table, Table], chosen: Mapping[str, Any], problem: Problem) -> None:
    """A trial of TuneModel: print the validation loss now and then, so that a hopeless one is ended, and at the end."""

    def report(_rounds: int, _best: float, predicted: "Predicted | None") -> None:
        if predicted is not None:
            print(f"metric {OBJECTIVE}={_measured(tables[1], predicted, problem)}", flush=True)

    print(f"metric {OBJECTIVE}={_loss(tables, chosen, problem, Watched(report))}", flush=True)


def _loss(tables: tuple[Table, Table], chosen: Mapping[str, Any], problem: Problem, progress: "Watched") -> float:
    metadata = {"task": problem.task, "classes": problem.classes, "features": problem.features}
    model = Model(models.fit(*tables, chosen, problem, progress), metadata)
    predicted = models.confirmed(model, tables[1].features, progress.predicted, problem.threads)
    return _measured(tables[1], predicted, problem)


def _measured(validation: Table, predicted: Predicted, problem: Problem) -> float:
    metric = {"regression": "rmse", "forecasting": "mase"}.get(problem.task, "log_loss")
    return measures.measure(problem.task, validation.labels, predicted, threshold=0.5)[metric]


@dataclass
class Watched:
    """The Progress of a trial: tells now and then of the rounds, the lowest loss so far, and what was predicted."""

    report: Callable[[int, float, "Predicted | None"], None]
    start: Any = None
    predicted: "Predicted | None" = None
    best: float = float("inf")

    def interrupted(self) -> None:
        """A trial starts afresh."""

    def after_round(self, rounds: int, loss: float, _state: Callable[[], str]) -> None:
        self.best = min(self.best, loss)
        if rounds % REPORT == 0:
            self.report(rounds, self.best, self.predicted)


def _print_trial(_study: Any, trial: Any) -> None:
    result = f"loss {trial.value:.6f}" if trial.value is not None else trial.state.name.lower()
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in trial.params.items()}
    values = ", ".join(f"{name}={value}" for name, value in shown.items())
    print(f"trial {trial.number}: {result} ({values})", flush=True)


def main(words: list[str]) -> int:
    try:
        file = usecase.location()
        case = usecase.load(file)
        given = dict(word.partition("=")[::2] for word in words)
        with settings.errors_in(file.name, "" if given else file.read_text(encoding="utf-8-sig")):
            check(case, given)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
