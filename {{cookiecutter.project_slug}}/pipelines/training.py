"""The training pipeline: process → train and tune → learn the baseline, explain → quality gate → register."""

from collections.abc import Mapping
from tempfile import gettempdir
from typing import Any

from sagemaker.core.drift_check_baselines import DriftCheckBaselines
from sagemaker.core.model_metrics import MetricsSource, ModelMetrics
from sagemaker.core.shapes import MetricDefinition, ModelPackageModelCard
from sagemaker.core.workflow.conditions import ConditionGreaterThanOrEqualTo, ConditionLessThanOrEqualTo, ConditionOr
from sagemaker.core.workflow.functions import Join
from sagemaker.core.workflow.parameters import Parameter, ParameterFloat, ParameterInteger, ParameterString
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep, TrainingStep
from sagemaker.serve.model_builder import ModelBuilder
from sagemaker.train.configs import (
    CheckpointConfig,
    Compute,
    InputData,
    Networking,
    OutputDataConfig,
    StoppingCondition,
    Tag,
)
from sagemaker.train.model_trainer import ModelTrainer

from batchloop.container import metrics
from batchloop.container.hyperparameters import text
from batchloop.container.usecase import UseCase, digest
from batchloop.environment import Environment
from batchloop.pipelines import card, steps, tuning
from batchloop.pipelines.steps import Context, ProcessingJob

SPLITS = ("train", "validation", "test", "champion_test")


def pipeline(usecase: UseCase, environment: Environment, session: Any) -> Pipeline:
    """The whole pipeline; what varies from run to run is a parameter."""
    parameters = _parameters(usecase, environment)
    context = Context(environment, session, {parameter.name: parameter for parameter in parameters})
    *sample, prepare = _prepare_training_data(context, usecase)
    *tune, train = tuning.tuned(_train_model, context, usecase, prepare)
    *shares, baseline = _learn_baseline(context, train)
    explainer = _learn_explainer(context, prepare, train)
    artifacts = {
        "preprocessor": steps.output_of(prepare, "preprocessor"),
        "model": _model(train),
        "baseline": steps.output_of(baseline, "baseline"),
        "explainer": steps.output_of(explainer, "explainer"),
        "evaluation": steps.output_of(baseline, "report", "evaluation.json"),
    }
    documents = {
        "evaluation": artifacts["evaluation"],
        "baseline": steps.output_of(baseline, "baseline", "baseline.json"),
        "explanation": steps.output_of(explainer, "report", "report.html"),
    }
    check = ConditionStep(
        name="CheckQuality",
        conditions=_conditions(context, usecase, train),
        if_steps=[_register_model(context, usecase, train, artifacts, documents)],
        else_steps=[_reject_model(context, usecase, train)],
        depends_on=[baseline, explainer],
    )
    order = [*sample, prepare, *tune, train, *shares, baseline, explainer, check]
    return steps.pipeline(context, "training", order)


def _parameters(usecase: UseCase, environment: Environment) -> list[Parameter]:
    validation_data = [ParameterString("ValidationData", environment.data("sample", "validation"))]
    return [
        ParameterString("TrainingData", environment.data("sample", "train")),
        # Manifests of files; this one lists the empty artifact: no earlier window.
        ParameterString("EarlierData", f"{environment.nothing}earlier.manifest"),
        *(validation_data if usecase.split.method == "given" else []),
        ParameterString("DataFingerprint"),  # of all the data; without a default, so that nobody gets old answers
        ParameterString("ArtifactsPrefix", environment.runs("training")),
        # The empty artifact stands for "no champion yet": a pipeline's inputs can't be optional.
        ParameterString("ChampionPreprocessor", environment.nothing),
        ParameterString("ChampionModel", environment.nothing),
        ParameterString("ContinueTraining", "false", enum_values=["false", "true"]),
        ParameterInteger("Trials", usecase.tuning.trials),
        *(ParameterString(camel(name), text(value)) for name, value in tuning.fixed(usecase, environment)),
        ParameterFloat("QualityLimit", usecase.gate.minimum),
        ParameterFloat("MinimumLead", usecase.gate.minimum_lead),
        ParameterString("ApprovalStatus", environment.approval, enum_values=["Approved", "PendingManualApproval"]),
        ParameterString("GitCommit", "unknown"),
        *steps.image_parameters(environment),
        *steps.instance_parameters(environment, steps.COMPONENTS),
    ]


def camel(name: str) -> str:
    """learning_rate → LearningRate: a pipeline parameter's name."""
    return "".join(word.capitalize() for word in name.split("_"))


def _prepare_training_data(context: Context, usecase: UseCase) -> list[ProcessingStep]:
    validation_data = {"validation": context["ValidationData"]} if usecase.split.method == "given" else {}
    job = ProcessingJob(
        name="PrepareTrainingData",
        component="processing",
        arguments=["train", "--continue_training", context["ContinueTraining"]],
        inputs={
            "raw": context["TrainingData"],
            "earlier": context["EarlierData"],
            "champion": context["ChampionPreprocessor"],
            **validation_data,
        },
        outputs=["preprocessor", *SPLITS],
        listed=("earlier",),
        shared=steps.Shared("SampleTrainingData", ("raw", "earlier"), "sample", spread=("raw",), again=True),
    )
    return steps.processings(context, job)


