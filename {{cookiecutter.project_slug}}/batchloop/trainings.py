"""What each training was, here and in an account; `make compare` shows the last ones side by side."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any

from batchloop.cloud.session import Session, sign_in
from batchloop.container import metrics
from batchloop.container.job import InputError, plain
from batchloop.container.usecase import UseCase
from batchloop.control import latest, release, retraining, storage
from batchloop.engine import running
from batchloop.engine.graph import Progress
from batchloop.engine.running import Finished, RunSummary
from batchloop.engine.storage import write_json
from batchloop.pipelines import definitions
from batchloop.repository import Repository, print_table

LAST = 10  # trainings
STATES = {"Succeeded": "done", "Failed": "failed", "Stopped": "stopped"}  # in an account; others are under way
MARKS = {"better": " ↑", "worse": " ↓", "": ""}
NONE = "–"


@dataclass(frozen=True)
class Training:
    """One execution of the training pipeline, in an account by its ARN; `state` is done, failed, running or so.

    `evaluation` is {} where it did not come so far. `model` is the package that was registered, `release` the number
    under which it was released, "" for neither. `files` are URIs by name.
    """

    run: str
    started: str
    ended: str
    state: str
    parameters: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    why: str
    files: Mapping[str, str]
    model: str = ""
    release: str = ""
    released: bool = False

    @property
    def window(self) -> str:
        """The window whose rows it learned from, or what its data is called."""
        data = str(self.parameters.get("TrainingData", ""))
        found = re.search(r"/data/([^/]+)/train/$", data)
        return found[1] if found else data.rstrip("/").rpartition("/")[2]


def here(repository: Repository, last: int = LAST) -> list[Training]:
    """The last ones on this machine, the newest first."""
    packages, current = running.registry(repository).packages(), ""
    approved = [its for its in packages if its.get("ModelApprovalStatus") == release.APPROVED]
    numbers = {its["ModelPackageArn"]: str(its["ModelPackageVersion"]) for its in approved}
    with suppress(OSError, ValueError, KeyError, TypeError):
        current = json.loads(repository.release.read_text(encoding="utf-8"))["model_package"]
    records = islice(running.records(repository, repository.names().pipeline("training")), last)
    return _released([_local(repository, record) for record in records], numbers, current)


def _released(found: list[Training], numbers: Mapping[str, str], current: str) -> list[Training]:
    """With the numbers of releases by model package, and with what is released now."""
    return [replace(its, release=numbers.get(its.model, ""), released=its.model == current != "") for its in found]


def _local(repository: Repository, record: Mapping[str, Any]) -> Training:
    run, steps = record["execution"], record["steps"].values()
    progress = {name: Progress("", properties=its["properties"]) for name, its in record["steps"].items()}
    models = (str(its["properties"].get("ModelPackageArn", "")) for its in steps)
    return Training(
        run=run,
        started=record["started"],
        ended=record.get("ended", ""),
        state=record["state"],
        parameters=record["parameters"],
        evaluation=RunSummary(repository, Finished(run, progress)).report(),
        why=next((its["message"] for its in steps if its["message"]), ""),
        files=_files(progress),
        model=next(filter(None, models), ""),
    )


def _files(steps: Mapping[str, Progress]) -> dict[str, str]:
    """The evaluation, the reports and the model, as far as they were made."""
    found = {}
    for name, (step, path) in latest.OUTPUTS["training"].items():
        output, _, file = path.partition("/")
        if step in steps and (uri := running.outputs(steps[step]).get(output)):
            found[name] = f"{uri}/{file}"
    for properties in (step.properties for step in steps.values()):
        if "ModelArtifacts" in properties:
            found["model"] = properties["ModelArtifacts"]["S3ModelArtifacts"]
    return found


def in_account(session: Session, last: int = LAST) -> list[Training]:
    """The last ones of the environment's pipeline in SageMaker, the newest first. Raises CallFailed."""
    with session.asking("reading the trainings"):
        releases = release.history(session.aws, session.places)
        numbers = {its["model_package"]: str(its["version"]) for its in releases[::-1]}
        current = releases[0]["model_package"] if releases else ""
        executions = list(retraining.executions(session.aws, session.places.pipeline("training"), last))
        return _released([_remote(session, execution) for execution in executions], numbers, current)


def _remote(session: Session, execution: Mapping[str, Any]) -> Training:
    arn, aws, places = execution["PipelineExecutionArn"], session.aws, session.places
    pages = aws.sagemaker.get_paginator("list_pipeline_execution_steps").paginate(PipelineExecutionArn=arn)
    steps = {step["StepName"]: step for page in pages for step in page["PipelineExecutionSteps"]}
    about = {kind: its for step in steps.values() for kind, its in step.get("Metadata", {}).items()}
    files = latest.outputs(aws, places, "training", arn)
    if trained := steps.get("TrainModel"):
        source = trained.get("CacheHitResult", {}).get("SourcePipelineExecutionArn", arn).rpartition("/")[2]
        below = storage.objects(aws, f"{places.runs('training')}/{source}/TrainModel/output/")
        files |= dict([("model", f"s3://{places.bucket}/{key}") for key in below if key.endswith("/model.tar.gz")][:1])
    reasons = (about.get("Fail", {}).get("ErrorMessage"), *(step.get("FailureReason") for step in steps.values()))
    ends = (step["EndTime"] for step in steps.values() if "EndTime" in step)
    return Training(
        run=arn,
        started=execution["StartTime"].isoformat(timespec="seconds"),
        ended=max(ends, default=execution["StartTime"]).isoformat(timespec="seconds"),
        state=STATES.get(execution["PipelineExecutionStatus"], "running"),
        parameters=retraining.parameters(aws, arn),
        evaluation=storage.read_json(aws, files["evaluation"]) or {} if "evaluation" in files else {},
        why=next(filter(None, reasons), ""),
        files=files,
        model=about.get("RegisterModel", {}).get("Arn", ""),
    )


