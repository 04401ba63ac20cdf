"""`operations deploy`: everything of one environment in AWS, brought to what this repository says.

Nothing is made or changed before it was shown and wanted; a second deployment changes nothing. What is written here
about CloudFormation was read in its documentation and tried against a stand-in, not against an account.
"""

import json
from dataclasses import dataclass
from typing import Any

from operations import parameters, upserting
from operations.deploying import changes, changesets, leftovers, packaging, readiness, states, summary, template
from operations.deploying.changesets import ChangeSet
from operations.deploying.consent import Consent
from operations.deploying.packaging import Package, Shelf
from operations.deploying.stack import Found, Stack
from operations.deploying.target import Target, opened, tag_list
from operations.failures import Failure
from operations.repository import Repository
from operations.upserting import Pipeline

CAPABILITIES = ["CAPABILITY_NAMED_IAM"]  # the roles have names
EMPTY_ARTIFACT = b'{"component": "none"}'  # stands for "no champion yet": a pipeline's inputs can't be optional


@dataclass(frozen=True)
class Deployment:
    """What is to be in AWS, and whether the user wants it."""

    target: Target
    stack: Stack
    package: Package
    pipelines: list[Pipeline]
    consent: Consent

    @property
    def key(self) -> str:
        return self.package.key(f"{self.target.storage}/{self.target.where.name}")

    @property
    def objects(self) -> dict[str, bytes]:
        """What lies in the bucket before any run: key → content."""
        none = f"{self.target.storage}/none"
        nothing_earlier = json.dumps([{"prefix": f"s3://{self.target.where.bucket}/{none}/"}, "manifest.json"]).encode()
        empty = {f"{none}/manifest.json": EMPTY_ARTIFACT, f"{none}/earlier.manifest": nothing_earlier}
        return {**empty, self.key: self.package.body}

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.target.client("s3"), self.target.where.bucket, self.target.account.number)

    def wanted(self, question: str) -> None:
        """Raises Failure where the user does not want what was shown."""
        if not self.consent.asked(question):
            environment = self.target.where.name
            raise Failure(f"none of this was carried out; `make deploy ENV={environment} CONFIRM=yes` does it.")


def deploy(repository: Repository, environment: str, confirmed: bool) -> int:
    """The exit code. Raises Failure, also where it was not wanted; the same command goes on from there."""
    target = opened(repository, environment)
    readiness.check(target)
    pipelines = upserting.pipelines(repository, environment)
    package = packaging.package(repository.root)
    stack = Stack(target, target.client("cloudformation"))
    deployment = Deployment(target, stack, package, pipelines, Consent(confirmed))
    there = stack.settled()
    created = {}
    if there is None or there["StackStatus"] == states.REVIEW:
        there, created = _first_pass(deployment, there), {target.name: "created"}
    found, changed = _second_pass(deployment, there)
    print("", *summary.lines(target, found, changed | created), sep="\n")
    return 0


def _first_pass(deployment: Deployment, there: Found | None) -> Found:
    """Make the stack without its functions, whose code has nowhere to lie before."""
    target, kept = deployment.target, leftovers.found(deployment.target)
    request = _request(deployment, "") | ({"ImportExistingResources": True} if kept else {})
    with changesets.proposed(deployment.stack, there, request) as pending:
        print(f"{target.name} does not exist yet. The first of two passes would make:")
        print(*changes.table(pending.changes), sep="\n")
        for name in kept:
            print(f"  the {name} is left from an earlier stack, and is taken over")
        names = ", ".join(pipeline.name for pipeline in deployment.pipelines)
        print(f"The second one makes the functions and what starts them; then come the pipelines {names}.", flush=True)
        deployment.wanted("Create all of this?")
        return pending.execute()


def _second_pass(deployment: Deployment, there: Found) -> tuple[Found, dict[str, str]]:
    """Bring stack, code and pipelines to what they are to be; the stack as it is then, and what was changed."""
    if there["StackStatus"] not in states.READY:
        raise deployment.stack.trouble(there)
    _same_bucket(deployment.target, there)
    client, shelf = deployment.target.client("sagemaker"), deployment.shelf
    missing = [key for key in deployment.objects if not shelf.has(key)]
    words = {pipeline.name: upserting.difference(client, pipeline) for pipeline in deployment.pipelines}
    differ = [name for name, word in words.items() if word != upserting.UNCHANGED]
    with changesets.proposed(deployment.stack, there, _request(deployment, deployment.key)) as pending:
        stack = "updated" if pending.changes else "unchanged"
        if pending.changes or missing or differ:
            _show(deployment, pending, missing, {name: words[name] for name in differ})
            deployment.wanted("Carry this out?")
        for key in missing:
            shelf.put(key, deployment.objects[key])
        if pending.changes:
            there = pending.execute()
    written = {pipeline.name: upserting.write(client, pipeline) for pipeline in deployment.pipelines}
    return there, {deployment.target.name: stack} | written


def _same_bucket(target: Target, there: Found) -> None:
    """Raises Failure where another bucket is wanted: data, artifacts and code would stay behind in the old one."""
    [old] = [its["OutputValue"] for its in there.get("Outputs", []) if its["OutputKey"] == "Bucket"] or [""]
    if old and old != target.where.bucket:
        raise Failure(
            f"the stack {target.name} has the bucket {old}, and {target.needs.file} names {target.where.bucket}: "
            f"what lies in the old one would not come along. Name the old one, or tear {target.where.name} down first."
        )


def _show(deployment: Deployment, pending: ChangeSet, missing: list[str], pipelines: dict[str, str]) -> None:
    if pending.changes:
        print(f"{deployment.target.name} would change:")
        print(*changes.table(pending.changes), sep="\n")
    for key in missing:
        print(f"would be uploaded: {key}")
    for name, word in pipelines.items():
        print(f"would be {word}: {name}")
    print(end="", flush=True)


def _request(deployment: Deployment, functions: str) -> dict[str, Any]:
    target = deployment.target
    values = template.parameters(target.where, functions)
    return {
        "TemplateBody": template.body(target.repository.root),
        "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        "Capabilities": CAPABILITIES,
        "Tags": tag_list(target.tags),
        "Description": f"commit {parameters.git_commit(target.repository)}",
    }
