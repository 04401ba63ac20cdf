"""A server under load: seconds until it answers /ping, rows a second, CPU a million rows, memory of its processes."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path

from bench_measure import MEBIBYTE, Command, Failed, Subject, Values, said, start_process, wait
from bench_places import HERE, Job, Places

AT_ONCE = 2  # requests
TICK = os.sysconf("SC_CLK_TCK")
TYPES = {".parquet": "application/x-parquet", ".csv": "text/csv"}


@dataclass(frozen=True)
class Load:
    """The body that is sent, how many rows it has, and how often it is sent."""

    body: Path
    rows: int
    requests: int


def free_port() -> int:
    """Of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def component(places: Places, job: Job, model: Path, load: Load) -> Subject:
    """Algorithm's own server, with the model in its place."""

    def subject() -> Values:
        command = places.begin(job)
        (command.folder / "model").symlink_to(model)
        port = free_port()
        variables = {"SAGEMAKER_BIND_TO_PORT": str(port), "SERVE_HOST": "127.0.0.1"}
        return loaded(replace(command, environment={**command.environment, **variables}), port, load)

    return subject


def flask(places: Places, model: Path, load: Load) -> Subject:
    """gunicorn with as many workers as requests at once."""
    python = places.peer("usual")

    def subject() -> Values:
        port = free_port()
        command = places.script(python, "bench_peers.py", "application", MODEL=str(model), PYTHONPATH=str(HERE))
        options = ("--workers", str(AT_ONCE), "--bind", f"127.0.0.1:{port}", "--timeout", "300")
        words = (str(python), "-m", "gunicorn", *options, "bench_peers:application()")
        return loaded(replace(command, words=words), port, load)

    return subject


def loaded(command: Command, port: int, load: Load) -> Values:
    """Start it, ask it, end it. The first answer is kept beside the log."""
    start = time.perf_counter()
    process = start_process(command)
    try:
        while not _pings(port):
            if process.poll() is not None or time.perf_counter() - start > 60:
                raise Failed(said(command, process.returncode or 0))
            time.sleep(0.005)
        started = time.perf_counter() - start
        kept = command.log.with_suffix(load.body.suffix)
        kept.write_bytes(_ask(port, load.body))
        used, begun = cpu(process.pid), time.perf_counter()
        with _peak(process.pid) as memory, ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda _: _ask(port, load.body), range(load.requests)))
        seconds, used = time.perf_counter() - begun, cpu(process.pid) - used
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        if process.returncode is None:
            wait(process, 10)
    rows = load.rows * load.requests
    return {"start": started, "rate": rows / seconds, "cpu": used / rows * 1e6, "memory": max(memory), "wall": seconds}


def in_process(places: Places, model: Path, load: Load) -> Subject:
    """Parse and predict without a server, on as many threads."""

    def subject() -> Values:
        command = places.script(places.python, "bench_limits.py", "answer", model, load.body, load.requests)
        start = time.perf_counter()
        process = start_process(command)
        _, status, usage = wait(process, 300)
        if status != 0:
            raise Failed(said(command, status))
        found = json.loads(command.log.read_text(encoding="utf-8").splitlines()[-1])
        return {
            "rate": found["rate"],
            "cpu": found["cpu_a_million"],
            "memory": usage.ru_maxrss / 1024,
            "wall": time.perf_counter() - start,
        }

    return subject


def _pings(port: int) -> bool:
    with suppress(OSError):
        connection = HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    return False


def _ask(port: int, body: Path) -> bytes:
    """The answer to one request. Raises Failed for a refusal."""
    connection, kind = HTTPConnection("127.0.0.1", port, timeout=300), TYPES[body.suffix]
    with body.open("rb") as file:
        headers = {"Content-Type": kind, "Accept": kind, "Content-Length": str(body.stat().st_size)}
        connection.request("POST", "/invocations", file, headers)
        response = connection.getresponse()
        content = response.read()
    connection.close()
    if response.status != 200:
        raise Failed(f"the server answered {response.status}: {content[:500].decode(errors='replace')}")
    return content


def session(leader: int) -> Iterator[Path]:
    """The processes that a leader started, and itself."""
    for place in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if place.name.isdigit() and os.getsid(int(place.name)) == leader:
                yield place


def own(place: Path, children: bool = False) -> float:
    """Seconds that a process has used, with those of the children that it waited for."""
    fields = (place / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if children else 13])) / TICK


def cpu(leader: int, children: bool = False) -> float:
    """Seconds that all of them have used."""
    total = 0.0
    for place in session(leader):
        with suppress(OSError):
            total += own(place, children)
    return total


def _memory(leader: int) -> float:
    """MiB that they hold, what they share counted once."""
    total = 0
    for place in session(leader):
        with suppress(OSError):
            text = (place / "smaps_rollup").read_text(encoding="utf-8")
            total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024 / MEBIBYTE


@contextmanager
def _peak(leader: int) -> Iterator[list[float]]:
    """Filled while inside: the memory, ten times a second."""
    seen, ended = [_memory(leader)], threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            seen.append(_memory(leader))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
