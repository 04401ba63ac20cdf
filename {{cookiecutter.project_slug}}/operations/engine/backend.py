"""What the engine needs from whatever runs the components: plain processes now, containers beside them."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from operations.failures import Failure


@dataclass(frozen=True)
class Job:
    """One process or container: `command` replaces entrypoint and arguments, `root` is its /opt/ml."""

    step: str
    component: str
    command: tuple[str, ...]
    root: Path
    environment: Mapping[str, str]
    log: Path


class Backend(Protocol):
    """Runs jobs. Both methods raise Failure in the component's own words, and Stopped after `stop`."""

    def run(self, job: Job) -> None:
        """Run a processing or training job to its end."""

    def serving(self, job: Job) -> AbstractContextManager[int]:
        """A running model server that answered /ping: its port on loopback; it is ended afterwards."""

    def stop(self) -> None:
        """End everything that was started, and refuse to start more."""


def component(image: str) -> str:
    """The component an image holds: the last part of its repository."""
    return re.split("[@:]", image.rpartition("/")[2])[0]


def reason(job: Job, code: int) -> Failure:
    """Why a job failed: what the component wrote for the service, or the last line of its log."""
    for name in ("message", "failure"):
        file = job.root / "output" / name
        if file.is_file() and (said := file.read_text(encoding="utf-8", errors="replace").strip()):
            return Failure(said)
    if code < 0:
        return Failure(f"ended by signal {-code}" + (" (was there enough memory?)" if code == -9 else ""))
    lines = job.log.read_text(encoding="utf-8", errors="replace").split("\n") if job.log.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return Failure(f"exit code {code}" + (f": {last}" if last else ""))
