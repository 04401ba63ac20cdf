"""A pipeline's parameters: the definition's defaults, what this machine knows, and what the user sets."""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from operations.failures import Failure
from operations.repository import Repository
from runtime import settings

NEXT = re.compile(r"\s+(?=\w+\s*=)")  # between two of several Name=value; a value may hold blanks
KINDS: dict[str, Any] = {"Integer": int, "Float": float, "Boolean": bool}  # a parameter's type; else it is text


def values(definition: Mapping[str, Any], known: Mapping[str, Any], chosen: Sequence[str]) -> dict[str, Any]:
    """Every declared parameter's value. `known` may hold more than this definition declares; `chosen` is Name=value.

    Raises Failure for a name that is not declared, a value of the wrong type, and a parameter without a value.
    """
    declared = {parameter["Name"]: parameter for parameter in definition.get("Parameters", [])}
    given = {name: value for name, value in known.items() if name in declared} | pairs(chosen, declared)
    found = {}
    for name, parameter in declared.items():
        if name not in given and "DefaultValue" not in parameter:
            raise Failure(f"parameter {name} has no value; add SET={name}=…")
        found[name] = typed(parameter, given.get(name, parameter.get("DefaultValue")))
    return found


def pairs(chosen: Sequence[str], declared: Iterable[str]) -> dict[str, str]:
    """What Name=value pairs say. Raises Failure for a name that is not declared, or is given two values."""
    found: dict[str, str] = {}
    for pair in (pair for text in chosen for pair in NEXT.split(text.strip())):
        name, equals, value = map(str.strip, pair.partition("="))
        if not equals or not value:
            raise Failure(f"SET={pair} is not Name=value.")
        if name not in declared:
            raise Failure(f"there is no parameter {name!r} to SET; {settings.nearest(name, sorted(declared))}.")
        if name in found:
            raise Failure(f"SET gives {name} two values, {found[name]} and {value}; leave one of them out.")
        found[name] = value
    return found


def chosen(words: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that Name=value pairs have given."""
    return {name: values[name] for name in pairs(words, values)}


def hyperparameters(definition: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, str]:
    """The hyperparameters that a training step gets from chosen parameters."""
    found = [
        step["Arguments"].get("HyperParameters", {})
        for step in definition.get("Steps", ())
        if step["Type"] == "Training"
    ]
    taken = {name: value.get("Get") for given in found for name, value in given.items() if isinstance(value, Mapping)}
    texts = {f"Parameters.{name}": str(value) for name, value in chosen.items()}
    return {name: texts[get] for name, get in taken.items() if get in texts}


def typed(parameter: Mapping[str, Any], value: Any) -> Any:
    """The value as the parameter's type. Raises Failure."""
    allowed = parameter.get("EnumValues")
    if allowed and value not in allowed:
        raise Failure(f"{parameter['Name']} = {value!r} is none of {', '.join(map(str, allowed))}.")
    kind = KINDS.get(parameter["Type"], str)
    if (found := settings.parsed(kind, str(value))) is None:
        raise Failure(f"{parameter['Name']} = {value!r} is not {settings.KINDS[kind]}.")
    return found


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
