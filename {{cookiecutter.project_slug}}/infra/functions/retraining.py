"""The loop's next move, carried out: what was begun is settled, the decision is made, executed and remembered.

Before an execution is started, the memory says that it will be, so that a function which ends halfway is completed by
the next event: it finds the execution that runs, or starts it again under the same token, which starts nothing twice
("StartPipelineExecution" in the SageMaker API reference: an idempotent operation completes no more than once).
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from botocore.exceptions import ClientError

from functions import learning, measuring, notices, parameters, release, storage
from functions.clients import Aws
from functions.decision import Action, Circumstances, Decision, candidates, decide, settled
from functions.executions import RUNS, start
from functions.memory import RETRAINING, Memory, Observation, parse
from functions.parameters import Conflict, Stored
from functions.places import Places
from functions.reports import mark

Tell = Callable[[Decision], None]
ATTEMPTS = 3
PATIENCE = timedelta(hours=1)  # how long a retraining that can't be started is tried again


def recall(aws: Aws, places: Places) -> tuple[Stored, Memory]:
    """The parameter, and the memory in it. Raises ValueError for a damaged one."""
    stored = parameters.read(aws.ssm, places.parameter("retraining"))
    return stored, parse(stored.text)


def advance(aws: Aws, places: Places, observation: Observation | None, now: datetime, tell: Tell) -> Decision:
    """Decide and do it; `tell` is called before it is remembered, so that a message can come twice but is never lost.

    Two events at once: see `parameters`. Raises Conflict after three attempts; Lambda then tries the event again.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return _advance(aws, places, observation, now, tell)
        except Conflict:
            continue
    return _advance(aws, places, observation, now, tell)


def go_on(aws: Aws, places: Places, now: datetime) -> Decision:
    """Without a new observation: labels have arrived, or a training has ended."""

    def tell(decision: Decision) -> None:
        if decision.action == Action.RETRAIN:
            lines = {"Window": decision.window, "Decision": decision.reason, "Run": decision.memory.execution}
            notices.tell(aws, places, f"{decision.window}: labels are there, retraining started", lines)

    return advance(aws, places, None, now, tell)


def _advance(aws: Aws, places: Places, observation: Observation | None, now: datetime, tell: Tell) -> Decision:
    stored, memory = _settle(aws, places, now)
    wanted = candidates(memory, places.settings, observation.window if observation else "")
    around = _circumstances(aws, places, wanted, now)
    decision = decide(memory, observation, places.settings, around)
    if decision.action == Action.RETRAIN:
        stored = parameters.write(aws.ssm, stored, decision.memory.text())
        begun = _begun(aws, places, decision.memory)
        decision = replace(decision, memory=begun, reason=begun.reason)
    tell(decision)
    parameters.write(aws.ssm, stored, decision.memory.text())
    there = decision.action == Action.WAIT and decision.window not in around.measuring
    if there and _labels(aws, places, decision.window):  # they came while this was decided
        return _advance(aws, places, None, now, tell)
    return decision


def _settle(aws: Aws, places: Places, now: datetime) -> tuple[Stored, Memory]:
    """Complete what was begun, and notice what has ended."""
    stored, memory = recall(aws, places)
    if memory.state != RETRAINING:
        return stored, memory
    if not memory.execution:
        if _learned(aws, places) == memory.window:  # it ran and was released before its ARN could be written down
            return stored, settled(memory, "ended as Succeeded")
        try:
            running = _running(aws, places)
            memory = replace(memory, execution=running) if running else _begun(aws, places, memory)
        except ClientError as error:
            if now - datetime.fromisoformat(memory.started[-1]) < PATIENCE:
                raise
            return stored, _ended(aws, places, memory, f"could not be started: {error}")
        lines = {"Decision": memory.reason, "Run": memory.execution}
        notices.tell(aws, places, f"retraining on {memory.window} started", lines)
        stored = parameters.write(aws.ssm, stored, memory.text())
    status, why = _status(aws, memory.execution)
    if status in RUNS:
        return stored, memory
    return stored, _ended(aws, places, memory, f"ended as {status}{f': {why}' if why else ''}")


def _ended(aws: Aws, places: Places, memory: Memory, how: str) -> Memory:
    memory = settled(memory, how[:500].rstrip("."))
    if how != "ended as Succeeded":
        todo = "See why in the run's steps. The next window that drifts is tried again; this one is not."
        lines = {"Decision": memory.reason, "To do": todo, "Run": memory.execution}
        notices.tell(aws, places, f"no new model from window {memory.window}", lines)
    return memory


def _status(aws: Aws, arn: str) -> tuple[str, str]:
    try:
        found = aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ResourceNotFound", "ResourceNotFoundException"):
            raise
        return "deleted", ""
    return found["PipelineExecutionStatus"], found.get("FailureReason", "")


def _running(aws: Aws, places: Places) -> str:
    """A training that is under way, also one that a person started; "" where there is none."""
    request = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}
    found = aws.sagemaker.list_pipeline_executions(PipelineName=places.pipeline("training"), **request)
    runs = [run for run in found["PipelineExecutionSummaries"] if run["PipelineExecutionStatus"] in RUNS]
    return str(runs[0]["PipelineExecutionArn"]) if runs else ""


def _labels(aws: Aws, places: Places, window: str) -> bool:
    return all(storage.exists(aws, places.data(window, part)) for part in places.labelled)


def _circumstances(aws: Aws, places: Places, windows: list[str], now: datetime) -> Circumstances:
    labelled = frozenset(window for window in windows if _labels(aws, places, window))
    measured = measuring.running(aws, places) if labelled else frozenset[str]()
    _, released = release.current(aws, places)
    baseline = mark(released["artifacts"]["baseline"]) if released else ""
    return Circumstances(now, labelled, _learned(aws, places), bool(_running(aws, places)), measured, baseline)


def _learned(aws: Aws, places: Places) -> str:
    """The window that the release learned from, "" where that is none or unknown."""
    _, released = release.current(aws, places)
    return places.window(released["training_data"], "train") if released else ""


def _begun(aws: Aws, places: Places, memory: Memory) -> Memory:
    """With the execution that was started; one retraining is what a window and a release make together."""
    planned = learning.plan(aws, places, memory.window)
    reason = f"{memory.reason} {planned.remarks}".rstrip() if planned.remarks not in memory.reason else memory.reason
    purpose = (memory.window, str(planned.version))
    execution = start(aws, places.pipeline("training"), planned.values, purpose, reason)
    return replace(memory, execution=execution, reason=reason)
