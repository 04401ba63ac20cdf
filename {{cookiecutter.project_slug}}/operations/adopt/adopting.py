"""The steps of adopting a table: look, decide, check, write, say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from operations.adopt import columns, contract, facts, identity, label, leaks, placing, saying, tables
from operations.adopt.columns import Decision, Look
from operations.adopt.contract import Contract
from operations.adopt.facts import Facts
from operations.adopt.label import Label
from operations.adopt.tables import Table
from runtime import files, raw
from runtime.failures import InputError
from runtime.usecase import UseCase

BAD_ROWS = 0.01  # of which odd cells in columns of numbers and dates may take half


@dataclass(frozen=True)
class Wishes:
    """What the command line says; "" leaves it to the table."""

    data: Path
    label: str
    id: str
    time: str
    task: str
    dates: str
    usecase: Path
    folder: Path


def adopt(wishes: Wishes) -> None:
    """Write usecase.toml and data/adopted/. Raises Question or InputError, and then nothing has been written."""
    table = tables.read(wishes.data)
    try:
        seen, decided, decisions = _decided(wishes, table)
        text, case = contract.rewritten(wishes.usecase, decided)
        broken = _verified(wishes.data, case)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    placing.place(table.files, wishes.folder, wishes.usecase, text)
    saying.say(seen, decided, decisions, broken)


def _decided(wishes: Wishes, table: Table) -> tuple[saying.Seen, Contract, list[Decision]]:
    """What was seen, the contract, and the decision on every column but the label, the id and the time."""
    names = list(table.frame.collect_schema())
    _check_names(wishes, names)
    found, missing, added = _facts(table, wishes.label)
    rows = found[wishes.label].rows
    look = Look(table, missing, wishes.dates, columns.tolerated(found, [*found], rows, BAD_ROWS))
    target = label.decide(found[wishes.label], table, wishes.task, missing)
    named = wishes.id or identity.find(found, look, wishes.label)
    time = _time(found, look, wishes.time)
    special = {name for name in (wishes.label, named, wishes.time) if name}
    decisions = _columns(
        [column for name, column in found.items() if name not in special], look, found[wishes.label], target
    )
    if not named:
        decisions = [_free(decision) for decision in decisions]
    kept = [decision for decision in decisions if decision.type]
    if not kept:
        reasons = "; ".join(f"{decision.name!r} {decision.why}" for decision in decisions[:5])
        raise InputError(f"{wishes.data.name} has no column to learn from{': ' if reasons else ''}{reasons}.")
    _check_dates(wishes.dates, [*kept, *([time] if time else [])])
    words = label.markers(found[wishes.label], table, missing)
    seen = saying.Seen(wishes.data.name, wishes.usecase.name, found[wishes.label], len(found), added, words)
    return seen, Contract(wishes.label, target, named, time, missing, table.separator, kept), decisions


def _check_names(wishes: Wishes, names: Sequence[str]) -> None:
    """Raises InputError where a column is not there, or asked to be two things."""
    given = {"LABEL": wishes.label, "ID": wishes.id, "TIME": wishes.time}
    for option, name in given.items():
        if name and name not in names:
            shown = ", ".join(repr(column) for column in names[:20])
            raise InputError(f"{wishes.data.name} has no column {name!r} ({option}); it has {shown}.")
    for first, second in (("LABEL", "ID"), ("LABEL", "TIME"), ("ID", "TIME")):
        if given[first] and given[first] == given[second]:
            raise InputError(f"column {given[first]!r} can't be both {first} and {second}.")


def _facts(table: Table, target: str) -> tuple[dict[str, Facts], list[str], dict[str, list[str]]]:
    """Facts of all columns, the markers of missing values, and the columns that brought in more than the usual ones."""
    missing = list(facts.MISSING)
    found = facts.collect(table, missing)
    added = columns.markers(found, target)
    extra = list(dict.fromkeys(text for texts in added.values() for text in texts))
    return (facts.collect(table, missing + extra), missing + extra, added) if extra else (found, missing, added)


def _time(found: dict[str, Facts], look: Look, name: str) -> Decision | None:
    if not name:
        return None
    decision = columns.decide(found[name], look)
    if decision.type != "date":
        raise InputError(f"column {name!r} (TIME) holds no dates that can be read: {decision.why or decision.type}.")
    return decision


def _columns(candidates: Sequence[Facts], look: Look, answer: Facts, target: Label) -> list[Decision]:
    """Each column's own place, unless it only names rows or gives the label away."""
    decisions = {column.name: columns.decide(column, look) for column in candidates}
    usable = [column for column in candidates if decisions[column.name].type]
    told = leaks.find(look.table, usable, answer, target.task, look.markers)
    for column in usable:
        reason = identity.reason(column, look) or told.get(column.name, "")
        if reason:
            decisions[column.name] = columns.out(column, reason)
    return list(decisions.values())


def _free(decision: Decision) -> Decision:
    """Where rows are numbered, the name of that number is taken."""
    if decision.name != raw.NO_ID or not decision.type:
        return decision
    why = f"has the name that numbered rows get; rename it, or say ID={raw.NO_ID}"
    return Decision(decision.name, "", why, missing=decision.missing)


def _check_dates(wish: str, kept: Sequence[Decision]) -> None:
    if wish and not any(decision.format[:2] == wish[:2] for decision in kept):
        raise InputError(f"DATES={wish} reads no column; leave it away, or write it like %d/%m/%Y.")


def _verified(data: Path, case: UseCase) -> int:
    """Rows that break the new contract, read as training will read them. Raises InputError where they are too many."""
    table = raw.read(data, case, labelled=True)
    count, rows = table.frame.select(pl.col(raw.BROKEN).sum(), pl.len().alias("n")).collect(engine="streaming").row(0)
    if count > case.data.bad_rows * rows:
        file, row, error = table.reasons.head(1).collect(engine="streaming").row(0)
        raise InputError(f"{file}, row {row}: {error}; {count:,} rows are like that: mend them.")
    return int(count)
