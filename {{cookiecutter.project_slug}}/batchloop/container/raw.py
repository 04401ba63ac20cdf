"""Raw tables under the contract: one lazy frame with the contract's columns in the contract's types.

Memory and time grow neither with the number of files nor faster than the columns do: batches are parsed one after
another, into Arrow files. Beside a column `c` that can be wrong stands `__invalid:c`: the cell holds something that is
no value of its type or range. `__error` says in words what is wrong with a row, `__broken` whether anything is.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.container import files, pictures, values
from batchloop.container.batches import FILE, Reading, in_order
from batchloop.container.formats import EPOCHS
from batchloop.container.job import InputError, listed
from batchloop.container.lines import RAGGED, ROW
from batchloop.container.usecase import Column, Slices, UseCase
from batchloop.container.values import FALSE, TRUE, Parsed, Spelling

__all__ = ["FALSE", "FILE", "RAGGED", "ROW", "TRUE"]

ERROR, BROKEN, INVALID = "__error", "__broken", "__invalid:"
PART = "__part"  # train, validation or test
GROUP = "__group"  # what [split] group says of a row, as text
SERIES = "__series"  # what [series] id says of a row, as text
SLICE = "__slice:"  # begins the name of a column of [slices] that is none of [columns]; text
NO_ID = "row"  # the name of the id that stands in where the contract names none
AT_ONCE = 1 << 21  # ids that are compared at once


def repeated_ids(ids: pl.LazyFrame) -> tuple[int, list[str]]:
    """Of a frame whose one column is `id`: how many rows have the id of another one, and the first such ids."""
    repeated = ids.drop_nulls().group_by("id").len().filter(pl.col("len") > 1).collect(engine="streaming")
    return int(repeated["len"].sum()), repeated["id"].sort().head(3).to_list()


class Ids:
    """The ids of a table, added bit by bit; they lie in scratch, so that more rows take no more memory."""

    def __init__(self) -> None:
        self.parts: list[Path] = []
        self.rows = 0

    def add(self, ids: pl.Series) -> None:
        known = ids.drop_nulls().alias("id").to_frame().with_columns(pl.col("id").hash().alias("hash"))
        if not self.parts:
            self.scratch = files.scratch("ids-")
        self.parts.append(self.scratch / f"{len(self.parts):06d}.arrow")
        known.write_ipc(self.parts[-1])
        self.rows += len(known)

    def shared(self) -> tuple[int, list[str]]:
        """As `repeated_ids`: a share of the hashes is looked at in turn, and ids only where some are equal."""
        if not self.rows:
            return 0, []
        shares, rows, first = 1 + self.rows // AT_ONCE, 0, list[str]()
        for share in range(shares):
            some = files.in_parts(self.parts).filter(pl.col("hash") % shares == share)
            if some.select(pl.len() - pl.col("hash").n_unique()).collect(engine="streaming").item():
                more, repeated = repeated_ids(some.select("id"))
                rows, first = rows + more, sorted([*first, *repeated])[:3]
        return rows, first


@dataclass
class RawTable:
    """`frame` has the id, each contract column and the `__invalid:` flags, and the time, label and group if any.

    Types: id String, number Float64, category String, boolean Boolean, date and time Datetime (microseconds, no zone),
    image pictures.CELL, label String, or Float64 for regression. Of a `__ragged` row nothing but the id was taken.
    `unlabelled` rows are not broken; `first` says where the first `broken` one is and why; `values` has how many each
    column has, `classes` a few values of the label. `parts` are Arrow files of the frame's rows. Of series that are
    scored `past` rows need no answer, and `refused` ones, which keep the contract, can't be forecast.
    """

    files: tuple[Path, ...]
    ids: Ids = field(default_factory=Ids)
    frame: pl.LazyFrame = field(default_factory=pl.LazyFrame)
    parts: list[Path] = field(default_factory=list)
    rows: int = 0
    empty: int = 0
    broken: int = 0
    unlabelled: int = 0
    ungrouped: int = 0
    past: int = 0
    refused: int = 0
    first: str = ""
    values: Counter[str] = field(default_factory=Counter)
    classes: set[Any] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    def count(self, batch: pl.DataFrame, usecase: UseCase) -> None:
        broken, label = int(batch[BROKEN].sum()), usecase.data.label
        if broken and not self.broken:
            own = pl.col(usecase.data.id or NO_ID) if usecase.data.id or NO_ID in batch.columns else pl.lit(None)
            file, row, error, name = batch.filter(pl.col(BROKEN)).select(FILE, ROW, ERROR, own).row(0)
            named = name and any(column.type == "image" for column in usecase.columns)  # by what people know it
            self.first = f"{file}, row {row}{f' ({name})' if named else ''}: {error}"
        self.rows += len(batch)
        self.broken += broken
        names = [column.name for column in usecase.columns]
        absent = batch.select(names).null_count().row(0)
        self.values.update({name: len(batch) - nulls for name, nulls in zip(names, absent, strict=True)})
        if label in batch.columns:
            self.unlabelled += int((batch[label].is_null() & ~batch[BROKEN]).sum())
            self.classes.update(batch[label].drop_nulls().unique().head(2) if len(self.classes) < 2 else ())
        if GROUP in batch.columns:
            self.ungrouped += batch[GROUP].null_count()
        if usecase.keys():
            self.ids.add(batch[usecase.data.id or NO_ID])


Stream = tuple[RawTable, Iterator[pl.DataFrame]]


@dataclass(frozen=True)
class Parser:
    """A column of a file and what it becomes: its name then, how it is parsed, what is said of a wrong or empty cell.

    `wrong` has "{}" where the cell's own text stands, or the reason where `parse` gives reasons; without `missing` a
    cell may be empty. Only `flagged` columns have an `__invalid:` beside them, and `plain` ones of CSV can be read as
    numbers at once.
    """

    source: str
    name: str
    parse: Callable[[pl.Series], Parsed]
    wrong: str = ""
    missing: str = ""
    flagged: bool = False
    plain: bool = False


def read(folder: Path, usecase: UseCase, labelled: bool = False) -> RawTable:
    """The raw table in a folder; series always have their labels. Raises InputError for what can't be read."""
    table, parsed = stream(folder, usecase, labelled)
    scratch = files.scratch("parsed-")
    for batch in parsed:
        table.parts.append(scratch / f"{len(table.parts):06d}.arrow")
        batch.write_ipc(table.parts[-1])
    table.frame = files.in_parts(table.parts)
    return table


