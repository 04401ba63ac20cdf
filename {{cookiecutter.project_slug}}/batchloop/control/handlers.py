"""What an event starts: scoring the newest window, deciding after a run has ended, measuring and learning from labels.

All events can come more than once, late, and out of order. Sources: "Events that Amazon SageMaker AI sends to Amazon
EventBridge" (SageMaker developer guide: several events for one change are expected), "EventBridge event message
structure" (S3 user guide; keys are not URL-encoded).
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from batchloop.control import artifacts, latest, release, reports, retraining, storage
from batchloop.control.decision import STATES, WAITING, Action, Arrival, Decision, Observation, retrainings_in_budget
from batchloop.control.names import COMPONENTS, FINGERPRINT, Aws, Places, handler

Event = Mapping[str, Any]
SUCCEEDED = "Succeeded"
ENDED = (SUCCEEDED, "Failed", "Stopped", "CompletedWithFailures")
HEADLINES = {Action.RETRAIN: ", retraining started", Action.WAIT: ", waiting for labels", Action.NONE: ""}


def score(event: Event, aws: Aws, places: Places, now: datetime) -> str:
    """Score the newest window, or the one that is named, with what is released. What was done, in a sentence.

    The event is {"window": ""} or {"window": name}. The same window and release start one execution, however often it
    is asked; with "again": any text, a window is scored once more.
    """
    named = str(event.get("window") or "")
    window, waiting = (named, []) if named else storage.newest_window(aws, places)
    left = storage.unmarked(places, waiting, "production") if waiting else ""
    try:
        released = scorable(aws, places, window)
    except NothingToScore as nothing:
        why, todo = nothing.args
        lines = {"Decision": f"{why}.", "Waiting": left, "To do": todo}
        reports.tell(aws, places, f"{why}, so nothing is scored", lines)
        reports.measure(aws, places, now, {"NothingToScore": 1})
        return f"{why}."
    purpose = (window, str(released["version"]), str(event.get("again") or ""))
    values, done = scoring(aws, places, released, window)
    arn = retraining.start(aws, places.pipeline("inference"), values, purpose, done, **release.version(released))
    if left:
        todo = f"Put {storage.MARK} there once all files are, or put them there with `make upload`."
        reports.tell(aws, places, f"newer windows wait, {window} is scored", {"Waiting": left, "To do": todo})
    reports.measure(aws, places, now, {"NothingToScore": 0})
    return f"{done} {arn}"


class NothingToScore(Exception):
    """Why, and what to do about it."""


def ready(aws: Aws, places: Places, window: str, part: str) -> bool:
    """Whether it is the name of a window, and a part of it is complete and holds data."""
    uri = places.data(window, part)
    if not window or places.window(uri, part) != window or not storage.complete(aws, places, window, part):
        return False
    return bool(storage.files(aws, uri))


def scorable(aws: Aws, places: Places, window: str) -> release.Manifest:
    """The release, by which a complete window can be scored. Raises NothingToScore, NotReleased for a damaged one."""
    _, released = release.current(aws, places)
    if released is None:
        todo = f"`make run PIPELINE=training ENV={places.environment}`, and approve the model it registers."
        raise NothingToScore("nothing is released yet", todo)
    if changes := artifacts.troubles(aws, released):
        why = f"release {released['version']} is not what was released: {', '.join(changes)}"
        todo = f"Bring the version back that is named, or `make rollback ENV={places.environment}`."
        raise NothingToScore(why, todo)
    if not ready(aws, places, window, "production"):
        command = f"make upload ENV={places.environment} WINDOW={window or '<window>'} DATA=<rows to score>"
        why = f"window {window} is not complete" if window else "no window is complete"
        raise NothingToScore(why, f"`{command}` puts it there.")
    return released


def scoring(aws: Aws, places: Places, released: Mapping[str, Any], window: str) -> tuple[dict[str, str], str]:
    """The inference pipeline's parameters, all from one release so that nothing can be mixed; the run in a sentence."""
    data = places.data(window, "production")
    values = {
        "ProductionData": data,
        FINGERPRINT: storage.fingerprint(storage.files(aws, data)),
        "ArtifactsPrefix": places.runs("inference"),
        **{name.capitalize(): uri for name, uri in released["artifacts"].items()},
        **{f"{name.capitalize()}Image": released["images"][name] for name in COMPONENTS},
        **retraining.labels(aws, places, window),
    }
    return values, f"Window {window} is scored with release {released['version']}."


@dataclass(frozen=True)
class Run:
    """An execution's change of status; `pipeline` is its name, `started` when it began (ISO 8601, UTC)."""

    arn: str
    pipeline: str
    status: str
    started: str

    @property
    def identity(self) -> str:
        """The execution id, under which the run's outputs lie."""
        return self.arn.rpartition("/")[2]


@dataclass(frozen=True)
class Scored:
    """A run with a report: what counts of it, the URIs `made`, and a `note`. `again`: it measured an earlier one."""

    run: Run
    report: Mapping[str, Any]
    made: Mapping[str, str]
    observation: Observation
    note: str
    again: bool


class NoVerdict(Exception):
    """Why a run that succeeded says nothing about drift."""


