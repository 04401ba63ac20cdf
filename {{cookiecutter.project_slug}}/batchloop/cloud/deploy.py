"""`make deploy` and `make teardown`: what one environment has in AWS, shown before it is changed or deleted."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from batchloop import cost
from batchloop.cloud import preflight, run
from batchloop.cloud import stack as sent
from batchloop.cloud.bootstrap import MISSING, PARAMETERS, resources
from batchloop.cloud.run import CREATED, NO_PIPELINE, UNCHANGED, UPDATED, Pipeline, deployed_pipeline
from batchloop.cloud.session import MANAGED, CallFailed, Session, foreign, opened, tag_list, tag_map
from batchloop.cloud.stack import REVIEW, STACK, STORAGE, Described, Stack, parameter, table
from batchloop.container.job import InputError
from batchloop.control.names import NOTHING
from batchloop.control.release import APPROVED
from batchloop.pipelines import definitions
from batchloop.repository import Repository

ABSENT = ("404", "NoSuchKey", "NotFound")
# What the first one makes, beside a key, which stays in its template: what refers to it needs it there.
STORED = {"Bucket", "BucketPolicy", "Models"}
EMPTY_ARTIFACT = b'{"component": "none"}'  # stands for "no champion yet": a pipeline's inputs can't be optional


def typed(prompt: str) -> str:
    """What a person types, "" where there is none."""
    if not sys.stdin.isatty():
        return ""
    try:
        return input(prompt).strip()
    except EOFError:
        return ""


@dataclass(frozen=True)
class Deployment:
    """What is to be in AWS beside the stacks: objects (key → content) and pipelines; `confirmed` beforehand or not."""

    session: Session
    objects: Mapping[str, bytes]
    pipelines: list[Pipeline]
    confirmed: bool

    def agreed(self, question: str) -> None:
        """Raises InputError where the user does not want what was shown; nobody at a terminal is no yes."""
        if not self.confirmed and typed(f"{question} Type yes: ") != "yes":
            command = f"make deploy ENV={self.session.name} CONFIRM=yes"
            raise InputError(f"none of this was carried out; `{command}` does it.")

    def request(self, body: str, url: str = "", **others: str) -> dict[str, Any]:
        """CreateChangeSet's members for a template, by its address where it has one; `others` as in `parameters`."""
        repository, environment = self.session.repository, self.session.environment
        values, role = sent.parameters(repository, environment, body, **others), environment.deployment_role
        return {
            **({"TemplateURL": url} if url else {"TemplateBody": body}),
            **({"RoleARN": role} if role else {}),
            "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
            "Capabilities": ["CAPABILITY_NAMED_IAM"],  # the roles have names
            "Tags": tag_list(environment.tags | MANAGED),
            "Description": f"commit {definitions.git_commit(repository)}",
        }


def deploy(repository: Repository, confirmed: bool) -> int:
    """The exit code. Raises InputError, also where it was not wanted; the same command goes on from there."""
    session = opened(repository, account_is_set=True)
    check(session)
    environment = session.environment
    if environment.schedule and environment.approval != APPROVED and not environment.notice_email:
        raise InputError(
            f"{environment.file} schedules runs and names nobody who is told when one fails or a window drifts: "
            'write notice_email = "…", a list of people rather than one.'
        )
    pipelines, code, none = run.pipelines(session), sent.package(repository.root), f"{environment.folder}/none"
    key = sent.functions(environment, code)
    nothing_earlier = json.dumps([{"prefix": environment.nothing}, "manifest.json"]).encode()
    objects = {f"{none}/manifest.json": EMPTY_ARTIFACT, f"{none}/earlier.manifest": nothing_earlier, key: code}
    preflight.report(session)
    deployment = Deployment(session, objects, pipelines, confirmed)
    stack, storage = stacks(session)
    existing = stack.usable()
    changed = _storage(deployment, storage)
    storage.protect(True)
    found, others = _stack(deployment, stack, existing, key)
    stack.protect(environment.approval != APPROVED)
    print("", *_summary(session, found, changed | others), sep="\n")
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


def stacks(session: Session) -> tuple[Stack, Stack]:
    prefix = session.environment.prefix
    return Stack(session, prefix), Stack(session, f"{prefix}-storage")


def _storage(deployment: Deployment, stack: Stack) -> dict[str, str]:
    """Make or change the stack of bucket, models and key; its name, and what was done."""
    environment, root = deployment.session.environment, deployment.session.repository.root
    existing, word = stack.usable(), UPDATED
    if existing is None or existing["StackStatus"] == REVIEW:
        word = CREATED
        if left := list(_left(deployment.session)):
            body = sent.template(root, STORAGE, STORED - {its["LogicalResourceId"] for its in left})
            request = deployment.request(body, CreateKey="false") | {"ResourcesToImport": left}
            with stack.change_set(existing, request) as changes:
                print(f"{stack.name} is not there, and what an earlier one kept is. It would be taken over:")
                print(*table(changes), sep="\n", flush=True)
                deployment.agreed("Take it over?")
                existing = stack.execute()
    elif (old := parameter(existing, "BucketName")) != environment.bucket:
        raise InputError(
            f"the stack {stack.name} has the bucket {old}, and {environment.file} names {environment.bucket}: "
            f'what lies in the old one would not come along. Name that one: bucket = "{old}".'
        )
    with stack.change_set(existing, deployment.request(sent.template(root, STORAGE))) as changes:
        if not changes:
            return {stack.name: UNCHANGED}
        print(f"{stack.name} would be {word}:", *table(changes), sep="\n")
        if word == CREATED:
            print(f"Then come the stack {environment.prefix} and its pipelines, shown before they are made.")
        deployment.agreed("Carry this out?")
        stack.execute()
        return {stack.name: word}


