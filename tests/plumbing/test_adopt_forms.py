"""Clocks, dates and numbers as exports write them are read alike from CSV and Parquet, or asked for by an option."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import raw, usecase
from batchloop.container.usecase import UseCase
from components.processing import features
from plumbing.test_adopt import BEFORE, asked, rows, run
from plumbing.test_adopt_edges import adopted

COUNT = 600
RANDOM = np.random.default_rng(11)
MOMENTS = [datetime(2019, 1, 1) + timedelta(seconds=int(n)) for n in RANDOM.integers(0, 10**8, COUNT)]
AMOUNTS = [round(float(value), 2) for value in RANDOM.uniform(0.5, 5000, COUNT)]
Write = Callable[[Any], str]


def transformed(folder: Path, case: UseCase) -> pl.DataFrame:
    """The features that training makes of the rows of a folder."""
    frame = raw.read(folder, case).frame
    assert not frame.collect()[raw.BROKEN].any()
    return frame.select(features.transform(features.fit(frame, case.columns, case.features))).collect()


def same(folder: Path, csv: dict[str, Any], parquet: dict[str, Any], *options: str) -> dict[str, Any]:
    """The columns of the contract of a CSV file, which reads it and a Parquet file as what the latter's own reads."""
    tables = {"table.csv": rows(COUNT, **csv), "table.parquet": rows(COUNT, **parquet)}
    contracts: list[dict[str, Any]] = []
    cases = []
    for name, table in tables.items():
        contracts.append(adopted(folder, table, *options, name=name)["columns"])
        cases.append(usecase.load(folder / "usecase.toml"))
    found = [transformed(folder / name, case) for name, case in zip(tables, cases, strict=True)]
    assert found[0].equals(found[1])
    assert found[0].equals(transformed(folder / "table.parquet", cases[0]))
    return contracts[0]


CLOCKS: list[tuple[Write, Any]] = [
    (lambda m: m.strftime("%H:%M"), lambda m: time(m.hour, m.minute)),
    (lambda m: m.strftime("%H:%M:%S"), lambda m: m.time()),
    (lambda m: m.strftime("%I:%M:%S %p"), lambda m: m.time()),
    (lambda m: m.strftime("%I:%M%p").lower(), lambda m: time(m.hour, m.minute)),
    (lambda m: m.strftime("%H:%M:%S.25"), lambda m: m.time().replace(microsecond=250000)),
    (lambda m: f"{m.day} days {m:%H:%M:%S}", lambda m: timedelta(m.day, m.hour * 3600 + m.minute * 60 + m.second)),
    (
        lambda m: f"{m.day * 24 + m.hour}:{m:%M:%S}",
        lambda m: timedelta(m.day, m.hour * 3600 + m.minute * 60 + m.second),
    ),
]


@pytest.mark.parametrize(("write", "value"), CLOCKS)
def test_clocks_and_durations_are_hours_in_csv_and_parquet(tmp_path: Path, write: Write, value: Any) -> None:
    found = same(tmp_path, {"x": [write(m) for m in MOMENTS]}, {"x": [value(m) for m in MOMENTS]})
    assert found["x"] == {"type": "number", "format": "hh:mm:ss"}
    read = raw.read(tmp_path / "table.csv", usecase.load(tmp_path / "usecase.toml")).frame.collect()["x"][0]
    wanted = value(MOMENTS[0])
    whole = wanted if isinstance(wanted, timedelta) else datetime.combine(date.min, wanted) - datetime.min
    assert read == pytest.approx(whole.total_seconds() / 3600)


def test_clocks_of_two_and_three_parts_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(COUNT, pace=[m.strftime("%H:%M:%S" if n % 3 else "%H:%M") for n, m in enumerate(MOMENTS)])
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert "TYPES='pace=number(hh:mm:ss)' or TYPES='pace=number(mm:ss)'" in said
    read = {}
    for form in ("hh:mm:ss", "mm:ss"):
        assert adopted(tmp_path, table, "--types", f"pace=number({form})")["columns"]["pace"]["format"] == form
        case = usecase.load(tmp_path / "usecase.toml")
        read[form] = raw.read(tmp_path / "table.csv", case).frame.collect()["pace"]
    assert read["hh:mm:ss"][0] == pytest.approx(60 * read["mm:ss"][0])
    assert read["hh:mm:ss"][1] == read["mm:ss"][1]


def quarter(moment: datetime) -> int:
    return (moment.month + 2) // 3


