"""S3 on this machine: s3://bucket/key is local/storage/bucket/key; file:// is data where it lies."""

import json
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from operations.engine.backend import Mount
from operations.failures import Failure

READ_ONLY = 0o444


class Storage:
    """Files by URI. What a finished step stored is read-only and never changed again."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, uri: str) -> Path:
        """Where a URI's file or folder lies. Raises Failure for a URI of another kind."""
        if uri.startswith("file://"):
            return Path(unquote(urlsplit(uri).path))
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        names = [name for name in key.split("/") if name]
        if not uri.startswith("s3://") or not bucket or {".", ".."} & {bucket, *names}:
            raise Failure(f"{uri!r} is no location that can be read here; give s3://bucket/key or a path.")
        return self.root.joinpath(bucket, *names)

    def existing(self, uri: str) -> Path:
        """As `path`, of something that is there. Raises Failure."""
        path = self.path(uri)
        if not path.exists():
            where = str(path) if uri.startswith("file://") else f"{uri} (here: {path})"
            raise Failure(f"{where} does not exist.")
        return path

    def files(self, uri: str) -> list[tuple[str, Path]]:
        """Name below the URI and path of every file, by name; a URI that is a file is that one."""
        path = self.existing(uri)
        if path.is_file():
            return [(path.name, path)]
        below = [Path(folder) / name for folder, _, names in os.walk(path, followlinks=True) for name in names]
        return sorted((file.relative_to(path).as_posix(), file) for file in below)

    def listed(self, uri: str) -> list[tuple[str, Path]]:
        """Key and path of the files that a manifest lists: a prefix, then keys relative to it.

        Source: "S3DataSource" in the SageMaker API reference. Raises Failure for a manifest of another form, and for a
        file that is not there.
        """
        entries = self.read_json(uri)
        first, *keys = entries if isinstance(entries, list) and entries else [None]
        prefix = str(first.get("prefix") or "") if isinstance(first, dict) else ""
        if not prefix or not keys or not all(isinstance(key, str) and key for key in keys):
            raise Failure(f'{uri} is no manifest: [{{"prefix": "s3://…/"}}, "a key", …] with at least one key.')
        quoted = prefix.startswith("file://")
        return [(unquote(str(key)) if quoted else str(key), self.existing(f"{prefix}{key}")) for key in keys]

    def mounts(self, uri: str, folder: str) -> list[Mount]:
        """What a manifest lists, each file where its key says below a folder; the service's guide leaves that open."""
        return [Mount(f"{folder}/{key}", path.resolve()) for key, path in self.listed(uri)]

    def mount(self, uri: str, folder: str) -> Mount:
        """What is stored, in a folder of a container; a single file lies in it. Raises Failure where nothing is."""
        path = self.existing(uri).resolve()
        return Mount(folder if path.is_dir() else f"{folder}/{path.name}", path)

    def take(self, source: Path, uri: str) -> None:
        """Move a finished file or folder to its URI in one rename; links are dropped: the service uploads none."""
        for path in [source, *(source.rglob("*") if source.is_dir() else [])]:
            if path.is_symlink():
                path.unlink()
            elif path.is_file():
                path.chmod(READ_ONLY)
        target = self.path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        source.replace(target)

    def read_json(self, uri: str) -> Any:
        """The value in a stored JSON file. Raises Failure."""
        try:
            return json.loads(self.existing(uri).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise Failure(f"{uri} is not valid JSON: {error}.") from None

    def write_json(self, uri: str, value: object) -> None:
        """Store a JSON file in one rename."""
        path = self.path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)


def write_json(path: Path, value: object) -> None:
    """Write beside, then rename: a reader sees the old file or the new one, also while two processes write."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
