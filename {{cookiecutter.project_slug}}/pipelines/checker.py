"""`python -m pipelines.checker file…`: whether SageMaker's own API models would take a compiled definition.

Each step's arguments are the request of an API call, so they are validated against that call's input shape in botocore,
and each reference to a step against the output shape of the call that describes it. What only the service knows (IAM,
quotas, whether an image exists) can't be checked here.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipelines import constraints, expressions
from pipelines.constraints import SAMPLES, Number, Text

# step type → the call it makes, the name the service fills in, the call that describes the result
CALLS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName", "DescribeProcessingJob"),
    "Training": ("CreateTrainingJob", "TrainingJobName", "DescribeTrainingJob"),
    "Model": ("CreateModel", "ModelName", "DescribeModel"),
    "Transform": ("CreateTransformJob", "TransformJobName", "DescribeTransformJob"),
    "RegisterModel": ("CreateModelPackage", "", "DescribeModelPackage"),
}
TOP = {"Version", "Metadata", "Parameters", "PipelineExperimentConfig", "MlflowConfig", "Steps"}
STEP = {"Name", "Type", "Arguments", "DependsOn", "RetryPolicies", "CacheConfig", "PropertyFiles"}
STEP |= {"DisplayName", "Description"}
EXECUTION = {"PipelineExecutionId", "PipelineExecutionArn", "PipelineName", "PipelineArn", "StartDateTime"}
EXECUTION |= {"CurrentDateTime", "TrainingJobName", "ProcessingJobName"}
KINDS: dict[str, Any] = {"String": str, "Integer": int, "Float": (int, float), "Boolean": bool}
LARGEST, MOST_PARAMETERS = 2**20, 200
Step = Mapping[str, Any]


def check(definition: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a definition, a sentence each; an empty list is what one wants."""
    found = [f"unknown key {key!r} at the top" for key in definition if key not in TOP]
    found += [f"{key} is missing at the top" for key in ("Version", "Parameters", "Steps") if key not in definition]
    found += [problem for path in expressions.gets(definition.get("Steps")) for problem in _unreadable(path)]
    if found:
        return found
    if len(json.dumps(definition).encode()) > LARGEST:
        found.append("the definition is larger than 1 MiB")
    found += _parameters(definition)
    found += _structure(definition["Steps"])
    if not found:
        scope = {step["Name"]: step for step in _all(definition["Steps"])}
        for step in scope.values():
            found += [f"{step['Name']}: {problem}" for problem in _step(step, scope, definition)]
    return found


def _unreadable(path: str) -> Iterator[str]:
    try:
        expressions.parts(path)
    except expressions.ExpressionError as error:
        yield str(error)


def _all(steps: list[Step]) -> Iterator[Step]:
    """Every step, those in the branches of a condition too."""
    for step in steps:
        yield step
        arguments = step.get("Arguments") or {}
        if step.get("Type") == "Condition":
            yield from _all([*arguments.get("IfSteps", []), *arguments.get("ElseSteps", [])])


def _parameters(definition: Mapping[str, Any]) -> Iterator[str]:
    declared = definition["Parameters"]
    names = [parameter.get("Name", "") for parameter in declared]
    if len(declared) > MOST_PARAMETERS:
        yield f"{len(declared)} parameters are more than {MOST_PARAMETERS}"
    used = {path.partition(".")[2] for path in expressions.gets(definition["Steps"]) if path.startswith("Parameters.")}
    for parameter, name in zip(declared, names, strict=True):
        if names.count(name) > 1 or not re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,255}", name):
            yield f"parameter {name!r} is declared twice or is no legal name"
        yield from _parameter(parameter, name)
        if name not in used:
            yield f"parameter {name!r} is not used"


def _parameter(parameter: Mapping[str, Any], name: str) -> Iterator[str]:
    kind, default = parameter.get("Type"), parameter.get("DefaultValue")
    for key in set(parameter) - {"Name", "Type", "DefaultValue", "EnumValues"}:
        yield f"parameter {name!r} has an unknown key {key!r}"
    if kind not in KINDS:
        yield f"parameter {name!r} has no known type ({kind!r})"
    elif default is not None and (not isinstance(default, KINDS[str(kind)]) or (kind != "Boolean" and default is True)):
        yield f"parameter {name!r} has a default that is no {kind} ({default!r})"
    if parameter.get("EnumValues") and default is not None and default not in parameter["EnumValues"]:
        yield f"parameter {name!r} has a default that is none of its values ({default!r})"


def _structure(steps: list[Step]) -> Iterator[str]:
    """Names, keys, order: what must hold before a step can be looked into."""
    everything = list(_all(steps))
    names = [step.get("Name", "") for step in everything]
    for step, name in zip(everything, names, strict=True):
        for key in sorted({"Name", "Type", "Arguments"} - set(step)):
            yield f"{name or 'a step'}: {key} is missing"
        for key in sorted(set(step) - STEP):
            yield f"{name}: unknown key {key!r}"
        if not re.fullmatch(r"[A-Za-z0-9-_]{1,64}", name) or names.count(name) > 1:
            yield f"step {name!r}: the name is taken twice or is not legal"
        if step.get("Type") not in {*CALLS, "Condition", "Fail"}:
            yield f"{name}: unknown step type {step.get('Type')!r}"
        yield from constraints.policies(step, name)
    yield from _order(steps, set())