def stream(folder: Path, usecase: UseCase, labelled: bool = False, named: bool = True) -> Stream:
    """A table that has no `parts`, and its batches: taking them fills its counts. Only `named` rows have an id."""
    usecase = usecase if named else replace(usecase, data=replace(usecase.data, id=""))
    tables = tuple(files.find(folder))
    if usecase.series and not labelled:
        labelled, usecase = True, replace(usecase, slices=Slices())
    table, parsers = RawTable(tables), _parsers(usecase, labelled)
    numbers = {parser.source for parser in parsers if parser.plain}
    reading = Reading(tables, usecase, labelled, numbers - {parser.source for parser in parsers if not parser.plain})
    parsed = partial(_parsed, usecase=usecase, parsers=parsers, named=named)

    def counted() -> Iterator[pl.DataFrame]:
        for batch in in_order(reading, parsed, pl.thread_pool_size()):
            table.count(batch, usecase)
            yield batch
        table.empty = reading.empty

    return table, counted()


def as_text(name: str, decimal: str = ".") -> pl.Expr:
    """A source column as the text that it is under a contract, whichever file it came from."""

    def read(cells: pl.Series) -> pl.Series:
        texts = values.texts(cells, (), decimal)
        return texts.str.replace(".", decimal, literal=True) if cells.dtype.is_numeric() else texts

    return pl.col(name).map_batches(read, return_dtype=pl.String, is_elementwise=True)


