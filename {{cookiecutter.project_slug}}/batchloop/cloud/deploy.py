"""Whether the user wants it, in so many words."""

import io
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from batchloop import cost
from batchloop.cloud import stack as cloud_stack
from batchloop.cloud import upsert
from batchloop.cloud.bootstrap import NO_VALUE, Finding, Parameters, Repositories, stranger
from batchloop.cloud.session import CallFailed, Target, ask, opened, tag_list, tag_map
from batchloop.cloud.stack import ChangeSet, Found, Stack
from batchloop.cloud.upsert import UNCHANGED, Pipeline
from batchloop.environment import Environment
from batchloop.pipelines import definitions
from batchloop.repository import Failure, Repository


@dataclass(frozen=True)
class Consent:
    """`given` was said beforehand, with CONFIRM=yes."""

    given: bool

    def asked(self, question: str) -> bool:
        """True where it was said beforehand, or is typed now; nobody at a terminal is no yes."""
        return self.given or typed(f"{question} Type yes: ") == "yes"


def typed(prompt: str) -> str:
    """What a person types, "" where there is none."""
    if not sys.stdin.isatty():
        return ""
    try:
        return input(prompt).strip()
    except EOFError:
        return ""


LIMIT = 51_200  # bytes of a template that is sent with the request ("CloudFormation quotas")


def body(root: Path) -> str:
    """The template without its lines of comment: with them it is larger than what a request takes.

    Larger ones would have to lie in a bucket, and the bucket is what this stack makes. Raises Failure.
    """
    lines = (root / "infra" / "stack.yaml").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if (size := len(text.encode())) > LIMIT:
        raise Failure(f"infra/stack.yaml has {size:,} bytes without comments; CloudFormation takes {LIMIT:,}.")
    return text


def parameters(where: Environment, functions: str) -> dict[str, str]:
    """Every parameter of the template; `functions` is the key of their code, "" in the first of the two passes."""
    return {
        "Namespace": where.namespace,
        "Usecase": where.slug,
        "Environment": where.name,
        "BucketName": where.bucket,
        "FunctionsKey": functions,
        "Schedule": where.schedule,
        "HoursBetweenRuns": str(where.hours_between_runs),
        "NoticeEmail": where.notice_email,
        "MonthlyBudget": f"{where.monthly_budget:g}",
        "ConnectionArn": where.build.connection,
        "RepositoryProvider": where.build.provider,
        "Repository": where.build.repository,
        "Branch": where.build.branch,
        "CreateKey": str(where.create_key).lower(),
        "KmsKeyArn": where.kms_key,
        "PermissionsBoundaryArn": where.permissions_boundary,
        "SubnetIds": ",".join(where.subnets),
        "SecurityGroupIds": ",".join(where.security_groups),
    }


EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
READABLE = 0o644 << 16
ABSENT = ("404", "NoSuchKey", "NotFound")


@dataclass(frozen=True)
class Package:
    """The zip; `digest` is its SHA-256."""

    body: bytes

    @property
    def digest(self) -> str:
        return sha256(self.body).hexdigest()

    def key(self, prefix: str) -> str:
        """Where it lies in the bucket; the prefix is <namespace>/<usecase>/<environment>."""
        return f"{prefix}/functions/{self.digest}.zip"


