"""The /opt/ml of a job: links to its inputs, the files the service writes, and what it packs afterwards.

Sources: "How Amazon SageMaker Processing Runs Your Processing Container Image" and "How Amazon SageMaker Provides
Training Information" in the SageMaker developer guide.
"""

import gzip
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from operations.failures import Failure

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
