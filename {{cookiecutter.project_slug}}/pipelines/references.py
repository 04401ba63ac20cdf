"""The expressions in a definition: what they point at, and a sample of what they will be."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

EXECUTION = {"PipelineExecutionId", "PipelineExecutionArn", "PipelineName", "PipelineArn", "StartDateTime"}
EXECUTION |= {"CurrentDateTime", "TrainingJobName", "ProcessingJobName"}
PART = re.compile(r"\.?([A-Za-z0-9_-]+)|\['([^']+)'\]|\[(\d+)\]")


class Text(str):
    """A text that is known only when the pipeline runs: no pattern or enum can be checked on it."""


class Whole(int):
    """A whole number that is known only when the pipeline runs."""


class Number(float):
    """A number that is known only when the pipeline runs."""


SAMPLES = {"string": Text("sample"), "integer": Whole(1), "long": Whole(1), "float": Number(1), "double": Number(1)}


def is_expression(value: Any) -> bool:
    """Whether a JSON value stands for another one."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in ("Get", "Std:Join", "Std:JsonGet")


def gets(value: Any) -> Iterator[str]:
    """Every `Get` path in a JSON value, however deep."""
    if isinstance(value, Mapping):
        if is_expression(value) and "Get" in value:
            yield value["Get"]
        else:
            for item in value.values():
                yield from gets(item)
    elif isinstance(value, list):
        for item in value:
            yield from gets(item)


def producers(value: Any) -> set[str]:
    """The names of the steps whose results a JSON value needs."""
    return {path.split(".")[1] for path in gets(value) if path.startswith("Steps.") and path.count(".")}


def parts(path: str) -> list[str | int]:
    """`A.B['k'][0]` as its parts: names are text, positions are numbers. Raises ValueError for anything else."""
    found: list[str | int] = []
    place = 0
    while place < len(path):
        match = PART.match(path, place)
        if not match:
            raise ValueError(f"{path!r} is no path")
        name, key, position = match.groups()
        found.append(int(position) if position is not None else name or key)
        place = match.end()
    return found


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
