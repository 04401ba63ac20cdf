"""Writing the decisions into usecase.toml: only [data], [columns], [gate] and the split's method, comments kept."""

import argparse
import difflib
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
import tomlkit

from batchloop.adopt import columns, entities, gaps, numerals, tables
from batchloop.adopt.columns import Decision
from batchloop.adopt.entities import FEWEST_ASIDE, Aside
from batchloop.adopt.gaps import Label
from batchloop.adopt.reading import NO_GROUP, Question, Wishes
from batchloop.adopt.tables import Facts, Look, Table
from batchloop.container import files, raw, usecase
from batchloop.container.job import InputError
from batchloop.container.usecase import Data, UseCase

FORM = ("separator", "encoding", "decimal", "thousands", "header")  # how the text of CSV files is read
PLACE = "__columns"  # where the lines of [columns] come in


@dataclass(frozen=True)
class Contract:
    """Everything that was decided."""

    label: str
    target: Label
    id: str
    time: Decision | None
    missing: Sequence[str]
    reading: Data
    columns: Sequence[Decision]
    group: str = ""

    def own(self) -> dict[str, str]:
        """The markers of one column, and which."""
        names = [decision.name for decision in self.columns]
        return {f"{name}={text}": name for name in names for text in tables.own(name, self.missing)}

    def split(self) -> dict[str, str]:
        """Validation files of the table before say nothing about this one."""
        method = "time" if self.time else "group" if self.group else "random"
        return {"method": method, "group": self.group}


def rewritten(file: Path, contract: Contract) -> tuple[str, UseCase]:
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
    _update(document["data"], _data(contract))
    document["columns"] = {PLACE: True}  # tomlkit takes a second for a thousand columns, and four for two thousand
    gate = {"metric": contract.target.metric, "minimum": contract.target.limit, "minimum_lead": contract.target.lead}
    _update(document["gate"], gate)
    split = contract.split()
    if "split" not in document and split["method"] != "random":
        document["split"] = tomlkit.table()
    if "split" in document:
        _update(document["split"], {key: value for key, value in split.items() if value or key in document["split"]})
    text = tomlkit.dumps(document).replace(
        f"{PLACE} = true\n",
        "\n".join(_line(each, tables.own(each.name, contract.missing)) for each in contract.columns) + "\n\n",
        1,
    )
    return text, usecase.parse(tomllib.loads(text))


def _data(contract: Contract) -> dict[str, Any]:
    time = contract.time
    return {
        "task": contract.target.task,
        "id": contract.id,
        "label": contract.label,
        "classes": list(contract.target.classes),
        "time": time.name if time else "",
        **({"time_format": time.format} if time and time.format else {}),
        **({"time_zone": time.time_zone} if time and time.time_zone else {}),
        **({"label_format": contract.reading.label_format} if contract.reading.label_format else {}),
        "missing": [text for text in contract.missing if text not in contract.own()],
        **{key: getattr(contract.reading, key) for key in FORM},
    }


def _update(table: Any, values: dict[str, Any]) -> None:
    """Change values and keep the comments beside them; what is not said stays out."""
    for key in [key for key in table if key in ("time_format", "time_zone", "label_format") and key not in values]:
        del table[key]
    for key, value in values.items():
        if key in FORM and key not in table and value == getattr(Data, key):
            continue
        item = tomlkit.item(value)
        if key in table:
            before = table.value.item(key).trivia
            item.trivia.comment_ws, item.trivia.comment = before.comment_ws, before.comment
        table[key] = item


def _line(decision: Decision, missing: list[str]) -> str:
    """A column's line in [columns]."""
    spec: dict[str, Any] = {"type": decision.type}
    spec |= {"format": decision.format} if decision.format else {}
    spec |= {"time_zone": decision.time_zone} if decision.time_zone else {}
    spec |= {"missing": missing} if missing else {}
    spec |= {} if decision.drift else {"drift": False}
    pairs = ", ".join(f"{key} = {tomlkit.item(value).as_string()}" for key, value in spec.items())
    gaps = f"  # {decision.missing:.1%} missing" if decision.missing else ""
    return f"{tomlkit.key(decision.name).as_string()} = {{ {pairs} }}{gaps}"


WINDOW, PARTS = "adopted", ("train", "production")


