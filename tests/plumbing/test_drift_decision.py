"""The drift decision where it is hard: rare values, small tables, columns that must not count."""

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from batchloop.container import artifacts, drift_report, job, profile, usecase
from batchloop.container.protocols import Counts
from components.monitoring import drift, serve, train

USECASE = """
[usecase]
name = "visits"
title = "Visits"
[data]
task = "regression"
label = "cost"
id = "id"
time = "{time}"
[columns]
stay = {{ type = "number" }}
ward = {{ type = "category" }}
admitted = {{ type = "date", format = "%Y-%m-%d" {admitted} }}
[gate]
metric = "rmse"
minimum = 9.0
"""


def counts(values: list[int]) -> Counts:
    return np.asarray(values, dtype=float)


@pytest.mark.parametrize("totals", [(20_000, 200), (150, 100_000), (300, 310), (60_000_000, 500)])
@pytest.mark.parametrize("rows", [(0, 4), (0, 30), (7, 0), (3, 9), (40, 1)])
def test_the_exact_test_is_scipy_s(rows: tuple[int, int], totals: tuple[int, int]) -> None:
    before, now = (stats.hypergeom(sum(totals), sum(rows), size) for size in totals)
    shares = [part / whole for part, whole in zip(rows, totals, strict=True)]
    tail = before.sf(rows[0] - 1) if shares[0] > shares[1] else now.sf(rows[1] - 1)
    found = drift.fisher((float(rows[0]), float(rows[1])), (float(totals[0]), float(totals[1])))
    assert found == pytest.approx(min(1.0, 2 * tail), rel=1e-5)


def test_a_bin_of_which_one_sample_holds_everything_does_not_drown_in_its_neighbours() -> None:
    before, now = counts([10_000, 9_990, 10, 0]), counts([97, 93, 0, 10])
    assert drift.chi_square(before, now) > 0.01
    assert drift.homogeneity(before, now) < 1e-15
    assert drift.homogeneity(now, before) == pytest.approx(drift.homogeneity(before, now))


def test_the_level_is_kept_where_most_bins_are_rare() -> None:
    """Of 1,000 batches at a level of 5 %, at most 72 may be called different (binomial, 99.9 %)."""
    random = np.random.default_rng(3)
    shares = 1 / np.arange(1, 61)
    pairs = (
        [random.multinomial(rows, shares / shares.sum()).astype(float) for rows in (5_000, 200)] for _ in range(1000)
    )
    assert sum(drift.homogeneity(*pair) < 0.05 for pair in pairs) <= 72


@pytest.mark.parametrize("rows", [(20_000, 200), (300, 200), (200, 5_000)])
def test_what_chance_gives_is_exact_where_most_bins_are_rare_too(rows: tuple[int, int]) -> None:
    random, shares = np.random.default_rng(1), 1 / np.arange(1, 121)
    pairs = [[random.multinomial(size, shares / shares.sum()).astype(float) for size in rows] for _ in range(300)]
    index = np.mean([drift.psi(*pair) for pair in pairs])
    assert index == pytest.approx(np.mean([drift.chance(*pair) for pair in pairs]), rel=0.1)


@pytest.mark.parametrize(("before", "now"), [([6, 3], [2, 2]), ([12, 0], [1, 0]), ([1, 0], [0, 9]), ([4, 4], [4, 4])])
def test_a_handful_of_rows_has_its_chance_too(before: list[int], now: list[int]) -> None:
    """Every division of the bins' rows between two tables of these sizes, by its hypergeometric probability."""
    both = counts(before) + counts(now)
    first = stats.hypergeom(both.sum(), both[0], sum(before))
    mean = 0.0
    for held in range(int(both[0]) + 1):
        part = np.array([held, sum(before) - held], dtype=float)
        mean += first.pmf(held) * drift.psi(part, both - part) if first.pmf(held) > 0 else 0.0
    assert drift.chance(counts(before), counts(now)) == pytest.approx(mean, abs=1e-12)
    assert drift.effect(counts(before), counts(now)).p_value > 0.05


