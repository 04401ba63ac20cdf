"""Drawn tables, and the ways in which one table comes: as CSV and Parquet files, and as labels that arrive late.

A `Case` names one entry of each dictionary below, a new trap is one more entry: what columns hold (COLUMNS, IDS,
LABELS, ROLES), how their values are written (NUMBERS, DATES, BOOLEANS, GAPS, TYPES) and the lines around them (HEADS,
LINES, ENCODINGS, PACKINGS), what else a batch that is scored holds (SURPRISES), and how its labels come (DELIVERIES).
"""

import csv
import gzip
import io
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

Values = list[Any]
Draw = np.random.Generator
FEW = 3  # odd lines or cells of a kind
BEGIN = datetime(2023, 1, 1)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")


@dataclass(frozen=True)
class Column:
    """What a column holds, None where nothing is known, and which types of the contract fit; "" leaves it out.

    `none` stands in both files where nothing is known, `named` says that the types hang on the column's name, and
    `answers` are those to questions about it.
    """

    values: Callable[[Draw, int], Values]
    types: tuple[str, ...]
    none: Any = None
    named: bool = False
    answers: Mapping[str, str] = field(default_factory=dict)


def chosen(*values: Any) -> Callable[[Draw, int], Values]:
    return lambda draw, rows: [values[n] for n in draw.integers(0, len(values), rows)]


def whole(low: int, high: int, gaps: bool = False) -> Callable[[Draw, int], Values]:
    return lambda draw, rows: [None if gaps and n % 7 == 0 else int(n) for n in draw.integers(low, high, rows)]


def amounts(mean: float, deviation: float, digits: int, gaps: int = 0) -> Callable[[Draw, int], Values]:
    def values(draw: Draw, rows: int) -> Values:
        found = draw.normal(mean, deviation, rows).round(digits).tolist()
        return [None if gaps and n % gaps == 3 else value for n, value in enumerate(found)]

    return values


def moments(draw: Draw, rows: int) -> Values:
    return [BEGIN + timedelta(minutes=int(n) * 7) for n in draw.integers(0, 90000, rows)]


def days(draw: Draw, rows: int) -> Values:
    return [None if n % 9 == 0 else (BEGIN + timedelta(days=int(n))).date() for n in draw.integers(0, 700, rows)]


def drawn_with_the_signal(_: Draw, __: int) -> Values:
    return []


def sentences(draw: Draw, rows: int) -> Values:
    words = [
        "the parcel",
        "came late",
        "=never",
        'was "open"',
        "again, and",
        "Größe",
        "<b>",
        "called\ntwice",
        "no answer",
    ]
    found = [" ".join(words[n] for n in draw.integers(0, len(words), 6)) for _ in range(rows)]
    return [None if n % 13 == 0 else f"{text} {n}" for n, text in enumerate(found)]