def _parsers(usecase: UseCase, labelled: bool) -> list[Parser]:
    """The id, the contract's columns and the time, then the label and the group of training rows."""
    data, columns = usecase.data, [*usecase.columns]
    spelling = Spelling(data.missing, data.decimal, data.thousands)
    if data.time and data.time not in [column.name for column in columns]:
        columns.append(Column(data.time, "date", format=data.time_format))
    parsers = list[Parser]()
    if data.id:
        parse = partial(values.text, spelling=Spelling(data.missing, data.decimal))
        parsers.append(Parser(data.id, data.id, parse, missing=f"column {data.id!r}: the id is missing"))
    for column in columns:
        form, low, high = column.format, column.minimum, column.maximum
        written = replace(spelling, missing=(*spelling.missing, *column.missing), format=form)
        zone = column.time_zone or (data.time_zone if column.name == data.time else "")
        moment = f"a number of {EPOCHS[form][0]} since 1970" if form in EPOCHS else f"a date like {form or '%Y-%m-%d'}"
        number = partial(values.number, spelling=written, low=low, high=high)
        wanted, parse = {
            "number": (f"a number like {form}" if form else "a number", number),
            "boolean": ("a yes or no", partial(values.boolean, spelling=written)),
            "date": (moment, partial(values.date, spelling=written, zone=zone)),
            "image": ("a picture", partial(pictures.parse, column=column, missing=written.markers)),
        }.get(column.type, ("", partial(values.text, spelling=written)))
        bounds = ("" if low is None else f" from {low:g}") + ("" if high is None else f" up to {high:g}")
        said = "{}" if column.type == "image" else f"'{{}}' is not {wanted}{bounds}"
        plain = column.type == "number" and written.plain
        wrong, missing = f"column {column.name!r}: {said}", f"column {column.name!r}: the time is missing"
        missing = missing if usecase.series and column.name == data.time else ""
        parsers.append(Parser(column.name, column.name, parse, wrong, missing, bool(wanted), plain))
    if labelled:
        kind, parse = f"one of {listed(data.classes)}", partial(values.named, classes=data.classes, spelling=spelling)
        if not data.classes:
            spelling = replace(spelling, format=data.label_format)
            kind, parse = "a number", partial(values.number, spelling=spelling)
        plain, wrong = kind == "a number" and spelling.plain, f"label {data.label!r}: '{{}}' is not {kind}"
        parsers.append(Parser(data.label, data.label, parse, wrong, plain=plain))
        group = usecase.split.group
        parsers += [Parser(group, GROUP, partial(values.text, spelling=spelling))] if group else []
        others = [name for name in usecase.slices.columns if name not in {column.name for column in columns}]
        parsers += [Parser(name, SLICE + name, partial(values.text, spelling=spelling)) for name in others]
    if usecase.series and (series := usecase.series.id):
        parse = partial(values.text, spelling=Spelling(decimal=data.decimal))
        parsers.append(Parser(series, SERIES, parse, missing=f"column {series!r}: the series is missing"))
    return parsers


def _values(parser: Parser, batch: pl.DataFrame) -> Parsed:
    try:
        return parser.parse(batch[parser.source])
    except InputError as problem:
        raise InputError(f"{batch[FILE][0]}: {problem}") from None
    except pl.exceptions.PolarsError as problem:  # a kind without text, dates of no known format, no such zone
        why = files.first_line(problem)
        raise InputError(f"{batch[FILE][0]}: column {parser.source!r} can't be read: {why}.") from None


