"""Raw tables under the contract: one lazy frame with the contract's columns in the contract's types.

Beside each column `c` stands `__invalid:c`: the cell holds something that is not a value of its type or range.
`__broken` says whether anything is wrong with a row; what it is, in words, is made only for such rows. Nothing is read
before a frame is collected.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from runtime import files
from runtime.failures import InputError, listed
from runtime.usecase import Column, UseCase

ERROR, BROKEN, INVALID, ROW, FILE = "__error", "__broken", "__invalid:", "__row", "__file"
GROUP = "__group"  # what [split] group says of a row, as text
NO_ID = "row"  # the name of the id that stands in where the contract names none
TRUE = ("true", "yes", "y", "t", "1", "1.0", "on")
FALSE = ("false", "no", "n", "f", "0", "0.0", "off")


@dataclass(frozen=True)
class RawTable:
    """`frame` has the id, each contract column and its `__invalid:` flag, `__broken`, and the time and label if any.

    Types: id String, number Float64, category String, boolean Boolean, date and time Datetime (microseconds, no zone),
    label String, or Float64 for regression. `reasons` has `__file`, `__row` and `__error` of the broken rows.
    """

    frame: pl.LazyFrame
    reasons: pl.LazyFrame
    files: tuple[Path, ...]
    id: str


def read(folder: Path, usecase: UseCase, labelled: bool = False) -> RawTable:
    """The raw table in a folder: one or more CSV (also gzipped) or Parquet files.

    Raises InputError for a folder without files, a damaged file, or one without a needed column.
    """
    found = files.find(folder)
    frames = [_typed(files.scan(file, usecase.data.separator), file, usecase, labelled) for file in found]
    typed, reasons = (pl.concat(parts) for parts in zip(*frames, strict=True))
    return RawTable(typed, reasons, tuple(found), usecase.data.id or NO_ID)


def parsed_once(table: RawTable) -> RawTable:
    """The same table, its text parsed into a scratch Parquet file where it came as CSV: for readers of several passes.

    Raises InputError for a file that turns out unreadable on the way.
    """
    if all(file.suffix == ".parquet" for file in table.files):
        return table
    scratch = Path(tempfile.mkdtemp(prefix="parsed-")) / "table.parquet"
    try:
        table.frame.sink_parquet(scratch, compression="lz4", statistics=False, engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    return RawTable(pl.scan_parquet(scratch), table.reasons, table.files, table.id)


def needed(usecase: UseCase, labelled: bool) -> list[str]:
    """The columns a raw file must have, by name."""
    names = [column.name for column in usecase.columns] + [usecase.data.id]
    extra = [usecase.data.label] if labelled else []
    time = [usecase.data.time] if labelled and usecase.split.method == "time" else []
    return [name for name in dict.fromkeys(names + extra + time) if name]


def _typed(frame: pl.LazyFrame, file: Path, usecase: UseCase, labelled: bool) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    schema = frame.collect_schema()
    missing = [name for name in needed(usecase, labelled) if name not in schema]
    if missing:
        raise InputError(_missing_columns(file, missing, [name for name in schema if not name.startswith("__")]))
    texts = usecase.data.missing
    wanted = [(column, schema[column.name]) for column in _wanted(usecase, schema)]
    identity, checks = _identity(usecase, schema, file)
    columns = [_value(column, kind, texts).alias(column.name) for column, kind in wanted]
    invalid = {column.name: _invalid(column, kind, texts) for column, kind in wanted}
    checks += [(invalid[column.name], _reason(column, kind)) for column, kind in wanted]
    if labelled:
        columns.append(_label(usecase, schema[usecase.data.label]).alias(usecase.data.label))
        checks.append(_label_check(usecase, schema[usecase.data.label]))
    broken = pl.any_horizontal(pl.lit(False), *(check for check, _ in checks))
    flags = [check.alias(INVALID + name) for name, check in invalid.items()]
    place = [pl.lit(file.name).alias(FILE), pl.col(ROW)]
    reason = pl.coalesce(pl.when(check).then(words) for check, words in checks).alias(ERROR)
    typed = frame.select(identity, *columns, *flags, broken.alias(BROKEN), *place)
    return typed, frame.filter(broken).select(*place, reason)


def _wanted(usecase: UseCase, schema: pl.Schema) -> list[Column]:
    """The contract's columns, and the time column where the file has one."""
    time, names = usecase.data.time, [column.name for column in usecase.columns]
    known = not time or time in names or time not in schema
    return [*usecase.columns, *([] if known else [Column(time, "date", format=usecase.data.time_format)])]


Check = tuple[pl.Expr, pl.Expr]  # whether something is wrong with a row, and what it is in words


def _identity(usecase: UseCase, schema: pl.Schema, file: Path) -> tuple[pl.Expr, list[Check]]:
    """The id as text (file and row number where the contract names none) and what can be wrong with it."""
    name = usecase.data.id
    if not name:
        return pl.concat_str([pl.lit(file.name.split(".")[0] + ":"), pl.col(ROW)]).alias(NO_ID), []
    identity = _clean(name, schema[name], usecase.data.missing)
    return identity.alias(name), [(identity.is_null(), pl.lit(f"column {name!r}: the id is missing"))]