def _train_model(context: Context, usecase: UseCase, prepare: ProcessingStep, tuned: Mapping[str, Any]) -> TrainingStep:
    """`tuned` are the hyperparameters that TuneModel has found, where it is switched on."""
    channels: dict[str, Any] = {name: steps.output_of(prepare, name) for name in SPLITS}
    channels |= {"train": steps.spread(channels["train"]), "champion": context["ChampionModel"]}
    data = [InputData(channel_name=name, data_source=source) for name, source in channels.items()]
    trainer = _trainer(context, usecase, tuned).with_metric_definitions(_metric_definitions(usecase))
    return TrainingStep(
        name="TrainModel",
        step_args=trainer.train(input_data_config=data),
        cache_config=steps.CACHE,
        retry_policies=steps.job_retries(),
    )


def _trainer(context: Context, usecase: UseCase, tuned: Mapping[str, Any]) -> ModelTrainer:
    environment, longest = context.environment, context.environment.max_runtime_seconds
    settings = {name: context[camel(name)] for name in usecase.hyperparameters if name not in tuned}
    return ModelTrainer(
        training_image=context["AlgorithmImage"],
        base_job_name="algorithm",
        role=environment.role,
        sagemaker_session=context.session,
        hyperparameters={
            **settings,
            "trials": context["Trials"].to_string(),  # a number would break the API's string map
            "continue_training": context["ContinueTraining"],
            **tuned,
        },
        compute=Compute(
            instance_type=context["AlgorithmInstanceType"],
            instance_count=context["AlgorithmInstanceCount"],
            volume_size_in_gb=environment.instances["algorithm"].volume_gb,
            volume_kms_key_id=environment.volume_key("algorithm"),
            enable_managed_spot_training=environment.spot,
        ),
        stopping_condition=StoppingCondition(
            max_runtime_in_seconds=longest, max_wait_time_in_seconds=2 * longest if environment.spot else None
        ),
        networking=Networking(
            enable_network_isolation=True,
            subnets=list(environment.subnets) or None,
            security_group_ids=list(environment.security_groups) or None,
        ),
        output_data_config=OutputDataConfig(
            s3_output_path=steps.output_uri(context, "TrainModel", "output"),
            kms_key_id=environment.key,
        ),
        checkpoint_config=CheckpointConfig(
            # no part of it is new with each run, or the step would never be reused; a checkpoint says whose it is
            s3_uri=Join(on="/", values=[context["ArtifactsPrefix"], "checkpoints", context["DataFingerprint"]]),
            local_path="/opt/ml/checkpoints",
        ),
        tags=[Tag(key=tag["Key"], value=tag["Value"]) for tag in context.tags],
    )


def _metric_definitions(usecase: UseCase) -> list[MetricDefinition]:
    """The lines `metric <split>:<name>=<value>` that the algorithm prints."""
    names = [f"{split}:{name}" for split in ("validation", "test") for name in metrics.NAMES[usecase.data.task]]
    names += [f"champion:{usecase.gate.metric}", "gate:value", "gate:lead", "gate:compared"]
    names += ["gate:lead_low", "gate:lead_high", "gate:disagreement"]
    names += ["gate:worst_slice", "gate:slices_not_evaluable"] if usecase.slices.limit is not None else []
    return [MetricDefinition(name=name, regex=f"metric {name}=(\\S+)") for name in names]


def _learn_baseline(context: Context, train: TrainingStep) -> list[ProcessingStep]:
    job = ProcessingJob(
        name="LearnBaseline",
        component="monitoring",
        arguments=["train"],
        inputs={"raw": context["TrainingData"], "evaluation": _evaluation(train)},
        outputs=["baseline", "report"],
        shared=steps.Shared("SampleBaselineData", ("raw",), "sample", spread=("raw",), left_out=("raw",)),
    )
    return steps.processings(context, job)


def _learn_explainer(context: Context, prepare: ProcessingStep, train: TrainingStep) -> ProcessingStep:
    job = ProcessingJob(
        name="LearnExplainer",
        component="explainability",
        arguments=["train"],
        inputs={"model": _model(train), "features": steps.output_of(prepare, "validation")},
        outputs=["explainer", "report"],
    )
    return steps.processing(context, job)


def _model(train: TrainingStep) -> Any:
    """The URI of model.tar.gz."""
    return train.properties.ModelArtifacts.S3ModelArtifacts


def _evaluation(train: TrainingStep) -> Join:
    """The URI of output.tar.gz: evaluation.json and the predictions of the validation split."""
    properties = train.properties
    parts = [properties.OutputDataConfig.S3OutputPath, properties.TrainingJobName, "output", "output.tar.gz"]
    return Join(on="/", values=parts)


def _final(train: TrainingStep, name: str) -> Any:
    return train.properties.FinalMetricDataList[name].Value