def rows(trainings: Sequence[Training], metric: str) -> list[dict[str, Any]]:
    """One row a training, as plain data.

    `beyond` is better or worse where the metric differs from the released model's (without one: from the newest's) by
    more than both intervals allow, as of rows drawn independently. `lead` is over the champion, on the same rows.
    """
    found = [_row(training, metric) for training in trainings]
    known = sorted((row for row in found if row["low"] is not None), key=lambda row: not row["released"])
    for row in known[1:]:
        lead = metrics.lead(metric, row["value"], known[0]["value"])
        reach = math.hypot(*((its["high"] - its["low"]) / 2 for its in (row, known[0])))
        row["beyond"] = "better" if lead > reach else "worse" if lead < -reach else ""
    return found


def _row(training: Training, metric: str) -> dict[str, Any]:
    report = training.evaluation
    interval, compared = report.get("intervals", {}).get(metric, {}), report.get("comparison") or {}
    compared = compared if compared.get("metric") == metric else {}
    return {
        **{name: getattr(training, name) for name in ("run", "started", "state", "why", "window")},
        "metric": metric,
        "value": report.get("test", {}).get(metric),
        **{name: interval.get(name) for name in ("low", "high")},
        **{name: compared.get(name) for name in ("lead", "lead_low", "lead_high")},
        "beyond": "",
        "rows": sum(report.get("rows", {}).values()) or None,
        "hyperparameters": report.get("hyperparameters", {}),
        **{name: getattr(training, name) for name in ("model", "release", "released")},
    }


def compare(repository: Repository, last: int = LAST, out: str = "") -> int:
    """Print the last trainings as a table, here and in the account, if one is set; write them to `out` as JSON.

    An account that does not answer is said, and no failure: what is here needs no network.
    """
    case, environment = definitions.read(repository)
    every = {"here": here(repository, last)}
    if environment.account_is_set:
        try:
            every[f"in {environment.account}"] = in_account(sign_in(repository, environment), last)
        except InputError as error:
            print(f"trainings in account {environment.account} are not shown: {error}", file=sys.stderr)
    found = {place: rows(trainings, case.gate.metric) for place, trainings in every.items() if trainings}
    for place, those in found.items():
        _print(place, those, case)
    if not found:
        print("nothing was trained yet; run `make train`.")
    if out:
        try:
            write_json(Path(out).expanduser().absolute(), found)
        except OSError as error:
            raise InputError(f"OUT={out} can't be written: {error.strerror}.") from None
        print(f"as JSON: {out}")
    return 0


def _print(place: str, those: Sequence[Mapping[str, Any]], case: UseCase) -> None:
    chosen = [row["hyperparameters"] for row in those if row["hyperparameters"]]
    names = dict.fromkeys(name for its in chosen for name in its)
    differing = [name for name in names if len({_text(its.get(name)) for its in chosen}) > 1]
    counted = "examples" if case.series else "rows"  # a value of series is learned from several origins
    heads = ["", f"trained {place}", "state", case.gate.metric, "95 %", "lead, 95 %", counted, "window"]
    lines = list[tuple[str, list[str]]]()
    for row in those:
        value, lead = (_text(row[key]) for key in ("value", "lead"))
        limits = [_limits(row["low"], row["high"]), f"{lead} {_limits(row['lead_low'], row['lead_high'])}"]
        cells = [row["run"].rpartition("/")[2], row["state"], value + MARKS[row["beyond"]], *limits]
        cells += [_text(row["rows"]), row["window"], *(_text(row["hyperparameters"].get(name)) for name in differing)]
        mark, style = ("→", "green") if row["released"] else ("", "")
        lines.append((style, [mark, *cells, row["release"] or NONE]))
    print_table([*heads, *differing, "release"], lines)
    for row in those:
        if row["why"]:
            print(f"  {row['run'].rpartition('/')[2]}: {plain(shorten(row['why'], 120, placeholder=' …'))}")
    if any(row["beyond"] for row in those):
        base = "the released model (→)" if any(row["released"] for row in those) else "the newest one"
        print(f"  ↑ better, ↓ worse than {base}, by more than both intervals allow; the rest may be chance")


def _limits(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"({low:.4f} to {high:.4f})"


def _text(value: Any) -> str:
    """A cell: four significant digits, as far as a hyperparameter needs them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return NONE if value is None else f"{value:.4g}" if isinstance(value, float) else str(value).lower()
