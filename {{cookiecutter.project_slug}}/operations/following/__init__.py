"""`operations run`: start one execution in SageMaker and follow it, step by step, to its end.

Written by the API reference and tried against a stand-in whose requests and answers fit botocore's model, not against
an account.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from operations.bootstrap.calls import CallFailed, ask
from operations.deploying.target import Target, opened
from operations.failures import Failure
from operations.following import starting, steps
from operations.following.starting import Asked
from operations.repository import Repository

SECONDS, LONGEST = 15, timedelta(hours=24).total_seconds()
PATIENCE = 20  # looks in a row that may fail: five minutes without a network
INTERRUPTED = 130
ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")
__all__ = ["Asked", "run"]


@dataclass(frozen=True)
class Execution:
    """One that runs, whoever looks at it."""

    client: Any
    arn: str
    region: str

    @property
    def look(self) -> str:
        return f"aws sagemaker list-pipeline-execution-steps --region {self.region} --pipeline-execution-arn {self.arn}"

    @property
    def stop(self) -> str:
        return f"aws sagemaker stop-pipeline-execution --region {self.region} --pipeline-execution-arn {self.arn}"


def run(repository: Repository, environment: str, asked: Asked) -> int:
    """0 when it succeeded, 1 when it did not, 130 when it is no longer followed. Raises Failure before it starts."""
    target = opened(repository, environment)
    client = target.client("sagemaker")
    execution = Execution(client, starting.start(target, client, asked), target.where.region)
    print(execution.arn, flush=True)
    try:
        status = _followed(execution)
    except KeyboardInterrupt:
        print(f"\nno longer followed; the run goes on. To stop it:\n  {execution.stop}", flush=True)
        return INTERRUPTED
    except CallFailed as failed:
        raise Failure(f"{failed}. The run goes on; to look at it:\n  {execution.look}") from None
    except TimeoutError:
        raise Failure(f"nobody follows any longer; the run goes on. To look at it:\n  {execution.look}") from None
    return _told(target, execution, status)


def _followed(execution: Execution) -> str:
    """Print each step's changes until the execution has ended; how it did. Raises CallFailed and TimeoutError."""
    seen: dict[str, str] = {}
    failures, deadline = 0, time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        try:
            status = str(_described(execution)["PipelineExecutionStatus"])
            for step in _steps(execution):  # after the status: the last changes are seen as well
                _tell(seen, step)
            failures = 0
        except CallFailed as failed:
            failures += 1
            if failures >= PATIENCE or not steps.passes(failed):
                raise
        else:
            if status in ENDED:
                return status
        time.sleep(SECONDS)
    raise TimeoutError


def _tell(seen: dict[str, str], step: Mapping[str, Any]) -> None:
    name, now = step["StepName"], steps.state(step)
    if seen.get(name) != now:
        seen[name] = now
        print(f"  {steps.when(step)}  {name:<20}  {now}", flush=True)


def _told(target: Target, execution: Execution, status: str) -> int:
    """How it ended, and where to read on; the exit code."""
    found = _steps(execution)
    print(f"{status}.", flush=True)
    if status == "Succeeded":
        print(*steps.results(target, execution.arn, found), sep="\n", flush=True)
        return 0
    if why := _described(execution).get("FailureReason"):
        print(why)
    for step in found:
        print(*steps.trouble(step, execution.region), sep="\n", end="")
    print(f"all of it: {execution.look}", flush=True)
    return 1


def _described(execution: Execution) -> Mapping[str, Any]:
    answer = ask(execution.client, "describe_pipeline_execution", PipelineExecutionArn=execution.arn)
    return dict(answer)


def _steps(execution: Execution) -> list[Mapping[str, Any]]:
    """All of them, in the order in which they began."""
    found: list[Mapping[str, Any]] = []
    more: dict[str, str] = {}
    while True:
        request = {"PipelineExecutionArn": execution.arn, "SortOrder": "Ascending", **more}
        answer = ask(execution.client, "list_pipeline_execution_steps", **request)
        found += answer["PipelineExecutionSteps"]
        if not answer.get("NextToken"):
            return found
        more = {"NextToken": answer["NextToken"]}