def package(root: Path) -> Package:
    """batchloop/control/*.py, and usecase.toml beside them, where `batchloop.control.names` reads it. Raises Failure.

    Nothing is compressed: what zlib makes of the same bytes differs between its versions, and this is small.
    """
    modules = sorted((root / "batchloop" / "control").glob("*.py"))
    if not modules:
        raise Failure("batchloop/control holds no code; is this the whole repository?")
    files = {file.relative_to(root).as_posix(): file for file in [root / "batchloop" / "__init__.py", *modules]} | {
        "usecase.toml": root / "usecase.toml"
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, file in files.items():
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.create_system, entry.external_attr = 3, READABLE  # else Windows writes other bytes
            archive.writestr(entry, file.read_bytes())
    return Package(out.getvalue())


@dataclass(frozen=True)
class Shelf:
    """A bucket that has to be the account's own."""

    s3: Any
    bucket: str
    account: str

    def has(self, key: str) -> bool:
        """Raises CallFailed."""
        try:
            ask(self.s3, "head_object", **self._place(key))
        except CallFailed as failed:
            if failed.code not in ABSENT:
                raise
            return False
        return True

    def put(self, key: str, body: bytes) -> None:
        """Raises CallFailed."""
        ask(self.s3, "put_object", **self._place(key), Body=body)

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": key, "ExpectedBucketOwner": self.account}


NO_GROUP = ("ResourceNotFound", "ValidationException")


def found(target: Target) -> list[str]:
    """In words, what a new stack has to take over. Raises Failure where it is somebody else's."""
    kept = {f"bucket {target.where.bucket}": _bucket(target), f"model package group {target.name}": _group(target)}
    for name, tags in kept.items():
        if tags is not None and (other := stranger(tags, target.owner)):
            raise Failure(f"the {name}: {other}.")
    return [name for name, tags in kept.items() if tags is not None]


def _bucket(target: Target) -> dict[str, str] | None:
    """Its tags, None where there is no such bucket."""
    s3, name = target.client("s3"), target.where.bucket
    place = {"Bucket": name, "ExpectedBucketOwner": target.account.number}
    try:
        ask(s3, "head_bucket", **place)
    except CallFailed as failed:
        if failed.code in (*ABSENT, "NoSuchBucket"):
            return None
        if failed.code == "403":
            raise Failure(
                f"the bucket {name} belongs to another account, or you may not look at it; "
                f"name another one with `bucket` in {target.needs.file}, or get s3:ListBucket for it."
            ) from None
        raise
    _key(target, place)
    try:
        return tag_map(ask(s3, "get_bucket_tagging", "TagSet", **place))
    except CallFailed as failed:
        if failed.code != "NoSuchTagSet":
            raise
        return {}


def _key(target: Target, place: dict[str, str]) -> None:
    """A new key would lock away what the old one encrypted. Raises Failure."""
    if not target.where.create_key or target.where.kms_key:
        return
    try:
        rules = ask(target.client("s3"), "get_bucket_encryption", "ServerSideEncryptionConfiguration", **place)["Rules"]
    except CallFailed as failed:
        if failed.code != "ServerSideEncryptionConfigurationNotFoundError":
            raise
        return
    keys = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID") for rule in rules]
    if old := next((key for key in keys if key), ""):
        raise Failure(
            f"what lies in {target.where.bucket} is encrypted with {old}, which a new stack's key can't read: "
            f'write kms_key = "{old}" into {target.needs.file}.'
        )


def _group(target: Target) -> dict[str, str] | None:
    sagemaker = target.client("sagemaker")
    try:
        arn = ask(sagemaker, "describe_model_package_group", ModelPackageGroupName=target.name)["ModelPackageGroupArn"]
    except CallFailed as failed:
        if failed.code not in NO_GROUP:
            raise
        return None
    return tag_map(ask(sagemaker, "list_tags", "Tags", ResourceArn=arn))


def check(target: Target) -> None:
    """Raises Failure with the command that makes what is missing."""
    kinds = (Repositories(target.account.ecr, target.needs), Parameters(target.account.ssm, target.needs))
    found = {name: kind.look(name) for kind in kinds for name in kind.names}
    for name, finding in found.items():
        if finding.stranger:
            raise Failure(f"{name}: {finding.stranger}.")
    if missing := [name for name, finding in found.items() if _missing(finding)]:
        names = "\n  ".join(missing)
        raise Failure(
            f"{len(missing)} of {len(found)} image repositories and parameters are not there yet:\n  {names}\n"
            f"`{target.needs.command}` makes them; then `make push ENV={target.where.name}`."
        )


def _missing(finding: Finding) -> bool:
    return finding.create is not None


def lines(target: Target, stack: Found, changed: Mapping[str, str]) -> Iterator[str]:
    """`changed` says of stack and pipelines whether they were created, updated or left."""
    if set(changed.values()) == {UNCHANGED}:
        yield f"{target.where.name} is as this repository says; nothing was changed."
    yield from (f"{name}: {word}" for name, word in changed.items())
    for output in stack.get("Outputs", []):
        yield f"{output['OutputKey']}: {output['OutputValue']} ({output.get('Description', '')})"
    release = _release(target)
    yield f"release: {_told(release)}"
    yield f"schedule: {target.where.schedule or f'none, until {target.needs.file} has one'}"
    yield from ("", *cost.summary(target.repository, target.where.name))
    yield from ("", "next:", *(f"  {line}" for line in _next(target, release)))


def _release(target: Target) -> str:
    name = f"/{target.storage}/{target.where.name}/release"
    return str(ask(target.account.ssm, "get_parameter", "Parameter", Name=name)["Value"])


def _told(release: str) -> str:
    """The manifest in a few words; what it has to hold is for those to check who use it."""
    if release == NO_VALUE:
        return "none yet"
    try:
        manifest: dict[str, Any] = json.loads(release)
        return f"{manifest['version']} of {manifest['created'][:10]}, {manifest['model_package']}"
    except (ValueError, KeyError, TypeError):
        return "damaged; `make rollback` brings an earlier one back"


def _next(target: Target, release: str) -> Iterator[str]:
    where, window = target.where, target.repository.window()
    data = f"s3://{where.bucket}/{target.storage}/data/{window}"
    if where.notice_email:
        yield f"confirm the mail that {where.notice_email} got, once, or no notices come"
    if release == NO_VALUE:
        yield f"aws s3 cp --recursive data/{window}/train {data}/train"
        yield f"make run PIPELINE=training ENV={where.name} WINDOW={window}"
        if where.approval != "Approved":
            yield f"approve the model in the Model Registry, group {target.name}: that releases it"
    yield f"aws s3 cp --recursive data/{window}/production {data}/production"
    yield f"make run PIPELINE=inference ENV={where.name} WINDOW={window}"


CAPABILITIES = ["CAPABILITY_NAMED_IAM"]  # the roles have names
EMPTY_ARTIFACT = b'{"component": "none"}'  # stands for "no champion yet": a pipeline's inputs can't be optional


@dataclass(frozen=True)
class Deployment:
    """What is to be in AWS, and whether the user wants it."""

    target: Target
    stack: Stack
    package: Package
    pipelines: list[Pipeline]
    consent: Consent

    @property
    def key(self) -> str:
        return self.package.key(f"{self.target.storage}/{self.target.where.name}")

    @property
    def objects(self) -> dict[str, bytes]:
        """What lies in the bucket before any run: key → content."""
        none = f"{self.target.storage}/none"
        nothing_earlier = json.dumps([{"prefix": f"s3://{self.target.where.bucket}/{none}/"}, "manifest.json"]).encode()
        empty = {f"{none}/manifest.json": EMPTY_ARTIFACT, f"{none}/earlier.manifest": nothing_earlier}
        return {**empty, self.key: self.package.body}

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.target.client("s3"), self.target.where.bucket, self.target.account.number)

    def wanted(self, question: str) -> None:
        """Raises Failure where the user does not want what was shown."""
        if not self.consent.asked(question):
            environment = self.target.where.name
            raise Failure(f"none of this was carried out; `make deploy ENV={environment} CONFIRM=yes` does it.")


