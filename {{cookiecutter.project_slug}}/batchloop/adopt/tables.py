"""Opening a table whose form is not known yet: which files, how cells are separated, what its columns are called."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.adopt import reading as adopt_reading
from batchloop.adopt.reading import Wishes
from batchloop.container import files, raw, values
from batchloop.container.job import InputError
from batchloop.container.usecase import CLOCKS, Data, usable
from batchloop.container.values import HOUR, Spelling

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
    reading = adopt_reading.find(found, wishes)
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
    adopt_reading.check_rows(found[-1].name, frame)
    return table


def _check_names(file: Path, reading: Data) -> None:
    """Raises Question where a title stands above the names; what can't be opened is told later."""
    if not file.name.lower().endswith(".parquet"):
        with suppress(*adopt_reading.DAMAGED):
            head = adopt_reading.beginning(file, reading.encoding)
            adopt_reading.check_names(file.name, adopt_reading.lines(head, reading.separator), reading.label)
        return
    frame = files.scan(file, reading).drop(raw.ROW).head(adopt_reading.FIRST).collect()
    rows = [["" if cell is None else str(cell) for cell in row] for row in frame.rows()]
    adopt_reading.check_names(file.name, [(0, frame.columns), *enumerate(rows, 1)], reading.label, "row")


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


MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?")
_WORDS = ("-", "--", ".", "..", "*", "n.a.", "nil", "(null)", "missing", "Missing", "MISSING", "unknown", "Unknown")
_SHEET = ("inf", "-inf", "Inf", "-Inf", "Infinity", "-Infinity", "#DIV/0!", "#REF!", "#VALUE!")
MARKERS = (*_WORDS, *_SHEET)
PROBED = 200  # distinct texts a column that are kept
EXACT = 2 * PROBED  # up to so many, distinct texts are counted one by one
EXAMPLES = 5000  # rows among which they are looked for where a column has more than that
COLUMNS_AT_ONCE = 200


@dataclass(frozen=True)
class End:
    """The lowest or highest number of a column: in how many cells it stands, and the number next to it."""

    cells: int
    following: float


@dataclass(frozen=True)
class Facts:
    """Of one column, over all labelled rows; `texts` are some distinct values, `odd` some of those that are no number.

    `marked` are the texts of MARKERS among them, `unmarked` counts the cells that are neither numbers nor these.
    `lowest` and `highest` say how far the ends of a column of numbers stand from the rest.
    """

    name: str
    kind: pl.DataType
    rows: int
    present: int
    distinct: int  # exact up to EXACT, an estimate above: up to a fourth off
    numbers: int
    unmarked: int
    whole: bool
    low: float | None
    high: float | None
    zero_padded: bool
    length: float
    texts: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)
    lowest: "End | None" = None
    highest: "End | None" = None

    @property
    def missing(self) -> float:
        return 1 - self.present / self.rows


@dataclass(frozen=True)
class Look:
    """What deciding needs besides the facts.

    The table, the missing markers, how many odd cells a column may have (their rows are left out of training and said),
    and what the user said: the format of dates, the types of columns, the time zone.
    """

    table: Table
    markers: Sequence[str]
    tolerated: int
    dates: str
    types: Mapping[str, tuple[str, str]]
    zone: str

    def plain(self, column: Facts) -> pl.Expr:
        """The column's text as it stands in the file."""
        return plain(column.name, column.kind, self.markers)

    def texts(self, column: Facts) -> pl.LazyFrame:
        """These texts, as "t", where there are any."""
        return self.table.frame.select(self.plain(column).alias("t")).drop_nulls()


def collect(table: Table, missing: Sequence[str], unlabelled: int) -> dict[str, Facts]:
    """Facts of every column. Raises InputError where the table has no rows with a label or turns out unreadable."""
    schema = table.frame.collect_schema()
    found: dict[str, Facts] = {}
    try:
        for start in range(0, len(schema), COLUMNS_AT_ONCE):
            columns = {name: schema[name] for name in list(schema)[start : start + COLUMNS_AT_ONCE]}
            found |= _collected(prepared(table, columns, missing), columns, table)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    if unlabelled and next(iter(found.values())).rows == 0:
        raise InputError(f"{table.files[0].name}: the label has no value in any of {unlabelled:,} rows.")
    if not found or next(iter(found.values())).rows == 0:
        raise InputError(f"{table.files[0].name} holds a header and no rows.")
    return found


