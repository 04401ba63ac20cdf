"""The steps of adopting a table: look, decide, check, write, say."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import polars as pl

from operations.adopt import (
    Question,
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
from operations.adopt.columns import Decision
from operations.adopt.contract import Contract
from operations.adopt.facts import Facts, Look
from operations.adopt.label import Label
from operations.adopt.saying import Checked
from operations.adopt.tables import Table
from operations.adopt.wishes import NO_GROUP, Wishes
from runtime import files, raw, usecase
from runtime.failures import InputError
from runtime.usecase import UseCase

NUMBERED = re.compile(r"column_\d+")  # how the columns of a file without names are called
FIRST = 3  # of the rows that break the contract
ASKED = 5  # columns in one question
BAD_ROWS = 0.01  # of which odd cells in columns of numbers and dates may take half


def adopt(wishes: Wishes) -> None:
    """Write usecase.toml and data/adopted/. Raises Question or InputError, and then nothing has been written."""
    table = tables.read(wishes)
    try:
        wishes = _meant(wishes, list(table.frame.collect_schema()))
        table = replace(table, reading=replace(table.reading, label=wishes.label))
        seen, decided, decisions = _decided(wishes, table)
        text, case = contract.rewritten(wishes.usecase, decided)
        checked = _checked(table, wishes.data, case)
        rows = placing.place(table.files, wishes.folder, wishes.usecase, text, seen.aside)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    saying.say(seen, decided, decisions, checked)
    saying.say_next(seen, rows, checked, case)


def _decided(wishes: Wishes, table: Table) -> tuple[saying.Seen, Contract, list[Decision]]:
    """What was seen, the contract, and the decision on every column but the label, the id and the time."""
    _check_names(wishes, list(table.frame.collect_schema()))
    table, looked = _look(wishes, table)
    found, look, answer = looked.found, looked.look, looked.found[wishes.label]
    decisions = _decisions({name: column for name, column in found.items() if name != wishes.label}, look)
    moments = times.look(found, decisions, look)
    if not wishes.missing:
        suspects = gaps.suspects(found, look, wishes.label, wishes.task)
        gaps.ask(suspects + gaps.moments(found, look, decisions, moments))
    target = label.decide(answer, replace(look.table, frame=table.frame), wishes.task, look.markers, looked.unlabelled)
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
    _check_dates(wishes.dates, list(decisions.values()))
    words = label.markers(answer, table, look.markers)
    kept_aside = aside.choose(found, look, time, group)
    seen = saying.Seen(wishes, answer, looked.unlabelled, len(found), looked.added, words, events, repeats, kept_aside)
    form = look.table.formats.get(wishes.label, "") if target.task == "regression" else ""
    reading = replace(look.table.reading, label_format=form)
    return seen, Contract(wishes.label, target, named, time, look.markers, reading, kept, group), chosen


def _meant(wishes: Wishes, names: Sequence[str]) -> Wishes:
    """The columns that the options name, without regard to blanks around a name of the file."""

    def meant(said: str) -> str:
        alike = [name for name in names if said and name.strip() == said.strip()]
        return alike[0] if len(alike) == 1 and said not in names else said

    label, named, time, group = map(meant, (wishes.label, wishes.id, wishes.time, wishes.group))
    return replace(wishes, label=label, id=named, time=time, group=group)


def _decisions(found: dict[str, Facts], look: Look) -> dict[str, Decision]:
    """Each column's own place. Raises Question with what all of them leave open."""
    decided, asked = {}, list[str]()
    for name, column in found.items():
        try:
            decided[name] = columns.decide(column, look)
        except Question as question:
            asked.append(str(question))
    if asked:
        more = f" And {len(asked) - ASKED} more columns are open." if len(asked) > ASKED else ""
        raise Question(" ".join(asked[:ASKED]) + more)
    return decided


