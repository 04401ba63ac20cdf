"""environments/<name>.toml as frozen dataclasses: where the pipelines run, on what, who approves, and all AWS names."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from batchloop.container import settings
from batchloop.container.job import InputError
from batchloop.container.settings import Matching, Range, SettingError
from batchloop.container.usecase import UseCase
from batchloop.control.names import Names

NO_ACCOUNT = "000000000000"
JOBS = ("processing", "algorithm", "transform", "monitoring", "explainability")
# What the service takes: "CreateProcessingJob" in the SageMaker API reference, and its training jobs take more.
COUNT, SECONDS, GIGABYTES = Range(ge=1, le=100), Range(ge=1, le=777_600), Range(ge=0, le=16_384)
HOURS = Range(ge=0, le=168)  # an alarm looks back seven days at most ("PutMetricAlarm" in the CloudWatch API reference)
LONGEST = 48  # letters of a prefix: the functions' names have 64, and 16 of them come after it
REGION = (
    r"(us(-gov|-iso[bef]?)?|eu(-isoe|sc-de)?|af|ap|ca|cn|il|me|mx|sa)-((north|south)(east|west)?|east|west|central)-\d"
)


def _arn(service: str, what: str, resource: str) -> Matching:
    """ "" or the ARN of something of a service."""
    region, example = ("", "") if service == "iam" else (REGION, "eu-central-1")
    example = f"arn:aws:{service}:{example}:111122223333:{resource.partition('/')[0]}/…"
    return Matching(
        rf"(arn:aws(-[a-z]+)*:{service}:{region}:(\d{{12}}|aws):{resource})?", f"the ARN of {what}, like {example}"
    )


def _ids(kind: str) -> Matching:
    """Ids of something in EC2."""
    return Matching(rf"{kind}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", f'a list of ids like "{kind}-0123456789abcdef0"')


def _field(value: str, special: str = "") -> str:
    """A field of a cron expression: values, ranges, steps and what this field alone may hold."""
    part = rf"(\*|({value})(-({value}))?)(/\d+)?"
    return rf"({part}(,{part})*{special})"


# "Schedule types in EventBridge Scheduler" in its user guide: the day is one of the month or one of the week
DAY = _field(r"0?[1-9]|[12]\d|3[01]", r"|L(-\d\d?)?|LW|\d\d?W")
MONTH = _field(r"0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC")
WEEKDAY = _field(r"[1-7]|SUN|MON|TUE|WED|THU|FRI|SAT", r"|[1-7]?L|\w{1,3}#[1-5]")
CLOCK, YEAR = f"{_field('[0-5]?[0-9]')} {_field('[01]?[0-9]|2[0-3]')}", _field("[12][0-9]{3}")
CRON = rf"{CLOCK} ({DAY} {MONTH} \?|\? {MONTH} {WEEKDAY}) {YEAR}"
SCHEDULE = Matching(
    rf"(?i:cron\({CRON}\)|rate\([1-9]\d* (minute|hour|day)s?\)|)",
    'one like "cron(0 6 * * ? *)" (minutes, hours, day of the month, month, day of the week, year, and "?" for one of '
    'the two days) or "rate(12 hours)"',
)


@dataclass(frozen=True)
class Instances:
    """What one job runs on; `volume_gb` is its disk."""

    type: Annotated[
        str, Matching(r"ml\.[a-z]+\d[a-z0-9-]*\.(medium|large|\d*xlarge|metal)", "an instance type like 'ml.m5.large'")
    ]
    count: Annotated[int, COUNT]
    volume_gb: Annotated[int, GIGABYTES]


def has_own_disks(instance: str) -> bool:
    """Whether its disks are its volume, encrypted by the hardware alone ("Instance store volumes", EC2 user guide)."""
    return bool(re.match(r"ml\.([a-z]+\d[a-z]*d[a-z]*|g4dn|g[56]e?|gr6|p[45][a-z]*|trn\d[a-z]*)\.", instance))


@dataclass(frozen=True)
class Build:
    """What CodeBuild clones, through which connection; without a connection there is no build project."""

    connection: Annotated[str, _arn("codeconnections", "a connection", "connection/[0-9a-f-]{36}")]
    provider: Literal["GITHUB", "GITHUB_ENTERPRISE", "GITLAB", "GITLAB_SELF_MANAGED", "BITBUCKET"]
    repository: Annotated[str, Matching(r"(https://\S+)?", "an address that begins with https://")]
    branch: Annotated[str, Matching(r"[A-Za-z0-9._/-]+", "a branch's name")]


@dataclass(frozen=True)
class Environment(Names):
    """One environment, and the names of everything that belongs to it."""

    account: Annotated[str, Matching(r"\d{12}", "twelve digits in quotes")]
    region: Annotated[str, Matching(REGION, "a region like 'eu-central-1'")]
    bucket: Annotated[str, Matching(r"([a-z0-9][a-z0-9-]{1,61}[a-z0-9])?", "a bucket's name")]
    role: Annotated[str, _arn("iam", "a role", r"role/[\w+=,.@/-]+")]
    approval: Literal["Approved", "PendingManualApproval"]
    schedule: Annotated[str, SCHEDULE]
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

    @property
    def file(self) -> str:
        """The file that says all this, as a person would type it."""
        return f"environments/{self.environment}.toml"

    def volume_key(self, job: str) -> str | None:
        """The key of a job's volume, where there is one that takes a key."""
        return None if has_own_disks(self.instances[job].type) else self.kms_key or None

    @property
    def account_is_set(self) -> bool:
        return self.account != NO_ACCOUNT

    @property
    def bootstrap(self) -> str:
        """The command that makes what a deployment needs."""
        return f"make bootstrap CREATE=yes ENV={self.environment}"

    def image(self, component: str) -> str:
        """The component's ECR repository, without a tag."""
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com/{self.folder}/{component}"


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
    found = replace(found, instances=_instances(found.instances))
    settings.check(_rules(found))
    return replace(
        found,
        bucket=found.bucket or f"{found.prefix}-{found.account}",
        role=found.role or f"arn:aws:iam::{found.account}:role/{found.prefix}-execution",
    )


