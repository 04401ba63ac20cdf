"""The rules in infra/stack.yaml wake for the events they are for, and for nothing that only looks like them."""

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from plumbing.stack.policies import listed
from plumbing.stack.template import ACCOUNT, BUCKET, HERE, REGION, everything, storage

# Events are as AWS's pages show them, with this stack's names.


def event(source: str, kind: str, detail: dict[str, Any]) -> dict[str, Any]:
    envelope = {"version": "0", "id": "844e2571-85d4-695f-b930-0153b71dcb42", "account": ACCOUNT, "region": REGION}
    return {**envelope, "time": "2026-11-24T06:10:11Z", "source": source, "detail-type": kind, "detail": detail}


def run_changed(pipeline: str = "team-case-dev-inference", status: str = "Succeeded") -> dict[str, Any]:
    """ "Automating Amazon SageMaker AI with Amazon EventBridge", SageMaker developer guide."""
    name = f"arn:aws:sagemaker:{HERE}:pipeline/{pipeline}"
    detail = {
        "pipelineExecutionDisplayName": "execution-1",
        "currentPipelineExecutionStatus": status,
        "previousPipelineExecutionStatus": "Executing",
        "executionStartTime": "2026-11-24T06:03:13Z",
        "executionEndTime": "2026-11-24T06:10:10Z",
        "pipelineExecutionDescription": "",
        "pipelineArn": name,
        "pipelineExecutionArn": f"{name}/execution/p4jn9xou8a8s",
    }
    return event("aws.sagemaker", "SageMaker Model Building Pipeline Execution Status Change", detail)


def package_changed(group: str = "team-case-dev", approval: str = "Approved") -> dict[str, Any]:
    """From the same page."""
    detail = {
        "ModelPackageGroupName": group,
        "ModelPackageVersion": 7,
        "ModelPackageArn": f"arn:aws:sagemaker:{HERE}:model-package/{group}/7",
        "CreationTime": "2026-11-24T05:00:14Z",
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CertifyForMarketplace": False,
        "ModelApprovalStatus": approval,
        "ApprovalDescription": "",
    }
    return event("aws.sagemaker", "SageMaker Model Package State Change", detail)


def object_created(key: str, bucket: str = BUCKET) -> dict[str, Any]:
    """ "EventBridge event message structure", S3 user guide."""
    detail = {
        "version": "0",
        "bucket": {"name": bucket},
        "object": {
            "key": key,
            "size": 5,
            "etag": "b1946ac92492d2347c6235b4d2611184",
            "sequencer": "00617F08299329D189",
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": ACCOUNT,
        "source-ip-address": "1.2.3.4",
        "reason": "PutObject",
    }
    return event("aws.s3", "Object Created", detail)


def parameter_changed(name: str = "/team/case/dev/release", operation: str = "Update") -> dict[str, Any]:
    """ "Reference: Amazon EventBridge event patterns and types for Systems Manager", its user guide."""
    detail = {"operation": operation, "name": name, "type": "String", "description": ""}
    return event("aws.ssm", "Parameter Store Change", detail)


def matches(pattern: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """ "Amazon EventBridge event pattern syntax" as far as this stack uses it."""
    return all(
        matches(wanted, given.get(key, {}))
        if isinstance(wanted, dict)
        else any(fits(one, given.get(key)) for one in wanted)
        for key, wanted in pattern.items()
    )


def fits(wanted: Any, value: Any) -> bool:
    if not isinstance(wanted, dict):
        return bool(wanted == value)
    ((kind, given),) = wanted.items()
    if kind == "anything-but":
        return value is not None and value not in given
    assert kind == "wildcard", kind
    return re.fullmatch(".*".join(map(re.escape, given.split("*"))), str(value)) is not None


def woken(given: Mapping[str, Any]) -> set[str]:
    """The rules that an event wakes."""
    return {name for name, rule in everything().of("AWS::Events::Rule").items() if matches(rule["EventPattern"], given)}


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        (run_changed(), {"RunEnded"}),
        (run_changed(status="Failed"), {"RunEnded"}),
        (run_changed(status="Stopped"), {"RunEnded"}),
        (run_changed("team-case-dev-training"), {"RunEnded"}),
        (run_changed("team-case-dev-training", "Failed"), {"RunEnded"}),
        (package_changed(), {"ModelApproved"}),
        (package_changed(approval="PendingManualApproval"), {"ModelWaits"}),
        (object_created("team/case/data/2026-11-24/train/_SUCCESS"), {"LabelsCreated"}),
        (object_created("team/case/data/2026-11-24/labels/_SUCCESS"), {"LabelsCreated"}),
        (object_created("team/case/data/2026-11-24/validation/_SUCCESS"), {"LabelsCreated"}),
        (parameter_changed(), {"ReleaseWritten"}),
    ],
)
def test_an_event_wakes_its_rule(given: Mapping[str, Any], rules: set[str]) -> None:
    assert woken(given) == rules


