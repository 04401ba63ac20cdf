"""The schedule: score the newest window, or the one it names, with what is released."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchloop.control import decision, release, reports, retraining, storage
from batchloop.control.decision import Action, Arrival, Decision
from batchloop.control.memory import STATES, WAITING, Observation
from batchloop.control.names import COMPONENTS, Aws, Places, connect, here
from batchloop.control.release import Manifest
from batchloop.control.reports import RunChanged


def start_inference(event: Mapping[str, Any], _context: Any) -> str:
    """{"window": ""} or {"window": name}; with "again": any text, a window is scored once more by the same release."""
    said = run(event, connect(), here(), datetime.now(UTC))
    print(said)
    return said


def run(event: Mapping[str, Any], aws: Aws, places: Places, now: datetime) -> str:
    """What was done, in a sentence. The same window and release start one execution, however often it is asked."""
    _, released = release.current(aws, places)
    if released is None:
        todo = f"Start {places.pipeline('training')}, and approve the model it registers."
        return _nothing(aws, places, now, "nothing is released yet", todo)
    named = str(event.get("window") or "")
    window = named or storage.newest_window(aws, places)
    data = places.data(window, "production")
    if not window or places.window(data, "production") != window or not storage.exists(aws, data):
        todo = f"Put the rows to score into {places.data(named or '<window>', 'production')}/."
        return _nothing(aws, places, now, f"window {named} has no data" if named else "no window has data", todo)
    values = scoring(places, released, data) | retraining.given(aws, places, window)
    purpose = (window, str(released["version"]), str(event.get("again") or ""))
    said = f"Window {window} is scored with release {released['version']}."
    arn = storage.start(aws, places.pipeline("inference"), values, purpose, said)
    reports.measure(aws, places, now, {"NothingToScore": 0})
    return f"{said} {arn}"


def scoring(places: Places, released: Manifest, data: str) -> dict[str, str]:
    """The inference pipeline's parameters: everything from one release, so that nothing can be mixed."""
    return {
        "ProductionData": data,
        "ArtifactsPrefix": places.runs("inference"),
        **{name.capitalize(): uri for name, uri in released["artifacts"].items()},
        **{f"{name.capitalize()}Image": released["images"][name] for name in COMPONENTS},
    }


def _nothing(aws: Aws, places: Places, now: datetime, why: str, todo: str) -> str:
    reports.tell(aws, places, f"{why}, so nothing is scored", {"Decision": f"{why}.", "To do": todo})
    reports.measure(aws, places, now, {"NothingToScore": 1})
    return f"{why}."


SUCCEEDED = "Succeeded"
ENDED_BADLY = ("Failed", "Stopped", "CompletedWithFailures")
HEADLINES = {Action.RETRAIN: ", retraining started", Action.WAIT: ", waiting for labels", Action.NONE: ""}


class NoVerdict(Exception):
    """Why a run that succeeded says nothing about drift."""


@dataclass(frozen=True)
class Scored:
    """A run with a report: `observation` is what counts of it, `note` what else there is to say.

    `again`: it did not score, but measured by labels what an earlier run had scored.
    """

    run: RunChanged
    report: Mapping[str, Any]
    place: str
    observation: Observation
    note: str
    again: bool = False


def after_inference(event: Mapping[str, Any], _context: Any) -> str:
    """A pipeline execution's status changed."""
    said = run_after_inference(event, connect(), here(), datetime.now(UTC))
    print(said)
    return said


def run_after_inference(event: Mapping[str, Any], aws: Aws, places: Places, now: datetime) -> str:
    """What was decided, in a sentence.

    Of the training pipeline, the end of an execution lets the loop go on at once; without such an event it goes on with
    the next one of the inference pipeline.
    """
    changed = reports.run_changed(event)
    if changed.pipeline == places.pipeline("training") and changed.status not in storage.RUNS:
        return retraining.go_on(aws, places, now).reason
    if changed.pipeline != places.pipeline("inference") or changed.status not in (SUCCEEDED, *ENDED_BADLY):
        return "This is no end of a scoring run."
    if changed.status != SUCCEEDED:
        return _failed(aws, places, now, changed)
    try:
        scored = _scored(aws, places, changed)
    except NoVerdict as why:
        lines = {"Decision": f"{why} Nothing was decided.", "To do": "Look at the run.", "Run": changed.arn}
        reports.tell(aws, places, "a scoring run without a verdict on drift", lines)
        reports.measure(aws, places, now, {"RunFailed": 0, "ReportMissing": 1})
        return str(why)

    retraining.start(aws, places, scored.observation.window)  # by labels that have come since it began

    def tell(decided: Decision) -> None:
        if decided.arrival == Arrival.NEW:
            reports.measure(aws, places, now, _metrics(places, now, scored, decided))
        if _worth_telling(scored, decided):
            _tell(aws, places, scored, decided)

    return retraining.advance(aws, places, scored.observation, now, tell).reason


def _failed(aws: Aws, places: Places, now: datetime, changed: RunChanged) -> str:
    found = aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=changed.arn)
    again = retraining.selective(found)
    what = "The measurement by labels" if again else "The scoring run"
    said = f"{what} ended as {changed.status}: {found.get('FailureReason', 'the service gives no reason')}"
    todo = f"Retry the execution, or call {places.pipeline('start-inference')} with its window and a text in `again`."
    todo = "See the reason in the run's step, and put the labels right: new ones are measured again." if again else todo
    lines = {"Decision": f"{said}. Nothing was decided.", "To do": todo, "Run": changed.arn}
    reports.tell(aws, places, f"a {'measurement' if again else 'scoring run'} ended as {changed.status}", lines)
    reports.measure(aws, places, now, {"RunFailed": 1})
    return retraining.go_on(aws, places, now).reason if again else said


