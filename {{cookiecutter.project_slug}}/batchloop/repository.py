"""What ends a command: one sentence for the person who started it."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchloop.container import usecase


class Failure(Exception):
    """Something went wrong; the message says what and, where possible, what to do. Exit code 1."""


FULL = "No space left on device"  # in the system's words, which every library passes on


def full(error: Exception) -> Failure | None:
    """The sentence for a disk that is full, where that is what an error means."""
    if FULL not in str(error):
        return None
    return Failure("the disk is full: nothing is half written; make room (local/ may be removed) and say it again.")


class Stopped(Exception):
    """The run was interrupted by its user while this step was at work."""


PROCESSES, DOCKER = "processes", "docker"
LABELLED = "labelled.parquet"  # below a window's train/: scored rows whose labels have come
COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")


@dataclass(frozen=True)
class Repository:
    """The folder that holds usecase.toml; what runs leave behind goes below `local/`, which git ignores."""

    root: Path

    @property
    def local(self) -> Path:
        return self.root / "local"

    @property
    def release(self) -> Path:
        """The manifest of the released model."""
        return self.local / "release.json"

    def compiled(self, environment: str) -> Path:
        """The folder of training.json and inference.json."""
        return self.local / "compiled" / environment

    def tables(self) -> dict[str, Any]:
        """usecase.toml as it stands. Raises Failure where it is missing or no TOML."""
        from batchloop.container import settings  # noqa: PLC0415 - needs components/ on sys.path
        from batchloop.container.job import InputError  # noqa: PLC0415

        try:
            return settings.read(self.root / "usecase.toml", "usecase.toml")[0]
        except FileNotFoundError:
            raise Failure("usecase.toml is missing; run from the folder that holds it.") from None
        except InputError as error:
            raise Failure(str(error)) from None

    def names(self) -> tuple[str, str]:
        """The namespace and the use case's name. Raises Failure where [usecase] lacks one."""
        about = self.tables().get("usecase", {})
        for key in ("namespace", "name"):
            if not isinstance(about, dict) or not about.get(key):
                raise Failure(f"usecase.toml: [usecase] needs {key}: it begins the names of everything in AWS.")
        return str(about["namespace"]), str(about["name"])

    def pipeline(self, environment: str, name: str) -> str:
        """What the training or inference pipeline is called in AWS."""
        return f"{'-'.join(self.names())}-{environment}-{name}"

    def image(self, component: str, version: str) -> str:
        """What an image is called on this machine: the repository as in AWS, and the content's hash as the tag."""
        return f"local/{'/'.join(self.names())}/{component}:{version}"

    def python(self) -> str:
        """The Python that has what the images have: COMPONENTS_PYTHON, .venv-components, or this one."""
        chosen = os.environ.get("COMPONENTS_PYTHON", "")
        own = self.root / ".venv-components" / "bin" / "python"
        if chosen and Path(chosen).exists():
            return chosen
        return str(own) if own.exists() else sys.executable

    def window(self) -> str:
        """The name of the data in use: the one line of data/window, or the sample."""
        file = self.root / "data" / "window"
        name = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
        return name or "sample"

    def data(self, part: str) -> Path:
        """The folder of train, validation or production data."""
        return self.root / "data" / self.window() / part

    def shown(self, path: Path) -> str:
        """A path as a person in this folder would type it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def here() -> Repository:
    """The repository this module lies in."""
    return Repository(Path(__file__).resolve().parents[1])


def of(value: object) -> str:
    """The SHA-256 of a value's canonical JSON, in 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def files(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Name below `root` → SHA-256, for files and everything below folders; what does not exist is left out."""
    found: dict[str, str] = {}
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                found[file.relative_to(root).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def component(repository: Repository, name: str) -> str:
    """The content of a component's image, its tag."""
    return of(parts(repository, name))


def parts(repository: Repository, name: str) -> dict[str, str]:
    """What an image is made of → hash: its code, the runtime's, its lock, and the usecase.toml tables it reads."""
    inside = [*_code(repository.root / "components", name), "__init__.py", "Dockerfile", "install.sh"]
    folders = ["batchloop/__init__.py", "batchloop/container", *(f"components/{part}" for part in inside)]
    paths = [repository.root / folder for folder in folders]
    tables: Mapping[str, Any] = repository.tables()
    read = {f"usecase.toml [{table}]": of(_plain(tables.get(table))) for table in usecase.TABLES[name]}
    return files(repository.root, [*paths, repository.root / "locks" / f"{name}.txt"]) | read


def _code(components: Path, name: str) -> Iterator[str]:
    """The component, and for explainability the model: all of algorithm but its training and its server."""
    yield name
    if name == "explainability":
        model = {file.name for file in (components / "algorithm").iterdir()} - {"train.py", "serve.py"}
        yield from (f"algorithm/{entry}" for entry in sorted(model))


def _plain(value: object) -> Any:
    return json.loads(json.dumps(value, default=str))


def sources(repository: Repository, environment: str) -> str:
    """What the compiled definitions are made from."""
    root = repository.root
    single = [root / "usecase.toml", root / "environments" / f"{environment}.toml"]
    return of(files(root, [root / "pipelines", root / "batchloop", *single]))
