"""Series: what is forecast from where, what is said of rows that can't be, and what of them is monitored."""

import importlib.util
import json
import re
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, measures, models, profile, raw, samples, seasonal, series, tables, usecase
from batchloop.container.job import InputError
from batchloop.container.metrics import GIVEN
from batchloop.container.protocols import Problem, Table
from batchloop.container.usecase import Column
from batchloop.contract.flow import Flow, Scored
from batchloop.engine.running import RunSummary
from components.processing import train as preparing
from plumbing.rendered import TEMPLATE

DOMAIN = TEMPLATE / "{{cookiecutter.project_slug}}" / "domains" / "timeseries" / "components"
STAR = ("processing/features", "algorithm/model", "explainability/attributions")
USECASE = """
[usecase]
name = "loads"
[data]
task = "forecasting"
label = "load"
time = "day"
[series]
id = "site"
horizon = 3
frequency = "1d"
season_length = 7
known = ["open"]
[columns]
open = { type = "boolean" }
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
START, DAYS = date(2024, 1, 1), 80


@pytest.fixture(scope="module", autouse=True)
def domain() -> Iterator[None]:
    """The ★ files of the domain in the place of the table's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in STAR:
            module = f"components.{name.replace('/', '.')}"
            spec = importlib.util.spec_from_file_location(module, DOMAIN / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            made = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, module, made)
            spec.loader.exec_module(made)
        patch.setattr(preparing, "features", sys.modules["components.processing.features"])
        yield


