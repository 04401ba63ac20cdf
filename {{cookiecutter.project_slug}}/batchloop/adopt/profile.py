"""What is known of a table: each column's counts over the labelled rows, and the expressions that read its cells."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import polars as pl

from batchloop.adopt.source import Options, Table, row
from batchloop.container import values
from batchloop.container.job import InputError
from batchloop.container.values import Spelling

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?")
_WORDS = ["-", "--", ".", "..", "*", "n.a.", "nil", "(null)", "missing", "Missing", "MISSING", "unknown", "Unknown"]
MARKERS = [*_WORDS, "inf", "-inf", "Inf", "-Inf", "Infinity", "-Infinity", "#DIV/0!", "#REF!", "#VALUE!"]
KEPT = 200  # distinct texts of a column
EXACT = 2 * KEPT  # up to so many, distinct texts are counted one by one
EXAMPLES = 5000  # rows among which they are looked for where a column has more than that
COLUMNS_AT_ONCE = 200
BAD_ROWS = 0.01  # of which odd cells in columns of numbers and dates may take half
FEW, MANY = 10, 200  # distinct values


@dataclass(frozen=True)
class Column:
    """One column: how `table` holds and reads it, and what all labelled rows say of it.

    `distinct` is exact up to EXACT and an estimate above, up to a fourth off. `texts` are some distinct values, `odd`
    some of those that are no number, `marked` the texts of MARKERS among them; `unmarked` counts the cells that are
    neither numbers nor these. `ends` are in how many cells the lowest and the highest number stand, and the next to it.
    """

    name: str
    kind: pl.DataType
    table: Table
    markers: Sequence[str]
    rows: int = 0
    present: int = 0
    distinct: int = 0
    numbers: int = 0
    unmarked: int = 0
    whole: bool = False
    low: float | None = None
    high: float | None = None
    zero_padded: bool = False
    length: float = 0.0
    texts: Sequence[str] = ()
    odd: Sequence[str] = ()
    marked: Sequence[str] = ()
    ends: Sequence[tuple[int, float]] = ()

    @property
    def missing(self) -> float:
        """The share of the rows without a value."""
        return 1 - self.present / self.rows

    @property
    def format(self) -> str:
        """How the column writes numbers, "" where that is the table's way."""
        return self.table.formats.get(self.name, "")

    @property
    def readable(self) -> bool:
        """Whether the values can stand in a contract at all."""
        return not (self.kind.is_nested() or self.kind in (pl.Binary, pl.Object))

    @property
    def text(self) -> pl.Expr:
        """The values as the components compare them: one text for a value, null where nothing is there."""
        if self.readable:
            return text(self.name, self.markers)
        return pl.when(pl.col(self.name).is_not_null()).then(pl.lit(str(self.kind)))

    @property
    def plain(self) -> pl.Expr:
        """The text as it stands in the file, without blanks around it: numbers and dates are read from it."""
        if not self.readable or self.kind.is_temporal():
            return self.text
        value, present = pl.col(self.name).cast(pl.String, strict=False).str.strip_chars(), pl.lit(value=True)
        if self.kind == pl.String or self.kind.is_float():
            value = value.str.replace(r"^(-?\d+)\.0$", "$1")
        if self.kind.is_float():
            present = pl.col(self.name).is_finite()
        return pl.when(present & ~value.is_in(list(self.markers))).then(value)

    def number(self, plain: pl.Expr | None = None) -> pl.Expr:
        """The values, or other texts as they stand in the file, as the components will read numbers; null for none."""
        plain = self.plain if plain is None else plain
        written = Spelling((), self.table.reading.decimal, self.table.reading.thousands, self.format)
        if self.kind == pl.String and written != Spelling():
            return plain.map_batches(
                lambda cells: values.number(cells, written)[0], return_dtype=pl.Float64, is_elementwise=True
            )
        value = plain.str.replace("\u2212", "-", literal=True).cast(pl.Float64, strict=False)
        return pl.when(value.is_finite()).then(value)

    def cells(self, **others: pl.Expr) -> pl.LazyFrame:
        """The texts as they stand in the file, as "t", where there are any; or other expressions."""
        return self.table.frame.select(**(others or {"t": self.plain})).drop_nulls()

    def texts_where(self, condition: pl.Expr) -> list[str]:
        """The texts that stand where a condition holds."""
        cells = self.table.frame.filter(condition).select(self.plain.alias("t")).unique()
        return cells.collect(engine="streaming")["t"].sort().to_list()

    def exceeds(self, limit: float) -> bool:
        """Whether there are more distinct values than a limit: counted one by one where the estimate comes near."""
        if self.distinct <= EXACT or not 0.6 * limit < self.distinct < 1.6 * limit:
            return self.distinct > limit
        return bool(row(self.cells(t=self.text), pl.col("t").n_unique())[0] > limit)


@dataclass(frozen=True)
class Profile:
    """A table with its options and markers of missing values; `unlabelled` counts the rows without a label."""

    table: Table
    options: Options
    missing: Sequence[str]
    columns: Mapping[str, Column]
    unlabelled: int

    @property
    def label(self) -> Column:
        return self.columns[self.options.label]

    @cached_property
    def tolerated(self) -> int:
        """How many odd cells one column may have: all together break at most half of the bad rows there may be."""
        odd = [(each.present - each.numbers, each.present) for each in self.columns.values()]
        return int(BAD_ROWS * self.label.rows / 2 / max(1, sum(0 < cells < 0.05 * present for cells, present in odd)))


def text(name: str, markers: Collection[str], decimal: str = ".") -> pl.Expr:
    """A column's canonical texts, null for a marker."""
    read = partial(values.texts, missing=markers, decimal=decimal)
    return pl.col(name).map_batches(read, return_dtype=pl.String, is_elementwise=True)


