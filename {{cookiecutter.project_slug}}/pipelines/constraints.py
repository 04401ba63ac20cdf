"""What one step must keep: the request's shape in botocore, and this project's own rules for names and folders."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

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
