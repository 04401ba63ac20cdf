"""`make upsert` and `make run`: a pipeline in SageMaker, written where it differs, started and followed to its end."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from statistics import median
from typing import Any

from batchloop import tracking
from batchloop.cloud import images, stack
from batchloop.cloud.session import MANAGED, Session, looks, opened, tag_list
from batchloop.container.job import InputError
from batchloop.control import handlers, latest, release, retraining, storage
from batchloop.control.names import FINGERPRINT
from batchloop.environment import NO_KEY
from batchloop.pipelines import definitions
from batchloop.repository import Repository

Pipeline = dict[str, Any]  # what it is to be, as CreatePipeline takes it
Step = Mapping[str, Any]  # of an execution, as ListPipelineExecutionSteps describes it
PARTS = {"inference": "production", "training": "train"}
# "Log groups and streams that Amazon SageMaker AI sends to CloudWatch": streams begin with the job's name
LOGS = {"ProcessingJob": "ProcessingJobs", "TrainingJob": "TrainingJobs", "TransformJob": "TransformJobs"}
LOGS |= {"TuningJob": "TrainingJobs"}  # its trials' names begin with its own
SECONDS, LONGEST = 15, timedelta(hours=24).total_seconds()
RUNS, LOOKED_AT = 5, 20  # by how many a step's minutes are known, and among how many these are
INTERRUPTED = 130
COMMIT = "GitCommit"
CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"
NO_PIPELINE = ("ResourceNotFound", "ValidationException")


def upsert(repository: Repository) -> int:
    """Create or update what differs; the exit code. Raises InputError, also for a stack of another state."""
    session, name = opened(repository), repository.environment
    if _differs(session):
        raise InputError(
            f"the stack {session.environment.prefix} is of another state than this folder (its template, its settings, "
            f"or the functions' code with usecase.toml): `make deploy ENV={name}` brings stack and pipelines together."
        )
    for pipeline in keyed(session, pipelines(session)):
        print(f"{pipeline['PipelineName']}: {write(session, pipeline)}", flush=True)
    print(*behind(session), sep="", end="", flush=True)
    return 0


def _differs(session: Session) -> bool:
    """Whether there is a stack of another state than this folder: template, settings, or the functions' code."""
    environment, root = session.environment, session.repository.root
    named = {"StackName": environment.prefix}
    found = session.find("cloudformation", "describe_stacks", ("ValidationError",), "Stacks", **named)
    body = stack.template(root, stack.STACK, environment.place["without"])
    code = stack.functions(environment, stack.package(root))
    wanted = stack.parameters(session.repository, environment, body, FunctionsKey=code)
    return bool(found) and stack.parameter(found[0], "State") != wanted["State"]


def behind(session: Session) -> Iterator[str]:
    """A line where the release runs under another version of the inference pipeline than the newest."""
    places = session.places
    try:
        with session.asking("comparing the release with the pipeline"):
            _, released = release.current(session.aws, places)
            newest = release.pipeline_version(session.aws, places) if released else 0
    except InputError as failed:  # a remark stops nothing: the pipelines are written, and a build may not read releases
        yield f"whether the release runs under the newest pipeline is not known: {failed}\n"
        return
    if released and released.get("pipeline_version") != newest:
        runs = f"version {released['pipeline_version']}" if released.get("pipeline_version") else "no fixed version"
        where = f"runs under {runs} of {places.pipeline('inference')}, the newest is {newest}"
        yield f"release {released['version']} {where}; `{_anew(session, str(released['model_package']))}` moves it\n"


def _anew(session: Session, package: str) -> str:
    """The command that releases a model package once more."""
    group, _, number = package.partition(":model-package/")[2].rpartition("/")
    if group == session.places.prefix:
        return f"make release ENV={session.name} MODEL={number}"
    source = group.removeprefix(session.places.prefix.removesuffix(session.name))
    return f"make promote FROM={source} TO={session.name}"


def pipelines(session: Session) -> list[Pipeline]:
    """Both, as they are to be: with the images that the Parameter Store names. Raises InputError."""
    repository, environment = session.repository, session.environment
    commit = definitions.git_commit(repository)
    pushed = images.pushed(session).items()
    values = {f"{component.capitalize()}Image": place for component, place in pushed} | {COMMIT: commit}
    same = {"RoleArn": environment.role, "Tags": tag_list(environment.tags | MANAGED | {"git_commit": commit})}
    compiled = {short: definitions.definition(repository, short) for short in definitions.NAMES}
    texts = {short: json.dumps(definitions.with_defaults(its, values)) for short, its in compiled.items()}
    return [
        {"PipelineName": environment.pipeline(short), "PipelineDefinition": text, **same}
        for short, text in texts.items()
    ]


