"""environments/<name>.toml as frozen dataclasses: where the pipelines run, on what, who approves, and all AWS names."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, make_dataclass, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from batchloop.container import settings
from batchloop.container.job import InputError
from batchloop.container.settings import Matching, Range
from batchloop.container.usecase import UseCase
from batchloop.control.names import Names

NO_ACCOUNT, NO_KEY = "000000000000", "00000000-0000-0000-0000-000000000000"
JOBS = ("processing", "algorithm", "transform", "monitoring", "explainability")
# What the service takes: "CreateProcessingJob" in the SageMaker API reference, and its training jobs take more.
COUNT, SECONDS, GIGABYTES = Range(ge=1, le=100), Range(ge=1, le=777_600), Range(ge=0, le=16_384)
DAYS = Range(ge=0, le=36_500)
HOURS = Range(ge=0, le=168)  # an alarm looks back seven days at most ("PutMetricAlarm" in the CloudWatch API reference)
RESERVED = r"(?!xn--|sthree-|amzn-s3-demo-|.*(-s3alias|--(ol|x|table)-s3)$)"  # "Bucket naming rules", S3 user guide
SIGNED_IN = r"\S+://[^/]\S*@\S*"  # with a user or password; it is refused by a rule that does not print it
MLFLOW = Matching(rf"{SIGNED_IN}|(?!\w*sql)[\w.:/@~+-]*", "a folder, an MLflow server's address or an ARN")
WAREHOUSE = Matching(
    r"(athena:[A-Za-z0-9._-]{1,128}(/\w+)?|redshift(-serverless)?:[a-z0-9-]{1,63}/[\w$-]+)?",
    'like "athena:<workgroup>", "redshift-serverless:<workgroup>/<database>" or "redshift:<cluster>/<database>"',
)
REGION = r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}"
MONTH_HOURS = 730  # AWS's own convention: a year is 8,760 hours
UNITS = {"minute": 1, "hour": 60, "day": 24 * 60}
YEARS = 28  # after which the calendar repeats itself
# "Schedule types in EventBridge Scheduler" in its user guide: the day is one of the month or one of the week
RATE = re.compile(r"rate\(([1-9]\d*) (minute|hour|day)s?\)", re.IGNORECASE)
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (1, 7), (1970, 2199))  # of a cron expression, lowest and highest value
NAMES = {3: "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 4: "SUN MON TUE WED THU FRI SAT"}
SPECIAL = {2: r"L(-\d\d?)?|LW|\d\d?W", 4: r"[1-7]?L|\w{1,3}#[1-5]"}  # what these fields alone may hold
ONCE_A_MONTH = re.compile(r" (LW?|\d+W) \S+ \? | \? \S+ (\w+#[1-4]|\dL) ")


def _arn(service: str, what: str, resource: str) -> Matching:
    """ "" or the ARN of something of a service."""
    region, shown = ("", "") if service == "iam" else (REGION, "eu-central-1")
    example = f"arn:aws:{service}:{shown}:111122223333:{resource.partition('/')[0]}/…"
    pattern = rf"(arn:aws(-[a-z]+)*:{service}:{region}:(\d{{12}}|aws):{resource})?"
    return Matching(pattern, f"the ARN of {what}, like {example}")


def _ids(kind: str) -> Matching:
    return Matching(rf"{kind}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", f'a list of ids like "{kind}-0123456789abcdef0"')


@cache
def places() -> dict[str, Any]:
    """batchloop/regions.toml: the regions that are supported, their partitions, and how long names may be."""
    return tomllib.loads((Path(__file__).parent / "regions.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Instances:
    """What one job runs on; `volume_gb` is its disk."""

    type: Annotated[
        str, Matching(r"ml\.[a-z]+\d[a-z0-9-]*\.(medium|large|\d*xlarge|metal)", "an instance type like 'ml.m5.large'")
    ]
    count: Annotated[int, COUNT]
    volume_gb: Annotated[int, GIGABYTES]


Jobs: Any = make_dataclass("Jobs", [(job, Instances) for job in JOBS], frozen=True)


def has_own_disks(instance: str) -> bool:
    """Whether its disks are its volume, encrypted by the hardware alone ("Instance store volumes", EC2 user guide)."""
    return bool(re.match(r"ml\.([a-z]+\d[a-z]*d[a-z]*|g4dn|g[5-7]e?|gr6|p[4-6][a-z\d-]*|trn\d[a-z]*)\.", instance))


@cache
def own_disks() -> dict[str, dict[str, int]]:
    """batchloop/disks.toml: family → size → GB."""
    return tomllib.loads((Path(__file__).parent / "disks.toml").read_text(encoding="utf-8"))


def has_gpu(instance: str) -> bool:
    """Whether it has NVIDIA's GPUs ("Amazon SageMaker AI pricing", accelerated computing: families g, gr and p)."""
    return bool(re.match(r"ml\.(gr?|p)\d", instance))


