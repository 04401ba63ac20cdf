"""The steps of adopting a table: look, decide, check, write, say."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import polars as pl

from operations.adopt import (
    aside,
    columns,
    contract,
    entities,
    facts,
    gaps,
    identity,
    label,
    leaks,
    numerals,
    placing,
    saying,
    tables,
    times,
)
from operations.adopt.columns import Decision, Look
from operations.adopt.contract import Contract
from operations.adopt.facts import Facts
from operations.adopt.label import Label
from operations.adopt.tables import Table
from operations.adopt.wishes import NO_GROUP, Wishes
from runtime import files, raw
from runtime.failures import InputError
from runtime.usecase import UseCase

NUMBERED = re.compile(r"column_\d+")  # how the columns of a file without names are called
BAD_ROWS = 0.01  # of which odd cells in columns of numbers and dates may take half


def adopt(wishes: Wishes) -> None:
    """Write usecase.toml and data/adopted/. Raises Question or InputError, and then nothing has been written."""
    table = tables.read(wishes)
    try:
        seen, decided, decisions = _decided(wishes, table)
        text, case = contract.rewritten(wishes.usecase, decided)
        broken = _verified(wishes.data, case)
        rows = placing.place(table.files, wishes.folder, wishes.usecase, text, seen.aside)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    saying.say(seen, decided, decisions, broken)
    saying.say_next(seen, rows)


def _decided(wishes: Wishes, table: Table) -> tuple[saying.Seen, Contract, list[Decision]]:
    """What was seen, the contract, and the decision on every column but the label, the id and the time."""
    _check_names(wishes, list(table.frame.collect_schema()))
    table, looked = _look(wishes, table)
    found, look, answer = looked.found, looked.look, looked.found[wishes.label]
    decisions = {name: columns.decide(column, look) for name, column in found.items() if name != wishes.label}
    moments = times.look(found, decisions, look)
    if not wishes.missing:
        suspects = gaps.suspects(found, look, wishes.label, wishes.task)
        gaps.ask(suspects + gaps.moments(found, look, decisions, moments))
    target = label.decide(answer, replace(look.table, frame=table.frame), wishes.task, look.markers)
    if wishes.id:
        identity.check(look.table, found[wishes.id], look.markers)
    named = wishes.id or identity.find(found, look, wishes.label)
    time = _time(decisions, wishes.time)
    group, repeats = _group(wishes, looked, decisions, named)
    special = {name for name in (wishes.label, named, wishes.time, group) if name}
    events = {name: why for name, why in times.events(moments).items() if name not in special}
    others = {name: decision for name, decision in decisions.items() if name not in special}
    chosen = _chosen(others, looked, answer, target)
    chosen = [replace(decision, drift=decision.name not in events) for decision in chosen]
    if not named:
        chosen = [_free(decision) for decision in chosen]
    kept = [decision for decision in chosen if decision.type]
    if time and kept:  # the hour and the weekday say something of later rows too
        clock = replace(time, drift=False)
        chosen, kept = [*chosen, clock], [*kept, clock]
    if not kept:
        reasons = "; ".join(f"{decision.name!r} {decision.why}" for decision in chosen[:5])
        reasons += f"; and {len(chosen) - 5:,} more" if len(chosen) > 5 else ""
        raise InputError(f"{wishes.data.name} has no column to learn from{': ' if reasons else ''}{reasons}.")
    _check_dates(wishes.dates, [*kept, *([time] if time else [])])
    words = label.markers(answer, table, look.markers)
    kept_aside = aside.choose(found, look, time, group)
    seen = saying.Seen(wishes, answer, looked.unlabelled, len(found), looked.added, words, events, repeats, kept_aside)
    reading = look.table.reading
    return seen, Contract(wishes.label, target, named, time, look.markers, reading, kept, group), chosen


def _check_names(wishes: Wishes, names: Sequence[str]) -> None:
    """Raises InputError where a column is not there, or asked to be two things."""
    given = {"LABEL": wishes.label, "ID": wishes.id, "TIME": wishes.time}
    given["GROUP"] = "" if wishes.group in NO_GROUP else wishes.group
    for option, name in given.items():
        if name and name not in names:
            there = f"It has {saying.listed(names)}."
            raise InputError(f"{wishes.data.name} has no column {name!r} ({option}){_nearest(name, names)} {there}")
    for first, second in combinations(given, 2):
        if given[first] and given[first] == given[second]:
            raise InputError(f"column {given[first]!r} can't be both {first} and {second}.")


def _nearest(name: str, names: Sequence[str]) -> str:
    """What could be meant by a name that is not there."""
    if NUMBERED.fullmatch(name):
        return "; if the file begins with data, say HEADER=no."
    same = [each for each in names if each.strip().lower() == name.strip().lower()]
    near = same or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


@dataclass(frozen=True)
class Looked:
    """What there is to decide by; `added` are the columns that brought in a marker of missing values."""

    found: dict[str, Facts]
    look: Look
    added: dict[str, list[str]]
    unlabelled: int


def _look(wishes: Wishes, table: Table) -> tuple[Table, Looked]:
    """The table and the facts of its columns over labelled rows, numbers and gaps read as this table writes them."""
    missing = list(dict.fromkeys([*facts.MISSING, *wishes.markers()]))
    rows, unlabelled = tables.labelled(table, wishes.label, missing)
    found = facts.collect(rows, missing, unlabelled)
    reading = numerals.read(rows, found, wishes, missing).reading
    if reading != table.reading:
        table = tables.spelled(table, reading)
        rows, unlabelled = tables.labelled(table, wishes.label, missing)
        found = facts.collect(rows, missing, unlabelled)
    added = gaps.known(found, wishes.label)
    extra = list(dict.fromkeys(text for texts in added.values() for text in texts))
    if extra:
        missing += extra
        rows, unlabelled = tables.labelled(table, wishes.label, missing)
        found = facts.collect(rows, missing, unlabelled)
    tolerated = columns.tolerated(found, [*found], found[wishes.label].rows, BAD_ROWS)
    return table, Looked(found, Look(rows, missing, wishes.dates, tolerated), added, unlabelled)


def _time(decisions: dict[str, Decision], name: str) -> Decision | None:
    if not name:
        return None
    decision = decisions[name]
    if decision.type != "date":
        raise InputError(f"column {name!r} (TIME) holds no dates that can be read: {decision.why or decision.type}.")
    return decision


def _group(wishes: Wishes, looked: Looked, decisions: dict[str, Decision], named: str) -> tuple[str, str]:
    """The column whose rows stay together, "" for none, and a sentence about it."""
    if wishes.group in NO_GROUP:
        return "", ""
    if wishes.group:
        return wishes.group, entities.wished(looked.found, looked.look, wishes.group, wishes.data.name).words()
    others = {name: column for name, column in looked.found.items() if name not in (named, wishes.time)}
    found = entities.find(others, decisions, looked.look, wishes.label)
    if found and found[0].clear:
        return found[0].name, found[0].words()
    return "", entities.hint(found)


def _chosen(decisions: dict[str, Decision], looked: Looked, answer: Facts, target: Label) -> list[Decision]:
    """Each column's own place, unless it only names rows or gives the label away."""
    look = looked.look
    usable = [looked.found[name] for name, decision in decisions.items() if decision.type]
    told = leaks.find(look.table, usable, answer, target.task, look.markers)
    chosen = dict(decisions)
    for column in usable:
        reason = identity.reason(column, look) or told.get(column.name, "")
        if reason:
            chosen[column.name] = columns.out(column, reason)
    return list(chosen.values())


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
