"""`make deploy` and `make teardown`: what one environment has in AWS, shown before it is changed or deleted."""

import io
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from batchloop import cost
from batchloop.cloud import run
from batchloop.cloud.bootstrap import MISSING, PARAMETERS, resources
from batchloop.cloud.run import NO_PIPELINE, UNCHANGED, Pipeline, deployed_pipeline
from batchloop.cloud.session import MANAGED, CallFailed, Session, foreign, opened, tag_list, tag_map
from batchloop.cloud.stack import READY, REVIEW, Described, Stack, table
from batchloop.container.job import InputError
from batchloop.control.names import NOTHING
from batchloop.environment import Environment
from batchloop.pipelines import definitions
from batchloop.repository import Repository

LIMIT = 51_200  # bytes of a template that is sent with the request ("CloudFormation quotas")
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
READABLE = 0o644 << 16
ABSENT = ("404", "NoSuchKey", "NotFound")
KEPT = """\
keeps: the bucket {environment.bucket} with data, artifacts, predictions and functions
keeps: the model package group {environment.prefix} and its models"""
EMPTY_ARTIFACT = b'{"component": "none"}'  # stands for "no champion yet": a pipeline's inputs can't be optional


def typed(prompt: str) -> str:
    """What a person types, "" where there is none."""
    if not sys.stdin.isatty():
        return ""
    try:
        return input(prompt).strip()
    except EOFError:
        return ""


def template(root: Path) -> str:
    """The stack's template without its lines of comment: with them it is larger than what a request takes.

    Larger ones would have to lie in a bucket, and the bucket is what this stack makes. Raises InputError.
    """
    lines = (root / "infra" / "stack.yaml").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if (size := len(text.encode())) > LIMIT:
        raise InputError(f"infra/stack.yaml has {size:,} bytes without comments; CloudFormation takes {LIMIT:,}.")
    return text


def parameters(environment: Environment, functions: str) -> dict[str, str]:
    """Every parameter of the template; `functions` is the key of their code, "" in the first of the two passes."""
    build = environment.build
    return {
        "Namespace": environment.namespace,
        "Usecase": environment.usecase,
        "Environment": environment.environment,
        "BucketName": environment.bucket,
        "FunctionsKey": functions,
        "Schedule": environment.schedule,
        "HoursBetweenRuns": str(environment.hours_between_runs),
        "NoticeEmail": environment.notice_email,
        "MonthlyBudget": f"{environment.monthly_budget:g}",
        "ConnectionArn": build.connection,
        "RepositoryProvider": build.provider,
        "Repository": build.repository,
        "Branch": build.branch,
        "CreateKey": str(environment.create_key).lower(),
        "KmsKeyArn": environment.kms_key,
        "PermissionsBoundaryArn": environment.permissions_boundary,
        "SubnetIds": ",".join(environment.subnets),
        "SecurityGroupIds": ",".join(environment.security_groups),
    }


def package(root: Path) -> bytes:
    """A zip of batchloop/control/*.py and of usecase.toml, where batchloop.control.names reads it. Raises InputError.

    Nothing is compressed: what zlib makes of the same bytes differs between its versions, and this is small.
    """
    modules = sorted((root / "batchloop" / "control").glob("*.py"))
    if not modules:
        raise InputError("batchloop/control holds no code; is this the whole repository?")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for file in (root / "batchloop" / "__init__.py", *modules, root / "usecase.toml"):
            entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), EARLIEST)
            entry.create_system, entry.external_attr = 3, READABLE  # else Windows writes other bytes
            archive.writestr(entry, file.read_bytes())
    return out.getvalue()


