"""Jobs, and what runs them as processes, none of which outlives the run."""

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException
from os import SEEK_END
from pathlib import Path, PurePosixPath

from batchloop import repository as batchloop_repository
from batchloop.container.job import InputError
from batchloop.engine.storage import Mount
from batchloop.repository import Repository, Stopped

Process = subprocess.Popen[bytes]
Port = Callable[[], int | None]
STARTUP_SECONDS = 120.0
GRACE_SECONDS = 10.0
ASKED_SECONDS = 0.1
# waits until the run's end of its standard input is closed: by the kernel, where the run was killed
WATCHDOG = 'trap "" TERM; cat >/dev/null; kill -TERM 0; sleep 2; "$@"; kill -KILL 0'
KEPT: tuple[str, ...] = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
KEPT += ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "MEMORY_LIMIT_MB")


@dataclass(frozen=True)
class Container:
    """What a definition says is to run; an empty `entrypoint` is the image's own."""

    image: str
    arguments: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    instance: str = ""


@dataclass(frozen=True)
class Job:
    """One container at work for one step; `root` is its /opt/ml, `log` gets what it prints."""

    container: Container
    root: Path
    log: Path
    mounts: tuple[Mount, ...] = ()

    def inside(self, path: str) -> Path:
        """A path of the container in the folder that stands for /opt/ml. Raises InputError for one outside."""
        parts = PurePosixPath(path).parts
        if parts[:3] != ("/", "opt", "ml") or ".." in parts:
            raise InputError(f"{path} is not below /opt/ml, so it can't be used here.")
        return self.root.joinpath(*parts[3:])

    def failure(self, code: int) -> InputError:
        """Why it failed: what the component wrote for the service, or the last line of its log."""
        for name in ("message", "failure"):
            file = self.root / "output" / name
            if file.is_file() and (message := file.read_text(encoding="utf-8", errors="replace").strip()):
                return InputError(message)
        number = code - 128 if code > 128 else -code  # a container's, or a process's
        if number in range(1, signal.NSIG):
            return InputError(f"ended by signal {number}" + (" (was there enough memory?)" if number == 9 else ""))
        last = last_line(self.log).strip()
        return InputError(f"exit code {code}" + (f": {last}" if last else ""))


def last_line(file: Path) -> str:
    """What a file says last; "" where there is nothing."""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, SEEK_END) - 10_000))
            lines = handle.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


class Backend:
    """Starts, awaits and ends jobs. Methods raise InputError in the component's words, and Stopped after `stop`.

    All of them are in one process group, with a watchdog that ends the group when the run itself is killed and could
    not; `afterwards` is a command that then clears away what outlives these processes.
    """

    def __init__(self, afterwards: Sequence[str] = ()) -> None:
        self._afterwards = afterwards
        self._started: list[Process] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watchdog: Process | None = None

    def launch(self, job: Job, serve: bool) -> tuple[Process, Port]:
        """Start a job's container or process; the port of a server, which may not be known at once."""
        raise NotImplementedError

    def run(self, job: Job, hopeless: Callable[[], bool] | None = None) -> None:
        """Run a processing or training job to its end, or until it is `hopeless`, which is asked now and then."""
        process, _ = self.launch(job, serve=False)
        try:
            while hopeless and process.poll() is None:
                if hopeless():
                    _end(process)
                    return
                with suppress(subprocess.TimeoutExpired):
                    process.wait(ASKED_SECONDS)
            code = process.wait()
        finally:
            self._check()
        if code != 0:
            raise job.failure(code)

    @contextmanager
    def serving(self, job: Job) -> Iterator[int]:
        """A running model server that answered /ping: its port on loopback; it is ended afterwards."""
        process, port = self.launch(job, serve=True)
        try:
            yield self._wait_for_ping(process, job, port)
        finally:
            _end(process)
            self._check()

    def stop(self) -> None:
        """End everything that was started, and refuse to start more."""
        self._stopping.set()
        with self._lock:
            self._signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for process in self._started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self.close()

    def close(self) -> None:
        """End the watchdog, and what jobs may have started and left."""
        if self._watchdog is not None:
            self._signal(signal.SIGKILL)
            self._watchdog.wait()
            self._watchdog = None

    def start(self, words: Sequence[str], job: Job, environment: Mapping[str, str]) -> Process:
        """Start a process whose output goes to the job's log."""
        with self._lock, job.log.open("ab") as log:
            self._check()
            if self._watchdog is None:
                command = ["/bin/sh", "-c", WATCHDOG, "sh", *self._afterwards]
                self._watchdog = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)  # noqa: S603 - ours
            process = subprocess.Popen(  # noqa: S603 - what the definition names is what is to run
                words,
                cwd=job.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=self._watchdog.pid,
            )
            self._started.append(process)
        return process

    def _wait_for_ping(self, process: Process, job: Job, port: Port) -> int:
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            self._check()
            if process.poll() is not None:
                raise job.failure(process.returncode)
            if (known := port()) is not None and request(known, "/ping", 2) is not None:
                return known
            time.sleep(0.03)
        raise InputError(f"the model server did not answer /ping within {STARTUP_SECONDS:.0f} seconds.")

    def _check(self) -> None:
        if self._stopping.is_set():
            raise Stopped

    def _signal(self, number: signal.Signals) -> None:
        if self._watchdog is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._watchdog.pid, number)


def _end(process: Process) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    process.kill()
    process.wait()


def request(port: int, path: str, seconds: float) -> bytes | None:
    """The body of a server's answer on loopback; None where it answers anything but 200, or nothing."""
    with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", port, timeout=seconds)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    return None


def versions(repository: Repository) -> Callable[[str], str]:
    """A component's content hash, computed once: what a run started with is what it is recorded under."""
    return cache(lambda component: batchloop_repository.component(repository, component))


class Processes(Backend):
    """Runs jobs as plain processes of the Python that has what the images have."""

    def __init__(self, repository: Repository) -> None:
        super().__init__()
        self.repository, self.version = repository, versions(repository)

    def launch(self, job: Job, serve: bool) -> tuple[Process, Port]:
        for mount in job.mounts:
            target = job.inside(mount.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(mount.source)
        python, container = self.repository.python(), job.container
        component = re.split("[@:]", container.image.rpartition("/")[2])[0]  # which is called like its repository
        first, *rest = container.entrypoint or ("python", "-m", "batchloop.container", component)
        words = [python if first in ("python", "python3") else first, *rest, *container.arguments]
        # as little as an image has: nothing of the caller's credentials, proxies or virtual environments
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {name: value for name, value in container.environment.items() if not name.startswith("AWS_")}
        environment |= {
            "ML_ROOT": str(job.root),
            "USECASE_FILE": str(self.repository.root / "usecase.toml"),
            "CODE_VERSION": self.version(component),
            "PYTHONPATH": str(self.repository.root),
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait leave the processors to the steps beside them
        }
        port = None
        if serve:
            with socket.create_server(("127.0.0.1", 0)) as probe:  # which is closed again, and the port free
                port = int(probe.getsockname()[1])
            environment |= {"SAGEMAKER_BIND_TO_PORT": str(port), "SERVE_HOST": "127.0.0.1"}
        return self.start(words, job, environment), lambda: port
