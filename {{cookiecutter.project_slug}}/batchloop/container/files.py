"""Finding and opening raw files, and saying plainly what is wrong with one."""

import atexit
import codecs
import gzip
import io
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import polars as pl
from polars.io.plugins import register_io_source

from batchloop.container import job, lines
from batchloop.container.job import InputError, listed
from batchloop.container.lines import RAGGED, ROW, Text
from batchloop.container.usecase import Data

TEXTS = (".csv", ".txt", ".tsv")
KINDS = (*TEXTS, *(f"{kind}.gz" for kind in TEXTS), ".zip", ".parquet")
PARQUET, GZIP, ZIP = b"PAR1", b"\x1f\x8b", b"PK\x03\x04"
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
SAME = {"latin-1": "cp1252", "iso8859-1": "cp1252", "utf-16": "utf-16-le"}  # as the web reads them
HEAD, BLOCK, LINE = 65536, 1 << 20, 1 << 26  # bytes
SEPARATORS = (",", ";", "\t", "|")
INDEX = "__index_level_"  # pandas' row labels, which are no column of the table
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
Frames = Iterator[pl.DataFrame]
COLUMNS_AT_ONCE = 200  # in one query: the cost of a plan grows with the square of its columns


def find(folder: Path) -> list[Path]:
    """The tables in a folder and below it, linked ones too, by name. Raises InputError for none and for a dead link."""
    # as its owner knows it: a job's input is a copy of the place that the service was told
    own = folder.name if folder.is_relative_to(job.root()) else str(folder)
    called = job.source(folder.name) or (str(folder.resolve()) if folder.is_symlink() else own)
    if not folder.exists() and not folder.is_symlink():
        raise InputError(f"{called}: no such file or folder.")
    candidates = sorted(below(folder)) if folder.is_dir() else [folder]
    for path in candidates:
        if not path.exists():
            raise InputError(f"{path.name} is a link to {os.readlink(path)}, which does not exist; mend or remove it.")
    if tables := [path for path in candidates if path.name.lower().endswith(KINDS)]:
        if odd := [path.name for path in tables if not path.is_file()]:
            raise InputError(f"{odd[0]} is a pipe or a device, and a table is read more than once: write it to a file.")
        return tables
    inside = candidates or sorted(folder.glob("[!._]*"))
    held = f"only {inside[0].name}{'/' * inside[0].is_dir()}" if inside else "nothing"
    raise InputError(f"{called} holds {held}; a table is a file that ends in {', '.join(KINDS)}.")


def below(folder: Path) -> Iterator[Path]:
    """Files in a folder and in those below; a folder that links lead to again is read once, hidden ones are not."""
    seen = {os.path.realpath(folder)}

    def unreadable(error: OSError) -> None:
        raise InputError(f"{error.filename} can't be read: {error.strerror}.")

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        inside, folders[:] = sorted(name for name in folders if name[0] not in "._"), []
        for name in inside:
            if (real := os.path.realpath(Path(parent) / name)) not in seen:
                seen.add(real)
                folders.append(name)
        yield from (Path(parent) / name for name in names if name[0] not in "._")


@dataclass(frozen=True)
class Parquet:
    """A Parquet file with ROW and its columns; `gaps` are the rows that hold nothing in any column."""

    frame: pl.LazyFrame
    names: tuple[str, ...]
    rows: int
    gaps: pl.Series


def table(file: Path, data: Data) -> Text | Parquet:
    """One file, its names read and its kind made sure of. Raises InputError."""
    try:
        return _table(file, data)
    except PermissionError as error:
        raise InputError(f"{file.name} can't be read: {error.strerror}.") from None
    except DAMAGED as error:
        raise InputError(f"{file.name} is truncated or damaged ({error}); copy it again.") from None
    except RuntimeError as error:  # a password, a method that Python does not know
        raise InputError(f"{file.name} can't be unpacked ({error}); unpack it yourself.") from None


def _table(file: Path, data: Data) -> Text | Parquet:
    if file.stat().st_size == 0:
        raise InputError(f"{file.name} is empty (0 bytes).")
    with opened(file) as packed:
        head = packed.read(HEAD)
    if file.name.lower().endswith(".parquet"):
        return _parquet(file)
    if head.startswith(PARQUET):
        raise InputError(f"{file.name} is a Parquet file with a CSV name; rename it to end in .parquet.")
    copy = _plain(file, data.encoding, head)
    with copy.open("rb") as handle:
        if b"\x00" in handle.read(HEAD):
            wanted = "a CSV file was expected (or [data] encoding names another)"
            raise InputError(f"{file.name} is not a text file; {wanted}.")
    return lines.named(Text(copy, file.name, data.separator), data.header)


def scan(file: Path, data: Data) -> pl.LazyFrame:
    """One file with `__row` (from 1) and its columns, CSV cells as text, without ragged lines. Raises InputError."""
    found = table(file, data)
    if isinstance(found, Parquet):
        whole = found.frame.filter(~pl.col(ROW).is_in(found.gaps.implode())).drop(ROW).with_row_index(ROW, offset=1)
        return whole if len(found.gaps) else found.frame
    try:
        frame = lines.rows(found, scratch).frame
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise explain(error, [file]) from None
    return frame.filter(pl.col(RAGGED).is_null()).drop(RAGGED) if RAGGED in frame.collect_schema() else frame


