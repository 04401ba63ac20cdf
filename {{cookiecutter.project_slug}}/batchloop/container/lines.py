"""The lines of CSV text: each counts its cells, and an empty one is no row.

Polars alone fills a short line with gaps and cuts a long one. So lines are counted first, in one streaming pass, and
rows that had another number of cells than the header say so. What a pass over lines can't tell apart (cells of several
lines, stray quotes, carriage returns as line ends) is written anew by the csv module, every cell in quotes.
"""

import csv
import io
import mmap
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl

from batchloop.container.job import InputError

ROW = "__row"  # a row's number in its file: 1 is the first row of data, empty lines don't count
RAGGED = "__ragged"  # what is wrong with the line of a row; the column is there where that is so of any
UNNAMED = "__unnamed"
BLANKS = " \t\r"
LONGEST = 1000  # lines of one cell: a quote that stays open for longer was never meant as one
EXCEL = re.compile(r"\s*sep=.\s*", re.IGNORECASE)  # a first line that tells Excel the separator
Source = Path | bytes


@dataclass(frozen=True)
class Rows:
    """`frame` has ROW, the columns (text where they were CSV) and maybe RAGGED; `empty` lines held nothing."""

    frame: pl.LazyFrame
    empty: int = 0


@dataclass(frozen=True)
class Form:
    """What the text is called in sentences, and how it is cut: `skip` lines lie before the first row."""

    name: str
    separator: str
    names: tuple[str, ...] = ()
    skip: int = 0


def read(source: Source, name: str, separator: str, header: bool = True, scratch: Path | None = None) -> Rows:
    """The rows of UTF-8 text; `scratch` is where text that must be written anew goes, in memory where there is none.

    Raises InputError for text without a line, a column that is there twice, or a last line that was cut off.
    """
    with _opened(source) as handle:
        if handle.read(2) == b"x^":  # which Polars takes for zlib's
            raise InputError(f'{name} begins with x^ like a packed file; put its first cell in quotes ("x^…").')
    form = _form(source, Form(name, separator), header)
    odd = _odd(source, form) if _has(source, b"\n") else None
    if odd is None:
        return _rewritten(source, form, scratch)
    ragged = odd.filter(~pl.col("empty"))
    _check_end(source, form, odd)
    frame = _scan(source, form, form.names, 1 if odd.is_empty() else form.skip)
    if len(ragged):
        said = [_sentence(form, line + 1, cells) for line, cells in ragged.select("line", "cells").rows()]
        reason = pl.col(ROW).replace_strict(ragged["line"], pl.Series(said), default=None, return_dtype=pl.String)
        frame = frame.with_columns(reason.alias(RAGGED))
    if len(odd):
        frame = frame.filter(~pl.col(ROW).is_in(odd.filter("empty")["line"].implode()))
        frame = frame.drop(ROW).with_row_index(ROW, offset=1)
    return Rows(_named(frame), len(odd) - len(ragged))


def check_twice(name: str, columns: Sequence[str]) -> None:
    """Raises InputError where a column is there twice: which one is meant nobody can tell."""
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise InputError(f"{name} has the column {column!r} more than once; rename one of them.")
        seen.add(column)


def _opened(source: Source) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _has(source: Source, byte: bytes) -> bool:
    if isinstance(source, bytes):
        return byte in source
    with source.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.find(byte) >= 0


def _form(source: Source, form: Form, header: bool) -> Form:
    """The form with the columns' names, from the first line that holds anything."""
    csv.field_size_limit(sys.maxsize)
    end = "\n" if _has(source, b"\n") else ""
    with _opened(source) as handle, io.TextIOWrapper(handle, "utf-8-sig", errors="replace", newline=end) as text:
        lines = (line.rstrip("\r\n").replace("\r", " ") + "\n" for line in text)
        reader = csv.reader(lines, delimiter=form.separator)
        before = 0
        for row in reader:
            if any(cell.strip() for cell in row) and not EXCEL.fullmatch(form.separator.join(row)):
                break
            before = reader.line_num
        else:
            raise InputError(f"{form.name} holds nothing but empty lines.")
        names = row if header else [f"column_{place}" for place in range(1, len(row) + 1)]
        skip = reader.line_num if header else before
    check_twice(form.name, [name for name in names if name.strip()])
    named = [
        name if name.strip() or name not in names[:place] else f"{UNNAMED}{place}" for place, name in enumerate(names)
    ]
    return Form(form.name, form.separator, tuple(named), skip)


def _odd(source: Source, form: Form) -> pl.DataFrame | None:
    """`line` (from 0), `cells` and `empty` of lines that are empty or not as long as the header.

    None where lines and rows may not be the same, or Polars could not start: the first line of data is odd.
    """
    text, width, quoted = pl.col("text"), len(form.names), _has(source, b'"')
    outside = text.str.replace_all('"[^"]*"', '"') if quoted else text  # a whole cell in quotes becomes one quote
    mark = re.escape(form.separator)
    stray = outside.str.contains(rf'[^{mark}"]"|"[^{mark}"\r]|"\r.') | (
        text.str.count_matches('"', literal=True) % 2 == 1
    )
    empty = text.str.strip_chars(f"{form.separator}{BLANKS}") == ""
    if quoted and width > 1:
        empty = text.str.contains(rf'^(?:[ \t]*(?:"[ \t]*")?[ \t]*(?:{mark}|\r?$))+$')
    found = (
        pl.scan_lines(source, name="text", row_index_name="line", glob=False)
        .slice(form.skip)
        .select(
            "line",
            (outside.str.count_matches(form.separator, literal=True) + 1).alias("cells"),
            empty.alias("empty"),
            (stray if quoted else pl.lit(False)).alias("stray"),
        )
        .filter(pl.col("empty") | pl.col("stray") | (pl.col("cells") != width))
        .collect(engine="streaming")
    )
    unclear = found["stray"].any() or (found["line"] == form.skip).any() or (width == 1 and found["empty"].any())
    return None if unclear else found


