"""The steps of a definition as a graph: what each one needs; which are to run; and how they are run, two at a time."""

import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from graphlib import TopologicalSorter
from pathlib import Path
from time import monotonic
from typing import Any

from batchloop.container.job import InputError
from batchloop.engine.processes import last_line
from batchloop.engine.steps import PipelineExecution, fail, model, processing, register, training, transform
from batchloop.engine.storage import Properties, run_record, write_json
from batchloop.engine.tuning import tuning
from batchloop.pipelines import expressions
from batchloop.pipelines.expressions import ExpressionError, Scope
from batchloop.repository import Stopped, full

MOST = 50  # steps of a selection
PARALLEL = 2
BY_TYPE: Mapping[str, Callable[[str, Mapping[str, Any], PipelineExecution], Properties]] = {
    "Processing": processing,
    "Training": training,
    "Tuning": tuning,
    "Model": model,
    "Transform": transform,
    "RegisterModel": register,
    "Fail": fail,
}


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
    """Every step by name, nested ones too, in the order of a definition that was checked when it was compiled."""
    return {node.name: node for node in _walk(definition["Steps"])}


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
    above, left = set[str](), set(steps)
    while left:
        left = {need for step in left for need in nodes[step].needs} - above
        above |= left
    return above


def needed(nodes: Nodes, steps: Collection[str]) -> set[str]:
    """The steps whose results the selected ones need. Raises InputError for a selection that the service refuses."""
    if not 1 <= len(steps) <= MOST:
        raise InputError(f"a selection has 1 to {MOST} steps, not {len(steps)}.")
    if unknown := sorted(set(steps) - set(nodes)):
        raise InputError(f"there is no step {', '.join(unknown)}; there are {', '.join(nodes)}.")
    before = ancestors(nodes, steps) - set(steps)
    if gaps := sorted(name for name in before if ancestors(nodes, [name]) & set(steps)):
        raise InputError(f"the steps between selected ones have to be selected too: {', '.join(gaps)}.")
    return {need for step in steps for need in nodes[step].needs} - set(steps)


def selected(nodes: Nodes, selection: Selection, pipeline: str, runs: Path) -> tuple[dict[str, Node], dict[str, Any]]:
    """The nodes that are to run, and the results of those that are not, by step. Raises InputError."""
    outside = needed(nodes, selection.steps)
    results = _results(runs, selection.source, pipeline, outside) if outside else {}
    steps = set(selection.steps)
    return {name: replace(its, needs=its.needs & steps) for name, its in nodes.items() if name in steps}, results


def _results(runs: Path, source: str, pipeline: str, steps: Collection[str]) -> dict[str, Any]:
    if not source:
        names = ", ".join(sorted(steps))
        raise InputError(f"the selected steps depend on {names}: name the execution that has run them.")
    if (record := run_record(runs / source / "run.json")) is None:
        raise InputError(f"there is no execution {source} here.")
    if record["pipeline"] != pipeline:
        raise InputError(f"execution {source} is one of {record['pipeline']}, not of {pipeline}.")
    if record["state"] not in ("done", "failed", "stopped"):
        raise InputError(f"execution {source} is {record['state']}; it has to have ended.")
    results = {name: step["properties"] for name, step in record["steps"].items() if name in steps}
    if lacking := sorted(name for name in steps if not results.get(name)):
        raise InputError(f"execution {source} has no results of {', '.join(lacking)}.")
    return results


class StepStatus(StrEnum):
    """How far a step is; the words are what people read."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    REUSED = "unchanged, reused"
    FAILED = "failed"
    NOT_RUN = "not run"
    NOT_TAKEN = "not taken"
    STOPPED = "stopped"


Result = tuple[Properties, StepStatus]
FINISHED = {StepStatus.DONE, StepStatus.REUSED}
STYLES = {
    StepStatus.RUNNING: "bold yellow",
    StepStatus.DONE: "green",
    StepStatus.REUSED: "cyan",
    StepStatus.FAILED: "bold red",
    StepStatus.STOPPED: "yellow",
}


@dataclass
class Progress:
    """One step's status, and what is known of it so far; times in seconds."""

    type: str
    status: StepStatus = StepStatus.WAITING
    started: float = 0.0
    seconds: float = 0.0
    message: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)


Watch = Callable[[str, Progress], None]


