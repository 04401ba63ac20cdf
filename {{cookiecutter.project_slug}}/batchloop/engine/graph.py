"""The steps of a definition as a graph: what each one needs, and on which side of which condition it stands."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from batchloop.pipelines import expressions
from batchloop.repository import Failure

MOST = 50


@dataclass(frozen=True)
class Node:
    """A step; `condition` decides whether it runs: only if the outcome is `side`."""

    name: str
    type: str
    step: Mapping[str, Any]
    needs: frozenset[str]
    condition: str = ""
    side: bool = True


Nodes = Mapping[str, Node]


def nodes(definition: Mapping[str, Any]) -> dict[str, Node]:
    """Every step by name, nested ones too, in the definition's order. Raises Failure for a graph that can't run."""
    by_name: dict[str, Node] = {}
    for node in _walk(definition["Steps"]):
        if node.name in by_name:
            raise Failure(f"the definition has two steps named {node.name}.")
        by_name[node.name] = node
    for node in by_name.values():
        for name in sorted(node.needs - set(by_name)):
            raise Failure(f"step {node.name} refers to {name}, and there is no such step.")
    try:
        TopologicalSorter({name: node.needs for name, node in by_name.items()}).prepare()
    except CycleError as error:
        raise Failure(f"the steps {', '.join(sorted(set(error.args[1])))} wait for each other.") from None
    return by_name


def _walk(steps: list[Mapping[str, Any]], condition: str = "", side: bool = True) -> Iterator[Node]:
    for step in steps:
        arguments = step.get("Arguments", {})
        own = {key: value for key, value in arguments.items() if key not in ("IfSteps", "ElseSteps")}
        needs = expressions.producers(own) | set(step.get("DependsOn", [])) | ({condition} - {""})
        yield Node(step["Name"], step["Type"], step, frozenset(needs), condition, side)
        if step["Type"] == "Condition":
            yield from _walk(arguments.get("IfSteps", []), step["Name"], True)
            yield from _walk(arguments.get("ElseSteps", []), step["Name"], False)


@dataclass(frozen=True)
class Selection:
    """`source` is the id of the execution whose outputs stand in for the steps that are not selected, "" for none."""

    steps: tuple[str, ...]
    source: str = ""


def ancestors(nodes: Nodes, steps: Collection[str]) -> set[str]:
    """Every step that steps depend on, directly or not."""
    above, left = set[str](), set(steps)
    while left:
        left = {need for step in left for need in nodes[step].needs} - above
        above |= left
    return above


def needed(nodes: Nodes, steps: Collection[str]) -> set[str]:
    """The steps whose results the selected ones need. Raises Failure for a selection that the service refuses."""
    if not 1 <= len(steps) <= MOST:
        raise Failure(f"a selection has 1 to {MOST} steps, not {len(steps)}.")
    if unknown := sorted(set(steps) - set(nodes)):
        raise Failure(f"there is no step {', '.join(unknown)}; there are {', '.join(nodes)}.")
    before = ancestors(nodes, steps) - set(steps)
    if gaps := sorted(name for name in before if ancestors(nodes, [name]) & set(steps)):
        raise Failure(f"the steps between selected ones have to be selected too: {', '.join(gaps)}.")
    return {need for step in steps for need in nodes[step].needs} - set(steps)


def selected(nodes: Nodes, selection: Selection, pipeline: str, runs: Path) -> tuple[dict[str, Node], dict[str, Any]]:
    """The nodes that are to run, and the results of those that are not, by step. Raises Failure."""
    outside = needed(nodes, selection.steps)
    results = _results(runs, selection.source, pipeline, outside) if outside else {}
    inside = {name: node for name, node in nodes.items() if name in selection.steps}
    return {name: replace(node, needs=node.needs & set(inside)) for name, node in inside.items()}, results


def _results(runs: Path, source: str, pipeline: str, steps: Collection[str]) -> dict[str, Any]:
    if not source:
        raise Failure(f"the selected steps depend on {', '.join(sorted(steps))}: name the execution that has run them.")
    try:
        record = json.loads((runs / source / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Failure(f"there is no execution {source} here.") from None
    if record["pipeline"] != pipeline:
        raise Failure(f"execution {source} is one of {record['pipeline']}, not of {pipeline}.")
    if record["state"] not in ("done", "failed", "stopped"):
        raise Failure(f"execution {source} is {record['state']}; it has to have ended.")
    results = {name: step["properties"] for name, step in record["steps"].items() if name in steps}
    if lacking := sorted(name for name in steps if not results.get(name)):
        raise Failure(f"execution {source} has no results of {', '.join(lacking)}.")
    return results
