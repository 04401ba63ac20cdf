"""Serve mode: say for a batch why each chosen row got its prediction, and how the model's reasons have moved."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from explainability import page, rows, summary
from runtime import artifacts, models, paths, usecase
from runtime.failures import InputError
from runtime.models import Model
from runtime.protocols import Attributions
from runtime.usecase import UseCase

log = logging.getLogger(__name__)


def serve(settings: Mapping[str, str]) -> None:
    """Write explanations (explanations.parquet, summary.json, report.html).

    A row of explanations.parquet has the id, `raw_score` and, for each k from 1 to [explanation] top, what moved it
    k-th most: `reason_k_feature`, `reason_k_value` (in words) and `reason_k_attribution`.
    """
    del settings  # everything is in usecase.toml
    case = usecase.load()
    fitted, explainer = _artifacts(case)
    chosen = rows.choose(rows.scan(paths.processing_input("features")), fitted, case.explanation)
    parts = list(summary.explained(fitted, explainer["learned"], chosen.frame))
    explanations = pl.concat([reasons(fitted, chunk, found, case.explanation.top) for chunk, found in parts])
    report = _summary(case, fitted, explainer, summary.summarise(fitted, parts)) | {"rows": chosen.scoreable}
    with artifacts.writing(paths.processing_output("explanations")) as folder:
        explanations.write_parquet(folder / "explanations.parquet")
        artifacts.write_json(folder / "summary.json", report)
        text = page.batch(case, report, explanations.head(5))
        (folder / "report.html").write_text(text, encoding="utf-8")
    log.info("%s of %s rows explained; importance moved by %.3f", report["explained"], report["rows"], report["moved"])


def _artifacts(case: UseCase) -> tuple[Model, dict[str, Any]]:
    """The model and the explainer that was learned from this very model. Raises InputError for any other pair."""
    folder = artifacts.unpacked(paths.processing_input("model"), Path(tempfile.mkdtemp()))
    artifacts.check_manifest(folder, "algorithm", case.contract())
    place = paths.processing_input("explainer")
    manifest = artifacts.check_manifest(place, "explainability", case.contract())
    if manifest["parents"].get("model") != artifacts.fingerprint(folder):
        raise InputError("the explainer was learned from another model than this one; use both of one release.")
    explainer: dict[str, Any] = artifacts.read_json(place / "explainer.json")
    return models.load(folder), explainer


def reasons(fitted: Model, chunk: pl.DataFrame, found: Attributions, count: int) -> pl.DataFrame:
    """Id, raw score and the `count` strongest reasons of each row; for several classes, those of the predicted one."""
    features = fitted.metadata["features"]
    values = summary.towards_prediction(found)
    places = summary.top(values, min(count, len(features)))
    names = np.array([feature["name"] for feature in features])
    words = np.column_stack([summary.in_words(chunk[feature["name"]], feature) for feature in features])
    every = np.arange(len(chunk))
    columns: dict[str, Any] = {fitted.metadata["id"]: chunk[fitted.metadata["id"]], "raw_score": found.raw.max(axis=1)}
    for rank, place in enumerate(places.T, start=1):
        columns[f"reason_{rank}_feature"] = names[place]
        columns[f"reason_{rank}_value"] = pl.Series(words[every, place], dtype=pl.String)
        columns[f"reason_{rank}_attribution"] = values[every, place]
    return pl.DataFrame(columns)


def _summary(case: UseCase, fitted: Model, explainer: dict[str, Any], found: summary.Summary) -> dict[str, Any]:
    now = summary.described(fitted, found)
    before = {line["feature"]: (rank, line["importance"]) for rank, line in enumerate(explainer["importance"], start=1)}
    for rank, line in enumerate(now, start=1):
        line |= {"reference": before[line["feature"]][1], "rank": rank, "reference_rank": before[line["feature"]][0]}
    pairs = np.array([[line["reference"], line["importance"]] for line in now])
    return {
        "rows": 0,
        "explained": len(found.values),
        "rule": "all" if case.explanation.rows == 0 else case.explanation.rule,
        "unit": explainer["unit"],
        "moved": summary.moved(pairs[:, 0], pairs[:, 1]),
        "additivity_error": found.error,
        "sampling_error": found.sampling_error,
        "tolerance": summary.module().TOLERANCE,
        "importance": now,
        "source_importance": summary.by_source(fitted.metadata["features"], found.importance),
    }
