"""Runs measured one beside the other: fresh processes, calibrated rounds in drawn order, ratios, verdicts.

Standard library only, so that it stays small: Linux lets a child's peak of memory begin with its parent's.
"""

import hashlib
import os
import random
import resource
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Values = dict[str, float]  # wall and cpu in seconds, memory in MiB, and whatever else a subject says of itself
Subject = Callable[[], Values]
Check = Callable[[], str]
MEBIBYTE = 2**20
DRIFT = 0.10  # of the calibration within a round, above which the round does not count
SECONDS = 600.0  # no run may take longer
ADDRESSES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # nor have more bytes: the machine's memory
BLOCK, BLOCKS = bytes(16 * MEBIBYTE), 16


class Failed(Exception):
    """A run that did not end well: what it was, and the end of what it said."""


@dataclass(frozen=True)
class Command:
    """What is started: words, the whole environment, the folder, and the file that gets what it prints."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    folder: Path = Path()
    seconds: float = SECONDS
    memory: float = 0.0  # MiB, above which it is ended; 0 is what the machine has


def run(*commands: Command) -> Values:
    """One after the other: wall and CPU seconds in sum (with all children), the peak memory of the largest process.

    Raises Failed.
    """
    total = {"wall": 0.0, "cpu": 0.0, "memory": 0.0}
    for command in commands:
        command.log.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        process = start_process(command)
        why, status, usage = wait(process, command.seconds, command.memory)
        total["wall"] += time.perf_counter() - start
        total["cpu"] += usage.ru_utime + usage.ru_stime
        total["memory"] = max(total["memory"], usage.ru_maxrss / 1024)
        if status != 0:
            raise Failed(why or said(command, status))
    return total


def start_process(command: Command) -> "subprocess.Popen[bytes]":
    """In a process group of its own, with bounded addresses."""
    with command.log.open("wb") as log:
        process = subprocess.Popen(
            command.words,
            cwd=command.folder,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    resource.prlimit(process.pid, resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    return process


def wait(
    process: "subprocess.Popen[bytes]", seconds: float, memory: float = 0.0
) -> tuple[str, int, resource.struct_rusage]:
    """Why it was ended ("" where it was not), its exit code, and what it and those it waited for have used."""
    reasons, ended = list[str](), threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + seconds
        while not ended.wait(0.1):
            if memory and held(process.pid) > memory:
                reasons.append(f"more than {memory:,.0f} MiB")
            elif time.monotonic() >= deadline:
                reasons.append(f"more than {seconds:.0f} s")
            if reasons:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        ended.set()
        watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    return "".join(reasons), process.returncode, usage


def held(process: int) -> float:
    """MiB that a process has in memory."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]
    except (OSError, IndexError):
        return 0.0
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE


def said(command: Command, status: int) -> str:
    """For a person: what failed, and its last lines."""
    lines = command.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:]
    ended = f"was killed by signal {-status}" if status < 0 else f"gave {status}"
    return "\n  ".join([f"{' '.join(command.words)[:300]} {ended}:", *lines])


def calibrate() -> float:
    """Seconds of a fixed work on every processor: what else runs on the machine makes it longer."""

    def work(_number: int) -> None:
        digest = hashlib.sha256()
        for _ in range(BLOCKS):
            digest.update(BLOCK)

    start, processors = time.perf_counter(), os.cpu_count() or 1
    with ThreadPoolExecutor(processors) as pool:
        list(pool.map(work, range(processors)))
    return time.perf_counter() - start


@dataclass
class Round:
    """Each subject once: the order, what each took, and how far the calibrations between them are apart."""

    order: list[str]
    values: dict[str, Values]
    calibrations: list[float]

    @property
    def drift(self) -> float:
        return max(self.calibrations) / min(self.calibrations) - 1

    @property
    def disturbed(self) -> bool:
        return self.drift > DRIFT


