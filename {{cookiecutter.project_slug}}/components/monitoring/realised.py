"""Realised performance: what the predictions of a batch were worth, measured once labels have arrived."""

from collections.abc import Collection, Mapping
from statistics import NormalDist
from typing import Any

import polars as pl

from monitoring import resampling
from monitoring.labels import LABEL, PREDICTION, Joined
from monitoring.resampling import Judged, Spread
from runtime import metrics as names
from runtime import raw
from runtime.usecase import UseCase

Plain = dict[str, Any]
FEW, OF_THE_CLASS = 30, ("precision", "recall", "f1", "average_precision")  # rows, below which an error is no good one
NOTHING: Plain = {"value": None, "low": None, "high": None, "expected": None, "reference": None, "drop": None}


def learned(case: UseCase, scored: pl.LazyFrame, evaluation: Mapping[str, Any]) -> Plain:
    """The metrics of the validation split and their standard errors, for the baseline; or the `reason` for none."""
    metric = evaluation.get("metric")
    if LABEL not in scored.collect_schema() or metric is None:
        return {"metric": metric, "reason": "the evaluation names no gate metric or holds no labels; train again"}
    if absent := _absent(case, scored.collect_schema().names()):
        return {"metric": metric, "reason": absent}
    table = scored.drop_nulls([LABEL, PREDICTION]).collect()
    threshold = float(evaluation.get("threshold", 0.5))
    found = resampling.spreads(_judged(case, table, threshold)) if table.height else {}
    metrics = {name: {"value": one.value, "error": one.error} for name, one in found.items()}
    return {"metric": metric, "threshold": threshold, "rows": table.height, "metrics": metrics}


def measured(case: UseCase, baseline: Mapping[str, Any], joined: Joined | str, expected: Mapping[str, Any]) -> Plain:
    """The `realised` of drift.json; `expected` is its `performance`, the estimate from before there were labels.

    metric: the gate's. value, low, high: it on the labelled rows, with 95 % limits; null with a `reason` where it is
    not known. expected: what was estimated without labels. reference: its value on the validation split. drop: by how
    much it is worse than that, and limit: [drift] performance_drop; alarm: the drop exceeds it, and chance, in these
    rows and in the validation split, is excluded at [drift] significance; of precision, recall and F1 only where the
    class is predicted, and true, in at least 30 rows. rows: labelled rows that were used,
    share: of the scored ones; left_out: rows with labels that were not, by why; bias: how the labelled rows differ from
    the others. metrics: the same for every metric of the task.
    """
    known: Mapping[str, Any] = baseline.get("validation", {})
    about = {"metric": known.get("metric") or expected.get("metric"), "limit": case.drift.performance_drop}
    if isinstance(joined, str):
        nobody: Plain = {"rows": 0, "share": None, "left_out": {}, "bias": ""}
        return {**about, **NOTHING, "alarm": False, **nobody, "reason": joined, "metrics": {}}
    rows = joined.rows.height
    share = rows / joined.scored if joined.scored else None
    about |= {"rows": rows, "share": share, "left_out": dict(joined.left_out), "bias": joined.bias}
    if rows < case.drift.minimum_rows:
        few = f"{rows:,} rows with label and prediction are fewer than [drift] minimum_rows"
        return {**about, **NOTHING, "alarm": False, "reason": f"{few} = {case.drift.minimum_rows:,}", "metrics": {}}
    if absent := _absent(case, joined.rows.columns):
        return {**about, **NOTHING, "alarm": False, "reason": absent, "metrics": {}}
    judged = _judged(case, joined.rows, float(known.get("threshold", 0.5)))
    metrics = {name: _beside(case, name, one, known, expected) for name, one in resampling.spreads(judged).items()}
    if _few(judged):  # of the class: what precision and the like are shares of
        metrics |= {name: {**metrics[name], "alarm": False} for name in OF_THE_CLASS if name in metrics}
    if about["metric"] not in metrics:
        reason = f"{about['metric']} can't be measured on these labels: they hold too few different values"
        return {**about, **NOTHING, "alarm": False, "reason": reason, "metrics": metrics}
    return {**about, **metrics[about["metric"]], "reason": None, "metrics": metrics}


