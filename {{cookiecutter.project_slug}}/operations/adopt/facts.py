"""What a table holds, column by column, counted in streaming passes over its labelled rows: never by a sample alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from operations.adopt import tables
from operations.adopt.tables import Table
from runtime import files
from runtime.failures import InputError

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
        return tables.plain(column.name, column.kind, self.markers)

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
    plain = table.frame.select(
        *(tables.plain(name, kind, missing).alias(f"t{place}") for place, (name, kind) in places),
        *(tables.text(name, kind, missing).alias("label") for name, kind in columns.items() if name == table.label),
    )
    numbers = [table.number(name, pl.col(f"t{place}"), kind) for place, (name, kind) in places]
    parsed = plain.with_columns(number.alias(f"n{place}") for place, number in enumerate(numbers))
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
