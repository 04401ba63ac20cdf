"""What a drift report says in numbers and words, and what the functions tell: messages and metrics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchloop.control.decision import short
from batchloop.control.names import Aws, Places

Report = Mapping[str, Any]
VERDICTS = {"drift": True, "no drift": False, "not enough data": None}
ESTIMATE, REALISED = "performance", "realised"  # the parts of a report about how well the model scores
LONGEST = 40  # letters of a metric's name: it is remembered
SUBJECT = 99  # "less than 100 characters": "Publish" in the SNS API reference


@dataclass(frozen=True)
class Performance:
    """The gate's metric of a window, with its interval: estimated without labels, or realised by those of `rows`.

    `drop` is how much worse it is than `reference`, on validation; `expected` is what was estimated before labels came.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    reference: float | None
    drop: float | None
    alarm: bool
    expected: float | None = None
    rows: int | None = None

    def words(self) -> str:
        text = f"{self.metric} {short(self.value)}"
        text += "" if self.low is None or self.high is None else f" ({short(self.low)} to {short(self.high)})"
        text += "" if self.rows is None else f" by the labels of {self.rows:,} rows"
        text += "" if self.expected is None else f", {short(self.expected)} was expected"
        text += "" if self.reference is None else f", {short(self.reference)} on validation"
        return f"{text}: {'an' if self.alarm else 'no'} alarm"


def performance(report: Report, part: str) -> Performance | None:
    """The ESTIMATE or what was REALISED; None where that is not known."""
    found = report.get(part)
    if not isinstance(found, Mapping) or not isinstance(found.get("metric"), str):
        return None
    numbers: dict[str, Any] = {name: number(found.get(name)) for name in ("low", "high", "reference", "drop")}
    if part == REALISED:
        numbers |= {"expected": number(found.get("expected")), "rows": int(number(found.get("rows")) or 0)}
    value = number(found.get("value" if part == REALISED else "estimated"))
    if value is None:
        return None
    return Performance(found["metric"][:LONGEST], value, alarm=found.get("alarm") is True, **numbers)


def why_unknown(report: Report, part: str) -> str:
    """Why the performance is not known, in the report's words; "" where it says nothing."""
    found = report.get(part)
    reason = found.get("reason") if isinstance(found, Mapping) else None
    return f"not known: {reason}" if isinstance(reason, str) else ""


def observation_fields(report: Report, minimum_rows: int) -> dict[str, Any]:
    """A report's numbers as keywords of Observation. Raises KeyError, TypeError or ValueError where it is none."""
    rows, drifted = int(report["rows"]), VERDICTS[report["verdict"]]
    found: dict[str, Any] = {"rows": rows, "drifted": None, "columns": len(report["drifted"])}
    if drifted is None or rows < minimum_rows:
        return found
    # the share of the model's reasons in drifted columns; unknown where only scores have drifted
    share, scores = number(report.get("drifted_importance")), report.get("scores")
    raw = [name for name in report["drifted"] if not isinstance(scores, Mapping) or name not in scores]
    found |= {"drifted": drifted, "importance": None}
    if share is not None and 0 <= share <= 1.001 and raw:
        found["importance"] = round(share, 4)
    for part, alarm, value in ((ESTIMATE, "worse", "expected"), (REALISED, "realised", "measured")):
        if known := performance(report, part):
            found |= {alarm: known.alarm, "metric": known.metric, value: round(known.value, 4)}
            found |= {} if known.reference is None else {"reference": round(known.reference, 4)}
    return found


def important(report: Report) -> list[str]:
    """The drifted columns that the model uses more than an even share."""
    names = report.get("drifted_important")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def moment(time: str) -> str:
    """A time as the state keeps it: ISO 8601, UTC, seconds; such texts sort by time."""
    return datetime.fromisoformat(time).astimezone(UTC).isoformat(timespec="seconds")


def tell(aws: Aws, places: Places, subject: str, lines: Mapping[str, str]) -> None:
    """Publish a message without its empty lines; the subject is ASCII on one line, as every mail server takes it."""
    text = " ".join(f"{places.usecase} {places.environment}: {subject}".split())
    text = text if len(text) <= SUBJECT else f"{text[: SUBJECT - 3]}..."
    body = "\n".join(f"{name}: {line}" for name, line in lines.items() if line)
    aws.sns.publish(TopicArn=places.topic, Subject=text.encode("ascii", "replace").decode(), Message=body)


def measure(aws: Aws, places: Places, now: datetime, values: Mapping[str, float | None]) -> None:
    """Publish metrics in the namespace NAMESPACE/USECASE; what has no value is left out."""
    dimensions = [{"Name": "Environment", "Value": places.environment}]
    data = [
        {"MetricName": name, "Value": float(value), "Timestamp": now, "Dimensions": dimensions}
        for name, value in values.items()
        if value is not None
    ]
    aws.cloudwatch.put_metric_data(Namespace=f"{places.namespace}/{places.usecase}", MetricData=data)
