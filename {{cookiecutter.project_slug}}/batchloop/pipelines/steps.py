"""What the steps of both pipelines have in common: the processing job, its places in S3, retries, caching."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sagemaker.core.network import NetworkConfig
from sagemaker.core.processing import Processor
from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join
from sagemaker.core.workflow.parameters import Parameter, ParameterInteger, ParameterString
from sagemaker.mlops.workflow.retry import (
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
    StepExceptionTypeEnum,
    StepRetryPolicy,
)
from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep

from batchloop.environment import Environment

# A step is reused while its arguments are the same; AWS leaves job names and the execution id's value out of the
# comparison only where a path is a Join of it, which is how every output path is written here.
CACHE = CacheConfig(enable_caching=True, expire_after="P30D")
COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")
# Polars reads this many row groups ahead of each scan. By default it is 8 or more, and a job's memory then depends on
# how much faster the disk is than the processors.
ENVIRONMENT = {"POLARS_ROW_GROUP_PREFETCH_SIZE": "2"}
INPUT, OUTPUT = "/opt/ml/processing/input", "/opt/ml/processing/output"


@dataclass(frozen=True)
class Context:
    """What every step is built from: the environment, the SDK's session, and the pipeline's parameters by name."""

    environment: Environment
    session: Any
    parameters: Mapping[str, Parameter]

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    @property
    def tags(self) -> list[dict[str, str]]:
        """Who pays for it, on everything a pipeline starts."""
        return [{"Key": key, "Value": value} for key, value in self.environment.tags.items()]


@dataclass(frozen=True)
class ProcessingJob:
    """One processing step: component, mode and settings, what is copied in (name → S3 URI) and out (names).

    Of a `spread` input each instance gets a part of the files; of a `listed` one the URI is a manifest of them. A job
    that is not `cached` runs whenever it is asked for.
    """

    name: str
    component: str
    arguments: Sequence[Any]
    inputs: Mapping[str, Any]
    outputs: Sequence[str]
    spread: tuple[str, ...] = ()
    cached: bool = True
    listed: tuple[str, ...] = ()


def processing(context: Context, job: ProcessingJob) -> ProcessingStep:
    """The step; input x appears in /opt/ml/processing/input/x, output y is taken from /opt/ml/processing/output/y."""
    where, prefix = context.environment, job.component.capitalize()
    processor = Processor(
        role=where.role,
        image_uri=context[f"{prefix}Image"],
        instance_type=context[f"{prefix}InstanceType"],
        instance_count=context[f"{prefix}InstanceCount"],
        volume_size_in_gb=where.instances[job.component].volume_gb,
        max_runtime_in_seconds=where.max_runtime_seconds,
        entrypoint=["python", "-m", f"components.{job.component}"],
        env=ENVIRONMENT,
        volume_kms_key=where.kms_key or None,
        output_kms_key=where.kms_key or None,
        network_config=network(where),
        tags=context.tags,
        sagemaker_session=context.session,
    )
    arguments = processor.run(
        inputs=[_input(name, uri, job) for name, uri in job.inputs.items()],
        outputs=[_output(context, job.name, name) for name in job.outputs],
        arguments=list(job.arguments),
    )
    cache = CACHE if job.cached else None
    return ProcessingStep(name=job.name, step_args=arguments, cache_config=cache, retry_policies=job_retries())


def network(where: Environment) -> NetworkConfig:
    """No network inside any container, and your VPC where the environment names one."""
    return NetworkConfig(
        enable_network_isolation=True,
        subnets=list(where.subnets) or None,
        security_group_ids=list(where.security_groups) or None,
    )


def place(context: Context, step: str, name: str) -> Join:
    """Where a step's output lies: under the execution's id, so that no run overwrites another."""
    return Join(on="/", values=[context["ArtifactsPrefix"], ExecutionVariables.PIPELINE_EXECUTION_ID, step, name])


def output_of(step: ProcessingStep, name: str) -> Any:
    """The S3 URI of a processing step's output."""
    return step.properties.ProcessingOutputConfig.Outputs[name].S3Output.S3Uri


def _input(name: str, uri: Any, job: ProcessingJob) -> ProcessingInput:
    source = ProcessingS3Input(
        s3_uri=uri,
        local_path=f"{INPUT}/{name}",
        s3_data_type="ManifestFile" if name in job.listed else "S3Prefix",
        s3_input_mode="File",
        s3_data_distribution_type="ShardedByS3Key" if name in job.spread else "FullyReplicated",
    )
    return ProcessingInput(input_name=name, s3_input=source)


def _output(context: Context, step: str, name: str) -> ProcessingOutput:
    target = ProcessingS3Output(
        s3_uri=place(context, step, name), local_path=f"{OUTPUT}/{name}", s3_upload_mode="EndOfJob"
    )
    return ProcessingOutput(output_name=name, s3_output=target)


def service_retries() -> list[StepRetryPolicy]:
    """Throttling and service faults: soon, and a few times."""
    faults = [StepExceptionTypeEnum.SERVICE_FAULT, StepExceptionTypeEnum.THROTTLING]
    return [StepRetryPolicy(exception_types=faults, interval_seconds=10, backoff_rate=2.0, max_attempts=5)]


def job_retries() -> list[Any]:
    """Three tiers: throttling and faults soon, a quota after minutes, spare capacity for hours."""
    kind = SageMakerJobExceptionTypeEnum
    return [
        *service_retries(),
        SageMakerJobStepRetryPolicy(
            exception_types=[kind.RESOURCE_LIMIT], interval_seconds=300, backoff_rate=1.5, max_attempts=8
        ),
        SageMakerJobStepRetryPolicy(
            failure_reason_types=[kind.CAPACITY_ERROR, kind.INTERNAL_ERROR],
            interval_seconds=600,
            backoff_rate=1.5,
            expire_after_mins=360,
        ),
    ]


def image_parameters(where: Environment) -> list[Parameter]:
    """The components' images."""
    return [
        ParameterString(name=f"{name.capitalize()}Image", default_value=f"{where.image(name)}:latest")
        for name in COMPONENTS
    ]


def instance_parameters(where: Environment, jobs: Sequence[str]) -> list[Parameter]:
    """Instance type and number of each job."""
    found: list[Parameter] = []
    for job in jobs:
        prefix, instances = job.capitalize(), where.instances[job]
        found.append(ParameterString(name=f"{prefix}InstanceType", default_value=instances.type))
        found.append(ParameterInteger(name=f"{prefix}InstanceCount", default_value=instances.count))
    return found
