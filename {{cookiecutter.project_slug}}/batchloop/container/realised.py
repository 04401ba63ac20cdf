"""Realised performance: labels of scored rows joined with the stored predictions, and the metrics they give."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import polars as pl

from batchloop.container import metrics, raw, tables, usecase
from batchloop.container.job import InputError
from batchloop.container.measures import Scored, Spread
from batchloop.container.tables import ERROR, LABEL, PREDICTION
from batchloop.container.usecase import UseCase

ANSWERS = "__answers"  # how many different ones an id was given
SMALL_EFFECT, FEW = 0.1, 30  # in standard deviations; rows below which a mean or a standard error is no good one
OF_THE_CLASS = ("precision", "recall", "f1", "average_precision")


@dataclass(frozen=True)
class Joined:
    """`rows` are the scored rows with a label: `__label`, prediction, scores, and `__group` where [split] names one.

    `scored` counts all rows that have a prediction, `left_out` the label rows that could not be used, by why. `bias`
    says in words how the labelled rows differ from the others, "" where they look like a random share of them, and
    `reason` why labels and predictions can't be put together, where there are no rows.
    """

    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    scored: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    bias: str = ""
    reason: str = ""


def join(case: UseCase, folder: Path, predictions: pl.LazyFrame, scored_files: Path) -> Joined:
    """The labels in `folder` with what was predicted.

    Raises InputError for a table that can't be read or has no label. An id that comes more than once counts once where
    its rows agree, and not at all where they contradict each other; labels of one period of series by their mean.
    """
    identity = case.data.id or raw.NO_ID
    if not case.keys() and not same_rows(case, folder, scored_files):
        return Joined(
            reason="[data] id is empty, so labels and predictions meet by file and row number, and the labelled files "
            "are not the ones that were scored; give the table an id, or the scored files with the label added"
        )
    labels, counts = _labels(case, folder, identity)
    schema = predictions.collect_schema().names()
    if identity not in schema:
        raise InputError(f"the predictions have no column {identity!r}, the id; labels can't be joined with them.")
    scores = [name for name in schema if name == "score" or name.startswith("score:") or name in metrics.FORECAST[1:]]
    sliced = [name for name in schema if name.startswith(raw.SLICE)]
    answers = [PREDICTION, *scores, ERROR, *sliced]
    different = predictions.select(pl.col(identity).cast(pl.String), *answers).unique()
    scored = different.group_by(identity).agg(pl.len().alias(ANSWERS), *(pl.col(name).first() for name in answers))
    both = labels.join(scored, on=identity, how="left", maintain_order="left").collect(engine="streaming")
    if case.series:  # series share their days, good and bad ones: those of one time stand and fall together
        both = both.with_columns(pl.col(identity).str.extract(r"([^|]*)$").alias(raw.GROUP))
    unscored, twice = both[ANSWERS].is_null(), both[ANSWERS] > 1
    failed = ~unscored & ~twice & both[ERROR].is_not_null()
    counts |= {"not_scored": int(unscored.sum()), "scored_twice": int(twice.sum()), "failed": int(failed.sum())}
    rows = both.filter(~unscored & ~twice.fill_null(False) & ~failed)
    rows = rows.select(LABEL, PREDICTION, *scores, *sliced, *([raw.GROUP] if raw.GROUP in rows.columns else []))
    every = scored.filter(pl.col(ERROR).is_null())
    tell = [name for name in scores if name.startswith("score") or name == "step"]
    total = int(every.select(pl.len()).collect(engine="streaming").item())
    return Joined(rows, total, counts, _bias(case, rows, every, tell or [PREDICTION]))


def _labels(case: UseCase, folder: Path, identity: str) -> tuple[pl.LazyFrame, dict[str, int]]:
    """One label an id, with the group that [split] names where the table has it, and how many rows gave none."""
    try:
        given = raw.read(folder, usecase.of_labels(case, case.split.group), labelled=True).frame
    except InputError:
        if not case.split.group:
            raise
        given = raw.read(folder, usecase.of_labels(case), labelled=True).frame
    named, label = pl.col(identity).is_not_null(), pl.col(case.data.label)
    whole, unlabelled = pl.col(raw.RAGGED).is_null(), label.is_null()  # a broken line's label is none
    counts = given.select(
        broken_line=(~whole).sum(),
        missing_id=(whole & ~named).sum(),
        missing_label=(whole & named & unlabelled & ~pl.col(raw.BROKEN)).sum(),
        unknown_label=(whole & named & unlabelled & pl.col(raw.BROKEN)).sum(),
    )
    group = [pl.col(raw.GROUP).first()] if raw.GROUP in given.collect_schema() else []
    one = label.mean() if case.series else label
    labels = (
        given.filter(named & ~unlabelled)
        .group_by(identity, maintain_order=True)
        .agg(one.first().alias(LABEL), one.n_unique().alias("labels"), pl.len().alias("times"), *group)
    )
    alike, times = pl.col("labels") == 1, pl.col("times")
    again = labels.select(contradicting=times.filter(~alike).sum(), repeated=(times - 1).filter(alike).sum())
    found: dict[str, int] = {}
    for table in pl.collect_all([counts, again], engine="streaming"):
        found |= {name: int(number or 0) for name, number in table.row(0, named=True).items()}
    return labels.filter(alike).drop("labels", "times"), found


def same_rows(case: UseCase, folder: Path, scored_files: Path) -> bool:
    """Whether the labelled files hold the scored rows under the same file and number."""
    row = pl.struct(column.name for column in case.columns).hash().alias("hash")
    try:
        first, second = (raw.read(place, case).frame.select(raw.NO_ID, row) for place in (folder, scored_files))
    except InputError:
        return False
    other = first.join(second, on=[raw.NO_ID, "hash"], how="anti").select(pl.len()).collect(engine="streaming").item()
    return not other


def _bias(case: UseCase, rows: pl.DataFrame, scored: pl.LazyFrame, names: list[str]) -> str:
    """The score that sets labelled rows apart from the others most, by a test of two means at [drift] significance."""
    moments = pl.col(names).mean().name.suffix("|mean"), pl.col(names).var(ddof=0).name.suffix("|variance")
    row = scored.select(*moments, rows=pl.len()).collect(engine="streaming").row(0, named=True)
    rest, largest = row["rows"] - rows.height, NormalDist().inv_cdf(1 - case.drift.significance / 2 / len(names))
    if min(rest, rows.height) < FEW:
        return ""
    found = []
    for name in names:
        mean, variance = float(row[f"{name}|mean"]), float(row[f"{name}|variance"])
        labelled = float(rows[name].cast(pl.Float64).to_numpy().mean())
        others = (mean * row["rows"] - labelled * rows.height) / rest
        distance = abs(labelled - others) / max(variance**0.5, 1e-12)
        if distance > max(SMALL_EFFECT, largest * (1 / rest + 1 / rows.height) ** 0.5):
            found.append((distance, f"the mean of {name} is {labelled:.3g} among them and {others:.3g} among the rest"))
    return max(found)[1] if found else ""


def learned(case: UseCase, scored: pl.LazyFrame, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of the validation split and their standard errors, for the baseline; or the `reason` for none."""
    metric, columns = evaluation.get("metric"), scored.collect_schema().names()
    if LABEL not in columns or metric is None:
        return {"metric": metric, "reason": "the evaluation names no gate metric or holds no labels; train again"}
    if absent := _absent(case, columns):
        return {"metric": metric, "reason": absent}
    needed = {LABEL, PREDICTION, *_score_columns(case), *({raw.GROUP} & set(columns))}
    table = scored.select(*needed).drop_nulls([LABEL, PREDICTION]).collect(engine="streaming")
    threshold = float(evaluation.get("threshold", 0.5))
    found = scored_rows(case, table, threshold).spreads() if table.height else {}
    errors = {name: {"value": one.value, "error": one.error} for name, one in found.items()}
    return {"metric": metric, "threshold": threshold, "rows": table.height, "metrics": errors}