def _missing_columns(file: Path, missing: list[str], present: list[str]) -> str:
    lacking, shown = listed(map(repr, missing), 5), listed(map(repr, present), 12)
    hint = " The separator may be wrong (usecase.toml [data] separator)." if len(present) == 1 else ""
    return f"{file.name} has no column {lacking}; it has {shown}.{hint}"


def as_text(name: str, kind: pl.DataType) -> pl.Expr:
    """A source column as text, the same way for CSV and Parquet; booleans are lower case."""
    column = pl.col(name)
    return column if kind == pl.String else column.cast(pl.String, strict=False)


def _clean(name: str, kind: pl.DataType, missing: tuple[str, ...]) -> pl.Expr:
    """Text without blanks around it, null where it is one of the missing markers."""
    text = as_text(name, kind).str.strip_chars()
    return pl.when(~text.is_in(list(missing))).then(text)


def _number(name: str, kind: pl.DataType, missing: tuple[str, ...]) -> pl.Expr:
    text = not kind.is_numeric()
    value = _clean(name, kind, missing).cast(pl.Float64, strict=False) if text else pl.col(name).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)


def _boolean(name: str, kind: pl.DataType, missing: tuple[str, ...]) -> pl.Expr:
    if kind == pl.Boolean:
        return pl.col(name)
    text = _clean(name, kind, missing).str.to_lowercase()
    return pl.when(text.is_in(list(TRUE))).then(True).when(text.is_in(list(FALSE))).then(False)


def _date(column: Column, kind: pl.DataType, missing: tuple[str, ...]) -> pl.Expr:
    if kind.is_temporal():
        value = pl.col(column.name)
        zoned = isinstance(kind, pl.Datetime) and kind.time_zone is not None
        return (value.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else value).cast(
            pl.Datetime("us")
        )
    text = _clean(column.name, kind, missing)
    value = text.str.to_datetime(column.format or None, time_unit="us", strict=False, exact=True)
    return value.dt.replace_time_zone(None)  # a format with an offset is read as UTC


def _value(column: Column, kind: pl.DataType, missing: tuple[str, ...]) -> pl.Expr:
    match column.type:
        case "number":
            return _in_range(column, _number(column.name, kind, missing))
        case "boolean":
            return _boolean(column.name, kind, missing)
        case "date":
            return _date(column, kind, missing)
    return _clean(column.name, kind, missing)


def _in_range(column: Column, value: pl.Expr) -> pl.Expr:
    """Null where a number lies outside the column's range."""
    if column.minimum is not None:
        value = pl.when(value >= column.minimum).then(value)
    return value if column.maximum is None else pl.when(value <= column.maximum).then(value)


def _present(name: str, kind: pl.DataType, missing: tuple[str, ...]) -> pl.Expr:
    if kind.is_float():
        return pl.col(name).is_finite()  # Parquet's NaN and infinity are no values
    return _clean(name, kind, missing).is_not_null() if kind == pl.String else pl.col(name).is_not_null()


def _invalid(column: Column, kind: pl.DataType, missing: tuple[str, ...]) -> pl.Expr:
    if _always_fits(column, kind):
        return pl.lit(False)
    present = _present(column.name, kind, missing)
    return (present & _value(column, kind, missing).is_null()).fill_null(False)


def _always_fits(column: Column, kind: pl.DataType) -> bool:
    """Whether a source type can only hold values of the column's type: then nothing needs to be looked at."""
    match column.type:
        case "number":
            return kind.is_numeric() and column.minimum is None and column.maximum is None
        case "boolean":
            return kind == pl.Boolean
        case "date":
            return kind.is_temporal()
    return True


def _reason(column: Column, kind: pl.DataType) -> pl.Expr:
    wanted = {
        "number": "a number",
        "category": "a category",
        "boolean": "a yes or no",
        "date": f"a date like {column.format or '%Y-%m-%d'}",
    }
    low = "" if column.minimum is None else f" from {column.minimum:g}"
    high = "" if column.maximum is None else f" up to {column.maximum:g}"
    return _words(f"column {column.name!r}", column.name, kind, f"{wanted[column.type]}{low}{high}")


def _words(what: str, name: str, kind: pl.DataType, wanted: str) -> pl.Expr:
    shown = as_text(name, kind).str.slice(0, 40)
    return pl.concat_str([pl.lit(f"{what}: '"), shown, pl.lit(f"' is not {wanted}")])


def _label(usecase: UseCase, kind: pl.DataType) -> pl.Expr:
    """Text for classes, Float64 for regression; null where it is missing, of no known class, or no number."""
    data = usecase.data
    if data.task == "regression":
        return _number(data.label, kind, data.missing)
    text = _clean(data.label, kind, data.missing)
    return pl.when(text.is_in(list(data.classes))).then(text)


def _label_check(usecase: UseCase, kind: pl.DataType) -> Check:
    data = usecase.data
    wanted = "a number" if data.task == "regression" else f"one of {listed(data.classes)}"
    broken = _present(data.label, kind, data.missing) & _label(usecase, kind).is_null()
    return broken.fill_null(False), _words(f"label {data.label!r}", data.label, kind, wanted)