def _conditions(context: Context, usecase: UseCase, train: TrainingStep) -> list[Any]:
    """The gate: good enough by itself, and not behind the champion on the same rows, where it can be compared."""
    smaller = usecase.gate.metric in metrics.SMALLER_IS_BETTER
    compare, limit = ConditionLessThanOrEqualTo if smaller else ConditionGreaterThanOrEqualTo, usecase.slices.limit
    return [
        compare(left=_final(train, "gate:value"), right=context["QualityLimit"]),
        ConditionOr(
            [
                ConditionLessThanOrEqualTo(left=_final(train, "gate:compared"), right=0.0),
                ConditionGreaterThanOrEqualTo(left=_final(train, "gate:lead"), right=context["MinimumLead"]),
            ]
        ),
        *([] if limit is None else [compare(left=_final(train, "gate:worst_slice"), right=limit)]),
        *([] if limit is None else [ConditionLessThanOrEqualTo(_final(train, "gate:slices_not_evaluable"), 0.0)]),
    ]


def _register_model(
    context: Context, usecase: UseCase, train: TrainingStep, artifacts: dict[str, Any], documents: dict[str, Any]
) -> ModelStep:
    """A model package that names all four artifacts and images, which make a release, and what approvers look at."""
    images = {f"{name}_image": context[f"{name.capitalize()}Image"] for name in steps.COMPONENTS}
    builder = ModelBuilder(
        model_path=gettempdir(),  # by default a folder of one user in /tmp, which others may not use
        s3_model_data_url=artifacts["model"],
        image_uri=context["AlgorithmImage"],
        role_arn=context.environment.role,
        sagemaker_session=context.session,
    )
    package = builder.register(
        model_package_group_name=context.environment.prefix,
        content_types=["application/x-parquet", "text/csv", "application/jsonlines"],
        response_types=["application/x-parquet", "text/csv", "application/jsonlines"],
        transform_instances=[context.environment.instances["transform"].type],
        inference_instances=[context.environment.instances["transform"].type],
        approval_status=context["ApprovalStatus"],
        model_metrics=ModelMetrics(
            model_statistics=MetricsSource("application/json", documents["evaluation"]),
            model_data_statistics=MetricsSource("application/json", documents["baseline"]),
            explainability=MetricsSource("text/html", documents["explanation"]),
        ),
        drift_check_baselines=DriftCheckBaselines(
            model_data_statistics=MetricsSource("application/json", documents["baseline"])
        ),
        model_card=ModelPackageModelCard(model_card_content=_card(context, usecase, train), model_card_status="Draft"),
        customer_metadata_properties={
            **artifacts,
            **images,
            "training_data": context["TrainingData"],
            "git_commit": context["GitCommit"],
            "contract": digest(usecase.contract()),
            "gate_value": _final(train, "gate:value").to_string(),
            "gate_lead": _final(train, "gate:lead").to_string(),
        },
    )
    return ModelStep(name="RegisterModel", step_args=package, retry_policies=steps.service_retries())


def _card(context: Context, usecase: UseCase, train: TrainingStep) -> Join:
    """What is known of the model while it is registered; `make audit` writes the whole card of a release."""
    gate = {f"test {usecase.gate.metric}": "gate:value", "lead over the champion": "gate:lead"}
    known = {name: context[name] for name in ("TrainingData", "AlgorithmImage", "GitCommit", "DataFingerprint")}
    known |= {"Model": _model(train), "Job": train.properties.TrainingJobName}
    numbers = {name: _final(train, metric).to_string() for name, metric in gate.items()}
    return Join(on="", values=card.registered(usecase, known, numbers))


def _reject_model(context: Context, usecase: UseCase, train: TrainingStep) -> FailStep:
    limit = "at most" if usecase.gate.metric in metrics.SMALLER_IS_BETTER else "at least"
    differ = [] if not usecase.data.classes else _disagreement(train)
    rival = "or without one the seasonal naive forecast" if usecase.series else "where there is one"
    parts = [
        f"The model is not good enough: test {usecase.gate.metric} is ",
        _final(train, "gate:value").to_string(),
        f" ({limit} ",
        context["QualityLimit"].to_string(),
        f" is asked). Lead over the champion, {rival}: ",
        _final(train, "gate:lead").to_string(),
        " (at least ",
        context["MinimumLead"].to_string(),
        " is asked)",
        *differ,
        *([] if usecase.slices.limit is None else _slices(train, limit, usecase.slices.limit)),
        ". LearnBaseline's report compares the two, and says how sure that is.",
    ]
    return FailStep(name="RejectModel", error_message=Join(on="", values=parts))


def _slices(train: TrainingStep, word: str, limit: float) -> list[Any]:
    few = ["; slices that can't be evaluated: ", _final(train, "gate:slices_not_evaluable").to_string()]
    return ["; the worst slice's is ", _final(train, "gate:worst_slice").to_string(), f" ({word} {limit:g})", *few]


def _disagreement(train: TrainingStep) -> list[Any]:
    return ["; share of rows they predict another class for: ", _final(train, "gate:disagreement").to_string()]
