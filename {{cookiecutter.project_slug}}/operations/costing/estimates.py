"""What one environment would cost: each job of a run, and what is paid for by the month."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from operations import settings
from operations.costing import standing
from operations.costing.jobs import STEPS, Step, Work, amount, work
from operations.costing.prices import Prices, load
from operations.costing.schedules import MONTH_HOURS, runs_a_month
from operations.costing.standing import Charge
from operations.repository import Repository
from pipelines.environment import Environment, Instances


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
    where = settings.read(repository, name)[1]
    prices = load(repository, where.region)
    runs = runs_a_month(where.schedule) if options.runs is None else amount(options.runs, "RUNS")
    often = _chosen(options.retrainings, prices.assumed.retrainings, "RETRAININGS")
    stored = _chosen(options.gb, prices.assumed.data_gb, "GB")
    missing: dict[str, None] = {}  # in order, and each of them once
    spent = work(repository, options.minutes, prices.assumed.work_minutes)
    jobs = tuple(_job(step, where, prices, spent[step.name], missing) for step in STEPS)
    charges = standing.charges(repository, where, prices, standing.Use(stored, (runs or 0.0) + often), missing)
    remarks = _remarks(where, prices, runs, missing, today)
    return Estimate(where, prices, jobs, charges, runs, often, stored, tuple(remarks))


def _chosen(given: float | None, otherwise: float, name: str) -> float:
    return otherwise if given is None else amount(given, name)


def _job(step: Step, where: Environment, prices: Prices, spent: Work, missing: dict[str, None]) -> JobCost:
    """Each instance is billed for the whole time."""
    instances = where.instances[step.job]
    minutes = prices.assumed.start_minutes + spent.minutes
    hours = instances.count * minutes / 60
    hour = standing.price(prices.hours.get(instances.type), instances.type, missing)
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
    month = standing.price(figure, f"the disks of {step.kind} jobs", missing)
    return (month or 0.0) * instances.volume_gb / MONTH_HOURS


def _remarks(where: Environment, prices: Prices, runs: float | None, missing: Iterable[str], today: date) -> list[str]:
    found = prices.remarks(today)
    if missing:
        found.insert(0, f"no price for {', '.join(missing)} in {prices.region}: in no total")
    if runs is None:
        found.append(f"how often {where.schedule!r} fires can't be told: RUNS=30 says how many runs a month has")
    elif not where.schedule and not runs:
        found.append(f"{where.name} has no schedule, so no scoring runs are in the month: RUNS=30 counts some")
    return found
