"""The batch inference pipeline: process → score → detect drift, and explain. Drift never stops scoring."""

from tempfile import gettempdir
from typing import Any

from sagemaker.core.transformer import Transformer
from sagemaker.core.workflow.parameters import Parameter, ParameterInteger, ParameterString
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep, TransformStep
from sagemaker.serve.model_builder import ModelBuilder
from sagemaker.train.configs import Networking

from batchloop.container.usecase import UseCase
from batchloop.environment import Environment
from batchloop.pipelines import steps
from batchloop.pipelines.steps import Context, ProcessingJob

PARQUET = "application/x-parquet"


class CountedTransformStep(TransformStep):  # type: ignore[misc]  # the SDK has no types
    """The SDK's transform request takes only a fixed number of instances (3.27); the service takes a parameter."""

    count: Any

    @property
    def arguments(self) -> Any:
        request = super().arguments
        request["TransformResources"]["InstanceCount"] = self.count
        return request


def pipeline(usecase: UseCase, environment: Environment, session: Any) -> Pipeline:
    """The whole pipeline; the release's images and artifacts come in as parameters."""
    parameters = _parameters(environment)
    context = Context(environment, session, {parameter.name: parameter for parameter in parameters})
    prepare = _prepare_features(context)
    model = _create_model(context)
    score = _score_features(context, prepare, model)
    drift = _detect_drift(context, usecase, score)
    explain = _explain_predictions(context, prepare)
    return steps.pipeline(context, "inference", [prepare, model, score, *drift, *explain])


def _parameters(environment: Environment) -> list[Parameter]:
    released = ("Preprocessor", "Model", "Baseline", "Explainer")
    return [
        ParameterString("ProductionData", environment.data("sample", "production")),
        ParameterString("DataFingerprint"),  # of what is in it; without a default, so that nobody gets old answers
        ParameterString("ArtifactsPrefix", environment.runs("inference")),
        *(ParameterString(name, environment.nothing) for name in released),  # every run is given a release's
        # The empty artifact until labels of the scored window have arrived: DetectDrift alone is then run again.
        ParameterString("LabelledData", environment.nothing),
        ParameterString("LabelsVersion", "none"),
        ParameterInteger("MaxPayloadInMB", 6),
        ParameterInteger("MaxConcurrentTransforms", 2),
        *steps.image_parameters(environment),
        *steps.instance_parameters(environment, ("processing", "transform", "monitoring", "explainability")),
    ]


def _prepare_features(context: Context) -> ProcessingStep:
    job = ProcessingJob(
        name="PrepareFeatures",
        component="processing",
        arguments=["serve", "--max_payload_mb", context["MaxPayloadInMB"].to_string()],
        inputs={"raw": context["ProductionData"], "preprocessor": context["Preprocessor"]},
        outputs=["features", "summary"],
        spread=("raw",),
    )
    return steps.processing(context, job)


def _create_model(context: Context) -> ModelStep:
    environment = context.environment
    builder = ModelBuilder(
        model_path=gettempdir(),  # by default a folder of one user in /tmp, which others may not use
        s3_model_data_url=context["Model"],
        image_uri=context["AlgorithmImage"],
        role_arn=environment.role,
        sagemaker_session=context.session,
        network=Networking(
            enable_network_isolation=True,
            subnets=list(environment.subnets) or None,
            security_group_ids=list(environment.security_groups) or None,
        ),
    )
    built = builder.build(tags=context.tags)
    return ModelStep(name="CreateModel", step_args=built, retry_policies=steps.service_retries())


def _score_features(context: Context, prepare: ProcessingStep, model: ModelStep) -> TransformStep:
    """One file is one request: Parquet can't be split, and processing has cut it to size."""
    environment = context.environment
    transformer = Transformer(
        model_name=model.properties.ModelName,
        instance_type=context["TransformInstanceType"],
        instance_count=environment.instances["transform"].count,
        strategy="SingleRecord",
        output_path=steps.output_uri(context, "ScoreFeatures", "predictions"),
        output_kms_key=environment.key,
        volume_kms_key=environment.volume_key("transform"),
        transform_ami_version=environment.transform_ami,
        accept=PARQUET,
        max_concurrent_transforms=context["MaxConcurrentTransforms"],
        max_payload=context["MaxPayloadInMB"],
        tags=context.tags,
        sagemaker_session=context.session,
    )
    arguments = transformer.transform(
        data=steps.output_of(prepare, "features"), data_type="S3Prefix", content_type=PARQUET, split_type="None"
    )
    step = CountedTransformStep(name="ScoreFeatures", step_args=arguments, retry_policies=steps.job_retries())
    step.count = context["TransformInstanceCount"]
    return step


def _detect_drift(context: Context, usecase: UseCase, score: TransformStep) -> list[ProcessingStep]:
    named = ("raw",) if usecase.data.id else ()  # without an id labels are found by the rows that were scored
    job = ProcessingJob(
        name="DetectDrift",
        component="monitoring",
        arguments=["serve", "--labels", context["LabelsVersion"]],  # so that the request says which labels they are
        inputs={
            "raw": context["ProductionData"],
            "predictions": steps.folder(score.properties.TransformOutput.S3OutputPath),
            "baseline": context["Baseline"],
            "explainer": context["Explainer"],  # only for how much the model uses each column
            "labels": context["LabelledData"],
        },
        outputs=["drift"],
        cached=False,  # what a reused step stored lies with the execution that ran it, where the loop does not look
        shared=steps.Shared("CountProductionData", ("raw", "baseline"), "counts", spread=("raw",), left_out=named),
    )
    return steps.processings(context, job)


def _explain_predictions(context: Context, prepare: ProcessingStep) -> list[ProcessingStep]:
    job = ProcessingJob(
        name="ExplainPredictions",
        component="explainability",
        arguments=["serve"],
        inputs={
            "features": steps.output_of(prepare, "features"),
            "model": context["Model"],
            "explainer": context["Explainer"],
        },
        outputs=["explanations"],
        shared=steps.Shared("ExplainRows", ("features", "model", "explainer"), "reasons", left_out=("features",)),
    )
    return steps.processings(context, job)
