"""What the engine needs from whatever runs the components: plain processes, or the real containers."""

import gzip
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from batchloop.repository import Failure

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


HOST = {"current_host": "algo-1", "hosts": ["algo-1"]}


def inside(root: Path, path: str) -> Path:
    """A path of the container in the folder that stands for /opt/ml. Raises Failure for one outside."""
    parts = PurePosixPath(path).parts
    if parts[:3] != ("/", "opt", "ml") or ".." in parts:
        raise Failure(f"{path} is not below /opt/ml, so it can't be used here.")
    return root.joinpath(*parts[3:])


def write_processing(root: Path, arguments: Mapping[str, Any]) -> None:
    """The two configuration files of a processing job."""
    _write(root / "config" / "processingjobconfig.json", arguments)
    _write(root / "config" / "resourceconfig.json", HOST)


def write_training(root: Path, arguments: Mapping[str, Any]) -> None:
    """The three configuration files of a training job, and the empty folders it finds."""
    resources = {
        **HOST,
        "current_group_name": "homogeneousCluster",
        "current_instance_type": "local",
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": HOST["hosts"]}
        ],
        "network_interface_name": "lo",
    }
    _write(root / "input" / "config" / "resourceconfig.json", resources)
    _write(root / "input" / "config" / "hyperparameters.json", arguments.get("HyperParameters", {}))
    channels = {channel["ChannelName"]: _channel(channel) for channel in arguments.get("InputDataConfig", [])}
    _write(root / "input" / "config" / "inputdataconfig.json", channels)
    for folder in ("model", "output/data"):
        (root / folder).mkdir(parents=True, exist_ok=True)


def _channel(channel: Mapping[str, Any]) -> dict[str, str]:
    source = channel["DataSource"]["S3DataSource"]
    return {
        "ContentType": channel.get("ContentType", ""),
        "TrainingInputMode": channel.get("InputMode", "File"),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def pack(folder: Path, archive: Path) -> bool:
    """Write a .tar.gz whose bytes depend on names and contents only; False, and no file, for an empty folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in files:
            tar.add(file, arcname=file.relative_to(folder).as_posix(), filter=_anonymous)
    return True


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.mode, member.uid, member.gid = 0, 0o644, 0, 0
    member.uname = member.gname = ""
    return member