def run_changed(event: Event) -> Run:
    """Of "SageMaker Model Building Pipeline Execution Status Change"."""
    detail = event["detail"]
    pipeline = detail["pipelineArn"].rpartition("/")[2].lower()  # an ARN's resource name is in lower case
    started = reports.moment(detail.get("executionStartTime") or event["time"])
    return Run(detail["pipelineExecutionArn"], pipeline, detail["currentPipelineExecutionStatus"], started)


def run_ended(event: Event, aws: Aws, places: Places, now: datetime) -> str:
    """Decide on retraining after an execution has ended, in a sentence; the end of a training lets the loop go on."""
    run = run_changed(event)
    if run.pipeline == places.pipeline("training") and run.status not in retraining.RUNS:
        return _trained(aws, places, now, run)
    if run.pipeline != places.pipeline("inference") or run.status not in ENDED:
        return "This is no end of a scoring run."
    execution = aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=run.arn)
    if run.status != SUCCEEDED:
        return _failed(aws, places, now, run, execution)
    _tidy(aws, run)
    with ExitStack() as last:  # what the catalog does keeps nothing from being decided
        try:
            scored = _scored(aws, places, run, retraining.SELECTIVE in execution, last)
        except NoVerdict as why:
            lines = {"Decision": f"{why} Nothing was decided.", "To do": "Look at the run.", "Run": run.arn}
            reports.tell(aws, places, "a scoring run without a verdict on drift", lines)
            reports.measure(aws, places, now, {"RunFailed": 0, "ReportMissing": 1})
            return str(why)
        retraining.measure(aws, places, scored.observation.window)  # by labels that have come since it began

        def tell(decided: Decision) -> None:
            if decided.arrival == Arrival.NEW:
                reports.measure(aws, places, now, _metrics(places, now, scored, decided))
            # everything but a healthy window, and what was told before; of labels, what they confirm or refute
            seen = scored.observation
            news = seen.drifted is not False or bool(seen.worse) or bool(seen.realised) or bool(scored.note)
            news = news if not scored.again else seen.realised is not False or bool(seen.worse)
            if decided.action != Action.NONE or (news and decided.arrival != Arrival.DUPLICATE):
                _tell(aws, places, scored, decided)

        return retraining.advance(aws, places, scored.observation, now, tell).reason


def _tidy(aws: Aws, run: Run) -> None:
    """Delete the Models that a run has created, which nothing reads any more. Of a failure the log tells, nothing else.

    Not of a run that failed: retrying it goes on with its model. The metadata of a step has the name in lower case.
    """
    begins = f"pipelines-{run.identity}-"
    try:
        for model in aws.sagemaker.list_models(NameContains=begins)["Models"]:
            if model["ModelName"].startswith(begins):
                aws.sagemaker.delete_model(ModelName=model["ModelName"])
    except (BotoCoreError, ClientError) as error:
        print(f"models of {run.arn} stay: {error}")


def _trained(aws: Aws, places: Places, now: datetime, run: Run) -> str:
    if run.status == SUCCEEDED:
        latest.record(aws, places, "training", (run.arn, run.started), retraining.parameters(aws, run.arn))
    return retraining.resume(aws, places, now).reason


def _failed(aws: Aws, places: Places, now: datetime, run: Run, execution: Mapping[str, Any]) -> str:
    again, reason = retraining.SELECTIVE in execution, execution.get("FailureReason", "the service gives no reason")
    what, kind = "The scoring run", "scoring run"
    todo = f"Retry the execution, or call {places.pipeline('start-inference')} with its window and a text in `again`."
    if again:
        what, kind = "The measurement by labels", "measurement"
        todo = "See the reason in the run's step, and put the labels right: new ones are measured again."
    said = f"{what} ended as {run.status}: {reason}"
    lines = {"Decision": f"{said}. Nothing was decided.", "To do": todo, "Run": run.arn}
    reports.tell(aws, places, f"a {kind} ended as {run.status}", lines)
    reports.measure(aws, places, now, {"RunFailed": 1})
    return retraining.resume(aws, places, now).reason if again else said


def _scored(aws: Aws, places: Places, run: Run, again: bool, last: ExitStack) -> Scored:
    """What is for the end is left in `last`. Raises NoVerdict."""
    given = retraining.parameters(aws, run.arn)
    if again:
        made = latest.outputs(aws, places, "inference", run.arn)
    else:
        made = latest.record(aws, places, "inference", (run.arn, run.started), given)
    data, baseline = given.get("ProductionData", ""), given.get("Baseline", "")
    if not (window := places.window(data, "production")):
        raise NoVerdict(f"The run scored {data or 'its default data'}, which is no window of this use case.")
    if not again:
        last.callback(latest.register, aws, places, window, (run.arn, run.started), made.get("predictions", ""))
    uri = f"{places.runs('inference')}/{run.identity}/DetectDrift/drift/drift.json"
    report = storage.read_json(aws, uri) or {}
    try:
        figures = reports.observation_fields(report, places.settings.minimum_rows)
    except (KeyError, TypeError, ValueError):
        raise NoVerdict(f"{uri}, about window {window}, is missing or no drift report.") from None
    observation = Observation(window, run.identity, run.started, baseline=retraining.baseline_id(baseline), **figures)
    _, released = release.current(aws, places)
    older = released is None or released["artifacts"]["baseline"] != baseline
    note = "the release is not the one this run used; the verdict is by the baseline that it used" if older else ""
    return Scored(run, report, made, observation, note, again)


