"""The executions of the two pipelines: which run, measuring a window by its labels, and retraining on one.

A retraining is given the rows it learns from, the images that run, and the champion that it has to beat.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from batchloop.control import artifacts, decision, release, reports, storage
from batchloop.control.artifacts import NotReleased
from batchloop.control.decision import RETRAINING, Action, Decision, DecisionContext, Memory, Observation
from batchloop.control.names import COMPONENTS, FINGERPRINT, NOTHING, Aws, Places, besides, earlier_windows
from batchloop.control.storage import Conflict, Stored

RUNS = ("Executing", "Stopping")
PAGE, MOST = 100, 1000  # executions in an answer; as far back as a window's own run is looked for
CHAMPION = {"ChampionPreprocessor": "preprocessor", "ChampionModel": "model"}
STEP, PARTS = "DetectDrift", ("labels", "train")
SELECTIVE = "SelectiveExecutionConfig"  # what an execution has that measures by labels what an earlier one scored
DATA, VERSION = "LabelledData", "LabelsVersion"  # parameters of the inference pipeline
DESCRIPTION = re.compile(r"Window (\S+) is (scored|measured)")  # of the executions that the loop starts
ATTEMPTS = 3
PATIENCE = timedelta(hours=1)  # how long a retraining that can't be started is tried again
Tell = Callable[[Decision], None]


def start(aws: Aws, pipeline: str, values: dict[str, str], purpose: tuple[str, ...], why: str, **more: Any) -> str:
    """Start an execution, once for a purpose and what it is given; its ARN. `more` are further members of the request.

    What is given stands in the token: nobody says what the service makes of one token with two requests.
    """
    token = json.dumps([pipeline, *purpose, values, more], sort_keys=True)
    answer = aws.sagemaker.start_pipeline_execution(
        PipelineName=pipeline,
        PipelineExecutionDescription=" ".join(why.split())[:1000],
        PipelineParameters=[{"Name": name, "Value": value} for name, value in values.items()],
        ClientRequestToken=sha256(token.encode()).hexdigest(),
        **more,
    )
    return str(answer["PipelineExecutionArn"])


def parameters(aws: Aws, arn: str) -> dict[str, str]:
    found = aws.sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn, MaxResults=100)
    return {entry["Name"]: entry["Value"] for entry in found["PipelineParameters"]}


def executions(aws: Aws, pipeline: str, most: int = PAGE) -> Iterator[dict[str, Any]]:
    """Executions of a pipeline, the newest first."""
    request = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": PAGE}
    pages = aws.sagemaker.get_paginator("list_pipeline_executions").paginate(PipelineName=pipeline, **request)
    return islice((run for page in pages for run in page["PipelineExecutionSummaries"]), most)


def running(aws: Aws, pipeline: str) -> list[str]:
    """The ARNs of a pipeline's executions that are under way, also of those that a person started."""
    runs = executions(aws, pipeline)
    return [run["PipelineExecutionArn"] for run in runs if run["PipelineExecutionStatus"] in RUNS]


def labels(aws: Aws, places: Places, window: str) -> dict[str, str]:
    """The parameters that name a window's labels, in labels/ or else in train/; none where no labels have come."""
    for part in PARTS:
        if storage.complete(aws, places, window, part):
            uri = places.data(window, part)
            return {DATA: uri, VERSION: storage.fingerprint(storage.files(aws, uri))}
    return {}


def measure(aws: Aws, places: Places, window: str) -> str:
    """The ARN of the execution that measures a window with the labels that are there; "" where there is nothing to do.

    One that is under way is waited for: its end asks again. The same labels are measured once. A refusal is told, and
    keeps nothing else from being decided.
    """
    given = labels(aws, places, window)
    if not given or window in _measuring(aws, places):
        return ""
    source, known = _scored_by(aws, places, window, given[VERSION])
    if not source:
        return ""
    selection = {"SourcePipelineExecutionArn": source, "SelectedSteps": [{"StepName": STEP}]}
    why, purpose = f"Window {window} is measured: labels have come.", (source, given[VERSION])
    pipeline, values = places.pipeline("inference"), known | given
    run = aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=source)
    more = {SELECTIVE: selection} | {name: run[name] for name in ("PipelineVersionId",) if name in run}
    try:
        return start(aws, pipeline, values, purpose, why, **more)
    except ClientError as refusal:
        todo = "Mend what is refused, and put the labels there once more."
        lines = {"Labels": given[DATA], "Decision": f"They are not measured: {refusal}", "To do": todo, "Run": source}
        reports.tell(aws, places, f"{window}: labels can't be measured", lines)
        return ""


def _measuring(aws: Aws, places: Places) -> frozenset[str]:
    values = [parameters(aws, arn) for arn in running(aws, places.pipeline("inference"))]
    return frozenset(places.window(given["ProductionData"], "production") for given in values if DATA in given)


