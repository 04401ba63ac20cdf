"""Hashes that say whether something must be done again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from operations.repository import Repository
from runtime import usecase


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
    folders = [name, "runtime", *(["algorithm"] if name == "explainability" else []), "Dockerfile", "install.sh"]
    paths = [repository.root / "components" / folder for folder in folders]
    tables: Mapping[str, Any] = repository.tables()
    read = {f"usecase.toml [{table}]": of(_plain(tables.get(table))) for table in usecase.TABLES[name]}
    return files(repository.root, [*paths, repository.root / "locks" / f"{name}.txt"]) | read


def _plain(value: object) -> Any:
    return json.loads(json.dumps(value, default=str))


def sources(repository: Repository, environment: str) -> str:
    """What the compiled definitions are made from."""
    root = repository.root
    single = [root / "usecase.toml", root / "environments" / f"{environment}.toml"]
    return of(files(root, [root / "pipelines", root / "components" / "runtime", *single]))
