"""batchloop/prices.toml: what AWS asks for what this use case runs and keeps."""

import json
import math
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from batchloop.environment import Environment, Instances
from batchloop.pipelines import definitions
from batchloop.repository import Failure, Repository

if TYPE_CHECKING:
    from rich.table import Table


FILE = "batchloop/prices.toml"
OLD = 365  # days


@dataclass(frozen=True)
class Assumed:
    """What is reckoned with where nothing was measured; the table says why."""

    start_minutes: float
    work_minutes: float
    retrainings: float
    data_gb: float
    images_gb: float
    log_gb_a_run: float
    custom_metrics: float


@dataclass(frozen=True)
class Prices:
    """The figures of one region; `wanted` is the region that was asked for, which may not be in the table."""

    when: date
    currency: str
    source: str
    region: str
    wanted: str
    spot_saves: float
    assumed: Assumed
    figures: Mapping[str, float]
    hours: Mapping[str, float]

    def remarks(self, today: date) -> list[str]:
        """What a reader has to know before believing the figures."""
        age = (today - self.when).days
        found = []
        if self.region != self.wanted:
            found.append(
                f"there are no prices for {self.wanted}: the figures are {self.region}'s, an order of magnitude"
            )
        if age > OLD:
            found.append(f"the prices are {age // 30} months old: look them up again and write them into {FILE}")
        return found


def load(repository: Repository, region: str) -> Prices:
    """The region's figures, or those of the region that stands in for it. Raises Failure."""
    try:
        table = tomllib.loads((repository.root / FILE).read_text(encoding="utf-8"))
        return _parse(table, region)
    except FileNotFoundError:
        raise Failure(f"{FILE} is missing: the cost can't be told without prices.") from None
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"{FILE} is not valid TOML: {error}.") from None
    except KeyError as error:
        raise Failure(f"{FILE} has no {error.args[0]!r}.") from None


def _parse(table: Mapping[str, Any], region: str) -> Prices:
    taken = region if region in table["regions"] else table["elsewhere"]
    figures = dict(table["regions"][taken])
    return Prices(
        when=table["date"],
        currency=table["currency"],
        source=table["source"],
        region=taken,
        wanted=region,
        spot_saves=table["spot"]["saves_up_to"],
        assumed=Assumed(**{entry.name: table["assumed"][entry.name] for entry in fields(Assumed)}),
        hours=figures.pop("instance_hour", {}),
        figures=figures,
    )


GIVEN, ASSUMED = "as given", "assumed"


@dataclass(frozen=True)
class Step:
    """A step that starts instances: its name, its job in environments/*.toml, and what SageMaker calls such a job."""

    pipeline: str
    name: str
    job: str
    kind: str = "processing"


# tests/test_pipelines.py holds this against the compiled definitions, which take the SDK and seconds to make
STEPS = (
    Step("training", "PrepareTrainingData", "processing"),
    Step("training", "TrainModel", "algorithm", "training"),
    Step("training", "LearnBaseline", "monitoring"),
    Step("training", "LearnExplainer", "explainability"),
    Step("inference", "PrepareFeatures", "processing"),
    Step("inference", "ScoreFeatures", "transform", "transform"),
    Step("inference", "DetectDrift", "monitoring"),
    Step("inference", "ExplainPredictions", "explainability"),
)


@dataclass(frozen=True)
class Work:
    """How long a job works, without its start, and where the number comes from."""

    minutes: float
    origin: str


def work(repository: Repository, words: str, assumed: float) -> dict[str, Work]:
    """Each step's minutes: those given ("processing=4 TrainModel=12"), else the newest run's here, else assumed."""
    given, seen = _given(words), _measured(repository)
    found = {}
    for step in STEPS:
        named = given.get(step.name, given.get(step.job))
        found[step.name] = Work(named, GIVEN) if named is not None else seen.get(step.name, Work(assumed, ASSUMED))
    return found


def _given(words: str) -> dict[str, float]:
    known = {name for step in STEPS for name in (step.job, step.name)}
    found: dict[str, float] = {}
    for word in words.split():
        name, _, number = word.partition("=")
        if name not in known:
            raise Failure(f"MINUTES: there is no job {name!r}; there are {', '.join(sorted(known))}.")
        found[name] = amount(number, f"MINUTES: {name}")
    return found


