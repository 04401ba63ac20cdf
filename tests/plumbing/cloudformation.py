"""A stand-in for CloudFormation: change sets, stacks and events of infra/*.yaml, one step at each look.

moto compares templates without their parameters and never fails a stack, so it can't stand here. This decides the
conditions, asks that a bucket does not exist yet and that a function's code does, fails where it is told to, and holds
requests and answers against botocore's model. It knows no permissions, no quotas and no property of a resource: that a
template can be deployed at all, only an account shows.

What the documentation says is refused, it refuses (pages of the CloudFormation user guide, read in November 2026):
- a template of more than 51,200 bytes in the request ("CloudFormation quotas"), and an address that is no object's;
- a type that the region lacks, even where its condition is false (cfn-lint's schemas say which);
- a reference to what the template does not have, even in a branch that is not taken (rule E1010 of cfn-lint);
- ImportExistingResources takes over what has a static name and an identifier that can be written, nothing else
  ("Import AWS resources into a CloudFormation stack automatically");
- an import that brings other resources than those it names, one without DeletionPolicy, an identifier that is not the
  type's primary one, a resource that is not there, or outputs ("… with a resource import"; outputs by public reports);
- what is left of a first creation that failed is deleted, unless its DeletionPolicy is Retain ("DeletionPolicy");
- a stack with termination protection is not deleted ("Protect CloudFormation stacks from being deleted").
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any

import boto3
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from botocore.waiter import NormalizedOperationMethod
from cfnlint.decode import decode_str  # type: ignore[import-untyped, unused-ignore]
from cfnlint.schema import ResourceNotFoundError  # type: ignore[import-untyped, unused-ignore]
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped, unused-ignore]
from moto.sagemaker.models import sagemaker_backends

from plumbing.stack.template import ACCOUNT, KEY, PSEUDO, REGION, Stack
from plumbing.unreliable_services import Wire

START = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
EMPTY = "The submitted information didn't contain changes. Submit different information to create a change set."
LONGEST = 51_200
ARN = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}"
RETAINED = ("Retain", "RetainExceptOnCreate")
NAMES = {"AWS::S3::Bucket": "BucketName", "AWS::SageMaker::ModelPackageGroup": "ModelPackageGroupName"}
PROTECTED = "EnableTerminationProtection"
Request = Mapping[str, Any]


class CloudFormation:
    """Stands for a boto3 client. `failing` is resource → reason, for all that is done to it from now on."""

    def __init__(self, wire: Callable[[], Wire], past: Callable[[str], Any]) -> None:
        self._real = boto3.client("cloudformation", region_name=REGION)
        self.meta = self._real.meta
        self._wire, self._past = wire, past
        self.stacks: dict[str, dict[str, Any]] = {}
        self.failing: dict[str, str] = {}
        self.page, self.region = 15, REGION

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
        names = ("StackId", "StackName", "CreationTime", "StackStatus", "Tags", "Outputs", "Parameters")
        return {"Stacks": [{name: stack[name] for name in (*names, PROTECTED)}]}

    def do_describe_stack_resource(self, request: Request) -> Any:
        stack, name = self.stack(request["StackName"]), request["LogicalResourceId"]
        if name not in stack["resources"]:
            raise error("DescribeStackResource", "ValidationError", f"Resource {name} does not exist for stack")
        about = {"LogicalResourceId": name, "ResourceType": stack["resources"][name]["Type"]}
        about |= {"PhysicalResourceId": KEY.rpartition("/")[2], "ResourceStatus": "CREATE_COMPLETE"}
        return {"StackResourceDetail": about | {"LastUpdatedTimestamp": START}}

    def do_update_termination_protection(self, request: Request) -> None:
        self.stack(request["StackName"])[PROTECTED] = request[PROTECTED]

    def do_describe_stack_events(self, request: Request) -> Any:
        events, first = self.stack(request["StackName"])["events"][::-1], int(request.get("NextToken", 0))
        more = {"NextToken": str(first + self.page)} if len(events) > first + self.page else {}
        return {"StackEvents": events[first : first + self.page], **more}

    def alive(self) -> list[dict[str, Any]]:
        return [its for its in self.stacks.values() if its["StackStatus"] != "DELETE_COMPLETE"]

    # ---- change sets

    def do_create_change_set(self, request: Request) -> Any:
        name, body = request["StackName"], self._template(request)
        assert "CAPABILITY_NAMED_IAM" in request["Capabilities"]
        if request["ChangeSetType"] in ("CREATE", "IMPORT"):
            there = [its for its in self.alive() if its["StackName"] == name]
            assert all(its["StackStatus"] == "REVIEW_IN_PROGRESS" for its in there)
            stack = there[0] if there else self._new(name, request["Tags"])
        else:
            stack = self.stack(name)
            done = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")
            if stack["StackStatus"] not in done:
                raise refused(f"Stack is in {stack['StackStatus']} state")
        if request["ChangeSetName"] in stack["change sets"]:
            raise error("CreateChangeSet", "AlreadyExistsException", f"ChangeSet {name} already exists")
        arn = f"{ARN}:changeSet/{request['ChangeSetName']}/{len(stack['events']):08}"
        wanted = Stack(body, **given(request, body))
        if request["ChangeSetType"] == "IMPORT":
            found = self._imported(stack, body, wanted, request["ResourcesToImport"])
        else:
            assert "ResourcesToImport" not in request
            found = self._compared(stack, body, wanted, bool(request.get("ImportExistingResources")))
        change_set = {"arn": arn, "looks": 0, "changes": found, "stack": stack, "wanted": wanted, "body": body}
        stack["change sets"][request["ChangeSetName"]] = change_set | {"values": request["Parameters"]}
        self._tell_itself(stack, "REVIEW_IN_PROGRESS")
        return {"Id": arn, "StackId": stack["StackId"]}

    def _template(self, request: Request) -> dict[str, Any]:
        """What is sent, or what lies at its address."""
        text = request.get("TemplateBody", "")
        if len(text.encode()) > LONGEST:
            raise refused(f"templateBody must have length less than or equal to {LONGEST}")
        if url := request.get("TemplateURL"):
            host, _, key = url.removeprefix("https://").partition("/")
            bucket, found = host.partition(f".s3.{self.region}.amazonaws.com")[:2]
            try:
                text = self._past("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode() if found else ""
            except ClientError:
                text = ""
            if not text:
                raise refused("S3 error: The specified key does not exist.")
        body: dict[str, Any] = parsed(text)
        if unknown := [entry["Type"] for entry in body["Resources"].values() if not known(self.region, entry["Type"])]:
            raise refused(f"Template format error: Unrecognized resource types: {unknown}")
        if lost := sorted(
            set(references(body["Resources"])) - {*body["Resources"], *body["Parameters"], *PSEUDO, "AWS::NoValue"}
        ):
            raise refused(f"Template format error: Unresolved resource dependencies {lost} in the Resources block")
        return body

    def _new(self, name: str, tags: list[dict[str, str]]) -> dict[str, Any]:
        arn = f"{ARN}:stack/{name}/{len(self.stacks):012}"
        about: dict[str, Any] = {"StackId": arn, "StackName": name, "StackStatus": "REVIEW_IN_PROGRESS", "Tags": tags}
        about |= {"Outputs": [], "Parameters": [], PROTECTED: False}
        state = {"resources": {}, "policies": {}, "events": [], "change sets": {}, "ahead": [], "CreationTime": START}
        self.stacks[arn] = about | state
        return self.stacks[arn]

    def _compared(self, stack: dict[str, Any], body: Any, wanted: Stack, imports: bool) -> list[dict[str, Any]]:
        now, found = stack["resources"], []
        for name, entry in wanted.resources.items():
            about = {"LogicalResourceId": name, "ResourceType": entry["Type"]}
            if name not in now:
                taken = imports and self._exists(entry) and importable(body["Resources"][name])
                found.append({"Action": "Import" if taken else "Add", **about})
            elif now[name] != entry:
                found.append({"Action": "Modify", "Replacement": replaced(now[name], entry), **about})
        for name in now:
            if name not in wanted.resources:
                about = {"LogicalResourceId": name, "ResourceType": now[name]["Type"]}
                policy = "Retain" if stack["policies"].get(name) in RETAINED else "Delete"
                found.append({"Action": "Remove", "PolicyAction": policy, **about})
        return [{"Type": "Resource", "ResourceChange": its} for its in found]

    def _imported(self, stack: dict[str, Any], body: Any, wanted: Stack, given: Any) -> list[dict[str, Any]]:
        named = {its["LogicalResourceId"]: its for its in given}
        if set(wanted.resources) - set(stack["resources"]) != set(named):
            raise refused("As part of the import operation, you cannot modify or add resources that are not imported")
        if body.get("Outputs"):
            raise refused("As part of the import operation, you cannot modify or add [Outputs]")
        for name, its in named.items():
            kind, entry = its["ResourceType"], wanted.resources[name]
            if body["Resources"][name].get("DeletionPolicy") is None:
                raise refused(f"Resources [{name}] is missing DeletionPolicy attribute")
            if set(its["ResourceIdentifier"]) != identifier(kind):
                raise refused(f"{name}: {kind} is identified by {identifier(kind)}")
            if not self._exists(entry):
                raise refused(f"{name}: {its['ResourceIdentifier']} was not found")
        kinds = {name: its["ResourceType"] for name, its in named.items()}
        found = [{"Action": "Import", "LogicalResourceId": name, "ResourceType": kind} for name, kind in kinds.items()]
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
        verb = "IMPORT" if {entry["ResourceChange"]["Action"] for entry in its["changes"]} == {"Import"} else verb
        stack["change sets"] = {}
        # the first look may still see what was there before
        stack["ahead"] = [lambda: None, partial(self._begin, stack, verb), partial(self._carry_out, stack, its, verb)]

    def _begin(self, stack: dict[str, Any], verb: str) -> None:
        stack["StackStatus"] = f"{verb}_IN_PROGRESS"
        self._tell_itself(stack, stack["StackStatus"])

    def _carry_out(self, stack: dict[str, Any], its: dict[str, Any], verb: str) -> None:
        wanted, failed, made = its["wanted"], "", []
        for change in (entry["ResourceChange"] for entry in its["changes"]):
            name, action = change["LogicalResourceId"], change["Action"]
            word = {"Modify": "UPDATE", "Import": "IMPORT"}.get(action, "CREATE")
            entry = wanted.resources.get(name, {})
            why = "Resource creation cancelled" if failed else self._refused(name, action, entry)
            failed = failed or why
            if action == "Add" and not why:
                made.append(name)
            status = f"{word}_FAILED" if why else f"{word}_COMPLETE"
            self._tell(stack, (name, change["ResourceType"], f"{name}-made"), status, why)
        policies = {name: entry.get("DeletionPolicy") for name, entry in its["body"]["Resources"].items()}
        stack["StackStatus"] = f"{verb}_COMPLETE"
        if failed:
            stack["StackStatus"] = "ROLLBACK_COMPLETE" if verb == "CREATE" else f"{verb}_ROLLBACK_COMPLETE"
            for name in made:
                if policies[name] != "Retain":
                    self._unmake(wanted.resources[name])
        else:
            stack |= {"resources": wanted.resources, "policies": policies, "Parameters": its["values"]}
            outputs = its["body"].get("Outputs", {})
            stack["Outputs"] = [
                {"OutputKey": name, "OutputValue": value, "Description": outputs[name]["Description"]}
                for name, value in wanted.outputs.items()
            ]
        self._tell_itself(stack, stack["StackStatus"])

    def _refused(self, name: str, action: str, entry: Mapping[str, Any]) -> str:
        """Why it can't be made; what others look at afterwards is made."""
        if name in self.failing:
            return self.failing[name]
        if action == "Add" and self._exists(entry):
            return f"{name} already exists"
        if code := entry.get("Properties", {}).get("Code"):
            keys = self._past("s3").list_objects_v2(Bucket=code["S3Bucket"]).get("Contents", [])
            return "" if code["S3Key"] in [its["Key"] for its in keys] else "The specified key does not exist."
        if action == "Add" and entry["Type"] in NAMES:
            properties = entry["Properties"]
            called, tags = properties[NAMES[entry["Type"]]], properties["Tags"]
            if entry["Type"] == "AWS::S3::Bucket":
                place = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
                self._past("s3").create_bucket(Bucket=called, **place)
                self._past("s3").put_bucket_tagging(Bucket=called, Tagging={"TagSet": tags})
            else:
                self._past("sagemaker").create_model_package_group(ModelPackageGroupName=called, Tags=tags)
        return ""

    def _unmake(self, entry: Mapping[str, Any]) -> None:
        if entry["Type"] == "AWS::S3::Bucket":
            self._past("s3").delete_bucket(Bucket=entry["Properties"]["BucketName"])
        if entry["Type"] == "AWS::SageMaker::ModelPackageGroup":
            forget_group(entry["Properties"]["ModelPackageGroupName"])

    def _exists(self, entry: Mapping[str, Any]) -> bool:
        if entry.get("Type") not in NAMES:
            return False
        name = entry["Properties"][NAMES[entry["Type"]]]
        if entry["Type"] == "AWS::S3::Bucket":
            return name in [its["Name"] for its in self._past("s3").list_buckets()["Buckets"]]
        listed = self._past("sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"]
        return name in [its["ModelPackageGroupName"] for its in listed]

    def do_delete_stack(self, request: Request) -> None:
        stack = self.stack(request["StackName"], "DeleteStack")
        if stack["StackStatus"] == "REVIEW_IN_PROGRESS":
            stack["StackStatus"] = "DELETE_COMPLETE"
            return
        if stack[PROTECTED]:
            why = f"Stack [{stack['StackName']}] cannot be deleted while TerminationProtection is enabled"
            raise error("DeleteStack", "ValidationError", why)
        stack["ahead"] = [partial(self._begin, stack, "DELETE"), partial(self._deleted, stack)]

    def _deleted(self, stack: dict[str, Any]) -> None:
        for name, entry in stack["resources"].items():
            if name in self.failing:
                self._tell(stack, (name, entry["Type"], f"{name}-made"), "DELETE_FAILED", self.failing[name])
            elif stack["policies"].get(name) not in RETAINED:
                self._unmake(entry)
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