def _check_names(wishes: Wishes, names: Sequence[str]) -> None:
    """Raises InputError where a column is not there, or asked to be two things."""
    given = {"LABEL": wishes.label, "ID": wishes.id, "TIME": wishes.time}
    given |= {f"TYPES {name}": name for name in wishes.columns()}
    given |= {f"MISSING={text}": name for text in wishes.markers() if (name := text.rpartition("=")[0])}
    given["GROUP"] = "" if wishes.group in NO_GROUP else wishes.group
    for option, name in given.items():
        if name and name not in names:
            there = f"It has {saying.listed(names)}."
            raise InputError(f"{wishes.data.name} has no column {name!r} ({option}){_nearest(name, names)} {there}")
    for first, second in combinations([option for option in given if option.isalpha()], 2):
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
    if wishes.time_zone and not usecase.zone(wishes.time_zone):
        raise InputError(f"TIME_ZONE={wishes.time_zone} is no IANA time zone like Europe/Berlin.")
    read = numerals.read(rows, found, wishes, missing)
    if (read.reading, read.formats) != (rows.reading, rows.formats):
        table = tables.spelled(table, read)
        rows, unlabelled = tables.labelled(table, wishes.label, missing)
        found = facts.collect(rows, missing, unlabelled)
    added = gaps.known(found, wishes.label)
    extra = list(dict.fromkeys(text for texts in added.values() for text in texts))
    if extra:
        missing += extra
        rows, unlabelled = tables.labelled(table, wishes.label, missing)
        found = facts.collect(rows, missing, unlabelled)
    tolerated = columns.tolerated(found, [*found], found[wishes.label].rows, BAD_ROWS)
    look = Look(rows, missing, tolerated, wishes.dates, wishes.columns(), wishes.time_zone)
    return table, Looked(found, look, added, unlabelled)


def _time(decisions: dict[str, Decision], name: str) -> Decision | None:
    if not name:
        return None
    decision = decisions[name]
    if decision.type != "date":
        raise InputError(f"column {name!r} (TIME) holds no dates that can be read: {decision.why or decision.type}.")
    return decision


def _group(wishes: Wishes, looked: Looked, decisions: dict[str, Decision], named: str) -> tuple[str, list[str]]:
    """The column whose rows stay together, "" for none, and sentences about it."""
    others = {name: column for name, column in looked.found.items() if name not in (named, wishes.time)}
    if wishes.group and wishes.group not in NO_GROUP:
        wished = entities.wished(looked.found, looked.look, wishes.group, wishes.label)
        return wishes.group, [wished.words()]
    found = entities.find(others, decisions, looked.look, wishes.label)
    clear = found[0] if found and found[0].clear else None
    if clear and wishes.group:
        told = f"as GROUP={wishes.group} says, but {clear.name!r} repeats: {clear.words()}"
        return "", [f"{told}; what is measured holds for rows of the same {clear.name!r} alone"]
    hint = entities.hint(found[1:] if clear else found) if not wishes.group else ""
    return (clear.name, [clear.words(), hint]) if clear else ("", [hint])


def _chosen(decisions: dict[str, Decision], looked: Looked, answer: Facts, target: Label) -> list[Decision]:
    """Each column's own place, unless it only names rows or gives the label away."""
    look = looked.look
    usable = [looked.found[name] for name, decision in decisions.items() if decision.type]
    told = leaks.find(look.table, usable, answer, target.task, look.markers)
    chosen = dict(decisions)
    for name, decision in decisions.items():
        column = looked.found[name]
        if reason := identity.reason(column, look) or told.get(name, ""):
            chosen[name] = columns.out(column, reason)
        elif identity.called(column) and decision.type == "number":
            why = f"whole numbers that name something; {column.distinct} values"
            chosen[name] = replace(decision, type="category", why=why)
    return list(chosen.values())


def _free(decision: Decision) -> Decision:
    """Where rows are numbered, the name of that number is taken."""
    if decision.name != raw.NO_ID or not decision.type:
        return decision
    why = f"has the name that numbered rows get; rename it, or say ID={raw.NO_ID}"
    return Decision(decision.name, "", why, missing=decision.missing)


def _check_dates(wish: str, decisions: Sequence[Decision]) -> None:
    if wish and not any(decision.format[:2] == wish[:2] for decision in decisions):
        raise InputError(f"DATES={wish} reads no column; leave it away, or write it like %d/%m/%Y.")


def _checked(opened: Table, data: Path, case: UseCase) -> Checked:
    """Rows under the new contract, read as training will read them. Raises InputError where too many break it."""
    table = raw.read(data, case, labelled=True)
    counted = pl.col(raw.BROKEN).sum(), pl.col(raw.RAGGED).count(), pl.len().alias("rows")
    broken, ragged, rows = table.frame.select(*counted).collect(engine="streaming").row(0)
    first = table.reasons.head(FIRST).collect(engine="streaming").rows()
    reasons = [f"{file}, row {row}: {error}" for file, row, error in first]
    if broken > case.data.bad_rows * rows:
        raise InputError(f"{'; '.join(reasons)}; {broken:,} of {rows:,} rows are like that: mend them.")
    copies = pl.len() - pl.struct(pl.all()).hash().n_unique()  # which streams, and takes columns of any type
    return Checked(
        rows, broken, ragged, table.empty, opened.frame.select(copies).collect(engine="streaming").item(), reasons
    )
