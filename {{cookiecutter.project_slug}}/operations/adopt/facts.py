"""What a table holds, column by column, counted in streaming passes over all of it: never by a sample alone."""

from collections.abc import Sequence
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
EXAMPLES = 5000  # rows among which they are looked for where a column has more than that
COLUMNS_AT_ONCE = 200


@dataclass(frozen=True)
class Facts:
    """Of one column, over all rows; `texts` are some distinct values, `odd` some of those that are no number.

    `marked` are the texts of MARKERS among them, `unmarked` counts the cells that are neither numbers nor these.
    """

    name: str
    kind: pl.DataType
    rows: int
    present: int
    distinct: int  # exact up to PROBED, approximate above
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

    @property
    def missing(self) -> float:
        return 1 - self.present / self.rows


def collect(table: Table, missing: Sequence[str]) -> dict[str, Facts]:
    """Facts of every column. Raises InputError where the table has no rows or turns out unreadable."""
    schema = table.frame.collect_schema()
    found: dict[str, Facts] = {}
    try:
        for start in range(0, len(schema), COLUMNS_AT_ONCE):
            names = list(schema)[start : start + COLUMNS_AT_ONCE]
            found |= _collected(prepared(table, {name: schema[name] for name in names}, missing), schema, names)
    except pl.exceptions.PolarsError as error:
        raise files.explain(error, table.files) from None
    if not found or next(iter(found.values())).rows == 0:
        raise InputError(f"{table.files[0].name} holds a header and no rows.")
    return found


def prepared(table: Table, columns: dict[str, pl.DataType], missing: Sequence[str]) -> pl.LazyFrame:
    """Each column twice, parsed once: as text t0, t1, … and as number n0, n1, … (null where it is none)."""
    places = list(enumerate(columns.items()))
    text = table.frame.select(tables.text(name, kind, missing).alias(f"t{place}") for place, (name, kind) in places)
    parsed = text.with_columns(
        pl.col(f"t{place}").cast(pl.Float64, strict=False).alias(f"n{place}") for place, _ in places
    )
    return parsed.with_columns(
        pl.when(pl.col(f"n{place}").is_finite()).then(pl.col(f"n{place}")).alias(f"n{place}") for place, _ in places
    )


def _collected(frame: pl.LazyFrame, schema: pl.Schema, names: list[str]) -> dict[str, Facts]:
    """Two passes whose memory does not grow with the rows: counts, then all texts of a column where they are few."""
    counts = _measured(frame, [_counts(place) for place in range(len(names))])
    texts = _measured(frame, [_texts(place, count) for place, count in enumerate(counts)])
    some = frame.head(EXAMPLES).collect(engine="streaming")
    shown = [text.get("texts") or _shown(some[f"t{place}"]) for place, text in enumerate(texts)]
    columns = zip(names, counts, texts, shown, strict=True)
    return {
        name: _facts(name, schema[name], count, [str(word) for word in show], text.get("marked", []))
        for name, count, text, show in columns
    }


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


def _texts(place: int, count: dict[str, Any]) -> dict[str, pl.Expr]:
    """What is worth a second pass: the texts of a column that has few, the markers among its numbers."""
    text = pl.col(f"t{place}")
    wanted = {}
    if 0 < count["distinct"] <= 2 * PROBED:
        wanted["texts"] = text.drop_nulls().unique().sort().implode()
    if count["present"] - count["numbers"] > count["unmarked"]:
        wanted["marked"] = text.filter(text.is_in(list(MARKERS))).unique().sort().implode()
    return wanted


def _shown(texts: pl.Series) -> list[str]:
    return texts.drop_nulls().unique().sort().head(PROBED).to_list()


def _facts(name: str, kind: pl.DataType, count: dict[str, Any], texts: list[str], marked: list[str]) -> Facts:
    first, last, odd_first, odd_last = (count.pop(key) for key in ("first", "last", "odd_first", "odd_last"))
    if 0 < count["distinct"] <= 2 * PROBED:
        count["distinct"] = len(texts)
    words = pl.Series(texts, dtype=pl.String)
    odd = words.filter(words.cast(pl.Float64, strict=False).is_finite().fill_null(False).not_()).to_list()
    count |= {"length": count["length"] or 0.0, "zero_padded": bool(count["zero_padded"])}
    examples, oddities = _with(texts, first, last), _with(odd, odd_first, odd_last)
    return Facts(name=name, kind=kind, texts=examples, odd=oddities, marked=list(marked), **count)


def _with(texts: list[str], first: str | None, last: str | None) -> list[str]:
    """At most PROBED texts in order, the extremes of the column among them."""
    ends = {text for text in (first, last) if text is not None}
    return sorted({*texts[: PROBED - 2], *ends})
