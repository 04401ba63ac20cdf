"""Runs a definition's graph: what is ready, two steps at a time, until nothing can be run any more."""

import json
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from batchloop.engine.cache import Execution, Outcome, now
from batchloop.engine.graph import Node
from batchloop.engine.steps import BY_TYPE
from batchloop.engine.storage import write_json
from batchloop.pipelines import expressions
from batchloop.pipelines.expressions import ExpressionError, Scope
from batchloop.repository import Failure, Stopped, full

if TYPE_CHECKING:
    from rich.table import Table


PARALLEL = 2


class State(StrEnum):
    """Where a step is; the words are what people read."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    REUSED = "unchanged, reused"
    FAILED = "failed"
    NOT_RUN = "not run"
    NOT_TAKEN = "not taken"
    STOPPED = "stopped"


FINISHED = frozenset((State.DONE, State.REUSED))
ENDED = frozenset(set(State) - {State.WAITING, State.RUNNING})


@dataclass
class Progress:
    """One step's state, and what is known of it so far; times in seconds."""

    type: str
    state: State = State.WAITING
    started: float = 0.0
    seconds: float = 0.0
    message: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)


class Watch(Protocol):
    """Is told about every change."""

    def __call__(self, name: str, progress: Progress) -> None: ...


@dataclass
class Scheduler:
    """One run of one graph. `work` does a step; tests and backends put their own behind it."""

    nodes: Mapping[str, Node]
    work: Callable[[Node], Outcome]
    watch: Watch
    steps: dict[str, Progress] = field(default_factory=dict)

    def run(self) -> dict[str, Progress]:
        """Every step's end. Raises KeyboardInterrupt as it comes, with the steps at work left to the caller."""
        self.steps.update({name: Progress(node.type) for name, node in self.nodes.items()})
        pool = ThreadPoolExecutor(PARALLEL)
        running: dict[Future[Outcome], str] = {}
        try:
            while self._start(pool, running):
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._finish(running.pop(future), future)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return self.steps

    def _start(self, pool: ThreadPoolExecutor, running: dict[Future[Outcome], str]) -> bool:
        """Start what is ready; whether anything is at work."""
        while self._settle():
            pass
        for name in self._ready()[: PARALLEL - len(running)]:
            self._change(name, State.RUNNING)
            running[pool.submit(self.work, self.nodes[name])] = name
        return bool(running)

    def _ready(self) -> list[str]:
        waiting = [name for name, step in self.steps.items() if step.state == State.WAITING]
        return [name for name in waiting if all(self.steps[need].state in FINISHED for need in self.nodes[name].needs)]

    def _settle(self) -> bool:
        """Give up steps that can't be run any more; whether there was one."""
        for name, step in self.steps.items():
            if step.state == State.WAITING and (state := self._given_up(self.nodes[name])):
                self._change(name, state)
                return True
        return False

    def _given_up(self, node: Node) -> State | None:
        needed = [self.steps[name].state for name in node.needs]
        decided = node.condition and self.steps[node.condition].state in FINISHED
        if decided and self.steps[node.condition].properties["Outcome"] is not node.side:
            return State.NOT_TAKEN
        if State.NOT_TAKEN in needed:
            return State.NOT_TAKEN
        return State.NOT_RUN if any(state in ENDED - FINISHED for state in needed) else None

    def _finish(self, name: str, future: Future[Outcome]) -> None:
        try:
            outcome = future.result()
        except Stopped:
            self._change(name, State.STOPPED)
        except Failure as failure:
            self._change(name, State.FAILED, str(failure))
        else:
            self.steps[name].properties = outcome.properties
            self._change(name, State.REUSED if outcome.reused else State.DONE)

    def _change(self, name: str, state: State, message: str = "") -> None:
        step = self.steps[name]
        step.state, step.message = state, message
        if state == State.RUNNING:
            step.started = monotonic()
        elif step.started:
            step.seconds = monotonic() - step.started
        self.watch(name, step)


def worker(run: Execution, scope: Scope) -> Callable[[Node], Outcome]:
    """What does a step: resolve its arguments, run it, and let later steps refer to its properties."""
    lock = threading.Lock()

    def work(node: Node) -> Outcome:
        try:
            outcome = _perform(node, run, scope)
        except (Failure, Stopped):
            raise
        except ExpressionError as error:
            raise Failure(str(error)) from None
        except Exception as error:  # the engine's own mistakes go to the log, not over the screen
            if (sentence := full(error)) is not None:
                raise sentence from None
            run.log(node.name).parent.mkdir(parents=True, exist_ok=True)
            with run.log(node.name).open("a", encoding="utf-8") as log:
                log.write(traceback.format_exc())
            raise Failure(f"{type(error).__name__}: {error} (unexpected; the log has the traceback)") from None
        with lock:
            scope.steps[node.name] = dict(outcome.properties) | {"PropertyFiles": property_files(node, outcome)}
        return outcome

    return work


