"""Finding and opening raw files, and saying plainly what is wrong with one."""

import atexit
import csv
import gzip
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from runtime.failures import InputError, listed

KINDS = (".csv", ".csv.gz", ".parquet")
PARQUET, GZIP = b"PAR1", b"\x1f\x8b"
TAIL = 65536
SEPARATORS = (",", ";", "\t", "|")


def find(folder: Path) -> list[Path]:
    """The tables in a folder, by name. Raises InputError where there is none."""
    if not folder.exists():
        raise InputError(f"{folder.name}: no such file or folder.")
    candidates = (
        [folder]
        if folder.is_file()
        else sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] not in "._")
    )
    found = [path for path in candidates if path.name.lower().endswith(KINDS)]
    if not found:
        held = f"only {candidates[0].name}" if candidates else "nothing"
        raise InputError(f"{folder.name} holds {held}; a table is a file that ends in {', '.join(KINDS)}.")
    return found


def scan(file: Path, separator: str) -> pl.LazyFrame:
    """A lazy frame of one file with `__row` (1 is the first row of data); CSV cells stay text. Raises InputError."""
    if file.stat().st_size == 0:
        raise InputError(f"{file.name} is empty (0 bytes).")
    with file.open("rb") as handle:
        head = handle.read(4)
    if file.name.lower().endswith(".parquet"):
        return _parquet(file, head)
    if head == PARQUET:
        raise InputError(f"{file.name} is a Parquet file with a CSV name; rename it to end in .parquet.")
    return _csv(_decompressed(file) if head[:2] == GZIP else file, file.name, separator)


def _parquet(file: Path, head: bytes) -> pl.LazyFrame:
    with file.open("rb") as handle:
        handle.seek(-min(4, file.stat().st_size), os.SEEK_END)
        tail = handle.read()
    if head != PARQUET:
        raise InputError(f"{file.name} is not a Parquet file, whatever its name says.")
    if tail != PARQUET:
        raise InputError(f"{file.name} is truncated: its end is missing; copy it again.")
    try:
        frame = pl.scan_parquet(file, row_index_name="__row", row_index_offset=1)
        frame.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{file.name} can't be read as Parquet: {_first_line(error)}") from None
    return frame


def _decompressed(file: Path) -> Path:
    """An unpacked copy in the temporary folder: gzip can't be read in parts, and its checksum is checked on the way."""
    scratch = Path(tempfile.mkdtemp(prefix="raw-")) / file.name.removesuffix(".gz")
    atexit.register(shutil.rmtree, scratch.parent, ignore_errors=True)
    try:
        with gzip.open(file) as packed, scratch.open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{file.name} is truncated or damaged ({error}); copy it again.") from None
    return scratch


def _csv(file: Path, name: str, separator: str) -> pl.LazyFrame:
    with file.open("rb") as handle:
        head = handle.read(TAIL)
    if b"\x00" in head:
        raise InputError(f"{name} is not a text file; a CSV file was expected.")
    try:
        frame = pl.scan_csv(file, separator=separator, infer_schema=False, row_index_name="__row", row_index_offset=1)
        names = [column for column in frame.collect_schema() if column != "__row"]
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{name} can't be read as CSV: {_first_line(error)}") from None
    _check_last_line(file, name, separator, len(names))
    return frame


def _check_last_line(file: Path, name: str, separator: str, width: int) -> None:
    """A file that was cut while it was copied ends in a line with too few cells."""
    with file.open("rb") as handle:
        handle.seek(max(0, file.stat().st_size - TAIL))
        tail = handle.read().decode("utf-8", errors="replace").rstrip("\r\n")
    line = tail.rpartition("\n")[2]
    if not line or line.count('"') % 2:
        return
    found = len(cells(line, separator))
    if 0 < found < width:
        raise InputError(f"{name} is truncated: its last line has {found} of {width} cells; copy it again.")


def cells(line: str, separator: str) -> list[str]:
    """The cells of one line of CSV; none where it can't be cut."""
    try:
        return next(csv.reader(io.StringIO(line, newline=""), delimiter=separator), [])
    except csv.Error:
        return []


def explain(error: Exception, files: Sequence[Path]) -> InputError:
    """What a failure while reading means, with the file and the line where they can be told."""
    text = _first_line(error)
    for file in (file for file in files if ".csv" in file.name.lower()):
        if "utf" in text.lower() and (line := _bad_line(file)):
            return InputError(f"{file.name}: line {line} is not UTF-8 text; save the file as UTF-8.")
        if "more fields" in text and (line := _long_line(file)):
            return InputError(
                f"{file.name}: line {line} has more cells than the header; put cells that hold a separator in quotes."
            )
    return InputError(f"{listed((file.name for file in files), 3)} can't be read: {text}")


def opened(file: Path) -> gzip.GzipFile | io.BufferedReader:
    """A file's bytes, unpacked where they are packed, whatever its name says."""
    with file.open("rb") as handle:
        packed = handle.read(2) == GZIP
    return gzip.open(file) if packed else file.open("rb")


def _bad_line(file: Path) -> int | None:
    with opened(file) as handle:
        for number, line in enumerate(handle, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return None


def _long_line(file: Path) -> int | None:
    with opened(file) as handle:
        text = io.TextIOWrapper(handle, "utf-8", errors="replace", newline="")
        separator = max(SEPARATORS, key=text.readline().count)
        text.seek(0)
        reader = csv.reader(text, delimiter=separator)
        width = len(next(reader))
        return next((reader.line_num for row in reader if len(row) > width), None)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
