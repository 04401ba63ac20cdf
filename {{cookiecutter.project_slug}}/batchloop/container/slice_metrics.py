"""What a model is worth in each slice: of its test rows, and of a batch as expected and as realised."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from batchloop.container import metrics, performance, raw, realised, usecase
from batchloop.container.job import InputError
from batchloop.container.measures import Scored
from batchloop.container.raw import SLICE
from batchloop.container.slices import MISSING, Learned, assigned, names
from batchloop.container.usecase import Column, UseCase

log = logging.getLogger(__name__)


def evaluated(
    candidate: Scored, table: pl.DataFrame, case: UseCase, parts: Learned, champion: Scored | None = None
) -> dict[str, Any]:
    """What evaluation.json says of slices: `lines` by slice (see measured), `worst`, `gate` and what was learned.

    `gate` is what the pipeline's conditions ask; `table` has the slices of the candidate's rows.
    """
    if not case.slices.columns:
        return {}
    same = champion is not None and np.array_equal(champion.labels, candidate.labels)
    lines = measured(candidate, table, case, parts, champion if same else None)
    known = [line for line in lines if line["value"] is not None]
    smaller = case.gate.metric in metrics.SMALLER_IS_BETTER
    worst = min(known, key=lambda line: -line["value"] if smaller else line["value"], default=None)
    unknown = len(lines) - len(known) if case.slices.not_evaluable == "fail" or worst is None else 0
    gate = {"worst_slice": worst["value"] if worst else 0.0, "slices_not_evaluable": float(unknown)}
    return {"metric": case.gate.metric, "lines": lines, "worst": worst, "gate": gate, "parts": dict(parts)}


def measured(
    scored: Scored, table: pl.DataFrame, case: UseCase, parts: Learned, champion: Scored | None = None
) -> list[dict[str, Any]]:
    """A line a slice: column, slice, rows, the gate's metric with its 95 % limits, and the champion's on these rows.

    `value` is null where the slice has fewer rows than [slices] minimum_rows, or its labels don't allow the metric.
    """
    metric, lines = case.gate.metric, []
    for column in table.columns:
        name, of = column.removeprefix(SLICE), table[column].to_numpy()
        for part in names(name, parts[name], case):
            if not (rows := np.flatnonzero(of == part)).size:
                continue
            found = scored.part(rows).spreads().get(metric) if len(rows) >= case.slices.minimum_rows else None
            value = math.nan if champion is None or found is None else champion.measured(rows)[metric]
            before = value if math.isfinite(value) else None
            line = {"column": name, "slice": part, "rows": len(rows), "champion": before}
            lines.append(line | {key: getattr(found, key, None) for key in ("value", "low", "high")})
    return lines


def beside(case: UseCase, parts: Learned, folder: Path, predictions: pl.LazyFrame) -> pl.LazyFrame:
    """The predictions with the slices of their rows, by id; without, where a batch lacks a sliced column."""
    known = {column.name: column for column in case.columns}
    columns = tuple(known.get(name, Column(name, "category")) for name in parts)
    narrow, name = replace(usecase.of_labels(case), columns=columns), case.data.id or raw.NO_ID
    if not parts or not folder.is_dir() or name not in predictions.collect_schema():
        return predictions
    try:
        table = raw.read(folder, narrow).frame
        if case.series:  # what is not known in advance is as it was last
            table = table.with_columns(pl.col(*parts).forward_fill().over(raw.SERIES, order_by=case.data.time))
    except InputError as error:
        log.warning("performance by slice is not known: %s", error)
        return predictions
    sliced = table.select(pl.col(name), *assigned(parts, narrow)).unique(name, keep="none")
    return predictions.with_columns(pl.col(name).cast(pl.String)).join(
        sliced, on=name, how="left", maintain_order="left"
    )


def of_batch(
    case: UseCase, baseline: Mapping[str, Any], scored: pl.LazyFrame, labelled: pl.DataFrame | None
) -> list[dict[str, Any]]:
    """A line a slice of a batch: `column`, `slice`, `rows`, and the gate's metric as expected without labels
    (`expected`, `expected_low`, `expected_high`) and as realised (`realised`, …), null where it is not known."""
    scored, parts = scored.filter(pl.col("error").is_null()), baseline.get("slices", {})
    columns = [name for name in scored.collect_schema() if name.startswith(SLICE)]
    true, lines = dict[tuple[str, str], dict[str, Any]](), list[dict[str, Any]]()
    if labelled is not None and columns and set(columns) <= set(labelled.columns):
        truth = realised.scored_rows(case, labelled, float(baseline.get("validation", {}).get("threshold", 0.5)))
        for line in measured(truth, labelled.select(pl.col(columns).fill_null(MISSING)), case, parts):
            true[line["column"], line["slice"]] = line
    for column in columns:
        name, counts = column.removeprefix(SLICE), scored.group_by(column).len().collect(engine="streaming")
        rows = dict(counts.iter_rows())
        for part in (part for part in names(name, parts[name], case) if part in rows):
            few, here = rows[part] < case.slices.minimum_rows, scored.filter(pl.col(column) == part)
            found = [{} if few else performance.estimated(case, baseline, here), true.get((name, part), {})]
            lines.append({"column": name, "slice": part, "rows": rows[part]})
            for kind, its, value in zip(("expected", "realised"), found, ("estimated", "value"), strict=True):
                lines[-1] |= {kind: its.get(value), f"{kind}_low": its.get("low"), f"{kind}_high": its.get("high")}
    return lines
