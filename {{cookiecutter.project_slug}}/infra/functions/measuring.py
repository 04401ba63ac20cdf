"""Labels of a window that was scored: let monitoring measure what the predictions were really worth.

Where labels are there when a window is scored, its run measures at once. Where they come later, the inference pipeline
runs again as a selective execution of DetectDrift alone, with the predictions of the window's own run and its
parameters ("Selective execution of pipeline steps" in the SageMaker developer guide).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from functions import executions, notices, storage
from functions.clients import Aws
from functions.places import Places

STEP, PARTS = "DetectDrift", ("labels", "train")
DATA, VERSION = "LabelledData", "LabelsVersion"  # parameters of the inference pipeline
NOTHING = "none"
PAGES = 10  # of a hundred executions: as far back as a window's own run is looked for
OTHERS = re.compile(r"Window (\S+) is (scored|measured)")  # how the executions that the loop starts are described


def given(aws: Aws, places: Places, window: str) -> dict[str, str]:
    """The parameters that name a window's labels; none where no labels have come.

    They lie in labels/, an id and a label a row being enough, or else in train/ among the rows to learn from.
    """
    for uri in (places.data(window, part) for part in PARTS):
        if version := storage.version(aws, uri):
            return {DATA: uri, VERSION: version}
    return {}


def selective(described: Mapping[str, Any]) -> bool:
    """Whether an execution measures an earlier one, of DescribePipelineExecution's answer."""
    return "SelectiveExecutionConfig" in described


def start(aws: Aws, places: Places, window: str) -> str:
    """The ARN of the execution that measures a window with the labels that are there; "" where there is nothing to do.

    One that is under way is waited for: its end asks again. The same labels are measured once. A refusal is told, and
    keeps nothing else from being decided.
    """
    labels = given(aws, places, window)
    if not labels or window in running(aws, places):
        return ""
    source, known = _source(aws, places, window, labels[VERSION])
    if not source:
        return ""
    again = {"SourcePipelineExecutionArn": source, "SelectedSteps": [{"StepName": STEP}]}
    why, purpose = f"Window {window} is measured: labels have come.", (source, labels[VERSION])
    pipeline, values = places.pipeline("inference"), known | labels
    try:
        return executions.start(aws, pipeline, values, purpose, why, SelectiveExecutionConfig=again)
    except ClientError as refusal:
        todo = "Mend what is refused, and put the labels there once more."
        lines = {"Labels": labels[DATA], "Decision": f"They are not measured: {refusal}", "To do": todo, "Run": source}
        notices.tell(aws, places, f"{window}: labels can't be measured", lines)
        return ""


def running(aws: Aws, places: Places) -> frozenset[str]:
    """The windows that are being measured right now."""
    newest = next(_runs(aws, places))
    arns = [run["PipelineExecutionArn"] for run in newest if run["PipelineExecutionStatus"] in executions.RUNS]
    values = [executions.parameters(aws, arn) for arn in arns]
    return frozenset(places.window(given["ProductionData"], "production") for given in values if DATA in given)


def _source(aws: Aws, places: Places, window: str, version: str) -> tuple[str, dict[str, str]]:
    """The newest whole run of a window that succeeded, and its parameters; "" where there is none.

    Also "" where these labels were measured, or tried to be.
    """
    for run in (run for page in _runs(aws, places) for run in page):
        described, arn = OTHERS.match(run.get("PipelineExecutionDescription", "")), run["PipelineExecutionArn"]
        values = {} if described and described[1] != window else executions.parameters(aws, arn)
        if places.window(values.get("ProductionData", ""), "production") != window:
            continue
        if values.get(VERSION) == version:
            return "", {}
        whole = not selective(aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn))
        if whole and run["PipelineExecutionStatus"] == "Succeeded":
            return arn, values
    return "", {}


def _runs(aws: Aws, places: Places) -> Iterator[list[dict[str, Any]]]:
    """Executions of the inference pipeline, the newest first, a page at a time."""
    request = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}
    token: dict[str, str] = {}
    for _ in range(PAGES):
        found = aws.sagemaker.list_pipeline_executions(PipelineName=places.pipeline("inference"), **request, **token)
        yield found["PipelineExecutionSummaries"]
        if not found.get("NextToken"):
            return
        token = {"NextToken": found["NextToken"]}