def near_misses() -> Iterator[dict[str, Any]]:
    yield run_changed(status="Executing")
    yield run_changed(status="Stopping")
    yield run_changed("team-case-prod-inference")
    yield run_changed("team-case-dev-inference-2")
    yield {**run_changed(), "detail-type": "SageMaker Model Building Pipeline Execution Step Status Change"}
    yield {**run_changed(), "source": "somebody.else"}
    yield package_changed("team-case-prod")
    yield package_changed("team-case-dev-2")
    yield package_changed(approval="Rejected")
    yield parameter_changed("/team/case/prod/release")
    yield parameter_changed("/team/case/dev/retraining")
    yield parameter_changed(operation="Delete")
    yield object_created("team/case/data/2026-11-24/production/_SUCCESS")
    yield object_created("team/case/data/2026-11-24/train/part-0.parquet")  # there may be more to come
    yield object_created("team/case/dev/training/p4jn9xou8a8s/PrepareTrainingData/train/_SUCCESS")
    yield object_created("team/case2/data/2026-11-24/train/_SUCCESS")
    yield object_created("team/case/data/train/_SUCCESS")
    yield object_created("team/case/data/2026-11-24/train/_SUCCESS", "another-bucket")
    yield {**object_created("team/case/data/2026-11-24/train/_SUCCESS"), "detail-type": "Object Deleted"}


@pytest.mark.parametrize("given", list(near_misses()), ids=str)
def test_a_near_miss_wakes_nothing(given: Mapping[str, Any]) -> None:
    assert woken(given) == set()


def test_a_rule_may_invoke_its_function_and_what_it_can_not_deliver_is_kept() -> None:
    stack = everything()
    functions = {
        f"arn:aws:lambda:{HERE}:function:{entry['FunctionName']}"
        for entry in stack.of("AWS::Lambda::Function").values()
    }
    permitted = {
        (f"arn:aws:lambda:{HERE}:function:{entry['FunctionName']}", entry["SourceArn"])
        for entry in stack.of("AWS::Lambda::Permission").values()
    }
    for rule in stack.of("AWS::Events::Rule").values():
        for target in rule["Targets"]:
            assert target["DeadLetterConfig"]["Arn"].endswith("team-case-dev-dead-letters")
            source = f"arn:aws:events:{HERE}:rule/{rule['Name']}"
            assert target["Arn"] not in functions or (target["Arn"], source) in permitted
            (statement,) = stack.of("AWS::SQS::QueuePolicy")["DeadLettersPolicy"]["PolicyDocument"]["Statement"]
            assert fnmatch.fnmatchcase(source, statement["Condition"]["ArnLike"]["aws:SourceArn"])


def test_the_schedule_asks_for_the_newest_window() -> None:
    schedule = everything(Schedule="rate(1 day)").of("AWS::Scheduler::Schedule")["InferenceSchedule"]
    assert schedule["ScheduleExpression"] == "rate(1 day)"
    assert json.loads(schedule["Target"]["Input"]) == {"window": ""}
    assert schedule["Target"]["Arn"].endswith(":function:team-case-dev-start-inference")
    assert schedule["Target"]["DeadLetterConfig"]["Arn"].endswith(":team-case-dev-dead-letters")


@pytest.mark.parametrize(
    "statements",
    [
        everything().of("AWS::SNS::TopicPolicy")["TopicPolicy"]["PolicyDocument"]["Statement"],
        storage(CreateKey="true").of("AWS::KMS::Key")["Key"]["KeyPolicy"]["Statement"],
    ],
    ids=["topic", "key"],
)
def test_what_sends_notices_is_held_to_its_source_wherever_aws_documents_a_condition(statements: Any) -> None:
    """ "Key management" (SNS guide) asks for both keys, and says that none is supported for EventBridge.

    Nor in a topic's policy: "Using resource-based policies for Amazon EventBridge" in its user guide.
    """
    services = [entry for entry in statements if "Service" in entry["Principal"]]
    conditions = {
        service: {key: value for its in entry.get("Condition", {}).values() for key, value in its.items()}
        for entry in services
        for service in listed(entry["Principal"]["Service"])
    }
    own = {"aws:SourceAccount": ACCOUNT}
    assert conditions == {
        "events.amazonaws.com": {},
        "cloudwatch.amazonaws.com": own | {"aws:SourceArn": f"arn:aws:cloudwatch:{HERE}:alarm:team-case-dev-*"},
        "budgets.amazonaws.com": own | {"aws:SourceArn": f"arn:aws:budgets::{ACCOUNT}:*"},
    }
    for alarm in everything().of("AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmName"].startswith("team-case-dev-")


def test_every_queue_and_function_holds_services_to_their_source() -> None:
    """Whatever else a service may call: the rule by its ARN ("Amazon SQS permissions", EventBridge user guide)."""
    stack = everything()
    for permission in stack.of("AWS::Lambda::Permission").values():
        assert permission["SourceArn"].startswith(f"arn:aws:events:{HERE}:rule/team-case-dev-")
    [queue] = stack.of("AWS::SQS::QueuePolicy")["DeadLettersPolicy"]["PolicyDocument"]["Statement"]
    assert queue["Condition"]["ArnLike"]["aws:SourceArn"].startswith(f"arn:aws:events:{HERE}:rule/team-case-dev-")
    for role in stack.of("AWS::IAM::Role").values():
        [trusted] = role["AssumeRolePolicyDocument"]["Statement"]
        if (service := trusted["Principal"].get("Service")) and service != "lambda.amazonaws.com":
            assert trusted["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}, service
