"""What a training is started with: the rows it learns from, the images that run, and the champion it has to beat."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from botocore.exceptions import ClientError

from batchloop.control import memory, release, reports, storage
from batchloop.control.decision import Action, Circumstances, Decision, candidates, decide, settled
from batchloop.control.memory import NOTHING as MEMORY_NOTHING
from batchloop.control.memory import RETRAINING, Memory, Observation, before, parse
from batchloop.control.names import COMPONENTS, Aws, Places
from batchloop.control.release import NotReleased
from batchloop.control.reports import mark
from batchloop.control.storage import RUNS, Conflict, Stored
from batchloop.control.storage import start as storage_start

CHAMPION = {"ChampionPreprocessor": "preprocessor", "ChampionModel": "model"}


@dataclass(frozen=True)
class Learning:
    """The training pipeline's parameters, and the version of the release that the new model follows, or 0.

    `champion` says what it is compared with, `besides` which windows it learns from besides its own, "" for none;
    `unusual`: whether there is a release that it is not compared with.
    """

    values: dict[str, str]
    version: int
    champion: str
    besides: str
    unusual: bool

    @property
    def remarks(self) -> str:
        """What of it a person who knows the window does not expect; sentences, or ""."""
        besides = f"It also learns from {self.besides}." if self.besides else ""
        return " ".join(part for part in (besides, f"{self.champion}." if self.unusual else "") if part)


def plan(aws: Aws, places: Places, window: str, fresh: bool = False) -> Learning:
    """For a window; `fresh`: without a champion, also where the release is damaged, which raises NotReleased else."""
    released = None
    with suppress(NotReleased) if fresh else nullcontext():
        _, released = release.current(aws, places)
    champion = {name: released["artifacts"][artifact] for name, artifact in CHAMPION.items()} if released else {}
    gone = [CHAMPION[name] for name, uri in champion.items() if not storage.exists(aws, uri)]
    version = released["version"] if released else 0
    if fresh or gone:
        champion = dict.fromkeys(CHAMPION, f"{places.storage}/none")
    pushed = {name: storage.read(aws.ssm, places.parameter(f"components/{name}/image")).text for name in COMPONENTS}
    images = (released["images"] if released else {}) | {
        name: at for name, at in pushed.items() if at != MEMORY_NOTHING
    }
    earlier = earlier_windows(aws, places, window)
    values = {
        "TrainingData": places.data(window, "train"),
        **({"EarlierData": _listed(aws, places, window, earlier)} if earlier else {}),
        **({"ValidationData": places.data(window, "validation")} if places.given_validation else {}),
        "ArtifactsPrefix": places.runs("training"),
        **(champion or dict.fromkeys(CHAMPION, f"{places.storage}/none")),
        **{f"{name.capitalize()}Image": image for name, image in images.items()},
    }
    return Learning(values, version, _compared(version, gone, fresh), memory.besides(list(earlier)), bool(gone))


def _compared(version: int, gone: list[str], fresh: bool) -> str:
    if fresh:
        return "No champion was asked for: [gate] minimum alone decides"
    if gone:
        lost = " and ".join(gone)
        return f"Release {version} is not compared, because its {lost} is gone from S3: [gate] minimum alone decides"
    return f"Release {version} is the champion" if version else "There is no champion yet"


def earlier_windows(aws: Aws, places: Places, window: str) -> dict[str, dict[str, str]]:
    """The windows before this one that [retraining] learn asks for, old to new, each with its labelled files.

    A window without labels counts for nothing.
    """
    found: dict[str, dict[str, str]] = {}
    for name in before(storage.windows(aws, places), window) if places.settings.earlier else []:
        if len(found) < places.settings.earlier and (files := storage.files(aws, places.data(name, "train"))):
            found[name] = files
    return dict(reversed(found.items()))


def _listed(aws: Aws, places: Places, window: str, earlier: dict[str, dict[str, str]]) -> str:
    """The URI of a manifest of these files, which is how a processing job takes several folders as one input.

    "S3DataSource" in the SageMaker API reference: a prefix, then keys relative to it. It is called after the files
    and what is in them, so that the pipeline's cache, which compares requests, takes other ones for another input.
    """
    prefix = f"{places.storage}/data/"
    (bucket, folder), files = (
        storage.split(prefix),
        {key: tag for keys in earlier.values() for key, tag in keys.items()},
    )
    name = sha256(json.dumps(files).encode()).hexdigest()[:16]
    uri = f"{places.runs('training')}/earlier/{window}-{name}.manifest"
    text = json.dumps([{"prefix": prefix}, *(key.removeprefix(folder) for key in files)], indent=1)
    aws.s3.put_object(Bucket=bucket, Key=storage.split(uri)[1], Body=text.encode())
    return uri


STEP, PARTS = "DetectDrift", ("labels", "train")
DATA, VERSION = "LabelledData", "LabelsVersion"  # parameters of the inference pipeline
NOTHING = "none"
PAGES = 10  # of a hundred executions: as far back as a window's own run is looked for
OTHERS = re.compile(r"Window (\S+) is (scored|measured)")  # how the executions that the loop starts are described


def given(aws: Aws, places: Places, window: str) -> dict[str, str]:
    """The parameters that name a window's labels; none where no labels have come.

    They lie in labels/, an id and a label a row being enough, or else in train/ among the rows to learn from.
    """
    for uri in (places.data(window, part) for part in PARTS):
        if version := storage.version(aws, uri):
            return {DATA: uri, VERSION: version}
    return {}


def selective(described: Mapping[str, Any]) -> bool:
    """Whether an execution measures an earlier one, of DescribePipelineExecution's answer."""
    return "SelectiveExecutionConfig" in described


