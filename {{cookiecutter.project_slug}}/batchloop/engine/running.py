"""Runs a compiled definition here, records how it went, and says what came of it."""

import fcntl
import json
import os
import shutil
import signal
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchloop.container.job import InputError, listed
from batchloop.engine import graph
from batchloop.engine.graph import Progress, Scheduler, Selection, StepStatus, watching
from batchloop.engine.processes import Backend
from batchloop.engine.steps import PipelineExecution, now
from batchloop.engine.storage import Cache, Registry, Storage, run_record, write_json
from batchloop.pipelines.expressions import Scope
from batchloop.repository import Repository

GATE = " ← gate"
UNREADABLE = (OSError, EOFError, LookupError, ValueError, tarfile.TarError, zlib.error)  # of an archive
MEASURED = ("value", "low", "high", "expected", "reference")


@dataclass(frozen=True)
class Order:
    """What is to be run: a definition under its pipeline's name, with a value for each parameter.

    `identity` is the execution's, "" makes a new one; under the same one again, steps that it has finished itself are
    reused. A `quiet` run shows nothing. Of a `selection` only those steps run.
    """

    definition: Mapping[str, Any]
    name: str
    parameters: Mapping[str, Any]
    identity: str = ""
    quiet: bool = False
    selection: Selection | None = None


@dataclass(frozen=True)
class Finished:
    identity: str
    steps: Mapping[str, Progress]

    @property
    def failed(self) -> dict[str, Progress]:
        return {name: step for name, step in self.steps.items() if step.status == StepStatus.FAILED}


