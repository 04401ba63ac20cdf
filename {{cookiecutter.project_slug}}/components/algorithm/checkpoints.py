"""Progress that survives an interruption: the state of the fit so far, and what it was learning.

SageMaker copies /opt/ml/checkpoints to S3 and back ("Use checkpoints in Amazon SageMaker", developer guide), and sends
SIGTERM two minutes before a spot instance is taken away.
"""

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from runtime.usecase import digest

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
