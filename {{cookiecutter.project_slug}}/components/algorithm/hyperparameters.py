"""Hyperparameters: usecase.toml's values, overridden by a training job's, which come as text."""

from collections.abc import Mapping
from typing import Any

import lightgbm as lgb
import numpy as np

from algorithm.model import OURS
from runtime.failures import InputError

SETTINGS = ("trials", "continue_training")  # of the job, not of the model
SERVICE = "sagemaker_"  # the service and its SDK add names of their own


def resolve(defaults: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The defaults, overridden by what was given, each in its default's type. Raises InputError naming a wrong one."""
    known = lightgbm_names()
    defaults = {**OURS, **defaults}
    for name in defaults:
        if name not in known:
            raise InputError(f"usecase.toml [hyperparameters] {name!r} is not a name that LightGBM knows.")
    values = dict(defaults)
    for name, text in given.items():
        if name in SETTINGS or name.startswith(SERVICE):
            continue
        if name not in defaults:
            raise InputError(f"there is no hyperparameter {name!r}; usecase.toml has {', '.join(defaults)}.")
        values[name] = parse(name, text, defaults[name])
    _check(values)
    return values


def parse(name: str, text: str, default: Any) -> Any:
    """A text as a value of its default's type. Raises InputError."""
    kind, word = type(default), text.strip()
    if kind is bool:
        if word.lower() not in ("true", "false"):
            raise InputError(f"hyperparameter {name} = {text!r} is not true or false.")
        return word.lower() == "true"
    if kind not in (int, float):
        return word
    try:
        value = kind(word)
    except ValueError:
        wanted = "a whole number, as in usecase.toml" if kind is int else "a number"
        raise InputError(f"hyperparameter {name} = {text!r} is not {wanted}.") from None
    if not np.isfinite(value):
        raise InputError(f"hyperparameter {name} = {text!r} is not a number.")
    return value


def whole(settings: Mapping[str, str], name: str, default: int) -> int:
    """A job setting that is a whole number from 0 up. Raises InputError."""
    value: int = parse(name, settings.get(name, str(default)), default)
    if value < 0:
        raise InputError(f"{name} = {value} is negative; 0 turns it off.")
    return value


def _check(values: Mapping[str, Any]) -> None:
    """Rules for the three that LightGBM never sees. Raises InputError."""
    if values["num_iterations"] < 1:
        raise InputError(f"hyperparameter num_iterations = {values['num_iterations']} is not at least 1.")
    if values["early_stopping_rounds"] < 0:
        raise InputError(f"hyperparameter early_stopping_rounds = {values['early_stopping_rounds']} is negative.")


def lightgbm_names() -> set[str]:
    """Every parameter's main name: a model lists them all in its text. LightGBM only warns about unknown ones."""
    smallest = lgb.Dataset(np.zeros((2, 1), dtype=np.float32), [0.0, 1.0])
    text = lgb.train({"verbosity": -1, "num_threads": 1}, smallest, num_boost_round=1).model_to_string()
    listed = text.partition("\nparameters:\n")[2].partition("\nend of parameters")[0]
    return {line.strip("[]").partition(":")[0] for line in listed.splitlines()} | set(OURS)
