"""What there is to predict: the task, the classes, and a gate that a model no better than guessing fails."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from operations.adopt import tables
from operations.adopt.columns import MANY
from operations.adopt.facts import Facts
from operations.adopt.tables import Table
from operations.adopt.wishes import Question
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


def decide(column: Facts, table: Table, wish: str, missing: Sequence[str], empty: int = 0) -> Label:
    """What the label asks for; `empty` rows have none.

    Raises Question where whole numbers could be classes or amounts, InputError where nothing can be learned.
    """
    _check(column, table, missing, empty)
    task = wish or _task(column)
    assumed = "" if wish else _assumed(column, task)
    if task == "regression":
        return _regression(column, table, missing, assumed)
    if column.distinct > MANY:
        raise InputError(f"the label {column.name!r} holds {column.distinct:,} different values; it can't be classes.")
    counts = _counts(column, table, missing)
    if task == "binary" and len(counts) != 2:
        raise InputError(f"the label {column.name!r} holds {len(counts)} values; a binary task has two.")
    if task == "multiclass" and len(counts) < 3:
        raise InputError(f"the label {column.name!r} holds {len(counts)} values; a multiclass task has three or more.")
    return _binary(counts) if task == "binary" else _multiclass(counts, assumed)


def markers(column: Facts, table: Table, missing: Sequence[str]) -> dict[str, int]:
    """Texts of the label that count as missing, such as None, and how often; blanks are not among them."""
    return _counts(column, table, [], [text for text in missing if text])


def _check(column: Facts, table: Table, missing: Sequence[str], empty: int) -> None:
    """Raises InputError for a label that is no label."""
    name = f"the label {column.name!r}"
    if not tables.readable(column.kind):
        raise InputError(f"{name} is of type {column.kind}; it must be text, numbers or yes and no.")
    if column.distinct < 2:
        words = markers(column, table, missing)
        hint = f" ({next(iter(words))!r} counts as missing; call that class otherwise)" if words else ""
        hint = hint or (f" (if no value is a class too, write it into the {empty:,} rows without one)" if empty else "")
        count = f"only {column.texts[0]!r}" if column.distinct == 1 else "0 values"
        raise InputError(f"{name} holds {count}; there is nothing to learn{hint}.")
    spelled: dict[str, str] = {}
    for text in column.texts:
        other = spelled.setdefault(text.lower(), text)
        if other != text and column.distinct <= MANY:
            raise InputError(f"{name} holds {other!r} and {text!r}; spell a class in one way.")


def _task(column: Facts) -> str:
    if column.distinct == 2:
        return "binary"
    numbers = column.numbers == column.present and column.kind != pl.Boolean
    if not numbers:
        return _classes(column)
    if not column.whole or column.distinct > CLEARLY_NUMBERS:
        return "regression"
    if column.distinct <= MOST_CLASSES:
        return "multiclass"
    raise Question(
        f"the label {column.name!r} holds {column.distinct} whole numbers: classes or amounts? "
        "Say TASK=multiclass or TASK=regression."
    )


def _assumed(column: Facts, task: str) -> str:
    """What was taken for granted of whole numbers, and how to say otherwise."""
    if task == "binary" or column.numbers < column.present or not column.whole or column.distinct > MANY:
        return ""
    if task == "multiclass":
        return f"{column.distinct} whole numbers, taken as classes; for amounts, counts or grades say TASK=regression"
    return f"{column.distinct} whole numbers, taken as amounts; for classes say TASK=multiclass"


def _classes(column: Facts) -> str:
    if column.distinct <= MANY:
        return "multiclass"
    name = f"the label {column.name!r}"
    if column.numbers > column.present / 2:
        odd = column.present - column.numbers
        raise InputError(
            f"{name} holds numbers, but also {column.odd[0]!r} ({odd:,} such cells); "
            f"say MISSING={shlex.quote(column.odd[0])}, or TASK=regression to leave such rows out, or mend them."
        )
    raise InputError(f"{name} holds {column.distinct:,} different texts; it can't be classes.")


def _counts(column: Facts, table: Table, missing: Sequence[str], among: Sequence[str] | None = None) -> dict[str, int]:
    value = tables.text(column.name, column.kind, missing).alias("value")
    texts = table.frame.select(value).drop_nulls()
    texts = texts.filter(pl.col("value").is_in(list(among))) if among is not None else texts
    return dict(texts.group_by("value").len().collect(engine="streaming").sort("value").iter_rows())


def _multiclass(counts: dict[str, int], assumed: str) -> Label:
    ordered = sorted(counts, key=lambda value: (_place(value), value))
    limit = round(math.log(len(ordered)), 3)
    rarest = min(ordered, key=lambda value: counts[value])
    rare = f"; only {counts[rarest]} of the rows are {rarest!r}" if counts[rarest] < 20 else ""
    shown = ", ".join(map(repr, ordered[:5])) + (" …" if len(ordered) > 5 else "")
    why = f"{assumed or f'{len(ordered)} values ({shown})'}{rare}; the gate asks for less than the log loss of guessing"
    return Label("multiclass", tuple(ordered), why, "log_loss", limit, -0.01)


def _binary(counts: dict[str, int]) -> Label:
    yes = [value for value in counts if value.lower() in raw.TRUE]
    other = next((value for value in counts if value not in yes), "")
    clear = len(yes) == 1 and (other.lower() in raw.FALSE or not yes[0].replace(".", "").isdigit() or other[:1] == "-")
    positive = yes[0] if clear else min(counts, key=lambda value: (counts[value], value))
    share = counts[positive] / sum(counts.values())
    why = f"{positive!r} ({share:.1%} of the rows) is the positive class; to swap, turn [data] classes round"
    return Label("binary", (*(value for value in counts if value != positive), positive), why, "auc", 0.6, -0.005)


def _regression(column: Facts, table: Table, missing: Sequence[str], assumed: str) -> Label:
    if column.numbers <= column.present / 2:
        raise InputError(f"the label {column.name!r} holds {column.texts[0]!r}; a regression task needs numbers.")
    finite = table.number(column.name, tables.plain(column.name, column.kind, missing), column.kind)
    deviation = float(table.frame.select(finite.std()).collect(engine="streaming").item() or 0.0)
    limit = float(f"{deviation:.4g}")
    metrics.check("rmse", "regression")
    told = f"{assumed}; " if assumed else ""
    why = (
        f"numbers from {column.low:g} to {column.high:g}; {told}the gate asks for less error than guessing the mean has"
    )
    return Label("regression", (), why, "rmse", limit, -float(f"{0.01 * deviation:.2g}"))


def _place(value: str) -> float:
    """Classes that are numbers keep their order."""
    try:
        return float(value)
    except ValueError:
        return math.inf