@dataclass(frozen=True)
class Build:
    """What CodeBuild clones, through which connection; without a connection there is no build project."""

    connection: Annotated[str, _arn("codeconnections", "a connection", "connection/[0-9a-f-]{36}")]
    provider: Literal["GITHUB", "GITHUB_ENTERPRISE", "GITLAB", "GITLAB_SELF_MANAGED", "BITBUCKET"]
    repository: Annotated[str, Matching(r"(https://\S+)?", "an address that begins with https://")]
    branch: Annotated[str, Matching(r"[A-Za-z0-9._/-]+", "a branch's name")]


@dataclass(frozen=True)
class Tracking:
    """Where trainings are logged to MLflow; "" is nowhere. Its client opens no database: the lock has no SQLAlchemy."""

    uri: Annotated[str, MLFLOW] = ""


@dataclass(frozen=True)
class Environment(Names):
    """One environment, and the names of everything that belongs to it."""

    account: Annotated[str, Matching(r"\d{12}", "twelve digits in quotes")]
    region: Annotated[str, Matching(REGION, "a region like 'eu-central-1'")]
    bucket: Annotated[str, Matching(rf"({RESERVED}[a-z0-9][a-z0-9-]{{1,61}}[a-z0-9])?", "a bucket's name")]
    role: Annotated[str, _arn("iam", "a role", r"role/[\w+=,.@/-]+")]
    approval: Literal["Approved", "PendingManualApproval"]
    schedule: str
    kms_key: Annotated[str, _arn("kms", "a key", "key/(mrk-)?[0-9a-f-]{32,36}")]
    create_key: bool
    permissions_boundary: Annotated[str, _arn("iam", "a policy", r"policy/[\w+=,.@/-]+")]
    subnets: Annotated[tuple[str, ...], _ids("subnet")]
    security_groups: Annotated[tuple[str, ...], _ids("sg")]
    spot: bool
    max_runtime_seconds: Annotated[int, SECONDS]
    hours_between_runs: Annotated[int, HOURS]
    notice_email: Annotated[str, Matching(r"([^@\s]+@[^@\s]+)?", "a mail address")]
    monthly_budget: Annotated[float, Range(ge=0)]
    build: Build
    instances: Mapping[str, Instances]
    keep_runs_days: Annotated[int, DAYS] = 365
    keep_trainings_days: Annotated[int, DAYS] = 365
    deployment_role: Annotated[str, _arn("iam", "a role", r"role/[\w+=,.@/-]+")] = ""
    tracking: Tracking = Tracking()
    tuning_jobs: Annotated[int, Range(ge=0, le=100)] = 0  # "Resource Limits for Automatic Model Tuning"
    warehouse: Annotated[str, WAREHOUSE] = ""
    catalog: bool = False

    @property
    def file(self) -> str:
        """The file that says all this, as a person would type it."""
        return f"environments/{self.environment}.toml"

    @property
    def key(self) -> str | None:
        """Of outputs and volumes. The id of one that the stack makes is put in where the pipelines are written."""
        made = f"arn:{self.place['partition']}:kms:{self.region}:{self.account}:key/{NO_KEY}"
        return self.kms_key or (made if self.create_key else None)

    def volume_key(self, job: str) -> str | None:
        """The key of a job's volume, where there is one that takes a key."""
        return None if has_own_disks(self.instances[job].type) else self.key

    def gpu(self, component: str) -> bool:
        """Whether a job of the component's image runs on a GPU; the algorithm's serves in batch transform too."""
        jobs = [component, *(["transform"] if component == "algorithm" else [])]
        return any(has_gpu(self.instances[job].type) for job in jobs)

    @property
    def transform_ami(self) -> str | None:
        """What batch transform starts: its default has a driver too old for CUDA 12 ("GPU driver upgrades", guide)."""
        takes = re.match(r"ml\.(g4dn|g5|g6e?)\.", self.instances["transform"].type)
        return "al2-ami-sagemaker-batch-gpu-535" if takes else None

    @property
    def database(self) -> str:
        """The Glue database with the table of predictions, "" for none; a hyphen in it would have to be quoted."""
        return self.prefix.replace("-", "_") if self.catalog else ""

    @property
    def account_is_set(self) -> bool:
        return self.account != NO_ACCOUNT

    def tunes(self, usecase: UseCase) -> bool:
        """Whether the search is a step of its own, with a training job for each trial."""
        return bool(self.tuning_jobs and usecase.tuning.trials and usecase.tuning.search)

    @property
    def bootstrap(self) -> str:
        """The command that makes what a deployment needs."""
        return f"make bootstrap CREATE=yes ENV={self.environment}"

    def image(self, component: str) -> str:
        """The component's ECR repository, without a tag."""
        return f"{self.account}.dkr.ecr.{self.region}.{self.place['suffix']}/{self.folder}/{component}"

    @property
    def place(self) -> dict[str, Any]:
        """Of its region: `partition`, its hosts' `suffix`, a short `code`, and `without`: what CloudFormation lacks."""
        found: dict[str, Any] = places()["regions"][self.region]
        return found | {"suffix": places()["partitions"][found["partition"]]}


