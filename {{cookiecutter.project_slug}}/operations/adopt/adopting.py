"""The steps of adopting a table: look, decide, check, write, say."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from operations.adopt import columns, contract, facts, label
from operations.adopt.columns import Decision, Look
from operations.adopt.facts import Facts, Table
from runtime import raw
from runtime.failures import InputError
from runtime.usecase import UseCase

WINDOW = "adopted"


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
    table = facts.read(wishes.data)
    found, missing = _facts(table)
    for option, name in (("LABEL", wishes.label), ("ID", wishes.id), ("TIME", wishes.time)):
        if name and name not in found:
            shown = ", ".join(repr(column) for column in list(found)[:20])
            raise InputError(f"{wishes.data.name} has no column {name!r} ({option}); it has {shown}.")
    look = Look(table, missing, wishes.dates)
    target = label.decide(found[wishes.label], table, wishes.task, missing)
    identity = wishes.id or columns.identity(found, look, wishes.label)
    time = _time(found, look, wishes.time)
    special = {wishes.label, identity, wishes.time}
    decisions = [
        _decided(column, look, target.task, wishes.label) for name, column in found.items() if name not in special
    ]
    kept = [decision for decision in decisions if decision.type]
    if not kept:
        reasons = "; ".join(f"{decision.name!r} {decision.why}" for decision in decisions[:5])
        raise InputError(f"{wishes.data.name} has no column to learn from{': ' if reasons else ''}{reasons}.")
    decided = contract.Contract(wishes.label, target, identity, time, missing, table.separator, kept)
    text, case = contract.rewritten(wishes.usecase, decided)
    broken = _verified(wishes.data, case)
    _place(table.files, wishes.folder)
    _write(wishes.usecase, text)
    _say(wishes, found, decided, decisions, broken)


def _facts(table: Table) -> tuple[dict[str, Facts], list[str]]:
    """Facts of all columns, under the usual markers and those this table uses."""
    missing = list(facts.MISSING)
    found = facts.collect(table, missing)
    extra = columns.markers(found)
    return (facts.collect(table, missing + extra), missing + extra) if extra else (found, missing)


def _time(found: dict[str, Facts], look: Look, name: str) -> Decision | None:
    if not name:
        return None
    decision = columns.decide(found[name], look)
    if decision.type != "date":
        raise InputError(f"column {name!r} (TIME) holds no dates that can be read: {decision.why or decision.type}.")
    return decision


def _decided(column: Facts, look: Look, task: str, target: str) -> Decision:
    """The column's own place, unless it only names rows or gives the label away."""
    decision = columns.decide(column, look)
    if not decision.type:
        return decision
    reason = columns.looks_like_rows(column, look) or _leak(column, look.table, task, target)
    return Decision(column.name, "", reason, missing=column.missing) if reason else decision


def _leak(column: Facts, table: Table, task: str, target: str) -> str:
    """Why a column would give the label away; "" where it would not."""
    if task == "regression":
        same = column.numbers == column.present and abs(facts.correlation(table, column.name, target)) > 1 - 1e-9
    else:
        same = column.distinct <= facts.PROBED and facts.same_partition(table, column.name, target)
    return f"says the same as the label {target!r}; if you know it before the label, add it by hand" if same else ""


def _verified(data: Path, case: UseCase) -> int:
    """Rows that break the new contract, read as training will read them. Raises InputError where they are too many."""
    table = raw.read(data, case, labelled=True)
    count, rows = table.frame.select(pl.col(raw.BROKEN).sum(), pl.len().alias("n")).collect(engine="streaming").row(0)
    if count > case.data.bad_rows * rows:
        file, row, error = table.reasons.head(1).collect(engine="streaming").row(0)
        raise InputError(f"{file}, row {row}: {error}; {count:,} rows are like that: mend them.")
    return int(count)


def _place(found: Sequence[Path], folder: Path) -> None:
    """Copies of the files as data/adopted/{train,production}: a link would let a later write reach your own file."""
    partial, target = folder / f".{WINDOW}", folder / WINDOW
    shutil.rmtree(partial, ignore_errors=True)
    for part in ("train", "production"):
        (partial / part).mkdir(parents=True)
        for number, file in enumerate(found):
            unique = len({other.name for other in found}) == len(found)
            shutil.copyfile(file, partial / part / (file.name if unique else f"{number:03}-{file.name}"))
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    (folder / "window").write_text(f"{WINDOW}\n", encoding="utf-8")


def _write(file: Path, text: str) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def _say(
    wishes: Wishes, found: dict[str, Facts], decided: contract.Contract, decisions: Sequence[Decision], broken: int
) -> None:
    """What was decided and why, a line each."""
    target, rows = decided.target, found[wishes.label].rows
    print(f"{wishes.data.name}: {rows:,} rows, {len(found)} columns, separator {decided.separator!r}")
    print(f"label  {wishes.label!r}: {target.task}; {target.why}")
    print(f"gate   {target.metric}, limit {target.limit:g}")
    print(f"id     {decided.id!r}" if decided.id else "id     none found: rows are numbered (ID=column names one)")
    if decided.time:
        print(f"time   {decided.time.name!r}: the last rows are validation and test")
    blank = rows - found[wishes.label].present
    if blank:
        print(f"{blank:,} rows have no label and are left out of training")
    if broken:
        print(f"{broken:,} rows break the contract and are left out of training")
    width = min(40, max(len(decision.name) for decision in decisions))
    for title, chosen in (("in the contract", True), ("left out", False)):
        lines = [decision for decision in decisions if bool(decision.type) is chosen]
        print(f"\n{len(lines)} {'column is' if len(lines) == 1 else 'columns are'} {title}" + (":" if lines else ""))
        for decision in lines:
            gaps = f"{decision.missing:.1%} missing" if decision.missing else ""
            print(f"  {decision.name:<{width}}  {decision.type:<9} {gaps:<14} {decision.why}".rstrip())
    print(f"\n{wishes.usecase.name} is written; look through it. Next: make train")