def values(rows: int, seed: int) -> pl.DataFrame:
    """Numbers, a category of 4 values and one of 100, and a constant; no gaps."""
    random, shares = np.random.default_rng(seed), 1 / np.arange(1, 101)
    many = random.choice(100, rows, p=shares / shares.sum())
    return pl.DataFrame(
        {
            "number": random.lognormal(size=rows),
            "few": random.choice(["a", "b", "c", "d"], rows, p=[0.5, 0.3, 0.15, 0.05]),
            "many": [f"v{value:03}" for value in many],
            "constant": np.ones(rows),
        }
    )


KINDS = {"number": "number", "few": "category", "many": "category", "constant": "number"}
FIRST = pl.int_range(pl.len()) % 20 == 7  # 5 % of the rows


def instead(name: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(pl.when(FIRST).then(pl.lit(value)).otherwise(pl.col(name)).alias(name))


@pytest.mark.parametrize("rows", [200, 500])
@pytest.mark.parametrize(
    ("name", "value"),
    [(name, None) for name in KINDS]
    + [("few", "new"), ("many", "new"), ("many", "v099"), ("constant", 2.0), ("number", -999.0)],
)
def test_a_value_that_appears_in_a_twentieth_of_a_small_batch_is_found(name: str, value: object, rows: int) -> None:
    case = usecase.parse(tomllib.loads(USECASE.format(time="", admitted="")))
    found = judged(case, values(20_000, 1), instead(name, value)(values(rows, 2)), KINDS)
    assert [column["name"] for column in found["columns"] if column["drifted"]] == [name]


def judged(case: usecase.UseCase, before: pl.DataFrame, now: pl.DataFrame, kinds: dict[str, str]) -> dict[str, Any]:
    rows, columns = profile.learned(before.lazy(), kinds, 20)
    known = {"rows": rows, "columns": columns, "scores": [], "performance": {"reason": "not asked for"}}
    return drift_report.create(case, known, now.lazy(), pl.LazyFrame(schema={"error": pl.String}))


def alarms(frames: Callable[[int], pl.DataFrame], rows: tuple[int, int], kind: str, tries: int) -> int:
    """In how many tries two frames of one distribution are called different at a level of 1 %."""
    found = 0
    for _ in range(tries):
        _, learned = profile.learned(frames(rows[0]).lazy(), {"x": kind}, 20)
        _, counted = profile.count(frames(rows[1]).lazy(), learned)
        found += drift.effect(counts(learned[0]["counts"]), counted["x"].counts).p_value < 0.01
    return found


@pytest.mark.parametrize("rows", [50, 100, 200])
def test_scores_of_a_small_validation_split_raise_no_false_alarm(rows: int) -> None:
    """Of 100 large batches at most 5 may be called different (binomial, 99.9 %)."""
    random = np.random.default_rng(rows)
    assert alarms(lambda size: pl.DataFrame({"x": random.normal(size=size)}), (rows, 3_000), "number", 100) <= 5


def test_values_that_training_happened_not_to_hold_raise_no_false_alarm() -> None:
    """Half of 1,000 training rows are values that were seen once: a batch brings as many that were never seen."""
    random, shares = np.random.default_rng(4), 1 / np.arange(1, 151)
    names = np.char.add("v", np.arange(150).astype(str))
    draw = lambda size: pl.DataFrame({"x": random.choice(names, size, p=shares / shares.sum())})  # noqa: E731
    assert alarms(draw, (1_000, 2_000), "category", 50) <= 4


@pytest.mark.parametrize("period", [2, 3, 4, 7, 10, 24])
def test_rows_of_any_period_fall_evenly_into_both_halves(period: int) -> None:
    frame = pl.LazyFrame({"x": [f"v{row % period}" for row in range(4_800)]})
    _, learned = profile.learned(frame, {"x": "category"}, 20)
    held = learned[0]["counts"][:period]
    assert held == pytest.approx([2_400 / period] * period, rel=0.1)


def test_what_people_read_of_training_is_of_all_rows() -> None:
    frame = pl.LazyFrame({"x": [*range(999), None]})
    rows, (learned,) = profile.learned(frame, {"x": "number"}, 20)
    assert (rows, learned["low"], learned["high"], learned["missing"]) == (1_000, 0.0, 998.0, 0.001)
    assert sum(learned["counts"]) == pytest.approx(500, abs=1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ML_ROOT", str(tmp_path / "ml"))
    monkeypatch.setenv("USECASE_FILE", str(tmp_path / "usecase.toml"))
    return tmp_path


def visits(rows: int, seed: int, year: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    days = [f"{year}-{1 + day % 12:02}-{1 + day % 28:02}" for day in random.integers(0, 999, rows)]
    wards = random.choice(["north", "south"], rows)
    return pl.DataFrame({"id": np.arange(rows), "stay": random.normal(size=rows), "ward": wards, "admitted": days})


def report(settings: str, place: Path) -> dict[str, Any]:
    """drift.json of a batch of the year after training."""
    (place / "usecase.toml").write_text(settings)
    source, scored = job.processing_input("raw"), pl.Series("prediction", np.random.default_rng(3).normal(size=2_000))
    for folder in (source, job.processing_input("evaluation"), job.processing_input("predictions")):
        folder.mkdir(parents=True)
    visits(2_000, 1, 2024).write_csv(source / "table.csv")
    predictions = pl.DataFrame({"prediction": scored, "error": pl.Series([None] * 2_000, dtype=pl.String)})
    predictions.write_parquet(job.processing_input("evaluation") / "predictions.parquet")
    predictions.write_parquet(job.processing_input("predictions") / "rows.parquet.out")
    train.train({})
    shutil.move(job.processing_output("baseline"), job.processing_input("baseline"))
    visits(2_000, 2, 2025).write_csv(source / "table.csv")
    serve.serve({})
    found: dict[str, Any] = artifacts.read_json(job.processing_output("drift") / "drift.json")
    return found


LEFT_OUT = {
    "[data] time": USECASE.format(time="admitted", admitted=""),
    "drift = false": USECASE.format(time="", admitted=", drift = false"),
}


@pytest.mark.parametrize("why", LEFT_OUT)
def test_a_column_that_moves_by_its_nature_is_shown_and_does_not_decide(why: str, place: Path) -> None:
    found = report(LEFT_OUT[why], place)
    assert (found["verdict"], found["drifted"], found["left_out"]) == ("no drift", [], {"admitted": why})
    assert "none of 2 columns" in found["reason"]
    last = found["columns"][-1]
    assert (last["name"], last["decides"], last["drifted"], last["adjusted_p_value"]) == (
        "admitted",
        False,
        False,
        None,
    )
    assert last["psi"] > 1
    text = (job.processing_output("drift") / "report.html").read_text(encoding="utf-8")
    assert f"move by their nature: admitted ({why})" in text
    assert "left out" in text


def test_a_date_that_nothing_is_said_of_decides(place: Path) -> None:
    found = report(USECASE.format(time="", admitted=""), place)
    assert (found["verdict"], found["drifted"], found["left_out"]) == ("drift", ["admitted"], {})


def test_a_column_that_is_left_out_is_not_counted_in_the_correction() -> None:
    case = usecase.parse(tomllib.loads(USECASE.format(time="", admitted=", drift = false")))
    before, now = visits(4_000, 1, 2024), visits(500, 2, 2024).with_columns(pl.col("stay") + 0.3)
    kinds = {"stay": "number", "ward": "category", "admitted": "category"}
    columns = {column["name"]: column for column in judged(case, before, now, kinds)["columns"]}
    corrected = drift.holm([columns[name]["p_value"] for name in ("stay", "ward")])
    assert [columns[name]["adjusted_p_value"] for name in ("stay", "ward")] == pytest.approx(corrected, rel=1e-9)
    assert columns["stay"]["adjusted_p_value"] < 0.01


def test_the_page_says_how_many_other_values_there_were_in_training_too() -> None:
    case = usecase.parse(tomllib.loads(USECASE.format(time="", admitted="")))
    found = judged(case, values(20_000, 1), instead("few", "<new>")(values(200, 2)), KINDS)
    rows, columns = profile.learned(values(20_000, 1).lazy(), KINDS, 20)
    learned = {"rows": rows, "columns": columns, "scores": []}
    text = drift_report.batch(case, learned, json.loads(json.dumps(found)))
    assert "5.00% other values (0.00% in training): &lt;new&gt;" in text
