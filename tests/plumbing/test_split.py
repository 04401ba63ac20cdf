"""Splitting: rows of one group stay in one part, whatever file they come from, and what is left out is said."""

import datetime
import logging
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from batchloop import local
from batchloop.container import artifacts, datasets, job, raw, usecase
from batchloop.container.job import InputError
from batchloop.engine.graph import Progress
from batchloop.engine.running import Finished
from batchloop.repository import Repository
from components.processing import train

USECASE = """
[usecase]
name = "clinic"
[data]
task = "binary"
id = "visit"
label = "sick"
classes = ["no", "yes"]
time = "{time}"
time_format = "%Y-%m-%d"
missing = ["", "NA"]
[columns]
pressure = {{ type = "number" }}
[split]
{split}
[gate]
metric = "auc"
minimum = 0.5
"""
GROUP = 'method = "group"\ngroup = "patient"'
Describe = Callable[..., None]


def visits(patients: int = 200, each: int = 10, first: int = 0) -> pl.DataFrame:
    """Visits of patients in no order; a day of ten years each."""
    rows, random = patients * each, np.random.default_rng(1)
    day = datetime.date(2014, 1, 1)
    return pl.DataFrame(
        {
            "visit": [f"v{n}" for n in range(rows)],
            "patient": [f"P{first + n % patients}" for n in range(rows)],
            "pressure": random.normal(120, 10, rows).round(1),
            "day": [str(day + datetime.timedelta(int(n))) for n in random.integers(0, 3650, rows)],
            "sick": [("yes", "no")[n] for n in random.integers(0, 2, rows)],
        }
    )


@pytest.fixture
def describe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Describe:
    """Write usecase.toml with this [split], and point the component at it and at an empty /opt/ml."""

    def write(settings: str = GROUP, time: str = "") -> None:
        (tmp_path / "usecase.toml").write_text(USECASE.format(split=settings, time=time))

    monkeypatch.setenv("ML_ROOT", str(tmp_path / "opt"))
    monkeypatch.setenv("USECASE_FILE", str(tmp_path / "usecase.toml"))
    for name in ("raw", "validation", "champion"):
        job.processing_input(name).mkdir(parents=True)
    write()
    return write


def put(frame: pl.DataFrame, name: str = "raw/visits.csv") -> Path:
    file = job.processing_input("") / name
    frame.write_parquet(file) if file.suffix == ".parquet" else frame.write_csv(file)
    return file


def parts() -> dict[str, pl.DataFrame]:
    return {name: pl.read_parquet(job.processing_output(name) / "*.parquet") for name in datasets.PARTS}


def groups() -> dict[str, set[str]]:
    return {name: set(part[raw.GROUP].drop_nulls()) for name, part in parts().items()}


def apart(found: dict[str, set[str]]) -> bool:
    return sum(len(part) for part in found.values()) == len(set.union(*found.values()))


@pytest.mark.usefixtures("describe")
def test_rows_of_a_group_stay_in_one_part_and_the_shares_hold() -> None:
    put(visits(1000, 5))
    train.train({})
    assert apart(groups())
    rows = {name: part.height for name, part in parts().items()}
    assert sum(rows.values()) == 5000
    assert 0.11 < rows["test"] / 5000 < 0.19
    assert 0.11 < rows["validation"] / 5000 < 0.19


@pytest.mark.usefixtures("describe")
def test_a_group_has_its_place_in_csv_and_parquet_in_any_order_and_with_others_beside_it() -> None:
    file = put(visits())
    train.train({})
    first = groups()
    file.unlink()
    put(pl.concat([visits(), visits(300, 4, first=200)]).reverse(), "raw/visits.parquet")
    train.train({})
    for name, part in groups().items():
        assert {patient for patient in part if int(patient[1:]) < 200} == first[name]


def test_the_draw_of_a_group_is_the_same_on_every_machine() -> None:
    """From the published CRC-32 of its UTF-8 bytes (of "123456789" it is CBF43926), mixed as a row's place is."""
    frame = pl.LazyFrame({raw.GROUP: ["123456789", "Zoë", None], raw.ROW: [1, 2, 3]})
    keys = [0xCBF43926, zlib.crc32("Zoë".encode()), 3]
    known = pl.LazyFrame({raw.ROW: keys}).select(datasets.draws(7)).collect().to_series().to_list()
    assert frame.select(datasets._group_draws(7)).collect().to_series().to_list() == known


@pytest.mark.usefixtures("describe")
def test_a_row_without_a_group_is_one_of_its_own_and_said(caplog: pytest.LogCaptureFixture) -> None:
    unknown = pl.when(pl.int_range(pl.len()) % 4 == 0).then(pl.lit("NA")).otherwise(pl.col("patient"))
    put(visits(400, 5).with_columns(unknown.alias("patient")))
    train.train({})
    assert "500 rows have no 'patient' and are split one by one" in caplog.text
    assert apart(groups())
    alone = {name: part[raw.GROUP].null_count() for name, part in parts().items()}
    assert min(alone.values()) > 40


@pytest.mark.usefixtures("describe")
def test_a_group_column_without_values_is_refused() -> None:
    put(visits().with_columns(pl.lit("NA").alias("patient")))
    with pytest.raises(InputError, match=r"'patient' \(\[split\] group\) has no value in any row"):
        train.train({})


@pytest.mark.parametrize("count", [3, 4, 6])
@pytest.mark.parametrize("seed", range(5))
def test_few_groups_leave_no_part_empty(describe: Describe, count: int, seed: int) -> None:
    describe(f"{GROUP}\nseed = {seed}")
    put(visits(count, 100))
    train.train({})
    assert apart(groups())
    assert all(groups().values())


