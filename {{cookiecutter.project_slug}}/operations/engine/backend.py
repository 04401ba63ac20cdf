"""What the engine needs from whatever runs the components: plain processes, or the real containers."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from operations.failures import Failure

KILLED = 137  # 128 + SIGKILL, as a container's exit code tells it


@dataclass(frozen=True)
class Container:
    """What a definition says is to run; an empty `entrypoint` is the image's own."""

    image: str
    arguments: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    instance: str = ""

    @property
    def component(self) -> str:
        """The component the image holds: the last part of its repository."""
        return re.split("[@:]", self.image.rpartition("/")[2])[0]

    @property
    def identity(self) -> list[Any]:
        """What of it can change a result, besides the code."""
        return [*self.entrypoint, "|", *self.arguments, dict(self.environment)]


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine at a path of the container."""

    path: str
    source: Path
    writable: bool = False


@dataclass(frozen=True)
class Job:
    """One container at work for one step; `root` is its /opt/ml, `log` gets what it says."""

    step: str
    container: Container
    root: Path
    log: Path
    mounts: tuple[Mount, ...] = ()


class Backend(Protocol):
    """Runs jobs. Both methods raise Failure in the component's own words, and Stopped after `stop`."""

    def run(self, job: Job) -> None:
        """Run a processing or training job to its end."""

    def serving(self, job: Job) -> AbstractContextManager[int]:
        """A running model server that answered /ping: its port on loopback; it is ended afterwards."""

    def code(self, image: str) -> list[str]:
        """What would run for an image: a step is done again when it changes."""

    def stop(self) -> None:
        """End everything that was started, and refuse to start more."""

    def close(self) -> None:
        """Let go of what outlives single jobs."""


def reason(job: Job, code: int) -> Failure:
    """Why a job failed: what the component wrote for the service, or the last line of its log."""
    for name in ("message", "failure"):
        file = job.root / "output" / name
        if file.is_file() and (said := file.read_text(encoding="utf-8", errors="replace").strip()):
            return Failure(said)
    if code < 0 or code == KILLED:
        number = -code if code < 0 else code - 128
        return Failure(f"ended by signal {number}" + (" (was there enough memory?)" if number == 9 else ""))
    lines = job.log.read_text(encoding="utf-8", errors="replace").split("\n") if job.log.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return Failure(f"exit code {code}" + (f": {last}" if last else ""))
