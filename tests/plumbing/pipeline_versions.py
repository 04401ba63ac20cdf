"""Versions of pipelines, which moto does not have: importing this adds them to its SageMaker.

Sources: "Pipeline version aliases" in the SageMaker developer guide (each update of a definition makes a version with a
number, the first is 1), "ListPipelineVersions", "DescribePipeline" and "StartPipelineExecution" in the API reference,
and the answer of UpdatePipeline in botocore's model.
"""

from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.sagemaker.responses import SageMakerResponse

started: list[tuple[str, int]] = []  # pipelines and the versions that were started, in the order of the calls
PLAIN = {name: getattr(SageMakerResponse, name) for name in ("describe_pipeline", "start_pipeline_execution")}
UPDATE = SageMakerResponse.update_pipeline


def _versions(response: Any) -> list[str]:
    """The definitions of the pipeline that a request names, oldest first. Raises ResourceNotFound."""
    name = response._get_param("PipelineName")
    if (pipeline := response.sagemaker_backend.pipelines.get(name)) is None:
        raise JsonRESTError("ResourceNotFound", f"Pipeline {name} does not exist.")
    known: list[str] = pipeline.__dict__.setdefault("versions", [pipeline.pipeline_definition])
    return known


def _asked(response: Any) -> int:
    """The version that a request names, or the newest. Raises ResourceNotFound where there is none."""
    known, version = _versions(response), response._get_param("PipelineVersionId")
    if version is not None and not 1 <= version <= len(known):
        raise JsonRESTError("ResourceNotFound", f"Pipeline version {version} does not exist.")
    return version or len(known)


def list_pipeline_versions(self: Any) -> ActionResult:
    numbers = range(1, len(_versions(self)) + 1)
    ordered = numbers[::-1] if self._get_param("SortOrder") == "Descending" else numbers
    found = [{"PipelineVersionId": number} for number in ordered]
    return ActionResult({"PipelineVersionSummaries": found[: self._get_param("MaxResults") or 10]})


def describe_pipeline(self: Any) -> ActionResult:
    answer = PLAIN["describe_pipeline"](self)
    answer._result["PipelineDefinition"] = _versions(self)[_asked(self) - 1]
    return answer


def start_pipeline_execution(self: Any) -> ActionResult:
    started.append((self._get_param("PipelineName"), _asked(self)))
    return PLAIN["start_pipeline_execution"](self)


def update_pipeline(self: Any) -> ActionResult:
    known, definition = _versions(self), self._get_param("PipelineDefinition")
    answer = UPDATE(self)
    if definition not in (None, known[-1]):
        known.append(definition)
    answer._result["PipelineVersionId"] = len(known)
    return answer


for function in (list_pipeline_versions, describe_pipeline, start_pipeline_execution, update_pipeline):
    setattr(SageMakerResponse, function.__name__, function)
