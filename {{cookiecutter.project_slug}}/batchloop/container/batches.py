"""Raw files as batches of rows, one file after another: small ones together, large ones in parts.

CSV is read in blocks of bytes, and its numbers at once. In most blocks every line is a row as wide as the header, and
what stands in a column of numbers is one. Polars says where a number is none or a line is too long, and a line that is
too short ends in a gap: then the separators are counted. Only where something is found the text itself is looked at,
and lines.py goes over the file.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl

from batchloop.container import files, lines
from batchloop.container.job import InputError, Pace, column_hint, listed
from batchloop.container.lines import RAGGED, ROW, Text
from batchloop.container.usecase import UseCase

FILE = "__file"
BLOCK, WIDE = 1 << 24, 1 << 14  # bytes of CSV: a block, and at least so many a column
CELLS, ROWS = 8_000_000, 250_000  # of Parquet, read at once
PACKED, CUT = 60_000, 32  # rows that writers pack together at least; batches with fewer are cut, so many at once
TITLES = 30  # lines among which the names may stand
PICTURES = 1 << 25  # bytes of pictures in Parquet that are read at once
BESIDE = "\0"  # between a table's folder and the path of a picture in it


def scanned(content: bytes, text: Text, numbers: Collection[str] = (), missing: Sequence[str] = ()) -> pl.DataFrame:
    """Whole lines: numbers as such, other cells as text; `missing` texts are gaps. Raises PolarsError for others."""
    schema = {name: pl.Float64 if name in numbers else pl.String for name in text.names}
    frame = pl.scan_csv(
        content, has_header=False, separator=text.separator, schema=schema, null_values=[*missing] or None, glob=False
    )
    return frame.collect()


def is_clear(frame: pl.DataFrame, content: bytes, text: Text) -> bool:
    """Whether each line is a row that holds something: False where that can't be said without a closer look."""
    if frame[text.names[-1]].null_count():
        ends = content.count(b"\n") + (not content.endswith(b"\n"))
        if content.count(text.separator.encode()) != ends * (len(text.names) - 1):
            return False
    numbers = [name for name, kind in frame.schema.items() if kind == pl.Float64]
    if any(not frame[name].null_count() for name in numbers):
        return True
    left = frame.filter(pl.all_horizontal(pl.col(numbers).is_null())) if numbers else frame
    for name in (name for name, kind in frame.schema.items() if kind == pl.String):
        if left.is_empty():
            break
        left = left.filter((pl.col(name).str.strip_chars() == "").fill_null(value=True))
    return left.is_empty()


