"""One run from its definition to its end: lock, folder, engine, view, record."""

import fcntl
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any

from operations import fingerprints
from operations.engine import graph, recording, selecting
from operations.engine.backend import Backend
from operations.engine.cache import Cache
from operations.engine.execution import Execution, new_identity, now
from operations.engine.registry import Registry
from operations.engine.scheduler import Progress, Scheduler, State, worker
from operations.engine.selecting import Selection
from operations.engine.storage import Storage
from operations.engine.view import watching
from operations.failures import Failure
from operations.repository import Repository
from pipelines.expressions import Scope


@dataclass(frozen=True)
class Order:
    """What is to be run: a definition under its pipeline's name, with a value for each parameter.

    `identity` is the execution's, "" makes a new one. Run again under the same one, an execution reuses the steps that
    it has finished itself, and no other's, whose outputs lie elsewhere. A `quiet` run shows nothing. Of a
    `selection` only those steps run.
    """

    definition: Mapping[str, Any]
    name: str
    parameters: Mapping[str, Any]
    identity: str = ""
    quiet: bool = False
    selection: Selection | None = None


@dataclass(frozen=True)
class Finished:
    """How a run ended."""

    identity: str
    steps: Mapping[str, Progress]

    @property
    def failed(self) -> dict[str, Progress]:
        """The steps that failed, by name."""
        return {name: step for name, step in self.steps.items() if step.state == State.FAILED}


@contextmanager
def exclusively(repository: Repository) -> Iterator[None]:
    """One run at a time. Raises Failure while another is at work; a killed run's lock is gone with it."""
    repository.local.mkdir(exist_ok=True)
    with (repository.local / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise Failure(f"another run is at work here (process {lock.read().strip() or '?'}); wait for it.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        recording.close_interrupted(repository.local / "runs")
        yield


def storage(repository: Repository) -> Storage:
    """What stands for S3 here."""
    return Storage(repository.local / "storage")


def registry(repository: Repository) -> Registry:
    """What stands for the Model Registry here."""
    return Registry(repository.local / "registry.json")


def run(repository: Repository, order: Order, backend: Backend) -> Finished:
    """Run a definition; the caller holds the lock. Raises KeyboardInterrupt once everything started has ended."""
    nodes, results = graph.nodes(order.definition), dict[str, Any]()
    if order.selection:
        nodes, results = selecting.selected(nodes, order.selection, order.name, repository.local / "runs")
    execution = _execution(repository, backend, order.identity)
    scope = Scope(order.parameters, _variables(order.name, execution.identity), execution.storage.read_json, results)
    record = recording.Record(execution.folder / "run.json", execution.identity, order.name, order.parameters)
    try:
        with _terminable(), nullcontext(_ignore) if order.quiet else watching(list(nodes)) as watch:
            watches = (record.change, watch)
            steps = Scheduler(nodes, worker(execution, scope), lambda *change: _tell(watches, *change)).run()
    except KeyboardInterrupt:
        backend.stop()
        record.end("stopped")
        raise
    finally:
        backend.close()
        execution.cache.save()
    broken = any(step.state in (State.FAILED, State.NOT_RUN) for step in steps.values())
    record.end("failed" if broken else "done")
    return Finished(execution.identity, steps)


def versions(repository: Repository) -> Callable[[str], str]:
    """A component's content hash, computed once: what a run started with is what it is recorded under."""

    @cache
    def version(component: str) -> str:
        return fingerprints.component(repository, component)

    return version


def _ignore(_name: str, _progress: Progress) -> None:
    """What a quiet run shows."""


def _execution(repository: Repository, backend: Backend, identity: str) -> Execution:
    stored = storage(repository)
    known = Cache(repository.local / "cache" / identity, stored)
    identity = identity or new_identity()
    folder = repository.local / "runs" / identity
    folder.mkdir(parents=True)
    return Execution(identity, folder, stored, known, backend, registry(repository))


def _variables(pipeline: str, identity: str) -> dict[str, str]:
    """Execution.X, as the service knows it."""
    arn = f"arn:aws:sagemaker:local:000000000000:pipeline/{pipeline}"
    return {
        "PipelineName": pipeline,
        "PipelineArn": arn,
        "PipelineExecutionId": identity,
        "PipelineExecutionArn": f"{arn}/execution/{identity}",
        "StartDateTime": now(),
        "CurrentDateTime": now(),
    }


def _tell(watches: tuple[Callable[[str, Progress], None], ...], name: str, progress: Progress) -> None:
    for watch in watches:
        watch(name, progress)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
