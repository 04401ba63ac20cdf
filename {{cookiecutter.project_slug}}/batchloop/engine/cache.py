"""Finished steps by what they depended on, and content hashes that are only computed again for changed files."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchloop import repository
from batchloop.engine.storage import Backend, Container, Job, Mount, Storage, write_json
from batchloop.repository import Failure


class Cache:
    """Entries lie in one file a key. An entry counts only while everything it points to is still as it was."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.folder, self.storage = folder, storage
        self.folder.mkdir(parents=True, exist_ok=True)
        self._memory: dict[str, list[Any]] = self._load()
        self._lock = threading.Lock()

    def content(self, uri: str, listed: bool = False) -> str:
        """A hash of the names and bytes of what is at a URI, or `listed` there. Raises Failure where nothing is."""
        files = self.storage.listed(uri) if listed else self.storage.files(uri)
        return repository.of([[name, self._digest(path)] for name, path in files])

    def find(self, key: str) -> dict[str, Any] | None:
        """The properties of the step that finished under this key, if its outputs are still there, unchanged."""
        file = self.folder / f"{key}.json"
        try:
            entry: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            whole = all(self.content(uri) == content for uri, content in entry["outputs"].items())
        except (OSError, ValueError, KeyError, Failure):
            return None
        return dict(entry["properties"]) if whole else None

    def keep(self, key: str, properties: Mapping[str, Any], outputs: Iterable[str]) -> None:
        """Remember a finished step; the last thing that happens to it, so a killed run never leaves half an entry."""
        entry = {"properties": dict(properties), "outputs": {uri: self.content(uri) for uri in outputs}}
        write_json(self.folder / f"{key}.json", entry)
        self.save()

    def save(self) -> None:
        """Keep the hashes for the next run."""
        with self._lock:
            write_json(self.folder / "digests.json", self._memory)

    def _load(self) -> dict[str, list[Any]]:
        try:
            known: dict[str, list[Any]] = json.loads((self.folder / "digests.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {path: entry for path, entry in known.items() if Path(path).exists()}

    def _digest(self, path: Path) -> str:
        try:
            state = path.stat()
        except OSError as error:
            leads = f", a link to {path.readlink()}" if path.is_symlink() else ""
            raise Failure(f"{path}{leads}: {error.strerror}; mend or remove it.") from None
        # the change time too: a file may be replaced by one of the same size and date
        seen = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        name = str(path.absolute())
        known = self._memory.get(name)
        if known is None or known[:3] != seen:
            with path.open("rb") as handle:
                known = [*seen, hashlib.file_digest(handle, "sha256").hexdigest()]
            with self._lock:
                self._memory[name] = known
        return str(known[3])


APPROVED = "Approved"
ARTIFACTS = ("preprocessor", "model", "baseline", "explainer")
NEEDED = ("version", "created", "model_package", "images")


class Registry:
    """Model packages in one file; versions count up within a group."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def packages(self) -> list[dict[str, Any]]:
        """Every registered package, oldest first."""
        try:
            found: list[dict[str, Any]] = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except ValueError:
            raise Failure(f"{self.file} is damaged; remove it, and models are numbered from 1 again.") from None
        return found

    def package(self, arn: str) -> dict[str, Any]:
        """One package. Raises Failure where there is none of that name."""
        for package in self.packages():
            if package["ModelPackageArn"] == arn:
                return package
        raise Failure(f"{arn} is not registered.")

    def find(self, identity: str) -> dict[str, Any] | None:
        """The newest package that was registered with the same contents."""
        return next((package for package in reversed(self.packages()) if package["Identity"] == identity), None)

    def register(self, arguments: Mapping[str, Any], identity: str, created: str) -> dict[str, Any]:
        """Add a package under the group's next version."""
        packages, group = self.packages(), arguments["ModelPackageGroupName"]
        version = 1 + sum(package["ModelPackageGroupName"] == group for package in packages)
        package = {
            "ModelPackageArn": f"arn:aws:sagemaker:local:000000000000:model-package/{group}/{version}",
            "ModelPackageVersion": version,
            "ModelPackageStatus": "Completed",
            "CreationTime": created,
            "Identity": identity,
            **arguments,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, [*packages, package])
        return package


def released(file: Path) -> dict[str, Any] | None:
    """The manifest of the release, or None before the first. Raises Failure for a damaged one."""
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if not set(manifest["artifacts"]) >= set(ARTIFACTS) or not set(manifest) >= set(NEEDED):
            raise KeyError
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise Failure(
            f"{file.name} is damaged; `make models` lists what `make models USE=…` can release again, and "
            "`make train FRESH=yes` trains without a champion."
        ) from None
    return dict(manifest)


def undamaged(file: Path) -> dict[str, Any] | None:
    """As `released`, and None for a damaged one too: for whoever writes over it."""
    with suppress(Failure):
        return released(file)
    return None


def gone(storage: Storage, manifest: Mapping[str, Any], names: Iterable[str] = ARTIFACTS) -> str:
    """In words, which artifacts of a release are no longer stored here; "" where all are."""
    found = [name for name in names if not storage.path(manifest["artifacts"][name]).exists()]
    return f"its {' and '.join(found)} {'is' if len(found) == 1 else 'are'} gone from local/" if found else ""


def manifest(package: Mapping[str, Any], metrics: Mapping[str, float], created: str) -> dict[str, Any]:
    """What is released: one model package with everything that belongs to it."""
    about = package["CustomerMetadataProperties"]
    ends = "_image"
    return {
        "version": package["ModelPackageVersion"],
        "created": created,
        "model_package": package["ModelPackageArn"],
        "images": {key.removesuffix(ends): value for key, value in about.items() if key.endswith(ends)},
        "artifacts": {name: about[name] for name in ARTIFACTS},
        "metrics": dict(metrics),
        "data": about.get("training_data", ""),
        "contract": about.get("contract", ""),
        "git_commit": about.get("git_commit", ""),
    }


def publish(file: Path, value: Mapping[str, Any]) -> None:
    """Make it the release, in one rename."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, dict(value))


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
        key = repository.of(identity)
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