@dataclass(frozen=True)
class Deployment:
    """What is to be in AWS: stack, objects (key → content) and pipelines. `confirmed`: it was agreed to beforehand."""

    stack: Stack
    objects: Mapping[str, bytes]
    pipelines: list[Pipeline]
    confirmed: bool

    @property
    def session(self) -> Session:
        return self.stack.session

    def agreed(self, question: str) -> None:
        """Raises InputError where the user does not want what was shown; nobody at a terminal is no yes."""
        if not self.confirmed and typed(f"{question} Type yes: ") != "yes":
            command = f"make deploy ENV={self.session.name} CONFIRM=yes"
            raise InputError(f"none of this was carried out; `{command}` does it.")

    def request(self, functions: str) -> dict[str, Any]:
        """CreateChangeSet's members; `functions` as in `parameters`."""
        repository, values = self.session.repository, parameters(self.session.environment, functions)
        return {
            "TemplateBody": template(repository.root),
            "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
            "Capabilities": ["CAPABILITY_NAMED_IAM"],  # the roles have names
            "Tags": tag_list(self.session.environment.tags | MANAGED),
            "Description": f"commit {definitions.git_commit(repository)}",
        }


def deploy(repository: Repository, name: str, confirmed: bool) -> int:
    """The exit code. Raises InputError, also where it was not wanted; the same command goes on from there."""
    session = opened(repository, name, account_is_set=True)
    check(session)
    environment, pipelines, code = session.environment, run.pipelines(session), package(repository.root)
    functions = f"{environment.folder}/{name}/functions/{sha256(code).hexdigest()}.zip"
    none = f"{environment.folder}/none"
    nothing_earlier = json.dumps([{"prefix": f"{environment.storage}/none/"}, "manifest.json"]).encode()
    objects = {f"{none}/manifest.json": EMPTY_ARTIFACT, f"{none}/earlier.manifest": nothing_earlier, functions: code}
    deployment = Deployment(Stack(session), objects, pipelines, confirmed)
    existing, created = deployment.stack.settled(), {}
    if existing is None or existing["StackStatus"] == REVIEW:
        existing, created = _first_pass(deployment, existing), {deployment.stack.name: "created"}
    found, changed = _second_pass(deployment, existing, functions)
    print("", *_summary(session, found, changed | created), sep="\n")
    return 0


def check(session: Session) -> None:
    """Raises InputError with the command that makes the image repositories and parameters that are missing."""
    findings = {resource.name: resource.look() for resource in resources(session)}
    for name, finding in findings.items():
        if finding.foreign:
            raise InputError(f"{name}: {finding.foreign}.")
    if missing := [name for name, finding in findings.items() if finding.state == MISSING]:
        names = "\n  ".join(missing)
        raise InputError(
            f"{len(missing)} of {len(findings)} image repositories and parameters are not there yet:\n  {names}\n"
            f"`{session.environment.bootstrap}` makes them; then `make push ENV={session.name}`."
        )


def _first_pass(deployment: Deployment, existing: Described | None) -> Described:
    """Make the stack without its functions, whose code has nowhere to lie before."""
    stack, kept = deployment.stack, _left(deployment.session)
    request = deployment.request("") | ({"ImportExistingResources": True} if kept else {})
    with stack.change_set(existing, request) as changes:
        print(f"{stack.name} does not exist yet. The first of two passes would make:")
        print(*table(changes), sep="\n")
        for name in kept:
            print(f"  the {name} is left from an earlier stack, and is taken over")
        names = ", ".join(pipeline["PipelineName"] for pipeline in deployment.pipelines)
        print(f"The second one makes the functions and what starts them; then come the pipelines {names}.", flush=True)
        deployment.agreed("Create all of this?")
        return stack.execute()


def _left(session: Session) -> list[str]:
    """In words, what a new stack has to take over. Raises InputError where it is somebody else's."""
    group = session.environment.prefix
    left = {f"bucket {session.environment.bucket}": _bucket(session), f"model package group {group}": None}
    missing, named = ("ResourceNotFound", "ValidationException"), {"ModelPackageGroupName": group}
    if arn := session.find("sagemaker", "describe_model_package_group", missing, "ModelPackageGroupArn", **named):
        left[f"model package group {group}"] = tag_map(session.call("sagemaker", "list_tags", "Tags", ResourceArn=arn))
    for name, tags in left.items():
        if tags is not None and (other := foreign(tags, session.environment.tags)):
            raise InputError(f"the {name}: {other}.")
    return [name for name, tags in left.items() if tags is not None]