@contextmanager
def exclusively(repository: Repository) -> Iterator[None]:
    """One run at a time, or InputError; runs that were killed are marked, and their half-done job folders removed."""
    repository.local.mkdir(exist_ok=True)
    with (repository.local / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise InputError(
                f"another run is at work here (process {lock.read().strip() or '?'}); wait for it."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for record in [its for its in records(repository) if its["state"] == "running"]:
            run = repository.local / "runs" / record["execution"]
            for folder in run.iterdir():
                if folder.is_dir() and folder.name != "logs":
                    shutil.rmtree(folder, ignore_errors=True)
            write_json(run / "run.json", {**record, "state": "interrupted"})
        yield


def records(repository: Repository, pipeline: str = "") -> Iterator[dict[str, Any]]:
    """What the runs here, or one pipeline's, say of themselves, the newest first; a damaged file tells nothing."""
    for file in sorted((repository.local / "runs").glob("*/run.json"), reverse=True):
        if (record := run_record(file)) and pipeline in ("", record["pipeline"]):
            yield record


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
    stored = storage(repository)
    # what processes have done is not taken for what containers do
    kept = order.identity or f"{type(backend).__name__.lower()}/{order.name}"
    cache = Cache(repository.local / "cache" / kept, stored, own=bool(order.identity))
    identity = order.identity or f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"  # sorts by time; one run at a time
    folder = repository.local / "runs" / identity
    folder.mkdir(parents=True)
    execution = PipelineExecution(identity, folder, stored, cache, backend, registry(repository))
    arn = f"arn:aws:sagemaker:local:000000000000:pipeline/{order.name}"
    variables = {
        "PipelineName": order.name,
        "PipelineArn": arn,
        "PipelineExecutionId": identity,
        "PipelineExecutionArn": f"{arn}/execution/{identity}",
        "StartDateTime": now(),
        "CurrentDateTime": now(),
    }
    scope = Scope(order.parameters, variables, stored.read_json, results)
    record = {"execution": identity, "pipeline": order.name, "state": "running", "started": now()}
    scheduler = Scheduler(nodes, execution, scope, {**record, "parameters": dict(order.parameters), "steps": {}})
    scheduler.save()
    try:
        with _terminable(), nullcontext() if order.quiet else watching(list(nodes), execution.log) as scheduler.show:
            scheduler.run(backend.stop)
    except KeyboardInterrupt:
        scheduler.save(state="stopped", ended=now())
        raise
    finally:
        backend.close()
    finished = Finished(identity, scheduler.steps)
    scheduler.save(state="failed" if finished.failed else "done", ended=now())
    return finished


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class RunSummary:
    """Lines about one run, from what its steps stored: the numbers, the verdict, and where to read on."""

    def __init__(self, repository: Repository, finished: Finished) -> None:
        self.repository, self.steps = repository, finished.steps
        self.storage = storage(repository)

    def metrics(self) -> dict[str, float]:
        lists = [step.properties.get("FinalMetricDataList", {}) for step in self.steps.values()]
        return {name: item["Value"] for found in lists for name, item in found.items()}

    def evaluation(self) -> Iterator[str]:
        """The metrics as a table: validation, test, and the champion and a naive forecast on the same test rows."""
        report = self.report()
        if not report:
            return
        naive = "rival" in (report.get("comparison") or {})
        columns = ["validation", "test", *(["champion"] if report.get("champion") and not naive else [])]
        columns += ["naive"] if report.get("naive") else []
        width = max(len(name) for name in report["test"])
        yield f"  {'':<{width}}" + "".join(f"{column:>12}" for column in columns)
        for name in report["test"]:
            values = "".join(f"{_number(report[column].get(name)):>12}" for column in columns)
            yield f"  {name:<{width}}{values}" + (GATE if name == report.get("metric") else "")
        if earlier := report.get("earlier"):
            yield f"  learned from earlier windows too: {', '.join(earlier)}"
        if worst := report.get("slices", {}).get("worst"):
            lines = [line for line in report["slices"]["lines"] if line["value"] is None]
            unknown = listed((f"{line['column']} = {line['slice']} ({line['rows']:,} rows)" for line in lines), 5)
            few = f"; can't be evaluated: {unknown}" if lines else ""
            value, name = _number(worst["value"]), f"{worst['column']} = {worst['slice']}"
            yield f"  worst slice: {name}, {report['metric']} {value.strip()} on {worst['rows']:,} rows{few}"
        if untrusted := self.untrusted():
            yield f"  not to be trusted on new rows: {untrusted}"
        if reason := report.get("not_comparable"):
            yield f"  not compared with the released model: {reason} [gate] minimum alone decides."

    def untrusted(self) -> str:
        """Why rows of validation or test are no new rows to the model, so that metrics say little; "" else."""
        leak = self.report().get("leak") or {}
        return str(leak.get("reason") or "") if leak.get("trusted") is False else ""

    def scoring(self) -> Iterator[str]:
        """How many rows were scored, and whether the data still is what the model knows."""
        if counts := self._summary():
            first = f"; first: {counts['first_break']}" if counts["first_break"] else ""
            past, failed = counts["past"], f"{counts['broken']:,}"
            broken = f"{failed} break the contract and have an error instead of a score"
            if past:
                broken = f"{past:,} more are the past; {failed} have an error instead of a forecast"
            yield f"{counts['rows'] - past:,} rows{' to come' if past else ''}; {broken}{first}"
            if counts["empty"]:
                yield f"{counts['empty']:,} empty lines are no rows"
            yield from counts["warnings"]
        if drift := self.drift():
            yield f"drift: {drift['verdict']}. {drift['reason']}"
            if drift.get("consequence"):
                yield f"alarm: {drift['consequence']}"
            if drift.get("drifted"):
                yield f"strongest columns: {listed(drift['drifted'], 5)}"

    def drift(self) -> dict[str, Any]:
        """The drift report; {} where there is none."""
        return next(self._told("drift"), {})

    def labelled(self) -> Iterator[str]:
        """What predictions were worth by their labels, beside what was expected and what validation gave."""
        realised = self.drift().get("realised")
        if not realised:
            yield "the monitoring component says nothing of labels"
            return
        if realised["value"] is None:
            yield f"how well these rows were scored is not known: {realised['reason']}"
            return
        yield f"{'':<34}{'realised':>10}{'95 %':>20}{'expected':>10}{'validation':>12}"
        for name in sorted(realised["metrics"], key=lambda name: name != realised["metric"]):
            metric = {key: _number(value) for key, value in realised["metrics"][name].items() if key in MEASURED}
            limits = f"{metric['low']} to {metric['high']}"
            numbers = f"{metric['value']:>10}{limits:>20}{metric['expected']:>10}{metric['reference']:>12}"
            yield f"  {name:<32}{numbers}" + (GATE if name == realised["metric"] else "")
        share = f", {100 * realised['share']:.0f} % of those scored" if realised["share"] is not None else ""
        yield f"{realised['rows']:,} rows have a prediction and a label{share}"
        if realised["bias"]:
            yield f"they are no random share of them: {realised['bias']}"
        if out := [f"{name.replace('_', ' ')} {rows:,}" for name, rows in realised["left_out"].items() if rows]:
            yield f"rows with labels left out: {', '.join(out)}"
        worse = "worse" if realised["alarm"] else "not worse"
        yield f"{worse} than on the validation split by more than {realised['limit']:g} and chance"

    def places(self) -> Iterator[str]:
        for name, step in self.steps.items():
            for output in outputs(step).values():
                paths = [path for file, path in self.storage.files(output) if file.endswith("report.html")]
                yield from (f"report of {name}: {self.repository.shown(path)}" for path in paths)
            if "TransformOutput" in step.properties:
                path = self.storage.path(step.properties["TransformOutput"]["S3OutputPath"])
                yield f"predictions: {self.repository.shown(path)}"

    def _summary(self) -> dict[str, Any]:
        """What processing says of its rows, of all hosts together; {} where it says nothing."""
        shares = [*self._told("summary")]
        total = {key: sum(share.get(key, 0) for share in shares) for key in ("rows", "past", "broken", "empty")}
        first = next((share["first_break"] for share in shares if share.get("first_break")), "")
        warnings = [*dict.fromkeys(warning for share in shares for warning in share.get("warnings", []))]
        return total | {"first_break": first, "warnings": warnings} if shares else {}

    def _told(self, name: str) -> Iterator[dict[str, Any]]:
        """What the steps' outputs of this name hold as <name>.json, of each host."""
        for uri in [uri for step in self.steps.values() if (uri := outputs(step).get(name))]:
            with suppress(InputError):
                files = [file for file, _ in self.storage.files(f"{uri}/") if file.endswith(f"{name}.json")]
                yield from (dict(self.storage.read_json(f"{uri}/{file}")) for file in files)

    def report(self) -> dict[str, Any]:
        """evaluation.json out of a training job's output.tar.gz; {} where there is none, or that is damaged."""
        for step in self.steps.values():
            artifacts = step.properties.get("ModelArtifacts")
            path = artifacts and self.storage.path(artifacts["S3ModelArtifacts"]).with_name("output.tar.gz")
            if path and path.is_file():
                with suppress(*UNREADABLE), tarfile.open(path) as archive:
                    return dict(json.load(archive.extractfile("evaluation.json")))  # type: ignore[arg-type]  # a file
        return {}


def outputs(step: Progress) -> dict[str, str]:
    """A processing step's outputs: name → URI."""
    outputs = step.properties.get("ProcessingOutputConfig", {}).get("Outputs", {})
    return {name: item["S3Output"]["S3Uri"] for name, item in outputs.items()}


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}"