@dataclass(frozen=True)
class Plan:
    """How many undisturbed rounds are wanted, how many may be tried, and which subjects run only in the first ones."""

    rounds: int = 5
    tries: int = 8
    seed: int = 7
    only: Mapping[str, int] = field(default_factory=dict)


def measure(subjects: Mapping[str, Subject], plan: Plan, done: list[Round], keep: Callable[[], None]) -> None:
    """Add rounds to `done`, each kept at once, until enough are undisturbed or all tries are used up."""
    while sum(not each.disturbed for each in done) < plan.rounds and len(done) < plan.tries:
        number = len(done)
        order = [name for name in subjects if number < plan.only.get(name, plan.tries)]
        random.Random(f"{plan.seed} {number}").shuffle(order)  # noqa: S311 - an order, not a secret
        values, calibrations = {}, [calibrate()]
        for name in order:
            values[name] = subjects[name]()
            calibrations.append(calibrate())
        done.append(Round(order, values, calibrations))
        keep()


def counted(done: Sequence[Round], wanted: int) -> list[Round]:
    """The rounds that count: the undisturbed ones, and where those are too few, the least disturbed beside them."""
    calm = [each for each in done if not each.disturbed]
    rest = sorted((each for each in done if each.disturbed), key=lambda each: each.drift)
    return calm + rest[: max(0, wanted - len(calm))]


@dataclass(frozen=True)
class Goal:
    """`what` of one subject against another's (or, without one, as it is) is at most, or at least, a value.

    `quick` is the value on the small tables of the quick run, where starting weighs more; None is not asked there.
    """

    of: str
    to: str
    what: str
    value: float
    at_least: bool = False
    quick: float | None = None

    def text(self, quick: bool = False) -> str:
        """For the table: component / limit, wall ≤ 1.4."""
        value = self.quick if quick and self.quick is not None else self.value
        subject = f"{self.of} / {self.to}" if self.to else self.of
        return f"{subject}, {self.what} {'≥' if self.at_least else '≤'} {value:g}"


@dataclass(frozen=True)
class Row:
    """A row as it is measured: who, what is asked of them, how often, and what was equal, in words."""

    title: str
    subjects: Mapping[str, Subject]
    goals: tuple[Goal, ...]
    check: Check = lambda: ""
    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a number of each round."""

    median: float
    low: float
    high: float
    rounds: int

    def text(self) -> str:
        """Median, and the quartiles behind it."""
        return f"{shown(self.median)} ({shown(self.low)}–{shown(self.high)})" if self.rounds > 1 else shown(self.median)


def shown(number: float) -> str:
    """Three digits that count."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def spread(numbers: Sequence[float]) -> Spread:
    """Of at least one number."""
    several = [*numbers, *(numbers if len(numbers) == 1 else [])]
    low, _, high = statistics.quantiles(several, n=4, method="inclusive")
    return Spread(statistics.median(numbers), low, high, len(numbers))


def ratios(done: Sequence[Round], of: str, to: str, what: str) -> list[float]:
    """One a round in which both were measured; without `to` the values themselves."""
    pairs = [(each.values.get(of, {}), each.values.get(to, {}) if to else {what: 1.0}) for each in done]
    return [one[what] / other[what] for one, other in pairs if what in one and what in other]


def holds(goal: Goal, measured: Spread, quick: bool = False) -> bool | None:
    """Whether the median is on the right side; None where a quick run does not ask."""
    value = goal.quick if quick else goal.value
    if value is None:
        return None
    return measured.median >= value if goal.at_least else measured.median <= value


def as_json(done: Sequence[Round]) -> list[dict[str, Any]]:
    """Rounds as plain data."""
    return [{"order": each.order, "values": each.values, "calibrations": each.calibrations} for each in done]


def from_json(rounds: Sequence[Mapping[str, Any]]) -> list[Round]:
    """Rounds that were kept."""
    return [Round(list(each["order"]), dict(each["values"]), list(each["calibrations"])) for each in rounds]