def deploy(repository: Repository, environment: str, confirmed: bool) -> int:
    """The exit code. Raises Failure, also where it was not wanted; the same command goes on from there."""
    target = opened(repository, environment)
    check(target)
    pipelines = upsert.pipelines(repository, environment)
    package_ = package(repository.root)
    stack = Stack(target, target.client("cloudformation"))
    deployment = Deployment(target, stack, package_, pipelines, Consent(confirmed))
    there = stack.settled()
    created = {}
    if there is None or there["StackStatus"] == cloud_stack.REVIEW:
        there, created = _first_pass(deployment, there), {target.name: "created"}
    found, changed = _second_pass(deployment, there)
    print("", *lines(target, found, changed | created), sep="\n")
    return 0


def _first_pass(deployment: Deployment, there: Found | None) -> Found:
    """Make the stack without its functions, whose code has nowhere to lie before."""
    target, kept = deployment.target, found(deployment.target)
    request = _request(deployment, "") | ({"ImportExistingResources": True} if kept else {})
    with cloud_stack.proposed(deployment.stack, there, request) as pending:
        print(f"{target.name} does not exist yet. The first of two passes would make:")
        print(*cloud_stack.table(pending.changes), sep="\n")
        for name in kept:
            print(f"  the {name} is left from an earlier stack, and is taken over")
        names = ", ".join(pipeline.name for pipeline in deployment.pipelines)
        print(f"The second one makes the functions and what starts them; then come the pipelines {names}.", flush=True)
        deployment.wanted("Create all of this?")
        return pending.execute()