def start(aws: Aws, places: Places, window: str) -> str:
    """The ARN of the execution that measures a window with the labels that are there; "" where there is nothing to do.

    One that is under way is waited for: its end asks again. The same labels are measured once. A refusal is told, and
    keeps nothing else from being decided.
    """
    labels = given(aws, places, window)
    if not labels or window in running(aws, places):
        return ""
    source, known = _source(aws, places, window, labels[VERSION])
    if not source:
        return ""
    again = {"SourcePipelineExecutionArn": source, "SelectedSteps": [{"StepName": STEP}]}
    why, purpose = f"Window {window} is measured: labels have come.", (source, labels[VERSION])
    pipeline, values = places.pipeline("inference"), known | labels
    try:
        return storage.start(aws, pipeline, values, purpose, why, SelectiveExecutionConfig=again)
    except ClientError as refusal:
        todo = "Mend what is refused, and put the labels there once more."
        lines = {"Labels": labels[DATA], "Decision": f"They are not measured: {refusal}", "To do": todo, "Run": source}
        reports.tell(aws, places, f"{window}: labels can't be measured", lines)
        return ""


def running(aws: Aws, places: Places) -> frozenset[str]:
    """The windows that are being measured right now."""
    newest = next(_runs(aws, places))
    arns = [run["PipelineExecutionArn"] for run in newest if run["PipelineExecutionStatus"] in storage.RUNS]
    values = [storage.parameters(aws, arn) for arn in arns]
    return frozenset(places.window(given["ProductionData"], "production") for given in values if DATA in given)


def _source(aws: Aws, places: Places, window: str, version: str) -> tuple[str, dict[str, str]]:
    """The newest whole run of a window that succeeded, and its parameters; "" where there is none.

    Also "" where these labels were measured, or tried to be.
    """
    for run in (run for page in _runs(aws, places) for run in page):
        described, arn = OTHERS.match(run.get("PipelineExecutionDescription", "")), run["PipelineExecutionArn"]
        values = {} if described and described[1] != window else storage.parameters(aws, arn)
        if places.window(values.get("ProductionData", ""), "production") != window:
            continue
        if values.get(VERSION) == version:
            return "", {}
        whole = not selective(aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn))
        if whole and run["PipelineExecutionStatus"] == "Succeeded":
            return arn, values
    return "", {}


def _runs(aws: Aws, places: Places) -> Iterator[list[dict[str, Any]]]:
    """Executions of the inference pipeline, the newest first, a page at a time."""
    request = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}
    token: dict[str, str] = {}
    for _ in range(PAGES):
        found = aws.sagemaker.list_pipeline_executions(PipelineName=places.pipeline("inference"), **request, **token)
        yield found["PipelineExecutionSummaries"]
        if not found.get("NextToken"):
            return
        token = {"NextToken": found["NextToken"]}


Tell = Callable[[Decision], None]
ATTEMPTS = 3
PATIENCE = timedelta(hours=1)  # how long a retraining that can't be started is tried again


def recall(aws: Aws, places: Places) -> tuple[Stored, Memory]:
    """The parameter, and the memory in it. Raises ValueError for a damaged one."""
    stored = storage.read(aws.ssm, places.parameter("retraining"))
    return stored, parse(stored.text)


