"""`make adopt`: a table becomes a contract that reads it, a question, or a sentence that says what is wrong.

Of usecase.toml [data], [columns], [gate] and the split's method change; comments stay.
"""

import argparse
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
import tomlkit

from batchloop.adopt import columns, dates, forecasting, groups, holdout, numbers, pictures, roles, source
from batchloop.adopt.columns import Decision
from batchloop.adopt.forecasting import Forecast
from batchloop.adopt.groups import Entity
from batchloop.adopt.holdout import FEWEST, Holdout
from batchloop.adopt.profile import MISSING, Profile, own_markers, profile
from batchloop.adopt.roles import Label
from batchloop.adopt.source import NO_GROUP, Options, Question, Table, row
from batchloop.container import files, formats, raw, report, settings, usecase
from batchloop.container.job import InputError, listed, plain
from batchloop.container.usecase import Data, UseCase

HERE = Path(__file__).parent
NUMBERED = re.compile(r"column_\d+")  # how the columns of a file without names are called
FORM = ("separator", "encoding", "decimal", "thousands", "header")  # how the text of CSV files is read
PLACEHOLDER = "__columns"  # where the lines of [columns] come in
LISTED, SHOWN, FIRST = 20, 100, 3  # names in one sentence; columns a line each; rows that break the contract


@dataclass(frozen=True)
class Contract:
    """Everything that was decided: `decisions` are on all columns but the label, the id and the group.

    `added` columns brought in a marker of missing values, `events` look like the time of an event.
    """

    profile: Profile
    label: Label
    id: str
    time: Decision | None
    group: str
    decisions: Sequence[Decision]
    added: Mapping[str, Sequence[str]]
    events: Mapping[str, str]
    entity: Entity | None
    repeating: Sequence[str]
    holdout: Holdout | None
    forecast: Forecast | None = None

    @property
    def used(self) -> list[Decision]:
        return [each for each in self.decisions if each.type]

    @property
    def left_out(self) -> list[Decision]:
        return [each for each in self.decisions if not each.type]


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
        print(f"question: {plain(question)}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {plain(error)}", file=sys.stderr)
        return 1
    return 0


def adopt(options: Options) -> None:
    """Write usecase.toml and data/adopted/. Raises Question or InputError, and then nothing has been written."""
    options = pictures.gathered(options)
    try:
        table = source.read(options)
        if (with_pictures := pictures.embedded(options, table)) is not options:
            form = table.reading  # of the table that was given, as others of its kind will be
            options, table = with_pictures, replace(source.read(with_pictures), reading=form)
        decided = _decided(table, _matched(options, table.frame.collect_schema().names()))
        text, case = _rewrite(options.usecase, decided)
        found = _check(decided, case)
        kept = holdout.write(table.files, options.folder, options.usecase, text, decided.holdout)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, files.find(options.data)) from None
    _report(decided, case, found, kept)


def _matched(options: Options, names: Sequence[str]) -> Options:
    """The options with the columns that they name, blanks apart. Raises InputError for one that is none, or is two."""
    named = {key: getattr(options, key) for key in ("label", "id", "time", "group", "series")}
    for key, said in named.items():
        alike = [name for name in names if name.strip() == said.strip()]
        named[key] = alike[0] if len(alike) == 1 and said not in ("", *names) else said
    none = {key for key in ("group", "series") if named[key] in NO_GROUP}
    given = {key.upper(): name for key, name in named.items() if key not in none}
    for first, second in combinations(given, 2):
        if given[first] and given[first] == given[second]:
            raise InputError(f"column {given[first]!r} can't be both {first} and {second}.")
    given |= {f"KNOWN={name}": name for name in options.known_columns}
    given |= {f"TYPES {name}": name for name in options.columns}
    given |= {f"MISSING={text}": name for text in options.markers if (name := text.rpartition("=")[0])}
    for option, name in given.items():
        if name and name not in names:
            hint = settings.nearest(name, names)
            hint = "if the file begins with data, say HEADER=no" if NUMBERED.fullmatch(name) else hint
            raise InputError(f"{options.data.name} has no column {name!r} ({option}); {hint}.")
    return replace(options, **named)


def _profile(table: Table, options: Options) -> tuple[Profile, dict[str, Sequence[str]]]:
    """The table with numbers and gaps as it writes them; and the columns that brought in a marker of missing values."""
    gaps = list(dict.fromkeys([*MISSING, *options.markers]))
    found = profile(table, options, gaps)
    if options.time_zone and not formats.zone(options.time_zone):
        raise InputError(f"TIME_ZONE={options.time_zone} is no IANA time zone like Europe/Berlin.")
    read = numbers.read(found)
    if read is not table:
        found = profile(read, options, gaps)
    added = columns.known_markers(found)
    more = dict.fromkeys(text for texts in added.values() for text in texts)
    return (profile(read, options, list(dict.fromkeys([*gaps, *more]))) if more else found), added


