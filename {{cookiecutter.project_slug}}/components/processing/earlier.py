"""Earlier windows beside the newest one: their rows join the training part, and never those that judge the model."""

from pathlib import Path

import polars as pl

from processing import checks, split
from runtime import files, raw
from runtime.failures import InputError
from runtime.usecase import UseCase

PART = "train"  # a window's labelled rows lie in data/<window>/train/


def windows(folder: Path) -> dict[str, Path]:
    """Each window's name and folder below an input, by name; none in an empty one.

    The service's guide leaves open how much of a key stands before <window>/train/, so it may be anything.
    """
    names = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] not in "._"]
    tables = [path for path in names if path.name.lower().endswith(files.KINDS)]
    found: dict[str, Path] = {}
    for table in tables:
        place = next((parent for parent in table.parents if parent.name == PART), table.parent)
        found[place.parent.name if place.name == PART else place.name] = place
    return found


def check(table: raw.RawTable, case: UseCase, counts: checks.Counts) -> None:
    """What an earlier window must hold: rows that keep the contract, and labels. Raises InputError."""
    checks.check(table, case, counts)
    if counts.rows == counts.unlabelled + counts.broken:
        raise InputError(f"no usable row of {counts.rows:,} has a label.")


def held_out(newest: pl.LazyFrame, case: UseCase) -> pl.DataFrame:
    """Whom the newest window's validation and test rows are of: id and group, where the contract names them."""
    names = [name for name in (case.data.id, raw.GROUP) if name and name in newest.collect_schema()]
    rows = newest.filter(pl.col(split.PART) != "train")
    return rows.select(names).unique().collect(engine="streaming")


def unseen(rows: pl.LazyFrame, held: pl.DataFrame) -> pl.LazyFrame:
    """The rows of nobody in `held`: the model must not know those it is judged by."""
    for name in held.columns:
        rows = rows.join(held.lazy().select(name), on=name, how="anti", maintain_order="left")
    return rows
