"""The steps of a definition as a graph: what each one needs, and on which side of which condition it stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from operations.failures import Failure
from pipelines import expressions


@dataclass(frozen=True)
class Node:
    """A step; `condition` decides whether it runs: only if the outcome is `side`."""

    name: str
    type: str
    step: Mapping[str, Any]
    needs: frozenset[str]
    condition: str = ""
    side: bool = True


def nodes(definition: Mapping[str, Any]) -> dict[str, Node]:
    """Every step by name, nested ones too, in the definition's order. Raises Failure for a graph that can't run."""
    found: dict[str, Node] = {}
    for node in _walk(definition["Steps"]):
        if node.name in found:
            raise Failure(f"the definition has two steps named {node.name}.")
        found[node.name] = node
    for node in found.values():
        for name in sorted(node.needs - set(found)):
            raise Failure(f"step {node.name} refers to {name}, and there is no such step.")
    try:
        TopologicalSorter({name: node.needs for name, node in found.items()}).prepare()
    except CycleError as error:
        raise Failure(f"the steps {', '.join(sorted(set(error.args[1])))} wait for each other.") from None
    return found


def _walk(steps: list[Mapping[str, Any]], condition: str = "", side: bool = True) -> Iterator[Node]:
    for step in steps:
        arguments = step.get("Arguments", {})
        own = {key: value for key, value in arguments.items() if key not in ("IfSteps", "ElseSteps")}
        needs = expressions.producers(own) | set(step.get("DependsOn", [])) | ({condition} - {""})
        yield Node(step["Name"], step["Type"], step, frozenset(needs), condition, side)
        if step["Type"] == "Condition":
            yield from _walk(arguments.get("IfSteps", []), step["Name"], True)
            yield from _walk(arguments.get("ElseSteps", []), step["Name"], False)
