"""A tuning job: its trials are training jobs, chosen and given up by Optuna here, and by SageMaker's tuner there.

The same request gives the same answer as long as the time does not run out: trials are chosen in rounds of as many as
may train at once, whatever this machine can, and each is judged by those of earlier rounds.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from batchloop.container.job import InputError
from batchloop.engine.steps import Arguments, PipelineExecution, measured, training_job
from batchloop.engine.storage import Properties

AT_ONCE, EVERY = 2, 20  # processes here, and about how many rounds of boosting a trial tells of its loss
COMPLETED, STOPPED, FAILED = "Completed", "Stopped", "Failed"  # as the service describes a training job


@dataclass
class Trial:
    """One training job of a search: its name, Optuna's own trial, what was chosen for it, and how it ended."""

    name: str
    chosen: Any
    hyperparameters: Mapping[str, str]
    status: str = COMPLETED
    value: float = math.nan
    message: str = ""

    def __str__(self) -> str:
        """As a search inside TrainModel prints its trials."""
        how = f"loss {self.value:.6f}" if self.status == COMPLETED else self.status.lower()
        values = ", ".join(map("=".join, self.hyperparameters.items()))
        return f"warning: {self.name} failed: {self.message}" if self.message else f"{self.name}: {how} ({values})"


def tuning(name: str, arguments: Arguments, run: PipelineExecution) -> Properties:
    """The best trial. One that fails is one less; raises InputError where none comes to its end."""
    from optuna.trial import TrialState  # noqa: PLC0415 - it takes long, and only a search needs it

    from batchloop.container import hyperparameters  # noqa: PLC0415

    config = arguments["HyperParameterTuningJobConfig"]
    limits, objective = config["ResourceLimits"], config["HyperParameterTuningJobObjective"]
    most, at_once = limits["MaxNumberOfTrainingJobs"], limits["MaxParallelTrainingJobs"]
    deadline = time.monotonic() + limits.get("MaxRuntimeInSeconds", math.inf)
    study = hyperparameters.study(config.get("RandomSeed", 0), objective["Type"].lower())
    states = {COMPLETED: TrialState.COMPLETE, STOPPED: TrialState.PRUNED, FAILED: TrialState.FAIL}
    ranges = [(kind, option) for kind, options in config["ParameterRanges"].items() for option in options]
    work, trials = partial(_train, arguments=arguments, run=run, deadline=deadline), list[Trial]()
    with run.log(name).open("a", encoding="utf-8") as log, ThreadPoolExecutor(min(at_once, AT_ONCE)) as pool:
        while len(trials) < most and time.monotonic() < deadline:
            numbers = range(len(trials) + 1, min(len(trials) + at_once, most) + 1)
            asked = [(f"{name}-{number:03}", study.ask()) for number in numbers]
            chosen = [(*trial, hyperparameters.suggested(ranges, trial[1])) for trial in asked]
            for trial in list(pool.map(work, [Trial(*its) for its in chosen])):  # none is judged by one beside it
                value = trial.value if trial.status == COMPLETED else None
                study.tell(trial.chosen, value, states[trial.status])
                print(trial, file=log, flush=True)
                trials.append(trial)
    if not (ended := [trial for trial in trials if trial.status == COMPLETED]):
        why = next((f": {trial.message}" for trial in reversed(trials) if trial.message), "; give it more time.")
        raise InputError(f"none of {len(trials)} trials came to its end{why}")
    best = (min if objective["Type"] == "Minimize" else max)(ended, key=lambda trial: trial.value)
    counts = Counter(trial.status for trial in trials)
    return {
        "HyperParameterTuningJobName": run.job_name(name),
        "HyperParameterTuningJobStatus": "Completed",
        "TrainingJobStatusCounters": {COMPLETED: counts[COMPLETED], STOPPED: counts[STOPPED], FAILED: counts[FAILED]},
        "BestTrainingJob": {
            "TrainingJobName": run.job_name(best.name),
            "TrainingJobStatus": best.status,
            "TunedHyperParameters": best.hyperparameters,
            "FinalHyperParameterTuningJobObjectiveMetric": {**objective, "Value": best.value},
        },
    }


def _train(trial: Trial, arguments: Arguments, run: PipelineExecution, deadline: float) -> Trial:
    """Run the trial's job, and end it early where it is behind what most others had come to by then."""
    definition, config = arguments["TrainingJobDefinition"], arguments["HyperParameterTuningJobConfig"]
    metric = config["HyperParameterTuningJobObjective"]["MetricName"]
    regex = {item["Name"]: item["Regex"] for item in definition["AlgorithmSpecification"]["MetricDefinitions"]}[metric]
    given = {**definition["StaticHyperParameters"], **trial.hyperparameters, "_tuning_objective_metric": metric}
    told = 0

    def hopeless() -> bool:
        nonlocal told
        behind = time.monotonic() > deadline
        for value in measured(job, regex)[told:]:
            told += 1
            trial.chosen.report(value, told * EVERY)
            behind |= config.get("TrainingJobEarlyStoppingType") == "Auto" and trial.chosen.should_prune()
        trial.status = STOPPED if behind else trial.status
        return trial.status == STOPPED

    try:
        job = training_job(trial.name, {**definition, "HyperParameters": given}, run)
        run.backend.run(job, hopeless)
        hopeless()  # by what it has printed at last
        trial.value = (measured(job, regex) or [math.nan])[-1]
        if trial.status == COMPLETED and not math.isfinite(trial.value):
            raise InputError(f"it printed no {metric}.")
    except InputError as error:
        trial.status, trial.message = FAILED, str(error)
    return trial
