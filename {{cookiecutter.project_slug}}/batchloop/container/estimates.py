"""The performance part of the baseline and of the drift report: what performance.py needs and finds, as plain data."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import artifacts, performance, raw
from batchloop.container.job import InputError
from batchloop.container.performance import TOP, Cells, Expected, Floats, Known, Places
from batchloop.container.usecase import UseCase

LABEL = "__label"  # of the evaluation's predictions: the class that is true
FEWEST, FEWEST_GROUPS = 10, 30  # rows of a class, and groups of rows, below which too little is known of them
EVERY_CLASS = ("auc",)  # metrics of several classes in which a rare one weighs as much as any other
SAMPLE, SCORES = 5_000, 100_000  # rows that the test takes of validation and of a batch, and scores in them
ONLY_LABELS = "only labels can tell; when they arrive, the realised performance is computed from them"
Plain = dict[str, Any]
Happened = Mapping[str, NDArray[np.bool_]]


def learned(case: UseCase, scored: pl.LazyFrame, evaluation: Mapping[str, Any]) -> Plain:
    """How scores relate to labels on the validation split, and the metrics there; or the `reason` why there is none.

    By score column, `cells` holds what cells.count counts, and the hits: rows where the event happened; `sample` the
    numbers of single rows' cells, one row a group. `threshold` is where the positive class begins to be predicted.
    """
    metric = evaluation.get("metric")
    if reason := _obstacle(case, scored, evaluation):
        return {"metric": metric, "reason": reason}
    columns, groups = _score_columns(case), [raw.GROUP] if raw.GROUP in scored.collect_schema() else []
    needed = ["prediction", LABEL, *columns]
    table = scored.select(*needed, *groups).drop_nulls(needed).collect()
    alone = table.sample(fraction=1, shuffle=True, seed=performance.SEED)
    alone = alone.unique(groups, keep="first", maintain_order=True) if groups else alone
    if reason := _too_little(case, table, list(columns), alone.height):
        return {"metric": metric, "reason": reason}
    threshold = evaluation["threshold"] if case.data.task == "binary" else 0.0
    happened = {name: (table[LABEL] == (label or table["prediction"])).to_numpy() for name, label in columns.items()}
    return {
        "metric": metric,
        "threshold": threshold,
        "rows": table.height,
        "rows_a_group": table.height / alone.height,
        "reference": {name: evaluation["validation"].get(name) for name in performance.METRICS[case.data.task]},
        "cells": _cells(table, happened, threshold),
        "sample": {name: places.tolist() for name, places in _sample(alone, list(columns), threshold).items()},
    }


def _obstacle(case: UseCase, scored: pl.LazyFrame, evaluation: Mapping[str, Any]) -> str:
    if case.data.task == "regression":
        return f"a predicted value says nothing of its own chance to be right; {ONLY_LABELS}"
    if LABEL not in scored.collect_schema():
        return f"the evaluation's predictions have no column {LABEL}"
    lacking = [name for name in ("metric", "validation", "threshold") if name not in evaluation]
    if lacking:
        return f"evaluation.json has no {' and no '.join(lacking)}"
    leak = evaluation.get("leak")
    if not isinstance(leak, Mapping) or leak.get("trusted") is not False:
        return ""
    said = f": {leak['reason'].rstrip('.')}" if isinstance(leak.get("reason"), str) else ""
    return f"to this model the validation rows are no new rows, so they don't show how it scores new ones{said}"


def _too_little(case: UseCase, table: pl.DataFrame, columns: list[str], groups: int) -> str:
    """Why these validation rows say nothing of scores; "" where they do."""
    rows = table.height
    if rows < max(case.drift.minimum_rows, 1):
        return f"{rows:,} labelled validation rows are fewer than [drift] minimum_rows = {case.drift.minimum_rows:,}"
    if not all(_probabilities(table[name].to_numpy()) for name in columns):
        return "the scores of the validation split are no probabilities from 0 to 1"
    if groups < min(rows, FEWEST_GROUPS):
        return f"the validation rows are of {groups} groups; fewer than {FEWEST_GROUPS} don't show how others differ"
    counts = {label: int((table[LABEL] == label).sum()) for label in case.data.classes}
    rarest = min(counts, key=counts.__getitem__)
    if counts[rarest] < FEWEST and (case.data.task == "binary" or case.gate.metric in EVERY_CLASS):
        return f"{counts[rarest]} validation rows are {rarest!r}; how such rows are scored takes {FEWEST} to learn"
    return ""


def _score_columns(case: UseCase) -> dict[str, str]:
    """Each score and the class whose chance it is; "" stands for the predicted one."""
    if case.data.task == "binary":
        return {TOP: case.data.classes[-1]}
    return {TOP: "", **{f"score:{label}": label for label in case.data.classes}}


def _probabilities(scores: Floats) -> bool:
    return bool(np.all((scores >= 0) & (scores <= 1)))


def _cells(table: pl.DataFrame, happened: Happened, threshold: float) -> dict[str, Plain]:
    found = {}
    for name, one in performance.count(table.lazy(), list(happened), threshold).items():
        numbers = performance.places(table[name].cast(pl.Float64).to_numpy(), threshold)
        hits = np.bincount(numbers, weights=happened[name].astype(float))[np.unique(numbers)]
        found[name] = {key: values.tolist() for key, values in (asdict(one) | {"hits": hits}).items()}
    return found


def _sample(table: pl.DataFrame, columns: list[str], threshold: float) -> dict[str, Places]:
    taken = table[: min(SAMPLE, SCORES // len(columns))]
    return {name: performance.places(taken[name].cast(pl.Float64).to_numpy(), threshold) for name in columns}


def judged(case: UseCase, baseline: Mapping[str, Any], scored: pl.LazyFrame) -> Plain:
    """The `performance` of drift.json, for the rows that were scored.

    metric: the gate's. estimated, low, high: its expected value and 95 % limits, null with a `reason` where there is
    none. reference: its value on the labelled validation split. drop: by how much the estimate is worse than the same
    estimate for the validation split, and limit: [drift] performance_drop. p_value: how often chance alone gives such a
    drop, null below the limit. alarm: the drop is over the limit, and p_value below [drift] significance. metrics: the
    same but for p_value and alarm, for every metric that can be estimated.
    """
    known: Mapping[str, Any] = baseline.get("performance", {})
    about = {"metric": known.get("metric"), "method": performance.METHOD, "limit": case.drift.performance_drop}
    nothing = dict.fromkeys(("estimated", "low", "high", "reference", "drop", "p_value")) | {"alarm": False}
    if "cells" not in known:
        reason = known.get("reason", "the baseline has not learned it; train again")
        return {**about, **nothing, "reason": reason, "metrics": {}}
    counted = performance.count(scored, list(known["cells"]), known["threshold"])
    rows = int(counted[TOP].rows.sum())
    if rows < max(case.drift.minimum_rows, 1):
        reason = f"{rows:,} scored rows are fewer than [drift] minimum_rows = {case.drift.minimum_rows:,}"
        return {**about, **nothing, "reason": reason, "metrics": {}}
    validation = _known(known)
    expected = performance.expected(case.data.task, counted, validation)
    found = {name: _plain(one, known["reference"].get(name)) for name, one in expected.items()}
    if known["metric"] not in found:
        reason = f"{known['metric']} can't be expected from scores alone; {', '.join(found)} can"
        return {**about, **nothing, "reason": reason, "metrics": found}
    p_value = None
    if (main := expected[known["metric"]]).drop > case.drift.performance_drop:
        parts, wanted = (known["sample"], _of_batch(known, scored, rows)), (case.data.task, known["metric"])
        chance = performance.chance(wanted, validation, parts, case.drift.significance)
        p_value = min(1.0, 2 * max(chance, main.doubt))  # two-sided
    alarm = p_value is not None and p_value < case.drift.significance
    return {**about, **found[known["metric"]], "p_value": p_value, "alarm": alarm, "reason": None, "metrics": found}


def _known(learned: Mapping[str, Any]) -> Known:
    """What the baseline holds, as arrays, and the calibration that follows from it."""
    found = {name: {key: np.asarray(one[key], float) for key in one} for name, one in learned["cells"].items()}
    return Known(
        {name: Cells(one["scores"], one["rows"], one["chosen"]) for name, one in found.items()},
        {name: performance.fit(one["scores"], one["rows"], one["hits"]) for name, one in found.items()},
        learned["rows_a_group"],
    )


def _plain(found: Expected, reference: float | None) -> Plain:
    limits = {"estimated": found.estimated, "low": found.low, "high": found.high}
    return {**limits, "reference": reference, "drop": found.drop}


def _of_batch(known: Mapping[str, Any], scored: pl.LazyFrame, rows: int) -> dict[str, Places]:
    """Every so many of a batch's rows, at most as many as there would be groups of them."""
    columns = list(known["cells"])
    most = min(SAMPLE, SCORES // len(columns), rows / known["rows_a_group"])
    usable = scored.select(columns).filter(pl.all_horizontal(pl.col(columns).is_finite()))
    table = usable.gather_every(int(np.ceil(rows / most))).collect(engine="streaming")
    return _sample(table, columns, known["threshold"])


def in_words(found: Mapping[str, Any]) -> str:
    """The expectation as half a sentence, or why there is none."""
    if found["estimated"] is None:
        return f"how good the predictions are is not known without labels: {found['reason']}"
    learned = "" if found["reference"] is None else f", {found['reference']:.3f} on the validation split"
    numbers = f"{found['estimated']:.3f} (95 %: {found['low']:.3f} to {found['high']:.3f}{learned})"
    return f"without labels, {found['metric']} is expected to be {numbers}"


SAID = {"drift": "drift", "performance": "a worse model is expected", "realised": "the model is worse by its labels"}


def of(case: UseCase, alarms: Sequence[str]) -> dict[str, Any]:
    """What drift.json says of the alarms."""
    return {"alarms": list(alarms), "counts": counted(case, alarms), "consequence": consequence_in_words(case, alarms)}


def counted(case: UseCase, alarms: Sequence[str]) -> list[str]:
    """Those that [retraining] counts."""
    return [alarm for alarm in alarms if case.retraining.enabled and alarm in case.retraining.on]


def consequence_in_words(case: UseCase, alarms: Sequence[str]) -> str:
    """A sentence, or "" where there is no alarm."""
    if not alarms:
        return ""
    rules, counts = case.retraining, counted(case, alarms)
    one = f"This is an alarm ({' and '.join(SAID.get(alarm, alarm) for alarm in alarms)})"
    if not rules.enabled:
        return f"{one}; nothing follows from it, as [retraining] enabled = false."
    if not counts:
        return f"{one} that [retraining] on leaves out: nothing follows from it."
    if rules.windows == 1:
        return f"{one}, which starts a retraining wherever the loop is deployed."
    return f"{one}, which counts: {rules.alarms} in the last {rules.windows} windows start a retraining."


log = logging.getLogger(__name__)
Column = dict[str, Any]


def shares(folder: Path, contract: Mapping[str, Any]) -> dict[str, float]:
    """Each raw column's share of the model's reasons, from the explainer's global importance; empty where unknown.

    Only explainer.json's `source_importance` (raw column → importance, 0 or more) is read. Another component in
    explainability's place may write no such thing: drift is found all the same.
    """
    try:
        artifacts.check_manifest(folder, "explainability", contract)
        importance = artifacts.read_json(folder / "explainer.json")["source_importance"]
        total = sum(importance.values())
        return {name: score / total for name, score in importance.items()} if total > 0 else {}
    except (InputError, OSError, LookupError, TypeError, AttributeError) as error:
        log.warning("no importance of columns is known (%s): they are ordered by their drift alone", error)
        return {}


def weigh(columns: list[Column], known: Mapping[str, float]) -> None:
    """Set each column's `importance` (None where unknown; 0 where the model does not use it), most important first.

    Drifted ones come first; among them counts the share of the reasons times the effect. Those that don't take part in
    the decision come last.
    """
    for column in columns:
        column["importance"] = known.get(column["name"], 0.0) if known else None
    columns.sort(key=_place)


def _place(column: Column) -> tuple[bool, bool, float, float, str]:
    effect, importance = column["psi_beyond_chance"], column["importance"]
    weight = effect if importance is None else importance * effect
    return not column["decides"], not column["drifted"], -weight, -effect, column["name"]


def drifted(columns: list[Column]) -> tuple[float | None, list[str]]:
    """The share of the reasons in drifted columns, and those of them with more than an even share; None if unknown."""
    found = [column for column in columns if column["drifted"]]
    if any(column["importance"] is None for column in columns):
        return None, []
    even = 1 / max(len(columns), 1)
    return sum(column["importance"] for column in found), [
        column["name"] for column in found if column["importance"] > even
    ]
