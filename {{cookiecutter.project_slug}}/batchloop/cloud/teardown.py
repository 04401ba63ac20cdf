"""`make teardown`: what one environment has in AWS goes, except data, models, images and keys."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from batchloop.cloud import stack as cloud_stack
from batchloop.cloud import upsert
from batchloop.cloud.bootstrap import Parameters, stranger
from batchloop.cloud.deploy import typed
from batchloop.cloud.session import CallFailed, Target, ask, opened, tag_map
from batchloop.cloud.stack import Events, Stack
from batchloop.pipelines import definitions
from batchloop.repository import Failure, Repository


@dataclass(frozen=True)
class Doomed:
    """Something that is there; `stranger` says why it is somebody else's, and it then stays."""

    name: str
    delete: Callable[[], None]
    stranger: str = ""


def teardown(repository: Repository, environment: str, name: str = "") -> int:
    """The exit code. Raises Failure where the name is not the environment's; the same command goes on where it ended.

    Pipelines first: SageMaker refuses to delete one with a run under way, and the run keeps its role that way.
    """
    target = opened(repository, environment)
    found = [*_pipelines(target), *_stack(target), *_parameters(target)]
    ours = [doomed for doomed in found if not doomed.stranger]
    for doomed in found:
        print(
            f"not ours, and stays: {doomed.name}: {doomed.stranger}" if doomed.stranger else f"deletes: {doomed.name}"
        )
    print(*(f"keeps: {line}" for line in _kept(target)), sep="\n", flush=True)
    if not ours:
        print(f"{target.name} has nothing to delete.")
        return 0
    if (name or typed(f"Type {target.name} to delete all of this: ")) != target.name:
        raise Failure(f"nothing was deleted; `make teardown ENV={environment} NAME={target.name}` does it.")
    for doomed in ours:
        doomed.delete()
        print(f"deleted: {doomed.name}", flush=True)
    return 0


def _kept(target: Target) -> Iterator[str]:
    where = target.where
    yield f"the bucket {where.bucket} with data, artifacts, predictions and functions"
    yield f"the model package group {target.name} and its models"
    yield from (f"the image repository {name} and its images" for name in target.needs.repositories)
    if where.create_key or where.kms_key:
        yield "the KMS key: without it nobody can read what is in the bucket"
    yield "everything in this folder"


def _pipelines(target: Target) -> Iterator[Doomed]:
    client = target.client("sagemaker")
    for short in definitions.NAMES:
        name = f"{target.name}-{short}"
        if there := upsert.there(client, name):
            tags = tag_map(ask(client, "list_tags", "Tags", ResourceArn=there["PipelineArn"]))
            yield Doomed(f"pipeline {name}", partial(_delete_pipeline, client, name), stranger(tags, target.owner))


def _delete_pipeline(client: Any, name: str) -> None:
    try:
        ask(client, "delete_pipeline", PipelineName=name)
    except CallFailed as failed:
        if failed.code == "ConflictException":
            raise Failure(
                f"{failed}\nA run of {name} is under way: wait for it or stop it, then tear down again."
            ) from None
        if failed.code not in upsert.MISSING:
            raise


def _stack(target: Target) -> Iterator[Doomed]:
    stack = Stack(target, target.client("cloudformation"))
    if found := stack.found():
        other = stranger(tag_map(found.get("Tags", [])), target.owner)
        named = f"stack {target.name} with its functions, rules, alarms, roles and logs"
        yield Doomed(named, partial(_delete_stack, stack), other)


def _delete_stack(stack: Stack) -> None:
    """Ask, wait, and ask again where it could not be deleted before. Raises Failure with what stood against it."""
    found = stack.settled()
    if found is None:
        return
    seen = Events(stack.client, found["StackId"])
    ask(stack.client, "delete_stack", StackName=found["StackId"])
    done = stack.waited(found["StackId"], seen)
    if done["StackStatus"] != cloud_stack.GONE:
        raise stack.trouble(done)


def _parameters(target: Target) -> Iterator[Doomed]:
    ssm, kind = target.account.ssm, Parameters(target.account.ssm, target.needs)
    for name in kind.names:
        finding = kind.look(name)
        if not finding.create:
            yield Doomed(f"parameter {name}", partial(_delete_parameter, ssm, name), finding.stranger)


def _delete_parameter(ssm: Any, name: str) -> None:
    try:
        ask(ssm, "delete_parameter", Name=name)
    except CallFailed as failed:
        if failed.code != "ParameterNotFound":
            raise
