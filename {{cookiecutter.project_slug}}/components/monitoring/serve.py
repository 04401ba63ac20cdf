"""Serve mode: hold a batch's raw data and scores against the baseline, and decide whether they have drifted."""

import logging
from collections.abc import Mapping

import polars as pl

from batchloop.container import (
    artifacts,
    drift_report,
    job,
    profile,
    realised,
    seasonal,
    slice_metrics,
    usecase,
)
from batchloop.container.job import InputError
from batchloop.container.realised import Joined
from batchloop.container.usecase import UseCase

log = logging.getLogger(__name__)


def serve(settings: Mapping[str, str]) -> None:
    """Write drift (drift.json and report.html); where labels of the batch are given, with what it was really worth.

    `share` = "true" only counts the raw files that this host has; who then judges gets `counts` in their place.
    """
    case = usecase.load()
    folder = job.processing_input("baseline")
    artifacts.check_manifest(folder, "monitoring", case.contract())
    baseline = artifacts.read_json(folder / "baseline.json")
    if job.flag(settings, "share"):
        profile.write_tally("counts", case, baseline["columns"])
        return
    raw, several = job.processing_input("raw"), job.processing_input("counts").is_dir()
    table = profile.tally("counts") if several else profile.table(raw, case, new=True)
    importance = drift_report.importance(job.processing_input("explainer"), case.contract())
    predictions = slice_metrics.beside(case, baseline.get("slices", {}), raw, _predictions())
    labels = _labels(case, predictions)
    report = drift_report.create(case, baseline, table, predictions, importance)
    report = drift_report.with_labels(case, baseline, report, labels)
    labelled = labels.rows if labels else None
    report["slices"] = slice_metrics.of_batch(case, baseline, predictions, labelled)
    shown = profile.examples("counts", case) | {"forecasts": seasonal.forecasts(raw, case, predictions)}
    with artifacts.writing(job.processing_output("drift")) as folder:
        artifacts.write_json(folder / "drift.json", report)
        (folder / "report.html").write_text(drift_report.batch(case, baseline, report, shown), encoding="utf-8")
    log.info("%s: %s %s", report["verdict"], report["reason"], report["consequence"])


def _predictions() -> pl.LazyFrame:
    """What the transform job wrote: a Parquet body for each file it was sent."""
    files = sorted(job.processing_input("predictions").rglob("*.out"))
    if not files:
        raise InputError("predictions holds no *.out file; did the transform job write its output?")
    return pl.scan_parquet(files, glob=False)


def _labels(case: UseCase, predictions: pl.LazyFrame) -> Joined | None:
    """Labels of the batch beside its predictions; None where there are none yet."""
    folder = job.processing_input("labels")
    if artifacts.is_absent(folder):
        return None
    return realised.join(case, folder, predictions, job.processing_input("raw"))
