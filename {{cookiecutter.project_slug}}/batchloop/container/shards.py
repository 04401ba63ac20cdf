"""What several hosts find in their parts of a table: each writes its share, and whoever reads them adds them up."""

from collections.abc import Mapping
from typing import Any

from batchloop.container import artifacts, job
from batchloop.container.job import InputError, listed

SHARE = "share.json"


def write(name: str, found: Mapping[str, Any]) -> None:
    """This host's share, in the output of this name; it says which other hosts there are."""
    host = job.current()
    with artifacts.writing(job.processing_output(name)) as folder:
        artifacts.write_json(folder / f"{host.prefix}{SHARE}", {"host": host.name, "hosts": host.names, **found})


def read(name: str) -> list[dict[str, Any]]:
    """The share of every host, in an input of this name. Raises InputError where one is missing."""
    folder = job.processing_input(name)
    shares = [artifacts.read_json(file) for file in sorted(folder.glob(f"*{SHARE}"))]
    wanted = set(shares[0]["hosts"]) if shares else {"any host"}
    if missing := wanted - {share["host"] for share in shares}:
        raise InputError(f"{name}/ lacks the share of {listed(sorted(missing))}; run the step that counts once more.")
    return shares