def scratch(prefix: str) -> Path:
    """A folder for files that are gone when the program ends, or the job."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def in_parts(parts: Sequence[Path]) -> pl.LazyFrame:
    """Arrow files of one schema, read one after another and none of them ahead: however many there are."""

    def rows(columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _: int | None) -> Frames:
        left = 2**62 if most is None else most
        for part in parts:
            some = pl.read_ipc(part, columns=columns).head(left)
            left -= len(some)
            yield some if predicate is None else some.filter(predicate)
            if not left:
                return

    return register_io_source(rows, schema=pl.read_ipc_schema(parts[0]))


def opened(file: Path) -> gzip.GzipFile | io.BufferedReader:
    """A file's bytes, unpacked where they are packed, whatever its name says. Raises InputError for several in one."""
    with file.open("rb") as handle:
        head = handle.read(4)
    if head[:2] == GZIP:
        return gzip.open(file)
    if head != ZIP:
        return file.open("rb")
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) == 1:
        inside = io.BufferedReader(cast(Any, archive.open(names[0])))  # it can readinto
        if inside.peek(4)[:4] == ZIP:
            raise InputError(f"{file.name} holds an archive again; unpack it yourself.")
        return inside
    shown = listed(names, 5) or "none"
    raise InputError(f"{file.name} holds {len(names):,} files ({shown}); a table is one: unpack it yourself.")


def _parquet(file: Path) -> Parquet:
    try:
        frame = pl.scan_parquet(file, row_index_name=ROW, row_index_offset=1, glob=False)
        frame = frame.drop([name for name in frame.collect_schema() if name.startswith(INDEX)])
        names = tuple(name for name in frame.collect_schema() if name != ROW)
        return Parquet(frame, names, frame.select(pl.len()).collect().item(), _empty_rows(frame))
    except pl.exceptions.PolarsError as error:
        why = f"{file.name} is no Parquet file, or not a whole one ({first_line(error)})"
        raise InputError(f"{why}; copy it again, or give it the name of what it is.") from None


def _empty_rows(frame: pl.LazyFrame) -> pl.Series:
    """The rows that hold nothing in any column; after the first column there are rarely any candidates left."""

    def blank(name: str, kind: pl.DataType) -> pl.Expr:
        column = pl.col(name)
        nothing = column.str.strip_chars() == "" if kind == pl.String else column.is_nan() if kind.is_float() else False
        return column.is_null() | nothing

    columns = [(name, kind) for name, kind in frame.collect_schema().items() if name != ROW]
    rows = pl.Series(dtype=pl.UInt32)
    for start in [0, *range(1, len(columns), COLUMNS_AT_ONCE)]:
        left = frame.filter(pl.col(ROW).is_in(rows.implode())) if start else frame
        some = [blank(*column) for column in columns[start : start + COLUMNS_AT_ONCE if start else 1]]
        rows = left.filter(pl.all_horizontal(some)).select(ROW).collect(engine="streaming")[ROW]
        if rows.is_empty():
            break
    return rows


def _plain(file: Path, encoding: str, head: bytes) -> Path:
    """The file itself, or a copy of it as UTF-8 without packing: neither can be read in parts."""
    mark = next((name for bom, name in MARKS.items() if head.startswith(bom)), "")
    wanted = codecs.lookup(mark or encoding).name
    with file.open("rb") as handle:
        packed = handle.read(4)
    if wanted == "utf-8" and packed[:2] != GZIP and packed != ZIP:
        return file
    copy = scratch("plain-") / "plain.csv"
    if wanted != "utf-8":
        _recode(file, copy, wanted if mark else SAME.get(wanted, wanted))
        return copy
    with opened(file) as source:
        _write(iter(partial(source.read, BLOCK), b""), copy, file.name)
    return copy


def _write(blocks: Iterable[bytes], target: Path, name: str) -> None:
    """Write what was unpacked. Raises InputError for a line that no table has, before it fills the memory."""
    begun = 0
    with target.open("wb") as copy:
        for block in blocks:
            end = max(block.rfind(b"\n"), block.rfind(b"\r"))
            begun = begun + len(block) if end < 0 else len(block) - end - 1
            if begun > LINE:
                raise InputError(f"{name} holds a line of more than {LINE:,} bytes; no row of a table has.")
            copy.write(block)


def _recode(file: Path, target: Path, encoding: str) -> None:
    """Write text as UTF-8. Raises InputError for text of another encoding, UTF-8 among them."""
    try:
        with io.TextIOWrapper(opened(file), encoding, newline="") as text:
            _write((block.encode() for block in iter(partial(text.read, BLOCK), "")), target, file.name)
    except UnicodeError as error:
        why = f"{file.name} is not {encoding} text, as [data] encoding says ({error})"
        raise InputError(f"{why}; write its own there, and save all files alike.") from None
    if encoding.startswith("utf"):
        return
    with suppress(UnicodeDecodeError), io.TextIOWrapper(opened(file), "utf-8", newline="") as text:
        ascii_only = [block.isascii() for block in iter(partial(text.read, BLOCK), "")]  # UTF-8 to its end
        if not all(ascii_only):
            why = f"{file.name} is UTF-8 text, and [data] encoding says {encoding}"
            raise InputError(f"{why}: save all files alike, and say how.")


def explain(error: Exception, files: Sequence[Path]) -> InputError:
    """What a failure while reading means, with the file and the line where they can be told."""
    text = first_line(error)
    for file in (file for file in files if "utf" in text.lower() and file.name.lower().endswith(KINDS[:-1])):
        with opened(file) as handle:
            for number, line in enumerate(handle, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    advice = "save the file as UTF-8, or name its encoding in usecase.toml [data] encoding"
                    return InputError(f"{file.name}: line {number} is not UTF-8 text; {advice}.")
    return InputError(f"{listed((file.name for file in files), 3)} can't be read: {text}")


def first_line(error: BaseException) -> str:
    """The first line of a library's message, which may go on for many."""
    return (str(error).splitlines() or [type(error).__name__])[0]