NUMBER, CATEGORY, BOOLEAN, DATE, OUT = ("number",), ("category",), ("boolean",), ("date",), ("",)
COLUMNS: dict[str, Column] = {
    "amount": Column(amounts(100, 20, 2), NUMBER),
    "turnover": Column(amounts(50000, 15000, 2, gaps=8), NUMBER),
    "gaps in whole numbers": Column(whole(0, 90, gaps=True), NUMBER),
    "inhabitants": Column(whole(800, 3_000_000), NUMBER),
    "children": Column(whole(0, 4), NUMBER),
    " blank before": Column(whole(0, 50), NUMBER),
    "zip code": Column(whole(10000, 10006, gaps=True), CATEGORY, named=True),
    "padded": Column(chosen("007", "012", "100", None), CATEGORY),
    "plan": Column(chosen("basic", "plus", "max"), CATEGORY),
    "Ort, Straße": Column(chosen("Köln", "Málaga", "Besançon", "Århus", None), CATEGORY),
    'with "quotes", and a comma': Column(chosen("a,b", 'say "hi"', "two\nlines", "semi;colon"), CATEGORY),
    "formula": Column(chosen("=1+1", "+49 170", "@home", "-x"), CATEGORY),
    "paid": Column(chosen(True, False), BOOLEAN),
    "flag with gaps": Column(chosen(True, False, None), BOOLEAN),
    "since": Column(days, DATE),
    "opened": Column(moments, DATE),
    "ts": Column(lambda draw, rows: [1_700_000_000 + int(n) for n in draw.integers(0, 9**8, rows)], DATE, named=True),
    "temperature": Column(amounts(15, 8, 1, gaps=9), NUMBER, none=-200, answers={"MISSING": "-200"}),
    "age": Column(lambda draw, rows: [n if n < 77 else None for n in whole(18, 80)(draw, rows)], NUMBER, none=999,
                  answers={"MISSING": "999"}),
    "seen": Column(lambda draw, rows: [each.replace(tzinfo=UTC) for each in moments(draw, rows)], DATE),
    "two formats": Column(lambda draw, rows: [(f"{n % 28 + 1:02}.{n % 12 + 1:02}.{2000 + n % 20}",
                                               f"{2000 + n % 20}-{n % 12 + 1:02}-{n % 28 + 1:02}")[n % 2]
                                              for n in draw.permutation(rows).tolist()], DATE),
    "took": Column(lambda draw, rows: [timedelta(minutes=int(n)) for n in draw.integers(0, 3000, rows)], NUMBER),
    "opens": Column(lambda draw, rows: [time(int(n) // 60, int(n) % 60) for n in draw.integers(0, 1440, rows)], NUMBER),
    "weight of a parcel": Column(lambda draw, rows: [f"{n} kg" for n in draw.integers(0, 900, rows)], NUMBER),
    "days ago": Column(lambda draw, rows: [f"({n})" if n else "0" for n in draw.integers(0, 90, rows)], NUMBER),
    "booked": Column(lambda draw, rows: [MOMENTS["of a zone"](each) for each in moments(draw, rows)], DATE),
    "blanks around": Column(chosen(" a", "b ", "c"), CATEGORY),
    "PLAN": Column(chosen("Basic", "basic", "BASIC"), CATEGORY),
    "score": Column(whole(0, 90), NUMBER),
    "error": Column(chosen("none yet", "E1", "E2", None), CATEGORY),
    "prediction": Column(amounts(0, 1, 3), NUMBER),
    "GDP ($ per capita) [%]: {x}": Column(amounts(0.5, 0.1, 3), NUMBER),
    "complaint": Column(sentences, ("text",)),
    "constant": Column(chosen(1), OUT),
    "empty": Column(chosen(None), OUT),
    "note": Column(lambda draw, rows: [f"note {n} on what was said" for n in draw.permutation(rows)], OUT),
}  # fmt: skip
IDS: dict[str, Callable[[int], Any]] = {
    "text": lambda n: f"k{n:05}",
    "whole numbers": lambda n: 10_000 + 3 * n,
    "long numbers": lambda n: 2**53 + 1 + 2 * n,
    "padded": lambda n: f"{n:06}",
    "formulas": lambda n: f"{'=+-@'[n % 4]}{n}+1",
    "none": lambda n: None,
}


@dataclass(frozen=True)
class Label:
    """The labels of a signal; `other` says how Parquet has them where that is not as CSV does."""

    values: Callable[[np.ndarray], Values]
    task: str
    other: Callable[[Any], Any] = lambda value: value
    gaps: int = 0
    answers: Mapping[str, str] = field(default_factory=dict)


def _cut(signal: np.ndarray, parts: int) -> Values:
    return list(np.clip(((signal + 2) / 4 * parts).astype(int), 0, parts - 1).tolist())


LABELS: dict[str, Label] = {
    "words": Label(lambda signal: ["no" if value > 0 else "yes" for value in signal], "binary"),
    "zero and one": Label(lambda signal: _cut(signal, 2), "binary"),
    "zero and one, floats in Parquet": Label(lambda signal: _cut(signal, 2), "binary", other=float, gaps=8),
    "booleans": Label(lambda signal: [value > 0 for value in signal.tolist()], "binary", gaps=11),
    "zero and one, booleans in Parquet": Label(lambda signal: _cut(signal, 2), "binary", other=bool),
    "three words": Label(lambda signal: [("né", "b c", "=d")[n] for n in _cut(signal, 3)], "multiclass", gaps=9),
    "grades": Label(lambda signal: [1 + n for n in _cut(signal, 4)], "multiclass", other=float),
    "amounts": Label(lambda signal: (signal * 1234).round(3).tolist(), "regression", gaps=10),
    "durations": Label(lambda signal: [MINUTE * n for n in _cut(signal, 600)], "regression", gaps=10),
    "parcels": Label(lambda signal: [f"{n} kg" for n in _cut(signal, 600)], "regression", gaps=9),
    "points": Label(lambda signal: _cut(signal, 40), "regression", answers={"TASK": "regression"}),
}  # fmt: skip
ROLES = ("none", "time not said", "time", "group", "group not said", "time and group")


@dataclass(frozen=True)
class Numbers:
    separator: str = ","
    decimal: str = "."
    thousands: str = ""

    def answers(self) -> dict[str, str]:
        named = {" ": "space", "": "no"}
        return {"DECIMAL": self.decimal, "THOUSANDS": named.get(self.thousands, self.thousands)}


NUMBERS = {
    "plain": Numbers(),
    "semicolons": Numbers(";"),
    "tabs": Numbers("\t"),
    "decimal commas": Numbers(";", ","),
    "decimal commas in quotes": Numbers(",", ","),
    "decimal commas and points": Numbers(";", ",", "."),
    "decimal commas and blanks": Numbers(";", ",", "\u00a0"),
    "thousands in quotes": Numbers(",", ".", ","),
    "Swiss": Numbers(";", ".", "’"),
}
DATES = {
    "ISO": "%Y-%m-%d",
    "ISO with T": "%Y-%m-%dT",
    "German": "%d.%m.%Y",
    "British": "%d/%m/%Y",
    "American": "%m/%d/%Y",
}
MOMENTS: dict[str, Callable[[datetime], Any]] = {
    "plain": lambda moment: moment,
    "of a zone": lambda moment: BERLIN.fromutc(moment.replace(tzinfo=BERLIN)),
    "since 1970": lambda moment: int(moment.replace(tzinfo=UTC).timestamp()),
}
BOOLEANS = {"Python": ("True", "False"), "JSON": ("true", "false"), "Excel": ("TRUE", "FALSE"), "words": ("yes", "no"),
            "letters": ("Y", "N")}  # fmt: skip
GAPS = {"empty": "", "NA": "NA", "NaN": "NaN", "n/a": "n/a", "a dash": "-", "a word": "tbd"}
STANDARD = ("", "NA", "NaN", "n/a")  # stand for a gap in any column; others only among numbers
TYPES = ("own", "pandas", "texts", "narrow")
FLOATS = ("whole", "with .0")  # how CSV has whole numbers of a column with gaps
HEADS = ("names", "no names", "sep=", "an empty line", "index", "empty columns")
LINES = ("plain", "empty", "empty cells", "CRLF", "all in quotes", "empty and CRLF")
ENCODINGS = {"UTF-8": "utf-8", "UTF-8 with mark": "utf-8-sig", "Latin-1": "windows-1252", "UTF-16": "utf-16",
             "UTF-16 without mark": "utf-16-le"}  # fmt: skip
PACKINGS = ("csv", "txt", "tsv", "csv.gz", "zip", "two files")
SURPRISES = (
    "none",
    "short lines",
    "long lines",
    "wrong cells",
    "unknown categories",
    "repeated ids",
    "missing ids",
    "an empty column",
    "whole amounts",
    "other order",
    "no label",
)
DELIVERIES = ("scored files", "labels alone", "late and odd", "twice")
SLOTS: dict[str, tuple[str, ...]] = {
    "identity": tuple(IDS),
    "label": tuple(LABELS),
    "role": ROLES,
    "numbers": tuple(NUMBERS),
    "dates": tuple(DATES),
    "moments": tuple(MOMENTS),
    "booleans": tuple(BOOLEANS),
    "gaps": tuple(GAPS),
    "types": TYPES,
    "floats": FLOATS,
    "head": HEADS,
    "lines": LINES,
    "encoding": tuple(ENCODINGS),
    "packing": PACKINGS,
    "surprise": SURPRISES,
    "delivery": DELIVERIES,
    "labels_as": ("csv", "parquet"),
    "size": ("300", "700"),
    "scored": ("120", "120", "1"),
}


@dataclass(frozen=True)
class Case:
    """One entry of each dictionary, the columns, and the seed of all values."""

    columns: tuple[str, ...]
    seed: int
    identity: str
    label: str
    role: str
    numbers: str
    dates: str
    moments: str
    booleans: str
    gaps: str
    types: str
    floats: str
    head: str
    lines: str
    encoding: str
    packing: str
    surprise: str
    delivery: str
    labels_as: str
    size: str
    scored: str


def rotated(number: int) -> Case:
    """The cases 0, 1, 2 … take every entry in turn, each dictionary in an order of its own, round by round."""

    def turn(name: str, options: tuple[str, ...], place: int) -> str:
        order = list(options)
        random.Random(f"{name} {place // len(order)}").shuffle(order)
        return order[place % len(order)]

    columns = {turn("columns", tuple(COLUMNS), 6 * number + place) for place in range(6)}
    slots = {name: turn(name, options, number) for name, options in SLOTS.items()}
    return Case(tuple(sorted(columns)), number, **slots)


@dataclass(frozen=True)
class World:
    """A case's tables: `truth` has the values by column, the first `learned` rows to learn from, the rest to score."""

    case: Case
    truth: Mapping[str, Values]
    columns: Mapping[str, Column]
    learned: int
    key: str
    label: str
    time: str
    group: str
    signal: str

    @property
    def batch(self) -> range:
        return range(self.learned, len(self.truth[self.label]))

    @property
    def zone(self) -> tzinfo:
        """Whose clocks show the hour."""
        return BERLIN if "booked" in self.case.columns or self.case.moments == "of a zone" else UTC

    def options(self) -> list[str]:
        """What the user says of their own accord."""
        case = self.case
        said = {"label": self.label}
        if self.key and (case.seed % 2 or case.head == "no names" or case.identity == "formulas"):
            said["id"] = self.key
        said |= {"time": self.time} if case.role in ("time", "time and group") else {}
        said |= {"group": self.group} if case.role in ("group", "time and group") else {}
        said |= {"time-zone": str(self.zone)} if self.zone is BERLIN else {}
        return [f"--{name}={value}" for name, value in said.items()]

    def answers(self) -> dict[str, str]:
        """What they answer to questions."""
        case = self.case
        form = DATES[case.dates]
        found = {"DATES": form, "ENCODING": ENCODINGS[case.encoding].removesuffix("-sig")}
        found |= {**NUMBERS[case.numbers].answers(), **LABELS[case.label].answers}
        found |= {"HEADER": "no" if case.head == "no names" else "yes"}
        gaps = [column.answers["MISSING"] for column in self.columns.values() if "MISSING" in column.answers]
        gaps += [GAPS[case.gaps]] if GAPS[case.gaps] not in STANDARD else []
        return found | ({"MISSING": ",".join(gaps)} if gaps else {})


def world(case: Case) -> World:
    draw = np.random.default_rng(case.seed)
    learned = 700 if "group" in case.role else int(case.size)  # of few, a part may have one class
    rows = learned + int(case.scored)
    if case.head == "no names" and case.surprise in ("no label", "other order"):  # which would number columns anew
        case = replace(case, surprise="none")
    if case.identity == "long numbers" and case.surprise == "missing ids":  # floats, of which several are one number
        case = replace(case, surprise="none")
    if case.scored == "1":  # too few for anything else
        case = replace(case, surprise="none", delivery="labels alone", packing=case.packing.replace("two files", "csv"))
    grouped, timed = "group" in case.role, "time" in case.role
    group = draw.permutation(np.arange(rows) // 5)
    signal = draw.normal(0, 1, rows)
    signal = signal[group] if grouped else signal
    columns = {name: COLUMNS[name] for name in case.columns}
    truth: dict[str, Values] = {"key": [IDS[case.identity](n) for n in range(rows)]} if case.identity != "none" else {}
    truth |= {name: column.values(draw, rows) for name, column in columns.items()}
    truth["signal"] = (signal + draw.normal(0, 0.7, rows)).round(4).tolist()
    columns["signal"] = Column(drawn_with_the_signal, NUMBER)
    if grouped:
        truth["patient_id"] = [f"p{each}" for each in group]
        for name in ("height", "weight"):
            truth[name] = draw.normal(70, 9, rows).round(1)[group].tolist()
            columns[name] = Column(drawn_with_the_signal, NUMBER)
    if timed:
        truth["happened"] = [MOMENTS[case.moments](BEGIN + timedelta(minutes=37 * (n // 2))) for n in range(rows)]
        columns["happened"] = Column(drawn_with_the_signal, DATE)
    label = LABELS[case.label]
    gaps = label.gaps or rows
    values = label.values(signal)
    truth["label"] = [None if n < learned and n % gaps == gaps - 1 else value for n, value in enumerate(values)]
    _surprise(case, truth, learned)
    order = draw.permutation(list(truth)).tolist()
    names = {name: f"column_{n}" if case.head == "no names" else name for n, name in enumerate(order, start=1)}
    called = {name: names.get(name, "") for name in ("key", "label", "happened", "patient_id", "signal")}
    return World(
        case,
        {names[name]: truth[name] for name in order},
        {names[name]: replace(column, types=() if names[name] != name and column.named else column.types)
         for name, column in columns.items()},
        learned, *called.values(),
    )  # fmt: skip


def _surprise(case: Case, truth: dict[str, Values], learned: int) -> None:
    """Change the rows that are scored."""
    few = slice(learned + 5, learned + 5 + FEW)
    match case.surprise:
        case "unknown categories" if "plan" in truth:
            truth["plan"][few] = ["new"] * FEW
        case "repeated ids" if "key" in truth:
            truth["key"][few] = truth["key"][learned : learned + FEW]
        case "missing ids" if "key" in truth:
            truth["key"][few] = [None] * FEW
        case "an empty column" if case.columns:
            truth[case.columns[0]][learned:] = [None] * (len(truth["label"]) - learned)
        case "whole amounts":
            truth["signal"][learned:] = [int(value) for value in truth["signal"][learned:]]


def text(world: World, name: str, value: Any) -> str:
    """A value as the case's CSV files have it."""
    if value is None:
        return _none(world, name)
    return WRITERS[type(value)](world, name, value) if type(value) in WRITERS else str(value)


def _none(world: World, name: str) -> str:
    column, marker = world.columns.get(name), GAPS[world.case.gaps]
    if column and column.none is not None:
        return str(column.none)
    among_numbers = column is not None and column.types == NUMBER
    return marker if among_numbers or marker in STANDARD else ""


def _yes_or_no(world: World, name: str, value: bool) -> str:
    """A label that Parquet has as booleans is no word."""
    words = world.case.booleans in ("words", "letters") and name == world.label
    return BOOLEANS["Python" if words else world.case.booleans][not value]


def _moment(world: World, name: str, value: date) -> str:
    day = DATES[world.case.dates]
    if not isinstance(value, datetime):
        return value.strftime(day.removesuffix("T"))
    return value.strftime(f"{day}{'' if day.endswith('T') else ' '}%H:%M:%S%z")


def _amount(world: World, name: str, value: float) -> str:
    """pandas makes floats of whole numbers with gaps; codes and names have no thousands."""
    column, case = world.columns.get(name), world.case
    amount = column.types == NUMBER if column else name == world.label and LABELS[case.label].task == "regression"
    floats = case.floats == "with .0" and None in world.truth[name]
    return _number(float(value) if floats else value, NUMBERS[case.numbers], grouped=amount)


def _number(value: float, numbers: Numbers, grouped: bool) -> str:
    before, point, after = f"{value:{',' if grouped else ''}}".partition(".")
    before = before.replace(",", numbers.thousands)
    return f"{before}{numbers.decimal}{after}" if point else before


def csv_files(world: World, rows: range, folder: Path, names: list[str], odd: bool = False) -> Path:
    """The rows as the case's CSV files; `odd` cuts or spoils a few of them as its surprise says."""
    case = world.case
    records = [[text(world, name, world.truth[name][n]) for name in names] for n in rows]
    for place in range(2, 2 + FEW) if odd else ():
        _spoil(case, records, place, names.index(world.signal))
    if case.packing != "two files":
        return _file(case, names, records, folder.with_suffix(f".{case.packing}"))
    folder.mkdir()
    middle = len(records) // 2
    _file(case, names, records[:middle], folder / "part-0.csv")
    _file(case, names, records[middle:], folder / "part-1.csv")
    return folder


def _spoil(case: Case, records: list[list[str]], place: int, cell: int) -> None:
    if case.surprise == "wrong cells":
        records[place][cell] = "abc"
    elif case.surprise == "long lines":
        records[place] += ["1", "2", "3"]
    elif case.surprise == "short lines":
        records[place].pop()


def _file(case: Case, names: list[str], records: list[list[str]], file: Path) -> Path:
    separator = NUMBERS[case.numbers].separator
    if case.head == "index":
        names, records = ["", *names], [[str(n), *record] for n, record in enumerate(records)]
    if case.head == "empty columns":
        names, records = [*names, "", ""], [[*record, "", ""] for record in records]
    quoting = csv.QUOTE_ALL if case.lines == "all in quotes" else csv.QUOTE_MINIMAL
    lines = [_line(record, separator, quoting) for record in ([] if case.head == "no names" else [names]) + records]
    begin = {"sep=": [f"sep={separator}"], "an empty line": [""]}.get(case.head, [])
    between = {"empty": [""], "empty and CRLF": [""], "empty cells": [separator * (len(names) - 1)]}.get(case.lines, [])
    for place in (9, 5, 3):
        lines[place:place] = between
    end = "\r\n" if "CRLF" in case.lines else "\n"
    body = (end.join([*begin, *lines, *between * 2]) + end).encode(ENCODINGS[case.encoding])
    if file.name.endswith(".gz"):
        file.write_bytes(gzip.compress(body))
    elif file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("table.csv", body)
    else:
        file.write_bytes(body)
    return file


def _line(record: list[str], separator: str, quoting: Any) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, delimiter=separator, quoting=quoting, lineterminator="\r\n").writerow(record)
    return line.getvalue().removesuffix("\r\n")


def parquet_files(world: World, rows: range, folder: Path, names: list[str]) -> Path:
    """The same rows as Parquet, in the case's types."""
    case = world.case
    frame = pl.DataFrame([_series(world, name, [world.truth[name][n] for n in rows]) for name in names])
    if case.head == "index":
        frame = frame.with_columns(pl.int_range(pl.len()).alias("__index_level_0__"))
    if case.packing != "two files":
        frame.write_parquet(folder.with_suffix(".parquet"))
        return folder.with_suffix(".parquet")
    folder.mkdir()
    middle = len(rows) // 2
    frame[:middle].write_parquet(folder / "part-0.parquet")
    frame[middle:].write_parquet(folder / "part-1.parquet")
    return folder


def _series(world: World, name: str, values: Values) -> pl.Series:
    """A column in one of the types that Parquet files have it in."""
    case, column = world.case, world.columns.get(name)
    if case.types == "texts":
        return pl.Series(name, [text(world, name, value) for value in values], dtype=pl.String)
    if name == world.label:
        return pl.Series(name, [None if each is None else LABELS[case.label].other(each) for each in values])
    none = column.none if column else None
    found = pl.Series(name, [none if value is None else value for value in values], strict=False)
    kinds: dict[str, Callable[[pl.Series, bool], pl.Series]] = {"pandas": _pandas, "narrow": _narrow}
    return kinds[case.types](found, None in world.truth[name]) if case.types in kinds else found


def _pandas(found: pl.Series, gaps: bool) -> pl.Series:
    if found.dtype.is_integer() and gaps:
        return found.cast(pl.Float64)
    if isinstance(found.dtype, pl.Date | pl.Datetime):
        return found.cast(pl.Datetime("ns", getattr(found.dtype, "time_zone", None)))
    return found.cast(pl.Categorical) if found.dtype == pl.String and found.n_unique() < 9 else found


def _narrow(found: pl.Series, gaps: bool) -> pl.Series:
    if found.dtype.is_integer():
        return found.shrink_dtype()
    return found.cast(pl.Decimal(12, 4)) if found.dtype.is_float() else found


WRITERS: dict[type, Callable[[World, str, Any], str]] = {
    bool: _yes_or_no,
    int: _amount,
    float: _amount,
    date: _moment,
    datetime: _moment,
    timedelta: lambda _, __, value: f"{value // HOUR}:{value % HOUR // MINUTE:02}",
}
Told = list[tuple[Any, Any]]  # ids and labels


def deliveries(world: World) -> list[Told]:
    """The labels of the batch as they arrive, row by row."""
    told = [(world.truth[world.key][n], world.truth[world.label][n]) for n in world.batch]
    if world.case.delivery == "twice":
        return [told[:70], told[50:]]
    if world.case.delivery != "late and odd":
        return [told]
    other = next(label for _, label in told if label != told[0][1])
    told = [(key, None if n % 7 == 3 else label) for n, (key, label) in enumerate(told)]
    told += [*told[8:12], (told[0][0], other), (IDS[world.case.identity](10**5 - 1), other), (None, other)]
    random.Random(world.case.seed).shuffle(told)
    return [told]


def labels_file(world: World, told: Told, file: Path, plain: bool) -> Path:
    """Late labels, with a column that nobody asked for; as Parquet where the contract says nothing of this CSV form."""
    names = [world.label, "remark", world.key]
    if world.case.labels_as == "csv" and not plain and world.case.head != "no names":
        records = [[text(world, world.label, label), "", text(world, world.key, key)] for key, label in told]
        packing = "csv" if world.case.packing == "two files" else world.case.packing
        return _file(world.case, names, records, file.with_suffix(f".{packing}"))
    keys, labels = (list(each) for each in zip(*told, strict=True))
    columns = [
        _series(world, world.label, labels),
        pl.Series("remark", [""] * len(told)),
        _series(world, world.key, keys),
    ]
    pl.DataFrame(columns).write_parquet(file.with_suffix(".parquet"))
    return file.with_suffix(".parquet")