DATES: list[tuple[Write, str, Any]] = [
    (lambda m: m.strftime("%Y%m%dT%H%M%S"), "%Y%m%dT%H%M%S", lambda m: m),
    (lambda m: m.strftime("%Y%m%d"), "%Y%m%d", lambda m: m.date()),
    (lambda m: m.strftime("%Y%m%d%H%M%S"), "%Y%m%d%H%M%S", lambda m: m),
    (lambda m: m.strftime("%G-W%V-%u"), "%G-W%V-%u", lambda m: m.date()),
    (lambda m: m.strftime("%G-W%V"), "%G-W%V", lambda m: m.date() - timedelta(m.weekday())),
    (lambda m: m.strftime("%Y-%j"), "%Y-%j", lambda m: m.date()),
    (lambda m: m.strftime("%Y-%m"), "%Y-%m", lambda m: m.date().replace(day=1)),
    (lambda m: m.strftime("%m/%Y"), "%m/%Y", lambda m: m.date().replace(day=1)),
    (lambda m: m.strftime("%m.%Y"), "%m.%Y", lambda m: m.date().replace(day=1)),
    (lambda m: m.strftime("%b %Y"), "%b %Y", lambda m: m.date().replace(day=1)),
    (lambda m: m.strftime("%b-%y"), "%b-%y", lambda m: m.date().replace(day=1)),
    (lambda m: f"{m.year}-Q{quarter(m)}", "%Y-Q%q", lambda m: date(m.year, 3 * quarter(m) - 2, 1)),
    (lambda m: f"Q{quarter(m)} {m.year}", "Q%q %Y", lambda m: date(m.year, 3 * quarter(m) - 2, 1)),
    (lambda m: f"{m:%b} {m.day}, {m.year}", "%b %d, %Y", lambda m: m.date()),
    (lambda m: m.strftime("%b %d, %Y, %I:%M:%S %p"), "%b %d, %Y, %I:%M:%S %p", lambda m: m),
    (lambda m: m.strftime("%A, %B %d, %Y"), "%A, %B %d, %Y", lambda m: m.date()),
    (lambda m: m.strftime("%a %b %d %H:%M:%S %Y"), "%a %b %d %H:%M:%S %Y", lambda m: m),
    (lambda m: m.strftime("%d-%b-%Y %H:%M:%S"), "%d-%b-%Y %H:%M:%S", lambda m: m),
    (lambda m: m.strftime("%a, %d %b %Y %H:%M:%S GMT"), "%a, %d %b %Y %H:%M:%S GMT", lambda m: m.replace(tzinfo=UTC)),
    (lambda m: m.strftime("%Y-%m-%d %H:%M:%S UTC"), "%Y-%m-%d %H:%M:%S UTC", lambda m: m.replace(tzinfo=UTC)),
    (lambda m: m.strftime("%d/%b/%Y:%H:%M:%S +0000"), "%d/%b/%Y:%H:%M:%S %#z", lambda m: m.replace(tzinfo=UTC)),
    (lambda m: m.strftime("%Y%m%dT%H%M%SZ"), "%Y%m%dT%H%M%SZ", lambda m: m.replace(tzinfo=UTC)),
]


@pytest.mark.parametrize(("write", "form", "value"), DATES, ids=[form for _, form, _ in DATES])
def test_dates_of_exports_are_what_parquet_holds(tmp_path: Path, write: Write, form: str, value: Any) -> None:
    found = same(tmp_path, {"x": [write(m) for m in MOMENTS]}, {"x": [value(m) for m in MOMENTS]})
    assert (found["x"]["type"], found["x"]["format"]) == ("date", form)


def test_moments_with_offsets_are_asked_for_and_then_are_what_parquet_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoned = pl.Series([m.replace(hour=12 + m.hour % 9) for m in MOMENTS]).dt.replace_time_zone("Europe/Berlin")
    texts = zoned.dt.to_string("%Y-%m-%d %H:%M:%S%:z")
    code, said = asked(tmp_path, rows(COUNT, at=texts), capsys)
    assert code == 2
    assert "cells like '+02:00'" in said
    assert "TIME_ZONE=Europe/Berlin" in said
    assert "no IANA time zone" in asked(tmp_path, rows(COUNT, at=texts), capsys, "--time-zone", "Berlin")[1]
    for zone in ("Europe/Berlin", "UTC"):
        assert same(tmp_path, {"at": texts}, {"at": zoned}, "--time-zone", zone)["at"]["time_zone"] == zone


def money(value: float, thousands: str = ",", decimal: str = ".") -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", thousands + decimal))


def signed(value: float, write: Callable[[float], str], negative: str) -> str:
    """Every fifth of the amounts is negative."""
    return negative.format(write(value)) if AMOUNTS.index(value) % 5 == 0 else write(value)