@dataclass
class Scheduler:
    """One run of one graph. run.json is written anew with every change, so that a killed run tells how far it came."""

    nodes: Mapping[str, Node]
    execution: PipelineExecution
    scope: Scope
    record: dict[str, Any]
    show: Watch | None = None
    steps: dict[str, Progress] = field(default_factory=dict)

    def run(self, stop: Callable[[], None]) -> None:
        """Bring every step to its end. Raises KeyboardInterrupt once `stop` has ended the steps that were at work."""
        self.steps.update({name: Progress(node.type) for name, node in self.nodes.items()})
        graph = TopologicalSorter({name: node.needs for name, node in self.nodes.items()})
        graph.prepare()
        pool = ThreadPoolExecutor(PARALLEL)
        ready: set[str] = set()
        running: dict[Future[Result], str] = {}
        try:
            while graph.is_active():
                ready |= set(graph.get_ready())
                if skipped := [name for name in self.nodes if name in ready and self._skip(name)]:
                    graph.done(*skipped)
                    ready -= set(skipped)
                    continue
                for name in [name for name in self.nodes if name in ready][: PARALLEL - len(running)]:
                    ready.remove(name)
                    self._change(name, StepStatus.RUNNING)
                    running[pool.submit(self._work, self.nodes[name])] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._finish(running[future], future)
                    graph.done(running.pop(future))
        except KeyboardInterrupt:
            stop()
            for name in [name for name, step in self.steps.items() if step.status == StepStatus.RUNNING]:
                self._change(name, StepStatus.STOPPED)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def save(self, **changes: str) -> None:
        self.record.update(changes)
        write_json(self.execution.folder / "run.json", self.record)

    def _skip(self, name: str) -> bool:
        """Give up a step that can't or needn't run now that all it needs has ended; whether it was given up."""
        node = self.nodes[name]
        ended = {self.steps[need].status for need in node.needs}
        decided = self.steps[node.condition] if node.condition in node.needs else None
        other_side = decided and decided.status in FINISHED and decided.properties["Outcome"] is not node.side
        if other_side or StepStatus.NOT_TAKEN in ended:
            self._change(name, StepStatus.NOT_TAKEN)
        elif not ended <= FINISHED:
            self._change(name, StepStatus.NOT_RUN)
        return self.steps[name].status != StepStatus.WAITING

    def _finish(self, name: str, future: Future[Result]) -> None:
        try:
            self.steps[name].properties, status = future.result()
        except Stopped:
            self._change(name, StepStatus.STOPPED)
        except InputError as failure:
            self._change(name, StepStatus.FAILED, str(failure))
        else:
            self._change(name, status)

    def _change(self, name: str, status: StepStatus, message: str = "") -> None:
        step = self.steps[name]
        step.status, step.message = status, message
        if status == StepStatus.RUNNING:
            step.started = monotonic()
        elif step.started:
            step.seconds = monotonic() - step.started
        self.record["steps"][name] = {
            "state": str(status),
            "seconds": round(step.seconds, 3),
            "message": message,
            "properties": dict(step.properties),
        }
        self.save()
        if self.show:
            self.show(name, step)

    def _work(self, node: Node) -> Result:
        """Run a step, and let later ones refer to its properties."""
        try:
            properties, status = self._perform(node)
        except (InputError, Stopped):
            raise
        except ExpressionError as error:
            raise InputError(str(error)) from None
        except Exception as error:  # the engine's own mistakes go to the log, not over the screen
            if (sentence := full(error)) is not None:
                raise sentence from None
            with self.execution.log(node.name).open("a", encoding="utf-8") as log:
                log.write(traceback.format_exc())
            raise InputError(f"{type(error).__name__}: {error} (unexpected; the log has the traceback)") from None
        outputs = properties.get("ProcessingOutputConfig", {}).get("Outputs", {})
        files = {  # the JSON files that Std:JsonGet may read, by name
            item["PropertyFileName"]: f"{outputs[item['OutputName']]['S3Output']['S3Uri']}/{item['FilePath']}"
            for item in node.step.get("PropertyFiles", [])
        }
        self.scope.steps[node.name] = {**properties, "PropertyFiles": files}
        return properties, status

    def _perform(self, node: Node) -> Result:
        arguments = node.step.get("Arguments", {})
        if node.type == "Condition":
            conditions = arguments.get("Conditions", [])
            held = all(expressions.holds(condition, self.scope) for condition in conditions)
            return {"Outcome": held}, StepStatus.DONE
        arguments, cache = expressions.resolve(arguments, self.scope), self.execution.cache
        if (found := cache.find(node.step, arguments)) is not None:
            return found, StepStatus.REUSED
        properties = BY_TYPE[node.type](node.name, arguments, self.execution)
        cache.keep(node.step, arguments, properties)
        return properties, StepStatus.DONE


@contextmanager
def watching(names: list[str], log: Callable[[str], Path]) -> Iterator[Watch]:
    """Shows the steps as long as the block lasts: a live table in a terminal, else a line for each change."""
    if not sys.stdout.isatty():
        width = max(map(len, names))

        def print_step(name: str, step: Progress) -> None:
            if step.status != StepStatus.NOT_TAKEN:
                timed = step.status in (StepStatus.DONE, StepStatus.FAILED)
                print(f"  {name:<{width}}  {step.status}" + (f" in {step.seconds:.1f} s" if timed else ""), flush=True)

        yield print_step
        return
    from rich.live import Live  # noqa: PLC0415 - costs a tenth of a second, and only terminals need it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    steps = {name: Progress("") for name in names}

    def render() -> Table:
        table = Table("step", "state", box=None, padding=(0, 2))
        table.add_column("seconds", justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis")
        for name, step in steps.items():
            works = step.status == StepStatus.RUNNING
            seconds = monotonic() - step.started if works else step.seconds
            said = Text(last_line(log(name)) if works else "", "dim")
            status = Text(step.status, STYLES.get(step.status, "dim"))
            table.add_row(name, status, f"{seconds:.1f}" if seconds else "", said)
        return table

    with Live(get_renderable=render, refresh_per_second=8):
        yield steps.__setitem__
