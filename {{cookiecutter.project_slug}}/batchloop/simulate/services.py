"""Everything of the simulated account that is not a file in its storage: one JSON file, replaced in one rename.

A simulation that is killed goes on from it. What was under way is done again, and what was being told is told again:
events may come twice in AWS too, and the functions are made for that.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from batchloop.engine import graph
from batchloop.engine.storage import Registry, Storage, write_json
from batchloop.repository import Failure

EMPTY: dict[str, Any] = {"now": "", "parameters": {}, "executions": {}, "approvals": {}, "told": [], "ticks": []}


class State:
    """`value` may be changed at will; only `save` makes it last."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.value = json.loads(json.dumps(EMPTY))
        except ValueError:
            raise Failure(f"{file.name} is damaged; FRESH=yes begins the simulation anew.") from None

    def __getitem__(self, name: str) -> Any:
        return self.value[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.value[name] = value

    def save(self) -> None:
        """Make it last."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, self.value)


def refused(call: str, code: str, why: str) -> ClientError:
    """How a client says no."""
    return ClientError({"Error": {"Code": code, "Message": why}}, call)


Answer = dict[str, Any]


class Pages:
    """A paginator: everything is on one page."""

    def __init__(self, call: Callable[..., Answer]) -> None:
        self.call = call

    def paginate(self, **request: Any) -> Iterator[Answer]:
        yield self.call(**request)


class Ssm:
    """Parameters with all their versions, oldest first."""

    def __init__(self, state: State) -> None:
        self.state = state

    def get_parameter(self, **request: Any) -> Answer:
        """The newest version, or the one of `Name:version`."""
        name, _, version = request["Name"].partition(":")
        versions = self._versions("GetParameter", name)
        place = int(version or len(versions))
        if not 1 <= place <= len(versions):
            raise refused("GetParameter", "ParameterVersionNotFound", f"{name} has no version {version}")
        return {"Parameter": _parameter(name, versions[place - 1], place)}

    def put_parameter(self, **request: Any) -> Answer:
        name, known = request["Name"], self.state["parameters"]
        if name in known and not request.get("Overwrite"):
            raise refused("PutParameter", "ParameterAlreadyExists", f"{name} exists")
        known.setdefault(name, []).append(request["Value"])
        self.state.save()
        return {"Version": len(known[name]), "Tier": "Standard"}

    def get_parameter_history(self, **request: Any) -> Answer:
        name = request["Name"]
        versions = self._versions("GetParameterHistory", name)
        return {"Parameters": [_parameter(name, value, place) for place, value in enumerate(versions, 1)]}

    def get_paginator(self, name: str) -> Pages:
        return Pages(getattr(self, name))

    def _versions(self, call: str, name: str) -> list[str]:
        if name not in self.state["parameters"]:
            raise refused(call, "ParameterNotFound", name)
        found: list[str] = self.state["parameters"][name]
        return found


def _parameter(name: str, value: str, version: int) -> Answer:
    return {"Name": name, "Type": "String", "Value": value, "Version": version}


class Ecr:
    """Images that were pushed: their digests, a set for each repository."""

    def __init__(self, digests: dict[str, str]) -> None:
        self.digests = digests

    def describe_images(self, **request: Any) -> Answer:
        name, [wanted] = request["repositoryName"], request["imageIds"]
        if self.digests.get(name) != wanted.get("imageDigest"):
            raise refused("DescribeImages", "ImageNotFoundException", f"{name} has no image {wanted}")
        return {"imageDetails": [{"repositoryName": name, "imageDigest": wanted["imageDigest"]}]}


class Sns:
    """Messages, a line each in a file; as in AWS one can come twice."""

    def __init__(self, state: State, file: Path) -> None:
        self.state, self.file = state, file

    def publish(self, **request: Any) -> Answer:
        append(self.file, {"time": self.state["now"], **request})
        return {"MessageId": f"{len(request['Message'])}"}


class CloudWatch:
    """Metrics, a line for each call in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def put_metric_data(self, **request: Any) -> Answer:
        for entry in request["MetricData"]:
            line = {"time": entry["Timestamp"].isoformat(), "namespace": request["Namespace"]}
            append(self.file, {**line, "name": entry["MetricName"], "value": entry["Value"]})
        return {}


def append(file: Path, line: Answer) -> None:
    """One more line of JSON."""
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line, ensure_ascii=False) + "\n")


