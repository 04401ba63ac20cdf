"""A stand-in for CloudFormation: change sets, stacks and events of infra/stack.yaml, one step at each look.

moto compares templates without their parameters and never fails a stack, so it can't stand here. This decides the
conditions, asks that a bucket does not exist yet and that a function's code does, fails where it is told to, and holds
requests and answers against botocore's model. It knows no permissions, no quotas and no property of a resource: that a
template can be deployed at all, only an account shows.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any

import boto3
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from botocore.waiter import NormalizedOperationMethod
from cfnlint.decode import decode_str  # type: ignore[import-untyped, unused-ignore]

from plumbing.stack.template import ACCOUNT, REGION, Stack, template
from plumbing.test_bootstrap import Wire

START = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
EMPTY = "The submitted information didn't contain changes. Submit different information to create a change set."
LONGEST = 51_200
ARN = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}"
KEPT = ("Bucket", "Key", "Models")
Request = Mapping[str, Any]


class CloudFormation:
    """Stands for a boto3 client. `failing` is resource → reason, for all that is done to it from now on."""

    def __init__(self, wire: Callable[[], Wire], past: Callable[[str], Any]) -> None:
        self._real = boto3.client("cloudformation", region_name=REGION)
        self.meta = self._real.meta
        self._wire, self._past = wire, past
        self.stacks: dict[str, dict[str, Any]] = {}
        self.failing: dict[str, str] = {}
        self.page = 15

    def get_paginator(self, method: str) -> Any:
        """botocore's own, of this stand-in's answers."""
        found = self._real.get_paginator(method)
        found._method = getattr(self, method)
        return found

    def get_waiter(self, name: str) -> Any:
        """As `get_paginator`."""
        found = self._real.get_waiter(name)
        found._operation_method = NormalizedOperationMethod(getattr(self, xform_name(found.config.operation)))
        return found

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return partial(self._called, self.meta.method_to_api_mapping[method], method)

    def _called(self, operation: str, method: str, **request: Any) -> Any:
        """Past the wire, which may refuse it, keep silent, or lose the answer."""
        model = self.meta.service_model.operation_model(operation)
        assert not ParamValidator().validate(request, model.input_shape).has_errors(), request
        self._wire().before_send(None, f"before-send.cloudformation.{operation}")
        answer = type(self).__dict__[f"do_{method}"](self, request) or {}
        if model.output_shape:
            report = ParamValidator().validate(answer, model.output_shape).generate_report().splitlines()
            assert [line for line in report if line and not line.startswith("Missing required")] == []
        self._wire().after_call()
        return answer

    def time_passes(self) -> None:
        """What was begun is seen to have begun."""
        for stack in self.stacks.values():
            for step in stack["ahead"][:2]:
                step()
            stack["ahead"] = stack["ahead"][2:]

    # ---- what is there

    def stack(self, name: str, operation: str = "DescribeStacks") -> dict[str, Any]:
        for stack in reversed(self.stacks.values()):
            if name == stack["StackId"] or (name == stack["StackName"] and stack["StackStatus"] != "DELETE_COMPLETE"):
                return stack
        raise error(operation, "ValidationError", f"Stack with id {name} does not exist")

    def do_describe_stacks(self, request: Request) -> Any:
        stack = self.stack(request["StackName"])
        if stack["ahead"]:
            stack["ahead"].pop(0)()
        names = ("StackId", "StackName", "CreationTime", "StackStatus", "Tags", "Outputs")
        return {"Stacks": [{name: stack[name] for name in names}]}

    def do_describe_stack_events(self, request: Request) -> Any:
        events, first = self.stack(request["StackName"])["events"][::-1], int(request.get("NextToken", 0))
        more = {"NextToken": str(first + self.page)} if len(events) > first + self.page else {}
        return {"StackEvents": events[first : first + self.page], **more}

    def alive(self) -> list[dict[str, Any]]:
        return [its for its in self.stacks.values() if its["StackStatus"] != "DELETE_COMPLETE"]

    # ---- change sets

    def do_create_change_set(self, request: Request) -> Any:
        name, values = request["StackName"], given(request)
        assert len(request["TemplateBody"].encode()) <= LONGEST
        assert parsed(request["TemplateBody"]) == template()
        assert "CAPABILITY_NAMED_IAM" in request["Capabilities"]
        if request["ChangeSetType"] == "CREATE":
            there = [its for its in self.alive() if its["StackName"] == name]
            assert all(its["StackStatus"] == "REVIEW_IN_PROGRESS" for its in there)
            stack = there[0] if there else self._new(name, request["Tags"])
        else:
            stack = self.stack(name)
            if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"):
                raise error("CreateChangeSet", "ValidationError", f"Stack is in {stack['StackStatus']} state")
        if request["ChangeSetName"] in stack["change sets"]:
            raise error("CreateChangeSet", "AlreadyExistsException", f"ChangeSet {name} already exists")
        arn = f"{ARN}:changeSet/{request['ChangeSetName']}/{len(stack['events']):08}"
        found = self._compared(stack, values, bool(request.get("ImportExistingResources")))
        change_set = {"arn": arn, "looks": 0, "changes": found, "values": values, "stack": stack}
        stack["change sets"][request["ChangeSetName"]] = change_set
        self._tell_itself(stack, "REVIEW_IN_PROGRESS")
        return {"Id": arn, "StackId": stack["StackId"]}

    def _new(self, name: str, tags: list[dict[str, str]]) -> dict[str, Any]:
        arn = f"{ARN}:stack/{name}/{len(self.stacks):012}"
        about = {"StackId": arn, "StackName": name, "StackStatus": "REVIEW_IN_PROGRESS", "Tags": tags, "Outputs": []}
        state = {"resources": {}, "events": [], "change sets": {}, "ahead": [], "CreationTime": START}
        self.stacks[arn] = about | state
        return self.stacks[arn]

    def _compared(self, stack: dict[str, Any], values: dict[str, str], imports: bool) -> list[dict[str, Any]]:
        now, wanted = stack["resources"], Stack(**values).resources
        found = []
        for name, entry in wanted.items():
            about = {"LogicalResourceId": name, "ResourceType": entry["Type"]}
            if name not in now:
                taken = imports and name in KEPT and self._exists(name, values)
                found.append({"Action": "Import" if taken else "Add", **about})
            elif now[name] != entry:
                found.append({"Action": "Modify", "Replacement": replaced(now[name], entry), **about})
        gone = [name for name in now if name not in wanted]
        for name in gone:
            about = {"LogicalResourceId": name, "ResourceType": now[name]["Type"]}
            found.append({"Action": "Remove", "PolicyAction": "Retain" if name in KEPT else "Delete", **about})
        return [{"Type": "Resource", "ResourceChange": its} for its in found]

    def _change_set(self, request: Request, operation: str) -> dict[str, Any]:
        for stack in self.stacks.values():
            for name, its in stack["change sets"].items():
                if request["ChangeSetName"] == its["arn"]:
                    return dict(its)
                if (request["ChangeSetName"], request.get("StackName")) == (name, stack["StackName"]):
                    return dict(its)
        raise error(operation, "ChangeSetNotFound", "ChangeSet does not exist")

    def do_describe_change_set(self, request: Request) -> Any:
        its, first = self._change_set(request, "DescribeChangeSet"), int(request.get("NextToken", 0))
        for change_set in its["stack"]["change sets"].values():
            change_set["looks"] += 1
        if not its["looks"]:
            return {"Status": "CREATE_IN_PROGRESS", "Changes": []}
        if not its["changes"]:
            return {"Status": "FAILED", "StatusReason": EMPTY, "Changes": []}
        more = {"NextToken": str(first + self.page)} if len(its["changes"]) > first + self.page else {}
        return {"Status": "CREATE_COMPLETE", "Changes": its["changes"][first : first + self.page], **more}

    def do_list_change_sets(self, request: Request) -> Any:
        names = self.stack(request["StackName"], "ListChangeSets")["change sets"]
        return {"Summaries": [{"ChangeSetName": name} for name in names]}

    def do_delete_change_set(self, request: Request) -> None:
        its = self._change_set(request, "DeleteChangeSet")
        sets = its["stack"]["change sets"]
        its["stack"]["change sets"] = {name: kept for name, kept in sets.items() if kept["arn"] != its["arn"]}

    # ---- carrying it out

    def do_execute_change_set(self, request: Request) -> None:
        its = self._change_set(request, "ExecuteChangeSet")
        stack = its["stack"]
        verb = "CREATE" if stack["StackStatus"] == "REVIEW_IN_PROGRESS" else "UPDATE"
        stack["change sets"] = {}
        # the first look may still see what was there before
        stack["ahead"] = [lambda: None, partial(self._begin, stack, verb), partial(self._carry_out, stack, its, verb)]

    def _begin(self, stack: dict[str, Any], verb: str) -> None:
        stack["StackStatus"] = f"{verb}_IN_PROGRESS"
        self._tell_itself(stack, stack["StackStatus"])

    def _carry_out(self, stack: dict[str, Any], its: dict[str, Any], verb: str) -> None:
        wanted = Stack(**its["values"])
        failed = ""
        for change in (entry["ResourceChange"] for entry in its["changes"]):
            name, word = change["LogicalResourceId"], "UPDATE" if change["Action"] == "Modify" else "CREATE"
            why = "Resource creation cancelled" if failed else self._refused(name, change["Action"], its["values"])
            failed = failed or why
            status = f"{word}_FAILED" if why else f"{word}_COMPLETE"
            self._tell(stack, (name, change["ResourceType"], f"{name}-made"), status, why)
        stack["StackStatus"] = f"{verb}_COMPLETE"
        if failed:
            stack["StackStatus"] = "ROLLBACK_COMPLETE" if verb == "CREATE" else "UPDATE_ROLLBACK_COMPLETE"
        else:
            stack["resources"] = wanted.resources
            values = zip(template()["Outputs"].items(), wanted.outputs, strict=False)
            described = [(name, entry["Description"], value) for (name, entry), value in values]
            stack["Outputs"] = [
                {"OutputKey": name, "OutputValue": value, "Description": text} for name, text, value in described
            ]
        self._tell_itself(stack, stack["StackStatus"])

    def _refused(self, name: str, action: str, values: dict[str, str]) -> str:
        """Why it can't be made; what others look at afterwards is made."""
        if name in self.failing:
            return self.failing[name]
        if action == "Add" and name in KEPT and self._exists(name, values):
            return f"{name} already exists"
        if name == "StartInference":
            keys = self._past("s3").list_objects_v2(Bucket=values["BucketName"]).get("Contents", [])
            return "" if values["FunctionsKey"] in [its["Key"] for its in keys] else "The specified key does not exist."
        tags = [{"Key": key.lower(), "Value": values[key]} for key in ("Namespace", "Usecase", "Environment")]
        if action == "Add" and name == "Bucket":
            place = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
            self._past("s3").create_bucket(Bucket=values["BucketName"], **place)
            self._past("s3").put_bucket_tagging(Bucket=values["BucketName"], Tagging={"TagSet": tags})
        if action == "Add" and name == "Models":
            self._past("sagemaker").create_model_package_group(ModelPackageGroupName=group(values), Tags=tags)
        return ""

    def _exists(self, name: str, values: dict[str, str]) -> bool:
        if name == "Bucket":
            return values["BucketName"] in [its["Name"] for its in self._past("s3").list_buckets()["Buckets"]]
        listed = self._past("sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"]
        return name == "Models" and group(values) in [its["ModelPackageGroupName"] for its in listed]

    def do_delete_stack(self, request: Request) -> None:
        stack = self.stack(request["StackName"], "DeleteStack")
        if stack["StackStatus"] == "REVIEW_IN_PROGRESS":
            stack["StackStatus"] = "DELETE_COMPLETE"
            return
        stack["ahead"] = [partial(self._begin, stack, "DELETE"), partial(self._deleted, stack)]

    def _deleted(self, stack: dict[str, Any]) -> None:
        for name, entry in stack["resources"].items():
            if name in self.failing:
                self._tell(stack, (name, entry["Type"], f"{name}-made"), "DELETE_FAILED", self.failing[name])
        stack["StackStatus"] = "DELETE_FAILED" if set(self.failing) & set(stack["resources"]) else "DELETE_COMPLETE"
        self._tell_itself(stack, stack["StackStatus"])

    def _tell_itself(self, stack: dict[str, Any], status: str) -> None:
        self._tell(stack, (stack["StackName"], "AWS::CloudFormation::Stack", stack["StackId"]), status)

    def _tell(self, stack: dict[str, Any], resource: tuple[str, str, str], status: str, why: str = "") -> None:
        (name, kind, identity), number = resource, len(stack["events"])
        about = {"StackId": stack["StackId"], "StackName": stack["StackName"], "EventId": f"{name}-{number}"}
        about |= {"LogicalResourceId": name, "ResourceType": kind, "ResourceStatus": status}
        about |= {"PhysicalResourceId": identity} | ({"ResourceStatusReason": why} if why else {})
        stack["events"].append(about | {"Timestamp": START + timedelta(seconds=number)})


def error(operation: str, code: str, message: str) -> ClientError:
    about = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(about, operation)


def given(request: Request) -> dict[str, str]:
    """The parameters; all and only those that the template knows."""
    values = {entry["ParameterKey"]: entry["ParameterValue"] for entry in request["Parameters"]}
    assert set(values) == set(template()["Parameters"])
    return values


@cache
def parsed(body: str) -> Any:
    return dict(decode_str(body)[0])


def group(values: dict[str, str]) -> str:
    return f"{values['Namespace']}-{values['Usecase']}-{values['Environment']}"


def replaced(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [entry["Properties"].get("BucketName") for entry in (now, wanted)]
    return "True" if names[0] != names[1] else "False"