def amount(text: Any, what: str) -> float:
    """A number from 0. Raises Failure."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise Failure(f"{what} needs a number from 0.")
    return number


def _measured(repository: Repository) -> dict[str, Work]:
    """From each step's newest local run in which it had to work; a reused step took no time, and tells nothing."""
    found: dict[str, Work] = {}
    for file in sorted((repository.local / "runs").glob("*/run.json"), reverse=True):
        for name, seconds, day in _times(file.read_text(encoding="utf-8")):
            found.setdefault(name, Work(seconds / 60, f"as here, {day}"))
    return found


def _times(text: str) -> Iterator[tuple[str, float, str]]:
    try:
        run: Mapping[str, Any] = json.loads(text)
    except ValueError:  # a run that is just being written
        return
    for name, step in run.get("steps", {}).items():
        if step.get("state") == "done" and step.get("seconds", 0) > 0:
            yield name, step["seconds"], str(run.get("started", ""))[:10]


@dataclass(frozen=True)
class Options:
    """What the command line says; `minutes` is like "processing=4 algorithm=12", None is what schedule or table say."""

    minutes: str = ""
    runs: float | None = None
    retrainings: float | None = None
    gb: float | None = None


@dataclass(frozen=True)
class JobCost:
    """One job of one run; `least` is less than `most` where spare capacity may make it cheaper. None has no price."""

    step: Step
    instances: Instances
    minutes: float
    origin: str
    most: float | None
    least: float | None


@dataclass(frozen=True)
class Charge:
    """One line of the month; `by_run` is paid only when something runs, no cost is no price."""

    what: str
    amount: str
    cost: float | None
    by_run: bool


@dataclass(frozen=True)
class Estimate:
    """Everything the table shows. `runs` is None where the schedule does not tell."""

    where: Environment
    prices: Prices
    jobs: tuple[JobCost, ...]
    charges: tuple[Charge, ...]
    runs: float | None
    retrainings: float
    stored_gb: float
    remarks: tuple[str, ...]

    def run(self, pipeline: str) -> tuple[float, float]:
        """The least and the most that one run costs, without what has no price."""
        jobs = [job for job in self.jobs if job.step.pipeline == pipeline]
        return total(job.least for job in jobs), total(job.most for job in jobs)

    def whole(self, pipeline: str) -> bool:
        """Whether all jobs of a run have a price."""
        return all(job.most is not None for job in self.jobs if job.step.pipeline == pipeline)

    @property
    def fixed(self) -> float:
        """What a month costs whether or not anything runs."""
        return total(charge.cost for charge in self.charges if not charge.by_run)

    @property
    def month(self) -> tuple[float, float]:
        """The least and the most of a month, without what has no price and without runs nobody can count."""
        scoring, training = self.run("inference"), self.run("training")
        kept = total(charge.cost for charge in self.charges)
        least, most = (kept + (self.runs or 0) * scoring[end] + self.retrainings * training[end] for end in (0, 1))
        return least, most


def total(costs: Iterable[float | None]) -> float:
    """The sum of what has a price."""
    return sum(cost for cost in costs if cost is not None)


def make(repository: Repository, name: str, options: Options, today: date) -> Estimate:
    """The estimate for an environment. Raises Failure."""
    where = definitions.read(repository, name)[1]
    prices = load(repository, where.region)
    runs = runs_a_month(where.schedule) if options.runs is None else amount(options.runs, "RUNS")
    often = _chosen(options.retrainings, prices.assumed.retrainings, "RETRAININGS")
    stored = _chosen(options.gb, prices.assumed.data_gb, "GB")
    missing: dict[str, None] = {}  # in order, and each of them once
    spent = work(repository, options.minutes, prices.assumed.work_minutes)
    jobs = tuple(_job(step, where, prices, spent[step.name], missing) for step in STEPS)
    charges_ = charges(repository, where, prices, Use(stored, (runs or 0.0) + often), missing)
    remarks = _remarks(where, prices, runs, missing, today)
    return Estimate(where, prices, jobs, charges_, runs, often, stored, tuple(remarks))


def _chosen(given: float | None, otherwise: float, name: str) -> float:
    return otherwise if given is None else amount(given, name)


