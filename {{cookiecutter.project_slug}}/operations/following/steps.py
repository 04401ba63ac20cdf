"""A step of an execution, as ListPipelineExecutionSteps describes it: its state, its failure, what it made."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from operations.bootstrap.calls import THROTTLED, CallFailed
from operations.deploying.target import Target

Step = Mapping[str, Any]
# "Log groups and streams that Amazon SageMaker AI sends to CloudWatch": streams begin with the job's name
LOGS = {"ProcessingJob": "ProcessingJobs", "TrainingJob": "TrainingJobs", "TransformJob": "TransformJobs"}
PASSING = ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError")


def state(step: Step) -> str:
    """The status, with what else a person wants to know of it."""
    about = step.get("Metadata", {})
    remarks = [f"try {step['AttemptCount']}"] if step.get("AttemptCount", 0) > 1 else []
    if step.get("CacheHitResult"):
        remarks.append("from the cache")
    if outcome := about.get("Condition", {}).get("Outcome"):
        remarks.append(outcome.lower())
    return f"{step['StepStatus']} ({', '.join(remarks)})" if remarks else str(step["StepStatus"])


def when(step: Step) -> str:
    """When it changed last, by the clock here."""
    moment = step.get("EndTime") or step.get("StartTime")
    return moment.astimezone().strftime("%H:%M:%S") if moment else "        "


def trouble(step: Step, region: str) -> Iterator[str]:
    """Lines about a step that failed: what it says, and where its log is."""
    if step["StepStatus"] != "Failed":
        return
    about = step.get("Metadata", {})
    why = about.get("Fail", {}).get("ErrorMessage") or step.get("FailureReason") or "it gives no reason"
    yield f"{step['StepName']} failed: {why}"
    for kind, group in LOGS.items():
        if arn := about.get(kind, {}).get("Arn"):
            job = arn.rpartition("/")[2]
            command = f"aws logs tail /aws/sagemaker/{group} --region {region} --since 1d"
            yield f"  its log: {command} --log-stream-name-prefix {job}/"
    yield ""


def results(target: Target, arn: str, found: Sequence[Step]) -> Iterator[str]:
    """Where to find what a run that succeeded has made."""
    registered = [step.get("Metadata", {}).get("RegisterModel", {}).get("Arn") for step in found]
    for package in filter(None, registered):
        yield f"registered: {package}"
        if target.where.approval != "Approved":
            yield "it is released once somebody approves it in the Model Registry"
    if any("TransformJob" in step.get("Metadata", {}) for step in found):
        place = f"s3://{target.where.bucket}/{target.storage}/{target.where.name}/inference/{arn.rpartition('/')[2]}"
        yield f"predictions: {place}/ScoreFeatures/predictions/"
        yield f"drift report: {place}/DetectDrift/drift/report.html"


def passes(failed: CallFailed) -> bool:
    """Whether asking again later may help."""
    return failed.code in THROTTLED or failed.code in PASSING or "failed inside AWS" in str(failed)
