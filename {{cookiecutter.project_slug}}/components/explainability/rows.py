"""Which rows are explained, and reading just those: exact attributions cost about a hundred times a prediction."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from runtime import models, raw
from runtime.failures import InputError
from runtime.models import Model
from runtime.tables import matrix
from runtime.usecase import Explanation

BATCH = 50_000  # rows read at once
CHUNK = 2_000  # rows explained at once: attributions take 8 bytes × outputs × features each


@dataclass(frozen=True)
class Chosen:
    """The rows to explain, in the table's order, and how many could have been."""

    frame: pl.DataFrame
    scoreable: int


def scan(folder: Path) -> pl.LazyFrame:
    """The scoreable rows in a folder of features, numbered in `__position`. Raises InputError for an empty folder."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise InputError(f"{folder.name} holds no Parquet files of features.")
    frame = pl.scan_parquet(files)
    if raw.ERROR in frame.collect_schema():
        frame = frame.filter(pl.col(raw.ERROR).is_null()).drop(raw.ERROR)
    return frame.with_row_index("__position")


def choose(frame: pl.LazyFrame, fitted: Model, settings: Explanation) -> Chosen:
    """All rows, or as many as asked for: at random (by seed) or those with the highest scores."""
    rows = frame.select(pl.len()).collect(engine="streaming").item()
    if rows == 0:
        raise InputError("there is no row to explain: every row of the batch breaks the contract, or it is empty.")
    if settings.rows == 0 or settings.rows >= rows:
        return Chosen(frame.collect(engine="streaming"), rows)
    positions = _random(rows, settings) if settings.rule == "random" else _highest(frame, fitted, settings.rows)
    kept = frame.filter(pl.col("__position").is_in(positions.implode())).collect(engine="streaming")
    return Chosen(kept.sort("__position"), rows)


def _random(rows: int, settings: Explanation) -> pl.Series:
    drawn = np.random.default_rng(settings.seed).choice(rows, settings.rows, replace=False, shuffle=False)
    return pl.Series(np.sort(drawn), dtype=pl.get_index_type())


def _highest(frame: pl.LazyFrame, fitted: Model, count: int) -> pl.Series:
    """Positions of the rows with the highest score, the earlier row first among equals; memory does not grow."""
    best: list[tuple[float, int]] = []
    for batch in frame.collect_batches(chunk_size=BATCH, maintain_order=True):
        scores = models.predict(fitted, matrix(batch, fitted.metadata["features"]))
        strength = scores if scores.ndim == 1 else scores.max(axis=1)
        pairs = zip(strength.tolist(), (-batch["__position"].cast(pl.Int64)).to_list(), strict=True)
        best = heapq.nlargest(count, [*best, *pairs])
    return pl.Series(sorted(-position for _, position in best), dtype=pl.get_index_type())


def chunks(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The frame in parts that are small enough for their attributions."""
    yield from frame.iter_slices(CHUNK)
