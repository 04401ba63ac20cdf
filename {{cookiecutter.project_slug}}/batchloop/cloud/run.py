"""`make upsert` and `make run`: a pipeline in SageMaker, written where it differs, started and followed to its end."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from batchloop.cloud.session import BROKEN, MANAGED, THROTTLED, CallFailed, Session, answered, opened, tag_list
from batchloop.container.job import InputError
from batchloop.control import handlers, release, retraining, storage
from batchloop.control.release import NotReleased
from batchloop.pipelines import definitions
from batchloop.repository import Repository

Pipeline = dict[str, Any]  # what it is to be, as CreatePipeline takes it
Step = Mapping[str, Any]  # of an execution, as ListPipelineExecutionSteps describes it
PARTS = {"inference": "production", "training": "train"}
# "Log groups and streams that Amazon SageMaker AI sends to CloudWatch": streams begin with the job's name
LOGS = {"ProcessingJob": "ProcessingJobs", "TrainingJob": "TrainingJobs", "TransformJob": "TransformJobs"}
PASSING = {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"}
SECONDS, LONGEST = 15, timedelta(hours=24).total_seconds()
PATIENCE = 20  # looks in a row that may fail: five minutes without a network
INTERRUPTED = 130
ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")
COMMIT = "GitCommit"
CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"
NO_PIPELINE = ("ResourceNotFound", "ValidationException")


def upsert(repository: Repository, name: str) -> int:
    """Compile, check, and create or update what differs; the exit code. Raises InputError."""
    session = opened(repository, name)
    for pipeline in pipelines(session):
        print(f"{pipeline['PipelineName']}: {write(session, pipeline)}", flush=True)
    return 0


def pipelines(session: Session) -> list[Pipeline]:
    """Both, as they are to be: with the images that were pushed last. Raises InputError."""
    repository, environment, name = session.repository, session.environment, session.name
    commit = definitions.git_commit(repository)
    try:
        pushed = dict(json.loads((repository.local / f"images-{name}.json").read_text(encoding="utf-8")))
        values = {f"{component.capitalize()}Image": place for component, place in pushed.items()} | {COMMIT: commit}
    except (OSError, ValueError):
        raise InputError(f"no images were pushed from here; run `make push ENV={name}` first.") from None
    tags = tag_list(environment.tags | MANAGED | {"git_commit": commit})
    compiled = {short: definitions.definition(repository, name, short) for short in definitions.NAMES}
    return [
        {
            "PipelineName": environment.pipeline(short),
            "PipelineDefinition": json.dumps(definitions.with_defaults(definition, values)),
            "RoleArn": environment.role,
            "Tags": tags,
        }
        for short, definition in compiled.items()
    ]


def deployed_pipeline(session: Session, name: str) -> Any:
    """What DescribePipeline answers, None where there is no such pipeline."""
    return session.find("sagemaker", "describe_pipeline", NO_PIPELINE, PipelineName=name)


def difference(session: Session, pipeline: Pipeline) -> str:
    """What writing it would do: created, updated or unchanged. The commit alone is no difference."""
    found = deployed_pipeline(session, pipeline["PipelineName"])
    if found is None:
        return CREATED
    both = (json.loads(its["PipelineDefinition"]) for its in (found, pipeline))
    old, new = (definitions.with_defaults(definition, {COMMIT: ""}) for definition in both)
    return UNCHANGED if old == new and found["RoleArn"] == pipeline["RoleArn"] else UPDATED


def write(session: Session, pipeline: Pipeline) -> str:
    """Create or update it where it differs; what was done."""
    word = difference(session, pipeline)
    if word == CREATED:
        session.call("sagemaker", "create_pipeline", **pipeline, ClientRequestToken=uuid.uuid4().hex)
    if word == UPDATED:
        request = {name: value for name, value in pipeline.items() if name != "Tags"}
        # tags first: where the second call fails, the next run still finds a difference
        arn = deployed_pipeline(session, pipeline["PipelineName"])["PipelineArn"]
        session.call("sagemaker", "add_tags", ResourceArn=arn, Tags=pipeline["Tags"])
        session.call("sagemaker", "update_pipeline", **request)
    return word


@dataclass(frozen=True)
class Request:
    """`window` is "" for the newest one with data; `chosen` are Name=value pairs of pipeline parameters.

    A `fresh` training has no champion.
    """

    pipeline: str
    window: str = ""
    chosen: tuple[str, ...] = ()
    fresh: bool = False


def run(repository: Repository, name: str, request: Request) -> int:
    """0 when it succeeded, 1 when it did not, 130 when it is no longer followed. Raises InputError before it starts."""
    session = opened(repository, name, account_is_set=True)
    arn = start(session, request)
    print(arn, flush=True)
    where = f"--region {session.environment.region} --pipeline-execution-arn {arn}"
    look = f"aws sagemaker list-pipeline-execution-steps {where}"
    try:
        execution = _follow(session, arn)
    except KeyboardInterrupt:
        stop = f"aws sagemaker stop-pipeline-execution {where}"
        print(f"\nno longer followed; the run goes on. To stop it:\n  {stop}", flush=True)
        return INTERRUPTED
    except CallFailed as failed:
        raise InputError(f"{failed}. The run goes on; to look at it:\n  {look}") from None
    except TimeoutError:
        raise InputError(f"nobody follows any longer; the run goes on. To look at it:\n  {look}") from None
    steps, status = _steps(session, arn), execution["PipelineExecutionStatus"]
    print(f"{status}.", flush=True)
    if status == "Succeeded":
        print(*_results(session, arn, steps), sep="\n", flush=True)
        return 0
    if why := execution.get("FailureReason"):
        print(why)
    for step in steps:
        if step["StepStatus"] == "Failed":
            print(*_trouble(step, session.environment.region), sep="\n")
    print(f"all of it: {look}", flush=True)
    return 1


def start(session: Session, request: Request) -> str:
    """The execution's ARN. Raises InputError where the pipeline, its data or a release is missing."""
    if request.pipeline not in definitions.NAMES:
        raise InputError(f"PIPELINE={request.pipeline} is none of {', '.join(definitions.NAMES)}.")
    name = session.environment.pipeline(request.pipeline)
    found = deployed_pipeline(session, name)
    if found is None:
        raise InputError(f"there is no pipeline {name}; `make deploy ENV={session.name}` makes it.")
    declared = json.loads(found["PipelineDefinition"])  # it, and not the definition in this folder, is what runs
    try:
        with answered(f"starting {name}", session.environment.region):
            values, said = _values(session, request, _window(session, request))
            every = definitions.values(declared, values, request.chosen)
            chosen = definitions.chosen(session.repository, session.name, declared, request.chosen, every)
            texts = {key: str(its).lower() if isinstance(its, bool) else str(its) for key, its in chosen.items()}
            print(f"{name}: {said}", flush=True)
            # a token of its own: whoever asks again wants it again, unlike an event that comes twice
            return retraining.start(session.aws, name, values | texts, (uuid.uuid4().hex,), said)
    except NotReleased as why:
        raise InputError(f"the release can't be read: {why}") from None


