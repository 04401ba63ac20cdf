"""Rows that are kept from training, so that the first scoring is of rows the model has not seen."""

import csv
import gzip
import io
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from operations.adopt import forms, tables, times
from operations.adopt.columns import Decision
from operations.adopt.facts import Facts, Look
from runtime import files
from runtime.failures import InputError
from runtime.usecase import Data
from runtime.values import canonical

SHARE, MOST = 0.1, 0.3  # of the rows; where equal times or large groups would take more than MOST, none are kept aside
FEWEST = 500  # labelled rows; of fewer, training needs every one
SEED = 7
NUMBER, MARK = "__number", "\ufeff"
Paths = Mapping[bool, Path]  # of the rows to learn from, and of those kept aside
Counts = dict[bool, int]


@dataclass(frozen=True)
class Aside:
    """The rows with one of `values` in `column`, or a tenth at random without a column; `words` say which they are."""

    column: str
    values: frozenset[str]
    words: str
    markers: tuple[str, ...]
    reading: Data


def choose(found: dict[str, Facts], look: Look, time: Decision | None, group: str) -> Aside | None:
    """The last rows where there is a time, whole groups where there are groups; None where too few would be left."""
    rows = next(iter(found.values())).rows
    if rows < FEWEST:
        return None
    common = tuple(look.markers), look.table.reading
    if not time and not group:
        return Aside("", frozenset(), "drawn at random", *common)
    values = _latest(found, look, time) if time else _groups(found[group], look)
    name = time.name if time else group
    text = tables.text(name, found[name].kind, look.markers)
    taken = look.table.frame.select(text.is_in(list(values)).sum()).collect(engine="streaming").item()
    if not 0 < taken <= MOST * rows:
        return None
    return Aside(name, values, f"the last by {name!r}" if time else f"of {len(values):,} {name!r}", *common)


def _latest(found: dict[str, Facts], look: Look, time: Decision) -> frozenset[str]:
    column = found[time.name]
    text, moment = tables.text(column.name, column.kind, look.markers), times.moment(column, time, look)
    both = look.table.frame.select(text.alias("text"), moment.alias("at")).drop_nulls()
    late = both.filter(pl.col("at") >= pl.col("at").quantile(1 - SHARE, "higher"))
    return frozenset(late.select(pl.col("text").unique()).collect(engine="streaming")["text"])


def _groups(column: Facts, look: Look) -> frozenset[str]:
    """Groups in an order of chance, as many as hold a tenth of the rows; one that is too large is passed over."""
    text = tables.text(column.name, column.kind, look.markers).alias("text")
    counts = dict(look.table.frame.select(text).drop_nulls().group_by("text").len().collect().iter_rows())
    wanted, taken = SHARE * column.rows, 0
    chosen: set[str] = set()
    for name in sorted(counts, key=lambda name: blake2b(name.encode(), digest_size=8).digest()):
        if taken >= wanted:
            break
        if taken + counts[name] <= MOST * column.rows:
            chosen.add(name)
            taken += counts[name]
    return frozenset(chosen)


def cut(file: Path, aside: Aside, train: Path, production: Path) -> int:
    """Write a file's rows into two, each read as the file is; one without a row is not written. The rows kept aside."""
    if file.name.lower().endswith(".parquet"):
        rows = _cut_parquet(file, aside, {False: train, True: production})
    else:
        rows = _cut_text(file, aside, {False: train, True: production})
    for chosen, path in ((False, train), (True, production)):
        if not rows[chosen]:
            path.unlink()
    return rows[True]


def _cut_text(file: Path, aside: Aside, paths: Paths) -> Counts:
    """Record by record, as text: quotes, marks, line ends and whatever else is odd stay as they are."""
    rows, draw, place = {False: 0, True: 0}, random.Random(SEED), -1  # noqa: S311 - a reproducible choice, not a secret
    with ExitStack() as stack:
        text = _opened(stack.enter_context(files.opened(file)), aside)
        out = {chosen: _opened(stack.enter_context(_created(path, file)), aside) for chosen, path in paths.items()}
        begun, decimal = False, aside.reading.decimal  # what comes first and holds anything are the names, or a row
        for cells, record in _records(text, file, aside.reading.separator):
            filled = any(cell.strip() for cell in cells)
            if filled and not begun:
                begun, place = True, _place(cells, aside) if aside.column else -1
                if aside.reading.header:
                    for part in out.values():
                        part.write(record)
                    continue
            listed = 0 <= place < len(cells) and canonical(cells[place].strip(), decimal) in aside.values
            chosen = filled and (draw.random() < SHARE if place < 0 else listed)
            out[chosen].write(record)
            rows[chosen] += 1
        for part in out.values():
            part.flush()
    return rows


def _opened(handle: Any, aside: Aside) -> io.TextIOWrapper:
    return io.TextIOWrapper(handle, aside.reading.encoding, errors="surrogateescape", newline="")


def _created(path: Path, original: Path) -> Any:
    """A file to write bytes into, packed where the original is."""
    with original.open("rb") as handle:
        packed = handle.read(2) == files.GZIP
    return gzip.open(path, "wb") if packed else path.open("wb")


def _place(names: list[str], aside: Aside) -> int:
    """Where the column stands: by the names that come first, or by its number where there are none."""
    if not aside.reading.header:
        return int(aside.column.rpartition("_")[2]) - 1
    return names.index(aside.column)


def _records(text: io.TextIOWrapper, file: Path, separator: str) -> Iterator[tuple[list[str], str]]:
    """Cells and text of each record; a first line by which Excel names the separator belongs to the names below it."""
    held: list[str] = []

    def lines() -> Iterator[str]:
        for line in text:
            held.append(line)
            yield line

    first = text.readline()
    plain = first.removeprefix(MARK)  # which would keep quotes from being some
    excel = forms.EXCEL.fullmatch(plain)
    before = csv.field_size_limit(sys.maxsize)
    try:
        held.append(first)
        for cells in csv.reader(lines() if excel else chain([plain], lines()), delimiter=separator):
            yield cells, "".join(held)
            held.clear()
    except csv.Error as error:
        raise InputError(f"{file.name} can't be cut into rows: {error}.") from None
    finally:
        csv.field_size_limit(before)


def _cut_parquet(file: Path, aside: Aside, paths: Paths) -> Counts:
    frame = pl.scan_parquet(file)
    if aside.column:
        text = tables.text(aside.column, frame.collect_schema()[aside.column], aside.markers)
        listed = text.is_in(list(aside.values)).fill_null(False)
    else:
        draw = random.Random(SEED)  # noqa: S311 - a reproducible choice, not a secret
        drawn = [draw.random() < SHARE for _ in range(frame.select(pl.len()).collect().item())]
        frame, listed = frame.with_row_index(NUMBER), pl.col(NUMBER).is_in(pl.Series(drawn).arg_true().implode())
    rows = {}
    for chosen, path in paths.items():
        part = frame.filter(listed if chosen else ~listed).drop(NUMBER, strict=False)
        part.sink_parquet(path, engine="streaming")
        rows[chosen] = int(pl.scan_parquet(path).select(pl.len()).collect().item())
    return rows