def _scored_by(aws: Aws, places: Places, window: str, version: str) -> tuple[str, dict[str, str]]:
    """The newest whole run of a window that succeeded, and its parameters; "" for none, or these labels tried."""
    for run in executions(aws, places.pipeline("inference"), MOST):
        described, arn = DESCRIPTION.match(run.get("PipelineExecutionDescription", "")), run["PipelineExecutionArn"]
        values = {} if described and described[1] != window else parameters(aws, arn)
        if places.window(values.get("ProductionData", ""), "production") != window:
            continue
        if values.get(VERSION) == version:
            return "", {}
        whole = SELECTIVE not in aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        if whole and run["PipelineExecutionStatus"] == "Succeeded":
            return arn, values
    return "", {}


@dataclass(frozen=True)
class Plan:
    """The training pipeline's parameters, and the version of the release that the new model follows, or 0.

    `champion` says what it is compared with, `besides` which windows it learns from besides its own, "" for none;
    `remarks` what of it a person who knows the window does not expect.
    """

    values: dict[str, str]
    version: int
    champion: str
    besides: str
    remarks: str


def plan(aws: Aws, places: Places, window: str, fresh: bool = False) -> Plan:
    """For a window; `fresh`: without a champion, also where the release is damaged, which raises NotReleased else."""
    released = None
    with suppress(NotReleased) if fresh else nullcontext():
        _, released = release.current(aws, places)
    version, uris = (released["version"], released["artifacts"]) if released else (0, {})
    gone = artifacts.troubles(aws, released, CHAMPION.values()) if released else []
    champion = f"Release {version} is the champion" if released else "There is no champion yet"
    if fresh:
        champion = "No champion was asked for: [gate] minimum alone decides"
    elif gone:
        champion = f"Release {version} is not compared, because {', '.join(gone)}: [gate] minimum alone decides"
    compared = released and not fresh and not gone
    pushed = {name: storage.read(aws.ssm, places.parameter(f"components/{name}/image")).text for name in COMPONENTS}
    images = (released["images"] if released else {}) | {name: at for name, at in pushed.items() if at != NOTHING}
    earlier = dict[str, dict[str, str]]()  # windows that [retraining] learn asks for, and their labelled files
    for name in earlier_windows(storage.windows(aws, places), window) if places.settings.earlier else []:
        if len(earlier) < places.settings.earlier and storage.complete(aws, places, name, "train"):
            earlier = {name: storage.files(aws, places.data(name, "train"))} | earlier
    raw = [storage.files(aws, places.data(window, part)) for part in places.labelled]
    values = {
        "TrainingData": places.data(window, "train"),
        FINGERPRINT: storage.fingerprint(*raw, *earlier.values()),
        **({"EarlierData": _manifest(aws, places, window, earlier)} if earlier else {}),
        **({"ValidationData": places.data(window, "validation")} if places.given_validation else {}),
        "ArtifactsPrefix": places.runs("training"),
        **{name: uris[artifact] if compared else places.nothing for name, artifact in CHAMPION.items()},
        **{f"{name.capitalize()}Image": image for name, image in images.items()},
    }
    also = besides(list(earlier))
    remarks = [f"It also learns from {also}."] * bool(also) + [f"{champion}."] * bool(gone)
    return Plan(values, version, champion, also, " ".join(remarks))


def _manifest(aws: Aws, places: Places, window: str, earlier: dict[str, dict[str, str]]) -> str:
    """The URI of a manifest of these files ("S3DataSource"), called after them: the cache compares requests alone."""
    prefix = f"{places.storage}/data/"
    bucket, folder = storage.split(prefix)
    uri = f"{places.runs('training')}/earlier/{window}-{storage.fingerprint(*earlier.values())}.manifest"
    text = json.dumps(
        [{"prefix": prefix}, *(key.removeprefix(folder) for files in earlier.values() for key in files)], indent=1
    )
    aws.s3.put_object(Bucket=bucket, Key=storage.split(uri)[1], Body=text.encode())
    return uri


def load_memory(aws: Aws, places: Places) -> tuple[Stored, Memory]:
    """The parameter, and the memory in it. Raises ValueError for a damaged one."""
    stored = storage.read(aws.ssm, places.parameter("retraining"))
    return stored, decision.parse(stored.text)


