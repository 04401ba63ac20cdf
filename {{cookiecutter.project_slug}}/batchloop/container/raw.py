"""Raw tables under the contract: one lazy frame with the contract's columns in the contract's types.

Files are read one after another in batches of a bounded number of cells, whose columns are parsed one by one, and what
comes out lies in Parquet files of scratch: memory and time grow neither with the number of files nor faster than the
columns do. Beside a column `c` that can be wrong stands `__invalid:c`: the cell holds something that is not a value of
its type or range. `__error` says in words what is wrong with a row, `__broken` whether anything is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.container import files, values
from batchloop.container.job import InputError, column_hint, listed
from batchloop.container.lines import RAGGED, ROW
from batchloop.container.usecase import EPOCHS, Column, UseCase
from batchloop.container.values import FALSE, TRUE, Parsed, Spelling

__all__ = ["FALSE", "RAGGED", "ROW", "TRUE"]


Schema = dict[str, Any]  # what preprocessor.json holds
ERROR, BROKEN, INVALID, FILE = "__error", "__broken", "__invalid:", "__file"
GROUP = "__group"  # what [split] group says of a row, as text
NO_ID = "row"  # the name of the id that stands in where the contract names none
CELLS, ROWS = 2_000_000, 100_000  # read at once, rows however narrow they are
COLUMNS_AT_ONCE = 200  # in one query: the cost of a plan grows with the square of its columns
TITLES = 30  # lines among which the names may stand
FEW = 3  # rows, below which a batch of new categories is only warned of
BY_CHANCE = (0.05, 1e-5)  # a chance below the first is worth a word, below the second it is none


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
class Parser:
    """A column of a file and what it becomes: its name then, how it is parsed, and what is said of a wrong cell.

    `wrong` has "{}" where the cell's own text stands. Only `flagged` columns have an `__invalid:` beside them, and the
    id is all that is `kept` of a ragged line.
    """

    source: str
    name: str
    parse: Callable[[pl.Series], Parsed]
    wrong: str = ""
    flagged: bool = False
    kept: bool = False


def read(folder: Path, usecase: UseCase, labelled: bool = False) -> RawTable:
    """The raw table in a folder: one or more CSV (also packed) or Parquet files.

    Raises InputError for a folder without files, a damaged file, one without a needed column, or a column of moments
    whose time zone is not said.
    """
    tables, empty, parts = files.find(folder), list[int](), list[Path]()
    scratch = files.scratch("parsed-")
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        for batch in _batches(tables, usecase, labelled, empty):
            parts.append(scratch / f"{len(parts):05d}.parquet")
            parsed = _parsed(batch, _parsers(usecase, batch.schema, labelled), pool)
            parsed.write_parquet(parts[-1], compression="lz4", statistics=False)
    return RawTable(pl.scan_parquet(parts, glob=False), tuple(tables), usecase.data.id or NO_ID, sum(empty))


def _batches(tables: list[Path], usecase: UseCase, labelled: bool, empty: list[int]) -> Iterator[pl.DataFrame]:
    """Files as frames of text or of Parquet's types, small ones of one kind together; `empty` lines of each file."""
    held: list[pl.DataFrame] = []
    for file in tables:
        try:
            rows = files.read(file, usecase.data)
            empty.append(rows.empty)
            schema = rows.frame.collect_schema()
            names = _needed(schema, file, usecase, labelled)
            ragged = pl.col(RAGGED) if RAGGED in schema else pl.lit(None, dtype=pl.String)
            origin = (pl.lit(file.name).alias(FILE), pl.col(ROW).cast(pl.UInt32), ragged.alias(RAGGED))
            frame = rows.frame.select(*names, *origin)
            size = max(1, min(ROWS, CELLS // (len(names) + len(origin))))
            for batch in frame.collect_batches(chunk_size=size, maintain_order=True):
                if held and (held[0].schema != batch.schema or sum(map(len, held)) + len(batch) > size):
                    yield pl.concat(held)
                    held.clear()
                held.append(batch)
            if not held:
                held.append(frame.head(0).collect())
        except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
            raise files.explain(error, [file]) from None
    yield pl.concat(held)


def _needed(schema: pl.Schema, file: Path, usecase: UseCase, labelled: bool) -> list[str]:
    """The columns to read of a file, the time where it has one. Raises InputError for one that is missing."""
    data, split = usecase.data, usecase.split
    names = [column.name for column in usecase.columns] + [data.id]
    if labelled:
        names += [data.label, split.group, data.time if split.method == "time" else ""]
    names = [name for name in dict.fromkeys(names) if name]
    missing = [name for name in names if name not in schema]
    if not missing:
        return [*names, *([data.time] if data.time and data.time in schema and data.time not in names else [])]
    present = [name for name in schema if not name.startswith("__")]
    absent, shown = listed(map(repr, missing), 5), listed(map(repr, present), 12)
    if line := _line_of_names(file, missing, data.separator):
        raise InputError(
            f"{file.name} has no column {absent}: line {line} looks like the names; delete what stands above it."
        )
    hint = " The separator may be wrong (usecase.toml [data] separator)." if len(present) == 1 else ""
    raise InputError(f"{file.name} has no column {absent}; it has {shown}{column_hint(missing, present)}.{hint}")


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
        texts = values.texts(cells, (), decimal)
        return texts.str.replace(".", decimal, literal=True) if cells.dtype.is_numeric() else texts

    return pl.col(name).map_batches(read, return_dtype=pl.String, is_elementwise=True)


def _parsers(usecase: UseCase, schema: pl.Schema, labelled: bool) -> list[Parser]:
    """The id, the contract's columns and the time, then the label and the group of training rows."""
    data, columns = usecase.data, [*usecase.columns]
    spelling = Spelling(data.missing, data.decimal, data.thousands)

    def text(cells: pl.Series) -> Parsed:
        return values.texts(cells, spelling.markers, spelling.decimal), None

    def identity(cells: pl.Series) -> Parsed:
        ids, _ = text(cells)
        return ids, ids.is_null() if ids.null_count() else None

    reason = f"column {data.id!r}: the id is missing"
    parsers = [Parser(data.id, data.id, identity, reason, kept=True)] if data.id else []
    if data.time in schema and data.time not in [column.name for column in columns]:
        columns.append(Column(data.time, "date", format=data.time_format))
    for column in columns:
        zone = column.time_zone or (data.time_zone if column.name == data.time else "")
        parsers.append(_column_parser(column, zone, spelling))
    if labelled:
        kind, parse = f"one of {listed(data.classes)}", partial(values.named, classes=data.classes, spelling=spelling)
        if data.task == "regression":
            kind, parse = "a number", partial(values.number, spelling=replace(spelling, format=data.label_format))
        parsers.append(Parser(data.label, data.label, parse, f"label {data.label!r}: '{{}}' is not {kind}"))
        parsers += [Parser(usecase.split.group, GROUP, text)] if usecase.split.group else []
    return parsers


def _column_parser(column: Column, zone: str, spelling: Spelling) -> Parser:
    form, low, high = column.format, column.minimum, column.maximum
    written = replace(spelling, missing=(*spelling.missing, *column.missing), format=form)
    wanted = {"number": f"a number like {form}" if form else "a number", "boolean": "a yes or no"}
    wanted["date"] = f"a date like {form or '%Y-%m-%d'}"
    if form in EPOCHS:
        wanted["date"] = f"a number of {EPOCHS[form][0]} since 1970"

    def parse(cells: pl.Series) -> Parsed:
        match column.type:
            case "number":
                return values.number(cells, written, low, high)
            case "boolean":
                return values.boolean(cells, written)
            case "date":
                return values.date(cells, form, zone, written)
        return values.texts(cells, written.markers, written.decimal), None

    bounds = ("" if low is None else f" from {low:g}") + ("" if high is None else f" up to {high:g}")
    wrong = f"column {column.name!r}: '{{}}' is not {wanted.get(column.type, 'a category')}{bounds}"
    return Parser(column.name, column.name, parse, wrong, flagged=column.type in wanted)


def _parsed(batch: pl.DataFrame, parsers: list[Parser], pool: ThreadPoolExecutor) -> pl.DataFrame:
    """A batch under the contract; the first of a row's reasons stands in `__error`."""
    error, columns = batch[RAGGED].alias(ERROR), list[pl.Series]()
    right = pl.repeat(False, len(batch), eager=True)
    ragged = error.is_not_null() if error.null_count() < len(error) else None

    def parse(parser: Parser) -> Parsed:
        try:
            return parser.parse(batch[parser.source])
        except InputError as problem:
            raise InputError(f"{batch[FILE][0]}: {problem}") from None
        except pl.exceptions.PolarsError as problem:  # a kind without text, dates of no known format, no such zone
            why = str(problem).partition("\n")[0]
            raise InputError(f"{batch[FILE][0]}: column {parser.source!r} can't be read: {why}.") from None

    for parser, (cells, wrong) in zip(parsers, pool.map(parse, parsers), strict=True):
        if wrong is not None and (wrong & error.is_null()).any():
            rows = (wrong & error.is_null()).arg_true()
            before, gap, after = parser.wrong.partition("{}")
            shown = batch[parser.source].gather(rows).cast(pl.String).fill_null("")
            error = error.scatter(rows, [f"{before}{text[:40] if gap else ''}{after}" for text in shown])
        columns.append((cells if ragged is None or parser.kept else cells.set(ragged, None)).alias(parser.name))
        if parser.flagged:
            flag = right if wrong is None else wrong
            columns.append((flag if ragged is None else flag & ~ragged).alias(INVALID + parser.name))
    frame = batch.select(FILE, ROW, RAGGED).with_columns(*columns, error, error.is_not_null().alias(BROKEN))
    stem = pl.col(FILE).str.split(".").list.first()
    return frame if parsers[0].kept else frame.with_columns(pl.concat_str(stem, pl.lit(":"), ROW).alias(NO_ID))


@dataclass(frozen=True)
class Counts:
    """Of one table: all rows, those that break the contract, those without a label or group; values per column."""

    rows: int
    broken: int
    present: dict[str, int]
    unlabelled: int = 0
    classes: int = 0
    ungrouped: int = 0


def count(table: RawTable, usecase: UseCase, labelled: bool) -> Counts:
    """One streaming pass over the table. Raises InputError for a file that turns out unreadable on the way."""
    label, names = pl.col(usecase.data.label), [column.name for column in usecase.columns]
    expressions = {"rows": pl.len(), "broken": pl.col(BROKEN).sum()}
    if labelled:
        expressions["unlabelled"] = (label.is_null() & ~pl.col(BROKEN)).sum()
        expressions["classes"] = label.n_unique() - label.is_null().any()
    if labelled and usecase.split.group:
        expressions["ungrouped"] = pl.col(GROUP).null_count()
    present = [pl.col(name).count().alias(f"present:{name}") for name in names]
    try:
        row = table.frame.select(*present, **expressions).collect(engine="streaming").row(0)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    counts = dict(zip(expressions, row[len(names) :], strict=True))
    return Counts(present=dict(zip(names, row, strict=False)), **counts)


def check(table: RawTable, usecase: UseCase, counts: Counts) -> None:
    """Raises InputError for a table without rows, or with more broken rows than [data] bad_rows allows."""
    if counts.rows == 0:
        raise InputError(f"{listed((file.name for file in table.files), 3)} holds a header and no rows.")
    if counts.broken > usecase.data.bad_rows * counts.rows:
        raise InputError(
            f"{first_break(table)}; {counts.broken:,} of {counts.rows:,} rows break the contract, "
            f"[data] bad_rows allows {usecase.data.bad_rows:.2%}: mend the data or the contract."
        )


def check_training(table: RawTable, usecase: UseCase, counts: Counts) -> None:
    """What training needs on top. Raises InputError for one class only, no label at all, or a column without values."""
    check(table, usecase, counts)
    label, group, name = usecase.data.label, usecase.split.group, table.files[0].name
    if counts.rows == counts.unlabelled + counts.broken:
        raise InputError(f"{name}: column {label!r} (the label) has no value in any of {counts.rows:,} rows.")
    if counts.classes < 2:
        raise InputError(f"{name}: column {label!r} (the label) holds one value only; there is nothing to learn.")
    if group and counts.ungrouped == counts.rows:
        raise InputError(f"{name}: column {group!r} ([split] group) has no value in any row.")
    if empty := next((column for column, present in counts.present.items() if present == 0), ""):
        raise InputError(
            f"{name}: column {empty!r} has no value in any of {counts.rows:,} rows; "
            "take it out of [columns] or mend the export."
        )


def first_break(table: RawTable) -> str:
    """The first row that breaks the contract: file, row and what is wrong."""
    file, row, error = table.reasons.head(1).collect(engine="streaming").row(0)
    return f"{file}, row {row}: {error}"


def shared(ids: pl.LazyFrame) -> tuple[int, list[str]]:
    """Of a frame whose one column is `id`: how many rows have the id of another one, and the first such ids."""
    known = ids.drop_nulls()
    same = pl.len() - pl.col("id").hash().n_unique()  # a few bytes a row; ids are held only where some are the same
    if not known.select(same).collect(engine="streaming").item():
        return 0, []
    repeated = known.group_by("id").len().filter(pl.col("len") > 1)
    rows, first = (
        repeated.select(pl.col("len").sum(), pl.col("id").sort().head(3).implode()).collect(engine="streaming").row(0)
    )
    return rows, list(first)


def shared_ids(table: RawTable, usecase: UseCase) -> list[str]:
    """What to warn of where rows have the id of another one: how many, and the first such ids."""
    name = usecase.data.id
    rows, first = shared(table.frame.select(pl.col(name).alias("id"))) if name else (0, [])
    shown = ", ".join(map(repr, first))
    warning = f"{rows:,} rows share their {name!r} with another row, such as {shown}: nothing tells them apart"
    return [warning] if rows else []


def check_known(table: RawTable, usecase: UseCase, learned: Schema, now: Mapping[str, tuple[int, int]]) -> list[str]:
    """What to warn of: columns with categories of which training knew none, in too few rows to exclude chance.

    Raises InputError where chance is excluded: such a column is written in another way, or it is another column. A
    column with drift = false may move by its nature, as the name of a month does.
    """
    warnings, moving = [], {column.name for column in usecase.columns if not column.drift}
    for feature in learned["features"]:
        then, (present, known) = learned.get("known", {}).get(feature["name"]), now.get(feature["name"], (0, 0))
        zeros = _without_zeros(table, feature) if known < present else ""
        if zeros and known:
            warnings.append(f"column {feature['source']!r}: {zeros}")
        if then is None or known or not present:
            continue
        unknown = (then[0] - then[1] + 1) / (then[0] + 2)  # of a value, as training saw it (Laplace's rule)
        if unknown**present > BY_CHANCE[0]:
            continue
        cells = pl.col(feature["source"]).filter(~pl.col(BROKEN)).drop_nulls().unique(maintain_order=True).head(3)
        seen = ", ".join(repr(text) for text in table.frame.select(cells).collect().to_series())
        wanted = ", ".join(repr(text) for text in feature["categories"][1:4])
        words = (
            f"column {feature['source']!r}: training knew no value of its {present:,} here: {seen}; it knew {wanted}"
        )
        words += f"; {zeros}" if zeros else ""
        if present >= FEW and unknown**present < BY_CHANCE[1] and feature["source"] not in moving:
            raise InputError(
                f"{words} …; mend the data, train again, or write drift = false beside it if it moves by its nature."
            )
        warnings.append(words)
    return warnings


def _without_zeros(table: RawTable, feature: Mapping[str, Any]) -> str:
    """Codes that lost their leading zeros where they were read as numbers, in words; "" where there are none."""
    names: Sequence[str] = feature.get("categories", ())
    codes = {str(int(code)): code for code in names if code.isdecimal()}
    codes = {bare: code for bare, code in codes.items() if bare not in names}
    if not codes:
        return ""
    values = pl.col(feature["source"]).filter(~pl.col(BROKEN))
    cells = table.frame.select(values.filter(values.is_in(list(codes)))).collect(engine="streaming").to_series()
    if cells.is_empty():
        return ""
    lost = f"leading zeros are missing in {len(cells):,} rows ({cells[0]!r} was {codes[cells[0]]!r} in training)"
    return f"{lost}: write the column as text, not as numbers"
