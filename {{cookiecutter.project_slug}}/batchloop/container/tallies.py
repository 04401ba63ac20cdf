"""What monitoring counts where several hosts have parts of a table, and the baseline that it learns from them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from batchloop.container import appearance, files, job, measured, profile, samples
from batchloop.container.job import InputError
from batchloop.container.profile import Counted, Tally
from batchloop.container.protocols import Bins
from batchloop.container.samples import NAME, Sample
from batchloop.container.usecase import UseCase

EXACT = ("missing", "invalid", "low", "high", "mean", "deviation")  # of a column of the baseline


def write_tally(
    name: str, case: UseCase, bins: Sequence[Bins], seen: Callable[[pl.DataFrame], object] = lambda batch: None
) -> None:
    """What is counted of this host's raw files, of which there may be none; `seen` is shown each batch of them."""
    folder = job.processing_input("raw")
    samples.whole_series(case, "monitoring")

    def batches() -> Iterator[pl.DataFrame]:
        for batch in profile.intact(folder, case)() if job.holds_files(folder) else ():
            seen(batch)
            yield batch

    rows, counted = profile.count(batches, bins)
    columns = {
        name: {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(one).items()}
        for name, one in counted.items()
    }
    pictures = appearance.examples(folder, measured.seen(case)) if job.holds_files(folder) else {}
    samples.write_share(name, {"rows": rows, "columns": columns, "examples": pictures})


def tally(name: str) -> Tally:
    """All hosts' counts together. Raises InputError."""
    total, counted = 0, dict[str, Counted]()
    for share in samples.shares(name):
        total += share["rows"]
        for column, its in share["columns"].items():
            arrays = {key: np.asarray(its[key], float) for key in ("counts", "sums", "held")}
            one = Counted(**its | arrays)
            counted[column] = counted[column].merge(one) if column in counted else one
    return total, counted


def examples(name: str, case: UseCase) -> dict[str, Any]:
    """appearance.examples of the raw files; where hosts had parts of them, the first host's that has any."""
    if job.holds_files(folder := job.processing_input("raw")):
        return appearance.examples(folder, measured.seen(case))
    return next((found for share in samples.shares(name) if (found := share["examples"])), {})


def write_baseline(case: UseCase) -> None:
    """Of monitoring: this host's rows counted without bins, and a sample to draw the bins from."""
    sample = Sample()
    write_tally(NAME, case, _unbinned(case), sample.add)
    sample.write()


def _unbinned(case: UseCase) -> list[Bins]:
    return [
        {"name": name, "kind": kind, "edges" if kind in ("number", "date") else "values": []}
        for name, kind in measured.kinds(case.sources()).items()
    ]


def baseline(case: UseCase) -> tuple[int, list[dict[str, Any]]]:
    """As profile.learned, of raw; from a sample come bins, and what is counted in them. Raises InputError."""
    kinds, folder, sampled = measured.kinds(case.sources()), job.processing_input("raw"), bool(samples.spread())
    table = samples.drawn() if sampled else profile.table(folder, case, again=True)
    total, columns = profile.learned(table, kinds, case.drift.bins)
    if total == 0:
        raise InputError(f"{files.find(folder)[0].name} holds a header and no rows.")
    if not sampled:
        return total, columns
    total, counted = tally(NAME)
    exact = [profile.described(column, counted[column["name"]], total) for column in _unbinned(case)]
    return total, [
        column | {key: of_all[key] for key in EXACT if key in of_all}
        for column, of_all in zip(columns, exact, strict=True)
    ]
