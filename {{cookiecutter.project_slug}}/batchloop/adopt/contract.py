"""What was decided, as usecase.toml says it: only [data], [columns], [gate] and the split's method, comments kept."""

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import tomlkit

from batchloop.adopt.holdout import FEWEST, Holdout
from batchloop.adopt.options import LISTED
from batchloop.adopt.profile import Profile, own
from batchloop.adopt.roles import Label, words
from batchloop.adopt.types import Decision
from batchloop.container import raw, usecase
from batchloop.container.job import InputError
from batchloop.container.usecase import Data, UseCase

FORM = ("separator", "encoding", "decimal", "thousands", "header")  # how the text of CSV files is read
PLACEHOLDER = "__columns"  # where the lines of [columns] come in
TOO_MANY = "equal times or large groups would take too many"
SHOWN, FIRST = 100, 3  # columns a line each; rows that break the contract


@dataclass(frozen=True)
class Contract:
    """Everything that was decided.

    `time` is the column that splits, `decisions` are on all but the label, the id and the time of a split, `added` the
    columns that brought in a marker of missing values, `events` those that look like the time of an event, `repeats`
    says what rows belong to, and could.
    """

    profile: Profile
    label: Label
    id: str
    time: Decision | None
    group: str
    decisions: Sequence[Decision]
    added: Mapping[str, Sequence[str]]
    events: Mapping[str, str]
    repeats: Sequence[str]
    holdout: Holdout | None

    def update(self, file: Path) -> tuple[str, UseCase]:
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
        used = [each for each in self.decisions if each.type]
        markers = {each.name: own(each.name, self.profile.missing) for each in used}
        _update(document["data"], self._data({f"{name}={text}" for name in markers for text in markers[name]}))
        document["columns"] = {PLACEHOLDER: True}  # tomlkit takes a second for a thousand columns, and four for two
        label = self.label
        _update(document["gate"], {"metric": label.metric, "minimum": label.limit, "minimum_lead": label.lead})
        # validation files of the table before say nothing about this one
        split = {"method": "time" if self.time else "group" if self.group else "random", "group": self.group}
        if "split" not in document and split["method"] != "random":
            document["split"] = tomlkit.table()
        if "split" in document:
            _update(document["split"], {key: text for key, text in split.items() if text or key in document["split"]})
        lines = "\n".join(_line(each, markers[each.name]) for each in used)
        text = tomlkit.dumps(document).replace(f"{PLACEHOLDER} = true\n", f"{lines}\n\n", 1)
        return text, usecase.parse(tomllib.loads(text))

    def _data(self, own_markers: set[str]) -> dict[str, Any]:
        table, label, time = self.profile.table, self.profile.label, self.time
        formats = {
            "time_format": time.format if time else "",
            "time_zone": time.time_zone if time else "",
            "label_format": label.format if self.label.task == "regression" else "",
        }
        return {
            "task": self.label.task,
            "id": self.id,
            "label": label.name,
            "classes": list(self.label.classes),
            "time": time.name if time else "",
            **{key: form for key, form in formats.items() if form},
            "missing": [text for text in self.profile.missing if text not in own_markers],
            **{key: getattr(table.reading, key) for key in FORM},
        }


def _update(table: Any, values: Mapping[str, Any]) -> None:
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
    spec = {"type": decision.type, "format": decision.format, "time_zone": decision.time_zone, "missing": missing}
    said = {key: value for key, value in spec.items() if value} | ({} if decision.drift else {"drift": False})
    pairs = ", ".join(f"{key} = {tomlkit.item(value).as_string()}" for key, value in said.items())
    gaps = f"  # {decision.column.missing:.1%} missing" if decision.column.missing else ""
    return f"{tomlkit.key(decision.name).as_string()} = {{ {pairs} }}{gaps}"


@dataclass(frozen=True)
class Check:
    """Rows as training will read them, and reasons of the first that break the contract.

    `ragged` lines are too short or too long, `empty` ones are no rows, `copies` say the same as an earlier row.
    """

    rows: int
    broken: int
    ragged: int
    empty: int
    copies: int
    first: list[str]


def check(profile: Profile, case: UseCase) -> Check:
    """Rows under the new contract, read as training will read them. Raises InputError where too many break it."""
    table = raw.read(profile.options.data, case, labelled=True)
    counted = pl.col(raw.BROKEN).sum(), pl.col(raw.RAGGED).count(), pl.len().alias("rows")
    broken, ragged, rows = table.frame.select(*counted).collect(engine="streaming").row(0)
    first = table.reasons.head(FIRST).collect(engine="streaming").rows()
    reasons = [f"{file}, row {row}: {error}" for file, row, error in first]
    if broken > case.data.bad_rows * rows:
        raise InputError(f"{'; '.join(reasons)}; {broken:,} of {rows:,} rows are like that: mend them.")
    copies = pl.len() - pl.struct(pl.all()).hash().n_unique()  # which streams, and takes columns of any type
    repeated = profile.table.frame.select(copies).collect(engine="streaming").item()
    return Check(rows, broken, ragged, table.empty, repeated, reasons)


