"""Writing the decisions into usecase.toml: only [data], [columns], [gate] and the split's method, comments kept."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from operations.adopt import tables
from operations.adopt.columns import Decision
from operations.adopt.label import Label
from runtime import usecase
from runtime.failures import InputError
from runtime.usecase import Data, UseCase

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
