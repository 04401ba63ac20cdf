"""Raw tables under the contract: one lazy frame with the contract's columns in the contract's types.

Files are read one after another in batches of a bounded number of cells, whose columns are parsed one by one, and what
comes out lies in Parquet files of scratch: memory and time grow neither with the number of files nor faster than the
columns do. Beside a column `c` that can be wrong stands `__invalid:c`: the cell holds something that is not a value of
its type or range. `__error` says in words what is wrong with a row, `__broken` whether anything is.
"""

from collections import Counter
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

ERROR, BROKEN, INVALID, FILE = "__error", "__broken", "__invalid:", "__file"
GROUP = "__group"  # what [split] group says of a row, as text
NO_ID = "row"  # the name of the id that stands in where the contract names none
CELLS, ROWS = 2_000_000, 100_000  # read at once, rows however narrow they are
TITLES = 30  # lines among which the names may stand
FEW = 3  # rows, below which a batch of new categories is only warned of
BY_CHANCE = (0.05, 1e-5)  # a chance below the first is worth a word, below the second it is none


@dataclass(frozen=True)
class RawTable:
    """`frame` has the id, each contract column and the `__invalid:` flags, and the time, label and group if any.

    Types: id String, number Float64, category String, boolean Boolean, date and time Datetime (microseconds, no zone),
    label String, or Float64 for regression. Each row has its `__file`, `__row`, `__broken`, `__error` and `__ragged`:
    the line had too few or too many cells, so that nothing but the id was taken from it.

    Of the `rows`, some are `broken`, `unlabelled` (and not broken) or `ungrouped`; `values` has how many each column
    has, `classes` a few values of the label. `empty` is how many lines held nothing at all, and are no rows.
    """

    frame: pl.LazyFrame
    files: tuple[Path, ...]
    id: str
    empty: int
    rows: int
    broken: int
    unlabelled: int
    ungrouped: int
    values: Mapping[str, int]
    classes: frozenset[Any]

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

    `wrong` has "{}" where the cell's own text stands. Only `flagged` columns have an `__invalid:` beside them.
    """

    source: str
    name: str
    parse: Callable[[pl.Series], Parsed]
    wrong: str = ""
    flagged: bool = False


def read(folder: Path, usecase: UseCase, labelled: bool = False) -> RawTable:
    """The raw table in a folder: one or more CSV (also packed) or Parquet files.

    Raises InputError for a folder without files, a damaged file, one without a needed column, or a column of moments
    whose time zone is not said.
    """
    tables, empty, parts = files.find(folder), list[int](), list[Path]()
    scratch, present, classes = files.scratch("parsed-"), Counter[str](), set[Any]()
    counts = Counter(rows=0, broken=0, unlabelled=0, ungrouped=0)
    names, label = [column.name for column in usecase.columns], usecase.data.label
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        for batch in _batches(tables, usecase, labelled, empty):
            parts.append(scratch / f"{len(parts):05d}.parquet")
            parsed = _parsed(batch, usecase, labelled, pool)
            parsed.write_parquet(parts[-1], compression="lz4", statistics=False)
            counts.update(rows=len(parsed), broken=int(parsed[BROKEN].sum()))
            present.update({name: parsed[name].count() for name in names})
            if labelled:
                counts.update(unlabelled=int((parsed[label].is_null() & ~parsed[BROKEN]).sum()))
                classes.update(parsed[label].drop_nulls().unique().head(2))
            if GROUP in parsed.columns:
                counts.update(ungrouped=parsed[GROUP].null_count())
    return RawTable(
        pl.scan_parquet(parts, glob=False),
        tuple(tables),
        usecase.data.id or NO_ID,
        empty=sum(empty),
        values=present,
        classes=frozenset(classes),
        **counts,
    )


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
    """The contract's columns and the time, then the label and the group of training rows."""
    data, columns = usecase.data, [*usecase.columns]
    spelling = Spelling(data.missing, data.decimal, data.thousands)
    if data.time in schema and data.time not in [column.name for column in columns]:
        columns.append(Column(data.time, "date", format=data.time_format))
    parsers = []
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
        }.get(column.type, ("", partial(values.text, spelling=written)))
        bounds = ("" if low is None else f" from {low:g}") + ("" if high is None else f" up to {high:g}")
        wrong = f"column {column.name!r}: '{{}}' is not {wanted}{bounds}"
        parsers.append(Parser(column.name, column.name, parse, wrong, flagged=bool(wanted)))
    if labelled:
        kind, parse = f"one of {listed(data.classes)}", partial(values.named, classes=data.classes, spelling=spelling)
        if data.task == "regression":
            kind, parse = "a number", partial(values.number, spelling=replace(spelling, format=data.label_format))
        parsers.append(Parser(data.label, data.label, parse, f"label {data.label!r}: '{{}}' is not {kind}"))
        group = usecase.split.group
        parsers += [Parser(group, GROUP, partial(values.text, spelling=spelling))] if group else []
    return parsers


