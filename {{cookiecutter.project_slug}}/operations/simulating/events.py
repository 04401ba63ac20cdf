"""The events that AWS would send, whole.

Sources: "Events that Amazon SageMaker AI sends to Amazon EventBridge" in the SageMaker developer guide, "EventBridge
event message structure" in the S3 user guide; the schedule's input is the one in infra/stack.yaml.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Event = dict[str, Any]
SCHEDULE: Event = {"window": ""}


def run_changed(arn: str, run: Mapping[str, Any]) -> Event:
    """The end of a pipeline execution."""
    pipeline = arn.partition("/execution/")[0].lower()
    detail = {
        "pipelineExecutionDisplayName": arn.rpartition("/")[2],
        "currentPipelineExecutionStatus": run["status"],
        "previousPipelineExecutionStatus": "Executing",
        "executionStartTime": _time(run["started"]),
        "executionEndTime": _time(run["ended"]),
        "pipelineExecutionDescription": "",
        "pipelineArn": pipeline,
        "pipelineExecutionArn": arn,
    }
    kind = "SageMaker Model Building Pipeline Execution Status Change"
    return _event(kind, run["ended"], [pipeline, arn], detail)


def package_changed(package: Mapping[str, Any], status: str, time: str) -> Event:
    """A model package that was registered, or approved."""
    arn = package["ModelPackageArn"]
    detail = {
        "ModelPackageGroupName": package["ModelPackageGroupName"],
        "ModelPackageVersion": package["ModelPackageVersion"],
        "ModelPackageArn": arn,
        "CreationTime": _time(time),
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CertifyForMarketplace": False,
        "ModelApprovalStatus": status,
        "LastModifiedTime": _time(time),
    }
    return _event("SageMaker Model Package State Change", time, [arn], detail)


def object_created(account: str, bucket: str, key: str, time: str) -> Event:
    """An object that was put into S3; `account` begins the ARNs of the pipelines."""
    about = {"version": "0", "bucket": {"name": bucket}, "object": {"key": key, "size": 1}, "reason": "PutObject"}
    event = _event("Object Created", time, [f"{account}:x"], about)
    return {**event, "source": "aws.s3", "resources": [f"arn:aws:s3:::{bucket}"]}


def _event(kind: str, time: str, resources: list[str], detail: Event) -> Event:
    _, _, _, region, account, _ = resources[0].split(":", 5)
    return {
        "version": "0",
        "id": "00000000-0000-0000-0000-000000000000",
        "detail-type": kind,
        "source": "aws.sagemaker",
        "account": account,
        "time": _time(time),
        "region": region,
        "resources": resources,
        "detail": detail,
    }


def _time(moment: str) -> str:
    """As EventBridge writes it."""
    return datetime.fromisoformat(moment).strftime("%Y-%m-%dT%H:%M:%SZ")
