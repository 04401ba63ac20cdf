"""Train mode: learn the distribution of the raw training data, and of the model's scores on the validation split."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.container import artifacts, drift_report, job, performance, profile, realised, seasonal, usecase

log = logging.getLogger(__name__)


def train(settings: Mapping[str, str]) -> None:
    """Write baseline (baseline.json) and report (report.html, and evaluation.json as the algorithm wrote it).

    `share` = "true" only samples the raw files that this host has; who then learns gets all samples in their place.
    """
    case = usecase.load()
    if job.flag(settings, "share"):
        profile.write_baseline(case)
        return
    rows, columns = profile.baseline(case)
    evaluation = artifacts.unpacked(job.processing_input("evaluation"), Path(tempfile.mkdtemp()))
    scored = pl.scan_parquet(evaluation / "predictions.parquet", glob=False)
    score_rows, scores = profile.learned(seasonal.scores(scored, case), score_kinds(scored), case.drift.bins)
    found = _evaluation(evaluation)
    baseline = {
        "rows": rows,
        "columns": columns,
        "score_rows": score_rows,
        "scores": scores,
        "performance": performance.learned(case, scored, found),
        "validation": realised.learned(case, scored, found),
        "slices": found.get("slices", {}).get("parts", {}),
    }
    baseline |= profile.examples("sample", case)
    with artifacts.writing(job.processing_output("report")) as report:
        text = drift_report.baseline(case, baseline, found)
        (report / "report.html").write_text(text, encoding="utf-8")
        artifacts.write_json(report / "evaluation.json", found)  # unpacked, so that people can open it
    with artifacts.writing(job.processing_output("baseline")) as folder:
        artifacts.write_json(folder / "baseline.json", baseline)
        parents = {"evaluation": artifacts.fingerprint(evaluation)}
        artifacts.write_manifest(folder, "monitoring", case.contract(), parents)
    log.info("%s columns of %s rows, %s scores learned", len(columns), f"{rows:,}", len(scores))


def _evaluation(folder: Path) -> dict[str, Any]:
    """What the algorithm says of its model; another one in its place may say nothing."""
    file = folder / "evaluation.json"
    content = artifacts.read_json(file) if file.is_file() else {}
    return content if isinstance(content, dict) else {}


def score_kinds(scored: pl.LazyFrame) -> dict[str, str]:
    """The columns of predictions that are monitored: every score, and the prediction itself."""
    schema = scored.collect_schema()
    kinds = {name: "number" for name in schema if name == "score" or name.startswith("score:")}
    return kinds | {"prediction": "number" if schema["prediction"].is_numeric() else "category"}
