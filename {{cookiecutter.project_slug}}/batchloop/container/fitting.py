"""Progress that survives an interruption: the state of the fit so far, and what it was learning.

SageMaker copies /opt/ml/checkpoints to S3 and back ("Use checkpoints in Amazon SageMaker", developer guide), and sends
SIGTERM two minutes before a spot instance is taken away.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from batchloop.container import models, settings, usecase
from batchloop.container.job import InputError, told
from batchloop.container.protocols import Problem
from batchloop.container.settings import Wrong
from batchloop.container.usecase import UseCase, digest

log = logging.getLogger(__name__)
EVERY = 100  # rounds
STATE, TUNED = "fit.txt", "tuning.json"  # of the first, line 1 says whose state the rest is


@dataclass
class Interruption:
    """Whether SIGTERM came. While `fitting` the next round ends the process, otherwise the signal itself does."""

    fitting: bool = False
    came: bool = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """What to do on SIGTERM."""
        if not self.fitting:
            raise SystemExit("interrupted; run it again to start over")
        self.came = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Take SIGTERM: the first process of a container would not notice it otherwise."""
    interruption = Interruption()
    before = signal.signal(signal.SIGTERM, interruption.on_signal)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGTERM, before)


class Checkpoint:
    """The Progress of one fit, told from any other by `identity` (its data and hyperparameters); `start` to go on from.

    What the model's own state is, only the model knows: here it is a text.
    """

    def __init__(self, folder: Path, identity: Any, interruption: Interruption, start: Any = None) -> None:
        self.file, self.fingerprint, self.interruption = folder / STATE, digest(identity), interruption
        self.start = start

    def interrupted(self) -> str | None:
        """The state of this fit to go on from, or None."""
        try:
            first, _, text = self.file.read_text(encoding="utf-8").partition("\n")
            head = json.loads(first)
            if head["fingerprint"] != self.fingerprint or head["text"] != digest(text):
                log.info("the checkpoint is of other data or hyperparameters; starting afresh")
                return None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the checkpoint can't be read (%s); starting afresh", error)
            return None
        log.info("going on from a checkpoint of %s rounds", head["rounds"])
        return text

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """While inside, SIGTERM waits for the end of the round."""
        self.interruption.fitting = True
        yield
        self.interruption.fitting = False
        if self.interruption.came:
            raise SystemExit("interrupted after the last round")

    def after_round(self, rounds: int, _loss: float, state: Callable[[], str]) -> None:
        """Write the checkpoint when it is due, and stop after SIGTERM."""
        if rounds % EVERY == 0 or self.interruption.came:
            text = state()
            head = {"fingerprint": self.fingerprint, "rounds": rounds, "text": digest(text)}
            write(self.file, f"{json.dumps(head)}\n{text}")
        if self.interruption.came:
            raise SystemExit(f"interrupted after {rounds} rounds; the checkpoint holds them")


def remember(folder: Path, identity: Any, hyperparameters: dict[str, Any]) -> None:
    """Keep what a search found: it may have taken much longer than the fit."""
    write(folder / TUNED, json.dumps({"fingerprint": digest(identity), "hyperparameters": hyperparameters}))


def recall(folder: Path, identity: Any) -> dict[str, Any] | None:
    """What a search over the same data found before the interruption, or None."""
    try:
        state = json.loads((folder / TUNED).read_text(encoding="utf-8"))
        found: dict[str, Any] | None = state["hyperparameters"] if state["fingerprint"] == digest(identity) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def write(file: Path, text: str) -> None:
    """All of the text or none of it, even when the machine goes away."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)


def remove(folder: Path) -> None:
    """The run is complete: there is nothing to go on with."""
    for name in (STATE, TUNED):
        (folder / name).unlink(missing_ok=True)


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
    from batchloop.container import tuning  # noqa: PLC0415 - only a search needs Optuna

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
