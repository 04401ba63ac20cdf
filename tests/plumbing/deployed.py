"""An account to deploy into, and a repository to deploy: moto stands where AWS would, before it a wire that can fail.

CloudFormation, which moto does not model this far, is tests/cloudformation.py. What is proved is which calls are made,
in what order, and what is said; that AWS carries them out is not.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from batchloop.cloud import bootstrap
from batchloop.pipelines import definitions
from batchloop.repository import Repository
from plumbing.cloudformation import CloudFormation
from plumbing.parameter_store import parameter_tier
from plumbing.rendered import ROOT
from plumbing.unreliable_services import READING, Wire

ACCOUNT, REGION = "123456789012", "eu-central-1"
NAME, BUCKET = "team-case-dev", f"team-case-dev-{ACCOUNT}-euc1"
STORAGE = f"{NAME}-storage"
DEPLOYED = {STORAGE: "CREATE_COMPLETE", NAME: "CREATE_COMPLETE"}
TAGS = {"namespace": "team", "usecase": "case", "environment": "dev"}
USECASE = """
[usecase]
name = "case"
namespace = "team"
[data]
task = "binary"
id = "id"
label = "y"
classes = ["no", "yes"]
[columns]
x = { type = "number" }
[split]
method = "random"
[hyperparameters]
rounds = 3
[gate]
metric = "auc"
minimum = 0.5
"""
DEFINITION = {
    "Version": "2020-12-01",
    "Parameters": [
        {"Name": "ProcessingImage", "Type": "String", "DefaultValue": "x:1"},
        {"Name": "GitCommit", "Type": "String", "DefaultValue": "unknown"},
        {"Name": "Trials", "Type": "Integer", "DefaultValue": 0},
    ],
    "Steps": [],
}


def refusal(status: int, code: str, event_name: str, **_: object) -> None:
    """An error of AWS's. It is raised: after an answer of the wire, moto would carry the call out all the same."""
    about = {"Error": {"Code": code, "Message": "because"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    raise ClientError(about, event_name.rpartition(".")[2])


FAULTS = {
    "denied": partial(refusal, 403, "AccessDenied"),
    "broken": partial(refusal, 500, "InternalFailure"),
    "expired": partial(refusal, 400, "ExpiredToken"),
}


def parameter(params: dict[str, Any], **_: object) -> None:
    """Refuse what the Parameter Store does, and moto takes."""
    parameter_tier({"Type": "String"} | params)


class Account:
    """What is there, past the wire; and the wire."""

    def __init__(self) -> None:
        self.wire = Wire()
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": REGION}
        self._session, self._wired = boto3.Session(**keys), boto3.Session(**keys)
        # looked up at each call, because every test has a wire of its own
        self._wired.events.register_first("before-send", lambda **given: self.wire.before_send(**given))  # noqa: PLW0108
        self._wired.events.register("after-call", lambda **given: self.wire.after_call(**given))  # noqa: PLW0108
        self._wired.events.register("provide-client-params.ssm.PutParameter", parameter)
        config = Config(retries={"mode": "standard", "total_max_attempts": 1})
        self.past = cache(self._session.client)
        self._clients = cache(lambda service: self._wired.client(service, config=config))
        self.reset()

    def reset(self) -> None:
        """Nothing is there, and nothing fails; to be used where moto begins anew."""
        self.wire = Wire()
        self.cloudformation = CloudFormation(lambda: self.wire, self.past)

    def client(self, service: str) -> Any:
        return self.cloudformation if service == "cloudformation" else self._clients(service)

    def connect(self, region: str, _profile: str = "") -> Callable[[str], Any]:
        assert region == REGION
        return self.client

    def fail(self, number: int, kind: str) -> None:
        """Let the call with this number fail in this way, counted from now; -1 is none."""
        self.wire.calls.clear()
        acts: dict[str, Any] = {**FAULTS, "lost": self.wire.lose}
        self.wire.answers = lambda at, _: acts[kind] if at == number else None

    def refuse(self, call: str, code: str, status: int = 400) -> None:
        """Let every such call be refused with this code."""
        act: Any = partial(refusal, status, code)
        self.wire.answers = lambda _, made: act if made == call else None

    @property
    def writes(self) -> list[str]:
        return [call for call in self.wire.calls if not call.startswith((*READING, "Head"))]

    def stacks(self) -> dict[str, str]:
        return {its["StackName"]: its["StackStatus"] for its in self.cloudformation.alive()}

    def pipelines(self) -> dict[str, dict[str, Any]]:
        client = self.past("sagemaker")
        names = [its["PipelineName"] for its in client.list_pipelines()["PipelineSummaries"]]
        return {name: json.loads(client.describe_pipeline(PipelineName=name)["PipelineDefinition"]) for name in names}

    def objects(self) -> set[str]:
        listed = self.past("s3").list_objects_v2(Bucket=BUCKET)
        return {its["Key"] for its in listed.get("Contents", [])}

    def exist(self) -> dict[str, Any]:
        """Everything that a deployment makes, of whatever kind."""
        buckets = [its["Name"] for its in self.past("s3").list_buckets()["Buckets"]]
        there = self.cloudformation.alive()
        return {
            "stacks": self.stacks(),
            "resources": [sorted(its["resources"]) for its in there],
            "change sets": [name for its in there for name in its["change sets"]],
            "pipelines": sorted(self.pipelines()),
            "buckets": buckets,
            "objects": sorted(self.objects()) if BUCKET in buckets else [],
        }

    def parameters(self) -> set[str]:
        pages = self.past("ssm").get_paginator("get_parameters_by_path").paginate(Path="/team", Recursive=True)
        return {entry["Name"] for page in pages for entry in page["Parameters"]}


def repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """What is deployed: this repository's functions and environment files, and its stack."""
    monkeypatch.setattr(definitions, "definition", lambda _here, name: {**DEFINITION, "Metadata": name})
    (folder / "usecase.toml").write_text(USECASE)
    (folder / "environments").mkdir()
    for file in (ROOT / "environments").glob("*.toml"):
        (folder / "environments" / file.name).write_text(file.read_text(encoding="utf-8"))
    environment(folder, account=f'"{ACCOUNT}"', region=f'"{REGION}"')
    shutil.copytree(ROOT / "batchloop", folder / "batchloop", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "infra").mkdir()
    for file in (ROOT / "infra").glob("*.yaml"):
        shutil.copy(file, folder / "infra" / file.name)
    (folder / "local").mkdir()
    return Repository(folder)


def environment(folder: Path, **values: str) -> None:
    """Other values of keys in environments/dev.toml, as TOML writes them."""
    file = folder / "environments" / "dev.toml"
    lines = file.read_text(encoding="utf-8").splitlines()
    changed = [f"{key} = {values[key]}" if (key := line.partition(" =")[0]) in values else line for line in lines]
    file.write_text("\n".join(changed))


def in_use(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands reach this account, wait for nothing, and need two components instead of four."""
    account.reset()
    monkeypatch.setattr("batchloop.cloud.session.connect", account.connect)
    monkeypatch.setattr("batchloop.control.names.COMPONENTS", ("processing", "algorithm"))
    monkeypatch.setattr("batchloop.cost.summary", lambda *_: ["about a coffee a month"])
    monkeypatch.setattr("batchloop.cloud.preflight.findings", lambda _: [])
    monkeypatch.setattr("batchloop.cloud.stack.SECONDS", 0)
    monkeypatch.setattr("batchloop.cloud.stack.CHANGE_SET_SECONDS", 0)


def bootstrapped(repository: Repository, account: Account) -> None:
    """With images, as `make push` records them."""
    bootstrap.run(repository, "create", account.connect)
    pushed(account, "1")
    account.wire.calls.clear()


def pushed(account: Account, digest: str) -> None:
    """Other images than before."""
    for component in ("processing", "algorithm"):
        parameter = f"/team/case/dev/components/{component}/image"
        account.past("ssm").put_parameter(Name=parameter, Value=f"r/{component}@sha256:{digest}", Overwrite=True)


def lines(said: str) -> Iterator[str]:
    return (line.strip() for line in said.splitlines())
