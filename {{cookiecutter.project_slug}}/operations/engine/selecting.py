"""Selective execution: some steps of a pipeline run again, with what another execution's steps left for them.

The rules are the service's: "Selective execution of pipeline steps" in the SageMaker developer guide, and
SelectiveExecutionConfig in its API reference. Steps that are not selected do not run, also where they come later; what
the selected ones need of them is taken from an execution of the same pipeline that has ended.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from operations.engine.graph import Node
from operations.failures import Failure

MOST = 50
Nodes = Mapping[str, Node]


@dataclass(frozen=True)
class Selection:
    """`source` is the id of the execution whose outputs stand in for the steps that are not selected, "" for none."""

    steps: tuple[str, ...]
    source: str = ""


def needed(nodes: Nodes, steps: Collection[str]) -> set[str]:
    """The steps whose results the selected ones need. Raises Failure for a selection that the service refuses."""
    if not 1 <= len(steps) <= MOST:
        raise Failure(f"a selection has 1 to {MOST} steps, not {len(steps)}.")
    if unknown := sorted(set(steps) - set(nodes)):
        raise Failure(f"there is no step {', '.join(unknown)}; there are {', '.join(nodes)}.")
    between = {name for name in nodes if name not in steps and _above(nodes, name) & set(steps)}
    if gaps := sorted(name for name in between if any(name in _above(nodes, step) for step in steps)):
        raise Failure(f"the steps between selected ones have to be selected too: {', '.join(gaps)}.")
    return {need for step in steps for need in nodes[step].needs} - set(steps)


def _above(nodes: Nodes, name: str) -> set[str]:
    """Every step that a step depends on."""
    found, left = set[str](), set(nodes[name].needs)
    while left:
        found |= left
        left = {need for step in left for need in nodes[step].needs} - found
    return found


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
    found = {name: step["properties"] for name, step in record["steps"].items() if name in steps and step["properties"]}
    if lacking := sorted(set(steps) - set(found)):
        raise Failure(f"execution {source} has no results of {', '.join(lacking)}.")
    return found
