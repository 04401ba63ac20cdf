"""What was decided and why, a line each."""

from collections.abc import Sequence
from dataclasses import dataclass

from operations.adopt.columns import Decision
from operations.adopt.contract import Contract
from operations.adopt.facts import Facts


@dataclass(frozen=True)
class Seen:
    """What is worth saying about the table itself.

    `added` are the columns that brought in a marker of missing values, `words` the label's texts that count as missing.
    """

    data: str
    usecase: str
    label: Facts
    columns: int
    added: dict[str, list[str]]
    words: dict[str, int]


def say(seen: Seen, decided: Contract, decisions: Sequence[Decision], broken: int) -> None:
    """Print it."""
    target = decided.target
    print(f"{seen.data}: {seen.label.rows:,} rows, {seen.columns:,} columns, separator {decided.separator!r}")
    print(f"label  {decided.label!r}: {target.task}; {target.why}")
    print(f"gate   {target.metric}, limit {target.limit:g}")
    print(f"id     {decided.id!r}" if decided.id else "id     none found: rows are numbered (ID=column names one)")
    if decided.time:
        print(f"time   {decided.time.name!r}: the last rows are validation and test")
    for line in _rows(seen, broken):
        print(line)
    width = min(40, max(len(_shown(decision.name)) for decision in decisions))
    for title, chosen in (("in the contract", True), ("left out", False)):
        lines = [decision for decision in decisions if bool(decision.type) is chosen]
        print(f"\n{len(lines):,} {'column is' if len(lines) == 1 else 'columns are'} {title}" + (":" if lines else ""))
        for decision in lines:
            gaps = f"{decision.missing:.1%} missing" if decision.missing else ""
            print(f"  {_shown(decision.name):<{width}}  {decision.type:<9} {gaps:<14} {decision.why}".rstrip())
    print(f"\n{seen.usecase} is written; look through it. Next: make train")


def _rows(seen: Seen, broken: int) -> list[str]:
    """What is missing, and which rows are left out of training."""
    lines = []
    blank = seen.label.rows - seen.label.present
    if blank:
        lines.append(f"{blank:,} rows have no label and are left out of training")
    lines += [
        f"{count:,} rows have the label {word!r}, which counts as missing; if it is a class, call it otherwise"
        for word, count in seen.words.items()
    ]
    if broken:
        lines.append(f"{broken:,} rows break the contract and are left out of training")
    for column, texts in seen.added.items():
        shown = ", ".join(repr(text) for text in texts)
        lines.append(f"{shown} stands among the numbers of {column!r} and now counts as missing in every column")
    return lines


def _shown(name: str) -> str:
    """A column's name on one line, in quotes where it would not be seen."""
    return name if name.isprintable() and name.strip() else repr(name)
