"""A tuning job: its trials are training jobs, chosen by Optuna here, and by SageMaker's tuner there.

The same request gives the same answer as long as the time does not run out: trials are chosen in rounds of as many as
may train at once, whatever this machine can, and each is judged by those of earlier rounds. The service ends a trial
early that is behind ("Auto"); here each comes to its end.
"""

import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from batchloop.container.job import InputError
from batchloop.engine.steps import Arguments, PipelineExecution, measured, training_job
from batchloop.engine.storage import Properties

AT_ONCE = 2  # processes here


@dataclass
class Trial:
    """One training job of a search: its name, Optuna's own trial, what was chosen for it, and how it ended."""

    name: str
    chosen: Any
    hyperparameters: Mapping[str, str]
    value: float = math.nan
    message: str = ""

    def __str__(self) -> str:
        """As a search inside TrainModel prints its trials."""
        values = ", ".join(map("=".join, self.hyperparameters.items()))
        said = f"{self.name}: loss {self.value:.6f} ({values})"
        return f"warning: {self.name} failed: {self.message}" if self.message else said


def tuning(name: str, arguments: Arguments, run: PipelineExecution) -> Properties:
    """The best trial. One that fails is one less; raises InputError where none comes to its end."""
    from optuna.trial import TrialState  # noqa: PLC0415 - it takes long, and only a search needs it

    from batchloop.container import hyperparameters  # noqa: PLC0415

    config = arguments["HyperParameterTuningJobConfig"]
    limits, objective = config["ResourceLimits"], config["HyperParameterTuningJobObjective"]
    most, at_once = limits["MaxNumberOfTrainingJobs"], limits["MaxParallelTrainingJobs"]
    deadline = time.monotonic() + limits.get("MaxRuntimeInSeconds", math.inf)
    study = hyperparameters.study(config.get("RandomSeed", 0), objective["Type"].lower())
    work, trials = partial(_train, arguments=arguments, run=run), list[Trial]()
    with run.log(name).open("a", encoding="utf-8") as log, ThreadPoolExecutor(min(at_once, AT_ONCE)) as pool:
        while len(trials) < most and time.monotonic() < deadline:
            numbers = range(len(trials) + 1, min(len(trials) + at_once, most) + 1)
            asked = [(f"{name}-{number:03}", study.ask()) for number in numbers]
            chosen = [(*trial, hyperparameters.suggested(config["ParameterRanges"], trial[1])) for trial in asked]
            for trial in list(pool.map(work, [Trial(*its) for its in chosen])):  # none is judged by one beside it
                how = (None, TrialState.FAIL) if trial.message else (trial.value, TrialState.COMPLETE)
                study.tell(trial.chosen, *how)
                print(trial, file=log, flush=True)
                trials.append(trial)
    if not (ended := [trial for trial in trials if not trial.message]):
        why = next((f": {trial.message}" for trial in reversed(trials)), "; give it more time.")
        raise InputError(f"none of {len(trials)} trials came to its end{why}")
    best = (min if objective["Type"] == "Minimize" else max)(ended, key=lambda trial: trial.value)
    return {
        "HyperParameterTuningJobName": run.job_name(name),
        "HyperParameterTuningJobStatus": "Completed",
        "TrainingJobStatusCounters": {"Completed": len(ended), "Stopped": 0, "Failed": len(trials) - len(ended)},
        "BestTrainingJob": {
            "TrainingJobName": run.job_name(best.name),
            "TrainingJobStatus": "Completed",
            "TunedHyperParameters": best.hyperparameters,
            "FinalHyperParameterTuningJobObjectiveMetric": {**objective, "Value": best.value},
        },
    }


def _train(trial: Trial, arguments: Arguments, run: PipelineExecution) -> Trial:
    """Run the trial's job; its loss is what it has printed last."""
    definition, config = arguments["TrainingJobDefinition"], arguments["HyperParameterTuningJobConfig"]
    metric = config["HyperParameterTuningJobObjective"]["MetricName"]
    regex = {item["Name"]: item["Regex"] for item in definition["AlgorithmSpecification"]["MetricDefinitions"]}[metric]
    given = {**definition["StaticHyperParameters"], **trial.hyperparameters, "_tuning_objective_metric": metric}
    try:
        job = training_job(trial.name, {**definition, "HyperParameters": given}, run)
        run.backend.run(job)
        trial.value = (measured(job, regex) or [math.nan])[-1]
        if not math.isfinite(trial.value):
            raise InputError(f"it printed no {metric}.")
    except InputError as error:
        trial.message = str(error)
    return trial