def _rules(found: Environment) -> Iterator[tuple[object, str]]:
    """Rules that span keys."""
    yield bool(found.subnets) == bool(found.security_groups), "subnets and security_groups go together."
    for key, place, other in (("kms_key", 3, "region"), ("role", 4, "account")):
        there, wanted = getattr(found, key).split(":")[place : place + 1], getattr(found, other)
        yield there in ([], [wanted]), f"{key} is of the {other} {''.join(there)}, and {other} is {wanted!r}."
    addressed = found.build.repository or not found.build.connection
    yield addressed, "[build] repository: a connection needs the repository's https:// address."
    for job, instances in found.instances.items():
        disk = instances.volume_gb > 0 or job == "transform"  # batch transform sizes its own
        yield disk, f"[instances.{job}] volume_gb = {instances.volume_gb} is no disk; 30 is usual."
    named = re.fullmatch("[a-z][a-z0-9]*", found.environment) and len(found.prefix) <= LONGEST
    yield (
        named,
        f"the name of this file and [usecase] namespace and name of usecase.toml make {found.prefix!r}, which begins "
        f"AWS names: the file's has lower case letters and digits alone, and all of it at most {LONGEST} characters.",
    )


def _instances(tables: Mapping[str, Any]) -> dict[str, Instances]:
    for job in tables:
        if job not in JOBS:
            close = settings.nearest(job, JOBS)
            raise SettingError(f"[instances] has an unknown job {job!r}; {close}.", "instances", job)
    for job in JOBS:
        if job not in tables:
            raise SettingError(f"[instances] needs {job}, with type, count and volume_gb.")
    return {job: settings.table(Instances, ("instances", job), tables[job]) for job in JOBS}


MONTH_HOURS = 730  # AWS's own convention: a year is 8,760 hours
UNITS = {"minute": 1, "hour": 60, "day": 24 * 60}
MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
ANY = ("*", "?")
YEARS = 28  # after which the calendar repeats itself


def runs_a_month(schedule: str) -> float | None:
    """0 for "" (never); None for an expression whose runs can't be counted.

    The grammar is that of "Schedule types" in the EventBridge Scheduler user guide.
    """
    if not schedule:
        return 0.0
    if rate := re.fullmatch(r"rate\(\s*([1-9]\d*)\s+(minute|hour|day)s?\s*\)", schedule):
        return MONTH_HOURS * 60 / (int(rate[1]) * UNITS[rate[2]])
    cron = re.fullmatch(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) [*?]\)", schedule)
    if not cron:
        return None
    minutes, hours, days, months, weekdays = (field.upper() for field in cron.groups())
    times, chosen = len(_values(minutes, 0, 59)) * len(_values(hours, 0, 23)), _values(months, 1, 12, MONTH_NAMES)
    if days not in ANY and weekdays not in ANY:
        return None
    if re.fullmatch(r"L|LW|\d+W", days) or re.fullmatch(r"\w{1,3}#[1-4]|[1-7]L", weekdays):
        return times * len(chosen) / 12 or None
    fitting, on = _values(days, 1, 31), _values(weekdays, 1, 7, WEEKDAY_NAMES)
    calendar = [date(2001, 1, 1) + timedelta(number) for number in range(int(YEARS * 365.25))]
    count = sum(day.month in chosen and day.day in fitting and day.isoweekday() % 7 + 1 in on for day in calendar)
    return times * count / (YEARS * 12) or None


def _values(field: str, lowest: int, highest: int, names: tuple[str, ...] = ()) -> set[int]:
    """What a field of a cron expression matches; nothing where it can't be read."""
    for number, name in enumerate(names, lowest):
        field = re.sub(rf"\b{name}\b", str(number), field)
    matching: set[int] = set()
    for part in field.split(","):
        match = re.fullmatch(r"([*?]|\d+)(?:-(\d+))?(?:/([1-9]\d*))?", part)
        if not match:
            return set()
        first, last, step = match.groups()
        start = lowest if first in ANY else int(first)
        end = int(last) if last else highest if first in ANY or step else start
        if not lowest <= start <= end <= highest:
            return set()
        matching |= set(range(start, end + 1, int(step or 1)))
    return matching
