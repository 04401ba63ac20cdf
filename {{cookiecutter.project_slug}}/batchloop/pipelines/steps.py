"""What the steps of both pipelines have in common: the processing job, its places in S3, retries, caching."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sagemaker.core.network import NetworkConfig
from sagemaker.core.processing import Processor
from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output, S3DataSource
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join
from sagemaker.core.workflow.parameters import Parameter, ParameterInteger, ParameterString
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.retry import (
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
    StepExceptionTypeEnum,
    StepRetryPolicy,
)
from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep

from batchloop.control import names
from batchloop.environment import Environment

COMPONENTS = tuple(names.COMPONENTS)
# A step is reused while its request is the same, whatever has become of the data behind a URI in it: so each request
# holds the fingerprint of the raw data ("Default cache key attributes by pipeline step type": outputs do not count).
CACHE = CacheConfig(enable_caching=True, expire_after="P30D")
# Polars reads this many row groups ahead of each scan. By default it is 8 or more, and a job's memory then depends on
# how much faster the disk is than the processors.
ENVIRONMENT = {"POLARS_ROW_GROUP_PREFETCH_SIZE": "2"}


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


def pipeline(context: Context, name: str, steps: Sequence[Any]) -> Pipeline:
    """The whole of it, without an experiment: each run would make one, and a trial, which its role may not."""
    return Pipeline(
        name=context.environment.pipeline(name),
        parameters=[*context.parameters.values()],
        pipeline_experiment_config=None,
        steps=[*steps],
        sagemaker_session=context.session,
    )


@dataclass(frozen=True)
class Shared:
    """A step that several instances do before another one: its name, inputs, and the output that the other reads.

    Of a `spread` input each gets a part of the files. What is `left_out` the other one needs no more. All of them do
    the other one too, each with its part again, where they are to do so `again`.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    spread: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True)
class ProcessingJob:
    """One processing step: component, mode and settings, what is copied in (name → S3 URI) and out (names).

    Of a `spread` input each instance gets a part of the files; of a `listed` one the URI is a manifest of them. A job
    that is not `cached` runs whenever it is asked for. One that is `alone` has one instance, whatever the environment
    says; one with something `shared` has, where it says several, and they do that before.
    """

    name: str
    component: str
    arguments: Sequence[Any]
    inputs: Mapping[str, Any]
    outputs: Sequence[str]
    spread: tuple[str, ...] = ()
    cached: bool = True
    listed: tuple[str, ...] = ()
    alone: bool = False
    shared: Shared | None = None


def processings(context: Context, job: ProcessingJob) -> list[ProcessingStep]:
    """The step, after that one which several instances do before it, where the environment says several."""
    shared = job.shared
    if shared is None or context.environment.instances[job.component].count == 1:
        return [processing(context, job)]
    before = replace(
        job,
        name=shared.name,
        arguments=[job.arguments[0], "--share", "true"],
        inputs={name: job.inputs[name] for name in shared.inputs},
        outputs=[shared.output],
        spread=shared.spread,
        cached=True,
    )
    first = processing(context, before)
    inputs = {name: uri for name, uri in job.inputs.items() if name not in shared.left_out}
    inputs[shared.output] = output_of(first, shared.output)
    spread = shared.spread if shared.again else job.spread
    return [first, processing(context, replace(job, inputs=inputs, alone=not shared.again, spread=spread))]


