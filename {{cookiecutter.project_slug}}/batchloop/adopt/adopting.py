"""`make adopt`: a table becomes a contract that reads it, a question, or a sentence that says what is wrong."""

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import combinations

import polars as pl

from batchloop.adopt import columns, contract, dates, groups, holdout, numbers, roles, source
from batchloop.adopt.columns import Decision
from batchloop.adopt.contract import Contract, listed
from batchloop.adopt.profile import MISSING, Profile, profile
from batchloop.adopt.source import NO_GROUP, Options, Question, Table
from batchloop.container import files, raw, usecase
from batchloop.container.job import InputError

NUMBERED = re.compile(r"column_\d+")  # how the columns of a file without names are called


def main(arguments: list[str]) -> int:
    """The command line: 0 adopted, 1 the table can't be used, 2 an option is needed; nothing is written unless 0."""
    usage = "make adopt DATA=file LABEL=column [ID=column] [TIME=column] [GROUP=column] [TASK=task] [DATES=format] …"
    parser = argparse.ArgumentParser(prog="make adopt", usage=usage, description="Take on your own table.")
    for option in fields(Options):
        parser.add_argument(f"--{option.name.replace('_', '-')}", **option.metadata)
    chosen = parser.parse_args(arguments)
    try:
        if not chosen.data or not chosen.label:
            raise Question("which table, and which of its columns is to be predicted? Say DATA=file LABEL=column.")
        adopt(Options(**vars(chosen)))
    except Question as question:
        print(f"question: {question}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def adopt(options: Options) -> None:
    """Write usecase.toml and data/adopted/. Raises Question or InputError, and then nothing has been written."""
    table = source.read(options)
    try:
        decided = _decided(table, _matched(options, table.frame.collect_schema().names()))
        text, case = contract.rewrite(options.usecase, decided)
        rows, lines = contract.check(decided, case)
        kept = holdout.place(table.files, options.folder, options.usecase, text, decided.holdout)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    contract.report(decided, rows, lines)
    contract.report_next(decided, rows, kept, case)


def _matched(options: Options, names: Sequence[str]) -> Options:
    """The options with the columns that they name, without regard to blanks around a name of the file.

    Raises InputError where a column is not there, or asked to be two things.
    """
    for key in ("label", "id", "time", "group"):
        said = getattr(options, key)
        alike = [name for name in names if said and name.strip() == said.strip()]
        if len(alike) == 1 and said not in names:
            options = replace(options, **{key: alike[0]})  # type: ignore[arg-type]
    given = {"LABEL": options.label, "ID": options.id, "TIME": options.time}
    given |= {f"TYPES {name}": name for name in options.columns}
    given |= {f"MISSING={text}": name for text in options.markers if (name := text.rpartition("=")[0])}
    given["GROUP"] = "" if options.group in NO_GROUP else options.group
    for option, name in given.items():
        if name and name not in names:
            there = f"{_nearest(name, names)} It has {listed(names)}."
            raise InputError(f"{options.data.name} has no column {name!r} ({option}){there}")
    for first, second in combinations([option for option in given if option.isalpha()], 2):
        if given[first] and given[first] == given[second]:
            raise InputError(f"column {given[first]!r} can't be both {first} and {second}.")
    return options


def _nearest(name: str, names: Sequence[str]) -> str:
    """What could be meant by a name that is not there."""
    if NUMBERED.fullmatch(name):
        return "; if the file begins with data, say HEADER=no."
    same = [each for each in names if each.strip().lower() == name.strip().lower()]
    near = same or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _profile(table: Table, options: Options) -> tuple[Profile, dict[str, Sequence[str]]]:
    """The table with numbers and gaps as it writes them; and the columns that brought in a marker of missing values."""
    gaps = list(dict.fromkeys([*MISSING, *options.markers]))
    found = profile(table, options, gaps)
    if options.time_zone and not usecase.zone(options.time_zone):
        raise InputError(f"TIME_ZONE={options.time_zone} is no IANA time zone like Europe/Berlin.")
    read = numbers.read(found)
    if read is not table:
        found = profile(read, options, gaps)
    added = columns.known(found)
    more = dict.fromkeys(text for texts in added.values() for text in texts)
    return (profile(read, options, list(dict.fromkeys([*gaps, *more]))) if more else found), added


def _decided(table: Table, options: Options) -> Contract:
    """The contract. Raises Question or InputError."""
    found, added = _profile(table, options)
    decisions = columns.decide(found)
    dated = [each for each in decisions.values() if each.type == "date"]
    moments = {each.name: dates.moments(each.column, each.format) for each in dated}
    if not options.missing:
        strays = [(each.strays, f"{each.name!r} holds {each.why.partition(';')[0]}") for each in decisions.values()]
        columns.ask(found, strays, moments.values())
    label = roles.label(found)
    if options.id:
        roles.check_id(found.columns[options.id])
    key, time = options.id or roles.find_id(found), decisions[options.time] if options.time else None
    if time and time.type != "date":
        raise InputError(f"column {time.name!r} (TIME) holds no dates that can be read: {time.why or time.type}.")
    used = {name: each.type for name, each in decisions.items()}
    group, repeats = groups.choose(found, used, (key, options.time))
    special = {found.label.name, key, options.time, group} - {""}
    ordered = sorted(moments.items(), key=lambda each: -each[1].order)  # the clearest first
    events = {name: each.event for name, each in ordered if each.event and name not in special}
    chosen = _chosen(found, [each for name, each in decisions.items() if name not in special], label.task, bool(key))
    chosen = [replace(each, drift=each.name not in events) for each in chosen]
    if time:  # the hour and the weekday say something of later rows too
        chosen.append(replace(time, drift=False))
    wish = options.dates
    if wish and not any(each.format[:2] == wish[:2] for each in decisions.values()):
        raise InputError(f"DATES={wish} reads no column; leave it away, or write it like %d/%m/%Y.")
    kept = holdout.choose(found, options.time, moments[options.time].at if time else None, group)
    return Contract(found, label, key, time, group, chosen, added, events, repeats, kept)


def _chosen(found: Profile, decisions: Sequence[Decision], task: str, keyed: bool) -> list[Decision]:
    """Each column's own place, unless it only names rows or tells the label. Raises InputError where none is left."""
    leaks = roles.leaks(found, [each.column for each in decisions if each.type], task)
    chosen = []
    for decision in decisions:
        column = decision.column
        if reason := roles.only_names(column) or leaks.get(column.name, ""):
            chosen.append(columns.out(decision, reason))
        elif not keyed and decision.name == raw.NO_ID and decision.type:
            taken = f"has the name that numbered rows get; rename it, or say ID={raw.NO_ID}"
            chosen.append(columns.out(decision, taken))
        elif roles.names_something(column) and decision.type == "number":
            why = f"whole numbers that name something; {column.distinct} values"
            chosen.append(replace(decision, type="category", why=why))
        else:
            chosen.append(decision)
    if not any(each.type for each in chosen):
        reasons = "; ".join(f"{each.name!r} {each.why}" for each in chosen[:5])
        reasons += f"; and {len(chosen) - 5:,} more" if len(chosen) > 5 else ""
        raise InputError(f"{found.options.data.name} has no column to learn from{': ' if reasons else ''}{reasons}.")
    return chosen
