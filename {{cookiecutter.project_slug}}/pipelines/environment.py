"""environments/<name>.toml as frozen dataclasses: where the pipelines run, on what, and who approves."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from runtime.failures import InputError
from runtime.usecase import UseCase

JOBS = ("processing", "algorithm", "transform", "monitoring", "explainability")
APPROVALS = ("Approved", "PendingManualApproval")
PROVIDERS = ("GITHUB", "GITHUB_ENTERPRISE", "GITLAB", "GITLAB_SELF_MANAGED", "BITBUCKET")
LONGEST_HOURS = 168  # an alarm looks back seven days at most ("PutMetricAlarm" in the CloudWatch API reference)


@dataclass(frozen=True)
class Instances:
    """What one job runs on; `volume_gb` is its disk."""

    type: str
    count: int
    volume_gb: int


@dataclass(frozen=True)
class Build:
    """What CodeBuild clones, through which connection; without a connection there is no build project."""

    connection: str
    provider: str
    repository: str
    branch: str


@dataclass(frozen=True)
class Environment:
    """One environment; `prefix` begins the name of everything that belongs to it."""

    name: str
    namespace: str
    slug: str
    account: str
    region: str
    bucket: str
    role: str
    approval: str
    schedule: str
    kms_key: str
    create_key: bool
    permissions_boundary: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    spot: bool
    max_runtime_seconds: int
    hours_between_runs: int
    notice_email: str
    monthly_budget: float
    build: Build
    instances: Mapping[str, Instances]

    @property
    def prefix(self) -> str:
        return f"{self.namespace}-{self.slug}-{self.name}"

    @property
    def storage(self) -> str:
        """The S3 prefix under which everything of the use case lies."""
        return f"s3://{self.bucket}/{self.namespace}/{self.slug}"

    def image(self, component: str) -> str:
        """The component's ECR repository, without a tag."""
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com/{self.namespace}/{self.slug}/{component}"


def load(folder: Path, name: str, usecase: UseCase) -> Environment:
    """Read and check environments/<name>.toml. Raises InputError with the key and what would be right."""
    file = folder / f"{name}.toml"
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.toml")))
        raise InputError(f"there is no environment {name!r}; there are {known}.") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file.name} is not valid TOML: {error}.") from None
    return _parse(values, name, usecase)


def _parse(values: dict[str, Any], name: str, usecase: UseCase) -> Environment:
    own = {"name", "namespace", "slug"}
    known = {entry.name for entry in fields(Environment)} - own
    for key in sorted(known ^ set(values)):
        raise InputError(f"environments/{name}.toml {'needs' if key in known else 'has an unknown key'} {key!r}.")
    _check(values, name)
    prefix = f"{usecase.namespace}-{usecase.name}-{name}"
    account = values["account"]
    derived = {
        "bucket": values["bucket"] or f"{prefix}-{account}",
        "role": values["role"] or f"arn:aws:iam::{account}:role/{prefix}-execution",
        "build": _build(values["build"], name),
        "instances": {job: _instances(values["instances"], job, name) for job in JOBS},
        "subnets": tuple(values["subnets"]),
        "security_groups": tuple(values["security_groups"]),
    }
    return Environment(name=name, namespace=usecase.namespace, slug=usecase.name, **values | derived)


def _check(values: Mapping[str, Any], name: str) -> None:
    rules = [
        (re.fullmatch(r"\d{12}", str(values["account"])), "account is not twelve digits in quotes."),
        (re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}", str(values["region"])), "region is not one like eu-central-1."),
        *_deployed(values),
        (values["approval"] in APPROVALS, f"approval is none of {', '.join(APPROVALS)}."),
        (isinstance(values["spot"], bool), "spot is not true or false."),
        (type(values["max_runtime_seconds"]) is int, "max_runtime_seconds is not a whole number."),
        (bool(values["subnets"]) == bool(values["security_groups"]), "subnets and security_groups go together."),
    ]
    for holds, message in rules:
        if not holds:
            raise InputError(f"environments/{name}.toml: {message}")


def _deployed(values: Mapping[str, Any]) -> list[tuple[object, str]]:
    """What the stack would refuse, said before anything is asked of AWS."""
    hours, budget = values["hours_between_runs"], values["monthly_budget"]
    arn = r"(arn:aws[a-z-]*:%s:.+)?"
    return [
        (
            re.fullmatch(r"((cron|rate)\(.+\))?", str(values["schedule"])),
            'schedule is not one like "cron(0 6 * * ? *)".',
        ),
        (re.fullmatch(arn % "kms", str(values["kms_key"])), "kms_key is not the ARN of a key."),
        (isinstance(values["create_key"], bool), "create_key is not true or false."),
        (re.fullmatch(arn % "iam", str(values["permissions_boundary"])), "permissions_boundary is no policy's ARN."),
        (re.fullmatch(r"([^@\s]+@[^@\s]+)?", str(values["notice_email"])), "notice_email is no address."),
        (type(hours) is int and 0 <= hours <= LONGEST_HOURS, f"hours_between_runs is not from 0 to {LONGEST_HOURS}."),
        (type(budget) in (int, float) and budget >= 0, "monthly_budget is no amount of dollars."),
    ]


def _build(table: Any, name: str) -> Build:
    try:
        build = Build(**table)
    except TypeError:
        raise InputError(
            f"environments/{name}.toml [build] needs connection, provider, repository and branch."
        ) from None
    rules = [
        (
            re.fullmatch(r"(arn:aws[a-z-]*:codeconnections:.+)?", str(build.connection)),
            "connection is no ARN that begins with arn:aws:codeconnections.",
        ),
        (build.provider in PROVIDERS, f"provider is none of {', '.join(PROVIDERS)}."),
        (re.fullmatch(r"[A-Za-z0-9._/-]+", str(build.branch)), "branch is no branch's name."),
        (
            not build.connection or str(build.repository).startswith("https://"),
            "a connection needs the repository's https:// address.",
        ),
    ]
    for holds, message in rules:
        if not holds:
            raise InputError(f"environments/{name}.toml [build]: {message}")
    return build


def _instances(tables: Mapping[str, Any], job: str, name: str) -> Instances:
    try:
        found = Instances(**tables[job])
    except (KeyError, TypeError):
        raise InputError(f"environments/{name}.toml [instances] {job} needs type, count and volume_gb.") from None
    if not str(found.type).startswith("ml.") or type(found.count) is not int or found.count < 1:
        raise InputError(f"environments/{name}.toml [instances] {job}: a type like ml.m5.large, and a count from 1.")
    return found