NUMBERS: list[tuple[Write, str, bool]] = [
    (lambda v: f"{v:.2f} %", "1234.5 %", False),
    (lambda v: f"{v:.2f}%", "1234.5 %", False),
    (lambda v: f"€ {money(v, '.', ',')}", "€ 1.234,5", False),
    (lambda v: f"{money(v, '.', ',')} €", "1.234,5 €", False),
    (lambda v: f"${money(v)}", "$ 1,234.5", False),
    (lambda v: f"{money(v)} USD", "1,234.5 USD", False),
    (lambda v: f"CHF {money(v, '’')}", "CHF 1’234.5", False),
    (lambda v: signed(v, lambda a: f"{a:.2f}", "({})"), "(1234.5)", True),
    (lambda v: signed(v, lambda a: f"${money(a)}", "({})"), "($ 1,234.5)", True),
    (lambda v: signed(v, lambda a: f"${money(a)}", "-{}"), "$ 1,234.5", True),
    (lambda v: signed(v, lambda a: f"{a:.2f}", "{}-"), "1234.5-", True),
    (lambda v: signed(v, lambda a: f"{a:.2f}".replace(".", ","), "{}-"), "1234,5-", True),
    (lambda v: signed(v, lambda a: money(a, ".", ","), "{}-"), "1.234,5-", True),
    (lambda v: signed(v, lambda a: f"{a:.2f}", "\u2212{}"), "", True),
    (lambda v: f"{v:.2f} kg", "1234.5 kg", False),
    (lambda v: f"{v:.2f}°C", "1234.5 °C", False),
    (lambda v: f"{v:.2f} km/h", "1234.5 km/h", False),
    (lambda v: money(v, "\u202f", ","), "1\u202f234,5", False),
    (lambda v: money(v, "\u2009", ","), "1\u2009234,5", False),
    (lambda v: money(v, "\u00a0", ","), "1\u00a0234,5", False),
    (lambda v: f"{v:.2f}".replace(".", ","), "1234,5", False),
    (lambda v: f"{v:e}", "", False),
]


@pytest.mark.parametrize(("write", "form", "negative"), NUMBERS, ids=[form or "plain" for _, form, _ in NUMBERS])
def test_numbers_in_common_dress_are_what_parquet_holds(
    tmp_path: Path, write: Write, form: str, negative: bool
) -> None:
    numbers = [-value if negative and n % 5 == 0 else value for n, value in enumerate(AMOUNTS)]
    found = same(tmp_path, {"x": [write(value) for value in AMOUNTS]}, {"x": numbers})
    assert found["x"] == {"type": "number"} | ({"format": form} if form else {})


def test_a_label_in_common_dress_is_a_number(tmp_path: Path) -> None:
    table = rows(COUNT).with_columns(target=pl.Series([f"${money(value)}" for value in AMOUNTS]))
    found = adopted(tmp_path, table)
    assert (found["data"]["task"], found["data"]["label_format"]) == ("regression", "$ 1,234.5")
    case = usecase.load(tmp_path / "usecase.toml")
    assert raw.read(tmp_path / "table.csv", case, labelled=True).frame.collect()["target"].to_list() == AMOUNTS


def test_money_without_a_sign_among_money_is_money(tmp_path: Path) -> None:
    found = adopted(tmp_path, rows(COUNT, x=[f"€{v:.2f}" if n % 3 else f"{v:.2f}" for n, v in enumerate(AMOUNTS)]))
    assert found["columns"]["x"]["format"] == "€ 1234.5|1234.5"


OPEN: list[tuple[Callable[[int, float], str], str]] = [
    (lambda n, v: f"{v:.0f}%" if n % 4 else f"{v / 100:.2f}", "number(1234.5 %|1234.5)"),
    (lambda n, v: f"{v:.1f} kg" if n % 4 else f"{v:.1f}", "number(1234.5 kg|1234.5)"),
    (lambda n, v: f"{v:.1f} kg" if n % 4 else f"{v * 1000:.0f} g", "category"),
    (lambda n, v: (f"{v:.1f} kg" if n % 4 else f"{v:.2f}").replace(".", ","), "number(1234,5 kg|1234,5)"),
    (lambda n, v: f"{v:.0f} kg" if n % 4 else money(v + 1000), "number(1,234.5 kg|1,234.5)"),
    (lambda n, v: f"${v:.2f}" if n % 4 else f"€{v:.2f}", "out"),
    (lambda n, v: f"{v / 1000:.1f}k" if n % 4 else f"{v:.0f}", "out"),
    (lambda n, v: f"{v:.2f}" if n % 4 else f"{v:.2f}".replace(".", ","), "number(1234.5|1234,5)"),
]