def advance(aws: Aws, places: Places, observation: Observation | None, now: datetime, tell: Tell) -> Decision:
    """Decide and do it; `tell` is called before it is remembered, so that a message can come twice but is never lost.

    Two events at once: see `storage`. Raises Conflict after three attempts; Lambda then tries the event again.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(Conflict):
            return _advance(aws, places, observation, now, tell)
    return _advance(aws, places, observation, now, tell)


def resume(aws: Aws, places: Places, now: datetime) -> Decision:
    """Without a new observation: labels have arrived, or a training has ended."""

    def tell(decided: Decision) -> None:
        if decided.action == Action.RETRAIN:
            lines = {"Window": decided.window, "Decision": decided.reason, "Run": decided.memory.execution}
            reports.tell(aws, places, f"{decided.window}: labels are there, retraining started", lines)

    return advance(aws, places, None, now, tell)


def _advance(aws: Aws, places: Places, observation: Observation | None, now: datetime, tell: Tell) -> Decision:
    stored, memory = _settle(aws, places, now)
    wanted = decision.candidates(memory, places.settings, observation.window if observation else "")
    labelled = frozenset(window for window in wanted if _is_labelled(aws, places, window))
    _, released = release.current(aws, places)
    context = DecisionContext(
        now,
        labelled,
        learned=_learned(places, released),
        running=bool(running(aws, places.pipeline("training"))),
        measuring=_measuring(aws, places) if labelled else frozenset(),
        baseline=baseline_id(released["artifacts"]["baseline"]) if released else "",
    )
    decided = decision.decide(memory, observation, places.settings, context)
    if decided.action == Action.RETRAIN:
        stored = storage.write(aws.ssm, stored, decided.memory.text())
        begun = _retrain(aws, places, decided.memory)
        decided = replace(decided, memory=begun, reason=begun.reason)
    tell(decided)
    storage.write(aws.ssm, stored, decided.memory.text())
    unmeasured = decided.action == Action.WAIT and decided.window not in context.measuring
    if unmeasured and _is_labelled(aws, places, decided.window):  # labels came while this was decided
        return _advance(aws, places, None, now, tell)
    return decided


def _settle(aws: Aws, places: Places, now: datetime) -> tuple[Stored, Memory]:
    """Complete what was begun, and notice what has ended."""
    stored, memory = load_memory(aws, places)
    if memory.state != RETRAINING:
        return stored, memory
    if not memory.execution:
        _, released = release.current(aws, places)
        if _learned(places, released) == memory.window:  # it ran and was released before its ARN could be written down
            return stored, decision.retraining_ended(memory, "ended as Succeeded")
        try:
            known = running(aws, places.pipeline("training"))
            memory = replace(memory, execution=known[0]) if known else _retrain(aws, places, memory)
        except ClientError as error:
            if now - datetime.fromisoformat(memory.started[-1]) < PATIENCE:
                raise
            return stored, _ended(aws, places, memory, f"could not be started: {error}")
        lines = {"Decision": memory.reason, "Run": memory.execution}
        reports.tell(aws, places, f"retraining on {memory.window} started", lines)
        stored = storage.write(aws.ssm, stored, memory.text())
    how = _ending(aws, memory.execution)
    return stored, (_ended(aws, places, memory, how) if how else memory)


def _ending(aws: Aws, arn: str) -> str:
    """How an execution ended, in words; "" while it is under way."""
    with storage.passed_over("ResourceNotFound", "ResourceNotFoundException"):
        run = aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        status, why = run["PipelineExecutionStatus"], run.get("FailureReason", "")
        return "" if status in RUNS else f"ended as {status}{f': {why}' if why else ''}"
    return "ended as deleted"


def _ended(aws: Aws, places: Places, memory: Memory, how: str) -> Memory:
    memory = decision.retraining_ended(memory, how[:500].rstrip("."))
    if how != "ended as Succeeded":
        todo = "See why in the run's steps. The next window that drifts is tried again; this one is not."
        lines = {"Decision": memory.reason, "To do": todo, "Run": memory.execution}
        reports.tell(aws, places, f"no new model from window {memory.window}", lines)
    return memory


def _is_labelled(aws: Aws, places: Places, window: str) -> bool:
    return all(storage.complete(aws, places, window, part) for part in places.labelled)


def _learned(places: Places, released: Mapping[str, Any] | None) -> str:
    """The window that the release learned from, "" where that is none or unknown."""
    return places.window(released["training_data"], "train") if released else ""


def baseline_id(baseline: str) -> str:
    """What tells baselines apart: a short hash of where one lies."""
    return sha256(baseline.encode()).hexdigest()[:8]


def _retrain(aws: Aws, places: Places, memory: Memory) -> Memory:
    """With the execution that was started; one retraining is what a window and a release make together."""
    planned = plan(aws, places, memory.window)
    reason = f"{memory.reason} {planned.remarks}".rstrip() if planned.remarks not in memory.reason else memory.reason
    purpose = (memory.window, str(planned.version))
    execution = start(aws, places.pipeline("training"), planned.values, purpose, reason)
    return replace(memory, execution=execution, reason=reason)