def measured(case: UseCase, baseline: Mapping[str, Any], joined: Joined, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The `realised` of drift.json; `expected` is its `performance`, the estimate from before there were labels.

    value, low, high: the gate's metric on the labelled rows, with 95 % limits; null with a `reason` where it is not
    known, limits also where forecasts are of one period alone, which raise no alarm. reference: its value on the
    validation split, drop: by how much it is worse than that, limit: [drift] performance_drop; alarm: the drop exceeds
    it and chance, of precision and the like only where the class is predicted, and true, in at least 30 rows. rows:
    labelled rows that were used, share: of the scored ones. metrics: the same for every metric of the task.
    """
    known: Mapping[str, Any] = baseline.get("validation", {})
    metric = known.get("metric") or expected.get("metric")
    rows, least = joined.rows.height, case.drift.minimum_rows
    report: dict[str, Any] = {"metric": metric, "limit": case.drift.performance_drop, "rows": rows}
    report |= {"share": rows / joined.scored if joined.scored else None, "left_out": dict(joined.left_out)}
    nothing = dict.fromkeys(("value", "low", "high", "expected", "reference", "drop"))
    report |= {"bias": joined.bias, **nothing, "alarm": False}
    few = f"{rows:,} rows with label and prediction are fewer than [drift] minimum_rows = {least:,}"
    if reason := joined.reason or (few if rows < least else _absent(case, joined.rows.columns)):
        return {**report, "reason": reason, "metrics": {}}
    scored = scored_rows(case, joined.rows, float(known.get("threshold", 0.5)))
    found = {name: _beside(case, name, one, known, expected) for name, one in scored.spreads().items()}
    if _few_of_class(scored):  # what precision and the like are shares of
        found |= {name: {**found[name], "alarm": False} for name in OF_THE_CLASS if name in found}
    if case.series and joined.rows[raw.GROUP].n_unique() == 1:
        found = {name: {**one, "low": None, "high": None, "alarm": False} for name, one in found.items()}
    if metric not in found:
        reason = f"{metric} can't be measured on these labels: they hold too few different values"
        return {**report, "reason": reason, "metrics": found}
    return {**report, **found[metric], "reason": None, "metrics": found}


def _few_of_class(scored: Scored) -> bool:
    """Whether the positive class is predicted for, or true of, too few rows to tell chance from a change."""
    predicted, true = scored.predicted >= scored.threshold, scored.labels == 1
    return scored.task == "binary" and bool(min(predicted.sum(), true.sum()) < FEW)


def _score_columns(case: UseCase) -> list[str]:
    """What a task's metrics are computed from."""
    several = [f"score:{name}" for name in case.data.classes]
    known = {"regression": [PREDICTION], "binary": ["score"], "forecasting": [*metrics.FORECAST]}
    return known.get(case.data.task, several)


def _absent(case: UseCase, columns: list[str]) -> str:
    """Another component may give no scores."""
    absent = [name for name in _score_columns(case) if name not in columns]
    return f"the predictions have no column {', '.join(absent)}" if absent else ""


def scored_rows(case: UseCase, table: pl.DataFrame, threshold: float) -> Scored:
    """Rows with `__label` as arrays, in the form that the metrics take."""
    truth, columns = table[LABEL], _score_columns(case)
    if case.data.classes:
        truth = truth.cast(pl.String).cast(pl.Enum(case.data.classes)).to_physical()
    scores = table.select(columns).cast(pl.Float64).to_numpy()
    predicted = scores[:, 0] if len(columns) == 1 else scores
    return Scored(case.data.task, truth.cast(pl.Float64).to_numpy(), predicted, threshold, tables.coded(table))


def _beside(
    case: UseCase, name: str, found: Spread, known: Mapping[str, Any], expected: Mapping[str, Any]
) -> dict[str, Any]:
    """One metric with what was expected of it, and whether it is worse than it was on validation."""
    before = known.get("metrics", {}).get(name, {})
    reference, error = before.get("value"), before.get("error") or 0.0
    drop = None if reference is None else metrics.lead(name, reference, found.value)
    chance = NormalDist().inv_cdf(1 - case.drift.significance) * (found.error**2 + error**2) ** 0.5
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "expected": expected.get("metrics", {}).get(name, {}).get("estimated"),
        "reference": reference,
        "drop": drop,
        "alarm": drop is not None and drop > case.drift.performance_drop and drop > chance,
    }
