"""What a cell says, whichever file it came from: text, number, yes or no, date.

CSV and Parquet of one table must be the same table, so every value that is compared as text (a label, an id, a
category, a group, the contract's classes and markers) has one canonical text: 10001.0 is 10001 (1.50, 007 and 1e5 stay
what they are), True, TRUE and a boolean are true, a moment is 2024-01-31 13:30:00, and at midnight only its day.

Functions take a column as it was read, and give its values and which cells hold something that is none; None says that
no cell does. A text of the missing markers, an empty one, NaN and infinity are no value, and nothing wrong.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite

import polars as pl

from batchloop.container.formats import CLOCKS, EPOCHS, NUMERAL
from batchloop.container.job import InputError

TRUE = ("true", "yes", "y", "t", "1", "1.0", "on", "ja", "oui", "si", "sí", "sim", "wahr", "vrai")
FALSE = ("false", "no", "n", "f", "0", "0.0", "off", "nein", "non", "não", "falsch", "faux")
WORDS = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)
WHOLE = r"(-?(?:0|[1-9]\d*))([.,])0+"
MOMENT = r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?"
OTHERS = f"^(?:{WHOLE}|True|TRUE|False|FALSE|{MOMENT})$"  # texts that may have another canonical one
SPACES, QUOTES = " \u00a0\u2009\u202f", "'’"  # that separate thousands
FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # microseconds: the years 1 to 9999
HOUR = 3_600_000_000  # microseconds
CLOCK = r"^(-)?(?:(\d+) days?,? ?\+?)?(\d{1,4}):([0-5]\d)(?::([0-5]\d(?:[.,]\d+)?))?(?: ?([AaPp])\.?[Mm]\.?)?$"
QUARTERS = {f"Q{number}": f"Q{3 * number - 2:02}" for number in range(1, 5)}
OF_UTC = ("Z", "UTC", "GMT")  # endings of formats
FEW = 1000  # cells that show whether a column has few texts
Parsed = tuple[pl.Series, pl.Series | None]


@dataclass(frozen=True)
class Spelling:
    """How values are written: the texts that mean "no value", the marks in a number, or its formats."""

    missing: tuple[str, ...] = ()
    decimal: str = "."
    thousands: str = ""
    format: str = ""

    @property
    def plain(self) -> bool:
        """Whether numbers are written as Polars reads them."""
        return self.decimal == "." and not self.thousands + self.format

    @cached_property
    def markers(self) -> list[str]:
        """Texts without a value, as canonical texts too."""
        return sorted({"", *self.missing, *map(canonical, self.missing)})

    @cached_property
    def numbers(self) -> list[float]:
        """Numbers without a value, such as -999: Parquet has them as numbers."""
        numbers = pl.Series(self.markers).cast(pl.Float64, strict=False)
        return numbers.filter(numbers.is_finite()).to_list()


def canonical(text: str, decimal: str = ".") -> str:
    """The one text for a value that can be written in several ways."""
    if (whole := re.fullmatch(WHOLE, text)) and whole[2] in (".", decimal):
        return "0" if float(whole[1]) == 0 else whole[1]
    if text in ("True", "TRUE", "False", "FALSE"):
        return text.lower()
    if re.fullmatch(MOMENT, text):
        day, clock = text[:10], text[11:] if text.count(":") == 2 else f"{text[11:]}:00"
        clock = clock.rstrip("0").rstrip(".") if "." in clock else clock
        return day if clock == "00:00:00" else f"{day} {clock}"
    return text


def texts(column: pl.Series, missing: Collection[str], decimal: str = ".") -> pl.Series:
    """Canonical texts without blanks around them; null where there is no value."""
    plain = written(column, ())
    other = plain.str.contains(OTHERS)
    if other.any():
        odd = plain.filter(other).unique().drop_nulls()
        plain = plain.replace(odd, pl.Series([canonical(text, decimal) for text in odd], dtype=pl.String))
    return _without(plain, missing)


def text(column: pl.Series, spelling: Spelling) -> Parsed:
    """Canonical texts; nothing is wrong. Most columns are what they should be already, which few of them tell."""
    if column.dtype == pl.String:
        few = column.head(FEW).n_unique() < FEW / 2  # the same texts again and again
        some = column.unique() if few else column
        if not (some.str.contains(rf"{OTHERS}|^\s|\s$").any() or some.is_in(spelling.markers).any()):
            return column, None
    return texts(column, spelling.markers, spelling.decimal), None


def written(column: pl.Series, missing: Collection[str]) -> pl.Series:
    """Text of a column of any kind, without blanks around it; null where it is one of the missing markers."""
    if column.dtype.is_float():
        return _without(_finite(column).cast(pl.String).str.strip_suffix(".0").replace("-0", "0"), missing)
    if column.dtype in (pl.Time, pl.Duration):  # 1 day, 2:03:04
        column = pl.Series(column.name, [None if cell is None else str(cell) for cell in column], dtype=pl.String)
    return _without(column.cast(pl.String).str.strip_chars(), missing)


def _without(column: pl.Series, missing: Collection[str] | Collection[float]) -> pl.Series:
    gone = column.is_in(list(missing)) if missing else None
    return column.set(gone, None) if gone is not None and gone.any() else column


def _finite(column: pl.Series) -> pl.Series:
    return column if isfinite(column.sum()) else column.set(~column.is_finite(), None)


def _wrong(present: pl.Series, values: pl.Series) -> pl.Series | None:
    """Cells that hold something, but no value."""
    return None if present.null_count() == values.null_count() else present.is_not_null() & values.is_null()


def number(column: pl.Series, spelling: Spelling, low: float | None = None, high: float | None = None) -> Parsed:
    """Float64, null outside the range."""
    numbers, wrong = _numbers(column, spelling)
    numbers = _finite(_without(numbers, spelling.numbers))
    if low is None and high is None:
        return numbers, wrong
    low, high = (-inf if low is None else low), (inf if high is None else high)
    if numbers.is_between(low, high).all():
        return numbers, wrong
    outside = ((numbers < low) | (numbers > high)).fill_null(value=False)
    return numbers.set(outside, None), outside if wrong is None else outside | wrong


def _numbers(column: pl.Series, spelling: Spelling) -> Parsed:
    if column.dtype in (pl.Time, pl.Duration):
        column = (column.cast(pl.Duration("us")) if column.dtype == pl.Time else column).dt.total_microseconds() / HOUR
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return column if column.dtype == pl.Float64 else column.cast(pl.Float64), None
    if spelling.plain and column.dtype == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        if numbers.null_count() == column.null_count():  # the usual case: every cell is a number or empty
            return numbers, None
    present = written(column, spelling.markers)
    text = present.str.replace("\u2212", "-", literal=True)
    numbers = pl.Series(column.name, [None] * len(column), dtype=pl.Float64)
    for form in spelling.format.split("|"):
        read = _hours(text, form) if form in CLOCKS else _written(text, form, spelling)
        numbers = numbers.zip_with(numbers.is_not_null(), read)
    return numbers, _wrong(present, numbers)


def _hours(text: pl.Series, form: str) -> pl.Series:
    """Clocks and durations as hours; of two parts the last are seconds where the form is "mm:ss"."""
    parts = text.to_frame("t").select(pl.col("t").str.extract_groups(CLOCK)).unnest("t")
    sign, days, *clock, half = (pl.col(name) for name in parts.columns)
    first, second, third = (part.str.replace(",", ".").cast(pl.Float64, strict=False) for part in clock)
    first = pl.when(half.is_null()).then(first).otherwise(first % 12 + 12 * (half.str.to_lowercase() == "p"))
    seconds = first * 3600 + second * 60 + third.fill_null(0)
    if form == "mm:ss":
        seconds = pl.when(third.is_null()).then(first * 60 + second).otherwise(seconds)
    days = days.cast(pl.Float64).fill_null(0) * 24 * 3600
    back = pl.when(sign == "-").then(-1).otherwise(1)
    seconds = pl.when(days == 0).then(seconds * back).otherwise(days * back + seconds)  # "-1 days +23:00:00" is an hour
    return parts.select((seconds * 1_000_000).round() / HOUR).to_series().alias(text.name)


def _written(text: pl.Series, form: str, spelling: Spelling) -> pl.Series:
    """Numbers; null where the marks stand where they can't, as in 1.5 if a point separates thousands."""
    decimal, thousands = spelling.decimal, spelling.thousands
    if shown := NUMERAL.fullmatch(form):
        thousands = shown["thousands"]
        decimal = shown["decimal"] or ("," if thousands == "." else ".")
        text = _bare(text, shown)
    elif decimal == "." and not thousands:
        return text.cast(pl.Float64, strict=False)
    for group in (SPACES, QUOTES):
        if thousands and thousands in group:
            text = text.str.replace_all(f"[{group}]", thousands)
    mark, group = re.escape(decimal), re.escape(thousands)
    grouped = rf"\d{{1,3}}(?:{group}\d{{3}})+|" if thousands else ""
    fits = text.str.contains(rf"^[+-]?(?:(?:{grouped}\d+)(?:{mark}\d*)?|{mark}\d+)(?:[eE][+-]?\d+)?$")
    plain = text.str.replace_all(thousands, "", literal=True) if thousands else text
    return plain.str.replace(decimal, ".", literal=True).set(~fits, None).cast(pl.Float64, strict=False)