def prepared(table: Table, columns: dict[str, pl.DataType], missing: Sequence[str]) -> pl.LazyFrame:
    """Each column twice, parsed once: as text t0, t1, … and as number n0, n1, … (null where it is none).

    The label's text is the one by which classes are compared, that of other columns stands there as in the file.
    """
    places = list(enumerate(columns.items()))
    plain_ = table.frame.select(
        *(plain(name, kind, missing).alias(f"t{place}") for place, (name, kind) in places),
        *(text(name, kind, missing).alias("label") for name, kind in columns.items() if name == table.label),
    )
    numbers = [table.number(name, pl.col(f"t{place}"), kind) for place, (name, kind) in places]
    parsed = plain_.with_columns(number.alias(f"n{place}") for place, number in enumerate(numbers))
    return parsed.with_columns(pl.col("label").alias(f"t{place}") for place, (name, _) in places if name == table.label)


def _collected(frame: pl.LazyFrame, columns: dict[str, pl.DataType], table: Table) -> dict[str, Facts]:
    """Two passes whose memory does not grow with the rows: counts, then what is worth a closer look."""
    counts = _measured(frame, [_counts(place) for place in range(len(columns))])
    closer = _measured(frame, [_closer(place, count) for place, count in enumerate(counts)])
    some = frame.select(f"t{place}" for place in range(len(columns))).head(EXAMPLES).collect(engine="streaming")
    found = {}
    for place, (name, kind) in enumerate(columns.items()):
        seen = closer[place] | {"texts": closer[place].get("texts") or shown(some[f"t{place}"])}
        found[name] = _facts(name, kind, counts[place], seen, table)
    return found


def _measured(frame: pl.LazyFrame, measures: list[dict[str, pl.Expr]]) -> list[dict[str, Any]]:
    """One pass for the measures of all columns, a dictionary each; no pass where there is nothing to measure."""
    wanted = [(place, key, expression) for place, each in enumerate(measures) for key, expression in each.items()]
    if not wanted:
        return [{} for _ in measures]
    query = frame.select(expression.alias(f"{place}.{key}") for place, key, expression in wanted)
    row = query.collect(engine="streaming").row(0, named=True)
    return [{key: row[f"{place}.{key}"] for key in each} for place, each in enumerate(measures)]


def _counts(place: int) -> dict[str, pl.Expr]:
    text, number = pl.col(f"t{place}"), pl.col(f"n{place}")
    return {
        "rows": pl.len(),
        "present": text.count(),
        "distinct": text.approx_n_unique(),
        "numbers": number.count(),
        "unmarked": (text.is_not_null() & number.is_null() & ~text.is_in(list(MARKERS))).sum(),
        "whole": (number == number.floor()).all(),
        "low": number.min(),
        "high": number.max(),
        "zero_padded": text.str.contains(r"^0\d+$").any(),
        "length": text.str.len_chars().mean(),
        "first": text.min(),
        "last": text.max(),
        "odd_first": text.filter(number.is_null()).min(),
        "odd_last": text.filter(number.is_null()).max(),
    }


def _closer(place: int, count: dict[str, Any]) -> dict[str, pl.Expr]:
    """What is worth a second pass: few texts, the texts among numbers and the markers among these, the ends."""
    text, number = pl.col(f"t{place}"), pl.col(f"n{place}")
    wanted = {}
    if 0 < count["distinct"] <= EXACT:
        wanted["texts"] = text.drop_nulls().unique().sort().implode()
    if count["present"] - count["numbers"] > count["unmarked"]:
        wanted["marked"] = text.filter(text.is_in(list(MARKERS))).unique().sort().implode()
    if count["present"] / 4 <= count["numbers"] < count["present"]:
        wanted["odd"] = text.filter(number.is_null()).drop_nulls().unique().sort().head(PROBED).implode()
    if count["numbers"] and count["low"] < count["high"] and count["distinct"] > 3:
        low, high = count["low"], count["high"]
        ends = {"low_cells": (number == low).sum(), "after_low": number.filter(number > low).min()}
        ends |= {"high_cells": (number == high).sum(), "before_high": number.filter(number < high).max()}
        wanted |= ends
    return wanted


def shown(texts: pl.Series) -> list[str]:
    """Texts from all of their order, so that each kind of them is among them."""
    held = texts.drop_nulls().unique().sort()
    return [str(text) for text in held.gather_every(max(1, math.ceil(held.len() / PROBED)))]


def _facts(name: str, kind: pl.DataType, count: dict[str, Any], closer: dict[str, Any], table: Table) -> Facts:
    first, last, odd_first, odd_last = (count.pop(key) for key in ("first", "last", "odd_first", "odd_last"))
    texts: list[str] = closer["texts"]
    if 0 < count["distinct"] <= EXACT:
        count["distinct"] = len(texts)
    numbers = pl.DataFrame({"t": texts}, schema={"t": pl.String}).select(table.number(name, pl.col("t"), kind))
    odd = closer.get("odd") or [text for text, number in zip(texts, numbers["t"], strict=True) if number is None]
    count |= {"length": count["length"] or 0.0, "zero_padded": bool(count["zero_padded"])}
    if "low_cells" in closer:
        count["lowest"] = End(closer["low_cells"], closer["after_low"])
        count["highest"] = End(closer["high_cells"], closer["before_high"])
    examples, oddities = _with(texts, first, last), _with(odd, odd_first, odd_last)
    return Facts(name=name, kind=kind, texts=examples, odd=oddities, marked=list(closer.get("marked", [])), **count)