def key(session: Session) -> str:
    """The ARN of the KMS key of bucket and notices, "" where AWS encrypts them. Raises CallFailed."""
    environment = session.environment
    if environment.kms_key or not environment.key:
        return environment.kms_key
    named = {"StackName": f"{environment.prefix}-storage", "LogicalResourceId": "Key"}
    made = session.call("cloudformation", "describe_stack_resource", "StackResourceDetail", **named)
    return environment.key.replace(NO_KEY, made["PhysicalResourceId"])


def keyed(session: Session, compiled: list[Pipeline]) -> list[Pipeline]:
    """Pipelines with the key that the storage has made, which is compiled under a name that no key has."""
    text, old, new = "PipelineDefinition", session.environment.key or NO_KEY, key(session)
    return [pipeline | {text: pipeline[text].replace(old, new)} for pipeline in compiled]


def deployed_pipeline(session: Session, name: str) -> Any:
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
    """`window` is "" for the newest with data; `chosen` are Name=value pairs; a `fresh` training has no champion."""

    pipeline: str
    window: str = ""
    chosen: tuple[str, ...] = ()
    fresh: bool = False


def run(repository: Repository, request: Request) -> int:
    """0 when it succeeded, 1 when it did not, 130 when it is no longer followed. Raises InputError before it starts."""
    session = opened(repository, account_is_set=True)
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
    except InputError as failed:
        raise InputError(f"{failed}. The run goes on; to look at it:\n  {look}") from None
    steps, status = _steps(session, arn), execution["PipelineExecutionStatus"]
    print(f"{status}.", flush=True)
    lines = _results(session, request.pipeline, arn, steps)
    if status != "Succeeded":
        ended = [_trouble(step, session.environment.region) for step in steps if step["StepStatus"] == "Failed"]
        lines = chain(filter(None, [execution.get("FailureReason")]), *ended, [f"all of it: {look}"])
    print(*lines, sep="\n", flush=True)
    if request.pipeline == "training":
        tracking.after(repository, session.environment, session)
    return 0 if status == "Succeeded" else 1


def start(session: Session, request: Request) -> str:
    """The execution's ARN. Raises InputError where the pipeline, its data or a release is missing."""
    if request.pipeline not in definitions.NAMES:
        raise InputError(f"PIPELINE={request.pipeline} is none of {', '.join(definitions.NAMES)}.")
    name = session.environment.pipeline(request.pipeline)
    if deployed_pipeline(session, name) is None:
        raise InputError(f"there is no pipeline {name}; `make deploy ENV={session.name}` makes it.")
    try:
        with session.asking(f"starting the {request.pipeline} pipeline"):
            values, said, version = _values(session, request, _window(session, request))
            # it, and not the definition in this folder, is what runs
            which: dict[str, Any] = {"PipelineName": name, **version}
            found = session.call("sagemaker", "describe_pipeline", **which)
            declared = json.loads(found["PipelineDefinition"])
            every = definitions.values(declared, values, request.chosen)
            chosen = definitions.chosen(session.repository, declared, request.chosen, every)
            texts = {key: str(its).lower() if isinstance(its, bool) else str(its) for key, its in chosen.items()}
            if any(text.startswith("s3://") for text in texts.values()):  # which nobody has looked at
                texts = {FINGERPRINT: uuid.uuid4().hex[:16]} | texts
            print(f"{name}: {said}", flush=True)
            # a token of its own: whoever asks again wants it again, unlike an event that comes twice
            return retraining.start(session.aws, name, values | texts, (uuid.uuid4().hex,), said, **version)
    except handlers.NothingToScore as nothing:
        raise InputError(": ".join(nothing.args)) from None


def _window(session: Session, request: Request) -> str:
    """The one that is asked for, or the newest complete one. Raises InputError where there is none."""
    aws, places, part = session.aws, session.places, PARTS[request.pipeline]
    window, waiting = (request.window, []) if request.window else storage.newest_window(aws, places, part)
    if waiting:
        print(f"not taken: {storage.unmarked(places, waiting, part)}", flush=True)
    for needed in places.labelled if part == "train" else (part,):
        if not handlers.ready(aws, places, window, needed):
            data, name = f"DATA=data/{session.repository.window()}/{needed}", window or "<window>"
            command = f"make upload ENV={session.name} WINDOW={name} PART={needed} {data}"
            there = bool(window) and bool(storage.files(aws, places.data(window, needed)))
            why = f"no {storage.MARK} at" if there else "no rows at"
            raise InputError(
                f"there {'is' if there else 'are'} {why} {places.data(name, needed)}; for example: {command}"
            )
    return window