@dataclass
class Reading:
    """The batches of some files, to be taken once; then `empty` is how many lines held nothing at all.

    `numbers` are columns of CSV that are read as such. One in which text was found is text from then on, and the texts
    that mean "no value" are looked for once one was found.
    """

    tables: Sequence[Path]
    usecase: UseCase
    labelled: bool
    numbers: set[str] = field(default_factory=set)
    empty: int = 0
    marked: bool = field(default=False, init=False)

    @property
    def pictures(self) -> list[str]:
        return [column.name for column in self.usecase.columns if column.type == "image"]

    def cells(self, columns: int) -> int:
        """What a row of so many columns takes, in cells: a picture takes as many as it has pixels."""
        return columns + sum(column.cells - 1 for column in self.usecase.columns)

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Raises InputError for a damaged file, and for one without a needed column."""
        held, size, done, pace = list[pl.DataFrame](), 0, 0, Pace()
        for number, file in enumerate(self.tables, 1):
            try:
                for batch in self._file(file):
                    size += len(batch)
                    done += len(batch)
                    pace.say("%s rows read; file %s of %s", f"{done:,}", number, len(self.tables))
                    if held and (size * self.cells(batch.width) > CELLS // 4 or batch.schema != held[0].schema):
                        yield pl.concat(held)
                        held, size = [], len(batch)
                    held.append(batch)
            except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
                raise files.explain(error, [file]) from None
        yield pl.concat(held)

    def _file(self, file: Path) -> Iterator[pl.DataFrame]:
        """Rows with their FILE, ROW and RAGGED: at least one batch, which may have none."""
        table = files.table(file, self.usecase.data)
        names = needed(table.names, file, self.usecase, self.labelled)
        done = 0
        for frame in self._csv(table, names) if isinstance(table, Text) else self._parquet(file, table, names):
            number = pl.col(ROW) if ROW in frame else pl.int_range(done + 1, done + 1 + pl.len())
            origin = pl.lit(file.name).alias(FILE), number.cast(pl.UInt32).alias(ROW)
            ragged = pl.col(RAGGED) if RAGGED in frame else pl.lit(None, dtype=pl.String)
            rows = frame.select(*names, *origin, ragged.alias(RAGGED))
            paths = [name for name in self.pictures if rows.schema.get(name) == pl.String]
            yield rows.with_columns((pl.lit(f"{file.parent}{BESIDE}") + pl.col(name)).alias(name) for name in paths)
            done += len(frame)
        if not done:
            yield pl.DataFrame(schema={**dict.fromkeys([*names, FILE, RAGGED], pl.String), ROW: pl.UInt32})

    def _csv(self, text: Text, names: list[str]) -> Iterator[pl.DataFrame]:
        """Rows in order, by blocks as long as these are clear; lines.py is asked where one is not."""
        rows = partial(lines.rows, text, files.scratch)
        whole = None if len(text.names) > 1 and text.has(b"\n") else rows()
        done, size = 0, min(max(BLOCK, WIDE * len(text.names)), 4 * BLOCK)
        size = max(1 << 14, size * len(text.names) // self.cells(len(text.names)))
        for content in () if whole else text.blocks(size):
            if whole is None and b'"' in content:
                whole = rows()
            frame = self._block(content, text) if whole is None or whole.plain else None
            if frame is None or not (whole or is_clear(frame, content, text)):
                whole = whole or rows()
                break
            yield frame
            done += len(frame)
        else:
            if not whole or done:
                return
        self.empty += whole.empty
        columns = [*names, ROW, *([RAGGED] if RAGGED in whole.frame.collect_schema() else [])]
        left = whole.frame.filter(pl.col(ROW) > done) if done else whole.frame
        size = max(1, min(ROWS, CELLS // 4 // self.cells(len(text.names))))
        yield from left.select(columns).collect_batches(chunk_size=size, maintain_order=True)

    def _block(self, content: bytes, text: Text) -> pl.DataFrame | None:
        """A block's rows; None for text that is not UTF-8 and lines that are no rows."""
        try:
            if not content.isascii():
                content.decode()
            with suppress(pl.exceptions.PolarsError):
                return scanned(content, text, self.numbers, self.usecase.data.missing if self.marked else ())
            texts = scanned(content, text)
        except (UnicodeDecodeError, pl.exceptions.PolarsError):
            return None
        for name in self.numbers & set(texts.columns):
            present = texts[name].drop_nulls()
            odd = present.filter(present.cast(pl.Float64, strict=False).is_null()).unique()
            marks = odd.is_in(self.usecase.data.missing)
            self.marked |= bool(marks.any())
            if not marks.all():
                self.numbers.discard(name)
        return texts

    def _parquet(self, file: Path, table: files.Parquet, names: list[str]) -> Iterator[pl.DataFrame]:
        """Parts of a file; the streaming engine would read ahead of whoever takes them."""
        size = max(1, min(ROWS, CELLS // self.cells(len(names) + 1)))
        if self.pictures:
            size = max(1, min(size // 4, PICTURES * table.rows // file.stat().st_size))
        self.empty += len(table.gaps)
        span = CUT * size if size < min(PACKED, table.rows) else size
        for start in range(0, table.rows, span):
            part = table.frame.select(*names, ROW).slice(start, span)
            for frame in _cut(part, min(span, table.rows - start), size) if size < span else [part.collect()]:
                yield frame.filter(~pl.col(ROW).is_in(table.gaps.implode())).drop(ROW)


def _cut(frame: pl.LazyFrame, rows: int, size: int) -> Iterator[pl.DataFrame]:
    """Rows of a wide table, `size` at once, by way of scratch: rows that a file packed together are unpacked once."""
    names, some, folder = frame.collect_schema().names(), max(1, CELLS // rows), files.scratch("columns-")
    for place in range(0, len(names), some):
        columns = frame.select(names[place : place + some]).collect()
        for start in range(0, rows, size):
            columns[start : start + size].write_ipc(folder / f"{start:09d}-{place:06d}")
    for start in range(0, rows, size):
        pieces = sorted(folder.glob(f"{start:09d}-*"))
        yield pl.concat([pl.read_ipc(piece) for piece in pieces], how="horizontal")
        for piece in pieces:
            piece.unlink()


def needed(present: Sequence[str], file: Path, usecase: UseCase, labelled: bool) -> list[str]:
    """The columns to read of a file, the time where it has one. Raises InputError for one that is missing."""
    data, split = usecase.data, usecase.split
    names = [column.name for column in usecase.columns] + [data.id]
    names += [usecase.series.id] if usecase.series else []
    if labelled:
        names += [data.label, split.group, data.time if split.method == "time" else "", *usecase.slices.columns]
    names = [name for name in dict.fromkeys(names) if name]
    missing = [name for name in names if name not in present]
    if not missing:
        return [*names, *([data.time] if data.time and data.time in present and data.time not in names else [])]
    present = [name for name in present if not name.startswith("__")]
    absent, shown = listed(map(repr, missing), 5), listed(map(repr, present), 12)
    if line := _line_of_names(file, missing, data.separator):
        where = f"line {line} looks like the names; delete what stands above it"
        raise InputError(f"{file.name} has no column {absent}: {where}.")
    hint = " The separator may be wrong (usecase.toml [data] separator)." if len(present) == 1 else ""
    raise InputError(f"{file.name} has no column {absent}; it has {shown}{column_hint(missing, present)}.{hint}")


def _line_of_names(file: Path, missing: list[str], separator: str) -> int:
    """The line below the first, of a few, that holds most of the names; 0 where none does, or they are no lines."""
    if file.name.lower().endswith(".parquet"):
        return 0
    with files.opened(file) as handle:
        for number, line in enumerate(islice(handle, TITLES), 1):
            held = {cell.strip(' "\r\n') for cell in line.decode(errors="replace").split(separator)}
            if 2 * len(held & set(missing)) > len(missing):
                return number if number > 1 else 0
    return 0


def in_order(
    items: Iterable[pl.DataFrame], work: Callable[[pl.DataFrame], pl.DataFrame], workers: int
) -> Iterator[pl.DataFrame]:
    """What `work` makes of each item, in their order; it goes on with the next ones while an answer is used."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque[Future[pl.DataFrame]]()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == workers:
                    yield waiting.popleft().result()
        except Exception:
            for future in waiting:  # what went wrong with an earlier item is said first
                future.result()
            raise
        while waiting:
            yield waiting.popleft().result()
