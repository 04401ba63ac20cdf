"""★ What features.py has to hold, whatever the series and columns of usecase.toml are."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchloop.container import series
from batchloop.container.metrics import GIVEN
from batchloop.container.usecase import UseCase
from batchloop.contract.flow import Flow, rows, table, unlabelled
from components.processing import features


@pytest.fixture(scope="module")
def learned(flow: Flow) -> list[dict[str, Any]]:
    """As preprocessor.json holds it."""
    text = (flow.root / "release" / "preprocessor" / "preprocessor.json").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = json.loads(text)["features"]
    return found


def scored(flow: Flow, frame: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """The features of rows to come."""
    frame.write_parquet(folder / "new.parquet")
    return flow.score(folder / "new.parquet").features.sort("row")


def test_every_feature_is_described_and_has_the_type_that_the_model_takes(
    flow: Flow, learned: list[dict[str, Any]], new: pl.DataFrame, tmp_path: Path
) -> None:
    made = scored(flow, new, tmp_path)
    assert made.columns[1:-1] == [feature["name"] for feature in learned]
    assert {*GIVEN} <= {*made.columns}
    for feature in learned:
        kind = pl.Enum(feature["categories"]) if feature["kind"] == "category" else pl.Float32
        assert made.schema[feature["name"]] == kind, feature["name"]


def test_nothing_after_the_origin_is_seen(flow: Flow, case: UseCase) -> None:
    """But for what is known in advance: all else of the periods to come is changed, and no feature is."""
    assert case.series is not None
    frame = flow.typed(flow.root / "train.parquet")
    grid = series.grid(series.taken(frame, case), case)
    periods = grid.filter(pl.col("__series") == grid["__series"][0]).height
    first, step = periods // 2, case.series.horizon
    wanted = grid[[first]].select("__row", (pl.col("__row") - step).alias("__origin"), "__start", step=pl.lit(step))
    hidden = [case.data.label, *(column.name for column in case.columns if column.name not in case.series.known)]
    later = pl.col("__row") > first - step
    other = grid.with_columns(
        pl.when(later).then(pl.col(name).reverse()).otherwise(name).alias(name) for name in hidden
    )
    gone = grid.with_columns(pl.when(~later).then(pl.col(name)).alias(name) for name in hidden)
    before = features.examples(grid, wanted, case)
    assert features.examples(other, wanted, case).equals(before)
    assert features.examples(gone, wanted, case).equals(before)


def test_scoring_computes_the_features_that_training_did(flow: Flow, case: UseCase, tmp_path: Path) -> None:
    raw = pl.read_parquet(flow.root / "train.parquet")
    made = scored(flow, unlabelled(case, raw), tmp_path)
    test = table(flow.prepare(flow.root / "train.parquet")["test"]).sort("row")
    both = made.drop("__error").join(test.select("row"), on="row").sort("row")
    assert len(both) == len(made)  # the last origin is one of the backtest's
    assert both.equals(test.join(made.select("row"), on="row").sort("row").select(both.columns))


def test_a_series_has_the_same_features_in_any_batch(
    flow: Flow, case: UseCase, new: pl.DataFrame, tmp_path: Path
) -> None:
    whole = scored(flow, new, tmp_path)
    shuffled = scored(flow, new.sample(fraction=1, shuffle=True, seed=1), tmp_path)
    assert shuffled.equals(whole)
    if case.series and case.series.id:
        alone = scored(flow, new.filter(pl.col(case.series.id) == new[case.series.id][0]), tmp_path)
        assert alone.equals(whole.join(alone.select("row"), on="row").sort("row"))


def test_nothing_is_learned_from_validation_and_test(flow: Flow, case: UseCase, tmp_path: Path) -> None:
    outputs = flow.prepare(flow.root / "train.parquet")
    before = (outputs["preprocessor"] / "preprocessor.json").read_text(encoding="utf-8")
    raw = pl.read_parquet(flow.root / "train.parquet")
    held = table(outputs["validation"])["row"].str.slice(-10).min()
    late = pl.col(case.data.time).dt.strftime("%Y-%m-%d") >= held
    other = rows(case, len(raw), seed=9).head(len(raw))
    names = [case.data.label, *(column.name for column in case.columns)]
    changed = [pl.when(late).then(other[name]).otherwise(name).alias(name) for name in names]
    raw.with_columns(changed).write_parquet(tmp_path / "changed.parquet")
    after = flow.prepare(tmp_path / "changed.parquet")["preprocessor"] / "preprocessor.json"
    assert json.loads(after.read_text(encoding="utf-8"))["features"] == json.loads(before)["features"]


def test_validation_and_test_lie_after_all_that_is_learned(flow: Flow) -> None:
    parts = flow.prepare(flow.root / "train.parquet")
    days = {name: table(parts[name])["row"].str.slice(-10) for name in ("train", "validation", "test")}
    assert str(days["train"].max()) < str(days["validation"].min()) <= str(days["validation"].max())
    assert str(days["validation"].max()) < str(days["test"].min())


@pytest.mark.parametrize("label", [0.0, 7.0, -3.0])
def test_a_constant_series_has_finite_features(flow: Flow, case: UseCase, tmp_path: Path, label: float) -> None:
    frame = rows(case, 100, seed=4).with_columns(pl.lit(label).alias(case.data.label))
    made = scored(flow, unlabelled(case, frame), tmp_path)
    assert made.select(pl.col(GIVEN).is_finite().all()).row(0) == (True,) * len(GIVEN)
    assert (made["seasonal_naive"] == label).all()
    assert (made["seasonal_error"] > 0).all()


def test_a_gap_is_one_however_it_is_written(flow: Flow, case: UseCase, tmp_path: Path) -> None:
    """A row without a label and a row that is not there are the same past."""
    frame = unlabelled(case, rows(case, 100, seed=4)).sort(case.data.time)
    hole = pl.int_range(pl.len()) == 40
    written = frame.with_columns(pl.when(~hole).then(pl.col(case.data.label)).alias(case.data.label))
    names = [
        name for name in scored(flow, frame, tmp_path).columns if name.startswith(("lag", "season", "series_level"))
    ]
    with_gap = scored(flow, written, tmp_path).filter(pl.col("__error").is_null())
    assert with_gap.select(names).equals(scored(flow, frame.filter(~hole), tmp_path).select(names))
