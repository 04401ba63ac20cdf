"""The docker command line: what it prints, or one sentence about what is wrong with it."""

import csv
import io
import os
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from batchloop import repository as batchloop_repository
from batchloop.engine import storage
from batchloop.engine.processes import Child, Children, Command
from batchloop.engine.storage import Job
from batchloop.repository import Failure, Repository

# what docker and buildx say, in lower case → what it means
MEANINGS = {
    "cannot connect to the docker daemon": "Docker's daemon is not running; start it (Docker Desktop, or as root: "
    "`service docker start`).",
    "permission denied while trying to connect": "you may not use Docker's daemon; add yourself to the group docker, "
    "or run as root.",
    "no space left on device": "the disk is full; `docker system prune` frees what no image needs any more.",
    "pull access denied": "the base image can't be pulled; log in to its registry, or name another with BASE_IMAGE=….",
    "failed to resolve source metadata": "the base image can't be pulled; check the network, or name a mirror's with "
    "BASE_IMAGE=….",
    "failed to do request": "the registry can't be reached; check the network, or name a mirror's base image with "
    "BASE_IMAGE=….",
    "'buildx' is not a docker command": "docker's buildx plugin is not installed; Debian has it as docker-buildx.",
    "unknown command: docker buildx": "docker's buildx plugin is not installed; Debian has it as docker-buildx.",
    "port is already allocated": "a port is in use by another container; `docker ps` shows which.",
    "address already in use": "a port is in use by another program.",
    "no such image": "the image is not on this machine; `make images` builds it.",
}


def docker(*words: str, given: str = "", environment: Mapping[str, str] | None = None) -> str:
    """What `docker words…` prints. Raises Failure."""
    try:
        done = subprocess.run(  # noqa: S603 - the docker command line, found on the path
            ["docker", *words],  # noqa: S607
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=environment,
        )
    except FileNotFoundError:
        raise Failure("docker is not installed; only images and ON=docker need it.") from None
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        raise Failure(meaning(said) or f"docker {words[0]} failed: {(said.splitlines() or ['it said nothing'])[-1]}")
    return done.stdout


def meaning(said: str) -> str:
    """A sentence for what docker said; "" where it speaks for itself."""
    lower = said.lower()
    return next((sentence for sign, sentence in MEANINGS.items() if sign in lower), "")


def meaning_of(log: Path) -> str:
    """As `meaning`, of the end of a log."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return meaning(text[-4000:])


def exists(image: str) -> bool:
    """Whether an image is on this machine. Raises Failure where docker does not work."""
    try:
        docker("image", "inspect", "--format", "{{.Id}}", image)
    except Failure as failure:
        if "not on this machine" in str(failure):
            return False
        raise
    return True


SIZES = Path(__file__).resolve().with_name("instances.toml")
# Outside this network's own machine no answer would find its way back: a published port works, calling out does not.
NETWORK = "usecase-no-way-out"
PORT = 8080


class Containers:
    """Runs jobs with docker. `close` removes what a killed run has left here."""

    def __init__(self, repository: Repository) -> None:
        self.label = f"usecase.repository={batchloop_repository.of(str(repository.root))}"
        clear = f"docker ps --all --quiet --filter label={self.label} | xargs -r docker rm --force"
        self.children = Children(("sh", "-c", clear))
        self.as_user = _as_user()
        self._remove_left()

    def run(self, job: Job) -> None:
        self.children.finish(self._start(job, ["--network", "none"]), job)

    @contextmanager
    def serving(self, job: Job) -> Iterator[int]:
        _create_network()
        name = f"serving-{batchloop_repository.of(str(job.root))}"
        options = ["--network", NETWORK, "--publish", f"127.0.0.1::{PORT}", "--name", name]
        process = self._start(job, options)
        try:
            yield self.children.wait_for_ping(process, job, lambda: _published(name))
        finally:
            self.children.end(process)
            self.children.check()

    def code(self, image: str) -> list[str]:
        return ["docker", docker("image", "inspect", "--format", "{{.Id}}", image).strip()]

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
            _mount_point(storage.inside(job.root, mount.path), mount.source)
            words += ["--mount", bind(mount.source, mount.path, writable=mount.writable)]
        for name, value in container.environment.items():
            words += ["--env", f"{name}={value}"]
        arguments = list(container.arguments)
        if container.entrypoint:
            words += ["--entrypoint", container.entrypoint[0]]
            arguments = [*container.entrypoint[1:], *arguments]
        return self.children.start(Command([*words, container.image, *arguments], job.root, os.environ, job.log))

    def _remove_left(self) -> None:
        left = docker("ps", "--all", "--quiet", "--filter", f"label={self.label}").split()
        if left:
            with suppress(Failure):  # one may just have removed itself
                docker("rm", "--force", *left)


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
    if os.getuid() == 0 or "rootless" in docker("info", "--format", "{{.SecurityOptions}}"):
        return []
    return ["--user", f"{os.getuid()}:{os.getgid()}"]


def _create_network() -> None:
    if NETWORK in docker("network", "ls", "--format", "{{.Name}}").split():
        return
    with suppress(Failure):  # another run may have been first
        option = "com.docker.network.bridge.enable_ip_masquerade=false"
        docker("network", "create", "--opt", option, NETWORK)


def _published(name: str) -> int | None:
    """The port of this machine at which a container answers; None while it is being started."""
    try:
        return int(docker("port", name, str(PORT)).splitlines()[0].rpartition(":")[2])
    except (Failure, ValueError, IndexError):
        return None
