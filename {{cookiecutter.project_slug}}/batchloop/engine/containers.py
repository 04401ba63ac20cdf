"""The docker command line: what it prints, or one sentence about what is wrong with it; and jobs in containers."""

import csv
import io
import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path

from batchloop import repository as batchloop_repository
from batchloop.container.job import InputError
from batchloop.engine.processes import Backend, Job, Port, Process
from batchloop.repository import Repository

SIZES = Path(__file__).resolve().with_name("instances.toml")
# Outside this network's own machine no answer would find its way back: a published port works, calling out does not.
NETWORK, NO_MASQUERADE = "usecase-no-way-out", "com.docker.network.bridge.enable_ip_masquerade=false"
PORT = 8080
MEANINGS = {  # a regular expression for what docker and buildx say, in lower case → what it means
    "cannot connect to the docker daemon": "Docker's daemon is not running; start it (Docker Desktop, or as root: "
    "`service docker start`).",
    "permission denied while trying to connect": "you may not use Docker's daemon; add yourself to the group docker, "
    "or run as root.",
    "no space left on device": "the disk is full; `docker system prune` frees what no image needs any more.",
    "pull access denied|failed to resolve source metadata": "the base image can't be pulled; check the network, log in "
    "to its registry, or name another or a mirror's with BASE_IMAGE=….",
    "failed to do request": "the registry can't be reached; check the network, or name a mirror's base image with "
    "BASE_IMAGE=….",
    "'buildx' is not a docker command|unknown command: docker buildx": "docker's buildx plugin is not installed; "
    "Debian has it as docker-buildx.",
}


def docker(*words: str, given: str = "") -> str:
    """What `docker words…` prints. Raises InputError."""
    try:
        done = batchloop_repository.ran(["docker", *words], input=given)
    except FileNotFoundError:
        raise InputError("docker is not installed; only images and ON=docker need it.") from None
    if done.returncode != 0:
        output = done.stderr.strip() or done.stdout.strip()
        last = (output.splitlines() or ["it said nothing"])[-1]
        raise InputError(meaning(output) or f"docker {words[0]} failed: {last}")
    return done.stdout


def meaning(output: str) -> str:
    """A sentence for what docker printed; "" where it speaks for itself."""
    lower = output.lower()
    return next((sentence for signs, sentence in MEANINGS.items() if re.search(signs, lower)), "")


def exists(image: str) -> bool:
    """Whether an image is on this machine. Raises InputError where docker does not work."""
    return bool(docker("images", "--quiet", image))


class Containers(Backend):
    """Runs jobs with docker, and removes what a killed run has left here."""

    def __init__(self, repository: Repository) -> None:
        self.label = f"usecase.repository={batchloop_repository.of(str(repository.root))}"
        left = f"docker ps --all --quiet --filter label={self.label}"
        self.removal = ("sh", "-c", f'left=$({left}); test -z "$left" || docker rm --force $left')
        super().__init__(self.removal)
        self.user: list[str] = []
        # SageMaker runs containers as root; here what they write must belong to who started them
        if os.getuid() != 0 and "rootless" not in docker("info", "--format", "{{.SecurityOptions}}"):
            self.user = ["--user", f"{os.getuid()}:{os.getgid()}"]
        batchloop_repository.ran(self.removal)

    def stop(self) -> None:
        super().stop()
        batchloop_repository.ran(self.removal)

    def launch(self, job: Job, serve: bool) -> tuple[Process, Port]:
        container, name = job.container, f"serving-{batchloop_repository.of(str(job.root))}"
        # --init: a first process of its own, or a signal that comes before Python listens would be lost
        words = ["docker", "run", "--rm", "--init", "--pull", "never", "--label", self.label]
        if serve:
            with suppress(InputError):  # it is there already
                docker("network", "create", "--opt", NO_MASQUERADE, NETWORK)
            words += ["--network", NETWORK, "--publish", f"127.0.0.1::{PORT}", "--name", name]
        else:
            words += ["--network", "none"]
        words += [*self.user, *limits(container.instance, os.cpu_count() or 1)]
        words += ["--mount", _bind(job.root, "/opt/ml", writable=True)]
        for mount in job.mounts:
            point = job.inside(mount.path)  # made here, or docker's daemon would make it as root
            (point if mount.source.is_dir() else point.parent).mkdir(parents=True, exist_ok=True)
            if not mount.source.is_dir():
                point.touch()
            words += ["--mount", _bind(mount.source, mount.path, writable=mount.writable)]
        for key, value in container.environment.items():
            words += ["--env", f"{key}={value}"]
        words += ["--entrypoint", container.entrypoint[0]] if container.entrypoint else []
        words += [container.image, *container.entrypoint[1:], *container.arguments]
        return self.start(words, job, os.environ), lambda: _published(name)


def limits(instance: str, cpus_here: int) -> list[str]:
    """The options for an instance type's processors (as many as there are here) and memory; none for another type."""
    size = tomllib.loads(SIZES.read_text(encoding="utf-8"))["types"].get(instance)
    return ["--cpus", str(min(size["cpus"], cpus_here)), "--memory", f"{size['memory_gb']}g"] if size else []


def _bind(source: Path, target: str, *, writable: bool) -> str:
    """docker's --mount value, which is a line of CSV: a path may hold commas, colons and quotes."""
    fields = ["type=bind", f"source={source}", f"target={target}", *([] if writable else ["readonly"])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _published(name: str) -> int | None:
    """The port of this machine at which a container answers; None while it is being started."""
    try:
        return int(docker("port", name, str(PORT)).splitlines()[0].rpartition(":")[2])
    except (InputError, ValueError, IndexError):
        return None
