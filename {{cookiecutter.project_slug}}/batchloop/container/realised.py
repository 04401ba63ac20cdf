"""Labels of scored rows: joined with the stored predictions by id, and a count of what did not fit."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import measures, raw, usecase
from batchloop.container import metrics as names
from batchloop.container.job import InputError
from batchloop.container.measures import Floats
from batchloop.container.usecase import UseCase

LABEL = "__label"
COUNTED = "__times"
PREDICTION, ERROR = "prediction", "error"
SMALL_EFFECT, FEW = 0.1, 30  # in standard deviations; rows below which a share is not compared with the rest


@dataclass(frozen=True)
class Joined:
    """`rows` are the scored rows with a label: `__label`, prediction, scores, and `__group` where [split] names one.

    `scored` counts all rows that have a prediction, `left_out` the label rows that could not be used, by why. `bias`
    says in words how the labelled rows differ from the others, "" where they look like a random share of them.
    """

    rows: pl.DataFrame
    scored: int
    left_out: Mapping[str, int]
    bias: str


def join(case: UseCase, folder: Path, predictions: pl.LazyFrame, scored_files: Path) -> Joined | str:
    """The labels in `folder` with what was predicted, or why they can't be put together.

    Raises InputError for a table that can't be read or has no label. An id that comes more than once counts once where
    its rows agree, and not at all where they contradict each other. Without an id in the contract a row is named by its
    file and number, which means something only in the very files that were scored, with the label added.
    """
    identity = case.data.id or raw.NO_ID
    if not case.data.id and (reason := _other_files(case, folder, scored_files)):
        return reason
    given = _given(case, folder)
    told, counts = _told(given, identity, case.data.label)
    scores = score_columns(predictions)
    said = _said(predictions, identity, scores)
    both = told.join(said, on=identity, how="left", maintain_order="left").collect(engine="streaming")
    unscored, twice = both[COUNTED].is_null(), both[COUNTED] > 1
    failed = ~unscored & ~twice & both[ERROR].is_not_null()
    counts |= {"not_scored": int(unscored.sum()), "scored_twice": int(twice.sum()), "failed": int(failed.sum())}
    rows = both.filter(~unscored & ~twice.fill_null(False) & ~failed)
    rows = rows.select(LABEL, PREDICTION, *scores, *([raw.GROUP] if raw.GROUP in rows.columns else []))
    everything = said.filter(pl.col(ERROR).is_null())
    scored = int(everything.select(pl.len()).collect(engine="streaming").item())
    return Joined(rows, scored, counts, _bias(case, rows, everything))


def _given(case: UseCase, folder: Path) -> pl.LazyFrame:
    """Id and label, and the group that [split] names where the table of labels has it."""
    if case.split.group:
        with suppress(InputError):
            return raw.read(folder, usecase.of_labels(case, case.split.group), labelled=True).frame
    return raw.read(folder, usecase.of_labels(case), labelled=True).frame


def score_columns(predictions: pl.LazyFrame) -> list[str]:
    """The score, and the score of each class where there are several; none for regression."""
    return [name for name in predictions.collect_schema() if name == "score" or name.startswith("score:")]


def _told(given: pl.LazyFrame, identity: str, label: str) -> tuple[pl.LazyFrame, dict[str, int]]:
    """One label an id, and how many rows gave none."""
    named, value = pl.col(identity).is_not_null(), pl.col(label)
    usable = named & value.is_not_null()  # a broken line's label is none
    grouped = [pl.col(raw.GROUP).first()] if raw.GROUP in given.collect_schema() else []
    told = (
        given.filter(usable)
        .group_by(identity, maintain_order=True)
        .agg(value.first().alias(LABEL), value.n_unique().alias("labels"), pl.len().alias("times"), *grouped)
    )
    whole = pl.col(raw.RAGGED).is_null()
    counts = given.select(
        broken_line=(~whole).sum(),
        missing_id=(whole & ~named).sum(),
        missing_label=(whole & named & value.is_null() & ~pl.col(raw.BROKEN)).sum(),
        unknown_label=(whole & named & value.is_null() & pl.col(raw.BROKEN)).sum(),
    )
    alike = pl.col("labels") == 1
    again = told.select(
        contradicting=pl.col("times").filter(~alike).sum(), repeated=(pl.col("times") - 1).filter(alike).sum()
    )
    found = {
        name: int(number or 0)
        for table in pl.collect_all([counts, again], engine="streaming")
        for name, number in table.row(0, named=True).items()
    }
    return told.filter(alike).drop("labels", "times"), found


def _said(predictions: pl.LazyFrame, identity: str, scores: list[str]) -> pl.LazyFrame:
    """One row an id, with the number of different answers it was given."""
    answers = [PREDICTION, *scores, ERROR]
    if identity not in predictions.collect_schema():
        raise InputError(f"the predictions have no column {identity!r}, the id; labels can't be joined with them.")
    different = predictions.select(pl.col(identity).cast(pl.String), *answers).unique()
    first = [pl.col(name).first() for name in answers]
    return different.group_by(identity).agg(pl.len().alias(COUNTED), *first)


def _other_files(case: UseCase, folder: Path, scored_files: Path) -> str:
    """Why rows can't be told by file and number; "" where the labelled files are the scored ones."""
    reason = (
        "[data] id is empty, so labels and predictions meet by file and row number, and the labelled files are not the "
        "ones that were scored; give the table an id, or the scored files with the label added"
    )
    names = [column.name for column in case.columns]
    try:
        first, second = (_hashed(raw.read(place, case).frame, names) for place in (folder, scored_files))
    except InputError:
        return reason
    other = first.join(second, on=[raw.NO_ID, "hash"], how="anti").select(pl.len()).collect(engine="streaming").item()
    return reason if other else ""


