"""Columns of numbers since 1970 become dates, and other long numbers stay what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from plumbing.test_adopt import rows
from plumbing.test_adopt_edges import adopted, types

COUNT, START, YEAR = 300, 1704067200, 365 * 24 * 3600  # from 2024-01-01 on


def moments(unit: int = 1, ordered: bool = False, count: int = COUNT) -> list[int]:
    drawn = np.random.default_rng(5).integers(START * unit, (START + YEAR) * unit, count)
    return [int(each) for each in (np.sort(drawn) if ordered else drawn)]


def contract_of(folder: Path, table: pl.DataFrame, *options: str) -> dict[str, Any]:
    """The contract of a table, which is the same from CSV, from Parquet, and from Parquet with floats."""
    floats = table.with_columns(pl.col(pl.Int64).cast(pl.Float64))
    found = []
    for name, held in {"a.csv": table, "b.parquet": table, "c.parquet": floats, "d.csv": floats}.items():
        (folder / name[0]).mkdir()
        found.append(adopted(folder / name[0], held, *options, name=f"table.{name[2:]}"))
    assert all(each == found[0] for each in found)
    return found[0]


@pytest.mark.parametrize(
    ("name", "unit"),
    [("created_at", 1), ("eventTs", 1), ("Zeitstempel", 1), ("timestamp", 1000), ("ts", 10**6), ("at", 10**9)],
)
def test_numbers_since_1970_under_the_name_of_a_time_are_dates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, unit: int
) -> None:
    found = contract_of(tmp_path, rows(COUNT, **{name: moments(unit)}))
    part = {1: "", 1000: "milli", 10**6: "micro", 10**9: "nano"}[unit]
    form = {1: "epoch s", 1000: "epoch ms", 10**6: "epoch us", 10**9: "epoch ns"}[unit]
    assert found["columns"][name] == {"type": "date", "format": form, "drift": False}
    said = capsys.readouterr().out
    assert f"as {part}seconds since 1970" in said
    assert f"say TIME={name}" in said


@pytest.mark.parametrize(("unit", "ordered"), [(1, True), (1000, True), (1000, False)])
def test_numbers_since_1970_are_told_by_how_they_stand(tmp_path: Path, unit: int, ordered: bool) -> None:
    found = contract_of(tmp_path, rows(COUNT, x=moments(unit, ordered)))
    assert found["columns"]["x"] == {"type": "date", "format": f"epoch {'s' if unit == 1 else 'ms'}", "drift": False}


def test_fractions_of_a_second_and_gaps_are_read(tmp_path: Path) -> None:
    seconds: list[float | None] = [each + 0.25 for each in moments()]
    seconds[7] = None
    assert types(contract_of(tmp_path, rows(COUNT, logged_time=seconds))) == {"logged_time": "date"}


@pytest.mark.parametrize(
    ("name", "ordered"),
    [("x", False), ("account", True), ("phone_number", True), ("candidate", False)],
)
def test_other_numbers_of_ten_digits_stay_numbers(tmp_path: Path, name: str, ordered: bool) -> None:
    assert types(contract_of(tmp_path, rows(COUNT, **{name: moments(1, ordered)}))) == {name: "number"}


@pytest.mark.parametrize("name", ["update_id", "customer_no"])
def test_an_id_of_ten_digits_stays_the_id(tmp_path: Path, name: str) -> None:
    found = contract_of(tmp_path, rows(COUNT, **{name: moments(1, ordered=True)}))
    assert found["data"]["id"] == name


@pytest.mark.parametrize("outside", [946_684_799, 4_102_444_801])
def test_a_number_outside_this_century_makes_none_of_them_dates(tmp_path: Path, outside: int) -> None:
    found = contract_of(tmp_path, rows(COUNT, created_at=[outside, *moments(count=COUNT - 1)]))
    assert types(found) == {"created_at": "number"}


@pytest.mark.parametrize("name", ["Geburtsdatum", "valid_until_ts"])
def test_a_date_of_a_thing_is_no_time_of_an_event(tmp_path: Path, name: str) -> None:
    days = [START + each // 86400 % 200 * 86400 for each in moments()]
    found = contract_of(tmp_path, rows(COUNT, **{name: days}))
    assert found["columns"][name] == {"type": "date", "format": "epoch s"}


def test_few_distinct_numbers_are_no_moments(tmp_path: Path) -> None:
    found = contract_of(tmp_path, rows(COUNT, batch_time=[START + n % 7 * 86400 for n in range(COUNT)]))
    assert types(found) == {"batch_time": "number"}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_numbers_since_1970_split_by_time_and_the_last_are_kept_aside(tmp_path: Path, kind: str) -> None:
    table = rows(600, stamp=moments(1000, count=600))
    found = adopted(tmp_path, table, "--time", "stamp", name=f"table.{kind}")
    assert found["data"]["time"] == "stamp"
    assert found["data"]["time_format"] == "epoch ms"
    assert found["split"]["method"] == "time"
    [file] = (tmp_path / "data" / "adopted" / "production").iterdir()
    kept = pl.read_parquet(file).with_columns(pl.col("stamp").cast(pl.Int64))
    assert kept["stamp"].sort().to_list() == table["stamp"].sort().to_list()[-len(kept) :]
    assert 50 <= len(kept) <= 70


def test_numbers_as_germans_write_them_are_moments_too(tmp_path: Path) -> None:
    stamps = moments(1000, ordered=True)
    lines = [f"{n % 7}.{n % 900 + 100},5;{stamp};{'ja' if n % 3 else 'nein'}" for n, stamp in enumerate(stamps)]
    found = adopted(tmp_path, "\n".join(["betrag;zeit;target", *lines, ""]).encode())
    assert found["columns"]["zeit"] == {"type": "date", "format": "epoch ms", "drift": False}


@pytest.mark.parametrize(("name", "said"), [("date", True), ("price", False)])
def test_a_spreadsheet_s_days_under_the_name_of_a_time_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: bool
) -> None:
    days = np.random.default_rng(5).integers(44_900, 45_300, COUNT)
    assert types(adopted(tmp_path, rows(COUNT, **{name: days}))) == {name: "number"}
    hint = f"if a spreadsheet's days since 1900, write them as 2024-01-31 or say TYPES={name}=out"
    assert (hint in capsys.readouterr().out) is said


def test_long_numbers_in_no_order_are_no_microseconds(tmp_path: Path) -> None:
    assert types(adopted(tmp_path, rows(COUNT, x=moments(10**6)))).get("x") != "date"
