"""What the events say, as values. All of them can come more than once, late, and out of order.

Sources: "Events that Amazon SageMaker AI sends to Amazon EventBridge" (SageMaker developer guide: several events for
one change are expected), "EventBridge event message structure" (S3 user guide; keys are not URL-encoded).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from batchloop.control.memory import Observation, short
from batchloop.control.names import Aws, Places

Event = Mapping[str, Any]


@dataclass(frozen=True)
class RunChanged:
    """A pipeline execution's status; `pipeline` is its name, `started` when it began (ISO 8601, UTC)."""

    arn: str
    pipeline: str
    status: str
    started: str

    @property
    def identity(self) -> str:
        """The execution id, under which the run's outputs lie."""
        return self.arn.rpartition("/")[2]


@dataclass(frozen=True)
class PackageChanged:
    """A model package's approval status as it was at `time`; `fields` are those that changed, where the event knows."""

    arn: str
    group: str
    status: str
    time: str
    fields: tuple[str, ...]


def run_changed(event: Event) -> RunChanged:
    """Of "SageMaker Model Building Pipeline Execution Status Change"."""
    detail = event["detail"]
    pipeline = detail["pipelineArn"].rpartition("/")[2].lower()  # an ARN's resource name is in lower case
    started = moment(detail.get("executionStartTime") or event["time"])
    return RunChanged(detail["pipelineExecutionArn"], pipeline, detail["currentPipelineExecutionStatus"], started)


def package_changed(event: Event) -> PackageChanged:
    """Of "SageMaker Model Package State Change"; packages outside any group have neither group nor approval."""
    detail = event["detail"]
    fields = tuple(detail.get("UpdatedModelPackageFields") or ())
    group, status = detail.get("ModelPackageGroupName", ""), detail.get("ModelApprovalStatus", "")
    return PackageChanged(detail["ModelPackageArn"], group, status, moment(event["time"]), fields)


def moment(time: str) -> str:
    """A time as the state keeps it: ISO 8601, UTC, seconds; such texts sort by time."""
    return datetime.fromisoformat(time).astimezone(UTC).isoformat(timespec="seconds")


def object_created(event: Event) -> str:
    """The URI of the object, of S3's "Object Created"."""
    return f"s3://{event['detail']['bucket']['name']}/{event['detail']['object']['key']}"


SUBJECT = 99  # "less than 100 characters": "Publish" in the SNS API reference


def tell(aws: Aws, places: Places, subject: str, lines: Mapping[str, str]) -> None:
    """Publish a message without its empty lines; the subject is ASCII on one line, as every mail server takes it."""
    text = " ".join(f"{places.usecase} {places.environment}: {subject}".split())
    if len(text) > SUBJECT:
        text = f"{text[: SUBJECT - 3]}..."
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


Report = Mapping[str, Any]
VERDICTS = {"drift": True, "no drift": False, "not enough data": None}
LONGEST = 40  # letters of a metric's name: it is remembered


@dataclass(frozen=True)
class Expected:
    """The gate's metric without labels, `low` to `high`; `drop` is how much worse than `reference`, on validation."""

    metric: str
    estimated: float
    low: float | None
    high: float | None
    reference: float | None
    drop: float | None
    alarm: bool

    def words(self) -> str:
        """For people."""
        limits = "" if self.low is None or self.high is None else f" ({short(self.low)} to {short(self.high)})"
        before = "" if self.reference is None else f", {short(self.reference)} on validation"
        return f"{self.metric} {short(self.estimated)}{limits}{before}: {'an' if self.alarm else 'no'} alarm"


@dataclass(frozen=True)
class Realised:
    """The gate's metric by labels, and the rows that had one; `drop` is how much worse than `reference` it is."""

    metric: str
    value: float
    low: float | None
    high: float | None
    expected: float | None
    reference: float | None
    drop: float | None
    rows: int
    alarm: bool

    def words(self) -> str:
        """For people."""
        limits = "" if self.low is None or self.high is None else f" ({short(self.low)} to {short(self.high)})"
        said = f"{self.metric} {short(self.value)}{limits} by the labels of {self.rows:,} rows"
        said += "" if self.expected is None else f", {short(self.expected)} was expected"
        said += "" if self.reference is None else f", {short(self.reference)} on validation"
        return f"{said}: {'an' if self.alarm else 'no'} alarm"


def mark(baseline: str) -> str:
    """What tells baselines apart: a short hash of where one lies."""
    return sha256(baseline.encode()).hexdigest()[:8]


def observation(report: Report, changed: RunChanged, window: str, baseline: str, minimum_rows: int) -> Observation:
    """What counts of it. Raises KeyError, TypeError or ValueError for a report that is none."""
    rows, drifted = int(report["rows"]), VERDICTS[report["verdict"]]
    judged, found = drifted is not None and rows >= minimum_rows, expected(report)
    said: dict[str, Any] = {}
    if judged and found is not None:
        said = {"worse": found.alarm, "metric": found.metric, "expected": round(found.estimated, 4)}
        said |= {"reference": None if found.reference is None else round(found.reference, 4)}
    if judged and (measured := realised(report)) is not None:
        said |= {"realised": measured.alarm, "metric": measured.metric, "measured": round(measured.value, 4)}
        said |= {} if measured.reference is None else {"reference": round(measured.reference, 4)}
    return Observation(
        window=window,
        run=changed.identity,
        time=changed.started,
        rows=rows,
        drifted=drifted if judged else None,
        columns=len(report["drifted"]),
        baseline=mark(baseline),
        importance=importance(report) if judged else None,
        **said,
    )


def expected(report: Report) -> Expected | None:
    """How well the model is expected to have scored; None where that is not known."""
    found = report.get("performance")
    if not isinstance(found, Mapping) or not isinstance(found.get("metric"), str):
        return None
    estimated, low, high, reference, drop = (
        number(found.get(name)) for name in ("estimated", "low", "high", "reference", "drop")
    )
    if estimated is None:
        return None
    return Expected(found["metric"][:LONGEST], estimated, low, high, reference, drop, found.get("alarm") is True)


def realised(report: Report) -> Realised | None:
    """How well the model scored, by labels; None where that is not known."""
    found = report.get("realised")
    if not isinstance(found, Mapping) or not isinstance(found.get("metric"), str):
        return None
    value, low, high, before, reference, drop = (
        number(found.get(name)) for name in ("value", "low", "high", "expected", "reference", "drop")
    )
    if value is None:
        return None
    rows, metric = int(number(found.get("rows")) or 0), found["metric"][:LONGEST]
    return Realised(metric, value, low, high, before, reference, drop, rows, found.get("alarm") is True)


def why_unknown(report: Report, part: str = "performance") -> str:
    """Why a part of it, `performance` or `realised`, is not known, in the report's words; "" where it says nothing."""
    found = report.get(part)
    reason = found.get("reason") if isinstance(found, Mapping) else None
    return f"not known: {reason}" if isinstance(reason, str) else ""


def importance(report: Report) -> float | None:
    """The share of the model's reasons in drifted columns; None where it is unknown or only scores have drifted."""
    share, scores = number(report.get("drifted_importance")), report.get("scores")
    raw = [name for name in report["drifted"] if not isinstance(scores, Mapping) or name not in scores]
    return round(share, 4) if share is not None and 0 <= share <= 1.001 and raw else None


def important(report: Report) -> list[str]:
    """The drifted columns that the model uses more than an even share."""
    names = report.get("drifted_important")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
