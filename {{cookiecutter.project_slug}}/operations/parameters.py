"""A pipeline's parameters: the definition's defaults, what this machine knows, and what the user sets."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from operations.failures import Failure
from operations.repository import Repository

NEXT = re.compile(r"\s+(?=\w+=)")  # between two of several Name=value; a value may hold blanks


def values(definition: Mapping[str, Any], known: Mapping[str, Any], chosen: Sequence[str]) -> dict[str, Any]:
    """Every declared parameter's value. `known` may hold more than this definition declares; `chosen` is Name=value.

    Raises Failure for a name that is not declared, a value of the wrong type, and a parameter without a value.
    """
    declared = {parameter["Name"]: parameter for parameter in definition.get("Parameters", [])}
    given = {name: value for name, value in known.items() if name in declared} | _chosen(chosen, declared)
    found = {}
    for name, parameter in declared.items():
        if name not in given and "DefaultValue" not in parameter:
            raise Failure(f"parameter {name} has no value; add --set {name}=…")
        found[name] = typed(parameter, given.get(name, parameter.get("DefaultValue")))
    return found


def _chosen(pairs: Sequence[str], declared: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for pair in (pair for text in pairs for pair in NEXT.split(text.strip())):
        name, equals, value = pair.partition("=")
        if not equals:
            raise Failure(f"--set {pair} is not Name=value.")
        if name not in declared:
            raise Failure(f"there is no parameter {name!r}; there are {', '.join(sorted(declared))}.")
        found[name] = value
    return found


def hyperparameters(definition: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """The hyperparameters that a training step gets from parameters, as text."""
    [found] = [step["Arguments"]["HyperParameters"] for step in definition["Steps"] if step["Type"] == "Training"]
    taken = {name: str(value.get("Get", "")) for name, value in found.items() if isinstance(value, Mapping)}
    begin = "Parameters."
    return {name: str(values[get.removeprefix(begin)]) for name, get in taken.items() if get.startswith(begin)}


def typed(parameter: Mapping[str, Any], value: Any) -> Any:
    """The value as the parameter's type. Raises Failure."""
    allowed = parameter.get("EnumValues")
    if allowed and value not in allowed:
        raise Failure(f"{parameter['Name']} = {value!r} is none of {', '.join(map(str, allowed))}.")
    try:
        match parameter["Type"]:
            case "Integer":
                return int(value)
            case "Float":
                return float(value)
            case "Boolean":
                return {"true": True, "false": False}[str(value).lower()]
    except (ValueError, KeyError):
        raise Failure(f"{parameter['Name']} = {value!r} is not of type {parameter['Type']}.") from None
    return str(value)


def location(text: str) -> str:
    """A path of the user's as a URI; s3:// stays. Raises Failure for a path that does not exist."""
    if text.startswith(("s3://", "file://")):
        return text
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise Failure(f"{text} does not exist.")
    return path.as_uri()


def git_commit(repository: Repository) -> str:
    """The commit at work, with -dirty where files differ from it; "uncommitted" before the first."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            command, cwd=repository.root, capture_output=True, text=True, check=False
        )
    except OSError:
        return "uncommitted"
    return done.stdout.strip() or "uncommitted"
