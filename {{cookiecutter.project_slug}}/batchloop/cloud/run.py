"""A step of an execution, as ListPipelineExecutionSteps describes it: its state, its failure, what it made."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from batchloop.cloud import upsert
from batchloop.cloud.session import THROTTLED, CallFailed, Target, answered, ask, opened
from batchloop.control import handlers, release, retraining, storage
from batchloop.control.names import Aws, Places, Settings
from batchloop.control.release import NotReleased
from batchloop.pipelines import definitions
from batchloop.repository import Failure, Repository

Step = Mapping[str, Any]
# "Log groups and streams that Amazon SageMaker AI sends to CloudWatch": streams begin with the job's name
LOGS = {"ProcessingJob": "ProcessingJobs", "TrainingJob": "TrainingJobs", "TransformJob": "TransformJobs"}
PASSING = ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError")


def state(step: Step) -> str:
    """The status, with what else a person wants to know of it."""
    about = step.get("Metadata", {})
    remarks = [f"try {step['AttemptCount']}"] if step.get("AttemptCount", 0) > 1 else []
    if step.get("CacheHitResult"):
        remarks.append("from the cache")
    if outcome := about.get("Condition", {}).get("Outcome"):
        remarks.append(outcome.lower())
    return f"{step['StepStatus']} ({', '.join(remarks)})" if remarks else str(step["StepStatus"])


def when(step: Step) -> str:
    """When it changed last, by the clock here."""
    moment = step.get("EndTime") or step.get("StartTime")
    return moment.astimezone().strftime("%H:%M:%S") if moment else "        "


def trouble(step: Step, region: str) -> Iterator[str]:
    """Lines about a step that failed: what it says, and where its log is."""
    if step["StepStatus"] != "Failed":
        return
    about = step.get("Metadata", {})
    why = about.get("Fail", {}).get("ErrorMessage") or step.get("FailureReason") or "it gives no reason"
    yield f"{step['StepName']} failed: {why}"
    for kind, group in LOGS.items():
        if arn := about.get(kind, {}).get("Arn"):
            job = arn.rpartition("/")[2]
            command = f"aws logs tail /aws/sagemaker/{group} --region {region} --since 1d"
            yield f"  its log: {command} --log-stream-name-prefix {job}/"
    yield ""


def results(target: Target, arn: str, found: Sequence[Step]) -> Iterator[str]:
    """Where to find what a run that succeeded has made."""
    registered = [step.get("Metadata", {}).get("RegisterModel", {}).get("Arn") for step in found]
    for package in filter(None, registered):
        yield f"registered: {package}"
        if target.where.approval != "Approved":
            yield "it is released once somebody approves it in the Model Registry"
    if any("TransformJob" in step.get("Metadata", {}) for step in found):
        place = f"s3://{target.where.bucket}/{target.storage}/{target.where.name}/inference/{arn.rpartition('/')[2]}"
        yield f"predictions: {place}/ScoreFeatures/predictions/"
        yield f"drift report: {place}/DetectDrift/drift/report.html"


def passes(failed: CallFailed) -> bool:
    """Whether asking again later may help."""
    return failed.code in THROTTLED or failed.code in PASSING or "failed inside AWS" in str(failed)


PARTS = {"inference": "production", "training": "train"}
UNUSED = ("cloudwatch", "sns")  # telling people is for the functions


@dataclass(frozen=True)
class Asked:
    """`window` is "" for the newest one with data; `chosen` are Name=value pairs of pipeline parameters.

    A `fresh` training has no champion.
    """

    pipeline: str
    window: str = ""
    chosen: tuple[str, ...] = ()
    fresh: bool = False


def start(target: Target, client: Any, asked: Asked) -> str:
    """The execution's ARN. Raises Failure where the pipeline, its data or a release is missing."""
    if asked.pipeline not in definitions.NAMES:
        raise Failure(f"PIPELINE={asked.pipeline} is none of {', '.join(definitions.NAMES)}.")
    places, aws = where(target), reach(target, client)
    name = places.pipeline(asked.pipeline)
    declared = _declared(target, client, name)
    try:
        with answered(f"starting {name}", target.where.region):
            window = _window(target, aws, places, asked)
            values, said = _values(aws, places, asked, window)
            every = definitions.values(declared, values, asked.chosen)
            chosen = definitions.chosen(asked.chosen, every)
            definitions.check_chosen_settings(target.repository, target.where.name, declared, chosen)
            values |= {
                name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in chosen.items()
            }
            print(f"{name}: {said}", flush=True)
            # a token of its own: whoever asks again wants it again, unlike an event that comes twice
            return retraining.start(aws, name, values, (uuid.uuid4().hex,), said)
    except NotReleased as why:
        raise Failure(f"the release can't be read: {why}") from None


def where(target: Target) -> Places:
    """As the functions have it, without the topic."""
    tables = target.repository.tables()
    given = tables.get("split", {}).get("method") == "given"
    settings = Settings.of(tables)
    environment = target.where
    names = (environment.namespace, environment.slug, environment.name, environment.bucket)
    return Places(*names, topic="", settings=settings, given_validation=given)


def reach(target: Target, sagemaker: Any) -> Aws:
    """The functions' clients, with the credentials at hand."""
    known = dict.fromkeys(UNUSED) | {"sagemaker": sagemaker, "ssm": target.account.ssm, "ecr": target.account.ecr}
    return Aws(**{its.name: known[its.name] if its.name in known else target.client(its.name) for its in fields(Aws)})


