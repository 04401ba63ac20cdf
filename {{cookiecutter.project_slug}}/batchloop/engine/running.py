"""What people want to know when a pipeline has ended: the numbers, the verdict, and where to read on."""

import fcntl
import json
import os
import signal
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any

from batchloop import repository as batchloop_repository
from batchloop.container.job import listed
from batchloop.engine import graph, scheduler
from batchloop.engine.cache import Cache, Execution, Registry, new_identity, now
from batchloop.engine.graph import Selection
from batchloop.engine.scheduler import Progress, Scheduler, State, watching, worker
from batchloop.engine.storage import Backend, Storage
from batchloop.pipelines.expressions import Scope
from batchloop.repository import Failure, Repository


class Summary:
    """Lines about one run, from what its steps stored."""

    def __init__(self, repository: Repository, storage: Storage, steps: Mapping[str, Progress]) -> None:
        self.repository, self.storage, self.steps = repository, storage, steps

    def metrics(self) -> dict[str, float]:
        """What the training jobs measured, by metric name."""
        lists = [step.properties.get("FinalMetricDataList", {}) for step in self.steps.values()]
        return {name: item["Value"] for found in lists for name, item in found.items()}

    def evaluation(self) -> Iterator[str]:
        """The metrics as a table: validation, test, and the champion on the same test rows."""
        report = self._evaluation()
        if report is None:
            return
        champion = report.get("champion") or {}
        columns = ["validation", "test", *(["champion"] if champion else [])]
        width = max(len(name) for name in report["test"])
        yield f"  {'':<{width}}" + "".join(f"{column:>12}" for column in columns)
        for name in report["test"]:
            values = [report[column].get(name) for column in columns]
            marked = " ← gate" if name == report.get("metric") else ""
            yield f"  {name:<{width}}" + "".join(f"{_number(value):>12}" for value in values) + marked
        if earlier := report.get("earlier"):
            yield f"  learned from earlier windows too: {', '.join(earlier)}"
        if doubt := leak(report):
            yield f"  not to be trusted on new rows: {doubt}"
        if reason := report.get("not_comparable"):
            yield f"  not compared with the released model: {reason} [gate] minimum alone decides."

    def untrusted(self) -> str:
        """Why what was measured says little of new rows; "" where it does."""
        return leak(self._evaluation() or {})

    def scoring(self) -> Iterator[str]:
        """How many rows were scored, and whether the data still is what the model knows."""
        counts = self._json("summary", "summary.json")
        if counts:
            broken = counts.get("broken", 0)
            first = f"; first: {counts['first_break']}" if counts.get("first_break") else ""
            yield f"{counts['rows']:,} rows; {broken:,} break the contract and have an error instead of a score{first}"
            if counts.get("empty"):
                yield f"{counts['empty']:,} empty lines are no rows"
            yield from counts.get("warnings", [])
        if drift := self.drift():
            yield f"drift: {drift['verdict']}. {drift['reason']}"
            if drift.get("consequence"):
                yield f"alarm: {drift['consequence']}"
            if drift.get("drifted"):
                yield f"strongest columns: {listed(drift['drifted'], 5)}"

    def drift(self) -> dict[str, Any]:
        """The drift report; {} where there is none."""
        return self._json("drift", "drift.json") or {}

    def labelled(self) -> Iterator[str]:
        """What predictions were worth by their labels, beside what was expected and what validation gave."""
        found = self.drift().get("realised")
        if not found:
            yield "the monitoring component says nothing of labels"
            return
        if found["value"] is None:
            yield f"how well these rows were scored is not known: {found['reason']}"
            return
        yield f"{'':<34}{'realised':>10}{'95 %':>20}{'expected':>10}{'validation':>12}"
        for name in sorted(found["metrics"], key=lambda name: name != found["metric"]):
            one = found["metrics"][name]
            numbers = f"{_number(one['value']):>10}{_number(one['low']) + ' to ' + _number(one['high']):>20}"
            marked = " ← gate" if name == found["metric"] else ""
            yield f"  {name:<32}{numbers}{_number(one['expected']):>10}{_number(one['reference']):>12}{marked}"
        share = f", {100 * found['share']:.0f} % of those scored" if found["share"] is not None else ""
        yield f"{found['rows']:,} rows have a prediction and a label{share}"
        if found["bias"]:
            yield f"they are no random share of them: {found['bias']}"
        out = [f"{name.replace('_', ' ')} {rows:,}" for name, rows in found["left_out"].items() if rows]
        if out:
            yield f"rows with labels left out: {', '.join(out)}"
        worse = "worse" if found["alarm"] else "not worse"
        yield f"{worse} than on the validation split by more than {found['limit']:g} and chance"

    def places(self) -> Iterator[str]:
        """Where reports and predictions lie."""
        for step, progress in self.steps.items():
            for uri in uris(progress):
                found = [path for name, path in self.storage.files(uri) if name.endswith("report.html")]
                yield from (f"report of {step}: {self.repository.shown(path)}" for path in found)
            if "TransformOutput" in progress.properties:
                path = self.storage.path(progress.properties["TransformOutput"]["S3OutputPath"])
                yield f"predictions: {self.repository.shown(path)}"

    def _json(self, output: str, name: str) -> dict[str, Any] | None:
        for progress in self.steps.values():
            outputs = progress.properties.get("ProcessingOutputConfig", {}).get("Outputs", {})
            if output in outputs:
                try:
                    return dict(self.storage.read_json(f"{outputs[output]['S3Output']['S3Uri']}/{name}"))
                except Failure:
                    return None
        return None

    def _evaluation(self) -> dict[str, Any] | None:
        """evaluation.json out of a training job's output.tar.gz."""
        for progress in self.steps.values():
            artifacts = progress.properties.get("ModelArtifacts")
            path = artifacts and self.storage.path(artifacts["S3ModelArtifacts"]).with_name("output.tar.gz")
            if path and path.is_file():
                with tarfile.open(path) as archive:
                    if "evaluation.json" in archive.getnames() and (file := archive.extractfile("evaluation.json")):
                        return dict(json.load(file))
        return None


def uris(progress: Progress) -> list[str]:
    """Where a processing step's outputs are stored."""
    outputs = progress.properties.get("ProcessingOutputConfig", {}).get("Outputs", {})
    return [item["S3Output"]["S3Uri"] for item in outputs.values()]


def leak(evaluation: Mapping[str, Any]) -> str:
    """Why rows of validation or test are no new rows to the model; "" where they are."""
    found = evaluation.get("leak") or {}
    return str(found.get("reason") or "") if found.get("trusted") is False else ""


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}"


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
        scheduler.close_interrupted(repository.local / "runs")
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
        nodes, results = graph.selected(nodes, order.selection, order.name, repository.local / "runs")
    execution = _execution(repository, backend, order.identity)
    scope = Scope(order.parameters, _variables(order.name, execution.identity), execution.storage.read_json, results)
    record = scheduler.Record(execution.folder / "run.json", execution.identity, order.name, order.parameters)
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
        return batchloop_repository.component(repository, component)

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