def report(contract: Contract, checked: Check) -> None:
    """Print what was decided, and why."""
    label, profile, reading = contract.label, contract.profile, contract.profile.table.reading
    usual = {key: getattr(reading, key) for key in FORM if getattr(reading, key) != getattr(Data, key)}
    form = [f"{key} {value!r}" if key != "header" else "no header" for key, value in usual.items()]
    start = f"{profile.options.data.name}: {checked.rows:,} rows, {len(profile.columns):,} columns"
    print(", ".join([start, *form]))
    print(f"label  {profile.label.name!r}: {label.task}; {label.why}")
    print(f"gate   {label.metric}, limit {label.limit:g}")
    print(f"id     {contract.id!r}" if contract.id else "id     none found: rows are numbered (ID=column names one)")
    for line in [*_group(contract), *_time(contract), *_rows(contract, checked)]:
        print(line)
    names = {each.name: _printable(each.name) for each in contract.decisions}
    width = min(40, max(map(len, names.values())))
    for title, chosen in (("in the contract", True), ("left out", False)):
        lines = [each for each in contract.decisions if bool(each.type) is chosen]
        print(f"\n{len(lines):,} {'column is' if len(lines) == 1 else 'columns are'} {title}" + (":" if lines else ""))
        for each in lines[:SHOWN]:
            gaps = f"{each.column.missing:.1%} missing" if each.column.missing else ""
            print(f"  {names[each.name]:<{width}}  {each.type:<9} {gaps:<14} {each.why}".rstrip())
        if len(lines) > SHOWN:
            print(f"  … and {len(lines) - SHOWN:,} more")


def report_next(contract: Contract, rows: int, checked: Check, case: UseCase) -> None:
    """Print which rows the first scoring is of, what too few rows will not tell, and what to do now."""
    options, labelled, holdout = contract.profile.options, contract.profile.label.rows, contract.holdout
    folder, scored = options.folder / "adopted" / "production", rows or checked.rows
    why = f"a table of fewer than {FEWEST} labelled rows needs them all" if labelled < FEWEST else TOO_MANY
    print(
        f"\n{rows:,} rows, {holdout.words}, are kept from training, with their labels, in {folder}: "
        "make score scores them"
        if holdout and rows
        else f"\nno rows are kept from training ({why}): {folder} holds the same rows, so that make score tells what "
        "the model remembers, not what it can do; score new rows with DATA=file"
    )
    few = f"rows, fewer than [drift] minimum_rows = {case.drift.minimum_rows}:"
    validation = round(case.split.validation * (labelled - rows))
    if scored < case.drift.minimum_rows:
        print(f"the first make score has {scored:,} {few} no verdict on drift, and its labels will not be measured")
    if validation < case.drift.minimum_rows and case.data.task != "regression":
        print(f"validation gets about {validation:,} {few} without labels, performance is not known")
    print(f"{options.usecase.name} is written; look through it. Next: make train")


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" … and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(repr(name) for name in names[:LISTED]) + more


def _group(contract: Contract) -> list[str]:
    """What rows belong to, or could."""
    said = [line for line in contract.repeats if line]
    if not contract.group:
        return [f"group  none; {line}" for line in said]
    refuse = "" if contract.profile.options.group else "; GROUP=none splits row by row"
    said[0] = f"{contract.group!r}: {said[0]}; rows of one stay in one part of the split{refuse}"
    return [f"group  {line}" for line in said]


def _time(contract: Contract) -> list[str]:
    """Which column splits by time, or could."""
    events, lines = contract.events, list[str]()
    if contract.time:
        lines.append(f"time   {contract.time.name!r}: the last rows are validation and test")
    elif events:
        name, why = next(iter(events.items()))
        lines.append(
            f"time   {name!r} looks like the time of an event ({why}), but the split is random: if new rows come after "
            f"these, say TIME={shlex.quote(name)}, and the last rows are validation and test"
        )
    if events:
        names, them = listed(list(events)), "them" if len(events) > 1 else "it"
        lines.append(
            f"drift  {names}: time goes on in every batch, so the drift decision leaves {them} out (drift = false)"
        )
    return lines


def _rows(contract: Contract, checked: Check) -> list[str]:
    """What is missing, and which rows are left out of training."""
    lines, rows, unlabelled = list[str](), checked.rows, contract.profile.unlabelled
    if checked.empty:
        lines.append(f"{checked.empty:,} lines hold nothing and are no rows")
    if checked.copies:
        lines.append(
            f"{checked.copies:,} rows are copies of another one: if they are the same thing twice, remove them"
        )
    if unlabelled:
        much = f" of {rows:,}" if 2 * unlabelled > rows else ""
        hint = f"; if no value in {contract.profile.label.name!r} means something, write it out" if much else ""
        lines.append(f"{unlabelled:,}{much} rows have no label and are left out of training{hint}")
    lines += [
        f"{count:,} rows have the label {word!r}, which counts as missing; if it is a class, call it otherwise"
        for word, count in words(contract.profile).items()
    ]
    if checked.broken:
        ragged = f" ({checked.ragged:,} lines are too short or too long)" if checked.ragged else ""
        lines.append(f"{checked.broken:,} rows break the contract{ragged} and are left out of training:")
        lines += [f"  {reason}" for reason in checked.first] + ["  …"] * (checked.broken > len(checked.first))
    for column, texts in contract.added.items():
        shown = ", ".join(map(repr, texts))
        lines.append(f"{shown} stands among the numbers of {column!r} and now counts as missing in every column")
    return lines


def _printable(name: str) -> str:
    """A column's name on one line, in quotes where blanks would not be seen."""
    return name if name.isprintable() and name and name == name.strip() else repr(name)