def _scored(aws: Aws, places: Places, changed: RunChanged) -> Scored:
    """Raises NoVerdict."""
    given = storage.parameters(aws, changed.arn)
    again = retraining.selective(aws.sagemaker.describe_pipeline_execution(PipelineExecutionArn=changed.arn))
    data, baseline = given.get("ProductionData", ""), given.get("Baseline", "")
    window = places.window(data, "production")
    if not window:
        raise NoVerdict(f"The run scored {data or 'its default data'}, which is no window of this use case.")
    place = f"{places.runs('inference')}/{changed.identity}/DetectDrift/drift"
    report = storage.read_json(aws, f"{place}/drift.json") or {}
    try:
        observation = reports.observation(report, changed, window, baseline, places.settings.minimum_rows)
    except (KeyError, TypeError, ValueError):
        raise NoVerdict(f"{place}/drift.json, about window {window}, is missing or no drift report.") from None
    _, released = release.current(aws, places)
    older = released is None or released["artifacts"]["baseline"] != baseline
    note = "the release is not the one this run used; the verdict is by the baseline that it used" if older else ""
    return Scored(changed, report, place, observation, note, again)


def _worth_telling(scored: Scored, decided: Decision) -> bool:
    """Everything but a healthy window, and what was told before; of labels, what they confirm or refute."""
    seen = scored.observation
    news = seen.drifted is not False or bool(seen.worse) or bool(seen.realised) or bool(scored.note)
    if scored.again:
        news = seen.realised is not False or bool(seen.worse)
    return decided.action != Action.NONE or (news and decided.arrival != Arrival.DUPLICATE)


def _tell(aws: Aws, places: Places, scored: Scored, decided: Decision) -> None:
    seen, found, measured = scored.observation, reports.expected(scored.report), reports.realised(scored.report)
    verdict = {True: "drift", False: "no drift", None: "too few rows for a verdict"}[seen.drifted]
    worse = ", a worse model expected" if seen.worse else ""
    if seen.realised is not None:
        worse = ", a worse model" if seen.realised else ", scored as well as before" if seen.worse else ""
    lines = {
        "Window": f"{seen.window} ({seen.rows:,} rows)",
        "Verdict": f"{scored.report['verdict']}: {scored.report.get('reason', '')}",
        "Expected performance": found.words() if found else reports.why_unknown(scored.report),
        "Realised performance": measured.words() if measured else reports.why_unknown(scored.report, "realised"),
        "Drifted columns that the model uses": ", ".join(reports.important(scored.report)),
        "Decision": decided.reason,
        "Note": scored.note,
        "To do": _todo(places, seen, decided),
        "Report": f"{scored.place}/report.html",
        "Run": scored.run.arn,
        "Training": decided.memory.execution if decided.action == Action.RETRAIN else "",
    }
    reports.tell(aws, places, f"{seen.window}: {verdict}{worse}{HEADLINES[decided.action]}", lines)


def _todo(places: Places, seen: Observation, decided: Decision) -> str:
    if decided.action == Action.RETRAIN:
        return "Nothing until a model is registered; approve it then, where this environment does not do so by itself."
    if decided.action == Action.WAIT:
        folders = " and ".join(f"{places.data(decided.window, part)}/" for part in places.labelled)
        return f"Put the labelled rows into {folders}, all files at once: the first one starts the retraining."
    if seen.drifted or (seen.worse if seen.realised is None else seen.realised):
        start, data = places.pipeline("training"), places.data(seen.window, "train")
        return f"Read the report; to retrain all the same, start {start} with TrainingData = {data}."
    return "See whether the data is complete." if seen.drifted is None else "Nothing."


def _metrics(places: Places, now: datetime, scored: Scored, decided: Decision) -> dict[str, float | None]:
    """Effects of too few rows are noise, and are left out; of a measurement only what is new."""
    report, seen, memory = scored.report, scored.observation, decided.memory
    measured = reports.realised(report)
    realised = {
        "RealisedPerformance": measured.value if measured else None,
        "RealisedDrop": measured.drop if measured else None,
        "LoopState": STATES.index(memory.state),
        "RetrainingsInBudget": decision.recent(memory, places.settings, now),
    }
    if scored.again:
        return realised
    judged, scores = seen.drifted is not None, report.get("scores", {})
    found = reports.expected(report) if judged else None
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
        "ExpectedPerformance": found.estimated if found else None,
        "ExpectedDrop": found.drop if found else None,
        "PredictionMean": next((mean for mean in means if mean is not None), None),
        **realised,
    }


def labels_arrived(event: Mapping[str, Any], _context: Any) -> str:
    """An object below data/<window>/labels/ or train/ was created."""
    said = run_labels_arrived(event, connect(), here(), datetime.now(UTC))
    print(said)
    return said


def run_labels_arrived(event: Mapping[str, Any], aws: Aws, places: Places, now: datetime) -> str:
    """What was done, in a sentence. Every file of a window is an event; the first to find the loop waiting counts."""
    window = places.window(reports.object_created(event), *retraining.PARTS, *places.labelled)
    if not window:
        return "Nothing waits for this."
    arn = retraining.start(aws, places, window)
    said = f"Window {window} is measured by its labels in {arn}." if arn else "Nothing waits for this."
    waiting = retraining.recall(aws, places)[1].state == WAITING
    return retraining.go_on(aws, places, now).reason if waiting else said
