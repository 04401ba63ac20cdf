"""What several hosts find in their parts of a table: each writes its share, and whoever reads all of them adds them up.

Counts add up exactly. Sums of numbers do but for their last digits, as they do for other batches of one host.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from batchloop.container import artifacts, job, profile
from batchloop.container.job import InputError, listed
from batchloop.container.profile import Counted, Tally
from batchloop.container.protocols import Bins
from batchloop.container.usecase import UseCase

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


def write_tally(
    name: str, case: UseCase, bins: Sequence[Bins], seen: Callable[[pl.DataFrame], object] = lambda batch: None
) -> None:
    """What is counted of this host's raw files, of which there may be none; `seen` is shown each batch of them."""
    folder = job.processing_input("raw")

    def batches() -> Iterator[pl.DataFrame]:
        for batch in profile.table(folder, case)() if job.holds_files(folder) else ():
            seen(batch)
            yield batch

    rows, counted = profile.count(batches, bins)
    columns = {
        name: {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(one).items()}
        for name, one in counted.items()
    }
    write(name, {"rows": rows, "columns": columns})


def tally(name: str) -> Tally:
    """All hosts' counts together. Raises InputError."""
    total, counted = 0, dict[str, Counted]()
    for share in read(name):
        total += share["rows"]
        for column, its in share["columns"].items():
            arrays = {key: np.asarray(its[key], float) for key in ("counts", "sums", "held")}
            one = Counted(**its | arrays)
            counted[column] = counted[column].merge(one) if column in counted else one
    return total, counted
