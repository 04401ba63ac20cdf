"""What stands in for AWS in a simulation: one client for all services, and what it keeps.

What is no file in its storage lasts as long as the program. A simulation that is killed is gone through again from its
beginning, where the engine finds each step that had ended: the same executions come from the same data.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from batchloop.container.job import InputError
from batchloop.engine import graph
from batchloop.engine.storage import Registry, Storage

Answer = dict[str, Any]
EXECUTING, SUCCEEDED, FAILED = "Executing", "Succeeded", "Failed"
VERSION = 1  # of a pipeline, the only one


def begun() -> Answer:
    """Parameters, executions and approvals, the loop's ticks and its clock."""
    return {"now": "", "parameters": {}, "executions": {}, "approvals": {}, "ticks": []}


def refusal(code: str, why: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": why}}, "simulated")


@dataclass(frozen=True)
class Account:
    """Answers as boto3's clients do: `definitions` are pipelines' only versions by name, `arn` begins ARNs.

    There is no ECR: a simulation's images are this machine's, which nobody looks for.
    """

    storage: Storage
    registry: Registry
    definitions: Mapping[str, Mapping[str, Any]]
    arn: str
    state: Answer = field(default_factory=begun)

    @property
    def notices(self) -> Path:
        """What was told, a line a message."""
        return self.storage.root.with_name("notices.jsonl")

    def get_paginator(self, name: str) -> Any:

        def paginate(**request: Any) -> Iterator[Answer]:
            yield getattr(self, name)(**request)

        return SimpleNamespace(paginate=paginate)

    # SSM: parameters with all their versions, oldest first; nobody else writes them

    def get_parameter(self, **request: Any) -> Answer:
        return {"Parameter": self.get_parameter_history(**request)["Parameters"][-1]}

    def get_parameter_history(self, **request: Any) -> Answer:
        if (name := request["Name"]) not in self.state["parameters"]:
            raise refusal("ParameterNotFound", name)
        about, values = {"Name": name, "Type": "String"}, self.state["parameters"][name]
        return {
            "Parameters": [{**about, "Value": value, "Version": version} for version, value in enumerate(values, 1)]
        }

    def put_parameter(self, **request: Any) -> Answer:
        versions = self.state["parameters"].setdefault(request["Name"], [])
        versions.append(request["Value"])
        return {"Version": len(versions)}

    # SNS and CloudWatch: messages, which can come twice, a line each in a file; metrics are not kept

    def publish(self, **request: Any) -> Answer:
        with self.notices.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"time": self.state["now"], **request}, ensure_ascii=False) + "\n")
        return {"MessageId": f"{len(request['Message'])}"}

    def put_metric_data(self, **_: Any) -> Answer:
        return {}

    # S3: objects are the files below the storage's folder; empty folders do not exist, as in S3

    def list_objects_v2(self, **request: Any) -> Answer:
        """Keys in their order, the first MaxKeys of them; with a Delimiter what begins alike is one prefix."""
        bucket, prefix, found = request["Bucket"], request.get("Prefix", ""), list[tuple[str, Path]]()
        with suppress(InputError):  # where nothing is
            found = self.storage.files(f"s3://{bucket}/{prefix}")
        folders, objects = dict[str, None](), []
        for key, path in sorted((path.relative_to(self.storage.root / bucket).as_posix(), path) for _, path in found):
            below = key.removeprefix(prefix)
            if request.get("Delimiter") and "/" in below:
                folders[f"{prefix}{below.partition('/')[0]}/"] = None
            else:
                objects.append({"Key": key, "Size": path.stat().st_size, "ETag": _digest(path).hex()})
        return {"Contents": objects[: request.get("MaxKeys")], "CommonPrefixes": [{"Prefix": name} for name in folders]}

    def get_object(self, **request: Any) -> Answer:
        return {"Body": io.BytesIO(self._object(request).read_bytes())}

    def head_object(self, **request: Any) -> Answer:
        """Nothing has versions here; a checksum has whatever was written or copied with one, and here that is all."""
        path = self._object(request, "404")
        return {"ContentLength": path.stat().st_size, "ChecksumSHA256": base64.b64encode(_digest(path)).decode()}

    def copy(self, source: Mapping[str, str], bucket: str, key: str, **_: Any) -> None:
        self.put_object(Bucket=bucket, Key=key, Body=self._object(source).read_bytes())

    def put_object(self, **request: Any) -> Answer:
        """IfNoneMatch: nothing may lie there."""
        path = self.storage.root / request["Bucket"] / request["Key"]
        if request.get("IfNoneMatch") == "*" and path.is_file():
            raise refusal("PreconditionFailed", request["Key"])
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_file = path.with_name(f".{path.name}.partial")
        partial_file.write_bytes(request["Body"])
        partial_file.replace(path)
        return {}

    def _object(self, request: Mapping[str, str], code: str = "NoSuchKey") -> Path:
        path = self.storage.root / request["Bucket"] / request["Key"]
        if not path.is_file():
            raise refusal(code, request["Key"])
        return path

    # SageMaker: executions, which are carried out later, and the packages of the engine's model registry

    def start_pipeline_execution(self, **request: Any) -> Answer:
        """Nothing runs yet: as in AWS, the answer comes before the work. A token that was used starts nothing."""
        name, token = request["PipelineName"], request["ClientRequestToken"]
        values = {entry["Name"]: entry["Value"] for entry in request["PipelineParameters"]}
        definition = self.definition(name)
        declared = {entry["Name"]: "DefaultValue" in entry for entry in definition["Parameters"]}
        wrong = [f"no parameter {each}" for each in values if each not in declared]
        wrong += [
            f"no value for parameter {each}" for each, known in declared.items() if not known and each not in values
        ]
        arn = f"{self.arn}:pipeline/{name}/execution/{token[:12]}"
        run = {"pipeline": name, "parameters": values, "status": EXECUTING, "why": "", "started": self.state["now"]}
        run |= {"description": request.get("PipelineExecutionDescription", ""), "ended": ""}
        if selection := request.get("SelectiveExecutionConfig"):
            steps = [entry["StepName"] for entry in selection["SelectedSteps"]]
            run |= {"selected": steps, "source": selection.get("SourcePipelineExecutionArn", "")}
            try:  # what the source has to be is asked where the steps run
                graph.needed(graph.nodes(definition), steps)
            except InputError as failure:
                wrong.append(str(failure))
        if wrong:
            raise refusal("ValidationException", "; ".join(wrong))
        self.state["executions"].setdefault(arn, {**run, "tick": len(self.state["ticks"])})
        return {"PipelineExecutionArn": arn}

    def list_pipeline_parameters_for_execution(self, **request: Any) -> Answer:
        values = self._execution(request)["parameters"]
        return {"PipelineParameters": [{"Name": name, "Value": value} for name, value in values.items()]}

    def describe_pipeline_execution(self, **request: Any) -> Answer:
        run = self._execution(request)
        answer = {"PipelineExecutionArn": request["PipelineExecutionArn"], "PipelineExecutionStatus": run["status"]}
        if run["why"]:
            answer["FailureReason"] = run["why"]
        if steps := [{"StepName": step} for step in run.get("selected", [])]:
            selection = {"SourcePipelineExecutionArn": run["source"], "SelectedSteps": steps}
            answer["SelectiveExecutionConfig"] = selection
        return answer | {"PipelineVersionId": VERSION}

    def list_pipeline_executions(self, **request: Any) -> Answer:
        """The newest first, which is how the functions ask for them."""
        name, prefix, keys = request["PipelineName"], "PipelineExecution", ("status", "description")
        runs = [(arn, run) for arn, run in self.state["executions"].items() if run["pipeline"] == name]
        found = [{f"{prefix}Arn": arn} | {f"{prefix}{key.title()}": run[key] for key in keys} for arn, run in runs]
        return {"PipelineExecutionSummaries": found[::-1][: request.get("MaxResults", 10)]}

    def describe_model_package(self, **request: Any) -> Answer:
        """As it was registered, with the approval that was given since."""
        arn = request["ModelPackageName"]
        package = next((one for one in self.registry.packages() if one["ModelPackageArn"] == arn), None)
        if package is None:
            raise refusal("ValidationException", f"{arn} is not registered.")
        registered = {name: value for name, value in package.items() if name != "CreationTime"}
        return {**registered, **self.state["approvals"].get(arn, {})}

    def list_pipeline_versions(self, **request: Any) -> Answer:
        arn = f"{self.arn}:pipeline/{request['PipelineName']}"
        return {"PipelineVersionSummaries": [{"PipelineArn": arn, "PipelineVersionId": VERSION}]}

    def list_pipeline_execution_steps(self, **request: Any) -> Answer:
        """Those that succeeded, as the engine recorded them."""
        steps = self._execution(request).get("steps", [])
        return {"PipelineExecutionSteps": [{"StepName": name, "StepStatus": SUCCEEDED} for name in steps]}

    def list_models(self, **_: Any) -> Answer:
        """The engine scores without an entry in the service."""
        return {"Models": []}

    def definition(self, name: str) -> Mapping[str, Any]:
        """A pipeline as its executions run it."""
        if name not in self.definitions:
            raise refusal("ResourceNotFound", f"there is no pipeline {name}")
        return self.definitions[name]

    def _execution(self, request: Mapping[str, Any]) -> Answer:
        if (arn := request["PipelineExecutionArn"]) not in self.state["executions"]:
            raise refusal("ResourceNotFound", arn)
        return dict(self.state["executions"][arn])


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
