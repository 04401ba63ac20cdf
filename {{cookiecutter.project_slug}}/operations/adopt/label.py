"""What there is to predict: the task, the classes, and a gate that a model no better than guessing fails."""

import math
from dataclasses import dataclass

import polars as pl

from operations.adopt import Question
from operations.adopt.facts import Facts, Table
from runtime import metrics, raw
from runtime.failures import InputError

MOST_CLASSES, CLEARLY_NUMBERS = 20, 50  # distinct whole numbers


@dataclass(frozen=True)
class Label:
    """The task, the classes in their order (none for regression), why, and the gate's metric, limit and lead."""

    task: str
    classes: tuple[str, ...]
    why: str
    metric: str
    limit: float
    lead: float


def decide(column: Facts, table: Table, wish: str, missing: list[str]) -> Label:
    """Raises Question where whole numbers could be classes or amounts, InputError where nothing can be learned."""
    if column.distinct < 2:
        raise InputError(f"the label {column.name!r} holds {column.distinct} value; there is nothing to learn.")
    task = wish or _task(column)
    if task == "regression":
        return _regression(column, table, missing)
    counts = _counts(column, table, missing)
    if task == "binary" and len(counts) != 2:
        raise InputError(f"the label {column.name!r} holds {len(counts)} values; a binary task has two.")
    if task == "multiclass" and len(counts) < 3:
        raise InputError(f"the label {column.name!r} holds {len(counts)} values; a multiclass task has three or more.")
    if task == "binary":
        return _binary(counts)
    ordered = sorted(counts, key=lambda value: (_place(value), value))
    limit = round(math.log(len(ordered)), 3)
    why = f"{len(ordered)} values; the gate asks for less than the log loss of guessing"
    return Label(task, tuple(ordered), why, "log_loss", limit, -0.01)


def _task(column: Facts) -> str:
    if column.distinct == 2:
        return "binary"
    numbers = column.numbers == column.present and str(column.kind) != "Boolean"
    if not numbers:
        if column.distinct > 200:
            raise InputError(
                f"the label {column.name!r} holds {column.distinct:,} different texts; it can't be classes."
            )
        return "multiclass"
    if not column.whole or column.distinct > CLEARLY_NUMBERS:
        return "regression"
    if column.distinct <= MOST_CLASSES:
        return "multiclass"
    raise Question(
        f"the label {column.name!r} holds {column.distinct} whole numbers: classes or amounts? "
        "Say TASK=multiclass or TASK=regression."
    )


def _counts(column: Facts, table: Table, missing: list[str]) -> dict[str, int]:
    text = raw.as_text(column.name, column.kind).str.strip_chars()
    counts = table.frame.select(text.alias("value")).filter(~pl.col("value").is_in(missing)).group_by("value").len()
    return dict(counts.collect(engine="streaming").sort("value").iter_rows())


def _binary(counts: dict[str, int]) -> Label:
    yes = [value for value in counts if value.lower() in raw.TRUE]
    positive = yes[0] if len(yes) == 1 else min(counts, key=lambda value: (counts[value], value))
    share = counts[positive] / sum(counts.values())
    why = f"{positive!r} ({share:.1%} of the rows) is the positive class; to swap, turn [data] classes round"
    return Label("binary", (*(value for value in counts if value != positive), positive), why, "auc", 0.6, -0.005)


def _regression(column: Facts, table: Table, missing: list[str]) -> Label:
    text = raw.as_text(column.name, column.kind).str.strip_chars()
    number = pl.when(~text.is_in(missing)).then(text).cast(pl.Float64, strict=False).fill_nan(None)
    deviation = float(table.frame.select(number.std()).collect(engine="streaming").item() or 0.0)
    limit = float(f"{deviation:.4g}")
    metrics.check("rmse", "regression")
    why = f"numbers from {column.low:g} to {column.high:g}; the gate asks for less error than guessing the mean has"
    return Label("regression", (), why, "rmse", limit, -float(f"{0.01 * deviation:.2g}"))


def _place(value: str) -> float:
    """Classes that are numbers keep their order."""
    try:
        return float(value)
    except ValueError:
        return math.inf