def load(folder: Path, name: str, usecase: UseCase) -> Environment:
    """Read and check environments/<name>.toml. Raises InputError with the line, the key and what would be right."""
    values, text = read(folder, name)
    if not usecase.namespace:
        raise InputError("usecase.toml: [usecase] needs namespace: the team or organisation that AWS names begin with.")
    with settings.errors_in(f"environments/{name}.toml", text):
        return parse(values, name, usecase)


def unchecked(folder: Path, names: Names) -> Environment:
    """An environment as its file stands, missing keys empty: its names are known before all of it is right."""
    values = {"account": NO_ACCOUNT} | read(folder, names.environment)[0]
    texts: dict[str, Any] = {entry.name: str(values.get(entry.name, "")) for entry in fields(Environment)}
    return Environment(**texts | vars(names))


def read(folder: Path, name: str) -> tuple[dict[str, Any], str]:
    """The file's tables and text. Raises InputError."""
    try:
        return settings.read(folder / f"{name}.toml", f"environments/{name}.toml")
    except FileNotFoundError:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.toml"))) or "none"
        raise InputError(f"there is no environment {name!r}; there are {known}.") from None


def parse(values: Mapping[str, Any], name: str, usecase: UseCase) -> Environment:
    """An environment from TOML tables. Raises SettingError."""
    found = settings.table(Environment, (), values, namespace=usecase.namespace, usecase=usecase.name, environment=name)
    found = replace(found, instances=vars(settings.table(Jobs, ("instances",), found.instances)))
    settings.check(_rules(found))
    partition, code = found.place["partition"], found.place["code"]
    return replace(
        found,
        bucket=found.bucket or f"{found.prefix}-{found.account}-{code}",
        role=found.role or f"arn:{partition}:iam::{found.account}:role/{found.prefix}-{code}-execution",
    )


def _rules(found: Environment) -> Iterator[tuple[object, str]]:
    """Rules that span keys."""
    regions, longest = places()["regions"], places()["longest"]
    known = f"region {found.region!r} is none that is supported; batchloop/regions.toml names those that are."
    yield found.region in regions, known
    yield bool(found.subnets) == bool(found.security_groups), "subnets and security_groups go together."
    said = "holds a user or password, and is committed: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    yield not re.fullmatch(SIGNED_IN, found.tracking.uri), f"[tracking] uri {said}"
    for key in ("role", "deployment_role", "permissions_boundary", "kms_key"):
        yield from _own(found, key, getattr(found, key))
    yield from _own(found, "[build] connection", found.build.connection)
    for key, least in (("keep_runs_days", 40), ("keep_trainings_days", 60)):
        kept, why = getattr(found, key), f"steps reuse what is 30 days old; 0, or {least} or more"
        yield kept == 0 or kept >= least, f"{key} = {kept}: {why}."
    like = 'like "cron(0 6 * * ? *)" (minutes, hours, day of the month, month, day of the week, year, and "?" for one '
    like += 'of the two days) or "rate(12 hours)"'
    scheduled = not found.schedule or RATE.fullmatch(found.schedule) or _cron(found.schedule)
    yield scheduled, f"schedule = {found.schedule!r} is not one {like}."
    connection = found.build.connection
    addressed = found.build.repository or not connection
    yield addressed, "[build] repository: a connection needs the repository's https:// address."
    for key, resource, is_set, none in (
        ("monthly_budget", "Budget", found.monthly_budget, "0"),
        ("[build] connection", "Build", connection, '""'),
    ):
        made = not is_set or resource not in found.place["without"]
        yield made, f"{key}: CloudFormation makes none in {found.region}; leave it at {none}, or take another region."
    for job, instances in found.instances.items():
        disk = instances.volume_gb > 0 or job == "transform"  # batch transform sizes its own
        yield disk, f"[instances.{job}] volume_gb = {instances.volume_gb} is no disk; 30 is usual."
    longest -= len(found.place["code"])
    named = re.fullmatch("[a-z][a-z0-9]*", found.environment) and len(found.prefix) <= longest
    yield (
        named,
        f"the name of this file and [usecase] namespace and name of usecase.toml make {found.prefix!r}, which begins "
        f"AWS names: the file's has lower case letters and digits alone, and all of it at most {longest} characters.",
    )


