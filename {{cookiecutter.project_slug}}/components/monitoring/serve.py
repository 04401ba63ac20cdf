"""Serve mode: hold a batch's raw data and scores against the baseline, and decide whether they have drifted."""

import logging
from collections.abc import Mapping

import polars as pl

from monitoring import labels, page, reasons, verdict
from monitoring.labels import Joined
from runtime import artifacts, paths, raw, usecase
from runtime.failures import InputError
from runtime.usecase import UseCase

log = logging.getLogger(__name__)


def serve(settings: Mapping[str, str]) -> None:
    """Write drift (drift.json and report.html); where labels of the batch are given, with what it was really worth."""
    del settings  # everything is in usecase.toml
    case = usecase.load()
    place = paths.processing_input("baseline")
    artifacts.check_manifest(place, "monitoring", case.contract())
    baseline = artifacts.read_json(place / "baseline.json")
    table = raw.read(paths.processing_input("raw"), case)
    importance = reasons.shares(paths.processing_input("explainer"), case.contract())
    predictions = _predictions()
    report = verdict.judged(case, baseline, table.intact, predictions, importance)
    report = verdict.measured(case, baseline, report, _labels(case, predictions))
    with artifacts.writing(paths.processing_output("drift")) as folder:
        artifacts.write_json(folder / "drift.json", report)
        (folder / "report.html").write_text(page.batch(case, baseline, report), encoding="utf-8")
    log.info("%s: %s %s", report["verdict"], report["reason"], report["consequence"])


def _predictions() -> pl.LazyFrame:
    """What the transform job wrote: a Parquet body for each file it was sent."""
    files = sorted(paths.processing_input("predictions").glob("*.out"))
    if not files:
        raise InputError("predictions holds no *.out file; did the transform job write its output?")
    return pl.scan_parquet(files)


def _labels(case: UseCase, predictions: pl.LazyFrame) -> Joined | str | None:
    """Labels of the batch beside its predictions, or why they don't go together; None where there are none yet."""
    folder = paths.processing_input("labels")
    if artifacts.is_absent(folder):
        return None
    return labels.join(case, folder, predictions, paths.processing_input("raw"))
