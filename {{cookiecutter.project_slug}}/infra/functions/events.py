"""What the events say, as values. All of them can come more than once, late, and out of order.

Sources: "Events that Amazon SageMaker AI sends to Amazon EventBridge" (SageMaker developer guide: several events for
one change are expected), "EventBridge event message structure" (S3 user guide; keys are not URL-encoded).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
