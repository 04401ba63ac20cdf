"""Raw tables under the contract: one lazy frame with the contract's columns in the contract's types.

Files are read one after another in batches of a bounded number of cells, whose columns are parsed one by one, and what
comes out lies in Parquet files of scratch: memory and time grow neither with the number of files nor faster than the
columns do. Beside a column `c` that can be wrong stands `__invalid:c`: the cell holds something that is not a value of
its type or range. `__error` says in words what is wrong with a row, `__broken` whether anything is.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.container import files, values
from batchloop.container.job import InputError, listed, unlike
from batchloop.container.lines import RAGGED, ROW
from batchloop.container.usecase import EPOCHS, Column, UseCase
from batchloop.container.values import FALSE, TRUE, Found, Spelling

__all__ = ["FALSE", "RAGGED", "ROW", "TRUE"]


ERROR, BROKEN, INVALID, FILE = "__error", "__broken", "__invalid:", "__file"
GROUP = "__group"  # what [split] group says of a row, as text
NO_ID = "row"  # the name of the id that stands in where the contract names none
CELLS = 2_000_000  # read at once
COLUMNS_AT_ONCE = 200  # in one query: the cost of a plan grows with the square of its columns
ROWS = 100_000  # at most, however narrow they are
TITLES = 30  # lines among which the names may stand


@dataclass(frozen=True)
class RawTable:
    """`frame` has the id, each contract column and the `__invalid:` flags, and the time, label and group if any.

    Types: id String, number Float64, category String, boolean Boolean, date and time Datetime (microseconds, no zone),
    label String, or Float64 for regression. Each row has its `__file`, `__row`, `__broken`, `__error` and `__ragged`:
    the line had too few or too many cells, so that nothing but the id was taken from it. `empty` is how many lines
    held nothing at all, and are no rows.
    """

    frame: pl.LazyFrame
    files: tuple[Path, ...]
    id: str
    empty: int

    @property
    def intact(self) -> pl.LazyFrame:
        """Rows whose cells stand under their own columns: all but those of ragged lines."""
        return self.frame.filter(pl.col(RAGGED).is_null())

    @property
    def reasons(self) -> pl.LazyFrame:
        """`__file`, `__row` and `__error` of the rows that break the contract."""
        return self.frame.filter(pl.col(BROKEN)).select(FILE, ROW, ERROR)


@dataclass(frozen=True)
class Wanted:
    """A column of a file and what it becomes: its name then, how it is parsed, and what is said of a wrong cell.

    `wrong` has "{}" where the cell's own text stands. Only `flagged` columns have an `__invalid:` beside them, and the
    id is all that is `kept` of a ragged line.
    """

    source: str
    name: str
    parse: Callable[[pl.Series], Found]
    wrong: str = ""
    flagged: bool = False
    kept: bool = False


@dataclass
class _Batches:
    """Files as frames of text or of Parquet's types, small ones of one kind together; counts empty lines."""

    found: list[Path]
    usecase: UseCase
    labelled: bool
    empty: int = 0
    held: list[pl.DataFrame] = field(default_factory=list)

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for file in self.found:
            try:
                yield from self._of(file)
            except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
                raise files.explain(error, [file]) from None
        if self.held:
            yield pl.concat(self.held)

    def _of(self, file: Path) -> Iterator[pl.DataFrame]:
        rows = files.read(file, self.usecase.data)
        self.empty += rows.empty
        names = _needed_of(rows.frame.collect_schema(), file, self.usecase, self.labelled)
        ragged = pl.col(RAGGED) if RAGGED in rows.frame.collect_schema() else pl.lit(None, dtype=pl.String)
        place = (pl.lit(file.name).alias(FILE), pl.col(ROW).cast(pl.UInt32), ragged.alias(RAGGED))
        size = max(1, min(ROWS, CELLS // (len(names) + len(place))))
        for batch in rows.frame.select(*names, *place).collect_batches(chunk_size=size, maintain_order=True):
            if self.held and (self.held[0].schema != batch.schema or sum(map(len, self.held)) + len(batch) > size):
                yield pl.concat(self.held)
                self.held.clear()
            self.held.append(batch)
        if not self.held:
            self.held.append(rows.frame.select(*names, *place).head(0).collect())


def read(folder: Path, usecase: UseCase, labelled: bool = False) -> RawTable:
    """The raw table in a folder: one or more CSV (also packed) or Parquet files.

    Raises InputError for a folder without files, a damaged file, one without a needed column, or a column of moments
    whose time zone is not said.
    """
    found = files.find(folder)
    batches = _Batches(found, usecase, labelled)
    scratch = files.scratch("parsed-")
    parts: list[Path] = []
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        for batch in batches:
            parts.append(scratch / f"{len(parts):05d}.parquet")
            wanted = _wanted(usecase, batch.schema, labelled)
            _parsed(batch, wanted, pool).write_parquet(parts[-1], compression="lz4", statistics=False)
    return RawTable(pl.scan_parquet(parts, glob=False), tuple(found), usecase.data.id or NO_ID, batches.empty)


def needed(usecase: UseCase, labelled: bool) -> list[str]:
    """The columns a raw file must have, by name."""
    data, split = usecase.data, usecase.split
    names = [column.name for column in usecase.columns] + [data.id]
    if labelled:
        names += [data.label, split.group, data.time if split.method == "time" else ""]
    return [name for name in dict.fromkeys(names) if name]


def _needed_of(schema: pl.Schema, file: Path, usecase: UseCase, labelled: bool) -> list[str]:
    """The columns to read of a file, the time where it has one. Raises InputError for one that is missing."""
    names = needed(usecase, labelled)
    missing = [name for name in names if name not in schema]
    if missing:
        present = [name for name in schema if not name.startswith("__")]
        raise InputError(_missing_columns(file, missing, present, usecase.data.separator))
    time = usecase.data.time
    return [*names, *([time] if time and time in schema and time not in names else [])]


def _missing_columns(file: Path, missing: list[str], present: list[str], separator: str) -> str:
    lacking, shown = listed(map(repr, missing), 5), listed(map(repr, present), 12)
    if line := _line_of_names(file, missing, separator):
        return f"{file.name} has no column {lacking}: line {line} looks like the names; delete what stands above it."
    hint = " The separator may be wrong (usecase.toml [data] separator)." if len(present) == 1 else ""
    return f"{file.name} has no column {lacking}; it has {shown}{unlike(missing, present)}.{hint}"


def _line_of_names(file: Path, missing: list[str], separator: str) -> int:
    """The line below the first, of a few, that holds most of the names; 0 where none does, or they are no lines."""
    if file.name.lower().endswith(".parquet"):
        return 0
    with files.opened(file) as handle:
        lines = [line.decode(errors="replace").strip() for line in islice(handle, TITLES)]
    cells = [{cell.strip(' "') for cell in line.split(separator)} for line in lines]
    most = [number for number, held in enumerate(cells, 1) if 2 * len(held & set(missing)) > len(missing)]
    return most[0] if most and most[0] > 1 else 0


def as_text(name: str, decimal: str = ".") -> pl.Expr:
    """A source column as the text that it is under a contract, whichever file it came from."""

    def read(cells: pl.Series) -> pl.Series:
        found = values.texts(cells, (), decimal)
        return found.str.replace(".", decimal, literal=True) if cells.dtype.is_numeric() else found

    return pl.col(name).map_batches(read, return_dtype=pl.String, is_elementwise=True)


def shared(ids: pl.LazyFrame) -> tuple[int, list[str]]:
    """Of a frame whose one column is `id`: how many rows have the id of another one, and the first such ids."""
    known = ids.drop_nulls()
    same = pl.len() - pl.col("id").hash().n_unique()  # a few bytes a row; ids are held only where some are the same
    if not known.select(same).collect(engine="streaming").item():
        return 0, []
    repeated = known.group_by("id").len().filter(pl.col("len") > 1)
    found = repeated.select(pl.col("len").sum(), pl.col("id").sort().head(3).implode())
    rows, first = found.collect(engine="streaming").row(0)
    return rows, list(first)


def spelling(usecase: UseCase) -> Spelling:
    """How the use case's files write values."""
    return Spelling(usecase.data.missing, usecase.data.decimal, usecase.data.thousands)


def _wanted(usecase: UseCase, schema: pl.Schema, labelled: bool) -> list[Wanted]:
    """The id, the contract's columns and the time, then the label and the group of training rows."""
    data, written = usecase.data, spelling(usecase)

    def text(cells: pl.Series) -> Found:
        return values.texts(cells, written.markers, written.decimal), None

    def identity(cells: pl.Series) -> Found:
        found = values.texts(cells, written.markers, written.decimal)
        return found, found.is_null() if found.null_count() else None

    wanted = (
        [Wanted(data.id, data.id, identity, f"column {data.id!r}: the id is missing", kept=True)] if data.id else []
    )
    wanted += [_column(column, usecase, written) for column in usecase.columns]
    if data.time in schema and data.time not in [column.name for column in usecase.columns]:
        wanted.append(_column(Column(data.time, "date", format=data.time_format), usecase, written))
    if labelled:
        wanted.append(_label(usecase, written))
        wanted += [Wanted(usecase.split.group, GROUP, text)] if usecase.split.group else []
    return wanted


def _column(column: Column, usecase: UseCase, written: Spelling) -> Wanted:
    data = usecase.data
    zone = column.time_zone or (data.time_zone if column.name == data.time else "")
    written = replace(written, missing=(*written.missing, *column.missing), format=column.format)

    def parse(cells: pl.Series) -> Found:
        match column.type:
            case "number":
                return values.number(cells, written, column.minimum, column.maximum)
            case "boolean":
                return values.boolean(cells, written)
            case "date":
                return values.date(cells, column.format, zone, written)
        return values.texts(cells, written.markers, written.decimal), None

    number = f"a number like {column.format}" if column.format else "a number"
    kinds = {"number": number, "boolean": "a yes or no", "date": _moment(column.format)}
    low = "" if column.minimum is None else f" from {column.minimum:g}"
    high = "" if column.maximum is None else f" up to {column.maximum:g}"
    wrong = f"column {column.name!r}: '{{}}' is not {kinds.get(column.type, 'a category')}{low}{high}"
    return Wanted(column.name, column.name, parse, wrong, flagged=column.type in kinds)


def _moment(form: str) -> str:
    return f"a number of {EPOCHS[form][0]} since 1970" if form in EPOCHS else f"a date like {form or '%Y-%m-%d'}"


def _label(usecase: UseCase, written: Spelling) -> Wanted:
    """Text for classes, Float64 for regression; null where it is missing, of no known class, or no number."""
    data = usecase.data

    def parse(cells: pl.Series) -> Found:
        if data.task == "regression":
            return values.number(cells, replace(written, format=data.label_format))
        return values.named(cells, data.classes, written)

    wanted = "a number" if data.task == "regression" else f"one of {listed(data.classes)}"
    return Wanted(data.label, data.label, parse, f"label {data.label!r}: '{{}}' is not {wanted}")


def _parsed(batch: pl.DataFrame, wanted: list[Wanted], pool: ThreadPoolExecutor) -> pl.DataFrame:
    """A batch under the contract."""
    error, columns = batch[RAGGED].alias(ERROR), list[pl.Series]()
    right = pl.repeat(False, len(batch), eager=True)
    ragged = error.is_not_null() if error.null_count() < len(error) else None

    def parsed(want: Wanted) -> Found:
        try:
            return want.parse(batch[want.source])
        except InputError as problem:
            raise InputError(f"{batch[FILE][0]}: {problem}") from None
        except pl.exceptions.PolarsError as problem:  # a kind without text, dates of no known format, no such zone
            why = str(problem).partition("\n")[0]
            raise InputError(f"{batch[FILE][0]}: column {want.source!r} can't be read: {why}.") from None

    for want, (found, wrong) in zip(wanted, pool.map(parsed, wanted), strict=True):
        if wrong is not None:
            error = _said(error, wrong, batch[want.source], want.wrong)
        taken = found if ragged is None or want.kept else found.set(ragged, None)
        columns.append(taken.alias(want.name))
        if want.flagged:
            flag = right if wrong is None else wrong
            columns.append((flag if ragged is None else flag & ~ragged).alias(INVALID + want.name))
    frame = batch.select(FILE, ROW, RAGGED).with_columns(*columns, error, error.is_not_null().alias(BROKEN))
    stem = pl.col(FILE).str.split(".").list.first()
    return frame if wanted[0].kept else frame.with_columns(pl.concat_str(stem, pl.lit(":"), ROW).alias(NO_ID))


def _said(error: pl.Series, wrong: pl.Series, cells: pl.Series, sentence: str) -> pl.Series:
    """The reasons with those of wrong cells, where a row has none yet."""
    places = (wrong & error.is_null()).arg_true()
    if places.is_empty():
        return error
    before, gap, after = sentence.partition("{}")
    shown = cells.gather(places).cast(pl.String).fill_null("")
    return error.scatter(places, [f"{before}{text[:40] if gap else ''}{after}" for text in shown])


Schema = dict[str, Any]  # what preprocessor.json holds
FEW = 3  # rows, below which a batch of new categories is only warned of
BY_CHANCE = (0.05, 1e-5)  # a chance below the first is worth a word, below the second it is none


@dataclass(frozen=True)
class Counts:
    """Of one table: all rows, those that break the contract, those without a label or group; values per column."""

    rows: int
    broken: int
    unlabelled: int
    classes: int
    present: dict[str, int]
    ungrouped: int = 0


def count(table: RawTable, usecase: UseCase, labelled: bool) -> Counts:
    """One streaming pass over the table. Raises InputError for a file that turns out unreadable on the way."""
    label = usecase.data.label
    expressions = [pl.len().alias("rows"), pl.col(BROKEN).sum().alias("broken")]
    expressions += [pl.col(column.name).count().alias(f"present:{column.name}") for column in usecase.columns]
    if labelled:
        unlabelled = pl.col(label).is_null() & ~pl.col(BROKEN)
        classes = pl.col(label).n_unique()
        expressions += [
            unlabelled.sum().alias("unlabelled"),
            (classes - pl.col(label).is_null().any()).alias("classes"),
        ]
    if labelled and usecase.split.group:
        expressions.append(pl.col(GROUP).null_count().alias("ungrouped"))
    try:
        row: dict[str, Any] = table.frame.select(expressions).collect(engine="streaming").row(0, named=True)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    present = {column.name: row[f"present:{column.name}"] for column in usecase.columns}
    unlabelled, classes, ungrouped = (row.get(name, 0) for name in ("unlabelled", "classes", "ungrouped"))
    return Counts(row["rows"], row["broken"], unlabelled, classes, present, ungrouped)


def check(table: RawTable, usecase: UseCase, counts: Counts) -> None:
    """Raises InputError for a table without rows, or with more broken rows than [data] bad_rows allows."""
    names = listed((file.name for file in table.files), 3)
    if counts.rows == 0:
        raise InputError(f"{names} holds a header and no rows.")
    if counts.broken > usecase.data.bad_rows * counts.rows:
        raise InputError(
            f"{first_break(table)}; {counts.broken:,} of {counts.rows:,} rows break the contract, "
            f"[data] bad_rows allows {usecase.data.bad_rows:.2%}: mend the data or the contract."
        )


def check_training(table: RawTable, usecase: UseCase, counts: Counts) -> None:
    """What training needs on top. Raises InputError for one class only, no label at all, or a column without values."""
    check(table, usecase, counts)
    label, name = usecase.data.label, table.files[0].name
    if counts.rows == counts.unlabelled + counts.broken:
        raise InputError(f"{name}: column {label!r} (the label) has no value in any of {counts.rows:,} rows.")
    if counts.classes < 2:
        raise InputError(f"{name}: column {label!r} (the label) holds one value only; there is nothing to learn.")
    if usecase.split.group and counts.ungrouped == counts.rows:
        raise InputError(f"{name}: column {usecase.split.group!r} ([split] group) has no value in any row.")
    empty = [column for column, present in counts.present.items() if present == 0]
    if empty:
        raise InputError(
            f"{name}: column {empty[0]!r} has no value in any of {counts.rows:,} rows; "
            "take it out of [columns] or mend the export."
        )


def check_known(table: RawTable, usecase: UseCase, learned: Schema, now: Mapping[str, tuple[int, int]]) -> list[str]:
    """What to warn of: columns with categories of which training knew none, in too few rows to exclude chance.

    Raises InputError where chance is excluded: such a column is written in another way, or it is another column. A
    column with drift = false may move by its nature, as the name of a month does.
    """
    warnings, moving = [], {column.name for column in usecase.columns if not column.drift}
    for feature in learned["features"]:
        then, (present, known) = learned.get("known", {}).get(feature["name"]), now.get(feature["name"], (0, 0))
        bare = _without_zeros(table, feature) if known < present else ""
        if bare and known:
            warnings.append(f"column {feature['source']!r}: {bare}")
        if then is None or known or not present:
            continue
        unknown = (then[0] - then[1] + 1) / (then[0] + 2)  # of a value, as training saw it (Laplace's rule)
        if unknown**present > BY_CHANCE[0]:
            continue
        cells = pl.col(feature["source"]).filter(~pl.col(BROKEN)).drop_nulls().unique(maintain_order=True).head(3)
        seen = ", ".join(repr(text) for text in table.frame.select(cells).collect().to_series())
        wanted = ", ".join(repr(text) for text in feature["categories"][1:4])
        said = f"column {feature['source']!r}: training knew no value of its {present:,} here: {seen}; it knew {wanted}"
        said += f"; {bare}" if bare else ""
        if present >= FEW and unknown**present < BY_CHANCE[1] and feature["source"] not in moving:
            raise InputError(
                f"{said} …; mend the data, train again, or write drift = false beside it if it moves by its nature."
            )
        warnings.append(said)
    return warnings


def shared_ids(table: RawTable, usecase: UseCase) -> list[str]:
    """What to warn of where rows have the id of another one: how many, and the first such ids."""
    rows, first = shared(table.frame.select(pl.col(usecase.data.id).alias("id"))) if usecase.data.id else (0, [])
    shown = ", ".join(map(repr, first))
    said = f"{rows:,} rows share their {usecase.data.id!r} with another row, such as {shown}: nothing tells them apart"
    return [said] if rows else []


def _without_zeros(table: RawTable, feature: dict[str, Any]) -> str:
    """Codes that lost their leading zeros where they were read as numbers, in words; "" where there are none."""
    codes = {str(int(code)): code for code in feature.get("categories", ()) if code.isdecimal()}
    codes = {bare: code for bare, code in codes.items() if bare != code and bare not in feature["categories"]}
    if not codes:
        return ""
    values = pl.col(feature["source"]).filter(~pl.col(BROKEN))
    cells = table.frame.select(values.filter(values.is_in(list(codes)))).collect(engine="streaming").to_series()
    if cells.is_empty():
        return ""
    lost = f"leading zeros are missing in {len(cells):,} rows ({cells[0]!r} was {codes[cells[0]]!r} in training)"
    return f"{lost}: write the column as text, not as numbers"


def first_break(table: RawTable) -> str:
    """The first row that breaks the contract: file, row and what is wrong."""
    file, row, error = table.reasons.head(1).collect(engine="streaming").row(0)
    return f"{file}, row {row}: {error}"