class S3:
    """Objects are the files below `storage`; empty folders do not exist, as in S3."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def list_objects_v2(self, **request: Any) -> Answer:
        """Keys in their order, the first MaxKeys of them; with a Delimiter what begins alike is one prefix."""
        prefix, delimiter = request.get("Prefix", ""), request.get("Delimiter", "")
        keys = self._keys(request["Bucket"], prefix)
        folders: dict[str, None] = {}
        objects = []
        for key in keys:
            head, found, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
            if found:
                folders[prefix + head + found] = None
            else:
                objects.append({"Key": key, "ETag": self._digest(request["Bucket"], key)})
        most = request.get("MaxKeys", 1000)
        return {
            "Contents": objects[:most],
            "CommonPrefixes": [{"Prefix": name} for name in folders],
            "IsTruncated": len(objects) > most,
        }

    def get_paginator(self, name: str) -> Pages:
        call = getattr(self, name)
        return Pages(lambda **request: call(**request, MaxKeys=10**9))

    def get_object(self, **request: Any) -> Answer:
        path = self.storage.root / request["Bucket"] / request["Key"]
        if not path.is_file():
            raise refused("GetObject", "NoSuchKey", request["Key"])
        return {"Body": io.BytesIO(path.read_bytes())}

    def put_object(self, **request: Any) -> Answer:
        path = self.storage.root / request["Bucket"] / request["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(request["Body"])
        partial.replace(path)
        return {}

    def _digest(self, bucket: str, key: str) -> str:
        with (self.storage.root / bucket / key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _keys(self, bucket: str, prefix: str) -> list[str]:
        """The keys that begin with a prefix, from the folder that all of them lie in."""
        root = self.storage.root / bucket
        inside = os.walk(root / prefix.rpartition("/")[0])
        names = [os.path.relpath(os.path.join(folder, name), root) for folder, _, found in inside for name in found]
        return sorted(key for key in (name.replace(os.sep, "/") for name in names) if key.startswith(prefix))


EXECUTING, SUCCEEDED, FAILED = "Executing", "Succeeded", "Failed"
Definitions = Mapping[str, Mapping[str, Any]]


class SageMaker:
    """`definitions` are the compiled pipelines by name, `account` begins their ARNs."""

    def __init__(self, state: State, registry: Registry, definitions: Definitions, account: str) -> None:
        self.state, self.registry, self.definitions, self.account = state, registry, definitions, account

    def start_pipeline_execution(self, **request: Any) -> Answer:
        """Nothing runs yet: as in AWS, the answer comes before the work. A token that was used starts nothing."""
        name, token = request["PipelineName"], request["ClientRequestToken"]
        values = {entry["Name"]: entry["Value"] for entry in request["PipelineParameters"]}
        declared = {entry["Name"] for entry in self._definition("StartPipelineExecution", name)["Parameters"]}
        if unknown := sorted(set(values) - declared):
            raise refused("StartPipelineExecution", "ValidationException", f"no parameter {', '.join(unknown)}")
        arn = f"{self.account}:pipeline/{name}/execution/{token[:12]}"
        about = {"pipeline": name, "parameters": values, "status": EXECUTING, "why": "", "started": self.state["now"]}
        about |= {"description": request.get("PipelineExecutionDescription", "")}
        about |= self._selection(name, request.get("SelectiveExecutionConfig"))
        self.state["executions"].setdefault(arn, {**about, "ended": "", "tick": len(self.state["ticks"])})
        self.state.save()
        return {"PipelineExecutionArn": arn}

    def _selection(self, name: str, wanted: Mapping[str, Any] | None) -> Answer:
        """Which steps of an execution are to run, with what another one left. Refused as the service refuses it."""
        if wanted is None:
            return {}
        source, steps = wanted.get("SourcePipelineExecutionArn"), [step["StepName"] for step in wanted["SelectedSteps"]]
        try:
            outside = graph.needed(graph.nodes(self.definitions[name]), steps)
        except Failure as failure:
            raise refused("StartPipelineExecution", "ValidationException", str(failure)) from None
        known = self.state["executions"].get(source, {})
        if (source or outside) and (known.get("pipeline"), known.get("status")) not in (
            (name, SUCCEEDED),
            (name, FAILED),
        ):
            why = f"Invalid SourcePipelineExecutionArn: {source}. The selected steps depend on {', '.join(outside)}"
            raise refused("StartPipelineExecution", "ValidationException", why)
        return {"selected": steps, "source": source or ""}

    def list_pipeline_parameters_for_execution(self, **request: Any) -> Answer:
        values = self._execution("ListPipelineParametersForExecution", request)["parameters"]
        return {"PipelineParameters": [{"Name": name, "Value": value} for name, value in values.items()]}

    def describe_pipeline_execution(self, **request: Any) -> Answer:
        run = self._execution("DescribePipelineExecution", request)
        why = {"FailureReason": run["why"]} if run["why"] else {}
        about = {"PipelineExecutionArn": request["PipelineExecutionArn"]}
        selected = [{"StepName": step} for step in run.get("selected", [])]
        chosen = {"SourcePipelineExecutionArn": run.get("source"), "SelectedSteps": selected}
        more = {"SelectiveExecutionConfig": chosen} if selected else {}
        return {**about, "PipelineExecutionStatus": run["status"], **why, **more}

    def list_pipeline_executions(self, **request: Any) -> Answer:
        """The newest first, which is how the functions ask for them."""
        self._definition("ListPipelineExecutions", request["PipelineName"])
        found = [
            {
                "PipelineExecutionArn": arn,
                "PipelineExecutionStatus": run["status"],
                "PipelineExecutionDescription": run["description"],
            }
            for arn, run in self.state["executions"].items()
            if run["pipeline"] == request["PipelineName"]
        ]
        return {"PipelineExecutionSummaries": found[::-1][: request.get("MaxResults", 10)]}

    def describe_model_package(self, **request: Any) -> Answer:
        """As it was registered, with the approval that was given since."""
        arn = request["ModelPackageName"]
        try:
            package = self.registry.package(arn)
        except Failure as failure:
            raise refused("DescribeModelPackage", "ValidationException", str(failure)) from None
        registered = {name: value for name, value in package.items() if name not in ("Identity", "CreationTime")}
        given: Answer = self.state["approvals"].get(arn, {})
        return registered | given

    def _definition(self, call: str, name: str) -> Mapping[str, Any]:
        if name not in self.definitions:
            raise refused(call, "ResourceNotFound", f"there is no pipeline {name}")
        return self.definitions[name]

    def _execution(self, call: str, request: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] | None = self.state["executions"].get(request["PipelineExecutionArn"])
        if found is None:
            raise refused(call, "ResourceNotFound", request["PipelineExecutionArn"])
        return found