@pytest.mark.usefixtures("describe")
def test_a_large_group_that_makes_parts_uneven_is_said(caplog: pytest.LogCaptureFixture) -> None:
    large = pl.when(pl.int_range(pl.len()) < 1600).then(pl.lit("P0")).otherwise(pl.col("patient"))
    put(visits().with_columns(large.alias("patient")))
    train.train({})
    assert "instead of" in caplog.text
    assert "rows of one 'patient' stay together, and the largest has 1,602 of 2,000" in caplog.text


@pytest.mark.usefixtures("describe")
def test_two_groups_are_too_few_for_three_parts() -> None:
    put(visits(2, 100))
    with pytest.raises(InputError, match="holds 2 groups, and 3 parts need one each"):
        train.train({})


def test_with_a_time_the_later_parts_are_later_and_unseen(describe: Describe, caplog: pytest.LogCaptureFixture) -> None:
    describe('method = "time"\ngroup = "patient"', time="day")
    put(visits())
    train.train({})
    found = parts()
    days = {row["visit"]: row["day"] for row in visits().iter_rows(named=True)}
    times = {name: [days[visit] for visit in part["visit"]] for name, part in found.items()}
    assert apart(groups())
    assert max(times["train"]) < min(times["validation"])
    assert max(times["validation"]) < min(times["test"])
    assert min(part.height for part in found.values()) > 20
    left = 2000 - sum(part.height for part in found.values())
    assert f"{left:,} of 2,000 rows are left out: their 'patient' has rows in two parts" in caplog.text


def test_groups_within_one_part_of_the_time_lose_no_row(describe: Describe, caplog: pytest.LogCaptureFixture) -> None:
    describe('method = "time"\ngroup = "patient"', time="day")
    put(visits().sort("day").with_columns((pl.int_range(pl.len()) // 10).cast(pl.String).alias("patient")))
    train.train({})
    assert sum(part.height for part in parts().values()) >= 1980
    assert apart(groups())


def test_rows_with_a_time_that_are_split_at_random_are_said(
    describe: Describe, caplog: pytest.LogCaptureFixture
) -> None:
    put(visits())
    for method, said in (('method = "random"', True), ('method = "time"', False)):
        caplog.clear()
        describe(method, time="day")
        train.train({})
        assert ("rows have a time ('day'), and the split is random" in caplog.text) is said
        assert raw.GROUP not in parts()["train"].columns


def test_own_validation_files_must_hold_other_groups(describe: Describe) -> None:
    describe('method = "given"\ngroup = "patient"')
    put(visits())
    put(visits(50, 4, first=180), "validation/own.csv")
    with pytest.raises(
        InputError, match="80 of 200 rows of the validation files have a 'patient' that is in the train"
    ):
        train.train({})
    put(visits(50, 4, first=200), "validation/own.csv")
    train.train({})
    assert apart(groups())


@pytest.mark.usefixtures("describe")
def test_the_champion_s_test_rows_are_of_groups_that_it_has_not_seen() -> None:
    put(visits())
    train.train({})
    seen = groups()["train"]
    job.processing_input("champion").rmdir()
    job.processing_output("preprocessor").rename(job.processing_input("champion"))
    put(visits(200, 3))
    train.train({})
    test = pl.read_parquet(job.processing_output("champion_test") / "*.parquet")
    assert test["visit"].to_list() == parts()["test"]["visit"].to_list()
    assert not groups()["test"] & seen


def test_a_warning_of_a_step_can_be_told_from_its_other_lines(
    describe: Describe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    describe('method = "random"', time="day")
    put(visits())
    logger = logging.getLogger()
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.WARNING)
    assert job.run("processing train", train.train) == 0
    log = tmp_path / "local" / "runs" / "now" / "logs" / "PrepareTrainingData.log"
    log.parent.mkdir(parents=True)
    log.write_text(capsys.readouterr().out)
    assert "1 features; rows: train" in log.read_text()
    finished = Finished("now", {name: Progress(name) for name in ("PrepareTrainingData", "Reused")})
    local.report(Repository(tmp_path), finished)
    said = capsys.readouterr().out
    assert said.startswith("\nPrepareTrainingData: warning: rows have a time ('day'), and the split is random")
    assert said.count("\n") == 2


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ('method = "group"', 'method = "group" needs [split] group'),
        ('group = "patient"', 'says nothing to method = "random"'),
        ('method = "group"\ngroup = "sick"', "is the label"),
        ('method = "group"\ngroup = "pressure"', "fits no other part"),
        ('method = "group"\ngroup = "__row"', "can't begin with __"),
        ('method = "groups"\ngroup = "patient"', "is not one of random, time, group, given"),
    ],
)
def test_a_group_that_can_not_be_one_is_refused(describe: Describe, settings: str, sentence: str) -> None:
    describe(settings)
    with pytest.raises(InputError) as failure:
        usecase.load()
    assert sentence in str(failure.value)


@pytest.mark.usefixtures("describe")
def test_a_file_without_the_group_column_is_refused_for_training_and_fine_for_scoring() -> None:
    put(visits().drop("patient"))
    with pytest.raises(InputError, match="has no column 'patient'"):
        train.train({})
    assert raw.read(job.processing_input("raw"), usecase.load()).frame.collect().height == 2000
    assert artifacts.is_absent(job.processing_output("train"))
