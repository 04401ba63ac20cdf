"""Which row goes into which part: a number from 0 to 1 a row, and the borders between the parts."""

import polars as pl

from runtime import raw
from runtime.failures import InputError
from runtime.usecase import UseCase

PARTS = ("train", "validation", "test")
PART = "__part"
MASK, GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15


def assigned(frame: pl.LazyFrame, usecase: UseCase) -> pl.LazyFrame:
    """The frame with `__part`: train, validation or test. Raises InputError where a split by time isn't possible."""
    split = usecase.split
    if split.method == "time":
        return frame.with_columns(_by_time(frame, usecase))
    validation = 0.0 if split.method == "given" else split.validation
    draw = draws(split.seed)
    part = pl.when(draw < split.test).then(pl.lit("test")).when(draw < split.test + validation)
    return frame.with_columns(part.then(pl.lit("validation")).otherwise(pl.lit("train")).alias(PART))


def draws(seed: int) -> pl.Expr:
    """A reproducible number in [0, 1) for each row, from the seed and the row's place in its file.

    SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014): the same on every
    machine and version, which a library's own hash does not promise. UInt64 arithmetic wraps, as the method needs.
    """
    start = (seed * GOLDEN) & MASK
    state = pl.col(raw.ROW).cast(pl.UInt64) * _u64(GOLDEN) + _u64(start)
    state = (state ^ (state // _u64(2**30))) * _u64(0xBF58476D1CE4E5B9)
    state = (state ^ (state // _u64(2**27))) * _u64(0x94D049BB133111EB)
    return (state ^ (state // _u64(2**31))).cast(pl.Float64) / 2.0**64


def _u64(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)


def _by_time(frame: pl.LazyFrame, usecase: UseCase) -> pl.Expr:
    """The latest rows are test, those before them validation; equal times stay together."""
    time, split = usecase.data.time, usecase.split
    shares = (1 - split.test - split.validation, 1 - split.test)
    borders = frame.select(pl.col(time).quantile(share, "higher").alias(str(share)) for share in shares).collect(
        engine="streaming"
    )
    first, second = borders.row(0)
    if first is None or first == second:
        raise InputError(f'column {time!r} does not spread enough to split by time; use [split] method = "random".')
    part = pl.when(pl.col(time) >= second).then(pl.lit("test")).when(pl.col(time) >= first)
    return part.then(pl.lit("validation")).otherwise(pl.lit("train")).alias(PART)
