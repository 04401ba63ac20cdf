"""What stands for S3 here: files by URI; finished steps by their requests; and the registered models."""

import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from batchloop import repository
from batchloop.container import artifacts
from batchloop.container.job import InputError
from batchloop.pipelines.expressions import KEYS, keyed, seconds

ARTIFACTS = ("preprocessor", "model", "baseline", "explainer")
NEEDED = ("version", "created", "model_package", "images")
# what every record of a run, of its steps, and every registered package has
RUN = {"execution": str, "pipeline": str, "state": str, "started": str, "parameters": dict, "steps": dict}
STEP = {"state": str, "seconds": int | float, "message": str, "properties": dict}
PACKAGE = {"ModelPackageArn": str, "ModelPackageVersion": int, "ModelPackageGroupName": str, "CreationTime": str}
Properties = Mapping[str, Any]  # of a finished step, in the shape the service describes such a job


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine at a path of the container."""

    path: str
    source: Path
    writable: bool = False


class Storage:
    """Files by URI. What a finished step stored is read-only and never changed again."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, uri: str) -> Path:
        """Where a URI's file or folder lies. Raises InputError for a URI of another kind."""
        if uri.startswith("file://"):
            return Path(unquote(urlsplit(uri).path))
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        names = key.removesuffix("/").split("/") if key else []
        if not uri.startswith("s3://") or not bucket or {"", ".", ".."} & {bucket, *names}:
            raise InputError(f"{uri!r} is no location that can be read here; give s3://bucket/key or a path.")
        return self.root.joinpath(bucket, *names)

    def existing(self, uri: str) -> Path:
        """As `path`, of something that is there. Raises InputError."""
        path = self.path(uri)
        if not path.exists():
            raise InputError(f"{path if uri.startswith('file://') else f'{uri} (here: {path})'} does not exist.")
        return path

    def files(self, uri: str) -> list[tuple[str, Path]]:
        """Name and path of every file whose URI begins with this one, by name. Raises InputError where nothing is.

        As S3 matches a prefix, letter by letter: `…/train` takes `…/train_old/` too. A name is what follows the prefix.
        """
        path, found = self.path(uri), list[Path]()
        for start in self._matching(uri):
            below = [Path(at) / name for at, _, names in os.walk(start, followlinks=True) for name in names]
            found += below if start.is_dir() else [start]
        return sorted((str(file)[len(str(path)) :].lstrip("/") or path.name, file) for file in found)

    def _matching(self, uri: str) -> list[Path]:
        """The files and folders that a URI begins."""
        path = self.path(uri)
        beside = [] if uri.endswith("/") or not path.parent.is_dir() else path.parent.iterdir()
        return sorted(entry for entry in beside if entry.name.startswith(path.name)) or [self.existing(uri)]

    def listed(self, uri: str) -> list[tuple[str, Path]]:
        """Key and path of the files that a manifest ("S3DataSource") lists. Raises InputError for a wrong one."""
        match self.read_json(uri):
            case [{"prefix": str(prefix)}, *keys] if prefix and set(map(type, keys)) == {str} and "" not in keys:
                name = unquote if prefix.startswith("file://") else str
                return [(name(key), self.existing(f"{prefix}{key}")) for key in keys]
        raise InputError(f'{uri} is no manifest: [{{"prefix": "s3://…/"}}, "a key", …] with at least one key.')

    def mounts(self, uri: str, folder: str, listed: bool = False) -> list[Mount]:
        """What is stored, in a folder of a container; a single file lies in it. Raises InputError where nothing is.

        What a manifest lists lies where its keys say below the folder; the service's guide leaves that open.
        """
        if listed:
            return [Mount(f"{folder}/{key}", path.resolve()) for key, path in self.listed(uri)]
        path = self.path(uri)
        if path.is_dir() and self._matching(uri) == [path]:
            return [Mount(folder, path.resolve())]
        return [Mount(f"{folder}/{name}", file.resolve()) for name, file in self.files(uri)]

    def take(self, source: Path, uri: str) -> None:
        """Move a finished file or folder to its URI in one rename; links are dropped: the service uploads none."""
        for path in [source, *source.rglob("*")]:
            if path.is_symlink():
                path.unlink()
            elif path.is_file():
                path.chmod(0o444)
        target = self.path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        source.replace(target)

    def read_json(self, uri: str) -> Any:
        """The value in a stored JSON file. Raises InputError."""
        return artifacts.read_json(self.existing(uri))

    def write_json(self, uri: str, value: object) -> None:
        write_json(self.path(uri), value)


