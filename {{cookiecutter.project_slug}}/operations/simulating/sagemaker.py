"""What stands for SageMaker: executions that wait to be carried out, and the engine's model registry."""

from collections.abc import Mapping
from typing import Any

from operations.engine import graph, selecting
from operations.engine.registry import Registry
from operations.failures import Failure
from operations.simulating.services import Answer
from operations.simulating.state import State, refused

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
            outside = selecting.needed(graph.nodes(self.definitions[name]), steps)
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
