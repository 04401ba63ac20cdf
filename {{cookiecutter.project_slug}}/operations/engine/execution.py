"""What the steps of one run share, and what a step leaves behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from operations import fingerprints
from operations.engine.backend import Backend, Container, Job, Mount
from operations.engine.cache import Cache
from operations.engine.registry import Registry
from operations.engine.storage import Storage
from operations.failures import Failure

Stored = tuple[Mapping[str, Any], list[str]]  # properties, and the URIs that hold what was made


@dataclass(frozen=True)
class Outcome:
    """A finished step's properties, in the shape the service describes such a job; whether it had to run."""

    properties: Mapping[str, Any]
    reused: bool = False


@dataclass(frozen=True)
class Execution:
    """One run of a pipeline."""

    identity: str
    folder: Path
    storage: Storage
    cache: Cache
    backend: Backend
    registry: Registry
    models: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def log(self, step: str) -> Path:
        """The file that holds what a step's processes say."""
        return self.folder / "logs" / f"{step}.log"

    def job(self, step: str, container: Container, mounts: Sequence[Mount] = ()) -> Job:
        """A job with an empty /opt/ml of its own."""
        root = self.folder / step / "ml"
        root.mkdir(parents=True)
        self.log(step).parent.mkdir(exist_ok=True)
        return Job(step, container, root, self.log(step), tuple(mounts))

    def job_name(self, step: str) -> str:
        """As the service names the jobs of a pipeline."""
        return f"pipelines-{self.identity}-{step}"

    def once(self, identity: object, work: Callable[[str], Stored]) -> Outcome:
        """What `work` gave when the same was done before, or gives now: properties, and the URIs it stored."""
        key = fingerprints.of(identity)
        if (known := self.cache.find(key)) is not None:
            return Outcome(known, reused=True)
        properties, outputs = work(key)
        self.cache.keep(key, properties, outputs)
        return Outcome(properties)


def new_identity() -> str:
    """A name that sorts by time; one run at a time makes it unique."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"


def now() -> str:
    """The moment, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def need(arguments: Mapping[str, Any], key: str) -> Any:
    """A key that this step type can't do without. Raises Failure."""
    if key not in arguments:
        raise Failure(f"the definition gives it no {key}.")
    return arguments[key]
