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
from batchloop.pipelines.expressions import Node, Scope
from batchloop.repository import Stopped, full

MOST = 50  # steps of a selection
ENDED = ("done", "failed", "stopped")  # states of a run whose steps can stand in for those that are not selected
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


Nodes = Mapping[str, Node]


def nodes(definition: Mapping[str, Any]) -> dict[str, Node]:
    """Every step by name, nested ones too, in the order of a definition that was checked when it was compiled."""
    return {node.name: node for node in expressions.walk(definition["Steps"])}


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
    outside, steps = needed(nodes, selection.steps), set(selection.steps)
    record = run_record(runs / selection.source / "run.json")
    known = record["steps"] if record and record["pipeline"] == pipeline and record["state"] in ENDED else {}
    results = {name: step["properties"] for name, step in known.items() if name in outside and step["properties"]}
    if lacking := ", ".join(sorted(outside - set(results))):
        where = f"no execution {selection.source}".rstrip()
        raise InputError(
            f"the selected steps depend on {lacking}: {where} of {pipeline} has ended here with its results."
        )
    return {name: replace(its, needs=its.needs & steps) for name, its in nodes.items() if name in steps}, results


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


Result = tuple[Properties, StepStatus, str]  # and a message, where it failed
FINISHED = {StepStatus.DONE, StepStatus.REUSED}


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
        ready, running = list[str](), dict[Future[Result], str]()
        try:
            while graph.is_active():
                for name in graph.get_ready():
                    if self._skip(name):
                        graph.done(name)
                    else:
                        ready.append(name)
                while ready and len(running) < PARALLEL:
                    name = ready.pop(0)
                    self._change(name, StepStatus.RUNNING)
                    running[pool.submit(self._work, self.nodes[name])] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    self.steps[name].properties, status, message = future.result()
                    self._change(name, status, message)
                    graph.done(name)
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

    def _change(self, name: str, status: StepStatus, message: str = "") -> None:
        step = self.steps[name]
        step.status, step.message = status, message
        if status == StepStatus.RUNNING:
            step.started = monotonic()
        elif step.started:
            step.seconds = round(monotonic() - step.started, 3)
        about = {"state": status, "seconds": step.seconds, "message": message, "properties": step.properties}
        self.record["steps"][name] = about
        self.save()
        if self.show:
            self.show(name, step)

    def _work(self, node: Node) -> Result:
        """Run a step, and let later ones refer to its properties."""
        try:
            properties, status = self._perform(node)
            outputs = properties.get("ProcessingOutputConfig", {}).get("Outputs", {})
            files = {  # the JSON files that Std:JsonGet may read, by name
                item["PropertyFileName"]: f"{outputs[item['OutputName']]['S3Output']['S3Uri']}/{item['FilePath']}"
                for item in node.step.get("PropertyFiles", [])
            }
        except Stopped:
            return {}, StepStatus.STOPPED, ""
        except InputError as failure:
            return {}, StepStatus.FAILED, str(failure)
        except Exception as error:  # the engine's own mistakes go to the log, not over the screen
            if sentence := full(error):
                return {}, StepStatus.FAILED, str(sentence)
            with self.execution.log(node.name).open("a", encoding="utf-8") as log:
                log.write(traceback.format_exc())
            said = f"{type(error).__name__}: {error} (unexpected; the log has the traceback)"
            return {}, StepStatus.FAILED, said
        self.scope.steps[node.name] = {**properties, "PropertyFiles": files}
        return properties, status, ""

    def _perform(self, node: Node) -> tuple[Properties, StepStatus]:
        if node.type == "Condition":
            conditions = node.arguments.get("Conditions", [])
            held = all(expressions.holds(condition, self.scope) for condition in conditions)
            return {"Outcome": held}, StepStatus.DONE
        arguments, cache = expressions.resolve(node.arguments, self.scope), self.execution.cache
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
    from rich.table import Column, Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    steps = {name: Progress("") for name in names}

    def render() -> Table:
        last = Column(no_wrap=True, overflow="ellipsis")
        table = Table("step", "state", Column("seconds", justify="right"), last, box=None, padding=(0, 2))
        for name, step in steps.items():
            works = step.status == StepStatus.RUNNING
            seconds = monotonic() - step.started if works else step.seconds
            said = Text(last_line(log(name)) if works else "", "dim")
            style = "green" if step.status in FINISHED else "bold red" if step.message else "yellow" if works else "dim"
            table.add_row(name, Text(step.status, style), f"{seconds:.1f}" if seconds else "", said)
        return table

    with Live(get_renderable=render, refresh_per_second=8):
        yield steps.__setitem__