def _window(session: Session, request: Request) -> str:
    """The one that is asked for, or the newest with data. Raises InputError where there are no rows."""
    aws, places, part = session.aws, session.places, PARTS[request.pipeline]
    window = request.window or storage.newest_window(aws, places, part)
    for needed in places.labelled if part == "train" else (part,):
        uri = places.data(window or "<window>", needed)
        if not window or places.window(uri, needed) != window or not storage.exists(aws, uri):
            local = f"data/{session.repository.window()}/{needed}"
            raise InputError(f"there are no rows at {uri}; for example: aws s3 cp --recursive {local} {uri}")
    return window


def _values(session: Session, request: Request, window: str) -> tuple[dict[str, str], str]:
    """What the functions would give it, and the run in a sentence. Raises InputError where nothing is released."""
    aws, places = session.aws, session.places
    if request.pipeline == "training":
        planned = retraining.plan(aws, places, window, request.fresh)
        besides = f" and {planned.besides}" if planned.besides else ""
        return planned.values, f"learns from window {window}{besides}. {planned.champion}."
    _, released = release.current(aws, places)
    if released is None:
        command = f"make run PIPELINE=training ENV={session.name}"
        raise InputError(f"nothing is released yet: `{command}`, and approve its model.")
    values = handlers.scoring(aws, places, released, window)
    said = f"Window {window} is scored with release {released['version']}."
    return values | retraining.labels(aws, places, window), said


