"""Serve mode: say for a batch why each chosen row got its prediction, and how the model's reasons have moved."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from batchloop.container import artifacts, explanations, files, job, models, patches, usecase
from batchloop.container.job import InputError
from batchloop.container.models import Model
from batchloop.container.protocols import Attributions
from batchloop.container.usecase import UseCase

log = logging.getLogger(__name__)


def serve(settings: Mapping[str, str]) -> None:
    """Write explanations (explanations.parquet, summary.json, report.html).

    A row of explanations.parquet has the id, `raw_score` and, for each k from 1 to [explanation] top, what moved it
    k-th most: `reason_k_feature`, `reason_k_value` (in words) and `reason_k_attribution`. `share` = "true" only
    explains this host's share of the rows; who then puts all of them together gets `reasons`.
    """
    case = usecase.load()
    fitted, explainer = _artifacts(case)
    share, parts = job.flag(settings, "share"), job.processing_input("reasons")
    if share or not parts.is_dir():
        parts = job.processing_output("reasons") if share else files.scratch("reasons-")
        chosen = explanations.choose(job.processing_input("features"), fitted, case.explanation)
        with artifacts.writing(parts) as folder:
            for one in explanations.explained(fitted, explainer["learned"], chosen, share):
                explanations.write(folder, one, reasons(fitted, one.frame, one.found, case.explanation.top))
    if share:
        return
    table, summary = explanations.together(parts)
    report = _summary(case, fitted, explainer, summary)
    with artifacts.writing(job.processing_output("explanations")) as folder:
        table.sink_parquet(folder / "explanations.parquet")
        artifacts.write_json(folder / "summary.json", report)
        examples = table.gather_every(max(1, summary.rows // 5)).head(5).collect().to_dicts()
        text = explanations.page(case, report, summary, examples)
        (folder / "report.html").write_text(text, encoding="utf-8")
    log.info("%s of %s rows explained; importance moved by %.3f", report["explained"], report["rows"], report["moved"])


def _artifacts(case: UseCase) -> tuple[Model, dict[str, Any]]:
    """The model and the explainer that was learned from this very model. Raises InputError for any other pair."""
    folder = artifacts.unpacked(job.processing_input("model"), Path(tempfile.mkdtemp()))
    artifacts.check_manifest(folder, "algorithm", case.contract())
    learned = job.processing_input("explainer")
    manifest = artifacts.check_manifest(learned, "explainability", case.contract())
    if manifest["parents"].get("model") != artifacts.fingerprint(folder):
        raise InputError("the explainer was learned from another model than this one; use both of one release.")
    explainer: dict[str, Any] = artifacts.read_json(learned / "explainer.json")
    return models.load(folder), explainer


def reasons(fitted: Model, chunk: pl.DataFrame, attributions: Attributions, count: int) -> pl.DataFrame:
    """Id, raw score and the `count` strongest reasons of each row; for several classes, those of the predicted one."""
    features = patches.parts(fitted.metadata["features"])
    values = explanations.towards_prediction(attributions)
    strongest = explanations.top(values, min(count, len(features)))
    names = np.array([feature["name"] for feature in features])
    every, name = np.arange(len(chunk)), fitted.metadata["id"]
    words = np.empty(strongest.shape, object)
    for position in np.unique(strongest):  # only what is shown: putting numbers into words is slow
        shown = np.nonzero(strongest == position)
        words[shown] = explanations.in_words(chunk[names[position]].gather(shown[0]), features[position]).to_numpy()
    columns: dict[str, Any] = {name: chunk[name], "raw_score": attributions.raw.max(axis=1)}
    for rank, index in enumerate(strongest.T, start=1):
        columns[f"reason_{rank}_feature"] = names[index]
        columns[f"reason_{rank}_value"] = pl.Series(words[:, rank - 1], dtype=pl.String)
        columns[f"reason_{rank}_attribution"] = values[every, index]
    return pl.DataFrame(columns)


def _summary(case: UseCase, fitted: Model, explainer: dict[str, Any], summary: explanations.Summary) -> dict[str, Any]:
    now = explanations.described(fitted, summary)
    before = {line["feature"]: (rank, line["importance"]) for rank, line in enumerate(explainer["importance"], start=1)}
    for rank, line in enumerate(now, start=1):
        line |= {"reference": before[line["feature"]][1], "rank": rank, "reference_rank": before[line["feature"]][0]}
    pairs = np.array([[line["reference"], line["importance"]] for line in now])
    return {
        "rows": summary.scoreable,
        "explained": summary.rows,
        "rule": "all" if case.explanation.rows == 0 else case.explanation.rule,
        "unit": explainer["unit"],
        "moved": explanations.moved(pairs[:, 0], pairs[:, 1]),
        "additivity_error": summary.error,
        "sampling_error": summary.sampling_error,
        "tolerance": explanations.module().TOLERANCE,
        "importance": now,
        "source_importance": explanations.by_source(fitted.metadata["features"], summary.importance),
    }
