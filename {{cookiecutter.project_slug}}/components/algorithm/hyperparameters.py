"""Hyperparameters: usecase.toml's values, overridden by a training job's, which come as text.

`python -m algorithm.hyperparameters [name=text …]` refuses, before anything runs, what training would refuse.
"""

import sys
from collections.abc import Mapping
from typing import Any

import lightgbm as lgb
import numpy as np

from algorithm import model
from algorithm.model import OURS, Problem, Table
from runtime import settings, usecase
from runtime.failures import InputError
from runtime.settings import Wrong
from runtime.usecase import UseCase

SETTINGS = ("trials", "continue_training")  # of the job, not of the model
SERVICE = "sagemaker_"  # the service and its SDK add names of their own
LEAST = {"num_iterations": 1, "early_stopping_rounds": 0, "seed": 0}  # of every seed
# they have an entry for each feature, or name a file: only with the data can they be tried
BY_FEATURE = (
    *("monotone_constraints", "feature_contri", "interaction_constraints", "max_bin_by_feature"),
    *("categorical_feature", "cegb_penalty_feature_lazy", "cegb_penalty_feature_coupled"),
    *("forcedsplits_filename", "forcedbins_filename"),
)


def resolve(defaults: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The defaults, overridden by what was given, each in its default's type. Raises InputError naming a wrong one."""
    known = lightgbm_defaults()
    defaults = {**OURS, **defaults}
    for name, value in defaults.items():
        _check_kind(name, value, known)
    values = dict(defaults)
    for name, text in given.items():
        if name in SETTINGS or name.startswith(SERVICE):
            continue
        if name not in defaults:
            raise InputError(f"there is no hyperparameter {name!r}; usecase.toml has {', '.join(defaults)}.")
        values[name] = parse(name, text, defaults[name])
    for name, value in values.items():
        if reason := _too_low(name, value):
            raise _wrong(values, name, reason)
    return values


def parse(name: str, text: str, default: Any) -> Any:
    """A text as a value of its default's type. Raises InputError."""
    if (value := settings.parsed(type(default), text)) is None:
        raise InputError(f"hyperparameter {name} = {text!r} is not {settings.KINDS[type(default)]}.")
    return value


def whole(given: Mapping[str, str], name: str, default: int) -> int:
    """A job setting that is a whole number from 0 up. Raises InputError."""
    value: int = parse(name, given.get(name, str(default)), default)
    if value < 0:
        raise InputError(f"{name} = {value} is negative; 0 turns it off.")
    return value


def _check_kind(name: str, value: Any, known: Mapping[str, str]) -> None:
    """Raises Wrong for a name that LightGBM only warns about, and for a type that it or `fit` would misread."""
    path, where = ("hyperparameters", name), f"[hyperparameters] {name} = {value!r}"
    if name not in known:
        nearest = settings.nearest(name, known)
        raise Wrong(f"[hyperparameters] {name!r} is not a name that LightGBM knows; {nearest}.", *path)
    if name == "metric":  # stopping early looks for the lowest loss
        raise Wrong("[hyperparameters] metric goes with the task; [gate] metric is what a model is judged by.", *path)
    if name in OURS and type(value) is not type(OURS[name]):
        raise Wrong(f"{where} is not {settings.wanted(type(OURS[name]))}.", *path)
    if isinstance(value, str) and known[name].replace(".", "").lstrip("-").isdigit():
        raise Wrong(f"{where} is not a number; leave out the quotes.", *path)


def _too_low(name: str, value: Any) -> str:
    """Why it can't be so low where LightGBM, or a search with its seed, would not say so; "" where it can."""
    low = LEAST.get("seed" if name.endswith("seed") else name)
    return "" if low is None or value >= low else f"it is at least {low}"


def _wrong(values: Mapping[str, Any], name: str, reason: str) -> Wrong:
    return Wrong(f"[hyperparameters] {name} = {values[name]!r}: {reason}.", "hyperparameters", name)


def lightgbm_defaults() -> dict[str, str]:
    """Every parameter's main name and default, as a model's text lists them."""
    smallest = lgb.Dataset(np.zeros((2, 1), dtype=np.float32), [0.0, 1.0])
    text = lgb.train({"verbosity": -1, "num_threads": 1}, smallest, num_boost_round=1).model_to_string()
    listed = text.partition("\nparameters:\n")[2].partition("\nend of parameters")[0]
    pairs = (line.strip("[]").partition(": ")[::2] for line in listed.splitlines())
    return {**dict(pairs), **dict.fromkeys(OURS, "")}


def check(case: UseCase, given: Mapping[str, str]) -> None:
    """Try hyperparameters and the ends of the search space on a few rows. Raises InputError for what is refused."""
    values = resolve(case.hyperparameters, given)
    if refusal := _refusal(case, values):
        for name, value in values.items():
            if reason := _refusal(case, {name: value}):
                raise _wrong(values, name, reason)
        raise Wrong(f"[hyperparameters] don't go together: {refusal}.", "hyperparameters")
    from algorithm import tuning  # noqa: PLC0415 - only a search needs Optuna

    for option in tuning.ranges(case.tuning.search, values):
        for value in option.choices or (option.low, option.high):
            if reason := _too_low(option.name, value) or _refusal(case, {**values, option.name: value}):
                words = f"[tuning.search] {option.name}: {value!r} can't be tried: {reason}."
                raise Wrong(words, "tuning", "search", option.name)


def _refusal(case: UseCase, hyperparameters: Mapping[str, Any]) -> str:
    """Why LightGBM does not fit two rounds with these, "" where it does."""
    rows, classes = 64, len(case.data.classes)
    labels = np.arange(rows, dtype=np.float64) % (classes or rows) + (0 if classes else 1)
    table = Table(np.arange(2 * rows, dtype=np.float32).reshape(rows, 2), labels)
    tried = {name: value for name, value in hyperparameters.items() if name not in BY_FEATURE} | {"num_iterations": 2}
    try:
        model.fit(table, table, tried, Problem(case.data.task, classes, (), 1))
    except InputError as error:
        return str(error).removeprefix(model.REFUSED).removesuffix(model.REMEDY)
    return ""


def main(words: list[str]) -> int:
    """The command line; the exit code."""
    try:
        file = usecase.location()
        case = usecase.load(file)
        given = dict(word.partition("=")[::2] for word in words)
        with settings.explained(file.name, "" if given else file.read_text(encoding="utf-8-sig")):
            check(case, given)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
