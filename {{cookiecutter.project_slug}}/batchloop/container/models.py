"""A model with what it predicts from, whichever library ★ model.py uses: how it is fitted, interrupted, kept and asked.

SageMaker copies /opt/ml/checkpoints to S3 and back ("Use checkpoints in Amazon SageMaker", developer guide).
"""

import hashlib
import inspect
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from batchloop.container import artifacts, hosts, job, matrices
from batchloop.container.job import InputError, Pace, sentence
from batchloop.container.metrics import FORECAST, GIVEN, INTERVAL
from batchloop.container.protocols import Matrix, ModelFile, Predicted, Problem, Progress, Table
from batchloop.container.usecase import digest

log = logging.getLogger(__name__)
METADATA = "metadata.json"
Floats = NDArray[np.float64]
EXAMPLES, COMPARED = 1000, 1000  # rows on which hyperparameters are tried, and predictions compared
ENOUGH = 200  # values that the ends of an interval are drawn from
EVERY, SECONDS = 100, 60  # rounds between two checkpoints, and seconds, whichever come first
STATE, TUNED = "fit.txt", "tuning.txt"  # of which line 1 says whose the rest is


@dataclass(frozen=True)
class Model:
    """A fitted model; `metadata` says what it predicts (task, classes, threshold) and from which features."""

    fitted: Any
    metadata: Mapping[str, Any]


def module() -> ModelFile:
    """★ components/algorithm/model.py."""
    return cast(ModelFile, import_module("components.algorithm.model"))


def takes_progress() -> bool:
    """Whether a fit can be interrupted and go on."""
    return "progress" in inspect.signature(module().fit).parameters


def spread() -> tuple[str, ...]:
    """The channels of which each of several hosts may have a part."""
    return ("train",) if getattr(module(), "SEVERAL_HOSTS", False) else ()


def fit(
    train: Table,
    validation: Table,
    hyperparameters: Mapping[str, Any],
    problem: Problem,
    progress: Progress | None = None,
) -> Any:
    """A fitted model; `progress` is heeded where the model can be interrupted."""
    known: Any = {"progress": progress} if progress is not None and takes_progress() else {}
    return module().fit(train, validation, hyperparameters, problem, **known)


def fit_together(train: Table, validation: Table, hyperparameters: Mapping[str, Any], problem: Problem) -> Any:
    """As `fit`, beside the job's other hosts, each of which has a part of `train`; such a fit keeps no checkpoint."""
    log.info("%s rows are here; if it is interrupted, it starts over", f"{len(train.labels):,}")
    return module().fit(train, validation, hyperparameters, replace(problem, machines=hosts.meet(job.current())))


def predict(model: Model, features: Matrix, threads: int = 0) -> Predicted:
    """The model's predictions, a row each; without rows, an empty answer of the right shape."""
    forecasting, classes = model.metadata.get("task") == "forecasting", len(model.metadata["classes"])
    if not len(features):
        return np.empty((0, len(FORECAST)) if forecasting else (0, classes) if classes > 2 else 0)
    predicted = np.asarray(module().predict(model.fitted, features, threads), dtype=np.float64)
    if not forecasting:
        return predicted
    given = _given(model, features)
    known = np.asarray(model.metadata.get("interval", [[np.nan, np.nan]]))
    # a step beyond those that were learned has the last one's interval
    place = np.clip(np.nan_to_num(given[:, 2], nan=1.0).astype(int) - 1, 0, len(known) - 1)
    return np.column_stack([predicted, predicted[:, None] + given[:, 1, None] * known[place], given])


def _given(model: Model, features: Matrix) -> Floats:
    """Of each row to forecast: the seasonal naive forecast, its error, and the step."""
    names = [feature["name"] for feature in model.metadata["features"]]
    return np.asarray(features[:, [names.index(name) for name in GIVEN]], dtype=np.float64)


def calibrated(model: Model, validation: Table) -> Model:
    """A model of forecasts with the interval that they have, as validation values say; any other one as it is."""
    if model.metadata["task"] != "forecasting":
        return model
    _, error, step = _given(model, validation.features).T
    missed = (validation.labels - predict(model, validation.features)[:, 0]) / error
    if (covers := (missed.size - 1) / (missed.size + 1)) < INTERVAL:
        log.warning("intervals are of %s validation values: they cover %.0f of 100, not 90", missed.size, 100 * covers)
    return replace(model, metadata={**model.metadata, "interval": _ends(missed, step)})


def _ends(missed: Floats, step: Floats) -> list[list[float]]:
    """The interval's ends beside the forecast, in units of the naive error, for each step that validation has.

    Split conformal (Lei et al., "Distribution-free predictive inference for regression", 2018).
    """
    found = []
    for number in range(1, int(step.max()) + 1):
        distances = np.abs(step - number)  # neighbours lend values where a step has few
        near = missed[distances <= np.sort(distances)[min(ENOUGH, distances.size) - 1]]
        share = min(1.0, np.ceil((near.size + 1) * (1 + INTERVAL) / 2) / near.size)
        low, high = (float(np.quantile(side, share, method="higher")) for side in (-near, near))
        found.append([min(0.0, -low), max(0.0, high)])  # a forecast lies in its own interval
    return found


