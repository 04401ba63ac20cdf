"""TuneModel: the search for hyperparameters as training jobs, several at once, which SageMaker's own tuner starts.

Sources: "HyperParameterTuningJobConfig" and "HyperParameterTrainingJobDefinition" in the SageMaker API reference.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sagemaker.core.workflow.properties import Properties
from sagemaker.mlops.workflow.steps import ConfigurableRetryStep, ProcessingStep, StepTypeEnum, TrainingStep, TuningStep

from batchloop.container import hyperparameters
from batchloop.container.hyperparameters import KINDS, OBJECTIVE
from batchloop.container.usecase import UseCase
from batchloop.environment import Environment
from batchloop.pipelines import steps
from batchloop.pipelines.steps import Context

NAME, AGAIN = "TuneModel", 3
# a trial has these of TrainModel's request; no checkpoints, for all trials would share one place
SAME = {"RoleArn", "VpcConfig", "StoppingCondition"}
SAME |= {"EnableNetworkIsolation", "EnableManagedSpotTraining", "Environment"}
CHANNELS = ("train", "validation")
Train = Callable[[Context, UseCase, ProcessingStep, Mapping[str, Any]], TrainingStep]


class TuneStep(TuningStep):  # type: ignore[misc]  # the SDK has no types
    """A tuning job whose trials are jobs like a training step's.

    The SDK's tuner (3.27) leaves network isolation, the volume's key and a channel's distribution out of the request.
    """

    def __init__(self, context: Context, trial: TrainingStep, config: Mapping[str, Any]) -> None:
        ConfigurableRetryStep.__init__(self, NAME, StepTypeEnum.TUNING, retry_policies=steps.job_retries())
        self.trial, self.config, self.cache_config = trial, config, steps.CACHE
        self.output = {"S3OutputPath": steps.output_uri(context, NAME, "output")}
        self._properties = Properties(step_name=NAME, step=self, shape_name="DescribeHyperParameterTuningJobResponse")

    @property
    def arguments(self) -> Any:
        request = self.trial.arguments
        ranges = self.config["ParameterRanges"].values()
        searched = {entry["Name"] for entries in ranges for entry in entries} | {"trials", "continue_training"}
        given = {name: value for name, value in request["HyperParameters"].items() if name not in searched}
        channels = [channel for channel in request["InputDataConfig"] if channel["ChannelName"] in CHANNELS]
        for channel in channels:
            channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "FullyReplicated"
        metric = {"Name": OBJECTIVE, "Regex": f"metric {OBJECTIVE}=(\\S+)"}
        algorithm = {key: request["AlgorithmSpecification"][key] for key in ("TrainingImage", "TrainingInputMode")}
        return {
            "HyperParameterTuningJobConfig": self.config,
            "TrainingJobDefinition": {
                **{key: value for key, value in request.items() if key in SAME},
                "StaticHyperParameters": {**given, "trial": "true"},
                "AlgorithmSpecification": {**algorithm, "MetricDefinitions": [metric]},
                "InputDataConfig": channels,
                "OutputDataConfig": {**request["OutputDataConfig"], **self.output},
                "ResourceConfig": {**request["ResourceConfig"], "InstanceCount": 1},  # a trial has all rows
                "RetryStrategy": {"MaximumRetryAttempts": AGAIN},  # the step's own policy does not heed a job's faults
            },
            "Tags": request["Tags"],
        }


def fixed(usecase: UseCase, environment: Environment) -> Iterator[tuple[str, Any]]:
    """The hyperparameters whose values TuneModel does not choose, and their values."""
    searched = usecase.tuning.search if environment.tunes(usecase) else ()
    return ((name, value) for name, value in usecase.hyperparameters.items() if name not in searched)


def tuned(train: Train, context: Context, usecase: UseCase, prepare: ProcessingStep) -> list[Any]:
    """What `train` makes of no hyperparameters; or TuneModel, and what it makes of those of the best trial."""
    if not context.environment.tunes(usecase):
        return [train(context, usecase, prepare, {})]
    trial = train(context, usecase, prepare, dict.fromkeys(usecase.tuning.search, ""))
    tune = TuneStep(context, trial, _config(context, usecase))
    best = tune.properties.BestTrainingJob.TunedHyperParameters
    found = {name: best[name] for name in usecase.tuning.search}
    return [tune, train(context, usecase, prepare, {**found, "trials": "0"})]


def _config(context: Context, usecase: UseCase) -> dict[str, Any]:
    ranges = hyperparameters.ranges(usecase.tuning.search, usecase.hyperparameters)
    options = {kind: [option for its, option in ranges if its == kind] for kind in KINDS}
    return {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": OBJECTIVE},
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": context["Trials"],
            "MaxParallelTrainingJobs": context.environment.tuning_jobs,
            "MaxRuntimeInSeconds": usecase.tuning.timeout_seconds,
        },
        "ParameterRanges": {kind: entries for kind, entries in options.items() if entries},
        "TrainingJobEarlyStoppingType": "Auto",
        "RandomSeed": int(usecase.hyperparameters.get("seed", 0)),
    }
