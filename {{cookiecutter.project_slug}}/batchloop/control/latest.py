"""Where lies what the last run that succeeded has made, for people and other systems.

A parameter for each pipeline, and a table of the Glue Data Catalog with predictions, which Athena and others query: a
window is a partition, which names the folder of the run that scored it last, because runs write below their ids, where
partition projection finds no window. Sources: "GetPartition", "CreatePartition", "UpdatePartition", Glue API reference.
"""

import json
from contextlib import suppress

from botocore.exceptions import BotoCoreError, ClientError

from batchloop.control import reports, storage
from batchloop.control.names import LATEST, PREDICTIONS, Aws, Places
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


def register(aws: Aws, places: Places, window: str, run: tuple[str, str], predictions: str) -> None:
    """Make a run (ARN, start in ISO 8601) the window's partition, unless a later one is there; a refusal is told."""
    if not places.catalog or not predictions:
        return
    from botocore.parsers import ResponseParserError  # noqa: PLC0415 - a simulation has no catalog

    (arn, started), table, known = run, {"DatabaseName": places.catalog, "TableName": PREDICTIONS}, None
    try:
        with storage.passed_over("EntityNotFoundException"):
            known = aws.glue.get_partition(**table, PartitionValues=[window])["Partition"]
        if known and known.get("Parameters", {}).get("started", "") > started:
            return
        whole = aws.glue.get_table(DatabaseName=places.catalog, Name=PREDICTIONS)["Table"]["StorageDescriptor"]
        about = {"run": arn, "started": started}
        partition = {"Values": [window], "StorageDescriptor": whole | {"Location": predictions}, "Parameters": about}
        if known:
            aws.glue.update_partition(**table, PartitionValueList=[window], PartitionInput=partition)
        else:
            aws.glue.create_partition(**table, PartitionInput=partition)
    except (BotoCoreError, ClientError, ResponseParserError, LookupError) as refusal:
        where = f"{places.catalog}.{PREDICTIONS}"
        function = places.pipeline("start-inference")
        todo = f"Mend what is refused, and call {function} with the window and a text in `again`."
        lines = {"Predictions": predictions, "Decision": f"{where} does not have them: {refusal}", "To do": todo}
        reports.tell(aws, places, f"{window}: predictions are not in {where}", lines | {"Run": arn})