def _bare(text: pl.Series, form: re.Match[str]) -> pl.Series:
    """Without the unit that the form has before or behind a number, and a minus for brackets or one that ends it."""
    if form["prefix"] or form["suffix"]:
        before, behind = re.escape(form["prefix"]), re.escape(form["suffix"])
        pattern = rf"^(\(|[+-])?\s*{before}\s*(.+?)\s*{behind}\s*([)-])?$"
        text = text.str.replace(pattern, "${1}${2}${3}").set(~text.str.contains(pattern), None)
    if form["open"] and form["end"] == ")":
        text = text.str.replace(r"^\((.*)\)$", "-$1")
    return text.str.replace(r"^(.*\S)\s*-$", "-$1") if form["end"] == "-" else text


def boolean(column: pl.Series, spelling: Spelling) -> Parsed:
    """Boolean, from words such as yes and no, and from 0 and 1."""
    if column.dtype == pl.Boolean:
        return column, None
    present = texts(column, spelling.markers, spelling.decimal)
    parsed = present.str.to_lowercase().replace_strict(WORDS, default=None, return_dtype=pl.Boolean)
    return parsed, _wrong(present, parsed)


def date(column: pl.Series, spelling: Spelling, zone: str) -> Parsed:
    """Datetime in microseconds without a zone: moments with one are what clocks in `zone` showed, numbers are of UTC.

    Raises InputError for a column of moments with a zone where none is given.
    """
    form = spelling.format
    if column.dtype.is_temporal():
        moments = _local(column, zone)
        gone = pl.Series(spelling.markers, dtype=pl.String).str.to_datetime("%Y-%m-%d", strict=False).drop_nulls()
        return (moments.set(moments.is_in(gone.implode()), None) if len(gone) else moments), None
    if form in EPOCHS:
        unit = EPOCHS[form][1]
        numbers, wrong = number(column, spelling, FIRST / unit, LAST / unit)
        moments = (numbers * unit).round().cast(pl.Int64).cast(pl.Datetime("us"))
        return _local(moments.dt.replace_time_zone("UTC") if zone else moments, zone), wrong
    present = written(column, spelling.markers)
    if "." not in form:  # 20240131.0, from a column with gaps
        present = present.str.replace(r"^(\d+)\.0+$", "$1")
    moments = pl.Series(column.name, [None] * len(column), dtype=pl.Datetime("us"))
    for each in form.split("|"):
        moments = moments.zip_with(moments.is_not_null(), _local(_moments(present, each, zone), zone))
    return moments, _wrong(present, moments)