def write_json(path: Path, value: object) -> None:
    """Write beside, then rename: a reader sees the old file or the new one, also while two processes write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


class Cache:
    """Finished steps of one pipeline, a file each; the newest of the same request counts, as in the service.

    `own` holds the steps of one execution that was interrupted, also those that are not cached.
    """

    def __init__(self, folder: Path, storage: Storage, own: bool = False) -> None:
        self.folder, self.storage, self.own = folder, storage, own

    def find(self, step: Properties, arguments: Properties) -> Properties | None:
        """What the step has given before, unless that is too old or what it stored is gone."""
        file = self._file(step, arguments)
        with suppress(OSError, ValueError, InputError):  # no entry, or a damaged one
            found: Properties = json.loads(text := file.read_text(encoding="utf-8"))
            stored = map(self.storage.path, re.findall(r'"(s3://[^"\\]*)"', text))
            young = file.stat().st_mtime + self._seconds(step) > time.time()
            return found if young and all(path.exists() for path in stored) else None
        return None

    def keep(self, step: Properties, arguments: Properties, properties: Properties) -> None:
        """The last thing that is written of a step, so that a killed run never leaves half of one."""
        if self._seconds(step):
            write_json(self._file(step, arguments), properties)

    def _seconds(self, step: Properties) -> float:
        """How long the step is reused; 0 for one that is not."""
        if self.own:
            return math.inf if step["Type"] in {*KEYS, "RegisterModel"} else 0
        caching = step.get("CacheConfig", {})
        return (caching.get("Enabled") and step["Type"] in KEYS and seconds(caching.get("ExpireAfter", ""))) or 0

    def _file(self, step: Properties, arguments: Properties) -> Path:
        request = arguments if self.own else keyed(step["Type"], arguments)
        return self.folder / f"{repository.of([step['Name'], request])}.json"


def hashed(known: Path, files: Iterable[tuple[str, Path]]) -> list[list[Any]]:
    """Name, size and hash of files; `known` keeps the hashes of unchanged ones. Raises InputError for a broken link."""
    digests, entries = dict[str, list[Any]](), list[Any]()
    with suppress(OSError, ValueError, AttributeError, TypeError):  # none yet, or a damaged file
        before = json.loads(known.read_text(encoding="utf-8")).items()
        digests = {path: [*entry] for path, entry in before if Path(path).exists()}
    for name, path in files:
        try:
            state = path.stat()
        except OSError as error:
            leads = f", a link to {path.readlink()}" if path.is_symlink() else ""
            raise InputError(f"{path}{leads}: {error.strerror}; mend or remove it.") from None
        # the change time too: a file may be replaced by one of the same size and date
        stamp, key = [state.st_size, state.st_mtime_ns, state.st_ctime_ns], str(path.absolute())
        if digests.get(key, [])[:3] != stamp:
            with path.open("rb") as handle:
                digests[key] = [*stamp, hashlib.file_digest(handle, "sha256").hexdigest()]
        entries.append([name, digests[key][0], digests[key][3]])
    write_json(known, digests)
    return entries


def run_record(file: Path) -> dict[str, Any] | None:
    """What a run says of itself in its folder's run.json; None where the file is missing or damaged."""
    with suppress(OSError, ValueError):
        record = json.loads(file.read_text(encoding="utf-8"))
        if _has(record, RUN) and all(_has(step, STEP) for step in record["steps"].values()):
            return dict(record) if record["execution"] == file.parent.name else None
    return None


def _has(value: object, kinds: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in kinds.items())


class Registry:
    """What stands for the Model Registry: packages in one file; versions count up within a group."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def packages(self) -> list[dict[str, Any]]:
        """Every registered package, oldest first."""
        try:
            packages = json.loads(self.file.read_text(encoding="utf-8"))
            if not isinstance(packages, list) or not all(_has(its, PACKAGE) for its in packages):
                raise ValueError
            return packages
        except FileNotFoundError:
            return []
        except ValueError:
            raise InputError(f"{self.file} is damaged; remove it, and models are numbered from 1 again.") from None

    def register(self, arguments: Mapping[str, Any], created: str) -> dict[str, Any]:
        """Add a package under the group's next version."""
        packages, group = self.packages(), arguments["ModelPackageGroupName"]
        version = 1 + sum(package["ModelPackageGroupName"] == group for package in packages)
        package = {
            "ModelPackageArn": f"arn:aws:sagemaker:local:000000000000:model-package/{group}/{version}",
            "ModelPackageVersion": version,
            "ModelPackageStatus": "Completed",
            "CreationTime": created,
            **arguments,
        }
        write_json(self.file, [*packages, package])
        return package


def read_release(file: Path) -> dict[str, Any] | None:
    """The manifest of a release, or None where there is none. Raises InputError for a damaged one."""
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        texts = (*(manifest["artifacts"][name] for name in ARTIFACTS), *manifest["images"].values())
        if not set(manifest) >= set(NEEDED) or not all(isinstance(text, str) for text in texts):
            raise KeyError
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{file.name} is damaged; `make models` lists what `make models USE=…` can release again, and "
            "`make train FRESH=yes` trains without a champion."
        ) from None
    return dict(manifest)


def missing_artifacts(storage: Storage, release: Mapping[str, Any], names: Iterable[str] = ARTIFACTS) -> str:
    """In words, which artifacts of a release are no longer stored here; "" where all are."""
    missing = [name for name in names if not storage.path(release["artifacts"][name]).exists()]
    return f"its {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} gone from local/" if missing else ""


def release_of(package: Mapping[str, Any], metrics: Mapping[str, float], created: str) -> dict[str, Any]:
    """The manifest that releases a model package, with everything that belongs to it."""
    about = package["CustomerMetadataProperties"]
    return {
        "version": package["ModelPackageVersion"],
        "created": created,
        "model_package": package["ModelPackageArn"],
        "images": {key.removesuffix("_image"): value for key, value in about.items() if key.endswith("_image")},
        "artifacts": {name: about[name] for name in ARTIFACTS},
        "metrics": dict(metrics),
        "data": about.get("training_data", ""),
        **{name: about.get(name, "") for name in ("contract", "git_commit")},
    }