def _perform(node: Node, run: Execution, scope: Scope) -> Outcome:
    arguments = node.step.get("Arguments", {})
    if node.type == "Condition":
        conditions = arguments.get("Conditions", [])
        return Outcome({"Outcome": all(expressions.holds(condition, scope) for condition in conditions)})
    if node.type not in BY_TYPE:
        raise Failure(f"steps of type {node.type} can't be run here.")
    return BY_TYPE[node.type](node.name, expressions.resolve(arguments, scope), run)


def property_files(node: Node, outcome: Outcome) -> dict[str, str]:
    """Where the JSON files lie that Std:JsonGet may read, by name."""
    outputs = outcome.properties.get("ProcessingOutputConfig", {}).get("Outputs", {})
    return {
        item["PropertyFileName"]: f"{outputs[item['OutputName']]['S3Output']['S3Uri']}/{item['FilePath']}"
        for item in node.step.get("PropertyFiles", [])
    }


STYLES: Mapping[State, str] = {
    State.WAITING: "dim",
    State.RUNNING: "bold yellow",
    State.DONE: "green",
    State.REUSED: "cyan",
    State.FAILED: "bold red",
    State.NOT_RUN: "dim",
    State.NOT_TAKEN: "dim",
    State.STOPPED: "yellow",
}
QUIET = (State.WAITING, State.NOT_TAKEN)


@contextmanager
def watching(names: list[str]) -> Iterator[Watch]:
    """Shows the steps as long as the block lasts; call what it gives with every change."""
    if sys.stdout.isatty():
        with _live(names) as watch:
            yield watch
    else:
        yield _lines(max(map(len, names)))


def _lines(width: int) -> Watch:
    def watch(name: str, progress: Progress) -> None:
        if progress.state not in QUIET:
            took = f" in {progress.seconds:.1f} s" if progress.state in (State.DONE, State.FAILED) else ""
            print(f"  {name:<{width}}  {progress.state}{took}", flush=True)

    return watch


@contextmanager
def _live(names: list[str]) -> Iterator[Watch]:
    from rich.live import Live  # noqa: PLC0415 - costs a tenth of a second, and only terminals need it

    steps = {name: Progress("") for name in names}

    def watch(name: str, progress: Progress) -> None:
        steps[name] = progress

    with Live(get_renderable=lambda: _table(steps), refresh_per_second=8):
        yield watch


def _table(steps: Mapping[str, Progress]) -> "Table":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("step", "state", box=None, padding=(0, 2))
    table.add_column("seconds", justify="right")
    for name, step in steps.items():
        seconds = monotonic() - step.started if step.state == State.RUNNING else step.seconds
        table.add_row(name, Text(step.state, STYLES[step.state]), f"{seconds:.1f}" if seconds else "")
    return table


class Record:
    """Written anew with every change, so that a killed run tells how far it came."""

    def __init__(self, file: Path, identity: str, pipeline: str, parameters: Mapping[str, Any]) -> None:
        self.file = file
        self.value: dict[str, Any] = {
            "execution": identity,
            "pipeline": pipeline,
            "state": "running",
            "started": now(),
            "parameters": dict(parameters),
            "steps": {},
        }
        write_json(self.file, self.value)

    def change(self, name: str, progress: Progress) -> None:
        """A step's new state."""
        self.value["steps"][name] = {
            "state": str(progress.state),
            "seconds": round(progress.seconds, 3),
            "message": progress.message,
            "properties": dict(progress.properties),
        }
        write_json(self.file, self.value)

    def end(self, state: str) -> None:
        """How it all ended: done, failed or stopped."""
        for step in self.value["steps"].values():
            if step["state"] == State.RUNNING:
                step["state"] = str(State.STOPPED)
        self.value |= {"state": state, "ended": now()}
        write_json(self.file, self.value)


def close_interrupted(runs: Path) -> None:
    """Mark runs that were killed, and remove their half-done job folders; finished steps lie in the storage."""
    for file in runs.glob("*/run.json"):
        value = json.loads(file.read_text(encoding="utf-8"))
        if value["state"] != "running":
            continue
        for folder in file.parent.iterdir():
            if folder.is_dir() and folder.name != "logs":
                shutil.rmtree(folder, ignore_errors=True)
        value["state"] = "interrupted"
        write_json(file, value)