def _moments(text: pl.Series, form: str, zone: str) -> pl.Series:
    """Of one format; without a day it is the first of the year, the month, the quarter (%q) or the week (%V)."""
    if form == "%Y":
        text, form = text + " 1", "%Y %m"
    if "%q" in form:
        text, form = text.str.replace_many(QUARTERS), form.replace("%q", "%m")
    if form and not re.search("%-?[deju]", form):
        text, form = text + " 1", f"{form} {'%u' if '%V' in form else '%d'}"
    moments = text.str.to_datetime(form or None, time_unit="us", strict=False, exact=True)
    return moments.dt.replace_time_zone("UTC") if zone and form.endswith(OF_UTC) else moments


def _local(column: pl.Series, zone: str) -> pl.Series:
    """What clocks in `zone` showed, without a zone."""
    held = column.dtype.time_zone if isinstance(column.dtype, pl.Datetime) else None
    if held is None:
        return column.cast(pl.Datetime("us"))
    if not zone:
        whose = f"column {column.name!r} holds moments of a time zone ({held}), and it is not said whose clocks count"
        remedy = f'write time_zone = "{held}" (or another, such as "Europe/Berlin") beside it in usecase.toml'
        raise InputError(f"{whose}; {remedy}.")
    return column.dt.convert_time_zone(zone).dt.replace_time_zone(None).cast(pl.Datetime("us"))


def named(column: pl.Series, classes: Sequence[str], spelling: Spelling) -> Parsed:
    """The contract's own texts of classes, by their canonical ones; true and false are also 1 and 0."""
    known = {canonical(name): name for name in classes}
    if len(known) < len(classes):
        raise InputError(f"usecase.toml [data] classes = {list(classes)} names one value in two ways.")
    for pair in ({"true": "1", "false": "0"}, {"1": "true", "0": "false"}):
        if set(known) == set(pair.values()):
            known |= {other: known[name] for other, name in pair.items()}
    own = [name for name in classes if name == name.strip() and name not in spelling.markers]
    if column.dtype == pl.String and column.is_in(own).all():
        return column, None
    present = texts(column, spelling.markers, spelling.decimal)
    labels = present.replace_strict(known, default=None, return_dtype=pl.String)
    return labels, _wrong(present, labels)