def advance(aws: Aws, places: Places, observation: Observation | None, now: datetime, tell: Tell) -> Decision:
    """Decide and do it; `tell` is called before it is remembered, so that a message can come twice but is never lost.

    Two events at once: see `parameters`. Raises Conflict after three attempts; Lambda then tries the event again.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return _advance(aws, places, observation, now, tell)
        except Conflict:
            continue
    return _advance(aws, places, observation, now, tell)


def go_on(aws: Aws, places: Places, now: datetime) -> Decision:
    """Without a new observation: labels have arrived, or a training has ended."""

    def tell(decision: Decision) -> None:
        if decision.action == Action.RETRAIN:
            lines = {"Window": decision.window, "Decision": decision.reason, "Run": decision.memory.execution}
            reports.tell(aws, places, f"{decision.window}: labels are there, retraining started", lines)

    return advance(aws, places, None, now, tell)


def _advance(aws: Aws, places: Places, observation: Observation | None, now: datetime, tell: Tell) -> Decision:
    stored, memory = _settle(aws, places, now)
    wanted = candidates(memory, places.settings, observation.window if observation else "")
    around = _circumstances(aws, places, wanted, now)
    decision = decide(memory, observation, places.settings, around)
    if decision.action == Action.RETRAIN:
        stored = storage.write(aws.ssm, stored, decision.memory.text())
        begun = _begun(aws, places, decision.memory)
        decision = replace(decision, memory=begun, reason=begun.reason)
    tell(decision)
    storage.write(aws.ssm, stored, decision.memory.text())
    there = decision.action == Action.WAIT and decision.window not in around.measuring
    if there and _labels(aws, places, decision.window):  # they came while this was decided
        return _advance(aws, places, None, now, tell)
    return decision


def _settle(aws: Aws, places: Places, now: datetime) -> tuple[Stored, Memory]:
    """Complete what was begun, and notice what has ended."""
    stored, memory = recall(aws, places)
    if memory.state != RETRAINING:
        return stored, memory
    if not memory.execution:
        if _learned(aws, places) == memory.window:  # it ran and was released before its ARN could be written down
            return stored, settled(memory, "ended as Succeeded")
        try:
            running = _running(aws, places)
            memory = replace(memory, execution=running) if running else _begun(aws, places, memory)
        except ClientError as error:
            if now - datetime.fromisoformat(memory.started[-1]) < PATIENCE:
                raise
            return stored, _ended(aws, places, memory, f"could not be started: {error}")
        lines = {"Decision": memory.reason, "Run": memory.execution}
        reports.tell(aws, places, f"retraining on {memory.window} started", lines)
        stored = storage.write(aws.ssm, stored, memory.text())
    status, why = _status(aws, memory.execution)
    if status in RUNS:
        return stored, memory
    return stored, _ended(aws, places, memory, f"ended as {status}{f': {why}' if why else ''}")


def _ended(aws: Aws, places: Places, memory: Memory, how: str) -> Memory:
    memory = settled(memory, how[:500].rstrip("."))
    if how != "ended as Succeeded":
        todo = "See why in the run's steps. The next window that drifts is tried again; this one is not."
        lines = {"Decision": memory.reason, "To do": todo, "Run": memory.execution}
        reports.tell(aws, places, f"no new model from window {memory.window}", lines)
    return memory


def _status(aws: Aws, arn: str) -> tuple[str, str]:
    try:
        found = aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ResourceNotFound", "ResourceNotFoundException"):
            raise
        return "deleted", ""
    return found["PipelineExecutionStatus"], found.get("FailureReason", "")


def _running(aws: Aws, places: Places) -> str:
    """A training that is under way, also one that a person started; "" where there is none."""
    request = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}
    found = aws.sagemaker.list_pipeline_executions(PipelineName=places.pipeline("training"), **request)
    runs = [run for run in found["PipelineExecutionSummaries"] if run["PipelineExecutionStatus"] in RUNS]
    return str(runs[0]["PipelineExecutionArn"]) if runs else ""


def _labels(aws: Aws, places: Places, window: str) -> bool:
    return all(storage.exists(aws, places.data(window, part)) for part in places.labelled)


def _circumstances(aws: Aws, places: Places, windows: list[str], now: datetime) -> Circumstances:
    labelled = frozenset(window for window in windows if _labels(aws, places, window))
    measured = running(aws, places) if labelled else frozenset[str]()
    _, released = release.current(aws, places)
    baseline = mark(released["artifacts"]["baseline"]) if released else ""
    return Circumstances(now, labelled, _learned(aws, places), bool(_running(aws, places)), measured, baseline)


def _learned(aws: Aws, places: Places) -> str:
    """The window that the release learned from, "" where that is none or unknown."""
    _, released = release.current(aws, places)
    return places.window(released["training_data"], "train") if released else ""


def _begun(aws: Aws, places: Places, memory: Memory) -> Memory:
    """With the execution that was started; one retraining is what a window and a release make together."""
    planned = plan(aws, places, memory.window)
    reason = f"{memory.reason} {planned.remarks}".rstrip() if planned.remarks not in memory.reason else memory.reason
    purpose = (memory.window, str(planned.version))
    execution = storage_start(aws, places.pipeline("training"), planned.values, purpose, reason)
    return replace(memory, execution=execution, reason=reason)
