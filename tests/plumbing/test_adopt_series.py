"""`make adopt` for tables of series: which rows are one, how far apart they are, and what is asked or refused."""

import tomllib
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.adopt import adopting
from batchloop.container import raw, usecase
from plumbing.rendered import TEMPLATE

FOLDER = TEMPLATE / "{{cookiecutter.project_slug}}" / "domains" / "timeseries"
EMPTY = """
[usecase]
name = "mine"
[data]
task = "forecasting"
label = "x"
time = "t"
[series]
id = ""
horizon = 1
frequency = "1d"
season_length = 1
known = []
[columns]
[split]
method = "time"
[hyperparameters]
num_iterations = 20
[gate]
metric = "mase"
minimum = 1.0
[drift]
minimum_rows = 10
"""
Adopt = Callable[..., dict[str, Any]]


@pytest.fixture
def adopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Adopt:
    """A table's [series] after adopting it, with what was printed as `said`; what is asked or refused likewise."""
    monkeypatch.chdir(tmp_path)

    def run(table: pl.DataFrame | Path, *options: str, label: str = "value") -> dict[str, Any]:
        Path("usecase.toml").write_text(EMPTY, encoding="utf-8")
        if isinstance(table, pl.DataFrame):
            table.write_csv("table.csv")
            table = Path("table.csv")
        code = adopting.main(["--data", str(table), "--label", label, *options])
        said = capsys.readouterr()
        found = {"code": code, "said": said.out + said.err}
        return found | (tomllib.loads(Path("usecase.toml").read_text(encoding="utf-8"))["series"] if not code else {})

    return run


