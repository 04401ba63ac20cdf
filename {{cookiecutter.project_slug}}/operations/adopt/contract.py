"""Writing the decisions into usecase.toml: only [data], [columns], [gate] and the split's method, comments kept."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from operations.adopt.columns import Decision
from operations.adopt.label import Label
from runtime import usecase
from runtime.failures import InputError
from runtime.usecase import UseCase


@dataclass(frozen=True)
class Contract:
    """Everything that was decided."""

    label: str
    target: Label
    id: str
    time: Decision | None
    missing: Sequence[str]
    separator: str
    columns: Sequence[Decision]


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
    document["columns"] = _columns(contract.columns)
    gate = {"metric": contract.target.metric, "minimum": contract.target.limit, "minimum_lead": contract.target.lead}
    _update(document["gate"], gate)
    if "split" in document:  # validation files of the table before say nothing about this one
        _update(document["split"], {"method": "time" if contract.time else "random"})
    text = tomlkit.dumps(document)
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
        "missing": list(contract.missing),
        "separator": contract.separator,
    }


def _update(table: Any, values: dict[str, Any]) -> None:
    """Change values and keep the comments beside them."""
    for key in [key for key in table if key == "time_format" and key not in values]:
        del table[key]
    for key, value in values.items():
        item = tomlkit.item(value)
        if key in table:
            item.trivia.comment_ws, item.trivia.comment = table[key].trivia.comment_ws, table[key].trivia.comment
        table[key] = item


def _columns(decisions: Sequence[Decision]) -> Any:
    table = tomlkit.table()
    for decision in decisions:
        form = f", format = {tomlkit.item(decision.format).as_string()}" if decision.format else ""
        line = tomlkit.value(f'{{ type = "{decision.type}"{form} }}')
        if decision.missing:
            line.comment(f"{decision.missing:.1%} missing")
        table[decision.name] = line
    table.add(tomlkit.nl())
    return table
