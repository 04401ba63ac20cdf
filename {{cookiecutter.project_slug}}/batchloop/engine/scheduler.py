"""Runs a definition's graph: what is ready, two steps at a time, and shows how it goes."""

import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import TopologicalSorter
from time import monotonic
from typing import Any

from batchloop.engine.graph import Node
from batchloop.engine.steps import BY_TYPE, PipelineExecution
from batchloop.engine.storage import Outcome, write_json
from batchloop.pipelines import expressions
from batchloop.pipelines.expressions import ExpressionError, Scope
from batchloop.repository import Failure, Stopped, full

PARALLEL = 2


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
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Bring every step to its end. Raises KeyboardInterrupt as it comes, and leaves the steps at work to stop."""
        self.steps.update({name: Progress(node.type) for name, node in self.nodes.items()})
        graph = TopologicalSorter({name: node.needs for name, node in self.nodes.items()})
        graph.prepare()
        pool = ThreadPoolExecutor(PARALLEL)
        ready: set[str] = set()
        running: dict[Future[Outcome], str] = {}
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
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def save(self, **changes: str) -> None:
        """Write the record."""
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

    def _finish(self, name: str, future: Future[Outcome]) -> None:
        try:
            outcome = future.result()
        except Stopped:
            self._change(name, StepStatus.STOPPED)
        except Failure as failure:
            self._change(name, StepStatus.FAILED, str(failure))
        else:
            self.steps[name].properties = outcome.properties
            self._change(name, StepStatus.REUSED if outcome.reused else StepStatus.DONE)

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

    def _work(self, node: Node) -> Outcome:
        """Run a step, and let later ones refer to its properties."""
        try:
            outcome = self._perform(node)
        except (Failure, Stopped):
            raise
        except ExpressionError as error:
            raise Failure(str(error)) from None
        except Exception as error:  # the engine's own mistakes go to the log, not over the screen
            if (sentence := full(error)) is not None:
                raise sentence from None
            with self.execution.log(node.name).open("a", encoding="utf-8") as log:
                log.write(traceback.format_exc())
            raise Failure(f"{type(error).__name__}: {error} (unexpected; the log has the traceback)") from None
        outputs = outcome.properties.get("ProcessingOutputConfig", {}).get("Outputs", {})
        files = {  # the JSON files that Std:JsonGet may read, by name
            item["PropertyFileName"]: f"{outputs[item['OutputName']]['S3Output']['S3Uri']}/{item['FilePath']}"
            for item in node.step.get("PropertyFiles", [])
        }
        with self.lock:
            self.scope.steps[node.name] = {**outcome.properties, "PropertyFiles": files}
        return outcome

    def _perform(self, node: Node) -> Outcome:
        arguments = node.step.get("Arguments", {})
        if node.type == "Condition":
            conditions = arguments.get("Conditions", [])
            return Outcome({"Outcome": all(expressions.holds(condition, self.scope) for condition in conditions)})
        if node.type not in BY_TYPE:
            raise Failure(f"steps of type {node.type} can't be run here.")
        return BY_TYPE[node.type](node.name, expressions.resolve(arguments, self.scope), self.execution)


@contextmanager
def watching(names: list[str]) -> Iterator[Watch]:
    """Shows the steps as long as the block lasts: a live table in a terminal, else a line for each change."""
    if not sys.stdout.isatty():
        yield _printer(max(map(len, names)))
        return
    from rich.live import Live  # noqa: PLC0415 - costs a tenth of a second, and only terminals need it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    steps = {name: Progress("") for name in names}

    def render() -> Table:
        table = Table("step", "state", box=None, padding=(0, 2))
        table.add_column("seconds", justify="right")
        for name, step in steps.items():
            seconds = monotonic() - step.started if step.status == StepStatus.RUNNING else step.seconds
            status = Text(step.status, STYLES.get(step.status, "dim"))
            table.add_row(name, status, f"{seconds:.1f}" if seconds else "")
        return table

    with Live(get_renderable=render, refresh_per_second=8):
        yield steps.__setitem__


def _printer(width: int) -> Watch:
    def watch(name: str, step: Progress) -> None:
        if step.status != StepStatus.NOT_TAKEN:
            timed = step.status in (StepStatus.DONE, StepStatus.FAILED)
            print(f"  {name:<{width}}  {step.status}" + (f" in {step.seconds:.1f} s" if timed else ""), flush=True)

    return watch
