"""What a table holds, column by column, counted in streaming passes over all of it: never by a sample alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from runtime import files, raw
from runtime.failures import InputError
from runtime.usecase import usable

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?")
MARKERS = (
    "-",
    "--",
    ".",
    "..",
    "*",
    "n.a.",
    "nil",
    "missing",
    "Missing",
    "MISSING",
    "unknown",
    "Unknown",
    "-999",
    "(null)",
)
FORMATS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%d.%m.%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%d %b %Y",
    "%b %d, %Y",
    "%d-%b-%Y",
)
PROBED = 200  # distinct texts a column on which formats are tried first
COLUMNS_AT_ONCE = 100


@dataclass(frozen=True)
class Facts:
    """Of one column, over all rows; `texts` are some distinct values, `odd` those of them that are no number."""

    name: str
    kind: pl.DataType
    rows: int
    present: int
    distinct: int  # approximate above a few thousand
    numbers: int
    whole: bool
    low: float | None
    high: float | None
    zero_padded: bool
    length: float
    texts: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    @property
    def missing(self) -> float:
        return 1 - self.present / self.rows


@dataclass(frozen=True)
class Table:
    """The files as one lazy frame of their own types, and how CSV cells are separated."""

    frame: pl.LazyFrame
    files: tuple[Path, ...]
    separator: str


def read(path: Path) -> Table:
    """Open the files. Raises InputError for missing or damaged ones, or two columns of one name."""
    found = files.find(path)
    separator = _separator(found[0])
    frames = []
    for file in found:
        _check_header(file, separator)
        frames.append(files.scan(file, separator).drop("__row"))
    table = Table(pl.concat(frames, how="diagonal_relaxed"), tuple(found), separator)
    for name in table.frame.collect_schema():
        if not usable(name):
            raise InputError(f"{found[0].name}: column {name!r}: names like __… and ^…$ are taken; rename the column.")
    return table


def _header(file: Path) -> str:
    if file.name.lower().endswith(".parquet") or file.stat().st_size == 0:
        return ""
    with files.opened(file) as handle:
        return handle.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")


def _separator(file: Path) -> str:
    """The character that cuts the header into most cells."""
    header = _header(file)
    return max(files.SEPARATORS, key=lambda separator: len(files.cells(header, separator)))


def _check_header(file: Path, separator: str) -> None:
    names = files.cells(_header(file), separator)
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{file.name} has the column {name!r} more than once; rename one of them.")


def collect(table: Table, missing: Sequence[str]) -> dict[str, Facts]:
    """Facts of every column. Raises InputError where the table has no rows or turns out unreadable."""
    schema = table.frame.collect_schema()
    found: dict[str, Facts] = {}
    try:
        for start in range(0, len(schema), COLUMNS_AT_ONCE):
            names = list(schema)[start : start + COLUMNS_AT_ONCE]
            found |= {name: _facts(name, schema[name], row) for name, row in _rows(table, names, schema, missing)}
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    if not found or next(iter(found.values())).rows == 0:
        raise InputError(f"{table.files[0].name} holds a header and no rows.")
    return found


def _rows(
    table: Table, names: list[str], schema: pl.Schema, missing: Sequence[str]
) -> list[tuple[str, dict[str, Any]]]:
    queries = [table.frame.select(_measures(name, schema[name], missing)) for name in names]
    counted = pl.collect_all(queries, engine="streaming")
    return [(name, frame.row(0, named=True)) for name, frame in zip(names, counted, strict=True)]


def _measures(name: str, kind: pl.DataType, missing: Sequence[str]) -> list[pl.Expr]:
    text = raw.as_text(name, kind).str.strip_chars()
    text = pl.when(~text.is_in(list(missing))).then(text)
    if kind.is_float():
        text = pl.when(pl.col(name).is_not_nan()).then(text)
    number = text.cast(pl.Float64, strict=False)
    number = pl.when(number.is_finite()).then(number)
    return [
        pl.len().alias("rows"),
        text.count().alias("present"),
        text.approx_n_unique().alias("distinct"),
        number.count().alias("numbers"),
        (number == number.floor()).all().alias("whole"),
        number.min().alias("low"),
        number.max().alias("high"),
        text.str.contains(r"^0\d+$").any().alias("zero_padded"),
        text.str.len_chars().mean().alias("length"),
        text.drop_nulls().unique().sort().head(PROBED).implode().alias("texts"),
        text.filter(number.is_null() & text.is_not_null()).unique().sort().head(20).implode().alias("odd"),
    ]


def _facts(name: str, kind: pl.DataType, row: dict[str, Any]) -> Facts:
    texts, odd = list(row.pop("texts")), list(row.pop("odd"))
    distinct = len(texts) if len(texts) < PROBED else row["distinct"]
    row |= {"distinct": distinct, "length": row["length"] or 0.0, "zero_padded": bool(row["zero_padded"])}
    return Facts(name=name, kind=kind, texts=texts, odd=odd, **row)


def unparsed(table: Table, facts: Facts, form: str, missing: Sequence[str]) -> int:
    """How many present values of a column are no dates of this format, over all rows."""
    text = raw.as_text(facts.name, facts.kind).str.strip_chars()
    present = text.is_not_null() & ~text.is_in(list(missing))
    date = text.str.to_datetime(form, time_unit="us", strict=False, exact=True)
    return int(table.frame.select((present & date.is_null()).sum()).collect(engine="streaming").item())


def probed(facts: Facts) -> list[str]:
    """The date formats that read every probed text of a column."""
    series = pl.Series(facts.texts, dtype=pl.String)
    return [form for form in FORMATS if series.len() and not _parse(series, form).has_nulls()]


def _parse(series: pl.Series, form: str) -> pl.Series:
    return series.str.to_datetime(form, time_unit="us", strict=False, exact=True)


def unique(table: Table, name: str) -> bool:
    """Whether a column has another value in every row, exactly."""
    rows, distinct = table.frame.select(pl.len().alias("n"), pl.col(name).n_unique().alias("d")).collect().row(0)
    return bool(rows == distinct)


def same_partition(table: Table, name: str, label: str) -> bool:
    """Whether two columns tell rows apart in the same way: each value of one goes with one value of the other."""
    pairs = table.frame.select(name, label).drop_nulls().unique()
    counts = pairs.select(pl.len(), pl.col(name).n_unique().alias("a"), pl.col(label).n_unique().alias("b"))
    rows, first, second = counts.collect(engine="streaming").row(0)
    return bool(rows == first == second)


def correlation(table: Table, name: str, label: str) -> float:
    """Pearson's correlation of two numeric columns over the rows that have both; 0 where it is not defined."""
    numbers = [pl.col(column).cast(pl.String).cast(pl.Float64, strict=False) for column in (name, label)]
    value = table.frame.select(pl.corr(*numbers)).collect(engine="streaming").item()
    return float(value) if value is not None and value == value else 0.0  # noqa: PLR0124 - not NaN