def months(first: date, count: int, apart: int = 1) -> list[date]:
    return [date(first.year + (n * apart) // 12, 1 + (n * apart) % 12, 1) for n in range(count)]


def table(times: list[Any], series: int = 3, form: str = "") -> pl.DataFrame:
    random = np.random.default_rng(1)
    told = [time.strftime(form) if form else time for time in times]
    rows = {"name": np.repeat([f"s{n}" for n in range(series)], len(times)), "when": told * series}
    return pl.DataFrame(rows).with_columns(value=pl.Series(random.normal(100, 9, series * len(times)).round(2)))


DAY = date(2020, 1, 6)


@pytest.mark.parametrize(
    ("times", "frequency", "season", "horizon"),
    [
        ([DAY + timedelta(days=n) for n in range(300)], "1d", 7, 14),
        ([DAY + timedelta(days=n) for n in range(420) if n % 7 < 5], "1d", 7, 14),  # business days
        ([DAY + timedelta(weeks=n) for n in range(200)], "1w", 52, 8),
        ([DAY + timedelta(weeks=4 * n) for n in range(60)], "4w", 13, 2),
        (months(date(2000, 1, 1), 150), "1mo", 12, 12),
        (months(date(2000, 1, 1), 60, 2), "2mo", 6, 5),
        (months(date(2000, 1, 1), 60, 3), "1q", 4, 4),
        (months(date(1980, 1, 1), 60, 6), "2q", 2, 3),
        ([date(1960 + n, 12, 31) for n in range(60)], "1y", 1, 3),
        ([date(1900 + 5 * n, 1, 1) for n in range(24)], "5y", 1, 2),
        ([datetime(2024, 3, 1) + timedelta(hours=n) for n in range(400)], "1h", 24, 24),
        ([datetime(2024, 3, 1) + timedelta(minutes=15 * n) for n in range(900)], "15m", 96, 75),
        ([datetime(2024, 3, 1) + timedelta(minutes=30 * n) for n in range(900)], "30m", 48, 48),
        ([datetime(2024, 3, 1) + timedelta(minutes=n) for n in range(5000)], "1m", 1440, 60),
    ],
)
def test_how_far_apart_rows_are(times: list[Any], frequency: str, season: int, horizon: int, adopt: Adopt) -> None:
    found = adopt(table(times))
    assert (found["id"], found["frequency"]) == ("name", frequency), found["said"]
    assert (found["season_length"], found["horizon"]) == (season, horizon)


@pytest.mark.parametrize("form", ["%b %Y", "%Y-%m", "%d/%m/%Y", "%d.%m.%y"])
def test_months_are_read_however_they_are_written(form: str, adopt: Adopt) -> None:
    found = adopt(table([time.replace(day=28) for time in months(date(2000, 1, 1), 60)], form=form))
    assert found["frequency"] == "1mo", found["said"]


def test_the_last_periods_are_to_come_and_their_labels_come_later(adopt: Adopt) -> None:
    adopt(table(months(date(2000, 1, 1), 150)))
    case = usecase.load(Path("usecase.toml"))
    counts = {}
    for part in ("train", "production", "later"):
        frame = pl.concat(pl.scan_parquet(file) for file in Path("data/adopted", part).glob("*")).collect()
        counts[part] = (len(frame), frame["value"].drop_nulls().len())
    assert counts["train"][0] == 3 * (150 - 12)
    assert counts["production"] == (3 * 150, counts["train"][1])
    assert counts["later"] == (3 * 12, 3 * 12)
    found = raw.read(Path("data/adopted/train"), case, labelled=True)
    assert (found.rows, found.broken) == (3 * 138, 0)


@pytest.mark.parametrize("years", [[1952 + 5 * n for n in range(14)], [1871.0 + n for n in range(100)]])
def test_years_are_times_where_time_names_them(years: list[float], adopt: Adopt) -> None:
    asked = adopt(table(years))
    assert asked["code"] == 2
    assert "no column holds dates, but 'when' could be years; say TIME=column" in asked["said"]
    found = adopt(table(years), "--time", "when")
    assert found["frequency"] == ("5y" if years[0] == 1952 else "1y"), found["said"]
    case = usecase.load(Path("usecase.toml"))
    assert raw.read(Path("data/adopted/train"), case, labelled=True).broken == 0


@pytest.mark.parametrize(
    ("form", "options", "words"),
    [
        ("year+month", ["--time", "year"], "'year' and 'month' say together when a row happened; write them into one"),
        ("decimal", ["--time", "when"], "column 'when' (TIME) holds no dates that can be read: 2000 to 2010"),
        ("alike", [], "which rows are one series? Times of 'when' come more than once; say SERIES=column"),
        ("one", ["--time", "when"], "(TIME) holds no dates that can be read: is '2020-01-06' in every row"),
        ("apart", [], "column 'when' has one time only in each series; there is nothing to forecast"),
        ("known", ["--known", " holiday, nothing"], "has no column 'nothing' (KNOWN=nothing)"),
    ],
)
def test_what_can_not_be_decided_is_said(form: str, options: list[str], words: str, adopt: Adopt) -> None:
    made = table(months(date(2000, 1, 1), 60))
    when = pl.col("when")
    if form == "year+month":
        made = made.with_columns(year=when.dt.year(), month=when.dt.month()).drop("when")
    if form == "decimal":
        made = made.with_columns(when=2000 + pl.int_range(pl.len()) % 121 / 12)
    if form == "alike":
        made = pl.concat([made, made.with_columns(value=pl.col("value") + 1)])
    if form == "one":
        made = table([DAY], series=30)
    if form == "apart":
        made = table([DAY + timedelta(days=n) for n in range(40)], 1)
        made = made.with_columns(name=pl.format("s{}", pl.int_range(pl.len())))
        options = ["--series", "name"]
    if form == "known":
        made = made.with_columns(holiday=when.dt.month() % 2)
    found = adopt(made, *options)
    assert found["code"] in (1, 2)
    assert words in found["said"]


def test_series_that_become_one_are_said(adopt: Adopt) -> None:
    made = table(months(date(2000, 1, 1), 60))
    assert "share their series and period" not in adopt(made)["said"]
    assert "180 rows share their series and period" in adopt(made, "--series", "none")["said"]
    blank = made.with_columns(name=pl.col("name").replace("s1", "s0 "))
    assert "120 rows share their series and period" in adopt(blank, "--series", "name")["said"]


def test_a_series_may_be_called_as_missing_values_are(adopt: Adopt) -> None:
    made = table(months(date(2000, 1, 1), 60)).with_columns(name=pl.col("name").replace("s1", "NA"))
    found = adopt(made)
    assert found["id"] == "name", found["said"]
    assert "share their series and period" not in found["said"]
    case = usecase.load(Path("usecase.toml"))
    kept = raw.read(Path("data/adopted/production"), case)
    assert (kept.rows, kept.broken) == (180, 0)
    assert set(kept.frame.collect()["__series"]) == {"s0", "NA", "s2"}


def test_a_time_zone_that_no_date_needs_is_said(adopt: Adopt) -> None:
    hours = [datetime(2024, 3, 1) + timedelta(hours=n) for n in range(400)]
    found = adopt(table(hours), "--time-zone", "Europe/Berlin")
    assert "TIME_ZONE=Europe/Berlin changes nothing" in found["said"]
    found = adopt(table(hours, form="%Y-%m-%dT%H:%M:%S+01:00"), "--time-zone", "Europe/Berlin")
    assert "changes nothing" not in found["said"]


def test_a_number_that_differs_in_every_row_is_no_series(adopt: Adopt) -> None:
    made = table(months(date(2000, 1, 1), 60)).with_columns(people=1000 + pl.int_range(pl.len()))
    assert adopt(made)["id"] == "name"


def test_rows_in_any_order_of_a_parquet_file_are_the_same_series(adopt: Adopt) -> None:
    made = table(months(date(2000, 1, 1), 60))
    made.sample(fraction=1.0, shuffle=True, seed=3).write_parquet("shuffled.parquet")
    found = adopt(Path("shuffled.parquet"))
    assert (found["id"], found["frequency"], found["horizon"]) == ("name", "1mo", 5)


def test_what_is_to_come_is_no_further_than_the_horizon_where_days_are_missing(adopt: Adopt) -> None:
    days = [DAY + timedelta(days=n) for n in range(420) if n % 7 < 5]
    adopt(table(days))
    later = pl.read_parquet("data/adopted/later/*")
    assert later["when"].unique().sort().to_list() == [str(day) for day in days[-10:]]
    assert usecase.load(Path("usecase.toml")).drift.minimum_rows == 30


def test_drift_asks_for_the_rows_that_it_counts_and_for_no_handful(adopt: Adopt) -> None:
    adopt(table(months(date(2000, 1, 1), 60), series=1))
    assert usecase.load(Path("usecase.toml")).drift.minimum_rows == 20
    days = table([DAY + timedelta(days=n) for n in range(200)], series=4)
    first = days.filter((pl.col("name") != "s3") | (pl.col("when") > DAY + timedelta(days=190)))  # a new series
    adopt(first)
    assert usecase.load(Path("usecase.toml")).drift.minimum_rows == 3 * 14