@pytest.mark.parametrize(("write", "answer"), OPEN)
def test_numbers_that_can_be_read_two_ways_are_asked_for_with_examples_and_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Callable[[int, float], str], answer: str
) -> None:
    table = rows(COUNT, x=[write(n, value) for n, value in enumerate(AMOUNTS)])
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert f"x={answer}" in said
    assert "450 cells" in said
    assert "150 cells" in said
    columns = adopted(tmp_path, table, "--types", f"x={answer}")["columns"]
    assert answer.startswith(columns["x"]["type"]) if "x" in columns else answer == "out"


@pytest.mark.parametrize("form", ["%H:%M %d.%m.%Y", "%d.%m.%Y, %H:%M Uhr"])
def test_dates_in_a_format_of_their_own_are_told_how_to_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    table = rows(COUNT, x=[m.strftime(form) for m in MOMENTS])
    assert "x" not in adopted(tmp_path, table)["columns"]
    assert "is a date, say TYPES='x=date(%d.%m.%Y)' with its format" in capsys.readouterr().out
    assert adopted(tmp_path, table, "--types", f"x=date({form})")["columns"]["x"]["type"] == "date"


def test_a_format_that_reads_no_date_is_refused_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(COUNT, x=[f"{m:%Y-%m-%d}" for m in MOMENTS])
    code, said = asked(tmp_path, table, capsys, "--types", "x=date(%d.%m.%Y)")
    assert code == 1
    assert "column 'x': '2019-01-01' is no date like %d.%m.%Y" in said


def test_no_value_in_a_column_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(COUNT, age=SENTINELS[0][1])
    code, said = asked(tmp_path, table, capsys, "--missing", "Age=-1")
    assert code == 1
    assert "has no column 'Age' (MISSING=Age=-1); the nearest is 'age'." in said
    found = adopted(tmp_path, table, "--missing", "age=-1,age=99")
    assert found["columns"]["age"]["missing"] == ["-1", "99"]


@pytest.mark.parametrize("word", ["tbd", "-", "open"])
@pytest.mark.parametrize(
    "write", [lambda v: f"€ {money(v, '.', ',')}", lambda v: money(v, ".", ","), "12:{:02.0f}".format]
)
def test_words_among_numbers_in_dress_are_gaps_or_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Write, word: str
) -> None:
    table = rows(COUNT, x=[word if n % 9 == 0 else write(v % 59) for n, v in enumerate(AMOUNTS)])
    code, said = asked(tmp_path, table, capsys)
    assert (code, "MISSING=" + word in said) == ((0, False) if word == "-" else (2, True))
    assert adopted(tmp_path, table, "--missing", word)["columns"]["x"]["type"] == "number"


def test_a_decimal_comma_with_an_exponent_is_one(tmp_path: Path) -> None:
    found = adopted(tmp_path, rows(COUNT, x=[f"{value:.3E}".replace(".", ",") for value in AMOUNTS]))
    assert found["columns"]["x"]["format"] == "1234,5"
    case = usecase.load(tmp_path / "usecase.toml")
    read = raw.read(tmp_path / "table.csv", case).frame.collect()["x"].to_list()
    assert read == pytest.approx(AMOUNTS, rel=1e-3)


def test_what_several_columns_leave_open_is_one_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = [m.strftime("%Y-%m-%d" if n % 3 else "%d.%m.%Y") for n, m in enumerate(MOMENTS)]
    both = rows(COUNT, first=two, second=two[::-1])
    said = asked(tmp_path, both, capsys)[1]
    answers = re.findall(r"TYPES='(\w+=date\(.*?\))'", said)
    assert len(answers) == 2
    assert "400 cells like" in said
    assert adopted(tmp_path, both, "--types", ",".join(answers))["columns"]["second"]["type"] == "date"


@pytest.mark.parametrize("kind", ["category", "out"])
def test_what_a_column_is_said_to_be_is_not_asked_about(tmp_path: Path, kind: str) -> None:
    codes = [999 if n % 10 == 0 else int(value) // 50 for n, value in enumerate(AMOUNTS)]
    found = adopted(tmp_path, rows(COUNT, x=codes), "--types", f"x={kind}")
    assert found["columns"].get("x") == {"category": {"type": "category"}, "out": None}[kind]
    assert "999" not in found["data"]["missing"]


@pytest.mark.parametrize("types", ["x", "x=whole", "x=number(about 5)", "nobody=out"])
def test_a_type_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], types: str) -> None:
    code, said = asked(tmp_path, rows(x=["a", "b"] * 60), capsys, "--types", types)
    assert code == 1
    assert "TYPES" in said


