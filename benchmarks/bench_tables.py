"""Seeded tables: numbers, categories, 5 % missing, an id, and a label that some of the columns say much of.

`python bench_tables.py TARGET [--rows 1000000] [--numbers 20] …`, run by the rendered repository's components
environment: TARGET is a .parquet or .csv file, or with --files a folder of them (their kind given by --kind).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

AT_ONCE = 28_000_000  # cells in memory: a larger table is written in parts and put together
MISSING = 0.05
LEVELS = (2, 4, 8, 20, 50, 100, 300, 1000)  # values of the first categories, and so on from the first again


@dataclass(frozen=True)
class Shape:
    """What a table is like; `levels` 0 is LEVELS."""

    rows: int
    numbers: int = 20
    categories: int = 8
    levels: int = 0
    label: bool = True
    identity: bool = True


def names(shape: Shape) -> list[str]:
    """The columns that a model looks at."""
    return [f"n{number}" for number in range(shape.numbers)] + [f"c{number}" for number in range(shape.categories)]


def frame(shape: Shape, seed: int, first: int = 0) -> pl.DataFrame:
    """Rows numbered from `first`."""
    random, rows = np.random.default_rng([seed, first]), shape.rows
    columns: dict[str, pl.Series] = {}
    if shape.identity:
        numbers = pl.int_range(first, first + rows, eager=True)
        columns["id"] = ("R" + numbers.cast(pl.String).str.zfill(9)).alias("id")
    signal = random.normal(0, 1, rows)
    for number in range(shape.numbers):
        values = random.normal(0, 1, rows)
        signal += values * (0.8 if number < 4 else 0.05 if number < 12 else 0.0)
        values = np.exp(values) if number % 3 == 0 else values * 10 ** (number % 4) + 50
        column = pl.Series(values.round(4))
        columns[f"n{number}"] = column.set(pl.Series(random.random(rows) < MISSING), None)
    for number in range(shape.categories):
        levels = shape.levels or LEVELS[number % len(LEVELS)]
        codes = np.minimum(
            random.exponential(levels / 4, rows) if not shape.levels else random.integers(0, levels, rows), levels - 1
        )
        codes = codes.astype(np.uint32)
        signal += 0.3 * (codes % 3) * (number < 3)
        words = pl.Series([f"c{number} {level}" for level in range(levels)])
        columns[f"c{number}"] = words.gather(codes).set(pl.Series(random.random(rows) < MISSING), None)
    if shape.label:
        columns["label"] = pl.Series(np.where(signal > 1.5, "yes", "no"))
    return pl.DataFrame(columns)


def write(table: pl.DataFrame, file: Path) -> None:
    """By its name as CSV or Parquet."""
    if file.suffix == ".csv":
        table.write_csv(file)
    else:
        table.write_parquet(file)


def one(shape: Shape, seed: int, file: Path) -> None:
    """One file, however many rows it has."""
    part = max(1, AT_ONCE // max(1, shape.numbers + shape.categories))
    if shape.rows <= part:
        write(frame(shape, seed), file)
        return
    parts = []
    for first in range(0, shape.rows, part):
        parts.append(file.with_name(f".{first:012d}.parquet"))
        some = Shape(min(part, shape.rows - first), *list(vars(shape).values())[1:])
        frame(some, seed, first).write_parquet(parts[-1], compression="lz4")
    whole = pl.scan_parquet(parts)
    whole.sink_csv(file) if file.suffix == ".csv" else whole.sink_parquet(file)
    for path in parts:
        path.unlink()


def many(shape: Shape, seed: int, folder: Path, files: int, kind: str) -> None:
    """The same rows in so many files."""
    whole = frame(shape, seed)
    for number in range(files):
        start, end = number * shape.rows // files, (number + 1) * shape.rows // files
        write(whole[start:end], folder / f"part-{number:05d}.{kind}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", type=Path)
    for name, usual in {"rows": 1_000_000, "numbers": 20, "categories": 8, "levels": 0, "seed": 7, "files": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--kind", default="parquet")
    parser.add_argument("--no-label", action="store_true")
    parser.add_argument("--no-id", action="store_true")
    given = parser.parse_args()
    shape = Shape(given.rows, given.numbers, given.categories, given.levels, not given.no_label, not given.no_id)
    if given.files:
        given.target.mkdir(parents=True, exist_ok=True)
        many(shape, given.seed, given.target, given.files, given.kind)
    else:
        given.target.parent.mkdir(parents=True, exist_ok=True)
        one(shape, given.seed, given.target)


if __name__ == "__main__":
    main()