def _few(judged: Judged) -> bool:
    """Whether the positive class is predicted for, or true of, too few rows to tell chance from a change."""
    if judged.task != "binary":
        return False
    return bool(min((judged.predicted >= judged.threshold).sum(), (judged.labels == 1).sum()) < FEW)


def _scores(case: UseCase) -> list[str]:
    """What a task's metrics are computed from."""
    task = case.data.task
    several = [f"score:{name}" for name in case.data.classes]
    return [PREDICTION] if task == "regression" else ["score"] if task == "binary" else several


def _absent(case: UseCase, columns: Collection[str]) -> str:
    """Another component may give no scores."""
    absent = [name for name in _scores(case) if name not in columns]
    return f"the predictions have no column {', '.join(absent)}" if absent else ""


def _judged(case: UseCase, table: pl.DataFrame, threshold: float) -> Judged:
    """Rows with `__label` as arrays, in the form that the metrics take."""
    groups = table[raw.GROUP].rank("dense").cast(pl.Int64).to_numpy() if raw.GROUP in table.columns else None
    truth, columns = table[LABEL], _scores(case)
    if case.data.task != "regression":
        truth = truth.cast(pl.String).cast(pl.Enum(case.data.classes)).to_physical()
    scores = table.select(columns).cast(pl.Float64).to_numpy()
    predicted = scores[:, 0] if len(columns) == 1 else scores
    return Judged(case.data.task, truth.cast(pl.Float64).to_numpy(), predicted, threshold, groups)


def _beside(case: UseCase, name: str, found: Spread, known: Mapping[str, Any], expected: Mapping[str, Any]) -> Plain:
    """One metric with what was expected of it, and whether it is worse than it was on validation."""
    before = known.get("metrics", {}).get(name, {})
    reference, error = before.get("value"), before.get("error") or 0.0
    drop = None if reference is None else names.lead(name, reference, found.value)
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


def in_words(found: Mapping[str, Any] | None) -> str:
    """The measurement as a part of a sentence; nothing where no labels were given."""
    if found is None:
        return ""
    if found["value"] is None:
        return f"labels are there, and how well these rows were scored is not known: {found['reason']}"
    share = "" if found["share"] is None else f", {_percent(found['share'])} of the scored ones"
    before = [f"{found['expected']:.3f} was expected"] if found["expected"] is not None else []
    before += (
        [f"{found['reference']:.3f} was reached on the validation split"] if found["reference"] is not None else []
    )
    said = f"with the labels of {found['rows']:,} rows{share}, {found['metric']} is {found['value']:.3f}"
    said += f" (95 %: {found['low']:.3f} to {found['high']:.3f}){''.join(f', {one}' for one in before)}"
    return f"{said}; these are no random share: {found['bias']}" if found["bias"] else said


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"


LEFT_OUT = {
    "broken_line": "have too few or too many cells",
    "missing_id": "have no id",
    "missing_label": "have no label",
    "unknown_label": "have a label that the contract does not know",
    "contradicting": "contradict each other: one id, several labels",
    "repeated": "say the same of one id once more, and count once",
    "not_scored": "match no scored row",
    "scored_twice": "match an id that was scored more than once, with different answers",
    "failed": "match a row that could not be scored",
}


def left_out(found: Mapping[str, Any]) -> str:
    """The label rows that were not used, in a sentence; "" where all were."""
    parts = [f"{found['left_out'][name]:,} {words}" for name, words in LEFT_OUT.items() if found["left_out"].get(name)]
    return f"Of the rows with labels {'; '.join(parts)}." if parts else ""
