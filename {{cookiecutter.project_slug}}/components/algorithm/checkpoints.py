"""Progress that survives an interruption: the booster so far, and what it was learning.

SageMaker copies /opt/ml/checkpoints to S3 and back ("Use checkpoints in Amazon SageMaker", developer guide), and sends
SIGTERM two minutes before a spot instance is taken away.
"""

import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import lightgbm as lgb
from lightgbm.basic import LightGBMError

from algorithm.stopping import Best
from runtime.usecase import digest

log = logging.getLogger(__name__)
EVERY = 100  # rounds
TEXT, TUNED = "model.txt", "tuning.json"
HEADER = "# "  # before the state in the file's first line, so that state and booster can't come apart


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
    """The checkpoint of one fit, told from any other by `identity` (its data and hyperparameters)."""

    def __init__(self, folder: Path, identity: Any, interruption: Interruption) -> None:
        self.file, self.fingerprint, self.interruption = folder / TEXT, digest(identity), interruption

    def resume(self) -> tuple[lgb.Booster, Best] | None:
        """The booster to go on from and its best round, or None where there is none of this fit."""
        try:
            first, _, text = self.file.read_text(encoding="utf-8").partition("\n")
            state = json.loads(first.removeprefix(HEADER))
            if state["fingerprint"] != self.fingerprint or state["text"] != digest(text):
                log.info("the checkpoint is of other data or hyperparameters; starting afresh")
                return None
            return lgb.Booster(model_str=text), Best(**state["best"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, LightGBMError) as error:
            log.warning("the checkpoint can't be read (%s); starting afresh", error)
            return None

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """While inside, SIGTERM waits for the end of the round."""
        self.interruption.fitting = True
        yield
        self.interruption.fitting = False
        if self.interruption.came:
            raise SystemExit("interrupted after the last round")

    def watch(self, booster: lgb.Booster, rounds: int, best: Best) -> None:
        """Called after every round: writes the checkpoint when it is due, and stops after SIGTERM."""
        if rounds % EVERY == 0 or self.interruption.came:
            text = booster.model_to_string(num_iteration=-1)
            state = {"fingerprint": self.fingerprint, "best": asdict(best), "text": digest(text)}
            write(self.file, f"{HEADER}{json.dumps(state)}\n{text}")
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
    for name in (TEXT, TUNED):
        (folder / name).unlink(missing_ok=True)
