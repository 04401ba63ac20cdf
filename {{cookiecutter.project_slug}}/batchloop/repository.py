"""This repository: where its files and what runs leave lie, and hashes of what images and definitions are made of."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchloop.container import settings, usecase
from batchloop.container.job import FULL, InputError, plain
from batchloop.control import names
from batchloop.control.names import Names


def full(error: Exception) -> InputError | None:
    """The sentence for what the system refuses: a disk that is full, or a file that can't be read, made or written."""
    if FULL in str(error):
        room = "make room (local/ may be removed)"
        return InputError(f"the disk is full: nothing is half written; {room} and say it again.")
    if isinstance(error, OSError) and error.filename and error.strerror:
        return InputError(f"{error.filename}: {error.strerror}. Mend that, and say it again.")
    return None


class Stopped(Exception):
    """The run was interrupted by its user while this step was at work."""


Ran = subprocess.CompletedProcess[str]
WIDE = 240  # characters of a table where there is no terminal, whose width would matter
PROCESSES, DOCKER = "processes", "docker"
LABELLED = "labelled.parquet"  # below a window's train/: scored rows whose labels have come
COMPONENTS = tuple(names.COMPONENTS)
ON_GPU = ("algorithm", "explainability")  # whose images have a stage with what a GPU needs


@dataclass(frozen=True)
class Repository:
    """The folder that holds usecase.toml, seen by one of environments/*.toml.

    What runs leave goes below `local/`, which git ignores, or `elsewhere`.
    """

    root: Path
    elsewhere: Path | None = None
    environment: str = "dev"

    @property
    def local(self) -> Path:
        return self.elsewhere or self.root / "local"

    @property
    def release(self) -> Path:
        """The manifest of the released model."""
        return self.local / "release.json"

    @property
    def compiled(self) -> Path:
        """The folder of training.json and inference.json, wherever runs leave the rest."""
        return self.root / "local" / "compiled" / self.environment

    def tables(self) -> dict[str, Any]:
        """usecase.toml as it stands. Raises InputError where it is missing or no TOML."""
        try:
            return settings.read(self.root / "usecase.toml", "usecase.toml")[0]
        except FileNotFoundError:
            raise InputError("usecase.toml is missing; run from the folder that holds it.") from None

    def names(self) -> Names:
        """The names in AWS, without a bucket's. Raises InputError where [usecase] lacks what they begin with."""
        about = self.tables().get("usecase", {})
        for key in ("namespace", "name"):
            if not isinstance(about, dict) or not about.get(key):
                raise InputError(f"usecase.toml: [usecase] needs {key}: it begins the names of everything in AWS.")
        return Names(str(about["namespace"]), str(about["name"]), self.environment, "")

    def image(self, component: str, version: str) -> str:
        """What an image is called on this machine: the repository as in AWS, and the content's hash as the tag."""
        return f"local/{self.names().folder}/{component}:{version}"

    def python(self) -> str:
        """The Python that has what the images have: COMPONENTS_PYTHON, .venv-components, or this one."""
        own = self.root / ".venv-components" / "bin" / "python"
        chosen = os.environ.get("COMPONENTS_PYTHON", "")
        if chosen and chosen != str(own) and not Path(chosen).exists():
            raise InputError(f"COMPONENTS_PYTHON={chosen} does not exist.")
        return chosen if Path(chosen).is_file() else str(own) if own.exists() else sys.executable

    def window(self) -> str:
        """The name of the data in use: the one line of data/window, or the sample."""
        file = self.root / "data" / "window"
        return (file.read_text(encoding="utf-8").strip() if file.is_file() else "") or "sample"

    def data(self, part: str) -> Path:
        """The folder of train, validation or production data."""
        return self.root / "data" / self.window() / part

    def shown(self, path: Path) -> str:
        """A path as a person in this folder would type it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def here(environment: str = Repository.environment) -> Repository:
    return Repository(Path(__file__).resolve().parents[1], environment=environment)


def ran(words: Sequence[str], folder: Path | None = None, more: Mapping[str, str] | None = None, **how: Any) -> Ran:
    """A command to its end, with `more` variables than these: how it ended, and what it said as text."""
    how = {"capture_output": True, "text": True, "errors": "replace", "check": False, **how}
    return subprocess.run(words, cwd=folder, env=os.environ | (more or {}), **how)  # noqa: S603, PLW1510 - the callers' own


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns of one width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{text:<{w}}" for text, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def print_table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], right: Sequence[str] = ()) -> None:
    """Rows under their heads, each with its style; cells stay what people wrote, [brackets] and all."""
    from rich.console import Console  # noqa: PLC0415 - costs a tenth of a second
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table: Any = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(Text(plain(head)), justify="right" if head in right else "left")
    for style, cells in rows:
        table.add_row(*(Text(plain(cell)) for cell in cells), style=style)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def of(value: object) -> str:
    """The SHA-256 of a value's canonical JSON, in 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def files(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Name below `root` → SHA-256, for files and everything below folders; what does not exist is left out."""
    found: dict[str, str] = {}
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                found[file.relative_to(root).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def locks(repository: Repository) -> dict[str, str]:
    """Lock → the component whose image is made of it: its own and, where there is one, that with what a GPU needs."""
    both = {lock: name for name in COMPONENTS for lock in (name, *([f"{name}-gpu"] if name in ON_GPU else []))}
    there = {file.stem for file in (repository.root / "locks").glob("*-gpu.txt")}
    return {lock: name for lock, name in both.items() if lock == name or lock in there}


def component(repository: Repository, name: str, lock: str = "") -> str:
    """The tag of a component's image, of its own lock or another one: a hash of its content."""
    return of(parts(repository, name, lock))


def parts(repository: Repository, name: str, lock: str = "") -> dict[str, str]:
    """What an image is made of → hash: its code, the runtime's, its lock, and the usecase.toml tables it reads."""
    inside = [name, "__init__.py", "Dockerfile", "install.sh"]
    if name == "explainability":  # and the model: all of algorithm but its training and its server
        model = {file.name for file in (repository.root / "components/algorithm").iterdir()} - {"train.py", "serve.py"}
        inside += [f"algorithm/{entry}" for entry in sorted(model)]
    sources = ["batchloop/__init__.py", "batchloop/container", *(f"components/{part}" for part in inside)]
    paths = [repository.root / source for source in (*sources, f"locks/{lock or name}.txt")]
    tables = repository.tables()
    read = {f"usecase.toml [{table}]": of(tables.get(table)) for table in usecase.TABLES[name]}
    return files(repository.root, paths) | read


def own(tree: Repository, function: str) -> dict[str, Any]:
    """Lock → what `component` or `parts` of a tree's own plumbing say: an update may count other files.

    A tree that gives no answer is counted as this one.
    """
    asked = f"{{lock: repository.{function}(here, name, lock) for lock, name in repository.locks(here).items()}}"
    code = f"import json; from batchloop import repository; here = repository.here(); print(json.dumps({asked}))"
    done = ran([sys.executable, "-Bc", code], tree.root, {"PYTHONPATH": str(tree.root)})
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    count = {"component": component, "parts": parts}[function]
    return {lock: count(tree, name, lock) for lock, name in locks(tree).items()}


def sources(repository: Repository) -> str:
    """What the compiled definitions are made from, the SDK's version among it."""
    settings_files = "usecase.toml", f"environments/{repository.environment}.toml"
    made_from = ("pipelines", "batchloop", "locks/development.txt", *settings_files)
    return of(files(repository.root, [repository.root / path for path in made_from]))


def kept_definition(repository: Repository, name: str, digest: str) -> dict[str, Any]:
    """A pipeline as it was when a model was registered; {} where that is not kept, or damaged: the digest tells."""
    with suppress(OSError, ValueError):
        found = json.loads(definition_file(repository, name, digest).read_text(encoding="utf-8"))
        return found if of(found) == digest else {}
    return {}


def definition_file(repository: Repository, name: str, digest: str) -> Path:
    """The file that keeps a pipeline as it was when a model was registered."""
    return repository.local / "releases" / f"{name}-{digest}.json"
