"""`make cost`: what an environment would cost, from batchloop/prices.toml, without asking AWS."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from batchloop.container import settings
from batchloop.container.job import InputError
from batchloop.container.usecase import UseCase
from batchloop.engine import running
from batchloop.environment import MONTH_HOURS, Environment, Instances, runs_a_month
from batchloop.pipelines import definitions
from batchloop.repository import Repository, print_table

FILE, STACK = "batchloop/prices.toml", "infra/stack.yaml"
OLD = 365  # days
ASSUMED = ("start_minutes", "work_minutes", "retrainings", "data_gb", "images_gb")
WITHOUT = ", without what has no price"
THERE = """\
measured is the median of the last runs in AWS that succeeded, each step from start to end, waiting included; else
"""
NOTES = """\
Prices: {prices.source}, {prices.region}, {prices.date:%d %B %Y}; {file} says how they were come by.
Minutes: {there}{assumed[start_minutes]:g} for the start of each job (assumed) and what it works:
  as here     as long as the newest run on this machine, which is no SageMaker instance: MINUTES corrects it
  as given    MINUTES; assumed: it never ran here, {assumed[work_minutes]:g} minutes are a guess
Images are shared by the environments of an account; {assumed[images_gb]:g} GB is an assumption.
In no total: what spare capacity saves (AWS promises nothing of its "up to 90%"), free tiers, taxes, requests and
transfers, builds, notices, a VPC's endpoints, failed runs, and functions, events,
queues, metrics and logs, which come to about a cent a run."""


@dataclass(frozen=True)
class Usage:
    """`minutes` are like "processing=4 algorithm=12"; None is what the schedule or the table say."""

    minutes: str = ""
    runs: float | None = None
    retrainings: float | None = None
    gb: float | None = None


@dataclass(frozen=True)
class JobStep:
    """A step that starts instances: its name, its job in environments/*.toml, and what SageMaker calls such a job.

    Where that job has several instances, they do the step `shared` before; this step they do `again`, or one does it.
    """

    pipeline: str
    name: str
    job: str
    kind: str = "processing"
    shared: str = ""
    again: bool = False


# the template's tests hold this against the compiled definitions, which take the SDK and seconds to make
STEPS = (
    JobStep("training", "PrepareTrainingData", "processing", shared="SampleTrainingData", again=True),
    JobStep("training", "TrainModel", "algorithm", "training"),
    JobStep("training", "LearnBaseline", "monitoring", shared="SampleBaselineData"),
    JobStep("training", "LearnExplainer", "explainability"),
    JobStep("inference", "PrepareFeatures", "processing"),
    JobStep("inference", "ScoreFeatures", "transform", "transform"),
    JobStep("inference", "DetectDrift", "monitoring", shared="CountProductionData"),
    JobStep("inference", "ExplainPredictions", "explainability", shared="ExplainRows"),
)
TUNE = JobStep("training", "TuneModel", "algorithm", "training")


def steps(environment: Environment, case: UseCase) -> Iterator[tuple[JobStep, int]]:
    """The steps with the instances that each starts; a search that is a step of its own starts one for each trial."""
    for step in STEPS:
        count = environment.instances[step.job].count
        if step.name == "TrainModel" and environment.tunes(case):
            yield TUNE, case.tuning.trials
        if step.shared and count > 1:
            yield replace(step, name=step.shared, shared=""), count
        yield step, 1 if step.shared and not step.again else count


@dataclass(frozen=True)
class Prices:
    """The figures of one region, which may stand in for another, and what is assumed; prices.toml says why."""

    date: date
    currency: str
    source: str
    region: str
    assumed: Mapping[str, float]
    figures: Mapping[str, float]
    hours: Mapping[str, float]
    missing: dict[str, None] = field(default_factory=dict)  # in order, and each of them once

    def price(self, figure: float | None, what: str) -> float | None:
        """The figure; what has none is noted, so that a total never passes it over in silence."""
        if figure is None:
            self.missing[what] = None
        return figure


def load(repository: Repository, region: str) -> Prices:
    """The region's figures, or those of the region that stands in for it. Raises InputError."""
    try:
        table = settings.read(repository.root / FILE, FILE)[0]
        region = region if region in table["regions"] else table["elsewhere"]
        figures, assumed = dict(table["regions"][region]), {name: table["assumed"][name] for name in ASSUMED}
        hours, looked_up = figures.pop("instance_hour", {}), figures.pop("date", table["date"])
        return Prices(looked_up, table["currency"], table["source"], region, assumed, figures, hours)
    except KeyError as error:
        raise InputError(f"{FILE} has no {error.args[0]!r}.") from None


class Line(NamedTuple):
    """A job of one run of a `pipeline`; or what is paid each month, whether or not anything runs, whose pipeline is "".

    The cost is without spare capacity; None has no price.
    """

    pipeline: str
    what: str
    amount: str
    cost: float | None
    minutes: float | None = None
    origin: str = ""

    def cells(self) -> tuple[str, ...]:
        minutes = "" if self.minutes is None else f"{self.minutes:.1f}"
        return f"  {self.what}", self.amount, minutes, self.origin, money(self.cost)


@dataclass(frozen=True)
class Estimate:
    """Everything the table shows. `runs` is None where the schedule does not tell. What has no price is in no total."""

    environment: Environment
    prices: Prices
    lines: tuple[Line, ...]
    runs: float | None
    retrainings: float
    stored_gb: float
    remarks: tuple[str, ...]

    def of(self, pipeline: str) -> list[Line]:
        return [line for line in self.lines if line.pipeline == pipeline]

    def run(self, pipeline: str) -> float:
        """What one run costs; "" is what a month costs beside all runs."""
        return sum(line.cost or 0.0 for line in self.of(pipeline))

    def month_of(self, pipeline: str) -> float:
        """What a month's runs cost, without those nobody can count."""
        return (self.retrainings if pipeline == "training" else self.runs or 0) * self.run(pipeline)

    @property
    def month(self) -> float:
        return self.run("") + self.month_of("inference") + self.month_of("training")


def make(repository: Repository, usage: Usage, there: Mapping[str, Any] | None = None) -> Estimate:
    """The estimate for the environment; `there` are minutes of whole steps in AWS, and whence. Raises InputError."""
    case, environment = definitions.read(repository)
    prices = load(repository, environment.region)
    assumed = prices.assumed
    runs = runs_a_month(environment.schedule) if usage.runs is None else usage.runs
    retrainings = assumed["retrainings"] if usage.retrainings is None else usage.retrainings
    stored = assumed["data_gb"] if usage.gb is None else usage.gb
    given, here = _given_minutes(usage.minutes), _measured_minutes(repository)
    lines = []
    for step, count in steps(environment, case):
        known = "TrainModel" if step == TUNE else step.name  # a trial is taken to last as long
        said = given.get(step.name) or given.get(step.job)
        worked, origin = said or here.get(known) or (assumed["work_minutes"], "assumed")
        whole = None if said else (there or {}).get(known)
        minutes, origin = whole or (assumed["start_minutes"] + worked, origin)
        instances = replace(environment.instances[step.job], count=count)
        amount, cost = f"{count} × {instances.type}", _cost(step, instances, prices, minutes)
        lines.append(Line(step.pipeline, step.name, amount, cost, minutes, origin))
    lines += _charges(repository, environment, prices, stored)
    remarks = (*_remarks(environment, prices, runs), *_uncounted(repository, environment))
    return Estimate(environment, prices, tuple(lines), runs, retrainings, stored, remarks)


def _given_minutes(words: str) -> dict[str, tuple[float, str]]:
    """Of a job or of one of its steps: minutes, and where they come from."""
    known = {name for step in (*STEPS, TUNE) for name in (step.job, step.name, step.shared) if name}
    minutes = {}
    for name, _, number in (word.partition("=") for word in words.split()):
        if name not in known:
            raise InputError(f"MINUTES: there is no job {name!r}; there are {', '.join(sorted(known))}.")
        if (parsed := settings.parsed(float, number)) is None or parsed < 0:
            raise InputError(f"MINUTES: {name} needs a number from 0.")
        minutes[name] = parsed, "as given"
    return minutes


def _measured_minutes(repository: Repository) -> dict[str, tuple[float, str]]:
    """From each step's newest local run in which it had to work; a reused step took no time, and tells nothing."""
    minutes: dict[str, tuple[float, str]] = {}
    for run in running.records(repository):
        for name, step in run["steps"].items():
            if step["state"] == "done" and step["seconds"] > 0:
                minutes.setdefault(name, (step["seconds"] / 60, f"as here, {run['started'][:10]}"))
    return minutes


def _cost(step: JobStep, instances: Instances, prices: Prices, minutes: float) -> float | None:
    """Each instance is billed for the whole time, with its disk; batch transform sizes its own."""
    hour, disk = prices.price(prices.hours.get(instances.type), instances.type), 0.0
    if instances.volume_gb:
        month = prices.price(prices.figures.get(f"{step.kind}_disk_gb_month"), f"the disks of {step.kind} jobs")
        disk = (month or 0.0) * instances.volume_gb / MONTH_HOURS
    return None if hour is None else instances.count * minutes / 60 * (hour + disk)


def _charges(repository: Repository, environment: Environment, prices: Prices, stored: float) -> Iterator[Line]:
    """The lines of the month, in the order of the table, for gigabytes in S3."""
    alarms, dashboards = watchers(repository, bool(environment.schedule and environment.hours_between_runs))
    images = prices.assumed["images_gb"]
    charges = [
        ("S3", stored, "s3_gb_month", f"{stored:g} GB"),
        ("images in ECR", images, "ecr_gb_month", f"{images:g} GB"),
        *([("KMS key", 1, "kms_key_month", "1")] if environment.key else []),
        ("alarms", alarms, "alarm_month", f"on {alarms} metrics"),
        ("dashboard", dashboards, "dashboard_month", str(dashboards)),
    ]
    for what, number, figure, amount in charges:
        each = prices.price(prices.figures.get(figure), what)
        yield Line("", what, amount, None if each is None else each * number)


def watchers(repository: Repository, scheduled: bool) -> tuple[int, int]:
    """How many metrics the stack's alarms look at, by which they are charged, and how many dashboards it has."""
    text = (repository.root / STACK).read_text(encoding="utf-8")
    resources = re.split(r"\n(?=  [A-Z]\w*:)", text)
    alarms = [resource for resource in resources if "Type: AWS::CloudWatch::Alarm" in resource]
    used = [alarm for alarm in alarms if scheduled or "Condition: WatchesRuns" not in alarm]
    return sum(max(1, alarm.count("MetricStat:")) for alarm in used), text.count("Type: AWS::CloudWatch::Dashboard")


def _uncounted(repository: Repository, environment: Environment) -> Iterator[str]:
    """Steps of yours, in the definitions that were compiled last, that no row of the table is about."""
    files = [repository.compiled / f"{name}.json" for name in ("training", "inference")]
    compiled = [step for file in files if file.is_file() for step in json.loads(file.read_text("utf-8"))["Steps"]]
    names = [step["Name"] for step in compiled if step["Type"] in ("Processing", "Training", "Tuning", "Transform")]
    known = {name for step in (*STEPS, TUNE) for name in (step.name, step.shared)}
    if more := [name for name in names if name not in known]:
        yield f"in no total: {', '.join(more)}"


def _remarks(environment: Environment, prices: Prices, runs: float | None) -> Iterator[str]:
    """What a reader has to know before believing the figures."""
    region, age = environment.region, (today() - prices.date).days
    if prices.missing:
        yield f"no price for {', '.join(prices.missing)} in {prices.region}: in no total"
    if prices.region != region:
        yield f"there are no prices for {region}: the figures are {prices.region}'s, an order of magnitude"
    if age > OLD:
        yield f"the prices are {age // 30} months old: look them up again and write them into {FILE}"
    if runs is None:
        yield f"how often {environment.schedule!r} fires can't be told: RUNS=30 says how many runs a month has"
    elif not environment.schedule and not runs:
        yield f"{environment.environment} has no schedule, so no scoring runs are in the month: RUNS=30 counts some"


def show_cost(repository: Repository, usage: Usage) -> int:
    """Print the table, the totals and what they assume; the exit code. Raises InputError."""
    there, asked = _in_aws(repository)
    estimate = make(repository, usage, there)
    prices, environment = estimate.prices, estimate.environment
    print(f"What {environment.usecase} would cost in {environment.environment}, about. {asked[0]}")
    rows = [("" if row[0][:1] in ("", " ") else "bold", row) for row in _rows(estimate)]
    print_table(("", "amount", "minutes", "taken", prices.currency), rows, right=("minutes", prices.currency))
    notes = NOTES.format(prices=prices, assumed=prices.assumed, file=FILE, there=THERE if there else "")
    remarks = (*asked[1:], *estimate.remarks)
    print("", *(f"note: {remark}." for remark in remarks), notes, sep="\n")
    return 0


def _in_aws(repository: Repository) -> tuple[dict[str, tuple[float, str]], list[str]]:
    """Minutes of steps in the environment's account, where it names one; what was asked, and why it is not known."""
    from batchloop.cloud import run, session  # noqa: PLC0415 - which use this module

    environment = definitions.read(repository)[1]
    if not environment.account_is_set:
        return {}, ["Nothing was asked of AWS."]
    try:
        return run.minutes(session.opened(repository)), ["Only past runs were looked at in AWS."]
    except InputError as why:
        return {}, ["", f"how long past runs in AWS took is not known: {str(why).rstrip('.')}"]


def _rows(estimate: Estimate) -> Iterator[tuple[str, ...]]:
    """The table's cells: jobs and their total for each pipeline, then the month."""
    for pipeline, title in (("training", "one training"), ("inference", "one scoring run")):
        yield from (line.cells() for line in estimate.of(pipeline))
        without = WITHOUT if any(line.cost is None for line in estimate.of(pipeline)) else ""
        yield title + without, "", "", "", money(estimate.run(pipeline))
        yield ("",)
    known = estimate.runs is not None
    scoring = money(estimate.month_of("inference")) if known else "?"
    yield "  scoring runs", f"{estimate.runs:.0f}" if known else "?", "", "", scoring
    yield "  trainings", f"{estimate.retrainings:g}", "", "", money(estimate.month_of("training"))
    yield from (line.cells() for line in estimate.of(""))
    without = WITHOUT if any(line.cost is None for line in estimate.lines) else ""
    yield f"one month{'' if known else ', without scoring runs'}{without}", "", "", "", money(estimate.month)


def summary(repository: Repository) -> list[str]:
    """Two to four lines for a plan or a deployment, which do not fail because of them."""
    try:
        estimate = make(repository, Usage())
    except (InputError, FileNotFoundError) as failure:
        return ["what it would cost can't be told:", str(failure)]
    prices, currency = estimate.prices, estimate.prices.currency
    scoring, training = money(estimate.run("inference")), money(estimate.run("training"))
    runs = "no countable" if estimate.runs is None else f"{estimate.runs:.0f}"
    return [
        f"about {scoring} {currency} a scoring run and {training} a training "
        f"(prices of {prices.region}, {prices.date:%B %Y})",
        f"about {money(estimate.month)} {currency} a month with {runs} scoring runs, {estimate.retrainings:g} "
        f"training(s) and {estimate.stored_gb:g} GB; {money(estimate.run(''))} of it even if nothing runs",
        *([f"but {'; '.join(estimate.remarks)}"] if estimate.remarks else []),
        f"what that assumes: make cost ENV={repository.environment}",
    ]


def money(amount: float | None) -> str:
    """Cents, and tenths of them for what is less than ten."""
    if amount is None:
        return "no price"
    if 0 < amount < 0.0005:
        return "<0.001"
    return f"{amount:,.2f}" if amount >= 0.0995 or not amount else f"{amount:.3f}"


def today() -> date:
    """The day by which the age of the prices counts."""
    return datetime.now(UTC).date()
