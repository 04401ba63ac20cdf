"""Where lies what the last run that succeeded has made: a parameter for each pipeline, for people and other systems."""

import json
from contextlib import suppress

from batchloop.control import storage
from batchloop.control.names import LATEST, Aws, Places
from batchloop.control.storage import Conflict

OUTPUTS = {  # of a pipeline: what it is called, the step that makes it, and where it lies below that step's folder
    "inference": {
        "predictions": ("ScoreFeatures", "predictions/"),
        "drift_report": ("DetectDrift", "drift/report.html"),
        "explanations": ("ExplainPredictions", "explanations/"),
    },
    "training": {
        "evaluation": ("LearnBaseline", "report/evaluation.json"),
        "training_report": ("LearnBaseline", "report/report.html"),
        "explanation_report": ("LearnExplainer", "report/report.html"),
    },
}
DATA = {"inference": ("ProductionData", "production"), "training": ("TrainingData", "train")}


def outputs(aws: Aws, places: Places, pipeline: str, arn: str) -> dict[str, str]:
    """The URIs of what an execution has made; of a step that was taken from the cache they are the earlier run's."""
    pages = aws.sagemaker.get_paginator("list_pipeline_execution_steps").paginate(PipelineExecutionArn=arn)
    ran = dict[str, str]()
    for step in (step for page in pages for step in page["PipelineExecutionSteps"]):
        if step["StepStatus"] == "Succeeded":
            ran[step["StepName"]] = step.get("CacheHitResult", {}).get("SourcePipelineExecutionArn") or arn
    return {
        name: f"{places.runs(pipeline)}/{ran[step].rpartition('/')[2]}/{step}/{path}"
        for name, (step, path) in OUTPUTS[pipeline].items()
        if step in ran
    }


def record(aws: Aws, places: Places, pipeline: str, run: tuple[str, str], given: dict[str, str]) -> dict[str, str]:
    """Write the parameter about a run (ARN, start in ISO 8601), unless it is about a later one; its `outputs`."""
    (arn, started), (data, part) = run, DATA[pipeline]
    made = outputs(aws, places, pipeline, arn)
    about = {"run": arn, "started": started, "window": places.window(given.get(data, ""), part), **made}
    stored = storage.read(aws.ssm, places.parameter(LATEST[pipeline]))
    before = ""
    with suppress(ValueError, KeyError, TypeError):  # `none`, and what nobody here wrote
        before = str(json.loads(stored.text)["started"])
    if before <= started:
        with suppress(Conflict):  # of somebody who knows of a later one
            storage.write(aws.ssm, stored, json.dumps(about))
    return made
