"""Train mode: explain the trained model on the validation split; the result is what later batches are held against."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchloop.container import artifacts, explanations, job, models, usecase
from batchloop.container.models import Model

log = logging.getLogger(__name__)


def train(settings: Mapping[str, str]) -> None:
    """Write explainer (explainer.json) and report (report.html)."""
    del settings  # everything is in usecase.toml
    case = usecase.load()
    folder = artifacts.unpacked(job.processing_input("model"), Path(tempfile.mkdtemp()))
    artifacts.check_manifest(folder, "algorithm", case.contract())
    fitted = models.load(folder)
    chosen = explanations.choose(job.processing_input("features"), fitted, case.explanation)
    learned = explanations.module().fit(fitted.fitted, chosen.matrix(fitted.metadata["features"]))
    summary = explanations.Summary()
    for part in explanations.explained(fitted, learned, chosen):
        summary.add(part.arrays)
    explainer = _explainer(fitted, summary) | {"learned": learned}
    with artifacts.writing(job.processing_output("report")) as report:
        (report / "report.html").write_text(explanations.page(case, explainer), encoding="utf-8")
    with artifacts.writing(job.processing_output("explainer")) as target:
        artifacts.write_json(target / "explainer.json", explainer)
        parents = {"model": artifacts.fingerprint(folder)}
        artifacts.write_manifest(target, "explainability", case.contract(), parents)
    log.info("%s rows explained; additivity error %.1g", explainer["rows"], explainer["additivity_error"])


def _explainer(fitted: Model, summary: explanations.Summary) -> dict[str, Any]:
    return {
        "method": explanations.module().METHOD,
        "unit": unit(fitted),
        "rows": summary.rows,
        "of": summary.scoreable,
        "base_values": summary.base,
        "tolerance": explanations.module().TOLERANCE,
        "additivity_error": summary.error,
        "sampling_error": summary.sampling_error,
        "importance": explanations.described(fitted, summary),
        "source_importance": explanations.by_source(fitted.metadata["features"], summary.importance),
    }


def unit(fitted: Model) -> str:
    """What attributions are measured in."""
    return "the label's unit" if fitted.metadata["task"] == "regression" else explanations.module().UNIT