def _hashed(frame: pl.LazyFrame, names: list[str]) -> pl.LazyFrame:
    return frame.select(raw.NO_ID, pl.struct(names).hash().alias("hash"))


def _bias(case: UseCase, rows: pl.DataFrame, everything: pl.LazyFrame) -> str:
    """The score that sets labelled rows apart from the others most, by a test of two means at [drift] significance."""
    names = score_columns(everything) or [PREDICTION]
    whole = everything.select(
        *(pl.col(name).mean().alias(f"{name}|mean") for name in names),
        *(pl.col(name).var(ddof=0).alias(f"{name}|variance") for name in names),
        rows=pl.len(),
    )
    row = whole.collect(engine="streaming").row(0, named=True)
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


RESAMPLES, LEVEL, SEED = 200, 0.95, 7
ROWS = 10_000  # of a resample at most: a metric of a million rows takes a second
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """Labelled rows: class positions or values, what the model predicted for them, and the group of each, if any.

    From `threshold` on a binary task's positive class is predicted.
    """

    task: str
    labels: Floats
    predicted: Floats
    threshold: float = 0.5
    groups: Places | None = None

    def measured(self, rows: Places | slice = slice(None)) -> dict[str, float]:
        """All metrics of the task on some of the rows; NaN where the labels don't allow one."""
        return measures.measure(self.task, self.labels[rows], self.predicted[rows], self.threshold)


@dataclass(frozen=True)
class Spread:
    """A metric's value, its 95 % limits and its standard error."""

    value: float
    low: float
    high: float
    error: float


def spreads(judged: Judged) -> dict[str, Spread]:
    """Every metric that these rows allow, by name, from a bootstrap of rows, or of groups where there are any.

    Resamples of many rows are smaller than the table, and their spread is scaled to its size (the m out of n bootstrap;
    Bickel, Götze and van Zwet, 1997). A metric that half of the resamples don't allow is left out.
    """
    whole = judged.measured()
    scale, drawn = _resampled(judged)
    draws = [judged.measured(rows) for rows in drawn]
    found = {}
    for name, value in whole.items():
        each = np.array([draw[name] for draw in draws])
        known = each[np.isfinite(each)]
        if np.isfinite(value) and known.size >= RESAMPLES / 2:
            low, high = value + scale * (np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - value)
            found[name] = Spread(value, float(low), float(high), float(scale * known.std()))
    return found


def _resampled(judged: Judged) -> tuple[float, Iterator[Places]]:
    """The rows of each resample, and by how much wider their spread is than the table's."""
    random, rows = np.random.default_rng(SEED), judged.labels.size
    if judged.groups is None:
        size = min(rows, ROWS)
        return float(np.sqrt(size / rows)), (random.integers(0, rows, size) for _ in range(RESAMPLES))
    order = np.argsort(judged.groups, kind="stable")
    _, first, lengths = np.unique(judged.groups[order], return_index=True, return_counts=True)
    size = max(1, min(first.size, round(ROWS * first.size / rows)))

    def drawn() -> Places:
        chosen = random.integers(0, first.size, size)
        ends = np.cumsum(lengths[chosen])
        places = np.arange(ends[-1]) + np.repeat(first[chosen] - (ends - lengths[chosen]), lengths[chosen])
        return np.asarray(order[places], np.int64)

    return float(np.sqrt(size / first.size)), (drawn() for _ in range(RESAMPLES))


Plain = dict[str, Any]
FEW_REALISED, OF_THE_CLASS = (
    30,
    ("precision", "recall", "f1", "average_precision"),
)  # rows, below which an error is no good one
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
    found = spreads(_judged(case, table, threshold)) if table.height else {}
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
    metrics = {name: _beside(case, name, one, known, expected) for name, one in spreads(judged).items()}
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
    return bool(min((judged.predicted >= judged.threshold).sum(), (judged.labels == 1).sum()) < FEW_REALISED)


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