def place(found: Sequence[Path], folder: Path, usecase: Path, text: str, kept: Aside | None) -> int:
    """All or nothing: everything is written beside its place first, and only then moved. The rows kept aside.

    Raises InputError where it can't be written, a full disk for example.
    """
    partial, contract, window = folder / f".{WINDOW}", usecase.with_suffix(".partial"), folder / ".window"
    fresh = not folder.exists()
    try:
        rows = _copy(found, partial, kept)
        contract.write_text(text, encoding="utf-8")
        window.write_text(f"{WINDOW}\n", encoding="utf-8")
        window.replace(folder / "window")
        shutil.rmtree(folder / WINDOW, ignore_errors=True)
        partial.replace(folder / WINDOW)
        contract.replace(usecase)
        return rows
    except OSError as error:
        raise InputError(f"{error.filename or folder} can't be written: {error.strerror}.") from None
    finally:
        for file in (contract, *([window] if folder.is_dir() else [])):
            file.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        if fresh and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _copy(found: Sequence[Path], partial: Path, kept: Aside | None) -> int:
    """The files as train/ and production/: a link would let a later write reach the user's own file."""
    unique, rows = len({file.name for file in found}) == len(found), 0
    shutil.rmtree(partial, ignore_errors=True)
    for part in PARTS:
        (partial / part).mkdir(parents=True)
    for number, file in enumerate(found):
        train, production = (partial / part / (file.name if unique else f"{number:03}-{file.name}") for part in PARTS)
        if kept:
            rows += entities.cut(file, kept, train, production)
        else:
            shutil.copyfile(file, train)
            shutil.copyfile(file, production)
    return rows


TOO_MANY = "equal times or large groups would take too many"
LISTED, SHOWN = 20, 100  # names in one sentence, columns a line each


@dataclass(frozen=True)
class Seen:
    """What is worth saying about the table itself.

    `unlabelled` counts the rows without a label, `added` are the columns that brought in a marker of missing values,
    `words` the label's texts that count as missing, `events` the columns that look like the time of an event,
    `repeats` says what rows belong to, and could, `aside` which rows are kept from training.
    """

    wishes: Wishes
    label: Facts
    unlabelled: int
    columns: int
    added: dict[str, list[str]]
    words: dict[str, int]
    events: dict[str, str]
    repeats: list[str]
    aside: Aside | None


@dataclass(frozen=True)
class Checked:
    """Rows as training will read them, and reasons of the first that break the contract.

    `ragged` lines are too short or too long, `empty` ones are no rows, `copies` say the same as an earlier row.
    """

    rows: int
    broken: int
    ragged: int
    empty: int
    copies: int
    first: list[str]


def say(seen: Seen, decided: Contract, decisions: Sequence[Decision], checked: Checked) -> None:
    """Print it."""
    target = decided.target
    print(f"{seen.wishes.data.name}: {checked.rows:,} rows, {seen.columns:,} columns{_form(decided.reading)}")
    print(f"label  {decided.label!r}: {target.task}; {target.why}")
    print(f"gate   {target.metric}, limit {target.limit:g}")
    print(f"id     {decided.id!r}" if decided.id else "id     none found: rows are numbered (ID=column names one)")
    for line in [*_group(seen, decided), *_time(seen, decided), *_rows(seen, checked)]:
        print(line)
    width = min(40, max(len(_shown(decision.name)) for decision in decisions))
    for title, chosen in (("in the contract", True), ("left out", False)):
        lines = [decision for decision in decisions if bool(decision.type) is chosen]
        print(f"\n{len(lines):,} {'column is' if len(lines) == 1 else 'columns are'} {title}" + (":" if lines else ""))
        for decision in lines[:SHOWN]:
            missing = f"{decision.missing:.1%} missing" if decision.missing else ""
            print(f"  {_shown(decision.name):<{width}}  {decision.type:<9} {missing:<14} {decision.why}".rstrip())
        if len(lines) > SHOWN:
            print(f"  … and {len(lines) - SHOWN:,} more")


def say_next(seen: Seen, rows: int, checked: Checked, case: UseCase) -> None:
    """Which rows the first scoring is of, what too few rows will not tell, and what to do now."""
    folder, labelled = seen.wishes.folder / "adopted" / "production", seen.label.rows
    scored = rows or checked.rows
    why = f"a table of fewer than {FEWEST_ASIDE} labelled rows needs them all" if labelled < FEWEST_ASIDE else TOO_MANY
    print(
        f"\n{rows:,} rows, {seen.aside.words}, are kept from training, with their labels, in {folder}: "
        "make score scores them"
        if seen.aside and rows
        else f"\nno rows are kept from training ({why}): {folder} holds the same rows, so that make score tells what "
        "the model remembers, not what it can do; score new rows with DATA=file"
    )
    few = f"rows, fewer than [drift] minimum_rows = {case.drift.minimum_rows}:"
    validation = round(case.split.validation * (labelled - rows))
    if scored < case.drift.minimum_rows:
        print(f"the first make score has {scored:,} {few} no verdict on drift, and its labels will not be measured")
    if validation < case.drift.minimum_rows and case.data.task != "regression":
        print(f"validation gets about {validation:,} {few} without labels, performance is not known")
    print(f"{seen.wishes.usecase.name} is written; look through it. Next: make train")


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" … and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(repr(name) for name in names[:LISTED]) + more


