"""The expressions of a pipeline definition: Get, Std:Join, Std:JsonGet, and the conditions.

Source: "Amazon SageMaker Pipelines pipeline definition JSON schema" in the SageMaker developer guide.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from operations.failures import Failure

PART = re.compile(r"\.?([^.\[\]]+)|\['([^']*)'\]|\[\"([^\"]*)\"\]|\[(\d+)\]")
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}


@dataclass
class Scope:
    """What expressions can refer to; `steps` grows while the pipeline runs, `read_json` reads a URI."""

    parameters: Mapping[str, Any]
    execution: Mapping[str, str]
    read_json: Callable[[str], Any]
    steps: dict[str, Any] = field(default_factory=dict)


def resolve(value: Any, scope: Scope) -> Any:
    """The value with every expression in it replaced by what it stands for. Raises Failure for a dangling one."""
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        kind, body = next(iter(value.items()))
        if kind == "Get":
            return get(body, scope)
        if kind == "Std:Join":
            return str(resolve(body["On"], scope)).join(text(resolve(item, scope)) for item in body["Values"])
        if kind == "Std:JsonGet":
            return json_get(body, scope)
    return {key: resolve(item, scope) for key, item in value.items()}


def text(value: Any) -> str:
    """How the service writes a value into a text."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def get(path: str, scope: Scope) -> Any:
    """What `Parameters.X`, `Execution.X` or `Steps.X.property['key'][0]` stands for."""
    places = {"Parameters": scope.parameters, "Execution": scope.execution, "Steps": scope.steps}
    return follow(places, parts(path), path)


def json_get(body: Mapping[str, Any], scope: Scope) -> Any:
    """A value out of a JSON file that an earlier step wrote."""
    uri = resolve(body["PropertyFile"] if "PropertyFile" in body else body["S3Uri"], scope)
    path = resolve(body["Path"], scope)
    return follow(scope.read_json(uri), parts(path), f"{path} in {uri}")


def parts(path: str) -> list[str | int]:
    """`a.b['c'][0]` → ["a", "b", "c", 0]."""
    found = PART.finditer(path)
    return [
        int(match[4]) if match[4] else next(group for group in match.groups() if group is not None) for match in found
    ]


def follow(value: Any, path: list[str | int], shown: str) -> Any:
    """Walk down keys and positions. Raises Failure, naming the path and the part that is missing."""
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            raise Failure(f"{shown} has no value: there is no {part!r}.") from None
    return value


def references(value: Any) -> set[str]:
    """The names of the steps that a value's expressions mention."""
    return {str(path[1]) for path in map(parts, gets(value)) if path[0] == "Steps" and len(path) > 1}


def gets(value: Any) -> Iterator[str]:
    """The path of every Get in a value."""
    if isinstance(value, Mapping):
        if set(value) == {"Get"}:
            yield value["Get"]
        else:
            yield from (path for item in value.values() for path in gets(item))
    elif isinstance(value, list):
        yield from (path for item in value for path in gets(item))


def holds(condition: Mapping[str, Any], scope: Scope) -> bool:
    """Whether a condition is true. Raises Failure for a type this engine does not know."""
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Expression"], scope)
    if kind == "Or":
        return any(holds(item, scope) for item in condition["Conditions"])
    if kind == "In":
        return resolve(condition["QueryValue"], scope) in resolve(condition["Values"], scope)
    if kind not in COMPARISONS:
        raise Failure(f"a condition of type {kind!r} can't be judged here.")
    left, right = (number(resolve(condition[side], scope)) for side in ("LeftValue", "RightValue"))
    try:
        return COMPARISONS[kind](left, right)
    except TypeError:
        raise Failure(f"{left!r} and {right!r} can't be compared ({kind}).") from None


def number(value: Any) -> Any:
    """Text that is a number as that number: parameters and metrics meet in conditions."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