def _job(step: Step, where: Environment, prices: Prices, spent: Work, missing: dict[str, None]) -> JobCost:
    """Each instance is billed for the whole time."""
    instances = where.instances[step.job]
    minutes = prices.assumed.start_minutes + spent.minutes
    hours = instances.count * minutes / 60
    hour = price(prices.hours.get(instances.type), instances.type, missing)
    disk = _disk(step, instances, prices, missing)
    if hour is None:
        return JobCost(step, instances, minutes, spent.origin, None, None)
    most = hours * (hour + disk)
    spot = prices.spot_saves * hours * hour if where.spot and step.kind == "training" else 0.0
    return JobCost(step, instances, minutes, spent.origin, most, most - spot)


def _disk(step: Step, instances: Instances, prices: Prices, missing: dict[str, None]) -> float:
    """What an hour of one instance's disk costs; batch transform sizes its own."""
    if not instances.volume_gb:
        return 0.0
    figure = prices.figures.get(f"{step.kind}_disk_gb_month")
    month = price(figure, f"the disks of {step.kind} jobs", missing)
    return (month or 0.0) * instances.volume_gb / MONTH_HOURS


def _remarks(where: Environment, prices: Prices, runs: float | None, missing: Iterable[str], today: date) -> list[str]:
    found = prices.remarks(today)
    if missing:
        found.insert(0, f"no price for {', '.join(missing)} in {prices.region}: in no total")
    if runs is None:
        found.append(f"how often {where.schedule!r} fires can't be told: RUNS=30 says how many runs a month has")
    elif not where.schedule and not runs:
        found.append(f"{where.environment} has no schedule, so no scoring runs are in the month: RUNS=30 counts some")
    return found