def confirmed(model: Model, features: Matrix, known: "Predicted | None", threads: int) -> Predicted:
    """What a fit has predicted already, where the model says the same of some of the rows; else what it predicts."""
    some = slice(None, None, 1 + len(features) // COMPARED)
    if known is not None and np.array_equal(known[some], predict(model, features[some], threads)):
        return known
    return predict(model, features, threads)


def example(problem: Problem) -> Table:
    """A few made-up rows of two numbers for `fit` to be tried on."""
    classes = len(problem.classes)
    labels = np.arange(EXAMPLES, dtype=np.float64) % (classes or EXAMPLES) + (0 if classes else 1)
    return Table(np.arange(2 * EXAMPLES, dtype=np.float32).reshape(EXAMPLES, 2), labels)


def save(model: Model, folder: Path) -> None:
    """Write the model's own files into an empty folder, and metadata.json with a checksum of each."""
    file: Any = module()
    file.save(model.fitted, folder)
    described = file.describe(model.fitted) if hasattr(file, "describe") else {}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    sums = {name: _checksum(folder / name) for name in names}
    artifacts.write_json(folder / METADATA, {**model.metadata, **described, "files": sums})


def load(folder: Path) -> Model:
    """The model in a folder. Raises InputError where a file is missing, damaged, or not of the same model."""
    metadata: dict[str, Any] = artifacts.read_json(folder / METADATA)
    files = metadata.get("files") if isinstance(metadata, dict) else None
    for name, checksum in (files or {"": ""}).items():
        if name and not (folder / name).is_file():
            raise InputError(f"{name} is missing from {folder.name}/; was the model uploaded whole?")
        if not name or _checksum(folder / name) != checksum:
            both = f"{name or 'the files'} and {METADATA}"
            raise InputError(f"{both} in {folder.name}/ are not of the same model; restore both.")
    try:
        loaded = Model(module().load(folder), metadata)
        predict(loaded, matrices.unknown(metadata["features"]), threads=1)
    except Exception as error:  # of any library
        raise InputError(
            f"{folder.name}/ holds no model that components/algorithm/model.py can read and ask: {sentence(error)}"
        ) from None
    return loaded


def _checksum(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class Checkpoint:
    """The Progress of one fit, told from others by code and `identity`; `start` to go on from. Its state is a text."""

    predicted: "Predicted | None" = None
    stopping = False  # SIGTERM came

    def __init__(self, folder: Path, identity: Any, start: Any = None) -> None:
        self.file, self.owner, self.start = folder / STATE, _owner(identity), start
        self.written, self.pace = time.monotonic(), Pace()

    def interrupted(self) -> str | None:
        """The state of this fit to go on from, or None."""
        return _read(self.file, self.owner)

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """While inside, SIGTERM waits for the end of the round; before and after it ends the process at once."""
        before = signal.signal(signal.SIGTERM, self.on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
        if self.stopping:
            raise SystemExit("interrupted after the last round")

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def after_round(self, rounds: int, loss: float, state: Callable[[], str]) -> None:
        """Write the checkpoint when it is due, and stop after SIGTERM."""
        self.pace.say("round %s: loss %.5g on validation", rounds, loss)
        if rounds % EVERY == 0 or time.monotonic() - self.written > SECONDS or self.stopping:
            self.written = time.monotonic()
            _write(self.file, self.owner, f"{rounds} rounds", state())
        if self.stopping:
            raise SystemExit(f"interrupted after {rounds} rounds; the checkpoint holds them")


def remember(folder: Path, identity: Any, hyperparameters: dict[str, Any]) -> None:
    """Keep what a search found: it may have taken much longer than the fit."""
    _write(folder / TUNED, _owner(identity), "the search", json.dumps(hyperparameters))


def recall(folder: Path, identity: Any) -> dict[str, Any] | None:
    """What a search over the same data found before the interruption, or None."""
    found: dict[str, Any] | None = json.loads(_read(folder / TUNED, _owner(identity)) or "null")
    return found


def forget(folder: Path) -> None:
    """The run is complete: there is nothing to go on with."""
    for name in (STATE, TUNED):
        (folder / name).unlink(missing_ok=True)


def _owner(identity: Any) -> str:
    """Whose state it is: other code goes on from none, though all runs on the same data keep theirs in one place."""
    return digest([os.environ.get("CODE_VERSION"), identity])


def _read(file: Path, owner: str) -> str | None:
    """The text that this owner has kept, or None."""
    try:
        first, _, text = file.read_text(encoding="utf-8").partition("\n")
        head = json.loads(first)
        if head["owner"] != owner or head["text"] != digest(text):
            log.info("the checkpoint is of other data or hyperparameters; starting afresh")
            return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the checkpoint can't be read (%s); starting afresh", error)
        return None
    log.info("going on from a checkpoint of %s", head["of"])
    return text


def _write(file: Path, owner: str, of: str, text: str) -> None:
    """Keep all of a text or none of it, even when the machine goes away."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as handle:
        handle.write(f"{json.dumps({'owner': owner, 'of': of, 'text': digest(text)})}\n{text}")
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)
