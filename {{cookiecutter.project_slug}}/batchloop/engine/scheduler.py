"""Runs a definition's graph: what is ready, two steps at a time, and shows how it goes."""

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import TopologicalSorter
from time import monotonic
from typing import Any

from batchloop.engine.graph import Node
from batchloop.repository import Failure, Stopped

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


@dataclass(frozen=True)
class Outcome:
    """A finished step's properties, in the shape the service describes such a job; whether it had to run."""

    properties: Mapping[str, Any]
    reused: bool = False


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
    """One run of one graph. `work` does a step, `watch` is told of every change."""

    nodes: Mapping[str, Node]
    work: Callable[[Node], Outcome]
    watch: Watch
    steps: dict[str, Progress] = field(default_factory=dict)

    def run(self) -> dict[str, Progress]:
        """Every step's end. Raises KeyboardInterrupt as it comes, with the steps at work left to the caller."""
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
                    running[pool.submit(self.work, self.nodes[name])] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._finish(running[future], future)
                    graph.done(running.pop(future))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return self.steps

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
        self.watch(name, step)


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