MONTH_HOURS = 730  # AWS's own convention: a year is 8,760 hours
MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}
MONTHS = (31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
ANY = ("*", "?")


def runs_a_month(schedule: str) -> float | None:
    """0 for "" (never); None for an expression whose runs can't be counted.

    The grammar is that of "Schedule types" in the EventBridge Scheduler user guide.
    """
    if not schedule:
        return 0.0
    kind, _, inside = schedule.removesuffix(")").partition("(")
    if kind == "rate":
        return _rate(inside)
    fields = inside.upper().split()
    return _cron(fields) if kind == "cron" and len(fields) == 6 else None


def _rate(text: str) -> float | None:
    match = re.fullmatch(r"\s*([1-9]\d*)\s+(minute|hour|day)s?\s*", text)
    return MONTH_HOURS * 60 / (int(match[1]) * MINUTES[match[2]]) if match else None


def _cron(fields: list[str]) -> float | None:
    minutes, hours, days, months, weekdays, year = fields
    often, daily = values(minutes, 0, 59), values(hours, 0, 23)
    chosen = values(months, 1, 12, MONTH_NAMES)
    if year not in ANY or not often or not daily or not chosen:
        return None
    found = [_days(days, weekdays, MONTHS[month - 1]) for month in chosen]
    known = [count for count in found if count is not None]
    return len(often) * len(daily) * sum(known) / 12 if len(known) == len(found) else None


def _days(days: str, weekdays: str, length: float) -> float | None:
    """On how many days of one month; one of the two fields has to be open."""
    if weekdays in ANY:
        if days in ANY:
            return length
        if re.fullmatch(r"L|LW|\d+W", days):
            return 1.0
        chosen = values(days, 1, 31)
        # the 29th of February comes every fourth year
        return sum(min(1.0, max(0.0, length - day + 1)) for day in chosen) if chosen else None
    if days not in ANY:
        return None
    if re.fullmatch(r"\w{1,3}#[1-4]|[1-7]L", weekdays):
        return 1.0
    chosen = values(weekdays, 1, 7, DAY_NAMES)
    return len(chosen) * length / 7 if chosen else None


def values(field: str, lowest: int, highest: int, names: tuple[str, ...] = ()) -> set[int]:
    """What a field of a cron expression matches; nothing where it can't be read."""
    for number, name in enumerate(names, lowest):
        field = re.sub(rf"\b{name}\b", str(number), field)
    found: set[int] = set()
    for part in field.split(","):
        match = re.fullmatch(r"([*?]|\d+)(?:-(\d+))?(?:/([1-9]\d*))?", part)
        if not match:
            return set()
        first, last, step = match.groups()
        start = lowest if first in ANY else int(first)
        end = int(last) if last else highest if first in ANY or step else start
        if not lowest <= start <= end <= highest:
            return set()
        found |= set(range(start, end + 1, int(step or 1)))
    return found


STACK = "infra/stack.yaml"


@dataclass(frozen=True)
class Use:
    """How much of it a month has: gigabytes in S3, and runs of either pipeline."""

    stored_gb: float
    runs: float


def price(figure: float | None, what: str, missing: dict[str, None]) -> float | None:
    """The figure; what has none is noted, so that a total never passes it over in silence."""
    if figure is None:
        missing[what] = None
    return figure


def charges(
    repository: Repository, where: Environment, prices: Prices, use: Use, missing: dict[str, None]
) -> tuple[Charge, ...]:
    """The lines of the month, in the order of the table."""
    alarms, dashboards = watchers(repository, scheduled=bool(where.schedule and where.hours_between_runs))
    images, metrics = prices.assumed.images_gb, prices.assumed.custom_metrics
    hours, logs = min(use.runs, MONTH_HOURS), use.runs * prices.assumed.log_gb_a_run

    def charge(what: str, number: float, figure: str, amount: str, by_run: bool = False) -> Charge:
        each = price(prices.figures.get(figure), what, missing)
        return Charge(what, amount, None if each is None else each * number, by_run)

    return (
        charge("S3", use.stored_gb, "s3_gb_month", f"{use.stored_gb:g} GB"),
        charge("images in ECR", images, "ecr_gb_month", f"{images:g} GB"),
        *([charge("KMS key", 1, "kms_key_month", "1")] if where.kms_key or where.create_key else []),
        charge("alarms", alarms, "alarm_month", f"on {alarms} metrics"),
        charge("dashboard", dashboards, "dashboard_month", str(dashboards)),
        charge("metrics", metrics * hours / MONTH_HOURS, "metric_month", f"{metrics:g} for {hours:.0f} hours", True),
        charge("logs", logs, "log_gb", f"{logs:.2f} GB", True),
    )


def watchers(repository: Repository, scheduled: bool) -> tuple[int, int]:
    """How many metrics the stack's alarms look at, by which they are charged, and how many dashboards it has."""
    try:
        text = (repository.root / STACK).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Failure(f"{STACK} is missing: what watches can't be counted.") from None
    resources = re.split(r"\n(?=  [A-Z]\w*:)", text)
    alarms = [resource for resource in resources if "Type: AWS::CloudWatch::Alarm" in resource]
    used = [alarm for alarm in alarms if scheduled or "Condition: WatchesRuns" not in alarm]
    return sum(max(1, alarm.count("MetricStat:")) for alarm in used), text.count("Type: AWS::CloudWatch::Dashboard")


TITLES = {"training": "one training", "inference": "one scoring run"}
WITHOUT = ", without what has no price"
PLAIN_WIDTH = 110  # of a file or a pipe, which have none of their own


def show(estimate: Estimate) -> None:
    """Print it."""
    from rich.console import Console  # noqa: PLC0415 - the summary does without

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    where = estimate.where
    console.print(f"What {where.usecase} would cost in {where.environment}, about. Nothing was asked of AWS.")
    console.print(_table(estimate))
    for line in _below(estimate):
        console.print(line, markup=False, soft_wrap=True)


def _table(estimate: Estimate) -> "Table":
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "amount", "minutes", "taken"):
        table.add_column(heading, justify="right" if heading == "minutes" else "left")
    table.add_column(estimate.prices.currency, justify="right")
    for pipeline, title in TITLES.items():
        for job in estimate.jobs:
            if job.step.pipeline == pipeline:
                table.add_row(f"  {job.step.name}", *_job_row(job))
        label = title if estimate.whole(pipeline) else f"{title}{WITHOUT}"
        table.add_row(label, "", "", "", between(*estimate.run(pipeline)), style="bold")
        table.add_row()
    _add_month(table, estimate)
    return table


def _job_row(job: JobCost) -> tuple[str, str, str, str]:
    cost = "no price" if job.most is None or job.least is None else between(job.least, job.most)
    return f"{job.instances.count} × {job.instances.type}", f"{job.minutes:.1f}", job.origin, cost


