"""The expressions of a pipeline definition: Get, Std:Join, Std:JsonGet, and the conditions; read here alone.

Source: "Amazon SageMaker Pipelines pipeline definition JSON schema" in the SageMaker developer guide. Paths are written
as the SDK writes them: `Steps.Train.FinalMetricDataList['test:auc'].Value`.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchloop.container.job import InputError

KINDS = ("Get", "Std:Join", "Std:JsonGet")
PART = re.compile(r"(?:(?:^|\.)([^.\[\]'\"\s]+))|\['([^']+)'\]|\[(\d+)\]")
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
DURATION = re.compile(
    r"P?(?=.)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?)?", re.IGNORECASE
)
UNITS = (365 * 86_400, 28 * 86_400, 7 * 86_400, 86_400, 3600, 60)  # seconds; the shortest year and month there are
DEFAULT_PAYLOAD, MOST_PAYLOAD = 6, 100  # megabytes of a transform request, and of all at once
# what of its request a cached step is found by ("Default cache key attributes by pipeline step type", developer guide)
KEYS = {
    "Processing": {"AppSpecification", "Environment", "ProcessingInputs"},
    "Training": {
        *("AlgorithmSpecification", "CheckpointConfig", "DebugHookConfig", "DebugRuleConfigurations"),
        *("Environment", "HyperParameters", "InputDataConfig"),
    },
    "Tuning": {  # the second to the last are TrainingJobDefinition's
        *("HyperParameterTuningJobConfig", "AlgorithmSpecification", "HyperParameterRanges", "InputDataConfig"),
        *("StaticHyperParameters", "TuningObjective"),
    },
    "Transform": {"DataProcessing", "Environment", "ModelName", "TransformInput"},
}
ORDERED = set(COMPARISONS) - {"Equals"}
SIDES = ("LeftValue", "RightValue")


class Text(str):
    """A text that is known only when the pipeline runs; one that is joined of such is one too."""


@dataclass
class Scope:
    """What expressions can refer to; `steps` grows while the pipeline runs, `read_json` reads a URI."""

    parameters: Mapping[str, Any]
    execution: Mapping[str, str]
    read_json: Callable[[str], Any]
    steps: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """A step with its own arguments, without steps in them; it runs only if the outcome of `condition` is `side`."""

    name: str
    type: str
    step: Mapping[str, Any]
    arguments: Mapping[str, Any]
    needs: frozenset[str]
    condition: str = ""
    side: bool = True


def keyed(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a request by which a cached step is found."""
    flat = {**arguments.get("TrainingJobDefinition", {}), **arguments}
    return {key: value for key, value in flat.items() if key in KEYS.get(kind, set())}


def seconds(duration: str) -> int | None:
    """How long a cached step is reused (ExpireAfter); None for what the service does not document.

    "Turn on step caching" in the developer guide: ISO 8601's years to minutes, in either case, and without the P too.
    """
    found = DURATION.fullmatch(duration)
    if not found or not any(found.groups()):
        return None
    return sum(int(number or 0) * unit for number, unit in zip(found.groups(), UNITS, strict=True))


def is_expression(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in KINDS


def resolve(value: Any, scope: Scope) -> Any:
    """The value with every expression in it replaced by what it stands for. Raises InputError."""
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    if not isinstance(value, Mapping):
        return value
    if not is_expression(value):
        return {key: resolve(item, scope) for key, item in value.items()}
    kind, body = next(iter(value.items()))
    if kind == "Get":  # `Parameters.X`, `Execution.X` or `Steps.X.property['key'][0]`
        if len(parts(body)) < 2:
            raise InputError(f"{body} has no value of its own.")
        known = {"Parameters": scope.parameters, "Execution": scope.execution, "Steps": scope.steps}
        return _follow(known, body, body)
    if kind == "Std:Join":
        values = [resolve(item, scope) for item in body["Values"]]
        if not all(isinstance(item, str | int | float) for item in values):
            raise InputError("a Std:Join joins single values only.")
        kind = Text if any(isinstance(item, Text) for item in values) else str
        texts = [str(item).lower() if isinstance(item, bool) else str(item) for item in values]
        return kind(str(resolve(body["On"], scope)).join(texts))
    uri = resolve(body["PropertyFile"] if "PropertyFile" in body else body["S3Uri"], scope)
    path = resolve(body["Path"], scope)
    return _follow(scope.read_json(uri), path, f"{path} in {uri}")


def _follow(value: Any, path: str, shown: str) -> Any:
    for part in parts(path):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            raise InputError(f"{shown} has no value: there is no {part!r}.") from None
    return value


def parts(path: str) -> list[str | int]:
    """`a.b['c'][0]` → ["a", "b", "c", 0]. Raises InputError for anything else."""
    found = [*PART.finditer(path)]
    if not found or "".join(match[0] for match in found) != path:
        raise InputError(f"{path!r} is no path such as Steps.Train.FinalMetricDataList['test:auc'].Value.")
    return [int(match[3]) if match[3] else match[1] or match[2] for match in found]


def gets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if is_expression(value) and "Get" in value:
            yield value["Get"]
        else:
            yield from (path for item in value.values() for path in gets(item))
    elif isinstance(value, list):
        yield from (path for item in value for path in gets(item))


def walk(steps: list[Mapping[str, Any]], condition: str = "", side: bool = True) -> Iterator[Node]:
    """Every step, nested ones too, in the order of a definition."""
    for step in steps:
        arguments = step.get("Arguments", {})
        own = {key: value for key, value in arguments.items() if key not in ("IfSteps", "ElseSteps")}
        used = {str(path[1]) for path in map(parts, gets(own)) if path[0] == "Steps" and len(path) > 1}
        needs = frozenset(used | set(step.get("DependsOn", [])) | ({condition} - {""}))
        yield Node(step["Name"], step["Type"], step, own, needs, condition, side)
        if step["Type"] == "Condition":
            yield from walk(arguments.get("IfSteps", []), step["Name"], True)
            yield from walk(arguments.get("ElseSteps", []), step["Name"], False)


def holds(condition: Mapping[str, Any], scope: Scope) -> bool:
    """Whether a condition is true. Raises InputError for a type that is not known."""
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Expression"], scope)
    if kind == "Or":
        return any(holds(item, scope) for item in condition["Conditions"])
    if kind == "In":
        return resolve(condition["QueryValue"], scope) in resolve(condition["Values"], scope)
    if kind not in COMPARISONS:
        raise InputError(f"a condition of type {kind!r} can't be judged here.")
    left, right = (_number(resolve(condition[side], scope)) for side in SIDES)
    try:
        return COMPARISONS[kind](left, right)
    except TypeError:
        raise InputError(f"{left!r} and {right!r} can't be compared ({kind}).") from None


def _number(value: Any) -> Any:
    """Text that is a number as that number: parameters and metrics meet in conditions."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def check_conditions(conditions: list[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with conditions whose expressions were replaced by values of their types."""
    for condition in conditions:
        kind, inner = condition["Type"], [condition["Expression"]] if "Expression" in condition else []
        yield from check_conditions(condition.get("Conditions", inner))
        if kind in ORDERED and not all(isinstance(condition[side], int | float) for side in SIDES):
            yield f"{kind} compares numbers, and one side is none"