def _parsed(batch: pl.DataFrame, usecase: UseCase, parsers: Sequence[Parser], named: bool) -> pl.DataFrame:
    """A batch under the contract; the first of a row's reasons stands in `__error`."""
    name, columns, error = usecase.data.id, list[pl.Series](), batch[RAGGED].alias(ERROR)
    if error.null_count() < len(error):  # of a ragged line nothing but the id is taken
        cells = pl.all().exclude(FILE, ROW, RAGGED, name)
        batch = batch.with_columns(pl.when(pl.col(RAGGED).is_null()).then(cells))
    present, right = set(batch.columns), pl.repeat(False, len(batch), eager=True)
    for parser in (parser for parser in parsers if parser.source in present):  # the time may not be there
        found, wrong = _values(parser, batch)
        columns.append(found.alias(parser.name))
        reasons = wrong if wrong is not None and wrong.dtype == pl.String else None
        wrong = wrong if reasons is None else reasons.is_not_null()
        if wrong is not None and (wrong & error.is_null()).any():
            places = (wrong & error.is_null()).arg_true()
            before, _, after = parser.wrong.partition("{}")
            odd = batch[parser.source].gather(places)
            shown = values.written(odd, ()).str.slice(0, 40) if reasons is None else reasons.gather(places)
            error = error.scatter(places, [f"{before}{text}{after}" for text in shown])
        if parser.missing and found.null_count():
            error = error.set(found.is_null() & error.is_null(), parser.missing)
        if parser.flagged:
            columns.append((right if wrong is None else wrong).alias(INVALID + parser.name))
    frame = batch.select(FILE, ROW, RAGGED).with_columns(*columns, error, error.is_not_null().alias(BROKEN))
    if usecase.series:
        return _named(frame, usecase)
    stem = pl.col(FILE).str.split(".").list.first()
    return frame if name or not named else frame.with_columns(pl.concat_str(stem, pl.lit(":"), ROW).alias(NO_ID))


def _named(frame: pl.DataFrame, usecase: UseCase) -> pl.DataFrame:
    """Rows of series under their ids, series and time."""
    series = usecase.series and usecase.series.id
    frame = frame if series else frame.with_columns(pl.lit("").alias(SERIES))
    day = usecase.series is not None and usecase.series.frequency[-1] not in "smh"
    said = pl.col(usecase.data.time).dt.strftime("%Y-%m-%d" if day else "%Y-%m-%dT%H:%M:%S").fill_null("?")
    identity = pl.concat_str(pl.col(SERIES).fill_null("?"), pl.lit("|"), said) if series else said
    return frame.with_columns(identity.alias(NO_ID))


def check(table: RawTable, usecase: UseCase) -> None:
    """Raises InputError for a table without rows, or with more broken rows than [data] bad_rows allows."""
    if table.rows == 0:
        raise InputError(f"{listed((file.name for file in table.files), 3)} holds a header and no rows.")
    if table.broken > usecase.data.bad_rows * table.rows:
        broken, most = f"{table.broken:,} of {table.rows:,} rows break the contract", f"{usecase.data.bad_rows:.2%}"
        raise InputError(f"{table.first}; {broken}, [data] bad_rows allows {most}: mend the data or the contract.")


def check_labels(table: RawTable, usecase: UseCase) -> None:
    """What an earlier window must hold: rows that keep the contract, and labels. Raises InputError."""
    check(table, usecase)
    if table.rows == table.unlabelled + table.broken:
        where = f"{table.files[0].name}: column {usecase.data.label!r} (the label)"
        raise InputError(f"{where} has no value in any of {table.rows:,} rows.")


def check_training(table: RawTable, usecase: UseCase) -> None:
    """What training needs on top. Raises InputError for one class only, or a column without values."""
    check_labels(table, usecase)
    label, group, name = usecase.data.label, usecase.split.group, table.files[0].name
    if len(table.classes) < 2:
        raise InputError(f"{name}: column {label!r} (the label) holds one value only; there is nothing to learn.")
    if group and table.ungrouped == table.rows:
        raise InputError(f"{name}: column {group!r} ([split] group) has no value in any row.")
    if empty := next((column.name for column in usecase.columns if not table.values[column.name]), ""):
        nothing = f"column {empty!r} has no value in any of {table.rows:,} rows"
        raise InputError(f"{name}: {nothing}; take it out of [columns] or mend the export.")


def shared_ids(table: RawTable, usecase: UseCase) -> list[str]:
    """What to warn of: the table's own warnings, and how many rows have the id of another one, with the first ids."""
    name, (rows, first) = " and ".join(usecase.keys()), table.ids.shared()
    shown = f"such as {', '.join(map(repr, first))}: nothing tells them apart"
    if usecase.series and usecase.series.frequency[-1] in "smh":
        shown += "; the hour that the clock shows twice, when summer time ends, counts by its mean"
    again = [f"{rows:,} rows share their {name!r} with another row, {shown}"] if rows else []
    return again + table.warnings
