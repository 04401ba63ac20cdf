"""Components as plain processes of this machine, each in a folder that stands for /opt/ml."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from operations.engine import folders
from operations.engine.backend import Container, Job
from operations.engine.children import Child, Children, Command
from operations.repository import Repository

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
            target = folders.inside(job.root, mount.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(mount.source)
        python = self.repository.python()
        container = job.container
        first, *rest = container.entrypoint or ("python", "-m", container.component)
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
            "PYTHONPATH": str(self.repository.root / "components"),
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait leave the processors to the steps beside them
        }
        return kept | given | own


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
