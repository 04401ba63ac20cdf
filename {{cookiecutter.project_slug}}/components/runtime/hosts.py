"""How a job is spread over hosts: which of them this is, and whether its inputs were shared out.

Sources: "How Amazon SageMaker Processing Configures Input and Output For Your Processing Container" and "How Amazon
SageMaker Provides Training Information" in the SageMaker developer guide.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import paths
from runtime.failures import InputError

log = logging.getLogger(__name__)
SHARDED = "ShardedByS3Key"


@dataclass(frozen=True)
class Hosts:
    """This host's name, all names, and the inputs of which this host has only its part."""

    name: str = ""
    names: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        return len(self.names) > 1

    @property
    def prefix(self) -> str:
        """What keeps this host's files apart from the others', which are stored in the same place."""
        return f"{self.name}-" if self.several else ""


def current() -> Hosts:
    """What the service wrote for this job; a job without those files is alone."""
    config = paths.root() / "config"
    training = paths.root() / "input" / "config"
    resources = _read(config / "resourceconfig.json") or _read(training / "resourceconfig.json")
    inputs = _read(config / "processingjobconfig.json").get("ProcessingInputs") or []
    sources = {item.get("InputName", "?"): item.get("S3Input") or {} for item in inputs}
    shards = [name for name, source in sources.items() if source.get("S3DataDistributionType") == SHARDED]
    channels = _read(training / "inputdataconfig.json")
    shards += [name for name, channel in channels.items() if channel.get("S3DistributionType") == SHARDED]
    return Hosts(resources.get("current_host", ""), tuple(resources.get("hosts", ())), tuple(shards))


def source(name: str) -> str:
    """The place that a processing job's input of this name was copied from; "" where nobody says."""
    inputs = _read(paths.root() / "config" / "processingjobconfig.json").get("ProcessingInputs") or []
    places = {item.get("InputName"): (item.get("S3Input") or {}).get("S3Uri", "") for item in inputs}
    return str(places.get(name, "")).removeprefix("file://")


def has_work(mode: str) -> bool:
    """Whether this host does the job, for a mode that needs everything at once: the first one alone does.

    Raises InputError where no host has everything.
    """
    hosts = current()
    if hosts.several and hosts.shards:
        raise InputError(
            f"{mode} needs all of {', '.join(hosts.shards)} on one host, but the {len(hosts.names)} hosts were each "
            "given a part; use one instance, or FullyReplicated inputs."
        )
    if hosts.several and hosts.name != min(hosts.names):
        log.info("%s of %s hosts has nothing to do: %s is not spread", hosts.name, len(hosts.names), mode)
        return False
    return True


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
