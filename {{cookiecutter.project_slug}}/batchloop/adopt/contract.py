"""What was decided: usecase.toml, of which [data], [columns], [gate] and the split's method change, and the report."""

import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import tomlkit

from batchloop.adopt.columns import Decision
from batchloop.adopt.holdout import FEWEST, Holdout
from batchloop.adopt.profile import Profile, own
from batchloop.adopt.roles import Label, words
from batchloop.adopt.source import row
from batchloop.container import raw, usecase
from batchloop.container.job import InputError
from batchloop.container.usecase import Data, UseCase

FORM = ("separator", "encoding", "decimal", "thousands", "header")  # how the text of CSV files is read
PLACEHOLDER = "__columns"  # where the lines of [columns] come in
TOO_MANY = "equal times or large groups would take too many"
LISTED, SHOWN, FIRST = 20, 100, 3  # names in one sentence; columns a line each; rows that break the contract


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


def rewrite(file: Path, contract: Contract) -> tuple[str, UseCase]:
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
    profile, label, time, data = contract.profile, contract.label, contract.time, document["data"]
    used = [each for each in contract.decisions if each.type]
    markers = {each.name: own(each.name, profile.missing) for each in used}
    own_markers = {f"{name}={text}" for name, texts in markers.items() for text in texts}
    form = {key: getattr(profile.table.reading, key) for key in FORM}
    told = {
        "task": label.task,
        "id": contract.id,
        "label": profile.label.name,
        "classes": list(label.classes),
        "time": time.name if time else "",
        "time_format": (time.format if time else "") or None,
        "time_zone": (time.time_zone if time else "") or None,
        "label_format": (profile.label.format if label.task == "regression" else "") or None,
        "missing": [text for text in profile.missing if text not in own_markers],
    }
    _update(data, told | {key: form[key] for key in FORM if key in data or form[key] != getattr(Data, key)})
    document["columns"] = {
        PLACEHOLDER: True
    }  # tomlkit takes a second for a thousand columns, and four for two thousand
    _update(document["gate"], {"metric": label.metric, "minimum": label.limit, "minimum_lead": label.lead})
    # validation files of the table before say nothing about this one
    method = "time" if time else "group" if contract.group else "random"
    if "split" in document or method != "random":
        split = document.setdefault("split", tomlkit.table())
        _update(split, {"method": method, "group": contract.group if contract.group or "group" in split else None})
    lines = "\n".join(_line(each, markers[each.name]) for each in used)
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
    gaps = f"  # {decision.column.missing:.1%} missing" if decision.column.missing else ""
    return f"{tomlkit.key(decision.name).as_string()} = {{ {pairs} }}{gaps}"


def check(contract: Contract, case: UseCase) -> tuple[int, list[str]]:
    """How many rows training will read under the new contract, and what is worth saying of them.

    Raises InputError where too many break it.
    """
    profile = contract.profile
    table = raw.read(profile.options.data, case, labelled=True)
    counted = pl.col(raw.BROKEN).sum(), pl.col(raw.RAGGED).count(), pl.len().alias("rows")
    broken, ragged, rows = row(table.frame, *counted)
    first = table.reasons.head(FIRST).collect(engine="streaming").rows()
    reasons = [f"{file}, row {number}: {error}" for file, number, error in first]
    if broken > case.data.bad_rows * rows:
        raise InputError(f"{'; '.join(reasons)}; {broken:,} of {rows:,} rows are like that: mend them.")
    # hashes stream, and take columns of any type
    (copies,) = row(profile.table.frame, pl.len() - pl.struct(pl.all()).hash().n_unique())
    lines, unlabelled = list[str](), profile.unlabelled
    if table.empty:
        lines.append(f"{table.empty:,} lines hold nothing and are no rows")
    if copies:
        lines.append(f"{copies:,} rows are copies of another one: if they are the same thing twice, remove them")
    if unlabelled:
        much = f" of {rows:,}" if 2 * unlabelled > rows else ""
        hint = f"; if no value in {profile.label.name!r} means something, write it out" if much else ""
        lines.append(f"{unlabelled:,}{much} rows have no label and are left out of training{hint}")
    lines += [
        f"{count:,} rows have the label {word!r}, which counts as missing; if it is a class, call it otherwise"
        for word, count in words(profile).items()
    ]
    if broken:
        short = f" ({ragged:,} lines are too short or too long)" if ragged else ""
        lines.append(f"{broken:,} rows break the contract{short} and are left out of training:")
        lines += [f"  {reason}" for reason in reasons] + ["  …"] * (broken > len(reasons))
    for column, texts in contract.added.items():
        shown = ", ".join(map(repr, texts))
        lines.append(f"{shown} stands among the numbers of {column!r} and now counts as missing in every column")
    return rows, lines


