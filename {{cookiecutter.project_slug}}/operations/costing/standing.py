"""What is paid for by the month: data, images, a key, and what watches."""

import re
from dataclasses import dataclass

from operations.costing.prices import Prices
from operations.costing.schedules import MONTH_HOURS
from operations.failures import Failure
from operations.repository import Repository
from pipelines.environment import Environment

STACK = "infra/stack.yaml"


@dataclass(frozen=True)
class Use:
    """How much of it a month has: gigabytes in S3, and runs of either pipeline."""

    stored_gb: float
    runs: float


@dataclass(frozen=True)
class Charge:
    """One line of the month; `by_run` is paid only when something runs, no cost is no price."""

    what: str
    amount: str
    cost: float | None
    by_run: bool


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