SENTINELS: list[tuple[str, list[Any], str]] = [
    ("whole", [-1 if n % 10 == 0 else 18 + int(value) // 50 for n, value in enumerate(AMOUNTS)], "x=-1"),
    ("amount", [-1.0 if n % 10 == 0 else value for n, value in enumerate(AMOUNTS)], "x=-1"),
    ("zero", [0 if n % 10 == 0 else 40 + int(value) // 50 for n, value in enumerate(AMOUNTS)], "x=0"),
    ("nines", [9999.0 if n % 10 == 0 else value for n, value in enumerate(AMOUNTS)], "9999"),
    ("eights", [88 if n % 10 == 0 else int(value) // 70 for n, value in enumerate(AMOUNTS)], "88"),
    ("no day", ["0000-00-00" if n % 10 == 0 else f"{m:%Y-%m-%d}" for n, m in enumerate(MOMENTS)], "0000-00-00"),
    ("no date", ["00/00/0000" if n % 10 == 0 else f"{m:%d/%m/%Y}" for n, m in enumerate(MOMENTS)], "00/00/0000"),
    ("word", ["open" if n % 10 == 0 else f"{m:%Y-%m}" for n, m in enumerate(MOMENTS)], "open"),
    ("1900", ["1900-01-01" if n % 10 == 0 else f"{m:%Y-%m-%d}" for n, m in enumerate(MOMENTS)], "1900-01-01"),
]


@pytest.mark.parametrize(("name", "cells", "marker"), SENTINELS, ids=[case[0] for case in SENTINELS])
def test_heaped_values_that_stand_for_none_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, cells: list[Any], marker: str
) -> None:
    del name
    table = rows(COUNT, x=cells, flag=[n % 2 for n in range(COUNT)], balance=[n % 7 - 3 for n in range(COUNT)])
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert f"MISSING={marker} " in said
    found = adopted(tmp_path, table, "--missing", marker)
    assert found["columns"]["x"]["type"] in ("number", "date")
    frame = raw.read(tmp_path / "table.csv", usecase.load(tmp_path / "usecase.toml")).frame.collect()
    empty = frame["x"].null_count()
    assert empty == sum(str(cell).removesuffix(".0") == marker.removeprefix("x=") for cell in cells)
    assert frame["flag"].null_count() == frame["balance"].null_count() == 0


@pytest.mark.parametrize(
    "cells",
    [
        [0 if n % 3 == 0 else round(value, 2) for n, value in enumerate(AMOUNTS)],
        [n % 7 - 1 for n in range(COUNT)],
        [round(value) - 2500 for value in AMOUNTS],
    ],
)
def test_ordinary_zeros_and_negative_numbers_are_not_asked_about(tmp_path: Path, cells: list[Any]) -> None:
    assert "x" in adopted(tmp_path, rows(COUNT, x=pl.Series(cells, strict=False)))["columns"]


@pytest.mark.parametrize(
    "cells",
    [
        [f"{n % 37}{'ABCDEF'[n % 6]}" for n in range(COUNT)],
        [f"A{n % 40}" for n in range(COUNT)],
        [f"{n % 3}.{n % 7}.{n % 5}" for n in range(COUNT)],
        [["10 kg", "20 kg", "7"][n // 2 % 3] for n in range(COUNT)],
        [["1st", "2nd", "3rd", "4th"][n % 4] for n in range(COUNT)],
    ],
)
def test_codes_that_hold_digits_stay_categories(tmp_path: Path, cells: list[str]) -> None:
    assert adopted(tmp_path, rows(COUNT, x=cells))["columns"]["x"]["type"] == "category"


def test_a_batch_in_another_dress_breaks_its_rows_and_says_the_format(tmp_path: Path) -> None:
    (tmp_path / "usecase.toml").write_text(BEFORE)
    rows(COUNT, x=[f"{value:.2f} %" for value in AMOUNTS]).write_csv(tmp_path / "table.csv")
    assert run(tmp_path, tmp_path / "table.csv", "--label", "target") == 0
    case = usecase.load(tmp_path / "usecase.toml")
    (tmp_path / "new").mkdir()
    rows(2, x=["12 %", "0.12"]).write_csv(tmp_path / "new" / "new.csv")
    frame = raw.read(tmp_path / "new", case).frame.collect()
    assert frame["x"].to_list() == [12.0, None]
    assert frame[raw.ERROR][1] == "column 'x': '0.12' is not a number like 1234.5 %"
