"""Components as plain processes of this machine, each in a folder that stands for /opt/ml."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from operations.engine import watchdog
from operations.engine.backend import Job, reason
from operations.failures import Failure, Stopped
from operations.repository import Repository

KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "POLARS_MAX_THREADS")
STARTUP_SECONDS = 120.0
GRACE_SECONDS = 10.0
# Its first act is to name itself to the watchdog, whose pipe stands at its standard input: no instant is left in which
# this process could be killed and the new one not be known.
REGISTERED = 'echo "+$$" >&0; exec "$@" </dev/null'


class Processes:
    """Runs jobs with `repository.python()`; `version` gives a component's content hash."""

    def __init__(self, repository: Repository, version: Callable[[str], str]) -> None:
        self.repository, self.version = repository, version
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watchdog: subprocess.Popen[str] | None = None

    def run(self, job: Job) -> None:
        process = self._start(job)
        try:
            code = process.wait()
        finally:
            self._end(process)
        if self._stopping.is_set():
            raise Stopped
        if code != 0:
            raise reason(job, code)

    @contextmanager
    def serving(self, job: Job) -> Iterator[int]:
        port = _free_port()
        own = {"SAGEMAKER_BIND_TO_PORT": str(port), "SERVE_HOST": "127.0.0.1"}
        process = self._start(job, own)
        try:
            self._wait_for_ping(job, process, port)
            yield port
        except Failure:
            if self._stopping.is_set():
                raise Stopped from None
            raise
        finally:
            self._end(process)
        if self._stopping.is_set():
            raise Stopped

    def stop(self) -> None:
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

    def _start(self, job: Job, extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        python = self.repository.python()
        command = [python if word in ("python", "python3") else word for word in job.command[:1]] + [*job.command[1:]]
        with self._lock, job.log.open("ab") as log:
            if self._stopping.is_set():
                raise Stopped
            # a session of its own, so that it can be ended with everything it starts
            process = subprocess.Popen(  # noqa: S603 - what the definition names is what is to run
                ["/bin/sh", "-c", REGISTERED, "sh", *command],
                cwd=job.root,
                env=self._environment(job) | dict(extra or {}),
                stdin=self._watched(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running[process.pid] = process
        return process

    def _environment(self, job: Job) -> dict[str, str]:
        """As little as an image has: nothing of the caller's credentials, proxies or virtual environments."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        given = {key: value for key, value in job.environment.items() if not key.startswith("AWS_")}
        own = {
            "ML_ROOT": str(job.root),
            "USECASE_FILE": str(self.repository.root / "usecase.toml"),
            "CODE_VERSION": self.version(job.component),
            "PYTHONPATH": str(self.repository.root / "components"),
            "PYTHONUNBUFFERED": "1",
        }
        return kept | given | own

    def _end(self, process: subprocess.Popen[bytes]) -> None:
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
            command = [sys.executable, "-S", "-E", str(Path(watchdog.__file__))]
            self._watchdog = subprocess.Popen(  # noqa: S603 - this package's own module
                command, stdin=subprocess.PIPE, text=True, start_new_session=True
            )
        if self._watchdog.stdin is None:
            raise Failure("the watchdog could not be started.")
        return self._watchdog.stdin

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.pop(process.pid, None)
            if self._watchdog is not None:
                with suppress(BrokenPipeError, ValueError):
                    print(f"-{process.pid}", file=self._watchdog.stdin, flush=True)

    def _wait_for_ping(self, job: Job, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            if self._stopping.is_set():
                raise Stopped
            if process.poll() is not None:
                raise reason(job, process.returncode)
            if _answers(port):
                return
            time.sleep(0.03)
        raise Failure(f"the model server did not answer /ping within {STARTUP_SECONDS:.0f} seconds.")


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
