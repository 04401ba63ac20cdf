"""What was decided and why, a line each."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from operations.adopt.aside import FEWEST, Aside
from operations.adopt.columns import Decision
from operations.adopt.contract import Contract
from operations.adopt.facts import Facts
from operations.adopt.wishes import Wishes
from runtime.usecase import Data, UseCase

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
    why = f"a table of fewer than {FEWEST} labelled rows needs them all" if labelled < FEWEST else TOO_MANY
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