def _tell(aws: Aws, places: Places, scored: Scored, decided: Decision) -> None:
    seen, report = scored.observation, scored.report
    verdict = {True: "drift", False: "no drift", None: "too few rows for a verdict"}[seen.drifted]
    worse = ", a worse model expected" if seen.worse else ""
    if seen.realised is not None:
        worse = ", a worse model" if seen.realised else ", scored as well as before" if seen.worse else ""
    estimate, realised = (
        found.words() if (found := reports.performance(report, part)) else reports.why_unknown(report, part)
        for part in (reports.ESTIMATE, reports.REALISED)
    )
    lines = {
        "Window": f"{seen.window} ({seen.rows:,} rows)",
        "Verdict": f"{report['verdict']}: {report.get('reason', '')}",
        "Expected performance": estimate,
        "Realised performance": realised,
        "Drifted columns that the model uses": ", ".join(reports.important(report)),
        "Decision": decided.reason,
        "Note": scored.note,
        "To do": _todo(places, seen, decided),
        "Report": scored.made.get("drift_report", ""),
        "Predictions": "" if scored.again else scored.made.get("predictions", ""),
        "Explanations": "" if scored.again else scored.made.get("explanations", ""),
        "Run": scored.run.arn,
        "Training": decided.memory.execution if decided.action == Action.RETRAIN else "",
    }
    reports.tell(aws, places, f"{seen.window}: {verdict}{worse}{HEADLINES[decided.action]}", lines)


def _todo(places: Places, seen: Observation, decided: Decision) -> str:
    if decided.action == Action.RETRAIN:
        return "Nothing until a model is registered; approve it then, where this environment does not do so by itself."
    if decided.action == Action.WAIT:
        folders = " and ".join(places.data(decided.window, part) for part in places.labelled)
        both = f"{folders}, then {storage.MARK}"
        return f"Put the labelled rows into {both} (`make upload` does both): it starts training."
    if seen.drifted or (seen.worse if seen.realised is None else seen.realised):
        start, data = places.pipeline("training"), places.data(seen.window, "train")
        return f"Read the report; to retrain all the same, start {start} with TrainingData = {data}."
    return "See whether the data is complete." if seen.drifted is None else "Nothing."


def _metrics(places: Places, now: datetime, scored: Scored, decided: Decision) -> dict[str, float | None]:
    """Effects of too few rows are noise, and are left out; of a measurement only what is new."""
    report, seen = scored.report, scored.observation
    realised = reports.performance(report, reports.REALISED)
    state: dict[str, float | None] = {
        "RealisedPerformance": realised.value if realised else None,
        "RealisedDrop": realised.drop if realised else None,
        "LoopState": STATES.index(decided.memory.state),
        "RetrainingsInBudget": retrainings_in_budget(decided.memory, places.settings, now),
    }
    if scored.again:
        return state
    judged, scores = seen.drifted is not None, report.get("scores", {})
    estimate = reports.performance(report, reports.ESTIMATE) if judged else None
    columns = [column for column in report.get("columns", []) if column.get("decides", True)]
    effects = [column.get("psi_beyond_chance") or 0.0 for column in [*columns, *scores.values()]]
    means = [scores.get(name, {}).get("mean") for name in ("prediction", "score")]
    return {
        "RunFailed": 0,
        "ReportMissing": 0,
        "Rows": seen.rows,
        "RowsWithErrors": round(report.get("errors", 0) * seen.rows),
        "Drift": float(bool(seen.drifted)) if judged else None,
        "DriftedColumns": seen.columns if judged else None,
        "LargestEffect": max(effects, default=None) if judged else None,
        "ExpectedPerformance": estimate.value if estimate else None,
        "ExpectedDrop": estimate.drop if estimate else None,
        "PredictionMean": next((mean for mean in means if mean is not None), None),
        **state,
    }


def object_created(event: Event, aws: Aws, places: Places, now: datetime) -> str:
    """The mark in data/<window>/labels/ or train/ has come: measure by them, and retrain where that waits for it.

    What was done, in a sentence. Two parts of a window are two events; the first to find the loop waiting counts.
    """
    uri = f"s3://{event['detail']['bucket']['name']}/{event['detail']['object']['key']}"
    window = places.window(uri, *retraining.PARTS, *places.labelled)
    if not window or not uri.endswith(f"/{storage.MARK}"):
        return "Nothing waits for this."
    arn = retraining.measure(aws, places, window)
    if retraining.load_memory(aws, places)[1].state == WAITING:
        return retraining.resume(aws, places, now).reason
    return f"Window {window} is measured by its labels in {arn}." if arn else "Nothing waits for this."


start_inference = handler(score)
after_inference = handler(run_ended)
labels_arrived = handler(object_created)