def _second_pass(deployment: Deployment, there: Found) -> tuple[Found, dict[str, str]]:
    """Bring stack, code and pipelines to what they are to be; the stack as it is then, and what was changed."""
    if there["StackStatus"] not in cloud_stack.READY:
        raise deployment.stack.trouble(there)
    _same_bucket(deployment.target, there)
    client, shelf = deployment.target.client("sagemaker"), deployment.shelf
    missing = [key for key in deployment.objects if not shelf.has(key)]
    words = {pipeline.name: upsert.difference(client, pipeline) for pipeline in deployment.pipelines}
    differ = [name for name, word in words.items() if word != upsert.UNCHANGED]
    with cloud_stack.proposed(deployment.stack, there, _request(deployment, deployment.key)) as pending:
        stack = "updated" if pending.changes else "unchanged"
        if pending.changes or missing or differ:
            _show(deployment, pending, missing, {name: words[name] for name in differ})
            deployment.wanted("Carry this out?")
        for key in missing:
            shelf.put(key, deployment.objects[key])
        if pending.changes:
            there = pending.execute()
    written = {pipeline.name: upsert.write(client, pipeline) for pipeline in deployment.pipelines}
    return there, {deployment.target.name: stack} | written


def _same_bucket(target: Target, there: Found) -> None:
    """Raises Failure where another bucket is wanted: data, artifacts and code would stay behind in the old one."""
    [old] = [its["OutputValue"] for its in there.get("Outputs", []) if its["OutputKey"] == "Bucket"] or [""]
    if old and old != target.where.bucket:
        raise Failure(
            f"the stack {target.name} has the bucket {old}, and {target.needs.file} names {target.where.bucket}: "
            f"what lies in the old one would not come along. Name the old one, or tear {target.where.name} down first."
        )


def _show(deployment: Deployment, pending: ChangeSet, missing: list[str], pipelines: dict[str, str]) -> None:
    if pending.changes:
        print(f"{deployment.target.name} would change:")
        print(*cloud_stack.table(pending.changes), sep="\n")
    for key in missing:
        print(f"would be uploaded: {key}")
    for name, word in pipelines.items():
        print(f"would be {word}: {name}")
    print(end="", flush=True)


def _request(deployment: Deployment, functions: str) -> dict[str, Any]:
    target = deployment.target
    values = parameters(target.where, functions)
    return {
        "TemplateBody": body(target.repository.root),
        "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        "Capabilities": CAPABILITIES,
        "Tags": tag_list(target.tags),
        "Description": f"commit {definitions.git_commit(target.repository)}",
    }
