"""What stands in for AWS in a simulation: one client for all services, and what it keeps.

What is no file in its storage is kept in one JSON file, replaced in one rename. A simulation that is killed goes on
from it. What was under way is done again, and what was being told is told again: events may come twice in AWS too, and
the functions are made for that.
"""

import base64
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from batchloop.container.job import InputError
from batchloop.engine import graph
from batchloop.engine.storage import Registry, Storage, write_json

Answer = dict[str, Any]
EXECUTING, SUCCEEDED, FAILED = "Executing", "Succeeded", "Failed"
KEPT_VERSIONS = 100  # of a parameter


class State(dict[str, Any]):
    """The account's parameters, executions and approvals, and the loop's ticks and clock; only `save` makes it last."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            super().__init__(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            super().__init__(now="", parameters={}, executions={}, approvals={}, told=[], ticks=[])
        except ValueError:
            raise InputError(f"{file.name} is damaged; FRESH=yes begins the simulation anew.") from None

    def save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, self)


def client_error(call: str, code: str, why: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": why}}, call)


@dataclass(frozen=True)
class Account:
    """Answers as boto3's clients do: `definitions` are pipelines' versions by name, the first 1, `arn` begins ARNs.

    There is no ECR: a simulation's images are this machine's, which nobody looks for.
    """

    state: State
    storage: Storage
    registry: Registry
    definitions: Mapping[str, Sequence[Mapping[str, Any]]]
    arn: str

    def get_paginator(self, name: str) -> Any:

        def paginate(**request: Any) -> Iterator[Answer]:
            yield getattr(self, name)(**request)

        return SimpleNamespace(paginate=paginate)

    # SSM: parameters with all their versions, oldest first

    def get_parameter(self, **request: Any) -> Answer:
        """The newest version, or the one of `Name:version`."""
        name, _, version = request["Name"].partition(":")
        versions = self._versions("GetParameter", name)
        if found := [its for its in versions if version in ("", str(its["Version"]))]:
            return {"Parameter": found[-1]}
        raise client_error("GetParameter", "ParameterVersionNotFound", f"{name} has no version {version}")

    def get_parameter_history(self, **request: Any) -> Answer:
        return {"Parameters": self._versions("GetParameterHistory", request["Name"])}

    def put_parameter(self, **request: Any) -> Answer:
        name, known = request["Name"], self.state["parameters"]
        if name in known and not request.get("Overwrite"):
            raise client_error("PutParameter", "ParameterAlreadyExists", f"{name} exists")
        known.setdefault(name, []).append(request["Value"])
        self.state.save()
        return {"Version": len(known[name])}

    def _versions(self, call: str, name: str) -> list[Answer]:
        """The hundred that are kept."""
        if name not in self.state["parameters"]:
            raise client_error(call, "ParameterNotFound", name)
        values = [*enumerate(self.state["parameters"][name], 1)][-KEPT_VERSIONS:]
        return [{"Name": name, "Type": "String", "Value": value, "Version": version} for version, value in values]

    # SNS and CloudWatch: messages and metrics, which can come twice, a line each in a file

    def publish(self, **request: Any) -> Answer:
        self._append("notices", {"time": self.state["now"], **request})
        return {"MessageId": f"{len(request['Message'])}"}

    def put_metric_data(self, **request: Any) -> Answer:
        for entry in request["MetricData"]:
            line = {"time": entry["Timestamp"].isoformat(), "namespace": request["Namespace"]}
            self._append("metrics", {**line, "name": entry["MetricName"], "value": entry["Value"]})
        return {}

    def _append(self, name: str, line: Answer) -> None:
        with (self.state.file.parent / f"{name}.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(line, ensure_ascii=False) + "\n")

    # S3: objects are the files below the storage's folder; empty folders do not exist, as in S3

    def list_objects_v2(self, **request: Any) -> Answer:
        """Keys in their order, the first MaxKeys of them; with a Delimiter what begins alike is one prefix."""
        root, prefix = self.storage.root / request["Bucket"], request.get("Prefix", "")
        inside = os.walk(root / prefix.rpartition("/")[0])
        paths = (Path(folder, name).relative_to(root) for folder, _, names in inside for name in names)
        folders, objects = dict[str, None](), []
        for key in sorted(key for key in (path.as_posix() for path in paths) if key.startswith(prefix)):
            below = key.removeprefix(prefix)
            if request.get("Delimiter") and "/" in below:
                folders[f"{prefix}{below.partition('/')[0]}/"] = None
            else:
                with (root / key).open("rb") as file:
                    tag = hashlib.file_digest(file, "sha256").hexdigest()
                objects.append({"Key": key, "Size": (root / key).stat().st_size, "ETag": tag})
        found = objects[: request.get("MaxKeys")]
        prefixes = [{"Prefix": name} for name in folders]
        return {"Contents": found, "CommonPrefixes": prefixes, "IsTruncated": len(found) < len(objects)}

    def get_object(self, **request: Any) -> Answer:
        path = self.storage.root / request["Bucket"] / request["Key"]
        if not path.is_file():
            raise client_error("GetObject", "NoSuchKey", request["Key"])
        return {"Body": io.BytesIO(path.read_bytes())}

    def head_object(self, **request: Any) -> Answer:
        """Nothing has versions here; a checksum has whatever was written or copied with one, and here that is all."""
        path = self.storage.root / request["Bucket"] / request["Key"]
        if not path.is_file():
            raise client_error("HeadObject", "404", request["Key"])
        digest = hashlib.sha256(path.read_bytes()).digest()
        return {"ContentLength": path.stat().st_size, "ChecksumSHA256": base64.b64encode(digest).decode()}

    def copy(self, source: Mapping[str, str], bucket: str, key: str, **given: Any) -> None:
        path = self.storage.root / source["Bucket"] / source["Key"]
        if not path.is_file():
            raise client_error("CopyObject", "NoSuchKey", source["Key"])
        if given["ExtraArgs"]["CopySourceIfMatch"] != hashlib.sha256(path.read_bytes()).hexdigest():
            raise client_error("CopyObject", "PreconditionFailed", source["Key"])
        self.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())

    def put_object(self, **request: Any) -> Answer:
        """IfNoneMatch: nothing may lie there."""
        path = self.storage.root / request["Bucket"] / request["Key"]
        if request.get("IfNoneMatch") == "*" and path.is_file():
            raise client_error("PutObject", "PreconditionFailed", request["Key"])
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_file = path.with_name(f".{path.name}.partial")
        partial_file.write_bytes(request["Body"])
        partial_file.replace(path)
        return {}

    # SageMaker: executions, which are carried out later, and the packages of the engine's model registry

    def start_pipeline_execution(self, **request: Any) -> Answer:
        """Nothing runs yet: as in AWS, the answer comes before the work. A token that was used starts nothing."""
        refuse = partial(client_error, "StartPipelineExecution", "ValidationException")
        name, token = request["PipelineName"], request["ClientRequestToken"]
        values = {entry["Name"]: entry["Value"] for entry in request["PipelineParameters"]}
        version = request.get("PipelineVersionId") or len(self._versions_of("StartPipelineExecution", name))
        definition = self.definition(name, version)
        declared = definition["Parameters"]
        if unknown := sorted(set(values) - {entry["Name"] for entry in declared}):
            raise refuse(f"no parameter {', '.join(unknown)}")
        needed = {entry["Name"] for entry in declared if "DefaultValue" not in entry}
        if missing := sorted(needed - set(values)):
            raise refuse(f"no value for parameter {', '.join(missing)}")
        arn = f"{self.arn}:pipeline/{name}/execution/{token[:12]}"
        run = {"pipeline": name, "parameters": values, "status": EXECUTING, "why": "", "started": self.state["now"]}
        run |= {"version": version, "description": request.get("PipelineExecutionDescription", "")}
        if selection := request.get("SelectiveExecutionConfig"):
            source = selection.get("SourcePipelineExecutionArn")
            steps = [entry["StepName"] for entry in selection["SelectedSteps"]]
            try:
                outside = graph.needed(graph.nodes(definition), steps)
            except InputError as failure:
                raise refuse(str(failure)) from None
            known = self.state["executions"].get(source, {})
            ended = known.get("pipeline") == name and known.get("status") in (SUCCEEDED, FAILED)
            if (source or outside) and not ended:
                needs = f"The selected steps depend on {', '.join(outside)}"
                raise refuse(f"Invalid SourcePipelineExecutionArn: {source}. {needs}")
            run |= {"selected": steps, "source": source or ""}
        self.state["executions"].setdefault(arn, {**run, "ended": "", "tick": len(self.state["ticks"])})
        self.state.save()
        return {"PipelineExecutionArn": arn}

    def list_pipeline_parameters_for_execution(self, **request: Any) -> Answer:
        values = self._execution("ListPipelineParametersForExecution", request)["parameters"]
        return {"PipelineParameters": [{"Name": name, "Value": value} for name, value in values.items()]}

    def describe_pipeline_execution(self, **request: Any) -> Answer:
        run = self._execution("DescribePipelineExecution", request)
        answer = {"PipelineExecutionArn": request["PipelineExecutionArn"], "PipelineExecutionStatus": run["status"]}
        if run["why"]:
            answer["FailureReason"] = run["why"]
        if steps := [{"StepName": step} for step in run.get("selected", [])]:
            selection = {"SourcePipelineExecutionArn": run["source"], "SelectedSteps": steps}
            answer["SelectiveExecutionConfig"] = selection
        return answer | {"PipelineVersionId": run["version"]}

    def list_pipeline_executions(self, **request: Any) -> Answer:
        """The newest first, which is how the functions ask for them."""
        name, prefix, keys = request["PipelineName"], "PipelineExecution", ("status", "description")
        self._versions_of("ListPipelineExecutions", name)
        runs = [(arn, run) for arn, run in self.state["executions"].items() if run["pipeline"] == name]
        found = [{f"{prefix}Arn": arn} | {f"{prefix}{key.title()}": run[key] for key in keys} for arn, run in runs]
        return {"PipelineExecutionSummaries": found[::-1][: request.get("MaxResults", 10)]}

    def describe_model_package(self, **request: Any) -> Answer:
        """As it was registered, with the approval that was given since."""
        arn = request["ModelPackageName"]
        package = next((one for one in self.registry.packages() if one["ModelPackageArn"] == arn), None)
        if package is None:
            raise client_error("DescribeModelPackage", "ValidationException", f"{arn} is not registered.")
        registered = {name: value for name, value in package.items() if name != "CreationTime"}
        return {**registered, **self.state["approvals"].get(arn, {})}

    def list_pipeline_versions(self, **request: Any) -> Answer:
        """The newest first, which is how the functions ask for them; the first version is 1."""
        name = request["PipelineName"]
        numbers = range(len(self._versions_of("ListPipelineVersions", name)), 0, -1)
        found = [{"PipelineArn": f"{self.arn}:pipeline/{name}", "PipelineVersionId": number} for number in numbers]
        return {"PipelineVersionSummaries": found[: request.get("MaxResults")]}

    def list_pipeline_execution_steps(self, **request: Any) -> Answer:
        """Those that succeeded, as the engine recorded them."""
        run = self._execution("ListPipelineExecutionSteps", request)
        return {
            "PipelineExecutionSteps": [{"StepName": name, "StepStatus": SUCCEEDED} for name in run.get("steps", [])]
        }

    def list_models(self, **_: Any) -> Answer:
        """The engine scores without an entry in the service."""
        return {"Models": []}

    def definition(self, name: str, version: int) -> Mapping[str, Any]:
        """A version of a pipeline, as its executions run it."""
        versions = self._versions_of("StartPipelineExecution", name)
        if not 1 <= version <= len(versions):
            raise client_error("StartPipelineExecution", "ResourceNotFound", f"{name} has no version {version}")
        return versions[version - 1]

    def _versions_of(self, call: str, name: str) -> Sequence[Mapping[str, Any]]:
        if name not in self.definitions:
            raise client_error(call, "ResourceNotFound", f"there is no pipeline {name}")
        return self.definitions[name]

    def _execution(self, call: str, request: Mapping[str, Any]) -> Answer:
        if request["PipelineExecutionArn"] not in self.state["executions"]:
            raise client_error(call, "ResourceNotFound", request["PipelineExecutionArn"])
        return dict(self.state["executions"][request["PipelineExecutionArn"]])
