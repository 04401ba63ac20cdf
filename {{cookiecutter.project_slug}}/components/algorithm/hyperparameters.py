"""Hyperparameters: usecase.toml's values, overridden by a training job's, which come as text.

`python -m algorithm.hyperparameters [name=text …]` refuses, before anything runs, what training would refuse.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from runtime import models, settings, usecase
from runtime.failures import InputError, told
from runtime.protocols import Problem
from runtime.settings import Wrong
from runtime.usecase import UseCase

SETTINGS = ("trials", "continue_training")  # of the job, not of the model
SERVICE = "sagemaker_"  # the service and its SDK add names of their own
EXAMPLE = tuple({"name": name, "source": name, "kind": "number"} for name in ("a", "b"))  # features


def resolve(defaults: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The defaults, overridden by what was given, each in its default's type. Raises InputError naming a wrong one."""
    values = dict(defaults)
    for name, text in given.items():
        if name in SETTINGS or name.startswith(SERVICE):
            continue
        if name not in defaults:
            raise InputError(f"there is no hyperparameter {name!r}; usecase.toml has {', '.join(defaults)}.")
        values[name] = parse(name, text, defaults[name])
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


def check(case: UseCase, given: Mapping[str, str]) -> None:
    """Ask the model about its hyperparameters and the ends of the search space. Raises InputError for a refused one."""
    values = resolve(case.hyperparameters, given)
    refuse(case, values)
    from algorithm import tuning  # noqa: PLC0415 - only a search needs Optuna

    for option in tuning.ranges(case.tuning.search, values):
        for value in option.choices or (option.low, option.high):
            for _, reason in _refused(case, {**values, option.name: value}):
                words = f"[tuning.search] {option.name}: {value!r} can't be tried: {reason}."
                raise Wrong(words, "tuning", "search", option.name)


def refuse(case: UseCase, values: Mapping[str, Any]) -> None:
    """Raises Wrong for the first hyperparameter that the model says it can't use."""
    for name, reason in _refused(case, values):
        if not name:
            raise Wrong(f"[hyperparameters] don't go together: {reason}.", "hyperparameters")
        raise Wrong(f"[hyperparameters] {name} = {values[name]!r}: {reason}.", "hyperparameters", name)


def _refused(case: UseCase, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and reasons, the model's own where it has a `check`; else the complaint of a fit of a few made-up rows."""
    file: Any = models.module()
    problem = Problem(case.data.task, case.data.classes if case.data.task != "regression" else (), EXAMPLE)
    if hasattr(file, "check"):
        yield from file.check(values, problem)
        return
    rows = models.example(problem)
    try:
        models.fit(rows, rows, values, problem)
    except Exception as error:  # of any library
        yield "", f"components/algorithm/model.py refuses them on a few made-up rows: {told(error).rstrip('.')}"


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
