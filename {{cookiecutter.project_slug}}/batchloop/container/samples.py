"""A training table in parts: what each host says of its own files, and what every host then knows of the whole.

Each keeps the rows whose draw is smallest; of all that were kept the smallest again are a uniform sample of the whole
table, the same one however the files are dealt out. The share of rows below any value differs from the table's by more
than √(ln(2/p) / 2n) with a chance of at most p (Dvoretzky, Kiefer and Wolfowitz, 1956; Massart, 1990): 0.3 % in ROWS
rows, once in a thousand times. Counts, each row's number, its part of the split and all checks are exact.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.container import artifacts, datasets, files, job, raw
from batchloop.container.job import InputError, listed
from batchloop.container.raw import FILE, PART, ROW, RawTable
from batchloop.container.usecase import Features, UseCase

ROWS, CELLS = 500_000, 16_000_000  # of a sample at most
KEY, COUNT = "__key", "len"
NAME, SHARE = "sample", "share.json"  # of the hand-over, and of what one host adds to it
COUNTS = ("rows", "empty", "broken", "unlabelled", "ungrouped")
ONE_HOST = "write count = 1 for processing in environments/*.toml"


def spread() -> tuple[str, ...]:
    """The inputs of which a host may have a part: raw files, where all know a sample of the whole."""
    return ("raw",) if job.processing_input(NAME).is_dir() else ()


def write_share(name: str, found: Mapping[str, Any]) -> None:
    """This host's share, in the output of this name; it says which other hosts there are."""
    host = job.current()
    with artifacts.writing(job.processing_output(name)) as folder:
        artifacts.write_json(folder / f"{host.prefix}{SHARE}", {"host": host.name, "hosts": host.names, **found})


def shares(name: str) -> list[dict[str, Any]]:
    """The share of every host, in an input of this name. Raises InputError where one is missing."""
    folder = job.processing_input(name)
    found = [artifacts.read_json(file) for file in sorted(folder.glob(f"*{SHARE}"))]
    wanted = set(found[0]["hosts"]) if found else {"any host"}
    if missing := wanted - {share["host"] for share in found}:
        raise InputError(f"{name}/ lacks the share of {listed(sorted(missing))}; run the step that counts once more.")
    return found