def loads(sites: int = 6, days: int = DAYS, first: int = 0, seed: int = 1) -> pl.DataFrame:
    """Days of some sites, with a week that each has in common."""
    random = np.random.default_rng(seed)
    week = np.array([10.0, 11, 12, 13, 14, 5, 4])
    rows = {
        "site": np.repeat([f"s{number}" for number in range(first, first + sites)], days),
        "day": [START + timedelta(days=day) for day in range(days)] * sites,
        "load": np.tile(week, sites * days // 7 + 1)[: sites * days] * 1.0,
        "open": random.random(sites * days) < 0.7,
    }
    frame = pl.DataFrame(rows)
    of_site = pl.col("day").cum_count().over("site") - 1
    noise = pl.Series(random.normal(0, 0.5, frame.height))
    return frame.with_columns(pl.lit(pl.Series(week)).gather(of_site % 7).alias("load") + noise)


def to_come(frame: pl.DataFrame, days: int = 3) -> pl.DataFrame:
    """The last days of a table have no label yet."""
    last = frame["day"].unique().sort()[-days]
    return frame.with_columns(pl.when(pl.col("day") < last).then(pl.col("load")).alias("load"))


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    made = Flow(tmp_path_factory.mktemp("flow") / "case").begin(USECASE)
    loads().write_parquet(made.root / "train.parquet")
    made.train(made.root / "train.parquet")
    return made


def score(flow: Flow, frame: pl.DataFrame, folder: Path) -> Scored:
    frame.write_parquet(folder / "new.parquet")
    return flow.score(folder / "new.parquet")


def answers(scored: Scored) -> dict[str, str | None]:
    """What is wrong with each row that was answered."""
    return dict(scored.predictions.select("row", "error").iter_rows())


def test_each_row_to_come_has_a_forecast_in_its_interval(flow: Flow, tmp_path: Path) -> None:
    new = to_come(loads(days=DAYS + 3))
    found = score(flow, new, tmp_path).predictions
    asked = new.filter(pl.col("load").is_null()).select(pl.concat_str("site", pl.lit("|"), "day").alias("row"))
    assert set(found["row"]) == set(asked["row"])
    assert found.filter((pl.col("lower") <= pl.col("prediction")) & (pl.col("prediction") <= pl.col("upper"))).equals(
        found
    )
    assert sorted(found["step"].unique()) == [1, 2, 3]


def test_rows_may_come_in_any_order(flow: Flow, tmp_path: Path) -> None:
    new = to_come(loads())
    first, second = (score(flow, one, tmp_path).predictions.sort("row") for one in (new, new.sample(480, shuffle=True)))
    assert first.equals(second)


def test_what_can_not_be_forecast_says_why_and_nothing_is_lost(flow: Flow, tmp_path: Path) -> None:
    new = to_come(loads())
    last = new["day"].max()
    assert isinstance(last, date)
    strange = pl.DataFrame(
        {
            "site": ["s0", "nobody", None, "s1", "s2"],
            "day": [last + timedelta(days=9), last, last, None, START + timedelta(days=30)],
            "load": [None] * 5,
            "open": [True] * 5,
        },
        schema=new.schema,
    )
    new = new.filter((pl.col("site") != "s2") | (pl.col("day") != START + timedelta(days=30)))
    scored = score(flow, pl.concat([new, strange]), tmp_path)
    found = answers(scored)
    assert len(found) == 18 + 4  # a row without a label before the last one with it is of the past
    assert found.pop(f"s0|{last + timedelta(days=9)}") == (
        "it is 12 periods after the last 'load' of its series, and [series] horizon = 3"
    )
    assert found.pop(f"nobody|{last}") == "no row of its series has a 'load': there is nothing to forecast it from"
    assert found.pop(f"?|{last}") == "column 'site': the series is missing"
    assert found.pop("s1|?") == "column 'day': the time is missing"
    assert set(found.values()) == {None}
    said = scored.summary
    assert (said["rows"], said["past"], said["broken"]) == (6 * DAYS + 4, 6 * (DAYS - 3), 4)
    assert "1 rows of the past have no 'load'; they are gaps, and not answered" in said["warnings"]


def test_the_page_of_a_baseline_says_what_numbers_of_series_are(flow: Flow) -> None:
    page = next(flow.root.rglob("report/report.html")).read_text(encoding="utf-8")
    assert "Numbers of the past, load among them, count by how far" in page


def test_reports_say_which_rows_they_are_of_and_explain_several_series(flow: Flow, tmp_path: Path) -> None:
    score(flow, to_come(loads()), tmp_path)
    explained, drifted = (
        (flow.root / f"jobs/{name}/report.html").read_text(encoding="utf-8")
        for name in (
            "explainability-serve/processing/output/explanations",
            "monitoring-serve/processing/output/drift",
        )
    )
    assert len({*re.findall(r"(s\d)\|2024-", explained)}) == 5
    assert "rows with load, of the last horizon that has any and where a value whole seasons before is known" in drifted


def test_a_series_that_training_never_saw_is_forecast_from_its_own_past(flow: Flow, tmp_path: Path) -> None:
    new = to_come(loads(sites=2, first=90))
    found = score(flow, new, tmp_path).predictions
    assert found["error"].is_null().all()
    true = loads(sites=2, first=90).filter(new["load"].is_null())
    assert float(np.abs((found.sort("row")["prediction"] - true["load"]).to_numpy()).mean()) < 3  # the week has 4 to 14


@pytest.mark.parametrize("value", [0.0, 7.0, -5.0])
def test_a_series_of_one_point_or_one_value_has_a_forecast(flow: Flow, tmp_path: Path, value: float) -> None:
    constant = to_come(loads(sites=1).with_columns(load=pl.lit(value)))
    point = (
        to_come(loads(sites=1, first=1)).tail(4).with_columns(load=pl.when(pl.col("load").is_not_null()).then(value))
    )
    found = score(flow, pl.concat([constant, point]), tmp_path).predictions
    assert found.height == 6
    assert found.select(pl.col("prediction", "lower", "upper").is_finite().all()).row(0) == (True,) * 3
    assert (found["seasonal_naive"] == value).all()


@pytest.mark.parametrize(
    ("past", "error", "stands_in"),
    [
        ([1e-11, 2e-11] * 10, 1e-11, False),  # small is not zero
        ([1e8 + 2 * day for day in range(20)], 14, False),  # a counter
        ([0.0] * 20, 1 / 20, True),
        ([100.0] * 20, 100 / 20, True),
        ([100.0], 100, True),
        ([1.0, 2, 3, 4, 5, 6, 7] * 10, 12 / 7, False),  # without an error of the season
    ],
)
def test_the_unit_of_an_error_is_that_of_the_past(past: list[float], error: float, stands_in: bool) -> None:
    case = usecase.parse(tomllib.loads(USECASE))
    days = [START + timedelta(days=day) for day in range(len(past) + 1)]
    grid = pl.DataFrame({"__series": "a", "day": days, "load": [*past, None], "open": True}, strict=False)
    wanted = pl.DataFrame({"__row": [len(past)], "__origin": [len(past) - 1], "__start": [0], "step": [1]})
    made = sys.modules["components.processing.features"].examples(grid, wanted, case)
    assert made["seasonal_error"].to_list() == pytest.approx([error])
    assert made["__stand_in"].to_list() == [stands_in]


def test_values_without_a_unit_are_not_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flow = Flow(tmp_path / "case").begin(USECASE)
    zero = pl.col("day") < START + timedelta(days=75)
    starts = loads(sites=1, first=90).with_columns(load=pl.when(zero).then(0.0).otherwise(3e5))
    pl.concat([loads(), starts]).write_parquet(tmp_path / "train.parquet")
    flow.train(tmp_path / "train.parquet")
    assert "values of validation and test are not measured" in caplog.text
    file = flow.root / "jobs" / "algorithm-train" / "output" / "data" / "evaluation.json"
    assert json.loads(file.read_text(encoding="utf-8"))["test"]["mase"] < 10


@pytest.mark.parametrize(("level", "said"), [(6e8, True), (1e3, False)])
def test_levels_that_a_feature_can_not_hold_are_said(
    level: float, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow(tmp_path / "case").begin(USECASE)
    loads().with_columns(pl.col("load") + level).write_parquet(tmp_path / "train.parquet")
    flow.prepare(tmp_path / "train.parquet")
    assert ("too large for what they differ by" in caplog.text) == said


def test_a_series_that_has_ended_asks_for_nothing(flow: Flow, tmp_path: Path) -> None:
    ended = loads(sites=1, first=50).head(40)
    found = score(flow, pl.concat([to_come(loads()), ended]), tmp_path)
    assert found.predictions.height == 18


def test_labels_of_one_period_count_by_their_mean(flow: Flow, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    new = to_come(loads())
    known = pl.col("load").is_not_null()
    twice = pl.concat([new.with_columns(pl.col("load") - 1), new.filter(known).with_columns(pl.col("load") + 1)])
    first = score(flow, new, tmp_path).predictions.sort("row")
    second = score(flow, twice, tmp_path).predictions.sort("row")
    assert second["prediction"].to_numpy() == pytest.approx(first["prediction"].to_numpy())
    assert "periods of [series] frequency = '1d' have rows with different labels" in caplog.text


def test_labels_that_come_twice_for_one_period_count_by_their_mean_too(flow: Flow, tmp_path: Path) -> None:
    new = to_come(loads())
    truth = loads().filter(new["load"].is_null())
    twice = pl.concat([truth.with_columns(pl.col("load") - 1), truth.with_columns(pl.col("load") + 1)])
    found = []
    for number, labels in enumerate((truth, twice)):
        new.write_parquet(tmp_path / "new.parquet")
        labels.write_parquet(tmp_path / f"labels-{number}.parquet")
        found.append(flow.score(tmp_path / "new.parquet", tmp_path / f"labels-{number}.parquet").report["realised"])
    assert [one["rows"] for one in found] == [18, 18]
    assert found[1]["left_out"]["contradicting"] == 0
    assert found[1]["value"] == pytest.approx(found[0]["value"])


def test_series_that_share_their_days_are_no_more_sure_than_the_days_are(flow: Flow, tmp_path: Path) -> None:
    """A day's shock that all sites have is one observation; a single day says nothing of chance."""
    new = to_come(loads(sites=20))
    score(flow, new, tmp_path)
    shock = pl.col("day").dt.day() % 3 * 10
    labels = loads(sites=20).filter(new["load"].is_null()).with_columns(pl.col("load") + shock)
    found, last = {}, START + timedelta(days=DAYS - 1)
    for days in (3, 1):
        labels.filter(pl.col("day") > last - timedelta(days=days)).write_parquet(tmp_path / "labels.parquet")
        scored = flow.score(tmp_path / "new.parquet", tmp_path / "labels.parquet")
        found[days] = scored.report["realised"]
    assert found[3]["high"] - found[3]["low"] > 5
    assert (found[1]["rows"], found[1]["low"], found[1]["alarm"]) == (20, None, False)
    assert "one period alone" in scored.report["reason"]


def test_nothing_to_forecast_and_nothing_at_all_are_said(flow: Flow, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"each has a 'load', or a later one .*\. Add the rows to come"):
        score(flow, loads(), tmp_path)
    with pytest.raises(InputError, match=r"no row has a 'load': a batch brings its past"):
        score(flow, loads(days=3).with_columns(load=pl.lit(None, dtype=pl.Float64)), tmp_path)
    late = pl.concat([loads(), to_come(loads(days=DAYS + 20)).filter(pl.col("load").is_null())])
    with pytest.raises(InputError, match=r"none of 18 rows to come .*; first: s.* periods after"):
        score(flow, late, tmp_path)
    with pytest.raises(InputError, match="holds a header and no rows"):
        score(flow, loads().clear(), tmp_path)
    with pytest.raises(InputError, match="has no column 'load'"):
        score(flow, loads().drop("load"), tmp_path)


def test_rows_to_come_are_counted_apart_from_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = {"rows": 50, "past": 43, "broken": 4, "first_break": "s0|x: why", "empty": 0, "warnings": []}
    monkeypatch.setattr(RunSummary, "_summary", lambda _: summary)
    monkeypatch.setattr(RunSummary, "drift", lambda _: {})
    said = [*RunSummary.__new__(RunSummary).scoring()]
    assert said == ["7 rows to come; 43 more are the past; 4 have an error instead of a forecast; first: s0|x: why"]


def test_a_changed_setting_of_series_is_named(tmp_path: Path) -> None:
    changed = USECASE.replace("horizon = 3", "horizon = 6")
    before, after = (usecase.parse(tomllib.loads(text)) for text in (USECASE, changed))
    artifacts.write_manifest(tmp_path, "processing", before.contract())
    with pytest.raises(InputError, match=r"another contract: \[series\] horizon was 3, now 6; train again"):
        artifacts.check_manifest(tmp_path, "processing", after.contract())


def test_a_trend_goes_on_beyond_what_was_seen(flow: Flow, tmp_path: Path) -> None:
    """Trees alone know no value that they have not seen."""
    grown = Flow(tmp_path / "grown").begin(USECASE)
    rows = loads().with_columns(day=pl.col("day").cum_count().over("site"), at=pl.col("day"))
    rows = rows.with_columns(load=20 + pl.col("load") / 2 + pl.col("day").cast(pl.Float64) ** 1.5)
    rows.drop("day").rename({"at": "day"}).write_parquet(grown.root / "train.parquet")
    outputs = grown.prepare(grown.root / "train.parquet")
    schema = tables.schema(outputs["validation"])
    train, validation, test = (tables.read(outputs[part], schema, ()) for part in ("train", "validation", "test"))
    problem = Problem("forecasting", (), tuple(schema["features"]), 1)
    fitted = models.fit(train, validation, grown.case().hyperparameters, problem)
    assert max(map(abs, fitted.weights)) < 20  # also of values that are the naive forecast but for rounding
    metadata = {"task": "forecasting", "classes": [], "features": schema["features"]}
    model = models.calibrated(models.Model(fitted, metadata), validation)
    found = measures.measure("forecasting", test.labels, models.predict(model, test.features, 1), 0.5)
    assert found["relative_mase"] < 0.5


def past(rows: int, columns: dict[str, Any], labels: Any) -> tuple[Table, Problem]:
    """Examples of the label's own past, of a level of 10; `columns` may say where they are from."""
    level = np.full(rows, 10.0)
    known = {"step": np.ones(rows), "seasonal_naive": level, "seasonal_error": level / 10}
    known |= {"series_level": level, "series_size": level}
    made = {name: (values, "load") for name, values in known.items()} | columns
    features = [{"name": name, "source": source, "kind": "number"} for name, (_, source) in made.items()]
    matrix = np.column_stack([values for values, _ in made.values()]).astype(np.float32)
    return Table(matrix, labels), Problem("forecasting", (), tuple(features), 1)


def test_a_line_is_of_the_label_s_own_past_whatever_a_user_s_column_is_called() -> None:
    random = np.random.default_rng(1)
    lag, mean = random.normal(size=(2, 400))
    columns = {"lag_1": (lag, "load"), "mean_wait": (mean, "mean_wait"), "lag_kind": (mean, "lag_kind")}
    table, problem = past(400, columns, 10 + lag + mean)
    fitted = models.fit(table, table, {"num_iterations": 1}, problem)
    assert [problem.features[place]["name"] for place in fitted.line] == ["lag_1"]


def test_a_value_whose_square_is_no_number_leaves_the_others_their_line() -> None:
    random = np.random.default_rng(1)
    lag = 0.1 * random.normal(size=900)
    strange = np.arange(900) % 63 == 0
    lags = np.where(strange, 1e300, lag)
    labels = np.where(np.roll(strange, 9), 1e300, lag) * 10 + 10
    with np.errstate(over="ignore"):
        table, problem = past(900, {"lag_1": (lags, "load")}, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = models.fit(table, table, {"num_iterations": 1}, problem)
    usual = ~strange & ~np.roll(strange, 9)
    assert np.abs(fitted.relative(table))[usual].mean() < np.abs(lag[usual]).mean() / 2
    assert max(map(abs, fitted.weights)) < 20


def test_an_interval_of_few_values_says_so_and_holds_its_forecast(caplog: pytest.LogCaptureFixture) -> None:
    features = [{"name": name, "source": "load", "kind": "number"} for name in ("naive", *GIVEN)]
    known = models.Model(None, {"task": "forecasting", "classes": [], "features": features})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "module", lambda: SimpleNamespace(predict=lambda _, rows, __: rows[:, 0]))
        for rows, told in ((6, True), (19, False)):
            caplog.clear()
            table = Table(np.ones((rows, 4), np.float32), np.linspace(2, 3, rows))  # each forecast is too low
            [[low, high]] = models.calibrated(known, table).metadata["interval"]
            assert (low, high) == (0, 2)
            assert ("of 6 validation values: they cover 71 of 100, not 90" in caplog.text) is told


def test_scoring_looks_back_as_far_as_training_does(tmp_path: Path) -> None:
    """A minute's season is a day, and windows are of several: more than some thousand periods."""
    text = USECASE.replace('"1d"', '"1m"').replace("season_length = 7", "season_length = 1440")
    case = usecase.parse(tomllib.loads(text.replace("horizon = 3", "horizon = 60")))
    minutes = [datetime(2024, 3, 1) + timedelta(minutes=number) for number in range(14_000)]
    frame = pl.DataFrame({"site": ["s"] * 14_000, "day": minutes, "open": [True] * 14_000})
    frame = frame.with_columns(load=10 + pl.int_range(pl.len()) ** 2 / 1e6)
    frame.write_parquet(tmp_path / "whole.parquet")
    parsed = raw.read(tmp_path, case).frame
    learned = series.examples(parsed, case).collect()
    last = pl.col("day") > minutes[-61]
    come = parsed.with_columns(pl.when(~last).then(pl.col("load")).alias("load")).collect()
    [scored] = series.to_forecast(raw.RawTable(()), [come], case)
    both = learned.join(scored, on=["row", "step"], suffix=" then")
    assert len(both) == 60
    for name in ("series_level", "series_size", "seasonal_error", "mean_long"):
        assert both[name].equals(both[f"{name} then"], check_names=False), name


def test_what_is_forecast_is_measured_by_slice(tmp_path: Path) -> None:
    text = USECASE.replace("[drift]", '[slices]\ncolumns = ["kind", "open"]\nminimum_rows = 5\n[drift]')
    sliced = Flow(tmp_path / "case").begin(text)
    frame = loads(days=DAYS + 3)
    frame = frame.with_columns(kind=pl.when(pl.col("site") < "s2").then(pl.lit("inner")).otherwise(pl.lit("outer")))
    learned = frame.filter(pl.col("day") < START + timedelta(days=DAYS))
    learned.write_parquet(sliced.root / "train.parquet")
    sliced.train(sliced.root / "train.parquet")
    report = json.loads((sliced.root / "jobs/algorithm-train/output/data/evaluation.json").read_text())
    counts = {(line["column"], line["slice"]): line["rows"] for line in report["slices"]["lines"]}
    assert counts["kind", "outer"] == 2 * counts["kind", "inner"]
    assert counts["open", "true"] + counts["open", "false"] == report["rows"]["test"]
    new = to_come(frame).with_columns(kind=pl.when(pl.col("day") < START + timedelta(days=9)).then("kind"))
    new.write_parquet(tmp_path / "new.parquet")
    frame.select("site", "day", "load").write_parquet(tmp_path / "labels.parquet")
    found = sliced.score(tmp_path / "new.parquet", labels=tmp_path / "labels.parquet").report["slices"]
    lines = {(line["column"], line["slice"]): line for line in found}
    assert (lines["kind", "inner"]["rows"], lines["kind", "outer"]["rows"]) == (6, 12)
    assert lines["kind", "outer"]["realised"] > 0
    score(sliced, new.drop("kind"), tmp_path)  # what only slices are made of may be missing


def test_training_says_what_it_needs(flow: Flow, tmp_path: Path) -> None:
    def refused(frame: pl.DataFrame) -> str:
        frame.write_parquet(tmp_path / "train.parquet")
        with pytest.raises(InputError) as raised:
            flow.prepare(tmp_path / "train.parquet")
        return str(raised.value)

    assert "has no value in any of 480 rows" in refused(loads().with_columns(load=pl.lit(None, dtype=pl.Float64)))
    assert "holds one value only" in refused(loads().with_columns(load=pl.lit(3.0)))
    assert "validation and test take a horizon of 3 each" in refused(loads(days=8))


@pytest.mark.parametrize(
    ("stray", "rows", "words"),
    [
        (date(2026, 6, 6), 1, "by 'day' from 2024-01-01 00:00 to 2025-08-22 00:00; rows far from these: 1"),
        (date(1920, 1, 1), 1, "rows far from these: 1"),
        (date(2202, 1, 1), 1, "rows far from these: 1"),
        (
            date(2026, 6, 6),
            60,
            "test has 0.5 % of the rows instead of 15 %: is each 'day' right, from 2024",
        ),
    ],
)
def test_few_late_or_early_rows_do_not_move_the_split(
    stray: date, rows: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = usecase.parse(tomllib.loads(USECASE))
    days = [START + timedelta(days=day) for day in range(600)] * 20 + [stray] * rows
    times = pl.DataFrame({"first": days}).select(pl.col("first").cast(pl.Datetime("us")))
    numbers = series.period(pl.col("first"), "1d").alias("__period")
    borders, last = series._split(times.with_columns(numbers, pl.lit(1, pl.UInt32).alias("len")), case)
    usual = (date(2025, 8, 22) - date(1970, 1, 1)).days
    assert (last == usual) == (rows == 1)
    assert (borders[1] == usual - 89) == (rows == 1)
    assert words in caplog.text


def test_a_frequency_that_is_too_fine_is_refused() -> None:
    case = usecase.parse(tomllib.loads(USECASE.replace('"1d"', '"1s"')))
    frame = pl.DataFrame({"site": ["a", "b"] * 40, "day": [START + timedelta(days=day) for day in range(80)]})
    typed = frame.select(
        pl.col("site").alias("__series"),
        pl.col("day").cast(pl.Datetime("us")),
        pl.lit(1.0).alias("load"),
        pl.lit(True).alias("open"),
        pl.lit("x").alias("row"),
        pl.lit(False).alias("__broken"),
        pl.lit(None, dtype=pl.String).alias("__error"),
    )
    with pytest.raises(InputError, match="is the frequency right"):
        series.grid(series.taken(typed, case), case)


@pytest.mark.parametrize(
    ("frequency", "times"),
    [
        ("1mo", [datetime(2023, 12, 31), datetime(2024, 1, 1), datetime(2024, 2, 29)]),
        ("1q", [datetime(2023, 12, 31), datetime(2024, 3, 31), datetime(2024, 4, 1)]),
        ("1y", [datetime(2023, 1, 1), datetime(2024, 12, 31), datetime(2025, 1, 1)]),
        ("1w", [datetime(2024, 1, 1), datetime(2024, 1, 8), datetime(2024, 1, 15)]),
        ("1w", [datetime(2024, 1, 4), datetime(2024, 1, 10), datetime(2024, 1, 21)]),  # a day before or after is no gap
        ("15m", [datetime(2024, 1, 1, 0, 0), datetime(2024, 1, 1, 0, 15), datetime(2024, 1, 1, 0, 31)]),
        ("1h", [datetime(1969, 12, 31, 22), datetime(1969, 12, 31, 23), datetime(1970, 1, 1)]),
    ],
)
def test_consecutive_periods_have_consecutive_numbers(frequency: str, times: list[datetime]) -> None:
    numbers = pl.DataFrame({"time": times}).select(series.period(pl.col("time"), frequency)).to_series()
    assert numbers.diff().drop_nulls().to_list() == [1, 1]


def test_an_hour_that_is_there_twice_or_not_at_all_spoils_no_season(tmp_path: Path) -> None:
    """Clocks of Berlin: the 31st of March has 23 hours, the 27th of October 25."""
    text = USECASE.replace('"1d"', '"1h"').replace("season_length = 7", "season_length = 24")
    flow = Flow(tmp_path / "case").begin(text.replace("[series]", 'time_zone = "Europe/Berlin"\n[series]'))
    hours = pl.datetime_range(datetime(2024, 3, 20), datetime(2024, 4, 10), "1h", time_zone="UTC", eager=True)
    local = hours.dt.convert_time_zone("Europe/Berlin").dt.hour().cast(pl.Float64)
    frame = pl.DataFrame({"site": ["s"] * len(hours), "day": hours, "load": 10 + local, "open": [True] * len(hours)})
    frame.write_parquet(flow.root / "train.parquet")
    flow.train(flow.root / "train.parquet")
    found = score(flow, to_come(frame), tmp_path).predictions.sort("step")
    assert (found["seasonal_naive"] - frame["load"].tail(3)).abs().max() == 0


def test_rows_of_one_series_alone_are_not_as_sure_as_can_be() -> None:
    random = np.random.default_rng(1)
    labels, groups = random.normal(size=40), np.zeros(40, int)
    found = measures.Scored("regression", labels, labels + random.normal(size=40), groups=groups).spreads()["mae"]
    assert found.error > 0.05
    assert found.low < found.value < found.high


def test_metrics_of_forecasts_are_what_their_names_say() -> None:
    labels, forecasts = np.array([10.0, 20.0]), np.zeros((2, 6))
    forecasts[:, :5] = [[12, 9, 13, 6, 2], [20, 21, 25, 24, 4]]
    found = measures.measure("forecasting", labels, forecasts, 0.5)
    assert found["mase"] == pytest.approx((2 / 2 + 0) / 2)
    assert found["relative_mase"] == pytest.approx(0.5 / ((4 / 2 + 4 / 4) / 2))
    assert found["coverage"] == 0.5
    assert found["smape"] == pytest.approx((2 * 2 / 22) / 2)
    assert found["mae"] == 1


def test_the_first_model_has_to_beat_the_seasonal_naive_forecast(flow: Flow) -> None:
    file = flow.root / "jobs" / "algorithm-train" / "output" / "data" / "evaluation.json"
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert report["champion"] == report["naive"]
    assert report["naive"]["relative_mase"] == 1
    assert report["comparison"]["rival"] == "seasonal naive forecast"
    assert report["lead"] == pytest.approx(report["naive"]["mase"] - report["test"]["mase"])


def moved(flow: Flow, days: int, factor: float, tmp_path: Path) -> dict[str, Any]:
    new = to_come(loads(sites=20, days=DAYS + 3, first=100, seed=5))
    late = pl.col("day") >= START + timedelta(days=DAYS - days)
    return score(
        flow, new.with_columns(pl.when(late).then(pl.col("load") * factor).otherwise("load").alias("load")), tmp_path
    ).report


def test_a_weekend_is_no_drift_and_a_level_shift_is(flow: Flow, tmp_path: Path) -> None:
    assert moved(flow, 3, 1.0, tmp_path)["verdict"] == "no drift"
    assert "load" in moved(flow, 3, 2.0, tmp_path)["drifted"]


def test_blocks_that_differ_among_each_other_make_counts_less_sure() -> None:
    random = np.random.default_rng(3)
    blocks = np.repeat(np.arange(40), 100)
    column = {"name": "x", "kind": "number", "edges": [-1.0, 0.0, 1.0]}
    alone = pl.LazyFrame({"__block": blocks, "x": random.normal(size=4000)})
    together = pl.LazyFrame({"__block": blocks, "x": random.normal(size=4000) + random.normal(size=40)[blocks]})
    assert seasonal.design_effect(column, alone) < 2
    assert seasonal.design_effect(column, together) > 10
    shuffled = [together.collect().sample(fraction=1.0, shuffle=True, seed=seed).lazy() for seed in range(20)]
    assert len({seasonal.design_effect(column, each) for each in shuffled}) == 1, "to the last digit, in any order"


def test_several_hosts_share_no_series() -> None:
    case = usecase.parse(tomllib.loads(USECASE))
    for share in (lambda: samples.write_training(case), lambda: profile.write_tally("counts", case, [])):
        with pytest.raises(InputError, match="hosts can't share them: write count = 1"):
            share()


def test_a_text_beside_series_is_learned_and_monitored(tmp_path: Path) -> None:
    note = Column("note", "text")
    case = usecase.parse(tomllib.loads(USECASE))
    case = replace(case, columns=(*case.columns, note))
    said = pl.Series(["open all day", "closed for rain"] * 10_000).head(loads().height)
    rows = loads().with_columns(said.alias("note"))
    rows.write_csv(tmp_path / "loads.csv")
    monitored = seasonal.monitored(tmp_path, case, new=False)
    assert {"load", "note: words", "note: a word"} <= {name for names in monitored for name in names}
    for names, frame in monitored.items():
        assert set(names) <= set(frame.collect_schema())
    parsed = raw.read(tmp_path, case).frame
    features = sys.modules["components.processing.features"]
    examples = series.examples(parsed, case)
    learned = features.fit(examples, case.sources(), case.features)
    assert "note: rain" in {feature["name"] for feature in learned}
    assert "note: rain" in examples.select(features.transform(learned)).collect().columns


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('task = "forecasting"', 'task = "regression"', "go together"),
        ('time = "day"', 'time = ""', "needs \\[data\\] time"),
        ('method = "time"', 'method = "random"', "the one way to split"),
        ('known = ["open"]', 'known = ["opne"]', "none of \\[columns\\]"),
        ('frequency = "1d"', 'frequency = "daily"', '"1d"'),
        ("horizon = 3", "horizon = 0", "from 1"),
        ('label = "load"', 'label = "load"\nid = "site"', "series and time name a row"),
        ('id = "site"', 'id = "open"', "take it out"),
        ('time = "day"', 'time = "step"', "each forecast has a column of this name"),
    ],
)
def test_settings_of_series_that_go_nowhere_are_refused(before: str, after: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "usecase.toml").write_text(USECASE.replace(before, after), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        usecase.load(tmp_path / "usecase.toml")