def _add_month(table: "Table", estimate: Estimate) -> None:
    scoring, training, runs = estimate.run("inference"), estimate.run("training"), estimate.runs
    each = "?" if runs is None else between(runs * scoring[0], runs * scoring[1])
    table.add_row("  scoring runs", "?" if runs is None else f"{runs:.0f}", "", "", each)
    often = estimate.retrainings
    table.add_row("  trainings", f"{often:g}", "", "", between(often * training[0], often * training[1]))
    for charge in estimate.charges:
        table.add_row(f"  {charge.what}", charge.amount, "", "", _charge(charge))
    table.add_row(f"one month{_left_out(estimate)}", "", "", "", between(*estimate.month), style="bold")


def _left_out(estimate: Estimate) -> str:
    whole = all(estimate.whole(pipeline) for pipeline in TITLES)
    priced = whole and all(charge.cost is not None for charge in estimate.charges)
    runs = "" if estimate.runs is not None else ", without scoring runs"
    return runs if priced else f"{runs}{WITHOUT}"


def _charge(charge: "Charge") -> str:
    return "no price" if charge.cost is None else money(charge.cost)


def _below(estimate: Estimate) -> Iterator[str]:
    prices, assumed, where = estimate.prices, estimate.prices.assumed, estimate.where
    yield ""
    for remark in estimate.remarks:
        yield f"note: {remark}."
    yield f"Prices: {prices.source}, {prices.region}, {prices.when:%d %B %Y}; {FILE} says how they were come by."
    yield f"Minutes: {assumed.start_minutes:g} for the start of each job (assumed) and what it works:"
    yield "  as here     as long as the newest run on this machine, which is no SageMaker instance: MINUTES corrects it"
    yield f"  as given    MINUTES; assumed: it never ran here, {assumed.work_minutes:g} minutes are a guess"
    if where.spot:
        yield (
            f"Spare capacity: a training job may cost up to {prices.spot_saves:.0%} less, as AWS advertises it. "
            "The higher figure is without."
        )
    yield f"Images are shared by the environments of an account; {assumed.images_gb:g} GB is an assumption."
    yield "In no total: free tiers, taxes, requests and transfers, builds, notices, a VPC's endpoints, failed runs, and"
    yield "the functions, events and queues, which come to cents a month."


def show_cost(repository: Repository, environment: str, options: Options) -> int:
    """Print the table, the totals and what they assume; the exit code. Raises Failure."""

    show(make(repository, environment, options, today()))
    return 0


def summary(repository: Repository, environment: str) -> list[str]:
    """Two to four lines for a plan or a deployment, which do not fail because of them."""
    try:
        return list(_lines(make(repository, environment, Options(), today())))
    except Failure as failure:
        return ["what it would cost can't be told:", str(failure)]


def _lines(estimate: Estimate) -> Iterator[str]:
    """The estimate in short: a run, a month, what to know before believing it, and where the rest is."""
    prices, currency = estimate.prices, estimate.prices.currency
    scoring, training = between(*estimate.run("inference")), between(*estimate.run("training"))
    runs = "no countable" if estimate.runs is None else f"{estimate.runs:.0f}"
    yield (
        f"about {scoring} {currency} a scoring run and {training} a training "
        f"(prices of {prices.region}, {prices.when:%B %Y})"
    )
    yield (
        f"about {between(*estimate.month)} {currency} a month with {runs} scoring runs, {estimate.retrainings:g} "
        f"training(s) and {estimate.stored_gb:g} GB; {money(estimate.fixed)} of it even if nothing runs"
    )
    if estimate.remarks:
        yield f"but {'; '.join(estimate.remarks)}"
    yield f"what that assumes: make cost ENV={estimate.where.environment}"


def between(least: float, most: float) -> str:
    """One amount, or a range where spare capacity may make it less."""
    low, high = money(least), money(most)
    return high if low == high else f"{low} to {high}"


def money(amount: float) -> str:
    """Cents, and tenths of them for what is less than ten."""
    if 0 < amount < 0.0005:
        return "<0.001"
    return f"{amount:,.2f}" if amount >= 0.0995 or not amount else f"{amount:.3f}"


def today() -> date:
    """The day by which the age of the prices counts."""
    return datetime.now(UTC).date()
