"""The lines of CSV text: each counts its cells, and an empty one is no row.

Polars alone fills a short line with gaps and cuts a long one. So lines are counted first, in one streaming pass, and
rows that had another number of cells than the header say so. What a pass over lines can't tell apart (cells of several
lines, stray quotes, carriage returns as line ends) is written anew by the csv module, every cell in quotes.
"""

import codecs
import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import polars as pl

from batchloop.container.job import InputError

ROW = "__row"  # a row's number in its file: 1 is the first row of data, empty lines don't count
RAGGED = "__ragged"  # what is wrong with the line of a row; the column is there where that is so of any
UNNAMED = "__unnamed"
BLOCK = 1 << 20  # bytes
BLANKS = " \t\r"
LONGEST = 1000  # lines of one cell: a quote that stays open for longer was never meant as one
EXCEL = re.compile(r"\s*sep=.\s*", re.IGNORECASE)  # a first line that tells Excel the separator


@dataclass(frozen=True)
class Rows:
    """`frame` has ROW, the columns (text where they were CSV) and maybe RAGGED; `empty` lines held nothing."""

    frame: pl.LazyFrame
    empty: int = 0
    plain: bool = False  # each line of the text is a row as wide as the header


@dataclass(frozen=True)
class Text:
    """UTF-8 text, what it is called in sentences, and how it is cut: `skip` lines lie before the first row."""

    source: Path | bytes
    name: str
    separator: str
    names: tuple[str, ...] = ()
    skip: int = 0

    def opened(self) -> BinaryIO:
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")

    def has(self, byte: bytes) -> bool:
        with self.opened() as handle:
            return any(byte in block for block in iter(partial(handle.read, BLOCK), b""))

    def blocks(self, size: int) -> Iterator[bytes]:
        """The lines below the header, in blocks of about that many bytes."""
        with self.opened() as handle:
            for _ in range(self.skip):
                handle.readline()
            if not self.skip and handle.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                handle.seek(0)
            while block := handle.read(size):
                yield block + handle.readline()

    def ragged(self, line: int, cells: int) -> str:
        """What is wrong with a line of too few or too many cells, "" where it has as many as the header."""
        width = len(self.names)
        if cells <= width:
            return f"line {line} has {cells} of {width} cells" if cells < width else ""
        return f"line {line} has {cells} cells instead of {width}; put a cell that holds a separator in quotes"

    def truncated(self, cells: int) -> InputError:
        """A file that was cut while it was copied ends in a line with too few cells."""
        last = f"its last line has {cells} of {len(self.names)} cells"
        return InputError(f"{self.name} is truncated: {last}; copy it again, or delete that line if it is a note.")

    def scan(self, names: Sequence[str], first: int = 1) -> pl.LazyFrame:
        frame = pl.scan_csv(
            self.source,
            has_header=False,
            skip_lines=self.skip,
            separator=self.separator,
            schema=dict.fromkeys(names, pl.String),
            truncate_ragged_lines=True,
            row_index_name=ROW,
            row_index_offset=first,
            glob=False,
        )
        return frame.drop([name for name in names if name.startswith(UNNAMED)])  # what spreadsheets add at the right


def rows(text: Text, scratch: Callable[[str], Path] | None = None) -> Rows:
    """The rows of UTF-8 text; odd text is rewritten in a folder of `scratch`. Raises InputError for a cut last line."""
    odd = _odd_lines(text) if text.has(b"\n") else None
    if odd is None:
        return _rewritten(text, scratch)
    empty, ragged = odd.filter("empty")["line"], odd.filter(~pl.col("empty")).select("line", "cells")
    for cut, cells in ragged.filter(pl.col("cells") < len(text.names)).tail(1).rows():
        last: int = pl.scan_lines(text.source, glob=False).select(pl.len()).collect(engine="streaming").item() - 1
        if last - cut == (empty > cut).sum():  # nothing but empty lines follows
            raise text.truncated(cells)
    frame = text.scan(text.names, 1 if odd.is_empty() else text.skip)
    if len(ragged):
        reasons = pl.Series([text.ragged(line + 1, cells) for line, cells in ragged.rows()])
        reason = pl.col(ROW).replace_strict(ragged["line"], reasons, default=None, return_dtype=pl.String)
        frame = frame.with_columns(reason.alias(RAGGED))
    if len(odd):
        frame = frame.filter(~pl.col(ROW).is_in(empty.implode())).drop(ROW).with_row_index(ROW, offset=1)
    return Rows(frame, len(empty), plain=odd.is_empty())


def check_twice(name: str, columns: Sequence[str]) -> None:
    """Raises InputError where a column is there twice: which one is meant nobody can tell."""
    for position, column in enumerate(columns if len(set(columns)) < len(columns) else ()):
        if column in columns[:position]:
            raise InputError(f"{name} has the column {column!r} more than once; rename one of them.")