def _left(session: Session) -> Iterator[dict[str, Any]]:
    """What a stack of storage that is gone has kept, as CreateChangeSet imports it. Raises InputError if not ours."""
    environment, group = session.environment, session.environment.prefix
    tags = _bucket(session)
    if tags is not None:
        _ours(f"bucket {environment.bucket}", tags, session)
        yield _import("Bucket", "AWS::S3::Bucket", BucketName=environment.bucket)
    missing, named = ("ResourceNotFound", "ValidationException"), {"ModelPackageGroupName": group}
    if arn := session.find("sagemaker", "describe_model_package_group", missing, "ModelPackageGroupArn", **named):
        tags = tag_map(session.call("sagemaker", "list_tags", "Tags", ResourceArn=arn))
        _ours(f"model package group {group}", tags, session)
        yield _import("Models", "AWS::SageMaker::ModelPackageGroup", ModelPackageGroupArn=arn)


def _ours(what: str, tags: Mapping[str, str], session: Session) -> None:
    if other := foreign(tags, session.environment.tags):
        raise InputError(f"the {what}: {other}.")


def _import(name: str, kind: str, **identifier: str) -> dict[str, Any]:
    """A member of ResourcesToImport, by its primary identifier ("Import AWS resources into a CloudFormation stack")."""
    return {"LogicalResourceId": name, "ResourceType": kind, "ResourceIdentifier": identifier}


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


def _stack(
    deployment: Deployment, stack: Stack, existing: Described | None, key: str
) -> tuple[Described, dict[str, str]]:
    """Bring stack, code and pipelines to what they are to be; the stack as it is then, and what was changed."""
    session, environment = deployment.session, deployment.session.environment
    body = sent.template(session.repository.root, STACK, environment.place["without"])
    place = f"{environment.folder}/{session.name}/stack/{sha256(body.encode()).hexdigest()}.yaml"
    look = partial(session.find, "s3", "head_object", ABSENT, **session.own_bucket)
    put = partial(session.call, "s3", "put_object", **session.own_bucket)
    missing = [key for key in deployment.objects if look(Key=key) is None]
    if look(Key=place) is None:  # CloudFormation compares with what lies in a bucket: a request holds 51,200 bytes
        put(Key=place, Body=body.encode())
    url = f"https://{environment.bucket}.s3.{environment.region}.{environment.place['suffix']}/{place}"
    pipelines = run.keyed(session, deployment.pipelines)
    words = {pipeline["PipelineName"]: run.difference(session, pipeline) for pipeline in pipelines}
    differ = {name: word for name, word in words.items() if word != UNCHANGED}
    word = CREATED if existing is None or existing["StackStatus"] == REVIEW else UPDATED
    request = deployment.request(body, url, FunctionsKey=key, KmsKeyArn=run.key(session))
    with stack.change_set(existing, request) as changes:
        if changes:
            print(f"{stack.name} would be {word}:", *table(changes), sep="\n")
        for line in (*(f"uploaded: {key}" for key in missing), *(f"{word}: {name}" for name, word in differ.items())):
            print(f"would be {line}", flush=True)
        if changes or missing or differ:
            deployment.agreed("Carry this out?")
        for name in missing:
            put(Key=name, Body=deployment.objects[name])
        changed = {stack.name: word if changes else UNCHANGED}
        if changes:
            existing = stack.execute()
    return existing or {}, changed | {its["PipelineName"]: run.write(session, its) for its in pipelines}


def _summary(session: Session, stack: Described, changed: Mapping[str, str]) -> Iterator[str]:
    """`changed` says of stack and pipelines whether they were created, updated or left."""
    environment = session.environment
    if set(changed.values()) == {UNCHANGED}:
        yield f"{session.name} is as this repository says; nothing was changed."
    yield from (f"{name}: {word}" for name, word in changed.items())
    for output in stack.get("Outputs", []):
        yield f"{output['OutputKey']}: {output['OutputValue']} ({output.get('Description', '')})"
    release = session.parameter("release")["Value"]
    yield f"release: {'none yet' if release == NOTHING else f'`make releases ENV={session.name}` shows it'}"
    yield from (line.strip() for line in run.behind(session))
    yield f"schedule: {environment.schedule or f'none, until {environment.file} has one'}"
    yield from ("", *cost.summary(session.repository))
    yield from ("", "next:", *(f"  {line}" for line in _next(session, released=release != NOTHING)))


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


def teardown(repository: Repository, agreed: str = "") -> int:
    """The exit code. Raises InputError for another name than the environment's. Run again, it goes on.

    Pipelines go first: SageMaker refuses to delete one with a run under way, and the run keeps its role that way.
    """
    session = opened(repository, account_is_set=True)
    prefix, ours = session.environment.prefix, []
    for what, delete, other in list(_existing(session)):
        print(f"not ours, and stays: {what}: {other}" if other else f"deletes: {what}")
        if not other:
            ours.append((what, delete))
    environment = session.environment
    kept = [
        f"the stack {prefix}-storage, which costs nothing and which the next deployment finds, and in it",
        f"the bucket {environment.bucket} with data, artifacts, predictions and functions",
        f"the model package group {prefix} and its models",
        *(f"the image repository {name} and its images" for name in environment.repositories),
        *(["the KMS key: without it nobody can read what is in the bucket"] if environment.key else []),
        "everything in this folder",
    ]
    print(*(f"keeps: {what}" for what in kept), sep="\n", flush=True)
    if not ours:
        print(f"{prefix} has nothing to delete.")
        return 0
    if (agreed or typed(f"Type {prefix} to delete all of this: ")) != prefix:
        raise InputError(f"nothing was deleted; `make teardown ENV={session.name} NAME={prefix}` does it.")
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
    stack = stacks(session)[0]
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
