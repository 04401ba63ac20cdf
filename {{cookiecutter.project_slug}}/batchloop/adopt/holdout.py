"""The rows that are kept from training for the first scoring, and the files as data/adopted/ holds them."""

import csv
import gzip
import io
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.adopt.profile import Profile, text
from batchloop.adopt.source import EXCEL, row
from batchloop.container import files
from batchloop.container.job import InputError
from batchloop.container.usecase import Data
from batchloop.container.values import canonical

SHARE = 0.1  # of the rows
MOST = 0.3  # where equal times or large groups would take more, none are kept
FEWEST = 500  # labelled rows; of fewer, training needs every one
SEED = 7
NUMBER, MARK = "__number", "\ufeff"
WINDOW, PARTS = "adopted", ("train", "production")


@dataclass(frozen=True)
class Holdout:
    """The rows with one of `values` in `column`, or a tenth at random without a column; `words` say which they are."""

    column: str
    values: frozenset[str]
    words: str
    markers: Sequence[str]
    reading: Data


def choose(profile: Profile, time: str, moment: pl.Expr | None, group: str) -> Holdout | None:
    """The last rows where there is a time, whole groups where there are groups; None where too few would be left."""
    rows, reading, name = profile.label.rows, profile.table.reading, time or group
    if rows < FEWEST:
        return None
    if not name:
        return Holdout("", frozenset(), "drawn at random", (), reading)
    column = profile.columns[name]
    frame = column.table.frame.select(column.text.alias("text"))
    if moment is not None:
        both = column.table.frame.select(column.text.alias("text"), moment.alias("at")).drop_nulls()
        late = both.filter(pl.col("at") >= pl.col("at").quantile(1 - SHARE, "higher"))
        values = frozenset(late.select(pl.col("text").unique()).collect(engine="streaming")["text"])
    else:  # groups in an order of chance, as many as hold a tenth of the rows; one that is too large is passed over
        counts = dict(frame.drop_nulls().group_by("text").len().collect().iter_rows())
        held, chosen = 0, list[str]()
        for value in sorted(counts, key=lambda value: blake2b(value.encode(), digest_size=8).digest()):
            if held < SHARE * rows and held + counts[value] <= MOST * rows:
                chosen.append(value)
                held += counts[value]
        values = frozenset(chosen)
    (taken,) = row(frame, pl.col("text").is_in(list(values)).sum())
    words = f"the last by {name!r}" if time else f"of {len(values):,} {name!r}"
    return Holdout(name, values, words, column.markers, reading) if 0 < taken <= MOST * rows else None


def write(found: Sequence[Path], folder: Path, usecase: Path, contract: str, holdout: Holdout | None) -> int:
    """All or nothing: everything is written beside its place first, and only then moved. The rows kept from training.

    Raises InputError where it can't be written, a full disk for example.
    """
    partial, written, window = folder / f".{WINDOW}", usecase.with_suffix(".partial"), folder / ".window"
    fresh = not folder.exists()
    try:
        shutil.rmtree(partial, ignore_errors=True)
        names = [file.name for file in found]
        if len(set(names)) < len(names):
            names = [f"{number:03}-{name}" for number, name in enumerate(names)]
        places = [[partial / part / name for part in PARTS] for name in names]
        rows = sum(cut(file, holdout, paths) for file, paths in zip(found, places, strict=True))
        written.write_text(contract, encoding="utf-8")
        window.write_text(f"{WINDOW}\n", encoding="utf-8")
        window.replace(folder / "window")
        shutil.rmtree(folder / WINDOW, ignore_errors=True)
        partial.replace(folder / WINDOW)
        written.replace(usecase)
        return rows
    except OSError as error:
        raise InputError(f"{error.filename or folder} can't be written: {error.strerror}.") from None
    finally:
        for file in (written, *([window] if folder.is_dir() else [])):
            file.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        if fresh and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def cut(file: Path, holdout: Holdout | None, paths: Sequence[Path]) -> int:
    """Write a file's rows into two, for training and production, each read as the file is; one without a row is not
    written. Without rows to keep both are copies: a link would let a later write reach the user's own file.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not holdout:
            shutil.copyfile(file, path)
    if not holdout:
        return 0
    rows = (_cut_parquet if file.name.lower().endswith(".parquet") else _cut_text)(file, holdout, paths)
    for path, count in zip(paths, rows, strict=True):
        if not count:
            path.unlink()
    return rows[True]


def _cut_text(file: Path, holdout: Holdout, paths: Sequence[Path]) -> list[int]:
    """Record by record, as text: quotes, marks, line ends and whatever else is odd stay as they are."""
    rows, draw, place = [0, 0], random.Random(SEED), -1  # noqa: S311 - a reproducible choice, not a secret
    reading, begun = holdout.reading, False  # what comes first and holds anything are the names, or a row
    with file.open("rb") as head:
        packed = head.read(2) == files.GZIP
    written: Any = {"encoding": reading.encoding, "errors": "surrogateescape", "newline": ""}
    opened: Any = gzip.open if packed else open
    with ExitStack() as stack:
        handle: Any = stack.enter_context(files.opened(file))
        text = io.TextIOWrapper(handle, **written)
        out = [stack.enter_context(opened(path, "wt", **written)) for path in paths]
        for cells, record in _records(text, file, reading.separator):
            filled = any(cell.strip() for cell in cells)
            if filled and not begun:
                begun = True
                if holdout.column:
                    number = holdout.column.rpartition("_")[2]  # of column_3, where there are no names
                    place = cells.index(holdout.column) if reading.header else int(number) - 1
                if reading.header:
                    for part in out:
                        part.write(record)
                    continue
            listed = 0 <= place < len(cells) and canonical(cells[place].strip(), reading.decimal) in holdout.values
            chosen = filled and (draw.random() < SHARE if place < 0 else listed)
            out[chosen].write(record)
            rows[chosen] += 1
    return rows


def _records(text: io.TextIOWrapper, file: Path, separator: str) -> Iterator[tuple[list[str], str]]:
    """Cells and text of each record; a first line by which Excel names the separator belongs to the names below it."""
    first = text.readline()
    plain = first.removeprefix(MARK)  # which would keep quotes from being some
    names = [] if EXCEL.fullmatch(plain) else [plain]
    above = first.removesuffix(plain) if names else first
    lines, copies = tee(chain(names, text))
    reader, number, before = csv.reader(lines, delimiter=separator), 0, csv.field_size_limit(sys.maxsize)
    try:
        for cells in reader:
            yield cells, above + "".join(islice(copies, reader.line_num - number))
            above, number = "", reader.line_num
    except csv.Error as error:
        raise InputError(f"{file.name} can't be cut into rows: {error}.") from None
    finally:
        csv.field_size_limit(before)


def _cut_parquet(file: Path, holdout: Holdout, paths: Sequence[Path]) -> list[int]:
    frame = pl.scan_parquet(file)
    if holdout.column:
        listed = text(holdout.column, holdout.markers).is_in(list(holdout.values)).fill_null(False)
    else:
        draw = random.Random(SEED)  # noqa: S311 - a reproducible choice, not a secret
        drawn = [draw.random() < SHARE for _ in range(frame.select(pl.len()).collect().item())]
        frame, listed = frame.with_row_index(NUMBER), pl.col(NUMBER).is_in(pl.Series(drawn).arg_true().implode())
    for chosen, path in zip((~listed, listed), paths, strict=True):
        frame.filter(chosen).drop(NUMBER, strict=False).sink_parquet(path, engine="streaming")
    return [int(pl.scan_parquet(path).select(pl.len()).collect().item()) for path in paths]
