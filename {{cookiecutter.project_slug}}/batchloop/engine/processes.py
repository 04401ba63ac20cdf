"""The processes a run has started: each in a session of its own, none of which outlives the run."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from batchloop.engine import storage, watchdog
from batchloop.engine.storage import Container, Job, reason
from batchloop.repository import Failure, Repository, Stopped

Child = subprocess.Popen[bytes]
STARTUP_SECONDS = 120.0
GRACE_SECONDS = 10.0
# Its first act is to name itself to the watchdog, whose pipe stands at its standard input: no instant is left in which
# this process could be killed and the new one not be known.
REGISTERED = 'echo "+$$" >&0; exec "$@" </dev/null'


@dataclass(frozen=True)
class Command:
    """What to start, in which folder and environment; standard output and errors go to `log`."""

    words: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    log: Path


class Children:
    """Starts, awaits and ends them. Methods raise Stopped once `stop` was called.

    `afterwards` is a command that clears away what outlives the processes of a run that was killed.
    """

    def __init__(self, afterwards: Sequence[str] = ()) -> None:
        self.afterwards = afterwards
        self._running: dict[int, Child] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watchdog: subprocess.Popen[str] | None = None

    def start(self, command: Command) -> Child:
        """Start a process that can be ended with everything it starts in turn."""
        with self._lock, command.log.open("ab") as log:
            self.check()
            process = subprocess.Popen(  # noqa: S603 - what the definition names is what is to run
                ["/bin/sh", "-c", REGISTERED, "sh", *command.words],
                cwd=command.folder,
                env=dict(command.environment),
                stdin=self._watched(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running[process.pid] = process
        return process

    def finish(self, process: Child, job: Job) -> None:
        """Wait for its end. Raises Failure with the job's own reason."""
        try:
            code = process.wait()
        finally:
            self.end(process)
        self.check()
        if code != 0:
            raise reason(job, code)

    def wait_for_ping(self, process: Child, job: Job, port: Callable[[], int | None]) -> int:
        """The port at which a model server has begun to answer. Raises Failure where it ends, or takes too long."""
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            self.check()
            if process.poll() is not None:
                raise reason(job, process.returncode)
            if (known := port()) is not None and _answers(known):
                return known
            time.sleep(0.03)
        raise Failure(f"the model server did not answer /ping within {STARTUP_SECONDS:.0f} seconds.")

    def check(self) -> None:
        """Raise Stopped where the run is being ended."""
        if self._stopping.is_set():
            raise Stopped

    def stop(self) -> None:
        """End everything that runs, and refuse to start more."""
        self._stopping.set()
        with self._lock:
            running = list(self._running.values())
        for process in running:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _signal(process, signal.SIGKILL)
            self._forget(process)
        self.close()

    def close(self) -> None:
        """Let the watchdog go."""
        if self._watchdog and self._watchdog.stdin:
            self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None

    def end(self, process: Child) -> None:
        """Ask it to end, then make it."""
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        _signal(process, signal.SIGKILL)  # what it may have started and left
        process.wait()
        self._forget(process)

    def _watched(self) -> IO[str]:
        """The watchdog's standard input."""
        if self._watchdog is None:
            command = [sys.executable, "-S", "-E", str(Path(watchdog.__file__)), *self.afterwards]
            self._watchdog = subprocess.Popen(  # noqa: S603 - this package's own module
                command, stdin=subprocess.PIPE, text=True, start_new_session=True
            )
        if self._watchdog.stdin is None:
            raise Failure("the watchdog could not be started.")
        return self._watchdog.stdin

    def _forget(self, process: Child) -> None:
        with self._lock:
            self._running.pop(process.pid, None)
            if self._watchdog is not None:
                with suppress(BrokenPipeError, ValueError):
                    print(f"-{process.pid}", file=self._watchdog.stdin, flush=True)


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _signal(process: Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "POLARS_MAX_THREADS")


class Processes:
    """Runs jobs with `repository.python()`; `version` gives a component's content hash."""

    def __init__(self, repository: Repository, version: Callable[[str], str]) -> None:
        self.repository, self.version = repository, version
        self.children = Children()

    def run(self, job: Job) -> None:
        self.children.finish(self._start(job, {}), job)

    @contextmanager
    def serving(self, job: Job) -> Iterator[int]:
        port = _free_port()
        process = self._start(job, {"SAGEMAKER_BIND_TO_PORT": str(port), "SERVE_HOST": "127.0.0.1"})
        try:
            yield self.children.wait_for_ping(process, job, lambda: port)
        finally:
            self.children.end(process)
            self.children.check()

    def code(self, image: str) -> list[str]:
        component = Container(image).component
        return [component, self.version(component)]

    def stop(self) -> None:
        self.children.stop()

    def close(self) -> None:
        self.children.close()

    def _start(self, job: Job, extra: Mapping[str, str]) -> Child:
        for mount in job.mounts:
            target = storage.inside(job.root, mount.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(mount.source)
        python = self.repository.python()
        container = job.container
        first, *rest = container.entrypoint or ("python", "-m", "batchloop.container", container.component)
        words = [python if first in ("python", "python3") else first, *rest, *container.arguments]
        return self.children.start(Command(words, job.root, self._environment(job) | dict(extra), job.log))

    def _environment(self, job: Job) -> dict[str, str]:
        """As little as an image has: nothing of the caller's credentials, proxies or virtual environments."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        given = {key: value for key, value in job.container.environment.items() if not key.startswith("AWS_")}
        own = {
            "ML_ROOT": str(job.root),
            "USECASE_FILE": str(self.repository.root / "usecase.toml"),
            "CODE_VERSION": self.version(job.container.component),
            "PYTHONPATH": str(self.repository.root),
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait leave the processors to the steps beside them
        }
        return kept | given | own


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
