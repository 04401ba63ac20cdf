"""Components in their real images, cut off from the network, within the limits of their instance types."""

import csv
import io
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from operations import docker, fingerprints
from operations.engine import folders
from operations.engine.backend import Job
from operations.engine.children import Child, Children, Command
from operations.failures import Failure
from operations.repository import Repository

SIZES = Path(__file__).resolve().parents[1] / "instances.toml"
# Outside this network's own machine no answer would find its way back: a published port works, calling out does not.
NETWORK = "usecase-no-way-out"
PORT = 8080


class Containers:
    """Runs jobs with docker. `close` removes what a killed run has left here."""

    def __init__(self, repository: Repository) -> None:
        self.label = f"usecase.repository={fingerprints.of(str(repository.root))}"
        clear = f"docker ps --all --quiet --filter label={self.label} | xargs -r docker rm --force"
        self.children = Children(("sh", "-c", clear))
        self.as_user = _as_user()
        self._remove_left()

    def run(self, job: Job) -> None:
        self.children.finish(self._start(job, ["--network", "none"]), job)

    @contextmanager
    def serving(self, job: Job) -> Iterator[int]:
        _create_network()
        name = f"serving-{fingerprints.of(str(job.root))}"
        options = ["--network", NETWORK, "--publish", f"127.0.0.1::{PORT}", "--name", name]
        process = self._start(job, options)
        try:
            yield self.children.wait_for_ping(process, job, lambda: _published(name))
        finally:
            self.children.end(process)
            self.children.check()

    def code(self, image: str) -> list[str]:
        return ["docker", docker.docker("image", "inspect", "--format", "{{.Id}}", image).strip()]

    def stop(self) -> None:
        self.children.stop()
        self._remove_left()

    def close(self) -> None:
        self.children.close()

    def _start(self, job: Job, options: Sequence[str]) -> Child:
        container = job.container
        # --init: a first process of its own, or a signal that comes before Python listens would be lost
        words = ["docker", "run", "--rm", "--init", "--pull", "never", "--label", self.label, *options, *self.as_user]
        words += limits(container.instance, os.cpu_count() or 1)
        words += ["--mount", bind(job.root, "/opt/ml", writable=True)]
        for mount in job.mounts:
            _mount_point(folders.inside(job.root, mount.path), mount.source)
            words += ["--mount", bind(mount.source, mount.path, writable=mount.writable)]
        for name, value in container.environment.items():
            words += ["--env", f"{name}={value}"]
        arguments = list(container.arguments)
        if container.entrypoint:
            words += ["--entrypoint", container.entrypoint[0]]
            arguments = [*container.entrypoint[1:], *arguments]
        return self.children.start(Command([*words, container.image, *arguments], job.root, os.environ, job.log))

    def _remove_left(self) -> None:
        left = docker.docker("ps", "--all", "--quiet", "--filter", f"label={self.label}").split()
        if left:
            with suppress(Failure):  # one may just have removed itself
                docker.docker("rm", "--force", *left)


def limits(instance: str, cpus_here: int) -> list[str]:
    """The options for an instance type's processors and memory; none for a type that instances.toml does not know.

    More processors than this machine has can't be promised, so they are not asked for.
    """
    known: Mapping[str, Any] | None = _sizes().get(instance)
    if known is None:
        return []
    return ["--cpus", str(min(known["cpus"], cpus_here)), "--memory", f"{known['memory_gb']}g"]


@cache
def _sizes() -> dict[str, Any]:
    return dict(tomllib.loads(SIZES.read_text(encoding="utf-8"))["types"])


def bind(source: Path, target: str, *, writable: bool) -> str:
    """docker's --mount value, which is a line of CSV: a path may hold commas, colons and quotes."""
    fields = ["type=bind", f"source={source}", f"target={target}", *([] if writable else ["readonly"])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _mount_point(target: Path, source: Path) -> None:
    """Made here, or docker's daemon would make it as root."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def _as_user() -> list[str]:
    """SageMaker runs containers as root; here what they write must belong to who started them."""
    if os.getuid() == 0 or "rootless" in docker.docker("info", "--format", "{{.SecurityOptions}}"):
        return []
    return ["--user", f"{os.getuid()}:{os.getgid()}"]


def _create_network() -> None:
    if NETWORK in docker.docker("network", "ls", "--format", "{{.Name}}").split():
        return
    with suppress(Failure):  # another run may have been first
        option = "com.docker.network.bridge.enable_ip_masquerade=false"
        docker.docker("network", "create", "--opt", option, NETWORK)


def _published(name: str) -> int | None:
    """The port of this machine at which a container answers; None while it is being started."""
    try:
        return int(docker.docker("port", name, str(PORT)).splitlines()[0].rpartition(":")[2])
    except (Failure, ValueError, IndexError):
        return None
