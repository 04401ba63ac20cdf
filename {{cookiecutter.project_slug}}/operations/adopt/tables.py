"""Opening a table whose form is not known yet: which files, how cells are separated, what its columns are called."""

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import polars as pl

from operations.adopt import forms, notes
from operations.adopt.wishes import Wishes
from runtime import files, raw, values
from runtime.failures import InputError
from runtime.usecase import CLOCKS, Data, usable
from runtime.values import HOUR, Spelling

UNREADABLE = (pl.Binary, pl.Object)  # kinds that no column of a contract can have
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")


@dataclass(frozen=True)
class Table:
    """The files as one lazy frame of their own types, and how the cells of CSV files are read.

    `formats` says how some columns write numbers; clocks and durations of Parquet files stand there as hours.
    """

    frame: pl.LazyFrame
    files: tuple[Path, ...]
    reading: Data
    formats: dict[str, str] = field(default_factory=dict)

    def number(self, name: str, text: pl.Expr, kind: pl.DataType) -> pl.Expr:
        """Plain text of a column as the runtime will read a number; null where it is none."""
        form = Spelling((), self.reading.decimal, self.reading.thousands, self.formats.get(name, ""))
        if kind == pl.String and form != Spelling():
            return text.map_batches(
                lambda cells: values.number(cells, form)[0], return_dtype=pl.Float64, is_elementwise=True
            )
        value = text.str.replace("\u2212", "-", literal=True).cast(pl.Float64, strict=False)
        return pl.when(value.is_finite()).then(value)

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
    if not wishes.header:
        for file in found:
            _check_names(file, reading)
    frames = [files.scan(file, reading).drop(raw.ROW) for file in found]
    frame = _parsed(pl.concat(frames, how="diagonal_relaxed"), found)
    lasting = [name for name, kind in frame.collect_schema().items() if kind in (pl.Time, pl.Duration)]
    hours = (pl.col(name).cast(pl.Duration("us")).dt.total_microseconds() / HOUR for name in lasting)
    table = Table(frame.with_columns(hours), tuple(found), reading, dict.fromkeys(lasting, CLOCKS[0]))
    for name in frame.collect_schema():
        if not usable(name):
            raise InputError(f"{found[0].name}: column {name!r}: names like __… and ^…$ are taken; rename the column.")
    notes.check_rows(found[-1].name, frame)
    return table


def _check_names(file: Path, reading: Data) -> None:
    """Raises Question where a title stands above the names; what can't be opened is told later."""
    if not file.name.lower().endswith(".parquet"):
        with suppress(*forms.DAMAGED):
            head = forms.beginning(file, reading.encoding)
            notes.check_names(file.name, notes.lines(head, reading.separator), reading.label)
        return
    frame = files.scan(file, reading).drop(raw.ROW).head(notes.FIRST).collect()
    rows = [["" if cell is None else str(cell) for cell in row] for row in frame.rows()]
    notes.check_names(file.name, [(0, frame.columns), *enumerate(rows, 1)], reading.label, "row")


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
    read = partial(values.texts, missing=_markers(name, tuple(missing)))
    return pl.col(name).map_batches(read, return_dtype=pl.String, is_elementwise=True)


def plain(name: str, kind: pl.DataType, missing: Sequence[str]) -> pl.Expr:
    """A column's text as it stands in the file, without blanks around it: numbers and dates are read from it."""
    if not readable(kind) or kind.is_temporal():
        return text(name, kind, missing)
    value = pl.col(name).cast(pl.String, strict=False).str.strip_chars()
    if kind == pl.String or kind.is_float():
        value = value.str.replace(r"^(-?\d+)\.0$", "$1")
    present = ~value.is_in(_markers(name, tuple(missing)))
    return pl.when(present & pl.col(name).is_finite() if kind.is_float() else present).then(value)


@cache
def _markers(name: str, missing: tuple[str, ...]) -> list[str]:
    """Of one column: a marker may name the column that it is for."""
    return Spelling((*missing, *own(name, missing))).markers


def own(name: str, missing: Sequence[str]) -> list[str]:
    """The markers of a column alone: -1 of "age=-1"."""
    return [text.removeprefix(f"{name}=") for text in missing if text.startswith(f"{name}=")]


def _kind(name: str, kind: pl.DataType) -> pl.Expr:
    return pl.when(pl.col(name).is_not_null()).then(pl.lit(str(kind)))


def spelled(table: Table, read: Table) -> Table:
    """The table with the reading of `read`: a comma before decimals no longer hides which numbers are whole."""
    texts = [name for name, kind in table.frame.collect_schema().items() if kind == pl.String]
    whole = [name for name in texts if read.reading.decimal == "," and name not in read.formats]
    frame = table.frame.with_columns(pl.col(whole).str.replace(r"^\s*(-?(?:0|[1-9]\d*)),0+\s*$", "$1"))
    return replace(table, frame=frame, reading=read.reading, formats=read.formats)


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