def _follow(session: Session, arn: str) -> Mapping[str, Any]:
    """Print each step's changes until the execution has ended; it as it is then. Raises CallFailed and TimeoutError."""
    shown: dict[str, str] = {}
    failures, deadline = 0, time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        try:
            execution = session.call("sagemaker", "describe_pipeline_execution", PipelineExecutionArn=arn)
            for step in _steps(session, arn):  # after the status: the last changes are seen as well
                if shown.get(step["StepName"]) != _state(step):
                    shown[step["StepName"]] = _state(step)
                    changed = step.get("EndTime") or step.get("StartTime")
                    when = changed.astimezone().strftime("%H:%M:%S") if changed else ""
                    print(f"  {when:<8}  {step['StepName']:<20}  {_state(step)}", flush=True)
            failures = 0
        except CallFailed as failed:
            failures += 1
            passing = failed.code in PASSING or failed.cause in (THROTTLED, BROKEN)
            if failures >= PATIENCE or not passing:
                raise
        else:
            if execution["PipelineExecutionStatus"] in ENDED:
                return dict(execution)
        time.sleep(SECONDS)
    raise TimeoutError


def _steps(session: Session, arn: str) -> list[Step]:
    """All of them, in the order in which they began."""
    key, request = "PipelineExecutionSteps", {"PipelineExecutionArn": arn, "SortOrder": "Ascending"}
    return list(session.pages("sagemaker", "list_pipeline_execution_steps", key, **request))


def _state(step: Step) -> str:
    """The status, with what else a person wants to know of it."""
    remarks = [f"try {step['AttemptCount']}"] if step.get("AttemptCount", 0) > 1 else []
    remarks += ["from the cache"] if step.get("CacheHitResult") else []
    remarks += [step.get("Metadata", {}).get("Condition", {}).get("Outcome", "").lower()]
    said = ", ".join(filter(None, remarks))
    return f"{step['StepStatus']} ({said})" if said else str(step["StepStatus"])


def _trouble(step: Step, region: str) -> Iterator[str]:
    """Lines about a step that failed: what it says, and where its log is."""
    about = step.get("Metadata", {})
    why = about.get("Fail", {}).get("ErrorMessage") or step.get("FailureReason") or "it gives no reason"
    yield f"{step['StepName']} failed: {why}"
    for kind, group in LOGS.items():
        if arn := about.get(kind, {}).get("Arn"):
            command = f"aws logs tail /aws/sagemaker/{group} --region {region} --since 1d"
            yield f"  its log: {command} --log-stream-name-prefix {arn.rpartition('/')[2]}/"


def _results(session: Session, arn: str, steps: Sequence[Step]) -> Iterator[str]:
    """Where to find what a run that succeeded has made."""
    about = [step.get("Metadata", {}) for step in steps]
    for package in filter(None, (its.get("RegisterModel", {}).get("Arn") for its in about)):
        yield f"registered: {package}"
        if session.environment.approval != "Approved":
            yield "it is released once somebody approves it in the Model Registry"
    if any("TransformJob" in its for its in about):
        run = f"{session.environment.runs('inference')}/{arn.rpartition('/')[2]}"
        yield f"predictions: {run}/ScoreFeatures/predictions/"
        yield f"drift report: {run}/DetectDrift/drift/report.html"