def own_markers(name: str, missing: Sequence[str]) -> list[str]:
    """The markers of a column alone: -1 of "age=-1"."""
    return [text.removeprefix(f"{name}=") for text in missing if text.startswith(f"{name}=")]


def profile(table: Table, options: Options, missing: Sequence[str]) -> Profile:
    """Look at every column. Raises InputError where the table has no rows with a label."""
    spelled = {name: Spelling((*missing, *own_markers(name, missing))) for name in table.frame.collect_schema()}
    columns = [Column(name, kind, table, spelled[name].markers) for name, kind in table.frame.collect_schema().items()]
    known = next(each.text for each in columns if each.name == options.label).is_not_null()
    held = pl.any_horizontal(each.plain.is_not_null() for each in columns)
    others = int(row(table.frame.filter(~known), held.sum())[0] or 0)
    labelled = replace(table, frame=table.frame.filter(known))
    found: dict[str, Column] = {}
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        some = [replace(each, table=labelled) for each in columns[start : start + COLUMNS_AT_ONCE]]
        found |= {each.name: each for each in _counted(some, options.label)}
    if found[options.label].rows == 0:
        none = f": the label has no value in any of {others:,} rows." if others else " holds a header and no rows."
        raise InputError(f"{table.files[0].name}{none}")
    return Profile(table, options, missing, found, others)


def _counted(columns: Sequence[Column], label: str) -> Iterator[Column]:
    """Two passes whose memory does not grow with the rows: counts, then what is worth a closer look.

    Each column stands there as text t0, t1, … (the label's is that of its classes) and as number n0, n1, …
    """
    places = list(enumerate(columns))
    texts = [each.plain.alias(f"t{place}") for place, each in places]
    answer = [each.text.alias(f"label{place}") for place, each in places if each.name == label]
    frame = columns[0].table.frame.select(*texts, *answer)
    frame = frame.with_columns(each.number(pl.col(f"t{place}")).alias(f"n{place}") for place, each in places)
    frame = frame.with_columns(pl.col("^label.*$").name.replace("label", "t"))
    counts = _measured(frame, [_counts(pl.col(f"t{place}"), pl.col(f"n{place}")) for place, _ in places])
    closer = _measured(frame, [_second_pass(pl.col(f"t{n}"), pl.col(f"n{n}"), count) for n, count in enumerate(counts)])
    some = frame.select(f"t{place}" for place, _ in places).head(EXAMPLES).collect(engine="streaming")
    for place, column in places:  # texts from all of their order, so that each kind of them is among them
        count, found, held = counts[place], closer[place], some[f"t{place}"].drop_nulls().unique().sort()
        shown = found.get("texts") or held.gather_every(max(1, math.ceil(held.len() / KEPT))).to_list()
        if 0 < count["distinct"] <= EXACT:
            count["distinct"] = len(shown)
        numbers = pl.DataFrame({"t": shown}, schema={"t": pl.String}).filter(column.number(pl.col("t")).is_null())
        odd = found.get("odd") or numbers["t"].to_list()
        found |= {"texts": _with_extremes(shown, count.pop("ends")), "odd": _with_extremes(odd, count.pop("odd_ends"))}
        yield replace(column, **count, **found | {"ends": [tuple(end.values()) for end in found.get("ends", [])]})


def _measured(frame: pl.LazyFrame, measures: list[dict[str, pl.Expr]]) -> list[dict[str, Any]]:
    """One pass for the measures of all columns, a dictionary each; no pass where there is nothing to measure."""
    found = iter(row(frame, *(each for some in measures for each in some.values())))
    return [{key: next(found) for key in each} for each in measures]


def _counts(text: pl.Expr, number: pl.Expr) -> dict[str, pl.Expr]:
    odd = text.filter(number.is_null())
    return {
        "rows": pl.len(),
        "present": text.count(),
        "distinct": text.approx_n_unique(),
        "numbers": number.count(),
        "unmarked": (text.is_not_null() & number.is_null() & ~text.is_in(MARKERS)).sum(),
        "whole": (number == number.floor()).all(),
        "low": number.min(),
        "high": number.max(),
        "zero_padded": text.str.contains(r"^0\d+$").any().fill_null(value=False),
        "length": text.str.len_chars().mean().fill_null(0.0),
        "ends": pl.concat_list(text.min(), text.max()),
        "odd_ends": pl.concat_list(odd.min(), odd.max()),
    }


def _second_pass(text: pl.Expr, number: pl.Expr, count: dict[str, Any]) -> dict[str, pl.Expr]:
    """What is worth a second pass: few texts, the texts among numbers and the markers among these, the ends."""
    wanted, low, high = dict[str, pl.Expr](), count["low"], count["high"]
    if 0 < count["distinct"] <= EXACT:
        wanted["texts"] = text.drop_nulls().unique().sort().implode()
    if count["present"] - count["numbers"] > count["unmarked"]:
        wanted["marked"] = text.filter(text.is_in(MARKERS)).unique().sort().implode()
    if count["present"] / 4 <= count["numbers"] < count["present"]:
        wanted["odd"] = text.filter(number.is_null()).drop_nulls().unique().sort().head(KEPT).implode()
    if count["numbers"] and low < high and count["distinct"] > 3:
        following = number.filter(number > low).min(), number.filter(number < high).max()
        pairs = zip((low, high), following, strict=True)
        wanted["ends"] = pl.concat_list(pl.struct((number == end).sum(), n.alias("next")) for end, n in pairs)
    return wanted


def _with_extremes(texts: list[str], ends: list[str | None]) -> list[str]:
    """At most so many texts in order, the extremes of the column among them."""
    return sorted({*texts[: KEPT - 2], *(text for text in ends if text is not None)})