def _declared(target: Target, client: Any, name: str) -> Mapping[str, Any]:
    """The definition in SageMaker: it, and not the one in this folder, is what runs."""
    there = upsert.there(client, name)
    if there is None:
        raise Failure(f"there is no pipeline {name}; `make deploy ENV={target.where.name}` makes it.")
    return dict(json.loads(there["PipelineDefinition"]))


def _window(target: Target, aws: Aws, places: Places, asked: Asked) -> str:
    """The one that is asked for, or the newest with data. Raises Failure where there are no rows."""
    part = PARTS[asked.pipeline]
    window = asked.window or storage.newest_window(aws, places, part)
    parts = places.labelled if part == "train" else (part,)
    for needed in parts:
        uri = places.data(window or "<window>", needed)
        if not window or places.window(uri, needed) != window or not storage.exists(aws, uri):
            local = f"data/{target.repository.window()}/{needed}"
            raise Failure(f"there are no rows at {uri}/; for example: aws s3 cp --recursive {local} {uri}")
    return window


def _values(aws: Aws, places: Places, asked: Asked, window: str) -> tuple[dict[str, str], str]:
    """What the functions would give it, and the run in a sentence. Raises Failure where nothing is released."""
    if asked.pipeline == "training":
        planned = retraining.plan(aws, places, window, asked.fresh)
        besides = f" and {planned.besides}" if planned.besides else ""
        return planned.values, f"learns from window {window}{besides}. {planned.champion}."
    _, released = release.current(aws, places)
    if released is None:
        raise Failure(
            f"nothing is released yet: `make run PIPELINE=training ENV={places.environment}`, and approve its model."
        )
    values = handlers.scoring(places, released, places.data(window, "production"))
    said = f"Window {window} is scored with release {released['version']}."
    return values | retraining.labels(aws, places, window), said


SECONDS, LONGEST = 15, timedelta(hours=24).total_seconds()
PATIENCE = 20  # looks in a row that may fail: five minutes without a network
INTERRUPTED = 130
ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")


@dataclass(frozen=True)
class Execution:
    """One that runs, whoever looks at it."""

    client: Any
    arn: str
    region: str

    @property
    def look(self) -> str:
        return f"aws sagemaker list-pipeline-execution-steps --region {self.region} --pipeline-execution-arn {self.arn}"

    @property
    def stop(self) -> str:
        return f"aws sagemaker stop-pipeline-execution --region {self.region} --pipeline-execution-arn {self.arn}"


def run(repository: Repository, environment: str, asked: Asked) -> int:
    """0 when it succeeded, 1 when it did not, 130 when it is no longer followed. Raises Failure before it starts."""
    target = opened(repository, environment)
    client = target.client("sagemaker")
    execution = Execution(client, start(target, client, asked), target.where.region)
    print(execution.arn, flush=True)
    try:
        status = _followed(execution)
    except KeyboardInterrupt:
        print(f"\nno longer followed; the run goes on. To stop it:\n  {execution.stop}", flush=True)
        return INTERRUPTED
    except CallFailed as failed:
        raise Failure(f"{failed}. The run goes on; to look at it:\n  {execution.look}") from None
    except TimeoutError:
        raise Failure(f"nobody follows any longer; the run goes on. To look at it:\n  {execution.look}") from None
    return _told(target, execution, status)


def _followed(execution: Execution) -> str:
    """Print each step's changes until the execution has ended; how it did. Raises CallFailed and TimeoutError."""
    seen: dict[str, str] = {}
    failures, deadline = 0, time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        try:
            status = str(_described(execution)["PipelineExecutionStatus"])
            for step in _steps(execution):  # after the status: the last changes are seen as well
                _tell(seen, step)
            failures = 0
        except CallFailed as failed:
            failures += 1
            if failures >= PATIENCE or not passes(failed):
                raise
        else:
            if status in ENDED:
                return status
        time.sleep(SECONDS)
    raise TimeoutError


def _tell(seen: dict[str, str], step: Mapping[str, Any]) -> None:
    name, now = step["StepName"], state(step)
    if seen.get(name) != now:
        seen[name] = now
        print(f"  {when(step)}  {name:<20}  {now}", flush=True)


def _told(target: Target, execution: Execution, status: str) -> int:
    """How it ended, and where to read on; the exit code."""
    found = _steps(execution)
    print(f"{status}.", flush=True)
    if status == "Succeeded":
        print(*results(target, execution.arn, found), sep="\n", flush=True)
        return 0
    if why := _described(execution).get("FailureReason"):
        print(why)
    for step in found:
        print(*trouble(step, execution.region), sep="\n", end="")
    print(f"all of it: {execution.look}", flush=True)
    return 1


def _described(execution: Execution) -> Mapping[str, Any]:
    answer = ask(execution.client, "describe_pipeline_execution", PipelineExecutionArn=execution.arn)
    return dict(answer)


def _steps(execution: Execution) -> list[Mapping[str, Any]]:
    """All of them, in the order in which they began."""
    found: list[Mapping[str, Any]] = []
    more: dict[str, str] = {}
    while True:
        request = {"PipelineExecutionArn": execution.arn, "SortOrder": "Ascending", **more}
        answer = ask(execution.client, "list_pipeline_execution_steps", **request)
        found += answer["PipelineExecutionSteps"]
        if not answer.get("NextToken"):
            return found
        more = {"NextToken": answer["NextToken"]}
