"""Executions of the pipelines: starting one, and what one was given."""

from hashlib import sha256
from typing import Any

from functions.clients import Aws

RUNS = ("Executing", "Stopping")


def start(aws: Aws, pipeline: str, values: dict[str, str], purpose: tuple[str, ...], why: str, **more: Any) -> str:
    """Start an execution, once for a purpose; its ARN. `more` are further members of the request."""
    answer = aws.sagemaker.start_pipeline_execution(
        PipelineName=pipeline,
        PipelineExecutionDescription=" ".join(why.split())[:1000],
        PipelineParameters=[{"Name": name, "Value": value} for name, value in values.items()],
        ClientRequestToken=sha256("\n".join((pipeline, *purpose)).encode()).hexdigest(),
        **more,
    )
    return str(answer["PipelineExecutionArn"])


def parameters(aws: Aws, arn: str) -> dict[str, str]:
    """What an execution was given."""
    found = aws.sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn, MaxResults=100)
    return {entry["Name"]: entry["Value"] for entry in found["PipelineParameters"]}