def refused(message: str) -> ClientError:
    return error("CreateChangeSet", "ValidationError", message)


def given(request: Request, body: Mapping[str, Any]) -> dict[str, str]:
    """The parameters; all and only those that the template knows."""
    values = {entry["ParameterKey"]: entry["ParameterValue"] for entry in request["Parameters"]}
    assert set(values) == set(body["Parameters"])
    return values


def forget_group(name: str) -> None:
    """In the place of DeleteModelPackageGroup, which moto lacks."""
    sagemaker_backends[ACCOUNT][REGION].model_package_groups.pop(name)


@cache
def parsed(body: str) -> Any:
    return dict(decode_str(body)[0])


@cache
def known(region: str, kind: str) -> bool:
    """Whether CloudFormation has the type in the region."""
    try:
        PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, kind)
    except ResourceNotFoundError:
        return False
    return True


def references(node: Any) -> Iterator[str]:
    """The names that Ref, GetAtt, Sub and DependsOn ask for, in whatever branch."""
    for key, its in node.items() if isinstance(node, dict) else ():
        if key in ("Ref", "DependsOn") and isinstance(its, str):
            yield its
        if key == "Fn::GetAtt":
            yield its[0]
        if key == "Fn::Sub":
            yield from (name.partition(".")[0] for name in re.findall(r"\$\{([\w:.]+)\}", its))
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(inner)


def identifier(kind: str) -> set[str]:
    """The properties that make the type's primary identifier."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    return {name.removeprefix("/properties/") for name in schema["primaryIdentifier"]}


def importable(entry: Mapping[str, Any]) -> bool:
    """Whether ImportExistingResources takes it: kept, and its primary identifier is a text in the template."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, entry["Type"]).schema
    static = all(isinstance(entry["Properties"].get(name), str) for name in identifier(entry["Type"]))
    read_only = set(schema["primaryIdentifier"]) & set(schema.get("readOnlyProperties", []))
    return entry.get("DeletionPolicy") in RETAINED and static and not read_only


def replaced(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [entry["Properties"].get("BucketName") for entry in (now, wanted)]
    return "True" if names[0] != names[1] else "False"
