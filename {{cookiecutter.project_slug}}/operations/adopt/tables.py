"""Opening a table whose form is not known yet: which files, how cells are separated, what its columns are called."""

import atexit
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from operations.adopt import forms
from operations.adopt.wishes import Wishes
from runtime import files, raw
from runtime.failures import InputError
from runtime.usecase import Data, usable

UNREADABLE = (pl.Binary, pl.Object, pl.Duration, pl.Time)  # kinds that no column of a contract can have
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")


@dataclass(frozen=True)
class Table:
    """The files as one lazy frame of their own types, and how the cells of CSV files are read."""

    frame: pl.LazyFrame
    files: tuple[Path, ...]
    reading: Data


def read(wishes: Wishes) -> Table:
    """Open the files. Raises InputError for missing or damaged ones, or names that can't be used."""
    _check_workbook(wishes.data)
    found = files.find(wishes.data)
    for file in found:
        _check_workbook(file)
    reading = forms.find(found, wishes)
    frames = []
    for file in found:
        if reading.header:
            _check_header(file, reading)
        frames.append(_scan(file, reading))
    table = Table(_parsed(pl.concat(frames, how="diagonal_relaxed"), found), tuple(found), reading)
    for name in table.frame.collect_schema():
        _check_name(found[0], name)
    return table


def _scan(file: Path, reading: Data) -> pl.LazyFrame:
    return files.scan(file, reading).drop(raw.ROW)


def _parsed(frame: pl.LazyFrame, found: Sequence[Path]) -> pl.LazyFrame:
    """The rows of text files in a scratch Parquet file, of which each look reads the columns that it needs."""
    if all(file.suffix.lower() == ".parquet" for file in found):
        return frame
    folder = Path(tempfile.mkdtemp(prefix="adopt-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        frame.sink_parquet(folder / "table.parquet", compression="lz4", statistics=False, engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, found) from None
    return pl.scan_parquet(folder / "table.parquet")


def text(name: str, kind: pl.DataType, missing: Sequence[str]) -> pl.Expr:
    """A column's values as the runtime will read them: text without blanks around it, null where nothing is there."""
    if not readable(kind):
        return pl.when(pl.col(name).is_not_null()).then(pl.lit(str(kind)))
    value = raw.as_text(name, kind).str.strip_chars()
    present = ~value.is_in(list(missing))
    return pl.when(present & pl.col(name).is_finite() if kind.is_float() else present).then(value)


def number(text: pl.Expr, kind: pl.DataType, reading: Data) -> pl.Expr:
    """Text as the runtime will read a number; null where it is none."""
    if kind == pl.String and (reading.decimal != "." or reading.thousands):
        text = pl.when(text.str.contains(_written(reading))).then(text)
        text = text.str.replace_all(reading.thousands, "", literal=True) if reading.thousands else text
        text = text.str.replace(reading.decimal, ".", literal=True)
    value = text.cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def _written(reading: Data) -> str:
    """How numbers are written under these settings: thousands only in groups of three."""
    groups = rf"|\d{{1,3}}({re.escape(reading.thousands)}\d{{3}})+" if reading.thousands else ""
    return rf"^[+-]?((\d+{groups})({re.escape(reading.decimal)}\d*)?|{re.escape(reading.decimal)}\d+)([eE][+-]?\d+)?$"


def labelled(table: Table, label: str, missing: Sequence[str]) -> tuple[Table, int]:
    """The rows to learn from, by which a column is judged, and how many of the others hold anything at all."""
    schema = table.frame.collect_schema()
    known = text(label, schema[label], missing).is_not_null()
    held = [text(name, kind, missing).is_not_null() for name, kind in schema.items()]
    others = table.frame.filter(~known).select(pl.any_horizontal(held).sum()).collect(engine="streaming").item()
    return replace(table, frame=table.frame.filter(known)), int(others or 0)


def readable(kind: pl.DataType) -> bool:
    """Whether a column's values can stand in a contract at all."""
    return not (kind.is_nested() or kind in UNREADABLE)


def _check_workbook(file: Path) -> None:
    """Raises InputError for what a spreadsheet saves, whatever its name says."""
    if not file.is_file():
        return
    inside = zipfile.ZipFile(file).namelist() if zipfile.is_zipfile(file) else []
    if file.name.lower().endswith(WORKBOOKS) or "[Content_Types].xml" in inside:
        raise InputError(f"{file.name} is a workbook; save its sheet as CSV UTF-8 and say DATA={file.stem}.csv.")


def _check_header(file: Path, reading: Data) -> None:
    if file.name.lower().endswith(".parquet"):
        return
    seen: set[str] = set()
    for name in forms.names(file, reading):
        _check_name(file, name)
        if name in seen:
            raise InputError(f"{file.name} has the column {name!r} more than once; rename one of them.")
        seen.add(name)


def _check_name(file: Path, name: str) -> None:
    if not usable(name):
        raise InputError(f"{file.name}: column {name!r}: names like __… and ^…$ are taken; rename the column.")