def named(text: Text, header: bool = True) -> Text:
    """The text with its columns' names, its first line with any. Raises InputError for none, and for twins."""
    csv.field_size_limit(sys.maxsize)
    end = "\n" if text.has(b"\n") else ""
    with text.opened() as handle, io.TextIOWrapper(handle, "utf-8-sig", errors="replace", newline=end) as opened:
        if handle.read(2) == b"x^":  # which Polars takes for zlib's
            raise InputError(f'{text.name} begins with x^ like a packed file; put its first cell in quotes ("x^…").')
        handle.seek(0)
        lines = (line.rstrip("\r\n").replace("\r", " ") + "\n" for line in opened)
        reader, before = csv.reader(lines, delimiter=text.separator), 0
        for row in reader:
            if any(cell.strip() for cell in row) and not EXCEL.fullmatch(text.separator.join(row)):
                break
            before = reader.line_num
        else:
            raise InputError(f"{text.name} holds nothing but empty lines.")
        skip = reader.line_num if header else before
    names = row if header else [f"column_{position}" for position in range(1, len(row) + 1)]
    check_twice(text.name, [name for name in names if name.strip()])
    unnamed = {position for position, name in enumerate(names) if not name.strip() and name in names[:position]}
    named = (f"{UNNAMED}{position}" if position in unnamed else name for position, name in enumerate(names))
    return replace(text, names=tuple(named), skip=skip)


def _odd_lines(text: Text) -> pl.DataFrame | None:
    """`line` (from 0), `cells` and `empty` of lines that are empty or not as long as the header.

    None where lines and rows may not be the same, or Polars could not start: the first line of data is odd.
    """
    line, width, quoted = pl.col("text"), len(text.names), text.has(b'"')
    mark = re.escape(text.separator)
    outside, stray = line, pl.lit(False)
    empty = line.str.strip_chars(f"{text.separator}{BLANKS}") == ""
    if quoted:
        outside = line.str.replace_all('"[^"]*"', '"')  # a whole cell in quotes becomes one quote
        stray = outside.str.contains(rf'[^{mark}"]"|"[^{mark}"\r]|"\r.')
        stray |= line.str.count_matches('"', literal=True) % 2 == 1
    if quoted and width > 1:
        empty = line.str.contains(rf'^(?:[ \t]*(?:"[ \t]*")?[ \t]*(?:{mark}|\r?$))+$')
    cells = outside.str.count_matches(text.separator, literal=True) + 1
    lines = pl.scan_lines(text.source, name="text", row_index_name="line", glob=False).slice(text.skip)
    looked_at = lines.select("line", cells.alias("cells"), empty.alias("empty"), stray.alias("stray"))
    odd = looked_at.filter(pl.col("empty") | pl.col("stray") | (pl.col("cells") != width)).collect(engine="streaming")
    unclear = odd["stray"].any() or (odd["line"] == text.skip).any() or (width == 1 and odd["empty"].any())
    return None if unclear else odd


def _rewritten(text: Text, scratch: Callable[[str], Path] | None) -> Rows:
    """The rows of a copy in which a line is a row, all as wide as the header, and each says what was wrong with it."""
    width, empty, waiting, cut, memory = len(text.names), 0, 0, 0, io.BytesIO()
    written = scratch("lines-") / "lines.csv" if scratch else None
    with io.TextIOWrapper(written.open("wb") if written else memory, "utf-8", newline="") as target:
        writer = csv.writer(target, delimiter=text.separator, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for line, cells, closed in _records(text):
            if not any(cell.strip(f"{BLANKS}\n") for cell in cells) and (width > 1 or not cells):
                waiting += 1
                continue
            if width == 1:  # an empty line among others is a missing value where there is one column
                writer.writerows([["", ""]] * waiting)
            else:
                empty += waiting
            reason = text.ragged(line, len(cells)) if closed else f"line {line} opens a quote and does not close it"
            writer.writerow([*cells[:width], *[""] * (width - len(cells)), reason])
            waiting, cut = 0, 0 if closed and len(cells) >= width else len(cells)
        target.flush()
        copy = Text(written or memory.getvalue(), text.name, text.separator)
    if cut:
        raise text.truncated(cut)
    frame = copy.scan([*text.names, RAGGED])
    return Rows(frame.with_columns(pl.col(RAGGED).replace("", None)), empty + waiting)


def _records(text: Text) -> Iterator[tuple[int, list[str], bool]]:
    """Each record's first line (from 1), its cells, and whether its quotes are closed; the header is left out."""
    with text.opened() as handle, io.TextIOWrapper(handle, "utf-8-sig", newline="") as lines:
        ahead, number = list[str](), 0
        while (line := ahead.pop(0) if ahead else next(lines, None)) is not None:
            number += 1
            if number <= text.skip:
                continue
            taken, cells = [line], _strict([line], text.separator)
            while cells is None and len(taken) < LONGEST:
                more = ahead.pop(0) if ahead else next(lines, None)
                if more is None:
                    break
                taken.append(more)
                cells = _strict(taken, text.separator) if '"' in more else None
            if cells:
                yield number, cells, True
                number += len(taken) - 1
            else:  # stray quotes: the line as it is, closed where another line stays one of its own
                ahead = taken[1:] + ahead
                cells = next(csv.reader([line], delimiter=text.separator), [])
                yield number, cells, len(list(csv.reader([line, "next"], delimiter=text.separator))) == 2


def _strict(lines: Sequence[str], separator: str) -> list[str] | None:
    """A record's cells; none where its lines are no record, None where more lines could make them one."""
    try:
        return next(csv.reader(lines, delimiter=separator, strict=True), [])
    except csv.Error as error:
        return None if "unexpected end" in str(error) else []
