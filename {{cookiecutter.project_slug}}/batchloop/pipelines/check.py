"""What one step must keep: the request's shape in botocore, and this project's own rules for names and folders."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from batchloop.pipelines import expressions

NESTED = ("IfSteps", "ElseSteps")  # steps inside a step are checked by themselves
EXCEPTIONS = {"Step.SERVICE_FAULT", "Step.THROTTLING"}
JOB_EXCEPTIONS = {"SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR", "SageMaker.RESOURCE_LIMIT"}
JOBS = ("Processing", "Training", "Transform")
DURATION = re.compile(r"P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?)?", re.IGNORECASE)


class Text(str):
    """A text that is known only when the pipeline runs: no pattern or enum can be checked on it."""


class Whole(int):
    """A whole number that is known only when the pipeline runs."""


class Number(float):
    """A number that is known only when the pipeline runs."""


SAMPLES = {"string": Text("sample"), "integer": Whole(1), "long": Whole(1), "float": Number(1), "double": Number(1)}


@cache
def service() -> Any:
    """SageMaker's API as botocore knows it; read from the package, without network or credentials."""
    return botocore.session.Session().get_service_model("sagemaker")


def request(call: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the arguments of an API call."""
    shape = service().operation_model(call).input_shape
    report = ParamValidator().validate(arguments, shape)
    if report.has_errors():
        yield " ".join(report.generate_report().split())
    yield from _limits(arguments, shape, "")


def _limits(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Enums, patterns, lengths and ranges, which ParamValidator leaves out."""
    for item, inner, place in _inside(value, shape, path):
        yield from _limits(item, inner, place)
    if not isinstance(value, Text | Whole | Number | bool):
        yield from _scalar(value, shape.metadata, path.lstrip("."))


def _inside(value: Any, shape: Any, path: str) -> Iterator[tuple[Any, Any, str]]:
    """The parts of a value, each with its shape and place."""
    if shape.type_name == "structure" and isinstance(value, Mapping):
        yield from ((value[key], shape.members[key], f"{path}.{key}") for key in value if key in shape.members)
    elif shape.type_name == "map" and isinstance(value, Mapping):
        yield from ((key, shape.key, f"{path}.{key} (its name)") for key in value)
        yield from ((item, shape.value, f"{path}.{key}") for key, item in value.items())
    elif shape.type_name == "list" and isinstance(value, list):
        yield from ((item, shape.member, f"{path}[{place}]") for place, item in enumerate(value))


def _scalar(value: Any, metadata: Mapping[str, Any], path: str) -> Iterator[str]:
    size = value if isinstance(value, int | float) else len(value) if hasattr(value, "__len__") else None
    if size is not None and "min" in metadata and size < metadata["min"]:
        yield f"{path} = {value!r} is below the minimum of {metadata['min']}"
    if size is not None and "max" in metadata and size > metadata["max"]:
        yield f"{path} has more than the maximum of {metadata['max']}"
    if isinstance(value, str):
        if metadata.get("enum") and value not in metadata["enum"]:
            yield f"{path} = {value!r} is none of the values the API knows"
        if metadata.get("pattern") and not _matches(metadata["pattern"], value):
            yield f"{path} = {value!r} does not match {metadata['pattern']}"


def _matches(pattern: str, value: str) -> bool:
    """The model's patterns are Java's; Python has no \\p classes, and such a pattern is left to the service."""
    return "\\p{" in pattern or re.fullmatch(pattern, value) is not None


def folders(arguments: Mapping[str, Any]) -> Iterator[str]:
    """An input or output is called like its folder in the container: components find their files by that name."""
    places = [(entry.get("InputName"), entry.get("S3Input", {})) for entry in arguments.get("ProcessingInputs", [])]
    outputs = arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
    places += [(entry.get("OutputName"), entry.get("S3Output", {})) for entry in outputs]
    for name, place in places:
        if str(place.get("LocalPath", "")).rpartition("/")[2] != name:
            yield f"{name!r} lies in {place.get('LocalPath')!r}: the folder must have the same name"


def check_named(step: Mapping[str, Any], parts: list[str | int]) -> None:
    """Raises ValueError where a path names an output or metric that the step does not have."""
    arguments = step["Arguments"]
    if parts[:2] == ["ProcessingOutputConfig", "Outputs"]:
        outputs = arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
        known = [str(output.get("OutputName")) for output in outputs]
    elif parts[:1] == ["FinalMetricDataList"]:
        metrics = arguments.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
        known = [str(metric.get("Name")) for metric in metrics]
    else:
        return
    name = next((part for part in parts[1:] if part not in ("Outputs",)), "")
    if name not in known:
        raise ValueError(f"{step['Name']} has no {name!r}; it has {', '.join(known)}")


def policies(step: Mapping[str, Any], name: str) -> Iterator[str]:
    """What is wrong with retries and caching."""
    for policy in step.get("RetryPolicies", []):
        known = {"BackoffRate", "IntervalSeconds", "MaxAttempts", "ExpireAfterMin", "ExceptionType"}
        for key in sorted(set(policy) - known):
            yield f"{name}: a retry policy has an unknown key {key!r}"
        allowed = EXCEPTIONS | (
            JOB_EXCEPTIONS if step.get("Type") in ("Processing", "Training", "Transform") else set()
        )
        for kind in policy.get("ExceptionType", ["nothing"]):
            if kind not in allowed:
                yield f"{name}: a {step.get('Type')} step can't retry on {kind}"
        if ("MaxAttempts" in policy) == ("ExpireAfterMin" in policy):
            yield f"{name}: a retry policy has either MaxAttempts or ExpireAfterMin"
    caching = step.get("CacheConfig")
    if caching is not None and not (
        set(caching) == {"Enabled", "ExpireAfter"}
        and isinstance(caching["Enabled"], bool)
        and DURATION.fullmatch(str(caching["ExpireAfter"]))
    ):
        yield f"{name}: CacheConfig needs Enabled and an ISO 8601 duration in ExpireAfter"


def shape_at(path: list[str | int], shape: Any) -> Any:
    """The shape that a path leads to, below a botocore shape. Raises ValueError where it leads nowhere."""
    for part in path:
        if shape.type_name == "structure" and part in shape.members:
            shape = shape.members[part]
        elif shape.type_name == "list":
            shape = shape.member
        elif shape.type_name == "map" and isinstance(part, str):
            shape = shape.value
        else:
            raise ValueError(f"{part!r} is not in {shape.name}")
    return shape


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
        yield from policies(step, name)
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
        yield from request(call, arguments | ({filled_in: "sample"} if filled_in else {}))
        yield from folders(arguments)


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
        return {key: _sampled(item, scope, parameters) for key, item in value.items() if key not in NESTED}
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
    shape = shape_at(parts, _output(CALLS[step["Type"]][2]))
    check_named(step, parts)
    if shape.type_name not in SAMPLES:
        raise ValueError(f"Steps.{path} is a {shape.type_name}, not a single value")
    return SAMPLES[shape.type_name]


@cache
def _output(call: str) -> Any:
    return service().operation_model(call).output_shape


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