def processing(context: Context, job: ProcessingJob) -> ProcessingStep:
    """The step; input x appears in /opt/ml/processing/input/x, output y is taken from /opt/ml/processing/output/y."""
    environment, prefix = context.environment, job.component.capitalize()
    processor = Processor(
        role=environment.role,
        image_uri=context[f"{prefix}Image"],
        instance_type=context[f"{prefix}InstanceType"],
        instance_count=1 if job.alone else context[f"{prefix}InstanceCount"],
        volume_size_in_gb=environment.instances[job.component].volume_gb,
        max_runtime_in_seconds=environment.max_runtime_seconds,
        entrypoint=["python", "-m", "batchloop.container", job.component],
        env=ENVIRONMENT | {"DATA_FINGERPRINT": context[names.FINGERPRINT]},
        volume_kms_key=environment.volume_key(job.component),
        output_kms_key=environment.key,
        # no network inside any container, and your VPC where the environment names one
        network_config=NetworkConfig(
            enable_network_isolation=True,
            subnets=list(environment.subnets) or None,
            security_group_ids=list(environment.security_groups) or None,
        ),
        tags=context.tags,
        sagemaker_session=context.session,
    )
    inputs, outputs = [], []
    for name, uri in job.inputs.items():
        source = ProcessingS3Input(
            s3_uri=uri,
            local_path=f"/opt/ml/processing/input/{name}",
            s3_data_type="ManifestFile" if name in job.listed else "S3Prefix",
            s3_input_mode="File",
            s3_data_distribution_type="ShardedByS3Key" if name in job.spread else "FullyReplicated",
        )
        inputs.append(ProcessingInput(input_name=name, s3_input=source))
    for name in job.outputs:
        uri, folder = output_uri(context, job.name, name), f"/opt/ml/processing/output/{name}"
        target = ProcessingS3Output(s3_uri=uri, local_path=folder, s3_upload_mode="EndOfJob")
        outputs.append(ProcessingOutput(output_name=name, s3_output=target))
    arguments = processor.run(inputs=inputs, outputs=outputs, arguments=list(job.arguments))
    cache = CACHE if job.cached else None
    return ProcessingStep(name=job.name, step_args=arguments, cache_config=cache, retry_policies=job_retries())


def output_uri(context: Context, step: str, name: str) -> Join:
    """Where a step's output is stored: under the execution's id, so that no run overwrites another."""
    return Join(on="/", values=[context["ArtifactsPrefix"], ExecutionVariables.PIPELINE_EXECUTION_ID, step, name])


def output_of(step: ProcessingStep, name: str, file: str = "") -> Join:
    """The S3 URI of a processing step's output, or of a file in it; the first ends with a slash, as a folder does."""
    return Join(on="", values=[step.properties.ProcessingOutputConfig.Outputs[name].S3Output.S3Uri, f"/{file}"])


def spread(uri: Any) -> S3DataSource:
    """A training channel of whose files each of several instances gets a part."""
    return S3DataSource(s3_data_type="S3Prefix", s3_uri=uri, s3_data_distribution_type="ShardedByS3Key")


def folder(uri: Any) -> Join:
    """A folder that a step has written, as an input: S3 takes a prefix as text, `test` would take `test_old/` too."""
    return Join(on="", values=[uri, "/"])


def service_retries() -> list[StepRetryPolicy]:
    """Throttling and service faults: soon, and a few times."""
    faults = [StepExceptionTypeEnum.SERVICE_FAULT, StepExceptionTypeEnum.THROTTLING]
    return [StepRetryPolicy(exception_types=faults, interval_seconds=10, backoff_rate=2.0, max_attempts=5)]


def job_retries() -> list[Any]:
    """Three tiers: throttling and faults soon, a quota after minutes (another run's end frees it), capacity later."""
    kind, policy = SageMakerJobExceptionTypeEnum, SageMakerJobStepRetryPolicy
    quota = policy(exception_types=[kind.RESOURCE_LIMIT], interval_seconds=300, backoff_rate=1.5, max_attempts=4)
    spare = [kind.CAPACITY_ERROR, kind.INTERNAL_ERROR]
    capacity = policy(failure_reason_types=spare, interval_seconds=600, backoff_rate=1.5, expire_after_mins=180)
    return [*service_retries(), quota, capacity]


def image_parameters(environment: Environment) -> list[Parameter]:
    return [ParameterString(f"{name.capitalize()}Image", f"{environment.image(name)}:latest") for name in COMPONENTS]


def instance_parameters(environment: Environment, jobs: Sequence[str]) -> list[Parameter]:
    parameters: list[Parameter] = []
    for job in jobs:
        prefix, instances = job.capitalize(), environment.instances[job]
        parameters.append(ParameterString(f"{prefix}InstanceType", instances.type))
        parameters.append(ParameterInteger(f"{prefix}InstanceCount", instances.count))
    return parameters