def _bucket(session: Session) -> dict[str, str] | None:
    """Its tags, None where there is no such bucket. Raises InputError where the new stack could not use it."""
    name, file = session.environment.bucket, session.environment.file
    try:
        if session.find("s3", "head_bucket", (*ABSENT, "NoSuchBucket"), **session.own_bucket) is None:
            return None
    except CallFailed as failed:
        if failed.code != "403":
            raise
        raise InputError(
            f"the bucket {name} belongs to another account, or you may not look at it; "
            f"name another one with `bucket` in {file}, or get s3:ListBucket for it."
        ) from None
    if session.environment.create_key and not session.environment.kms_key:  # a new key would lock its content away
        missing = ("ServerSideEncryptionConfigurationNotFoundError",)
        found = session.find("s3", "get_bucket_encryption", missing, **session.own_bucket) or {}
        rules = found.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
        keys = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID") for rule in rules]
        if old := next(filter(None, keys), ""):
            raise InputError(
                f"what lies in {name} is encrypted with {old}, which a new stack's key can't read: "
                f'write kms_key = "{old}" into {file}.'
            )
    return tag_map(session.find("s3", "get_bucket_tagging", ("NoSuchTagSet",), "TagSet", **session.own_bucket) or [])


def _second_pass(deployment: Deployment, existing: Described, functions: str) -> tuple[Described, dict[str, str]]:
    """Bring stack, code and pipelines to what they are to be; the stack as it is then, and what was changed."""
    session, stack = deployment.session, deployment.stack
    if existing["StackStatus"] not in READY:
        raise stack.trouble(existing)
    old = next((its["OutputValue"] for its in existing.get("Outputs", []) if its["OutputKey"] == "Bucket"), "")
    environment = session.environment
    if old and old != environment.bucket:
        raise InputError(
            f"the stack {environment.prefix} has the bucket {old}, and {environment.file} names {environment.bucket}: "
            f"what lies in the old one would not come along. Name the old one, or tear {session.name} down first."
        )
    look = partial(session.find, "s3", "head_object", ABSENT, **session.own_bucket)
    missing = [key for key in deployment.objects if look(Key=key) is None]
    words = {pipeline["PipelineName"]: run.difference(session, pipeline) for pipeline in deployment.pipelines}
    differ = {name: word for name, word in words.items() if word != UNCHANGED}
    with stack.change_set(existing, deployment.request(functions)) as changes:
        if changes:
            print(f"{stack.name} would change:", *table(changes), sep="\n")
        for line in (*(f"uploaded: {key}" for key in missing), *(f"{word}: {name}" for name, word in differ.items())):
            print(f"would be {line}", flush=True)
        if changes or missing or differ:
            deployment.agreed("Carry this out?")
        for key in missing:
            session.call("s3", "put_object", Key=key, Body=deployment.objects[key], **session.own_bucket)
        changed = {stack.name: "updated" if changes else UNCHANGED}
        if changes:
            existing = stack.execute()
    return existing, changed | {its["PipelineName"]: run.write(session, its) for its in deployment.pipelines}


def _summary(session: Session, stack: Described, changed: Mapping[str, str]) -> Iterator[str]:
    """`changed` says of stack and pipelines whether they were created, updated or left."""
    environment = session.environment
    if set(changed.values()) == {UNCHANGED}:
        yield f"{session.name} is as this repository says; nothing was changed."
    yield from (f"{name}: {word}" for name, word in changed.items())
    for output in stack.get("Outputs", []):
        yield f"{output['OutputKey']}: {output['OutputValue']} ({output.get('Description', '')})"
    release = session.call("ssm", "get_parameter", "Parameter", Name=environment.parameter("release"))["Value"]
    yield f"release: {_release(release)}"
    yield from (line.strip() for line in run.behind(session))
    yield f"schedule: {environment.schedule or f'none, until {environment.file} has one'}"
    yield from ("", *cost.summary(session.repository, session.name))
    yield from ("", "next:", *(f"  {line}" for line in _next(session, released=release != NOTHING)))