def _values(session: Session, request: Request, window: str) -> tuple[dict[str, str], str, dict[str, int]]:
    """What the functions would give it, the run in a sentence, the pipeline's version. Raises NothingToScore."""
    aws, places = session.aws, session.places
    if request.pipeline == "training":
        planned = retraining.plan(aws, places, window, request.fresh)
        besides = f" and {planned.besides}" if planned.besides else ""
        return planned.values, f"learns from window {window}{besides}. {planned.champion}.", {}
    released = handlers.scorable(aws, places, window)
    return *handlers.scoring(aws, places, released, window), release.version(released)


def _follow(session: Session, arn: str) -> Mapping[str, Any]:
    """Print each step's changes until the execution has ended; it as it is then. Raises InputError."""

    def look() -> tuple[Mapping[str, Any], list[Step]]:
        """The status before the steps, so that the last changes are seen as well."""
        execution = session.call("sagemaker", "describe_pipeline_execution", PipelineExecutionArn=arn)
        return execution, _steps(session, arn)

    shown: dict[str, str] = {}
    for execution, steps in looks(look, SECONDS, LONGEST):
        for step in steps:
            if shown.get(step["StepName"]) != _state(step):
                shown[step["StepName"]] = _state(step)
                changed = step.get("EndTime") or step.get("StartTime")
                when = changed.astimezone().strftime("%H:%M:%S") if changed else ""
                print(f"  {when:<8}  {step['StepName']:<20}  {_state(step)}", flush=True)
        if execution["PipelineExecutionStatus"] in handlers.ENDED:
            return execution
    raise InputError("nobody follows any longer")


def _steps(session: Session, arn: str) -> list[Step]:
    key, request = "PipelineExecutionSteps", {"PipelineExecutionArn": arn, "SortOrder": "Ascending"}
    return list(session.pages("sagemaker", "list_pipeline_execution_steps", key, **request))


def minutes(session: Session) -> dict[str, tuple[float, str]]:
    """Step → how long it took from start to end, the median of the last runs that succeeded, and how many these are.

    A step that was reused, or not part of a selective execution, did not work and does not count. Raises CallFailed.
    """
    took: dict[str, list[float]] = {}
    names = map(session.environment.pipeline, definitions.NAMES)
    for execution in (its for name in names if deployed_pipeline(session, name) for its in _succeeded(session, name)):
        for step in _steps(session, execution["PipelineExecutionArn"]):
            worked = step["StepStatus"] == "Succeeded" and not {"CacheHitResult", "SelectiveExecutionResult"} & {*step}
            if worked and "EndTime" in step:
                took.setdefault(step["StepName"], []).append((step["EndTime"] - step["StartTime"]).total_seconds() / 60)
    last = {name: found[:RUNS] for name, found in took.items()}
    words = {name: f"last {len(found)} runs" if len(found) > 1 else "last run" for name, found in last.items()}
    return {name: (median(found), f"measured: {words[name]}") for name, found in last.items()}


def _succeeded(session: Session, pipeline: str) -> list[dict[str, Any]]:
    """Of the newest executions; a measurement by labels is one too, and runs one step alone."""
    with session.asking(f"looking at the runs of {pipeline}"):
        found = list(retraining.executions(session.aws, pipeline, LOOKED_AT))
    return [its for its in found if its["PipelineExecutionStatus"] == handlers.SUCCEEDED]


def _state(step: Step) -> str:
    remarks = [f"try {step['AttemptCount']}"] if step.get("AttemptCount", 0) > 1 else []
    remarks += ["from the cache"] if step.get("CacheHitResult") else []
    remarks += [step.get("Metadata", {}).get("Condition", {}).get("Outcome", "").lower()]
    said = ", ".join(filter(None, remarks))
    return f"{step['StepStatus']} ({said})" if said else str(step["StepStatus"])


def _trouble(step: Step, region: str) -> Iterator[str]:
    about = step.get("Metadata", {})
    why = about.get("Fail", {}).get("ErrorMessage") or step.get("FailureReason") or "it gives no reason"
    yield f"{step['StepName']} failed: {why}"
    for kind, group in LOGS.items():
        if arn := about.get(kind, {}).get("Arn"):
            end = "-" if kind == "TuningJob" else "/"
            command = f"aws logs tail /aws/sagemaker/{group} --region {region} --since 1d"
            yield f"  its log: {command} --log-stream-name-prefix {arn.rpartition('/')[2]}{end}"


def _results(session: Session, pipeline: str, arn: str, steps: Sequence[Step]) -> Iterator[str]:
    about = [step.get("Metadata", {}) for step in steps]
    for package in filter(None, (its.get("RegisterModel", {}).get("Arn") for its in about)):
        yield f"registered: {package}"
        if session.environment.approval != "Approved":
            yield "it is released once somebody approves it in the Model Registry"
    made = latest.outputs(session.aws, session.places, pipeline, arn)
    yield from (f"{name.replace('_', ' ')}: {uri}" for name, uri in made.items())
    yield f"the parameter {session.places.parameter(f'{pipeline}/latest')} names them for other systems"