def _form(reading: Data) -> str:
    """How the text of CSV files is read, where it is not the usual way."""
    told = {key: getattr(reading, key) for key in ("separator", "encoding", "decimal", "thousands")}
    shown = [f"{key} {value!r}" for key, value in told.items() if value != getattr(Data, key)]
    return "".join(f", {each}" for each in [*shown, *([] if reading.header else ["no header"])])


def _group(seen: Seen, decided: Contract) -> list[str]:
    """What rows belong to, or could."""
    said = [line for line in seen.repeats if line]
    if decided.group:
        refuse = "" if seen.wishes.group else "; GROUP=none splits row by row"
        said[0] = f"{decided.group!r}: {said[0]}; rows of one stay in one part of the split{refuse}"
    return [f"group  {line}" if decided.group else f"group  none; {line}" for line in said]


def _time(seen: Seen, decided: Contract) -> list[str]:
    """Which column splits by time, or could."""
    lines = [f"time   {decided.time.name!r}: the last rows are validation and test"] if decided.time else []
    if seen.events and not decided.time:
        name, why = next(iter(seen.events.items()))
        lines.append(
            f"time   {name!r} looks like the time of an event ({why}), but the split is random: if new rows come after "
            f"these, say TIME={shlex.quote(name)}, and the last rows are validation and test"
        )
    if seen.events:
        names, them = listed(list(seen.events)), "them" if len(seen.events) > 1 else "it"
        lines.append(
            f"drift  {names}: time goes on in every batch, so the drift decision leaves {them} out (drift = false)"
        )
    return lines


def _rows(seen: Seen, checked: Checked) -> list[str]:
    """What is missing, and which rows are left out of training."""
    lines, rows = list[str](), checked.rows
    if checked.empty:
        lines.append(f"{checked.empty:,} lines hold nothing and are no rows")
    if checked.copies:
        lines.append(
            f"{checked.copies:,} rows are copies of another one: if they are the same thing twice, remove them"
        )
    if seen.unlabelled:
        much = f" of {rows:,}" if 2 * seen.unlabelled > rows else ""
        hint = f"; if no value in {seen.label.name!r} means something, write it out" if much else ""
        lines.append(f"{seen.unlabelled:,}{much} rows have no label and are left out of training{hint}")
    lines += [
        f"{count:,} rows have the label {word!r}, which counts as missing; if it is a class, call it otherwise"
        for word, count in seen.words.items()
    ]
    if checked.broken:
        ragged = f" ({checked.ragged:,} lines are too short or too long)" if checked.ragged else ""
        lines.append(f"{checked.broken:,} rows break the contract{ragged} and are left out of training:")
        lines += [f"  {reason}" for reason in checked.first] + ["  …"] * (checked.broken > len(checked.first))
    for column, texts in seen.added.items():
        shown = ", ".join(repr(text) for text in texts)
        lines.append(f"{shown} stands among the numbers of {column!r} and now counts as missing in every column")
    return lines


def _shown(name: str) -> str:
    """A column's name on one line, in quotes where blanks would not be seen."""
    return name if name.isprintable() and name and name == name.strip() else repr(name)


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
        text, case = rewritten(wishes.usecase, decided)
        checked = _checked(table, wishes.data, case)
        rows = place(table.files, wishes.folder, wishes.usecase, text, seen.aside)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    say(seen, decided, decisions, checked)
    say_next(seen, rows, checked, case)


