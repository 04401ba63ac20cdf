"""environments/<name>.toml as frozen dataclasses: where the pipelines run, on what, and who approves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from runtime import settings
from runtime.failures import InputError
from runtime.settings import Matching, Range, Wrong
from runtime.usecase import UseCase

JOBS = ("processing", "algorithm", "transform", "monitoring", "explainability")
# What the service takes: "CreateProcessingJob" in the SageMaker API reference, and its training jobs take more.
COUNT, SECONDS, GIGABYTES = Range(ge=1, le=100), Range(ge=1, le=777_600), Range(ge=0, le=16_384)
HOURS = Range(ge=0, le=168)  # an alarm looks back seven days at most ("PutMetricAlarm" in the CloudWatch API reference)


def _arn(service: str, what: str) -> Matching:
    """ "" or the ARN of something of a service."""
    return Matching(rf"(arn:aws[a-z-]*:{service}:.+)?", f"the ARN of {what}, which begins with arn:aws:{service}")


@dataclass(frozen=True)
class Instances:
    """What one job runs on; `volume_gb` is its disk."""

    type: Annotated[str, Matching(r"ml\.[a-z0-9-]+\.[a-z0-9-]+", "an instance type like 'ml.m5.large'")]
    count: Annotated[int, COUNT]
    volume_gb: Annotated[int, GIGABYTES]


@dataclass(frozen=True)
class Build:
    """What CodeBuild clones, through which connection; without a connection there is no build project."""

    connection: Annotated[str, _arn("codeconnections", "a connection")]
    provider: Literal["GITHUB", "GITHUB_ENTERPRISE", "GITLAB", "GITLAB_SELF_MANAGED", "BITBUCKET"]
    repository: str
    branch: Annotated[str, Matching(r"[A-Za-z0-9._/-]+", "a branch's name")]


@dataclass(frozen=True)
class Environment:
    """One environment; `prefix` begins the name of everything that belongs to it."""

    name: str
    namespace: str
    slug: str
    account: Annotated[str, Matching(r"\d{12}", "twelve digits in quotes")]
    region: Annotated[str, Matching(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}", "a region like 'eu-central-1'")]
    bucket: Annotated[str, Matching(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?", "a bucket's name")]
    role: Annotated[str, _arn("iam", "a role")]
    approval: Literal["Approved", "PendingManualApproval"]
    schedule: Annotated[str, Matching(r"((cron|rate)\(.+\))?", 'one like "cron(0 6 * * ? *)"')]
    kms_key: Annotated[str, _arn("kms", "a key")]
    create_key: bool
    permissions_boundary: Annotated[str, _arn("iam", "a policy")]
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    spot: bool
    max_runtime_seconds: Annotated[int, SECONDS]
    hours_between_runs: Annotated[int, HOURS]
    notice_email: Annotated[str, Matching(r"([^@\s]+@[^@\s]+)?", "a mail address")]
    monthly_budget: Annotated[float, Range(ge=0)]
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
    """Read and check environments/<name>.toml. Raises InputError with the line, the key and what would be right."""
    shown = f"environments/{name}.toml"
    try:
        values, text = settings.read(folder / f"{name}.toml", shown)
    except FileNotFoundError:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.toml")))
        raise InputError(f"there is no environment {name!r}; there are {known}.") from None
    if not usecase.namespace:
        raise InputError("usecase.toml: [usecase] needs namespace: the team or organisation that AWS names begin with.")
    with settings.explained(shown, text):
        return _parse(values, name, usecase)


def _parse(values: Mapping[str, Any], name: str, usecase: UseCase) -> Environment:
    found = settings.table(Environment, (), values, name=name, namespace=usecase.namespace, slug=usecase.name)
    settings.check(_rules(found))
    return replace(
        found,
        bucket=found.bucket or f"{found.prefix}-{found.account}",
        role=found.role or f"arn:aws:iam::{found.account}:role/{found.prefix}-execution",
        instances=_instances(found.instances),
    )


def _rules(found: Environment) -> Iterator[tuple[object, str]]:
    """Rules that span keys."""
    yield bool(found.subnets) == bool(found.security_groups), "subnets and security_groups go together."
    build = found.build
    addressed = not build.connection or build.repository.startswith("https://")
    yield addressed, "[build] repository: a connection needs the repository's https:// address."


def _instances(tables: Mapping[str, Any]) -> dict[str, Instances]:
    for job in tables:
        if job not in JOBS:
            raise Wrong(f"[instances] has an unknown job {job!r}; {settings.nearest(job, JOBS)}.", "instances", job)
    for job in JOBS:
        if job not in tables:
            raise Wrong(f"[instances] needs {job}, with type, count and volume_gb.", "instances")
    return {job: settings.table(Instances, ("instances", job), tables[job]) for job in JOBS}