def report(contract: Contract, rows: int, lines: Sequence[str]) -> None:
    """Print what was decided, and why."""
    label, profile, reading = contract.label, contract.profile, contract.profile.table.reading
    unusual = [key for key in FORM if getattr(reading, key) != getattr(Data, key)]
    form = [f"{key} {getattr(reading, key)!r}" if key != "header" else "no header" for key in unusual]
    print(", ".join([f"{profile.options.data.name}: {rows:,} rows, {len(profile.columns):,} columns", *form]))
    print(f"label  {profile.label.name!r}: {label.task}; {label.why}")
    print(f"gate   {label.metric}, limit {label.limit:g}")
    print(f"id     {contract.id!r}" if contract.id else "id     none found: rows are numbered (ID=column names one)")
    print("".join(f"{line}\n" for line in [*_split(contract), *lines]), end="")
    names = {each.name: _printable(each.name) for each in contract.decisions}
    width = min(40, max(map(len, names.values())))
    for title, chosen in (("in the contract", True), ("left out", False)):
        some = [each for each in contract.decisions if bool(each.type) is chosen]
        print(f"\n{len(some):,} {'column is' if len(some) == 1 else 'columns are'} {title}" + (":" if some else ""))
        for each in some[:SHOWN]:
            gaps = f"{each.column.missing:.1%} missing" if each.column.missing else ""
            print(f"  {names[each.name]:<{width}}  {each.type:<9} {gaps:<14} {each.why}".rstrip())
        if len(some) > SHOWN:
            print(f"  … and {len(some) - SHOWN:,} more")


def _split(contract: Contract) -> Iterator[str]:
    """What rows belong to, or could, and which column splits by time, or could."""
    group, events = contract.group, contract.events
    for place, line in enumerate(line for line in contract.repeats if line):
        refuse = "" if contract.profile.options.group else "; GROUP=none splits row by row"
        chosen = f"{group!r}: {line}; rows of one stay in one part of the split{refuse}" if not place else line
        yield f"group  {chosen if group else f'none; {line}'}"
    if contract.time:
        yield f"time   {contract.time.name!r}: the last rows are validation and test"
    elif events:
        name, why = next(iter(events.items()))
        yield (
            f"time   {name!r} looks like the time of an event ({why}), but the split is random: if new rows come after "
            f"these, say TIME={shlex.quote(name)}, and the last rows are validation and test"
        )
    if events:
        names, them = listed(list(events)), "them" if len(events) > 1 else "it"
        yield f"drift  {names}: time goes on in every batch, so the drift decision leaves {them} out (drift = false)"


def report_next(contract: Contract, rows: int, kept: int, case: UseCase) -> None:
    """Print which rows the first scoring is of, what too few rows will not tell, and what to do now."""
    options, labelled, holdout = contract.profile.options, contract.profile.label.rows, contract.holdout
    folder, scored = options.folder / "adopted" / "production", kept or rows
    why = f"a table of fewer than {FEWEST} labelled rows needs them all" if labelled < FEWEST else TOO_MANY
    print(
        f"\n{kept:,} rows, {holdout.words}, are kept from training, with their labels, in {folder}: "
        "make score scores them"
        if holdout and kept
        else f"\nno rows are kept from training ({why}): {folder} holds the same rows, so that make score tells what "
        "the model remembers, not what it can do; score new rows with DATA=file"
    )
    few = f"rows, fewer than [drift] minimum_rows = {case.drift.minimum_rows}:"
    validation = round(case.split.validation * (labelled - kept))
    if scored < case.drift.minimum_rows:
        print(f"the first make score has {scored:,} {few} no verdict on drift, and its labels will not be measured")
    if validation < case.drift.minimum_rows and case.data.task != "regression":
        print(f"validation gets about {validation:,} {few} without labels, performance is not known")
    print(f"{options.usecase.name} is written; look through it. Next: make train")


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" … and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(map(repr, names[:LISTED])) + more


def _printable(name: str) -> str:
    """A column's name on one line, in quotes where blanks would not be seen."""
    return name if name.isprintable() and name and name == name.strip() else repr(name)