def _own(found: Environment, key: str, arn: str) -> Iterator[tuple[object, str]]:
    """Of an ARN: the environment's partition and account, or AWS's own policies' ("aws"); a key's region as well."""
    there = dict(zip(("partition", "service", "region", "account"), arn.split(":")[1:5], strict=False))
    wished = {"partition": found.place["partition"], "account": found.account}
    wished |= {"region": found.region} if key == "kms_key" else {}
    for other, wanted in wished.items() if arn else ():
        fits = there[other] == wanted or (key, there[other]) == ("permissions_boundary", "aws")
        yield fits, f"{key} is of the {other} {there[other]}, and {other} is {wanted!r}."


def runs_a_month(schedule: str) -> float | None:
    """0 for "" (never); None for an expression whose runs can't be counted."""
    if not schedule:
        return 0.0
    if rate := RATE.fullmatch(schedule):
        return MONTH_HOURS * 60 / (int(rate[1]) * UNITS[rate[2].lower()])
    fields = _cron(schedule) if schedule.endswith(" *)") else None
    if not fields:
        return None
    minutes, hours, days, months, weekdays, _ = fields
    times = len(minutes) * len(hours)
    if ONCE_A_MONTH.search(schedule.upper()):
        return times * len(months) / 12 or None
    calendar = [date(2001, 1, 1) + timedelta(number) for number in range(int(YEARS * 365.25))]
    count = sum(day.month in months and day.day in days and day.isoweekday() % 7 + 1 in weekdays for day in calendar)
    return times * count / (YEARS * 12) or None


def _cron(schedule: str) -> list[set[int]] | None:
    """The values that each field matches, none where they are others each month; None for no such expression."""
    found = re.fullmatch(r"CRON\((.*)\)", schedule.upper())
    texts = found[1].split(" ") if found else []
    if len(texts) != len(FIELDS) or (texts[2] == "?") == (texts[4] == "?"):
        return None
    fields = [_values(text, place) for place, text in enumerate(texts)]
    return [values for values in fields if values is not None] if None not in fields else None


def _values(text: str, place: int) -> set[int] | None:
    if place in SPECIAL and re.fullmatch(SPECIAL[place], text):
        return set()
    lowest, highest = FIELDS[place]
    for number, name in enumerate(NAMES.get(place, "").split(), lowest):
        text = re.sub(rf"\b{name}\b", str(number), text)
    values: set[int] = set()
    for part in ["*"] if text == "?" and place in SPECIAL else text.split(","):
        match = re.fullmatch(r"(\*|\d+)(?:-(\d+))?(?:/([1-9]\d*))?", part)
        if not match:
            return None
        first, last, step = match.groups()
        start = lowest if first == "*" else int(first)
        end = int(last) if last else highest if first == "*" or step else start
        if not lowest <= min(start, end) <= max(start, end) <= highest:
            return None
        values |= set(range(start, end + 1, int(step or 1)))
    return values


def untracked(text: str) -> str:
    """An environment's file without its MLflow, for what is trained only to measure or to compare."""
    return re.sub(r"(?m)^[ \t]*(tracking\.uri|tracking|uri)[ \t]*=.*", "", text)
