"""Opening a table whose form is not known yet: which files, how cells are separated, what its columns are called."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import polars as pl

from operations.adopt import forms
from operations.adopt.wishes import Wishes
from runtime import files, raw, values
from runtime.failures import InputError
from runtime.usecase import Data, usable
from runtime.values import QUOTES, SPACES, Spelling

UNREADABLE = (pl.Binary, pl.Object, pl.Duration, pl.Time)  # kinds that no column of a contract can have
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")


@dataclass(frozen=True)
class Table:
    """The files as one lazy frame of their own types, and how the cells of CSV files are read."""

    frame: pl.LazyFrame
    files: tuple[Path, ...]
    reading: Data

    @property
    def label(self) -> str:
        """The column to predict."""
        return self.reading.label


def read(wishes: Wishes) -> Table:
    """Open the files. Raises InputError for missing or damaged ones, or names that can't be used."""
    _check_workbook(wishes.data)
    found = files.find(wishes.data)
    for file in found:
        _check_workbook(file)
    reading = forms.find(found, wishes)
    frames = [files.scan(file, reading).drop(raw.ROW) for file in found]
    table = Table(_parsed(pl.concat(frames, how="diagonal_relaxed"), found), tuple(found), reading)
    for name in table.frame.collect_schema():
        if not usable(name):
            raise InputError(f"{found[0].name}: column {name!r}: names like __… and ^…$ are taken; rename the column.")
    return table


def _parsed(frame: pl.LazyFrame, found: Sequence[Path]) -> pl.LazyFrame:
    """The rows of text files in a scratch Parquet file, of which each look reads the columns that it needs."""
    if all(file.suffix.lower() == ".parquet" for file in found):
        return frame
    parsed = files.scratch("adopt-") / "table.parquet"
    try:
        frame.sink_parquet(parsed, compression="lz4", statistics=False, engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, found) from None
    return pl.scan_parquet(parsed)


def text(name: str, kind: pl.DataType, missing: Sequence[str]) -> pl.Expr:
    """A column's values as the runtime compares them: one text for a value, null where nothing is there."""
    if not readable(kind):
        return _kind(name, kind)
    read = partial(values.texts, missing=_markers(tuple(missing)))
    return pl.col(name).map_batches(read, return_dtype=pl.String, is_elementwise=True)


def plain(name: str, kind: pl.DataType, missing: Sequence[str]) -> pl.Expr:
    """A column's text as it stands in the file, without blanks around it: numbers and dates are read from it."""
    if not readable(kind) or kind.is_temporal():
        return text(name, kind, missing)
    value = pl.col(name).cast(pl.String, strict=False).str.strip_chars()
    if kind == pl.String or kind.is_float():
        value = value.str.replace(r"^(-?\d+)\.0$", "$1")
    present = ~value.is_in(_markers(tuple(missing)))
    return pl.when(present & pl.col(name).is_finite() if kind.is_float() else present).then(value)


@cache
def _markers(missing: tuple[str, ...]) -> list[str]:
    return Spelling(missing).markers


def _kind(name: str, kind: pl.DataType) -> pl.Expr:
    return pl.when(pl.col(name).is_not_null()).then(pl.lit(str(kind)))


def number(text: pl.Expr, kind: pl.DataType, reading: Data) -> pl.Expr:
    """Plain text as the runtime will read a number; null where it is none."""
    if kind == pl.String and (reading.decimal != "." or reading.thousands):
        blanks = next((group for group in (SPACES, QUOTES) if reading.thousands and reading.thousands in group), "")
        between = f"[{blanks}]" if blanks else re.escape(reading.thousands)
        mark = re.escape(reading.decimal)
        grouped = rf"\d{{1,3}}(?:{between}\d{{3}})+|" if between else ""
        fits = text.str.contains(rf"^[+-]?(?:(?:{grouped}\d+)(?:{mark}\d*)?|{mark}\d+)(?:[eE][+-]?\d+)?$")
        text = text.str.replace_all(between, "") if between else text
        text = pl.when(fits).then(text.str.replace(reading.decimal, ".", literal=True))
    value = text.cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def spelled(table: Table, reading: Data) -> Table:
    """The table read in another way: a comma before decimals no longer hides which numbers are whole."""
    whole = [pl.col(pl.String).str.replace(r"^\s*(-?(?:0|[1-9]\d*)),0+\s*$", "$1")] if reading.decimal == "," else []
    return replace(table, frame=table.frame.with_columns(whole), reading=reading)


def labelled(table: Table, label: str, missing: Sequence[str]) -> tuple[Table, int]:
    """The rows to learn from, by which a column is judged, and how many of the others hold anything at all."""
    schema = table.frame.collect_schema()
    known = text(label, schema[label], missing).is_not_null()
    held = [plain(name, kind, missing).is_not_null() for name, kind in schema.items()]
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