def _parsed(batch: pl.DataFrame, usecase: UseCase, labelled: bool, pool: ThreadPoolExecutor) -> pl.DataFrame:
    """A batch under the contract; the first of a row's reasons stands in `__error`."""
    error, columns, name = batch[RAGGED].alias(ERROR), list[pl.Series](), usecase.data.id
    right = pl.repeat(False, len(batch), eager=True)
    ragged = error.is_not_null() if error.null_count() < len(error) else None
    parsers = _parsers(usecase, batch.schema, labelled)

    def parse(parser: Parser) -> Parsed:
        try:
            return parser.parse(batch[parser.source])
        except InputError as problem:
            raise InputError(f"{batch[FILE][0]}: {problem}") from None
        except pl.exceptions.PolarsError as problem:  # a kind without text, dates of no known format, no such zone
            why = files.first_line(problem)
            raise InputError(f"{batch[FILE][0]}: column {parser.source!r} can't be read: {why}.") from None

    if name:  # all that is taken from a ragged line
        data = usecase.data
        text = partial(values.text, spelling=Spelling(data.missing, data.decimal))
        identity, _ = parse(Parser(name, name, text))
        columns.append(identity.alias(name))
        nameless = identity.is_null() & error.is_null()
        error = error.set(nameless, f"column {name!r}: the id is missing") if nameless.any() else error
    for parser, (cells, wrong) in zip(parsers, pool.map(parse, parsers), strict=True):
        if wrong is not None and (wrong & error.is_null()).any():
            rows = (wrong & error.is_null()).arg_true()
            before, _, after = parser.wrong.partition("{}")
            shown = batch[parser.source].gather(rows).cast(pl.String).fill_null("")
            error = error.scatter(rows, [f"{before}{text[:40]}{after}" for text in shown])
        columns.append((cells if ragged is None else cells.set(ragged, None)).alias(parser.name))
        if parser.flagged:
            flag = right if wrong is None else wrong
            columns.append((flag if ragged is None else flag & ~ragged).alias(INVALID + parser.name))
    frame = batch.select(FILE, ROW, RAGGED).with_columns(*columns, error, error.is_not_null().alias(BROKEN))
    stem = pl.col(FILE).str.split(".").list.first()
    return frame if name else frame.with_columns(pl.concat_str(stem, pl.lit(":"), ROW).alias(NO_ID))


def check(table: RawTable, usecase: UseCase) -> None:
    """Raises InputError for a table without rows, or with more broken rows than [data] bad_rows allows."""
    if table.rows == 0:
        raise InputError(f"{listed((file.name for file in table.files), 3)} holds a header and no rows.")
    if table.broken > usecase.data.bad_rows * table.rows:
        raise InputError(
            f"{first_break(table)}; {table.broken:,} of {table.rows:,} rows break the contract, "
            f"[data] bad_rows allows {usecase.data.bad_rows:.2%}: mend the data or the contract."
        )


def check_labels(table: RawTable, usecase: UseCase) -> None:
    """What an earlier window must hold: rows that keep the contract, and labels. Raises InputError."""
    check(table, usecase)
    if table.rows == table.unlabelled + table.broken:
        raise InputError(f"no usable row of {table.rows:,} has a label.")


def check_training(table: RawTable, usecase: UseCase) -> None:
    """What training needs on top. Raises InputError for one class only, no label at all, or a column without values."""
    check(table, usecase)
    label, group, name = usecase.data.label, usecase.split.group, table.files[0].name
    if table.rows == table.unlabelled + table.broken:
        raise InputError(f"{name}: column {label!r} (the label) has no value in any of {table.rows:,} rows.")
    if len(table.classes) < 2:
        raise InputError(f"{name}: column {label!r} (the label) holds one value only; there is nothing to learn.")
    if group and table.ungrouped == table.rows:
        raise InputError(f"{name}: column {group!r} ([split] group) has no value in any row.")
    if empty := next((column.name for column in usecase.columns if not table.values[column.name]), ""):
        raise InputError(
            f"{name}: column {empty!r} has no value in any of {table.rows:,} rows; "
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
    repeated = known.group_by("id").len().filter(pl.col("len") > 1).collect(engine="streaming")
    return int(repeated["len"].sum()), repeated["id"].sort().head(3).to_list()


def shared_ids(table: RawTable, usecase: UseCase) -> list[str]:
    """What to warn of where rows have the id of another one: how many, and the first such ids."""
    name = usecase.data.id
    rows, first = shared(table.frame.select(pl.col(name).alias("id"))) if name else (0, [])
    if not rows:
        return []
    shown = ", ".join(map(repr, first))
    return [f"{rows:,} rows share their {name!r} with another row, such as {shown}: nothing tells them apart"]


def check_known(
    table: RawTable, usecase: UseCase, learned: Mapping[str, Any], now: Mapping[str, tuple[int, int]]
) -> list[str]:
    """What to warn of: columns with categories of which training knew none, in too few rows to exclude chance.

    Raises InputError where chance is excluded: such a column is written in another way, or it is another column. A
    column with drift = false may move by its nature, as the name of a month does.
    """
    warnings, moving = [], {column.name for column in usecase.columns if not column.drift}
    for feature in learned["features"]:
        name = feature["source"]
        then, (present, known) = learned.get("known", {}).get(feature["name"]), now.get(feature["name"], (0, 0))
        zeros = _without_zeros(table, feature) if known < present else ""
        if zeros and known:
            warnings.append(f"column {name!r}: {zeros}")
        if then is None or known or not present:
            continue
        unknown = (then[0] - then[1] + 1) / (then[0] + 2)  # of a value, as training saw it (Laplace's rule)
        if unknown**present > BY_CHANCE[0]:
            continue
        cells = pl.col(name).filter(~pl.col(BROKEN)).drop_nulls().unique(maintain_order=True).head(3)
        seen, wanted = table.frame.select(cells).collect()[name], feature["categories"][1:4]
        seen, wanted = (", ".join(map(repr, texts)) for texts in (seen, wanted))
        words = f"column {name!r}: training knew no value of its {present:,} here: {seen}; it knew {wanted}"
        words += f"; {zeros}" if zeros else ""
        if present >= FEW and unknown**present < BY_CHANCE[1] and name not in moving:
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
    was = f"{cells[0]!r} was {codes[cells[0]]!r} in training" if len(cells) else ""
    lost = f"leading zeros are missing in {len(cells):,} rows ({was}): write the column as text, not as numbers"
    return lost if was else ""
