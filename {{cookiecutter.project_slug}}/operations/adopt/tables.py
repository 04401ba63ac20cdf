"""Opening a table whose form is not known yet: which files, how cells are separated, what its columns are called."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from runtime import files, raw
from runtime.failures import InputError
from runtime.usecase import Data, usable

UNREADABLE = (pl.Binary, pl.Object, pl.Duration, pl.Time)  # kinds that no column of a contract can have


@dataclass(frozen=True)
class Table:
    """The files as one lazy frame of their own types, and how CSV cells are separated."""

    frame: pl.LazyFrame
    files: tuple[Path, ...]
    separator: str


def read(path: Path) -> Table:
    """Open the files. Raises InputError for missing or damaged ones, or names that can't be used."""
    found = files.find(path)
    separator = _separator(found[0])
    frames = []
    for file in found:
        _check_header(file, separator)
        frames.append(files.scan(file, Data("", "", separator=separator)).drop(raw.ROW))
    table = Table(pl.concat(frames, how="diagonal_relaxed"), tuple(found), separator)
    for name in table.frame.collect_schema():
        _check_name(found[0], name)
    return table


def text(name: str, kind: pl.DataType, missing: Sequence[str]) -> pl.Expr:
    """A column's values as the runtime will read them: text without blanks around it, null where nothing is there."""
    if not readable(kind):
        return pl.when(pl.col(name).is_not_null()).then(pl.lit(str(kind)))
    value = raw.as_text(name, kind).str.strip_chars()
    present = ~value.is_in(list(missing))
    return pl.when(present & pl.col(name).is_finite() if kind.is_float() else present).then(value)


def readable(kind: pl.DataType) -> bool:
    """Whether a column's values can stand in a contract at all."""
    return not (kind.is_nested() or kind in UNREADABLE)


def _header(file: Path) -> str:
    if file.name.lower().endswith(".parquet") or file.stat().st_size == 0:
        return ""
    with files.opened(file) as handle:
        line = handle.readline()
    if b"\x00" in line:
        return ""  # no text at all, which opening it says better
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise InputError(f"{file.name}: line 1 is not UTF-8 text; save the file as UTF-8.") from None


def _separator(file: Path) -> str:
    """The character that cuts the header into most cells."""
    header = _header(file)
    return max(files.SEPARATORS, key=lambda separator: len(files.cells(header, separator)))


def _check_header(file: Path, separator: str) -> None:
    seen: set[str] = set()
    for name in files.cells(_header(file), separator):
        _check_name(file, name)
        if name in seen:
            raise InputError(f"{file.name} has the column {name!r} more than once; rename one of them.")
        seen.add(name)


def _check_name(file: Path, name: str) -> None:
    if not usable(name):
        raise InputError(f"{file.name}: column {name!r}: names like __… and ^…$ are taken; rename the column.")