def _decided(table: Table, options: Options) -> Contract:
    """The contract. Raises Question or InputError."""
    found, added = _profile(table, options)
    decisions = columns.decide(found)
    moments = {name: dates.moments(each.column, each.format) for name, each in decisions.items() if each.type == "date"}
    if not options.missing:
        columns.ask_missing(found, decisions.values(), moments.values())
    time = decisions[options.time] if options.time else None
    if time and time.type != "date":
        raise InputError(f"column {time.name!r} (TIME) holds no dates that can be read: {time.why or time.type}.")
    if forecasting.asked(options.usecase):
        return _of_series(found, decisions, moments, added)
    label = roles.label(found)
    if options.id:
        roles.check_id(found.columns[options.id])
    key = options.id or roles.find_id(found)
    used = {name: each.type for name, each in decisions.items() if name not in (key, options.time)}
    group, entity, repeating = groups.choose(found, used)
    special = {key, options.time, group} - {""}
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
    return Contract(found, label, key, time, group, chosen, added, events, entity, repeating, kept)


def _of_series(
    found: Profile,
    decisions: dict[str, Decision],
    moments: dict[str, dates.Moments],
    added: Mapping[str, Sequence[str]],
) -> Contract:
    """The contract of a table of series. Raises Question or InputError."""
    numeric = replace(found, options=replace(found.options, task="regression"))
    time, label, kept, forecast = forecasting.decide(found, decisions, moments, roles.label(numeric))
    special = (time.name, forecast.series["id"], found.options.id)
    chosen = []
    for decision in [each for name, each in decisions.items() if name not in special]:
        reason = roles.identifier_reason(decision.column)
        chosen.append(replace(decision, type="", why=reason) if reason else decision)
    known = forecast.series["known"]
    forecast.series["known"] = [each.name for each in chosen if each.type and each.name in known]
    return Contract(found, label, "", time, "", chosen, added, {}, None, (), kept, forecast)


def _chosen(found: Profile, decisions: Sequence[Decision], task: str, keyed: bool) -> list[Decision]:
    """Each column's own place, unless it only names rows or tells the label. Raises InputError where none is left."""
    leaks = roles.leaks(found, [each.column for each in decisions if each.type], task)
    chosen = []
    for decision in decisions:
        column = decision.column
        if reason := roles.identifier_reason(column) or leaks.get(column.name, ""):
            chosen.append(replace(decision, type="", why=reason))
        elif not keyed and decision.name == raw.NO_ID and decision.type:
            taken = f"has the name that numbered rows get; rename it, or say ID={raw.NO_ID}"
            chosen.append(replace(decision, type="", why=taken))
        elif roles.is_identifier(column) and decision.type == "number":
            why = f"whole numbers that name something; {column.distinct} values"
            chosen.append(replace(decision, type="category", why=why))
        else:
            chosen.append(decision)
    if not any(each.type for each in chosen):
        reasons = "; ".join(f"{each.name!r} {each.why}" for each in chosen[:5])
        reasons += f"; and {len(chosen) - 5:,} more" if len(chosen) > 5 else ""
        raise InputError(f"{found.options.data.name} has no column to learn from{': ' if reasons else ''}{reasons}.")
    return chosen