def _with(texts: list[str], first: str | None, last: str | None) -> list[str]:
    """At most PROBED texts in order, the extremes of the column among them."""
    ends = {text for text in (first, last) if text is not None}
    return sorted({*texts[: PROBED - 2], *ends})


ROWS_A_VALUE = 50  # so many rows for each value make it no accident that each goes with one class
LIKELY = 1.6  # the estimate of a count may be a fourth off
ADVICE = "if you know it before the label, add it by hand"


def find(table: Table, columns: Sequence[Facts], label: Facts, task: str, missing: Sequence[str]) -> dict[str, str]:
    """The columns that say the same as the label, and in which way; one pass over the table, one more a suspect."""
    usable = [column for column in columns if readable(column.kind) and column.present]
    found: dict[str, str] = {}
    for start in range(0, len(usable), COLUMNS_AT_ONCE):
        places = {f"c{place}": column for place, column in enumerate(usable[start : start + COLUMNS_AT_ONCE])}
        if task == "regression":
            found |= _correlated(table, places, label, missing)
            continue
        texts = [plain(column.name, column.kind, missing).alias(place) for place, column in places.items()]
        frame = table.frame.select(text(label.name, label.kind, missing).alias("label"), *texts)
        found |= _alone(frame, places, label) | _determined(frame, places, label)
    return found


def _correlated(table: Table, places: dict[str, Facts], label: Facts, missing: Sequence[str]) -> dict[str, str]:
    """Numbers that are the label on another scale."""
    numbers = {place: facts for place, facts in places.items() if facts.numbers == facts.present}
    if not numbers:
        return {}
    plain_ = {
        place: (plain(each.name, each.kind, missing), each) for place, each in [("label", label), *numbers.items()]
    }
    both = table.frame.select(
        table.number(each.name, text, each.kind).alias(place) for place, (text, each) in plain_.items()
    )
    row = both.select(pl.corr(place, "label").alias(place) for place in numbers).collect(engine="streaming").row(0)
    pairs = zip(numbers.values(), row, strict=True)
    reason = f"says the same as the label; {ADVICE}"
    return {facts.name: reason for facts, value in pairs if value is not None and abs(value) > 1 - 1e-9}


def _alone(frame: pl.LazyFrame, places: dict[str, Facts], label: Facts) -> dict[str, str]:
    """Columns with a value in all rows of one class and in no row of the others."""
    gaps = {place: facts for place, facts in places.items() if facts.present < facts.rows}
    if not gaps or label.rows < 2 * ROWS_A_VALUE:
        return {}
    sides = [pl.col("label").filter(pl.col(place).is_null() == empty) for place in gaps for empty in (False, True)]
    ends = [end.alias(f"{number}") for number, end in enumerate(e for side in sides for e in (side.min(), side.max()))]
    row = frame.select(ends).collect(engine="streaming").row(0)
    quarters = {place: row[4 * number : 4 * number + 4] for number, place in enumerate(gaps)}
    told = [place for place, (low, high, first, last) in quarters.items() if low == high != first == last]
    return {gaps[place].name: f"has a value for one class only; {ADVICE}" for place in told}


def _determined(frame: pl.LazyFrame, places: dict[str, Facts], label: Facts) -> dict[str, str]:
    """Values that each go with one class only: an estimate says where to look, and the look is exact."""
    few = {place: facts for place, facts in places.items() if 1 < facts.distinct <= PROBED}
    pairs = [pl.concat_str(pl.col(place).fill_null(""), "label", separator="\n").approx_n_unique() for place in few]
    if not pairs:
        return {}
    named = [pair.alias(place) for pair, place in zip(pairs, few, strict=True)]
    row = frame.select(named).collect(engine="streaming").row(0, named=True)
    likely = {place: facts for place, facts in few.items() if row[place] <= LIKELY * facts.distinct + len(label.texts)}
    reasons = {facts.name: _same(frame, place, label) for place, facts in likely.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _same(frame: pl.LazyFrame, place: str, label: Facts) -> str:
    """Why a column tells the label exactly, or ""."""
    pairs = frame.select(place, "label").drop_nulls().group_by(place, "label").len().collect(engine="streaming")
    values, classes = pairs[place].n_unique(), pairs["label"].n_unique()
    if pairs.height != values or classes < 2:
        return ""
    if values == classes:
        return f"says the same as the label {label.name!r}; {ADVICE}"
    return f"each of its values goes with one class only; {ADVICE}" if label.rows >= ROWS_A_VALUE * values else ""
