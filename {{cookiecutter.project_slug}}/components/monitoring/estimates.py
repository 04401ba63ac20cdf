"""The performance part of the baseline and of the drift report: what performance.py needs and finds, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from monitoring import calibration, cells, performance
from monitoring.calibration import Floats
from runtime import metrics as names
from runtime.usecase import UseCase

LABEL = "__label"  # of the evaluation's predictions: the class that is true
Plain = dict[str, Any]


def learned(case: UseCase, scored: pl.LazyFrame, evaluation: Mapping[str, Any]) -> Plain:
    """How scores relate to labels on the validation split, and the metrics there; or the `reason` why there is none.

    `bins` are calibration's, a score column each; `threshold` is where the positive class begins to be predicted.
    """
    metric = evaluation.get("metric")
    if reason := _obstacle(case, scored, evaluation):
        return {"metric": metric, "reason": reason}
    columns = _score_columns(case)
    table = scored.select("prediction", LABEL, *columns).drop_nulls().collect()
    if not table.height or not all(_probabilities(table[name].to_numpy()) for name in columns):
        return {"metric": metric, "reason": "the scores of the validation split are no probabilities from 0 to 1"}
    happened = {name: (table[LABEL] == (label or table["prediction"])).to_numpy() for name, label in columns.items()}
    return {
        "metric": metric,
        "threshold": evaluation["threshold"] if case.data.task == "binary" else 0.0,
        "rows": table.height,
        "reference": {name: evaluation["validation"].get(name) for name in performance.METRICS[case.data.task]},
        "bins": {name: calibration.learn(table[name].to_numpy(), happened[name]) for name in columns},
    }


def _obstacle(case: UseCase, scored: pl.LazyFrame, evaluation: Mapping[str, Any]) -> str:
    if case.data.task == "regression":
        return "a predicted value says nothing of its own chance to be right; only labels can tell how good it is"
    if LABEL not in scored.collect_schema():
        return f"the evaluation's predictions have no column {LABEL}"
    lacking = [name for name in ("metric", "validation", "threshold") if name not in evaluation]
    return f"evaluation.json has no {' and no '.join(lacking)}" if lacking else ""


def _score_columns(case: UseCase) -> dict[str, str]:
    """Each score and the class whose chance it is; "" stands for the predicted one."""
    if case.data.task == "binary":
        return {performance.TOP: case.data.classes[-1]}
    return {performance.TOP: "", **{f"score:{label}": label for label in case.data.classes}}


def _probabilities(scores: Floats) -> bool:
    return bool(np.all((scores >= 0) & (scores <= 1)))


def judged(case: UseCase, baseline: Mapping[str, Any], scored: pl.LazyFrame) -> Plain:
    """The `performance` of drift.json, for the rows that were scored.

    metric: the gate's. estimated, low, high: its expected value and 95 % limits, null with a `reason` where there is
    none. reference: its value on the labelled validation split. drop: by how much the estimate is worse than that, and
    limit: [drift] performance_drop; alarm: it is exceeded, and the limits exclude the reference. metrics: the same for
    every metric that can be estimated.
    """
    known: Mapping[str, Any] = baseline.get("performance", {"reason": "the baseline has not learned it; train again"})
    found = _found(case, known, scored) if "reason" not in known else str(known["reason"])
    about = {"metric": known.get("metric"), "method": performance.METHOD, "limit": case.drift.performance_drop}
    nothing = {"estimated": None, "low": None, "high": None, "reference": None, "drop": None, "alarm": False}
    if isinstance(found, str):
        return {**about, **nothing, "reason": found, "metrics": {}}
    if about["metric"] not in found:
        reason = f"{about['metric']} can't be expected from scores alone; {', '.join(found)} can"
        return {**about, **nothing, "reason": reason, "metrics": found}
    return {**about, **found[about["metric"]], "reason": None, "metrics": found}


def _found(case: UseCase, known: Mapping[str, Any], scored: pl.LazyFrame) -> dict[str, Plain] | str:
    """Each metric, or why there are none."""
    counted = cells.count(scored, list(known["bins"]), known["threshold"])
    rows = int(counted[performance.TOP].rows.sum())
    if rows < case.drift.minimum_rows:
        return f"{rows:,} scored rows are fewer than [drift] minimum_rows = {case.drift.minimum_rows:,}"
    expected = performance.expected(case.data.task, counted, known["bins"])
    return {name: _beside(name, found, known["reference"][name], case) for name, found in expected.items()}


def _beside(name: str, found: performance.Expected, reference: float | None, case: UseCase) -> Plain:
    if reference is None:
        return {**asdict(found), "reference": None, "drop": None, "alarm": False}
    drop = names.lead(name, reference, found.estimated)
    alarm = performance.alarming(name, found, reference, case.drift.performance_drop)
    return {**asdict(found), "reference": reference, "drop": drop, "alarm": alarm}


def in_words(found: Mapping[str, Any]) -> str:
    """The expectation as half a sentence, or nothing where there is none."""
    if found["estimated"] is None:
        return ""
    learned = "" if found["reference"] is None else f", {found['reference']:.3f} on the validation split"
    numbers = f"{found['estimated']:.3f} (95 %: {found['low']:.3f} to {found['high']:.3f}{learned})"
    return f"without labels, {found['metric']} is expected to be {numbers}"
