"""★ What drift.py has to hold, whatever is measured and tested there."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import measured
from batchloop.container.protocols import Distributions
from batchloop.container.usecase import UseCase
from batchloop.contract.flow import Flow, rows
from components.monitoring import drift


def report(flow: Flow, batch: pl.DataFrame, folder: Path) -> dict[str, Any]:
    batch.write_parquet(folder / "batch.parquet")
    return flow.score(folder / "batch.parquet").report


def drifted(report: dict[str, Any]) -> set[str]:
    return {column["name"] for column in report["columns"] if column["drifted"]}


def test_rows_like_those_of_training_have_not_drifted(flow: Flow, new: pl.DataFrame, tmp_path: Path) -> None:
    assert drifted(report(flow, new, tmp_path)) == set()


def another(kind: str, name: str) -> pl.Expr:
    """A column's values, moved so far that nobody would call them the same."""
    half = pl.int_range(pl.len()) % 2 == 0
    other = {"category": pl.lit("never seen"), "boolean": pl.lit(True), "date": pl.col(name).dt.offset_by("20y")}
    return pl.when(half).then(other.get(kind, pl.col(name).max())).otherwise(pl.col(name)).alias(name)


def test_a_column_that_has_moved_is_named_and_no_other(
    flow: Flow, case: UseCase, new: pl.DataFrame, tmp_path: Path
) -> None:
    decides = [column for column in case.columns if column.drift and column.name != case.data.time]
    for kind in sorted({column.type for column in decides}):
        column = next(column for column in decides if column.type == kind)
        found = report(flow, new.with_columns(another(kind, column.name)), tmp_path)
        assert {measured.sources(case.columns).get(name, name) for name in drifted(found)} == {column.name}


def test_missing_values_are_drift(flow: Flow, case: UseCase, new: pl.DataFrame, tmp_path: Path) -> None:
    if (column := next(each for each in case.columns if each.drift and each.name != case.data.time)).type == "image":
        pytest.skip("a row without a picture breaks the contract")
    gaps = pl.when(pl.int_range(pl.len()) % 4 > 0).then(pl.col(column.name)).alias(column.name)
    assert column.name in drifted(report(flow, new.with_columns(gaps), tmp_path))


def test_too_few_rows_give_no_verdict(flow: Flow, case: UseCase, tmp_path: Path) -> None:
    few = rows(case, case.drift.minimum_rows - 1, seed=4).drop(case.data.label)
    assert report(flow, few, tmp_path)["verdict"] == "not enough data"


def counts(*values: float) -> Any:
    return np.array(values)


@pytest.mark.parametrize(
    ("before", "now", "moved"),
    [
        (counts(500, 500, 0), counts(250, 250, 0), False),  # the same shares
        (counts(500, 500, 0), counts(50, 450, 0), True),  # other shares
        (counts(500, 500, 0), counts(260, 240, 0), False),  # a change that chance explains
        (counts(500_000, 500_000, 0), counts(252_000, 248_000, 0), False),  # one that is sure, and does not matter
        (counts(500, 500, 0), counts(200, 200, 100), True),  # values are missing
    ],
)
def test_drift_is_an_effect_that_matters_and_is_not_chance(case: UseCase, before: Any, now: Any, moved: bool) -> None:
    [comparison] = drift.compare([Distributions(before, now)], case.drift)
    assert comparison.drifted is moved


def test_the_more_columns_the_surer_each_must_be(case: UseCase) -> None:
    one = Distributions(counts(300, 300, 0), counts(120, 200, 0))
    same = Distributions(counts(300, 300, 0), counts(300, 300, 0))
    [alone] = drift.compare([one], case.drift)
    among = drift.compare([one, *[same] * 200], case.drift)[0]
    assert among.adjusted_p_value > alone.adjusted_p_value


def test_bins_are_learned_of_every_type() -> None:
    kinds = {"number": "number", "category": "category", "boolean": "boolean", "empty": "number"}
    frame = pl.LazyFrame(
        {"number": [1.0, 2.0, None], "category": ["a", "b", None], "boolean": [True, False, None], "empty": [None] * 3}
    ).with_columns(pl.col("empty").cast(pl.Float64))
    assert [bins["name"] for bins in drift.profile(frame, kinds, 10)] == list(kinds)