class Sample:
    """Rows with their number in their file and the draw by which they are kept; `more`: cells that pictures take."""

    def __init__(self, more: int = 0) -> None:
        self.more = more
        self.files, self.kept, self.below = Counter[str](), list[pl.DataFrame](), 1.0

    def add(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows, numbered."""
        if not len(rows):
            return rows
        every = pl.concat(self._numbered(part) for part in rows.partition_by(FILE, maintain_order=True))
        self.kept.append(every.filter(pl.col(KEY) < self.below))
        if sum(map(len, self.kept)) > 2 * _most(every, self.more):
            self.kept = [self.rows()]
            self.below = float(self.kept[0][KEY].max())  # type: ignore[arg-type]
        return every

    def rows(self) -> pl.DataFrame:
        """Those of the smallest draws."""
        every = pl.concat(self.kept, how="diagonal")
        return every.bottom_k(_most(every, self.more), by=KEY)

    def write(self) -> None:
        """Into this host's part of the hand-over, beside its share."""
        if self.kept:
            file = job.processing_output(NAME) / f"{job.current().prefix}{NAME}.parquet"
            self.rows().write_parquet(file)

    def _numbered(self, part: pl.DataFrame) -> pl.DataFrame:
        name, first = str(part[FILE][0]), self.files[part[FILE][0]]
        self.files[name] += len(part)
        number = pl.int_range(first + 1, first + 1 + len(part), dtype=pl.UInt64).alias(ROW)
        return part.with_columns(number).with_columns(datasets.draws(zlib.crc32(name.encode())).alias(KEY))


def _most(frame: pl.DataFrame, more: int) -> int:
    return max(1, min(ROWS, CELLS // max(1, frame.width + more)))


def _pictures(case: UseCase) -> int:
    return sum(column.cells - 1 for column in case.columns) // 4  # a byte each


def drawn(more: int = 0) -> pl.LazyFrame:
    """The sample of the whole table, with each row's number in its file. Raises InputError where no host has rows."""
    parts = sorted(job.processing_input(NAME).glob(f"*{NAME}.parquet"))
    if not parts:
        raise InputError("raw holds no row: each of the hosts was given none.")
    every = pl.concat([pl.scan_parquet(part, glob=False) for part in parts], how="diagonal")
    keys, most = every.select(KEY).collect()[KEY].sort(), _most(pl.DataFrame(schema=every.collect_schema()), more)
    return every.filter(pl.col(KEY) <= keys[min(most, len(keys)) - 1]).sort(FILE, ROW).collect().lazy()


def write_training(case: UseCase) -> None:
    """Of processing: a sample of this host's usable rows, and what is exact of all of them."""
    check(case)
    folder, sample, keys = job.processing_input("raw"), Sample(_pictures(case)), list[pl.DataFrame]()
    table, batches = RawTable(()), iter(list[pl.DataFrame]())
    if job.holds_files(folder):
        table, batches = raw.stream(folder, case, labelled=True)
    _check_names(file.name for file in table.files)
    for batch in batches:
        rows = sample.add(batch.filter(datasets.usable(case)))
        if (key := datasets.split_key(case)) is not None and len(rows):
            keys.append(rows.select(key).drop_nulls().group_by(pl.all()).len(COUNT))
    counts = {name: getattr(table, name) for name in (*COUNTS, "first")}
    counts |= {"values": table.values, "classes": [*table.classes], "files": sample.files}
    write_share(NAME, counts | {"warnings": raw.shared_ids(table, case)})
    sample.write()
    if keys:
        place = job.processing_output(NAME) / f"{job.current().prefix}keys.parquet"
        pl.concat(keys).group_by(pl.all().exclude(COUNT)).agg(pl.col(COUNT).sum()).write_parquet(place)


def check(case: UseCase) -> None:
    """Raises InputError for what can't be learned from parts."""
    whole_series(case, "processing")
    split, windows = case.split, datasets.windows(job.processing_input("earlier"))
    if split.group and split.method != "group":
        raise InputError(f"several hosts can't split by {split.method} and group at once: {ONE_HOST}.")
    if windows:
        raise InputError(f"several hosts learn from the newest window alone, not from earlier ones too: {ONE_HOST}.")


def whole_series(case: UseCase, component: str) -> None:
    """Raises InputError where rows are of series, which are looked at whole and may lie in several files."""
    if case.series:
        raise InputError(
            "series may lie in several files, so hosts can't share them: "
            f"write count = 1 for {component} in environments/*.toml."
        )


def _check_names(names: Iterable[str]) -> None:
    """Rows are told by their file's name. Raises InputError where two have one."""
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f"several files are called {min(twice)!r}: give each a name of its own, or {ONE_HOST}.")


@dataclass(frozen=True)
class Whole:
    """What every host knows of all files: counts, a sample of the rows with their parts, and how large it is."""

    table: RawTable
    starts: Mapping[str, int]
    sizes: Counter[str]
    rows: pl.LazyFrame
    keys: pl.LazyFrame | None
    share: float
    warnings: list[str]

    def parts(self, case: UseCase) -> dict[str, int]:
        """How many rows of the sample each part has; the owner's own validation files are not in it."""
        counts = dict(self.rows.group_by(PART).len().collect().iter_rows())
        return counts | ({"validation": 1} if case.split.method == "given" else {})

    def settings(self, features: Features) -> Features:
        """What is rare in the table is rarer in a sample of it."""
        return replace(features, rare=round(features.rare * self.share))

    def own(self, case: UseCase) -> pl.LazyFrame:
        """This host's usable rows, each in the part that it has in the whole."""
        folder = job.processing_input("raw")
        if not job.holds_files(folder):
            return self.rows.head(0)
        rows = raw.read(folder, case, labelled=True).frame.filter(datasets.usable(case))
        shifts, before = dict[str, int](), 0
        for file in files.find(folder):
            shifts[file.name], before = self.starts.get(file.name, 0) - before, before + self.sizes[file.name]
        numbered = rows.drop(ROW).with_row_index(ROW, offset=1)
        return datasets.with_parts(_shifted(numbered, shifts), case, self.keys, numbered=True)


def _shifted(rows: pl.LazyFrame, shifts: Mapping[str, int]) -> pl.LazyFrame:
    shift = pl.col(FILE).replace_strict(shifts, return_dtype=pl.Int64)
    return rows.with_columns((pl.col(ROW).cast(pl.Int64) + shift).cast(pl.UInt64))


def whole(case: UseCase) -> Whole:
    """Raises InputError where a host's share is missing, or two files have one name."""
    check(case)
    warnings = list[str]()
    table, sizes = RawTable(()), Counter[str]()
    for share in shares(NAME):
        _check_names([*sizes, *share["files"]])
        sizes.update(share["files"])
        for name in COUNTS:
            setattr(table, name, getattr(table, name) + share[name])
        table.first = min(filter(None, (table.first, share["first"])), default="")
        table.values.update(share["values"])
        table.classes.update(share["classes"])
        warnings += share["warnings"]
    names = sorted(sizes)
    starts = dict(zip(names, accumulate((sizes[name] for name in names), initial=0), strict=False))
    table.files = tuple(map(Path, names or ["raw"]))
    keys = [pl.scan_parquet(file, glob=False) for file in sorted(job.processing_input(NAME).glob("*keys.parquet"))]
    merged = pl.concat(keys).group_by(pl.all().exclude(COUNT)).agg(pl.col(COUNT).sum()) if keys else None
    rows = datasets.with_parts(_shifted(drawn(_pictures(case)).drop(KEY), starts), case, merged, numbered=True)
    size = int(rows.select(pl.len()).collect().item())
    return Whole(table, starts, sizes, rows, merged, size / max(1, sizes.total()), warnings)