def _release(text: str) -> str:
    """The manifest in a few words; what it has to hold is for those to check who use it."""
    if text == NOTHING:
        return "none yet"
    try:
        manifest: dict[str, Any] = json.loads(text)
        return f"{manifest['version']} of {manifest['created'][:10]}, {manifest['model_package']}"
    except (ValueError, KeyError, TypeError):
        return "damaged; `make rollback` brings an earlier one back"


def _next(session: Session, released: bool) -> Iterator[str]:
    environment, window, name = session.environment, session.repository.window(), session.name
    if environment.notice_email:
        yield f"confirm the mail that {environment.notice_email} got, once, or no notices come"
    if not released:
        yield f"make upload ENV={name} WINDOW={window} PART=train DATA=data/{window}/train"
        yield f"make run PIPELINE=training ENV={name} WINDOW={window}"
        if environment.approval != "Approved":
            yield f"approve the model in the Model Registry, group {environment.prefix}: that releases it"
    yield f"make upload ENV={name} WINDOW={window} DATA=data/{window}/production"
    yield f"make run PIPELINE=inference ENV={name} WINDOW={window}"


def teardown(repository: Repository, name: str, agreed: str = "") -> int:
    """The exit code. Raises InputError for another name than the environment's. Run again, it goes on.

    What is kept: data, models, images and keys. Pipelines go first: SageMaker refuses to delete one with a run under
    way, and the run keeps its role that way.
    """
    session = opened(repository, name, account_is_set=True)
    prefix, ours = session.environment.prefix, []
    for what, delete, other in list(_existing(session)):
        print(f"not ours, and stays: {what}: {other}" if other else f"deletes: {what}")
        if not other:
            ours.append((what, delete))
    print(KEPT.format(environment=session.environment))
    print(
        *(f"keeps: the image repository {name} and its images" for name in session.environment.repositories), sep="\n"
    )
    if session.environment.create_key or session.environment.kms_key:
        print("keeps: the KMS key: without it nobody can read what is in the bucket")
    print("keeps: everything in this folder", flush=True)
    if not ours:
        print(f"{prefix} has nothing to delete.")
        return 0
    if (agreed or typed(f"Type {prefix} to delete all of this: ")) != prefix:
        raise InputError(f"nothing was deleted; `make teardown ENV={name} NAME={prefix}` does it.")
    for what, delete in ours:
        delete()
        print(f"deleted: {what}", flush=True)
    return 0


def _existing(session: Session) -> Iterator[tuple[str, Callable[[], object], str]]:
    """What can be deleted, how, and why it is somebody else's, "" where it is ours."""
    for name in map(session.environment.pipeline, definitions.NAMES):
        if found := deployed_pipeline(session, name):
            tags = tag_map(session.call("sagemaker", "list_tags", "Tags", ResourceArn=found["PipelineArn"]))
            yield f"pipeline {name}", partial(_delete_pipeline, session, name), foreign(tags, session.environment.tags)
    stack = Stack(session)
    if found := stack.describe():
        what = f"stack {stack.name} with its functions, rules, alarms, roles and logs"
        yield what, stack.delete, stack.foreign(found)
    for resource in resources(session):
        if resource.title == PARAMETERS and (finding := resource.look()).state != MISSING:
            delete = partial(session.find, "ssm", "delete_parameter", ("ParameterNotFound",), Name=resource.name)
            yield f"parameter {resource.name}", delete, finding.foreign


def _delete_pipeline(session: Session, name: str) -> None:
    try:
        session.find("sagemaker", "delete_pipeline", NO_PIPELINE, PipelineName=name)
    except CallFailed as failed:
        if failed.code != "ConflictException":
            raise
        why = f"A run of {name} is under way: wait for it or stop it, then tear down again."
        raise InputError(f"{failed}\n{why}") from None