def _decided(wishes: Wishes, table: Table) -> tuple[Seen, Contract, list[Decision]]:
    """What was seen, the contract, and the decision on every column but the label, the id and the time."""
    _check_names(wishes, list(table.frame.collect_schema()))
    table, looked = _look(wishes, table)
    found, look, answer = looked.found, looked.look, looked.found[wishes.label]
    decisions = _decisions({name: column for name, column in found.items() if name != wishes.label}, look)
    moments = columns.look(found, decisions, look)
    if not wishes.missing:
        suspects = gaps.suspects(found, look, wishes.label, wishes.task)
        gaps.ask(suspects + gaps.moments(found, look, decisions, moments))
    target = gaps.decide(answer, replace(look.table, frame=table.frame), wishes.task, look.markers, looked.unlabelled)
    if wishes.id:
        gaps.check(look.table, found[wishes.id], look.markers)
    named = wishes.id or gaps.find(found, look, wishes.label)
    time = _time_decision(decisions, wishes.time)
    group, repeats = _group_decision(wishes, looked, decisions, named)
    special = {name for name in (wishes.label, named, wishes.time, group) if name}
    events = {name: why for name, why in columns.events(moments).items() if name not in special}
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
    words = gaps.markers(answer, table, look.markers)
    kept_aside = entities.choose(found, look, time, group)
    seen = Seen(wishes, answer, looked.unlabelled, len(found), looked.added, words, events, repeats, kept_aside)
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
            there = f"It has {listed(names)}."
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
    missing = list(dict.fromkeys([*tables.MISSING, *wishes.markers()]))
    rows, unlabelled = tables.labelled(table, wishes.label, missing)
    found = tables.collect(rows, missing, unlabelled)
    if wishes.time_zone and not usecase.zone(wishes.time_zone):
        raise InputError(f"TIME_ZONE={wishes.time_zone} is no IANA time zone like Europe/Berlin.")
    read = numerals.read(rows, found, wishes, missing)
    if (read.reading, read.formats) != (rows.reading, rows.formats):
        table = tables.spelled(table, read)
        rows, unlabelled = tables.labelled(table, wishes.label, missing)
        found = tables.collect(rows, missing, unlabelled)
    added = gaps.known(found, wishes.label)
    extra = list(dict.fromkeys(text for texts in added.values() for text in texts))
    if extra:
        missing += extra
        rows, unlabelled = tables.labelled(table, wishes.label, missing)
        found = tables.collect(rows, missing, unlabelled)
    tolerated = columns.tolerated(found, [*found], found[wishes.label].rows, BAD_ROWS)
    look = Look(rows, missing, tolerated, wishes.dates, wishes.columns(), wishes.time_zone)
    return table, Looked(found, look, added, unlabelled)


def _time_decision(decisions: dict[str, Decision], name: str) -> Decision | None:
    if not name:
        return None
    decision = decisions[name]
    if decision.type != "date":
        raise InputError(f"column {name!r} (TIME) holds no dates that can be read: {decision.why or decision.type}.")
    return decision


def _group_decision(
    wishes: Wishes, looked: Looked, decisions: dict[str, Decision], named: str
) -> tuple[str, list[str]]:
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
    told = tables.find(look.table, usable, answer, target.task, look.markers)
    chosen = dict(decisions)
    for name, decision in decisions.items():
        column = looked.found[name]
        if reason := gaps.reason(column, look) or told.get(name, ""):
            chosen[name] = columns.out(column, reason)
        elif gaps.called(column) and decision.type == "number":
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


def main(arguments: list[str]) -> int:
    """The command line: 0 adopted, 1 the table can't be used, 2 an option is needed; nothing is written unless 0."""
    from batchloop.adopt import reading  # noqa: PLC0415 - the command line's own help needs no tables

    chosen = _parser().parse_args(arguments)
    try:
        if not chosen.data or not chosen.label:
            raise Question("which table, and which of its columns is to be predicted? Say DATA=file LABEL=column.")
        adopt(reading.Wishes(**vars(chosen)))
    except Question as question:
        print(f"question: {question}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    usage = "make adopt DATA=file LABEL=column [ID=column] [TIME=column] [GROUP=column] [TASK=task] [DATES=format] …"
    parser = argparse.ArgumentParser(prog="make adopt", usage=usage, description="Take on your own table.")
    parser.add_argument("--data", type=Path, help="a CSV (also packed) or Parquet file, or a folder")
    parser.add_argument("--label", default="", help="the column to predict")
    parser.add_argument("--id", default="", help="the column that names a row")
    parser.add_argument("--time", default="", help="the column that says when a row happened; splits by it")
    parser.add_argument("--group", default="", help="the column whose rows stay together in the split; none: no column")
    parser.add_argument("--task", default="", choices=["", "binary", "multiclass", "regression"])
    parser.add_argument("--dates", default="", help="the format of dates that could be read two ways: %%d/%%m/%%Y")
    parser.add_argument("--missing", default="", help="texts that mean 'no value', separated by commas; no: none more")
    parser.add_argument("--encoding", default="", help="of CSV files: utf-8, utf-16, windows-1252 …")
    parser.add_argument("--separator", default="", help="between the cells of CSV files; tab for a tab")
    parser.add_argument("--header", default="", choices=["", "yes", "no"], help="no: CSV files begin with data")
    parser.add_argument("--decimal", default="", choices=["", ".", ","], help="the sign before decimals")
    parser.add_argument("--thousands", default="", help="the sign between thousands; space for a blank, no for none")
    parser.add_argument("--types", default="", help="what columns are: code=category,day=date(%%d.%%m.%%Y),note=out …")
    parser.add_argument("--time-zone", default="", help="whose clocks show the hour of moments: Europe/Berlin")
    parser.add_argument("--usecase", type=Path, default=Path("usecase.toml"))
    parser.add_argument("--folder", type=Path, default=Path("data"))
    return parser