def _rewrite(file: Path, contract: Contract) -> tuple[str, UseCase]:
    """The file's new text and what it means. Raises InputError where the file is missing or the result is wrong."""
    try:
        document = tomlkit.parse(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; run from the folder that holds usecase.toml.") from None
    except tomlkit.exceptions.ParseError as error:
        raise InputError(f"{file.name} is not valid TOML: {error}.") from None
    for name in ("data", "columns", "gate"):
        if not isinstance(document.get(name), dict):
            raise InputError(f"{file.name} has no [{name}] table; take it from an unchanged repository.")
    seen, label, time, data = contract.profile, contract.label, contract.time, document["data"]
    markers = {each.name: own_markers(each.name, seen.missing) for each in contract.used}
    of_one = {f"{name}={text}" for name, texts in markers.items() for text in texts}
    form = {key: getattr(seen.table.reading, key) for key in FORM}
    told = {
        "task": label.task,
        "id": contract.id,
        "label": seen.label.name,
        "classes": list(label.classes),
        "time": time.name if time else "",
        "time_format": (time.format if time else "") or None,
        "time_zone": (time.time_zone if time else "") or None,
        "label_format": ("" if label.classes else seen.label.format) or None,
        "missing": [text for text in seen.missing if text not in of_one],
    }
    _update(data, told | {key: form[key] for key in FORM if key in data or form[key] != getattr(Data, key)})
    document["columns"] = {PLACEHOLDER: True}  # tomlkit takes a second for a thousand columns, and more for more
    _update(document["gate"], {"metric": label.metric, "minimum": label.limit, "minimum_lead": label.lead})
    # validation files of the table before say nothing about this one
    method = "time" if time else "group" if contract.group else "random"
    if "split" in document or method != "random":
        split = document.setdefault("split", tomlkit.table())
        _update(split, {"method": method, "group": contract.group if contract.group or "group" in split else None})
    if contract.forecast:
        _update(document["series"], contract.forecast.series)
        _update(document.setdefault("drift", tomlkit.table()), {"minimum_rows": contract.forecast.minimum_rows})
    lines = "\n".join(_line(each, markers[each.name]) for each in contract.used)
    text = tomlkit.dumps(document).replace(f"{PLACEHOLDER} = true\n", f"{lines}\n\n", 1)
    return text, usecase.parse(tomllib.loads(text))


def _update(table: Any, values: Mapping[str, Any]) -> None:
    """Change values and keep the comments beside them; None takes a key out."""
    for key, value in values.items():
        if value is None:
            table.pop(key, None)
            continue
        item = tomlkit.item(value)
        if key in table:
            before = table.value.item(key).trivia
            item.trivia.comment_ws, item.trivia.comment = before.comment_ws, before.comment
        table[key] = item


def _line(decision: Decision, missing: list[str]) -> str:
    """A column's line in [columns]."""
    spec = {"type": decision.type, "format": decision.format, "time_zone": decision.time_zone, "missing": missing}
    said = {key: value for key, value in spec.items() if value} | ({} if decision.drift else {"drift": False})
    pairs = ", ".join(f"{key} = {tomlkit.item(value).as_string()}" for key, value in said.items())
    if decision.type == "image":
        pairs = f'type = "image", {decision.format}'
    gaps = f"  # {decision.column.missing:.1%} missing" if decision.column.missing else ""
    return f"{tomlkit.key(decision.name).as_string()} = {{ {pairs} }}{gaps}"


def _check(contract: Contract, case: UseCase) -> dict[str, Any]:
    """What training will read: numbers of rows, and why the first of them break it. Raises InputError for too many."""
    seen = contract.profile
    table = raw.read(seen.options.data, case, labelled=True)
    ragged, rows = row(table.frame, pl.col(raw.RAGGED).count(), pl.len())
    name = pl.col(contract.id).cast(pl.String) if contract.id else pl.lit(None)
    broken = table.frame.filter(pl.col(raw.BROKEN)).select(raw.FILE, raw.ROW, raw.ERROR, name)
    first = broken.head(FIRST).collect(engine="streaming").rows()
    reasons = [f"{file}, row {row}{f' ({name!r})' if name else ''}: {error}" for file, row, error, name in first]
    if table.broken > case.data.bad_rows * rows:
        raise InputError(f"{'; '.join(reasons)}; {table.broken:,} of {rows:,} rows are like that: mend them.")
    # hashes stream, and take columns of any type
    (copies,) = row(seen.table.frame, pl.len() - pl.struct(pl.all()).hash().n_unique())
    counts = {"rows": rows, "broken": table.broken, "ragged": ragged, "empty": table.empty, "copies": copies}
    return counts | {"reasons": reasons, "marked": roles.marked_labels(seen)}


def _report(contract: Contract, case: UseCase, found: Mapping[str, Any], kept: int) -> None:
    """Print what was decided, and why, and what to do now."""
    reading = contract.profile.table.reading
    form = {key: getattr(reading, key) for key in FORM if getattr(reading, key) != getattr(Data, key)}
    width = min(40, max((len(_printable(each.name)) for each in contract.decisions), default=0))
    given = {"contract": contract, "case": case, "found": found, "kept": kept, "form": form, "width": width}
    functions = {"repr": repr, "quote": shlex.quote, "printable": _printable, "names": _names}
    print(plain(report.render("adopted.jinja", HERE, **given, **functions, shown=SHOWN, fewest=FEWEST)))


def _names(names: Iterable[str]) -> str:
    return listed(map(repr, names), LISTED)


def _printable(name: str) -> str:
    """A column's name on one line, in quotes where blanks would not be seen."""
    return name if name.isprintable() and name and name == name.strip() else repr(name)
