"""Artifacts: a folder of files and a manifest that says who learned it, under which contract, from what."""

import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batchloop.container.job import InputError, listed
from batchloop.container.usecase import digest

MANIFEST = "manifest.json"
ABSENT = "none"  # the component of the empty artifact that stands for "there is no champion yet"
PARTIAL = ".partial"
EXPANSION, SMALL = 100, 100 * 2**20  # an archive may unpack to 100 times its size, and always to this many bytes
ENTRIES = 10_000  # files in one: each costs, however small it is
ROOM = 1024  # bytes: a disk with less is full


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A folder inside `folder` to write into; its files move up only when everything went well, the manifest last.

    Inside, because files can't be renamed across mounts. What a full disk breaks is raised as that OSError.
    """
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror}.") from None
    try:
        yield partial
        for file in sorted(partial.iterdir(), key=lambda file: (file.name == MANIFEST, file.name)):
            file.replace(folder / file.name)
    except Exception as error:
        if shutil.disk_usage(folder).free < ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Indented JSON; the order of keys is the reader's."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises InputError where it is missing or damaged."""
    folder = path.parent.name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.name} is missing from {folder}/; was the artifact uploaded whole?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} in {folder}/ is not valid JSON ({error}); write the artifact again.") from None


def write_manifest(
    folder: Path, component: str, contract: Mapping[str, Any], parents: Mapping[str, str] | None = None
) -> None:
    """Say what `folder` is: the contract and its hash; `parents` maps an artifact's name to its fingerprint."""
    origin = {"component": component, "mode": "train", "code_version": os.environ.get("CODE_VERSION", "unversioned")}
    hashes = {"contract": digest(contract), "parents": dict(parents or {})}
    write_json(folder / MANIFEST, {**origin, **hashes, **contract})


def check_manifest(folder: Path, component: str, contract: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of an artifact that `component` learned under `contract`. Raises InputError for any other."""
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    if manifest.get("component") != component:
        held = manifest.get("component")
        raise InputError(f"{folder.name}/ holds an artifact of {held!r} where {component}'s is needed.")
    if manifest.get("contract") != digest(contract):
        changed = listed(_changes(manifest, contract), 5) if "columns" in manifest else "it is older than this code"
        remedy = "train again, or restore [data], [columns] and [series] of usecase.toml"
        raise InputError(f"{component}'s artifact was learned under another contract: {changed}; {remedy}.")
    return manifest


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What usecase.toml says otherwise than an artifact's manifest, in words."""

    def shown(value: Any) -> str:
        return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    now = json.loads(json.dumps(after))
    old, new = ({column["name"]: column for column in contract["columns"]} for contract in (before, now))
    changed = [f"column {name!r} is new" for name in new if name not in old]
    changed += [f"column {name!r} is gone" for name in old if name not in new]
    pairs = [(f"column {name!r} ", old[name], new[name]) for name in new if name in old]
    tables = [(f"[{name}] ", before.get(name, {}), now.get(name, {})) for name in ("data", "series")]
    for what, was, is_now in [*tables, *pairs]:
        for key in [key for key in was | is_now if was.get(key) != is_now.get(key)]:
            changed.append(f"{what}{key} was {shown(was.get(key))}, now {shown(is_now.get(key))}")
    return changed or ["the order of the columns"]


def is_absent(folder: Path) -> bool:
    """Whether `folder` holds the empty artifact (or nothing at all)."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return True
    return (folder / MANIFEST).is_file() and read_json(folder / MANIFEST).get("component") == ABSENT


def write_absent(folder: Path, reason: str = "") -> None:
    """Make `folder` the empty artifact; `reason` says why, where it is not that none was made yet."""
    write_json(folder / MANIFEST, {"component": ABSENT, "reason": reason})


def absence(folder: Path) -> str:
    """The reason in an empty artifact, "" where it gives none."""
    return str(read_json(folder / MANIFEST).get("reason", "")) if (folder / MANIFEST).is_file() else ""


def fingerprint(folder: Path) -> str:
    """A short hash of an artifact's files (names and contents)."""
    sha = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as handle:
            sha.update(hashlib.file_digest(handle, "sha256").digest())
    return sha.hexdigest()[:16]


def unpacked(folder: Path, into: Path) -> Path:
    """The folder itself, or `into` with what a .tar.gz in it held (a training job's output arrives packed)."""
    archives = sorted(folder.glob("*.tar.gz"))
    if not archives:
        return folder
    extract(archives[0], into)
    return into


def extract(archive: Path, into: Path) -> None:
    """Extract an archive of plain files. Raises InputError for any other, a damaged one, and names outside `into`."""
    into.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=(room := _Limit(archive, stream)), mode="r|") as packed:
            for number, member in enumerate(packed):
                target = into / member.name
                if number >= ENTRIES:
                    raise InputError(f"{archive.name} holds more than {ENTRIES:,} files; no artifact does.")
                room.hold(member.size)
                if member.isdir():
                    continue
                if not member.isfile() or ".." in target.parts or not target.is_relative_to(into):
                    raise InputError(f"the archive holds {member.name!r}, which is no plain file below its folder.")
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.extractfile(member) as source, target.open("wb") as out:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, out)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{archive.name} can't be unpacked ({error}); was it packed by gzip, and uploaded whole?"
        ) from None


class _Limit(io.RawIOBase):
    """An archive's unpacked bytes up to a limit: headers may be what grows, and lie in memory."""

    def __init__(self, archive: Path, stream: gzip.GzipFile) -> None:
        self.archive, self.stream, self.size = archive.name, stream, archive.stat().st_size
        self.left = self.limit = max(SMALL, EXPANSION * self.size)

    def read(self, size: int = -1) -> bytes:
        self.hold(size)
        self.left -= size
        return self.stream.read(size)

    def hold(self, size: int) -> None:
        """Raises InputError where so many more bytes go beyond the limit."""
        if size > self.left:
            most = f"{self.archive} of {self.size:,} bytes unpacks to more than {self.limit:,}"
            raise InputError(f"{most}; no artifact of this repository does.")
