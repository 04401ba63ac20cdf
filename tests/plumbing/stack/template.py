"""The templates of infra/ as CloudFormation would make them: conditions decided, names and ARNs for references."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from cfnlint.decode.cfn_yaml import load  # type: ignore[import-untyped, unused-ignore]

from plumbing.rendered import ROOT

FILES = {name: ROOT / "infra" / f"{name}.yaml" for name in ("stack", "storage", "deployer")}
REGION, ACCOUNT = "eu-central-1", "123456789012"
HERE = f"{REGION}:{ACCOUNT}"
CODE = "euc1"  # of the region
PSEUDO = {"AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT}
BUCKET = f"team-case-dev-{ACCOUNT}-{CODE}"
REQUIRED = {
    "Namespace": "team",
    "Usecase": "case",
    "Environment": "dev",
    "RegionCode": CODE,
    "BucketName": BUCKET,
    "FunctionsKey": "team/case/dev/functions/0.zip",
}
KEY = f"arn:aws:kms:{HERE}:key/11111111-2222-3333-4444-555555555555"
ARNS = {
    "AWS::Events::Rule": f"arn:aws:events:{HERE}:rule/{{Name}}",
    "AWS::IAM::ManagedPolicy": f"arn:aws:iam::{ACCOUNT}:policy/{{ManagedPolicyName}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{RoleName}}",
    "AWS::KMS::Key": KEY,
    "AWS::Lambda::Function": f"arn:aws:lambda:{HERE}:function:{{FunctionName}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{HERE}:log-group:{{LogGroupName}}:*",
    "AWS::S3::Bucket": "arn:aws:s3:::{BucketName}",
    "AWS::SageMaker::ModelPackageGroup": f"arn:aws:sagemaker:{HERE}:model-package-group/{{ModelPackageGroupName}}",
    "AWS::SNS::Topic": f"arn:aws:sns:{HERE}:{{TopicName}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{HERE}:{{QueueName}}",
}
REFERRED_TO_BY_ARN = ("AWS::IAM::ManagedPolicy", "AWS::SageMaker::ModelPackageGroup", "AWS::SNS::Topic")
FUNCTIONS = {
    "start_inference": "StartInference",
    "after_inference": "AfterInference",
    "labels_arrived": "LabelsArrived",
    "publish_release": "PublishRelease",
}
OPTIONS = {
    "Schedule": "cron(0 6 * * ? *)",
    "NoticeEmail": "people@example.org",
    "MonthlyBudget": "100",
    "ConnectionArn": f"arn:aws:codeconnections:{HERE}:connection/1",
    "KmsKeyArn": KEY,
    "PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
    "SubnetIds": "subnet-1,subnet-2",
    "Approval": "Approved",
    "Catalog": "team_case_dev",
}
POLICIES = ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy")
Node = Mapping[str, Any]


class NotMade(Exception):
    """Something points at a resource whose condition does not hold."""


@cache
def template(name: str = "stack") -> dict[str, Any]:
    """As it is written, with the short forms (!Sub) as long ones."""
    return dict(load(str(FILES[name])))


class Stack:
    """The resources that these parameters lead to, by their logical names. Raises NotMade for a dangling reference.

    `body` is a template other than infra/stack.yaml.
    """

    def __init__(self, body: Mapping[str, Any] | None = None, /, **parameters: str) -> None:
        self._template = body or template()
        defaults = {name: entry.get("Default") for name, entry in self._template["Parameters"].items()}
        self._values = {**PSEUDO, **defaults, **REQUIRED, **parameters}
        everything = self._template["Resources"]
        self.resources = {name: self._made(entry) for name, entry in everything.items() if self._exists(name)}
        self.outputs = {
            name: self._resolve(entry["Value"])
            for name, entry in self._template.get("Outputs", {}).items()
            if "Condition" not in entry or self._holds({"Condition": entry["Condition"]})
        }

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the resources of a type."""
        return {name: entry["Properties"] for name, entry in self.resources.items() if entry["Type"] == kind}

    def statements(self, role: str) -> list[dict[str, Any]]:
        """What a role (its logical name) may do: its own policies, those it names, and those that name it."""
        properties = self.resources[role]["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for name, entry in self.of("AWS::IAM::ManagedPolicy").items():
            if self._reference(name) in properties.get("ManagedPolicyArns", []):
                documents.append(entry["PolicyDocument"])
        for entry in self.of("AWS::IAM::Policy").values():
            if properties["RoleName"] in entry["Roles"]:
                documents.append(entry["PolicyDocument"])
        return [statement for document in documents for statement in document["Statement"]]

    def _made(self, entry: Node) -> dict[str, Any]:
        return {"Type": entry["Type"], "Properties": self._resolve(entry["Properties"])}

    def _exists(self, name: str) -> bool:
        condition = self._template["Resources"][name].get("Condition")
        return condition is None or self._holds({"Condition": condition})

    def _holds(self, node: Node) -> bool:
        ((kind, given),) = node.items()
        if kind == "Condition":
            return self._holds(self._template["Conditions"][given])
        if kind == "Fn::Equals":
            first, second = (str(self._resolve(value)) for value in given)
            return first == second
        held = [self._holds(entry) for entry in given]
        return {"Fn::Not": not held[0], "Fn::And": all(held), "Fn::Or": any(held)}[kind]

    def _resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for entry in node if (value := self._resolve(entry)) is not None]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((kind, given),) = node.items()
            if kind in ("Ref", "Fn::GetAtt", "Fn::Sub", "Fn::Join", "Fn::If"):
                return self._call(kind, given)
        resolved = {str(key): self._resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not None}

    def _call(self, kind: str, given: Any) -> Any:
        if kind == "Ref":
            return self._value(given)
        if kind == "Fn::GetAtt":
            return self._attribute(*given)
        if kind == "Fn::If":
            return self._resolve(given[1] if self._holds({"Condition": given[0]}) else given[2])
        if kind == "Fn::Join":
            return given[0].join(self._resolve(given[1]))
        return re.sub(r"\$\{([\w:.]+)\}", lambda found: str(self._named(found[1])), given)

    def _named(self, name: str) -> Any:
        return self._attribute(*name.split(".")) if "." in name else self._value(name)

    def _value(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return None
        if name not in self._values:
            return self._reference(name)
        listed = self._template["Parameters"].get(name, {}).get("Type") == "CommaDelimitedList"
        return self._values[name].split(",") if listed else self._values[name]

    def _reference(self, name: str) -> str:
        kind = self._template["Resources"][name]["Type"]
        if kind in REFERRED_TO_BY_ARN:
            return self._attribute(name, "Arn")
        if not self._exists(name):
            raise NotMade(name)
        found = re.search(r"\{(\w+)\}", ARNS.get(kind, ""))
        return self._attribute(name, found[1]) if found else name

    def _attribute(self, name: str, attribute: str) -> str:
        entry = self._template["Resources"][name]
        if not self._exists(name):
            raise NotMade(name)
        if attribute != "Arn":
            return str(self._resolve(entry["Properties"][attribute]))
        return re.sub(r"\{(\w+)\}", lambda found: self._attribute(name, found[1]), ARNS[entry["Type"]])


def everything(**parameters: str) -> Stack:
    """The stack with all that can be in it."""
    return Stack(**{**OPTIONS, "SecurityGroupIds": "sg-1", "Approval": "PendingManualApproval", **parameters})


def storage(**parameters: str) -> Stack:
    """The stack of bucket, models and key."""
    return Stack(template("storage"), **parameters)


def texts(node: Any) -> Iterator[str]:
    """Every text in a structure."""
    if isinstance(node, str):
        yield node
    for entry in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from texts(entry)