def _check_end(source: Source, form: Form, odd: pl.DataFrame) -> None:
    """A file that was cut while it was copied ends in a line with too few cells."""
    short = dict(odd.filter(~pl.col("empty") & (pl.col("cells") < len(form.names))).select("line", "cells").rows())
    if not short:
        return
    empty = set(odd.filter("empty")["line"])
    last: int = pl.scan_lines(source, glob=False).select(pl.len()).collect(engine="streaming").item() - 1
    while last in empty:
        last -= 1
    if last in short:
        raise _truncated(form, short[last])


def _truncated(form: Form, found: int) -> InputError:
    cells = f"its last line has {found} of {len(form.names)} cells"
    return InputError(f"{form.name} is truncated: {cells}; copy it again, or delete that line if it is a note.")


def _sentence(form: Form, line: int, found: int) -> str:
    if found < len(form.names):
        return f"line {line} has {found} of {len(form.names)} cells"
    return f"line {line} has {found} cells instead of {len(form.names)}; put a cell that holds a separator in quotes"


def _scan(source: Source, form: Form, names: Sequence[str], first: int) -> pl.LazyFrame:
    return pl.scan_csv(
        source,
        has_header=False,
        skip_lines=form.skip,
        separator=form.separator,
        schema=dict.fromkeys(names, pl.String),
        truncate_ragged_lines=True,
        row_index_name=ROW,
        row_index_offset=first,
        glob=False,
    )


def _named(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Without further columns that have no name: what spreadsheets add at the right."""
    return frame.drop([name for name in frame.collect_schema() if name.startswith(UNNAMED)])


def _rewritten(source: Source, form: Form, scratch: Path | None) -> Rows:
    """The rows of a copy in which a line is a row, and each says itself what was wrong with its line."""
    memory = io.BytesIO()
    target: BinaryIO = scratch.open("wb") if scratch else memory
    with _opened(source) as handle, io.TextIOWrapper(target, "utf-8", newline="") as written:
        text = io.TextIOWrapper(handle, "utf-8-sig", newline="")
        empty = _write(_records(text, form), form, written)
        written.flush()
        copy: Source = scratch or memory.getvalue()
    plain = Form(form.name, form.separator)
    frame = _scan(copy, plain, [*form.names, RAGGED], 1)
    return Rows(_named(frame.with_columns(pl.col(RAGGED).replace("", None))), empty)


def _write(records: Iterable[tuple[int, list[str], bool]], form: Form, target: io.TextIOWrapper) -> int:
    """Write a line for each record, all as wide as the header; the answer is how many held nothing."""
    writer = csv.writer(target, delimiter=form.separator, quoting=csv.QUOTE_ALL, lineterminator="\n")
    width, empty, waiting, cut = len(form.names), 0, 0, 0
    for line, found, closed in records:
        if not any(cell.strip(f"{BLANKS}\n") for cell in found) and (width > 1 or not found):
            waiting += 1
            continue
        if width == 1:  # an empty line among others is a missing value where there is one column
            writer.writerows([["", ""]] * waiting)
        else:
            empty += waiting
        said = _sentence(form, line, len(found)) if len(found) != width else ""
        said = said if closed else f"line {line} opens a quote and does not close it"
        writer.writerow([*found[:width], *[""] * (width - len(found)), said])
        waiting, cut = 0, 0 if closed and len(found) >= width else len(found)
    if cut:
        raise _truncated(form, cut)
    return empty + waiting


def _records(text: Iterable[str], form: Form) -> Iterator[tuple[int, list[str], bool]]:
    """Each record's first line (from 1), its cells, and whether its quotes are closed; the header is left out."""
    lines, ahead, number = iter(text), list[str](), 0
    while (line := ahead.pop(0) if ahead else next(lines, None)) is not None:
        number += 1
        if number <= form.skip:
            continue
        taken, found = [line], _strict([line], form.separator)
        while found is None and len(taken) < LONGEST:
            more = ahead.pop(0) if ahead else next(lines, None)
            if more is None:
                break
            taken.append(more)
            found = _strict(taken, form.separator) if '"' in more else None
        if found:
            yield number, found, True
            number += len(taken) - 1
        else:
            ahead = taken[1:] + ahead
            yield number, *_loose(line, form.separator)


def _strict(taken: Sequence[str], separator: str) -> list[str] | None:
    """A record's cells; none where its lines are no record, None where more lines could make them one."""
    try:
        return next(csv.reader(taken, delimiter=separator, strict=True), [])
    except csv.Error as error:
        return None if "unexpected end" in str(error) else []


def _loose(line: str, separator: str) -> tuple[list[str], bool]:
    """The cells of a line with stray quotes, and whether its last cell ends with it."""
    found = list(csv.reader([line, "next"], delimiter=separator))
    return next(csv.reader([line], delimiter=separator), []), len(found) == 2
