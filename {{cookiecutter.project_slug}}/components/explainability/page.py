"""The two pages of explainability: what the model looks at, and why this batch got its predictions."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from runtime import report
from runtime.report import Section, Verdict
from runtime.usecase import UseCase

SHOWN = 15  # features in a chart
LITTLE, MUCH = 0.1, 0.25  # of importance that has moved (total variation, 0 to 1)


def reference(case: UseCase, explainer: Mapping[str, Any]) -> str:
    """The page of train mode."""
    first = explainer["importance"][0]
    verdict = Verdict(
        word=f"{first['feature']} matters most",
        tone="good",
        reason=f"{explainer['rows']:,} rows of the validation split were explained with {explainer['method']}; "
        f"attributions add up to the raw score within {explainer['additivity_error']:.1g}{_sampled(explainer)}.",
        next_step="Look for features that should not matter: they may leak the label.",
    )
    return report.page(f"{case.title}: what the model looks at", verdict, [_importance(explainer), _spread(explainer)])


def batch(case: UseCase, summary: Mapping[str, Any], examples: pl.DataFrame) -> str:
    """The page of serve mode; `examples` are rows of explanations."""
    sections = [_moved(summary), _importance(summary), _examples(examples, summary["unit"])]
    return report.page(f"{case.title}: why these predictions", _verdict(summary), sections)


def _verdict(summary: Mapping[str, Any]) -> Verdict:
    moved = summary["moved"]
    count = f"{summary['explained']:,} of {summary['rows']:,} rows were explained ({summary['rule']}); "
    reason = count + f"{moved:.1%} of the importance has moved to other features since training{_sampled(summary)}."
    if moved < LITTLE:
        return Verdict("The model decides as it was trained to", "good", reason, "Nothing to do.")
    if moved < MUCH:
        return Verdict("The reasons have shifted", "unknown", reason, "Compare with the drift report of this run.")
    return Verdict("Other reasons than in training", "bad", reason, "Read the drift report; consider to train again.")


def _sampled(found: Mapping[str, Any]) -> str:
    """What is to be said where attributions are estimates."""
    error = found["sampling_error"]
    return (
        f"; each is an estimate by sampling, with a standard error of up to {error:.2g} {found['unit']}"
        if error
        else ""
    )


def _importance(found: Mapping[str, Any]) -> Section:
    items = [(line["feature"], line["importance"]) for line in found["importance"][:SHOWN]]
    return Section(
        "Importance",
        "The mean absolute attribution: by how much a feature moves the raw score of a row, on average.",
        report.bars(items, found["unit"], f"The {len(items)} most important features"),
    )


def _spread(found: Mapping[str, Any]) -> Section:
    unit = found["unit"]
    headers = ["feature", "raw column", f"importance, {unit}", "direction", "5 %", "25 %", "median", "75 %", "95 %"]
    rows = [
        [line["feature"], line["source"], line["importance"], line["direction"], *line["quantiles"]]
        for line in found["importance"]
    ]
    text = f"The last five columns are quantiles of the attributions, in {unit}; nine of ten lie within the outer two."
    return Section("Every feature", text, report.table(headers, rows))


def _moved(summary: Mapping[str, Any]) -> Section:
    headers = ["feature", f"importance, {summary['unit']}", "in training", "rank", "in training"]
    rows = [
        [line["feature"], line["importance"], line["reference"], line["rank"], line["reference_rank"]]
        for line in summary["importance"][:SHOWN]
    ]
    text = "Importance in this batch beside that in the validation split."
    return Section("Then and now", text, report.table(headers, rows))


def _examples(examples: pl.DataFrame, unit: str) -> Section:
    """A chart a row: what pushed its score up, what down."""
    count = sum(name.endswith("_feature") for name in examples.columns)
    identity = examples.columns[0]
    charts = [
        report.bars(
            [_reason(row, rank) for rank in range(1, count + 1)],
            f"raw score {row['raw_score']:.4g} {unit}",
            f"{identity} {row[identity]}",
        )
        for row in examples.iter_rows(named=True)
    ]
    text = (
        "The first explained rows with their strongest reasons; explanations.parquet has every explained row. A bar "
        f"to the right pushes the score up, one to the left down, by so much {unit}."
    )
    return Section("Examples", text, report.join(*charts))


def _reason(row: Mapping[str, Any], rank: int) -> tuple[str, float]:
    return f"{row[f'reason_{rank}_feature']} = {row[f'reason_{rank}_value']}", row[f"reason_{rank}_attribution"]
