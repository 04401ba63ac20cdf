"""The docker command line: what it prints, or one sentence about what is wrong with it."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from operations.failures import Failure

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