def _needs(step: Step) -> set[str]:
    """The steps outside of it that a step waits for; a condition waits for what its branches need."""
    inside = {inner.get("Name", "") for inner in _all([step])}
    found: set[str] = set()
    for inner in _all([step]):
        found |= expressions.producers(inner.get("Arguments")) | set(inner.get("DependsOn", []))
    return found - inside


def _order(steps: list[Step], before: set[str]) -> Iterator[str]:
    """A step may use only steps that can run before it: siblings without a cycle, and those around its branch."""
    done, left = set(before), list(steps)
    while left:
        ready = [step for step in left if _needs(step) <= done]
        if not ready:
            for step in left:
                missing = sorted(_needs(step) - done)
                yield f"{step.get('Name')}: needs {', '.join(missing)}, which can't run before it"
            return
        done |= {step.get("Name", "") for step in ready}
        left = [step for step in left if step not in ready]
    for step in steps:
        if step.get("Type") == "Condition":
            for branch in ("IfSteps", "ElseSteps"):
                yield from _order((step.get("Arguments") or {}).get(branch, []), done)


def _step(step: Step, scope: Mapping[str, Step], definition: Mapping[str, Any]) -> Iterator[str]:
    try:
        arguments = _sampled(step["Arguments"], scope, {entry["Name"]: entry for entry in definition["Parameters"]})
    except ValueError as error:
        yield str(error)
        return
    if step["Type"] == "Condition":
        yield from _condition(arguments, set(step["Arguments"]))
    elif step["Type"] == "Fail":
        if set(arguments) != {"ErrorMessage"} or not isinstance(arguments["ErrorMessage"], str):
            yield "a Fail step has one argument, the text ErrorMessage"
    else:
        call, filled_in, _ = CALLS[step["Type"]]
        yield from constraints.request(call, arguments | ({filled_in: "sample"} if filled_in else {}))
        yield from constraints.folders(arguments)


def _condition(arguments: Mapping[str, Any], keys: set[str]) -> Iterator[str]:
    if keys != {"Conditions", "IfSteps", "ElseSteps"} or not arguments["Conditions"]:
        yield "a Condition step has Conditions, IfSteps and ElseSteps"
        return
    yield from expressions.check_conditions(arguments["Conditions"])


def _sampled(value: Any, scope: Mapping[str, Step], parameters: Mapping[str, Any]) -> Any:
    """The value with every expression replaced by a sample of its type. Raises ValueError for a dangling one."""
    if expressions.is_expression(value):
        return _sample(value, scope, parameters)
    if isinstance(value, Mapping):
        return {key: _sampled(item, scope, parameters) for key, item in value.items() if key not in constraints.NESTED}
    return [_sampled(item, scope, parameters) for item in value] if isinstance(value, list) else value


def _sample(expression: Mapping[str, Any], scope: Mapping[str, Step], parameters: Mapping[str, Any]) -> Any:
    if "Std:Join" in expression:
        return _joined(expression["Std:Join"], scope, parameters)
    if "Std:JsonGet" in expression:
        return Number(1)
    kind, _, path = expression["Get"].partition(".")
    if kind == "Parameters" and path in parameters:
        default = parameters[path].get("DefaultValue")
        return SAMPLES[parameters[path]["Type"].lower()] if default is None else default
    if kind == "Execution" and path in EXECUTION:
        return Text("sample")
    if kind == "Steps" and path.split(".")[0] in scope:
        return _result(path, scope)
    raise ValueError(f"{expression['Get']!r} points at nothing")


def _joined(join: Mapping[str, Any], scope: Mapping[str, Step], parameters: Mapping[str, Any]) -> str:
    if set(join) != {"On", "Values"}:
        raise ValueError(f"a Std:Join has On and Values, not {sorted(join)}")
    inner = [_sampled(item, scope, parameters) for item in join["Values"]]
    if not all(isinstance(item, str | int | float) for item in inner):
        raise ValueError("a Std:Join joins single values only")
    known = not any(isinstance(item, Text) for item in inner)
    return str(join["On"]).join(map(str, inner)) if known else Text("sample")


def _result(path: str, scope: Mapping[str, Step]) -> Any:
    """A sample of a step's result, typed by the shape of the call that describes it. Raises ValueError."""
    name, *parts = expressions.parts(path)
    step = scope[str(name)]
    if step["Type"] not in CALLS:
        raise ValueError(f"Steps.{path}: a {step['Type']} step has no such result")
    shape = constraints.shape_at(parts, _output(CALLS[step["Type"]][2]))
    constraints.check_named(step, parts)
    if shape.type_name not in SAMPLES:
        raise ValueError(f"Steps.{path} is a {shape.type_name}, not a single value")
    return SAMPLES[shape.type_name]


@cache
def _output(call: str) -> Any:
    return constraints.service().operation_model(call).output_shape


def main(files: list[str]) -> int:
    """Check files; the exit code says whether all are right."""
    wrong = 0
    for file in files:
        problems = check(json.loads(Path(file).read_text(encoding="utf-8")))
        wrong += bool(problems)
        for problem in problems:
            print(f"{file}: {problem}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
