"""Runs a definition's graph: what is ready, two steps at a time, until nothing can be run any more."""

import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import Any, Protocol

from operations.engine.execution import Execution, Outcome
from operations.engine.graph import Node
from operations.engine.steps import BY_TYPE
from operations.failures import Failure, Stopped, full
from pipelines import expressions
from pipelines.expressions import ExpressionError, Scope

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
