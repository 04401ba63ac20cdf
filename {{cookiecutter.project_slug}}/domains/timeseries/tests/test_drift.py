"""★ What drift.py has to hold, whatever is measured and tested there."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container.protocols import Distributions
from batchloop.container.usecase import UseCase
from batchloop.contract.flow import Flow
from components.monitoring import drift


def report(flow: Flow, batch: pl.DataFrame, folder: Path) -> dict[str, Any]:
    batch.write_parquet(folder / "batch.parquet")
    return flow.score(folder / "batch.parquet").report


def drifted(report: dict[str, Any]) -> set[str]:
    return {column["name"] for column in report["columns"] if column["drifted"]}


def test_a_window_like_those_of_training_has_not_drifted(flow: Flow, new: pl.DataFrame, tmp_path: Path) -> None:
    assert drifted(report(flow, new, tmp_path)) == set()


def late(case: UseCase, table: pl.DataFrame) -> pl.Expr:
    """The last horizon of rows with a label."""
    assert case.series is not None
    known = table.filter(pl.col(case.data.label).is_not_null())[case.data.time].unique().sort()
    return pl.col(case.data.time).is_in(known.tail(case.series.horizon).implode())


def test_a_level_shift_is_drift(flow: Flow, case: UseCase, new: pl.DataFrame, tmp_path: Path) -> None:
    label = pl.col(case.data.label)
    moved = pl.when(late(case, new)).then(label * 4).otherwise(label).alias(case.data.label)
    assert case.data.label in drifted(report(flow, new.with_columns(moved), tmp_path))


def test_what_is_known_in_advance_is_looked_at_where_it_is_to_come(
    flow: Flow, case: UseCase, new: pl.DataFrame, tmp_path: Path
) -> None:
    assert case.series is not None
    for name in case.series.known[:1]:
        ahead = pl.col(case.data.label).is_null()
        gone = new.with_columns(pl.when(~ahead).then(pl.col(name)).alias(name))
        assert drifted(report(flow, gone, tmp_path)) == {name}


def test_too_few_rows_give_no_verdict(flow: Flow, case: UseCase, new: pl.DataFrame, tmp_path: Path) -> None:
    few = new.filter(~late(case, new) | pl.col(case.data.label).is_null() | (pl.int_range(pl.len()) % 9 == 0))
    assert report(flow, few, tmp_path)["verdict"] == "not enough data"


@pytest.mark.parametrize(
    ("before", "now", "moved"),
    [
        ([500, 500, 0], [250, 250, 0], False),  # the same shares
        ([500, 500, 0], [50, 450, 0], True),  # other shares
        ([500, 500, 0], [260, 240, 0], False),  # a change that chance explains
        ([500_000, 500_000, 0], [252_000, 248_000, 0], False),  # one that is sure, and does not matter
        ([500, 500, 0], [200, 200, 100], True),  # values are missing
    ],
)
def test_drift_is_an_effect_that_matters_and_is_not_chance(case: UseCase, before: Any, now: Any, moved: bool) -> None:
    [comparison] = drift.compare([Distributions(np.array(before), np.array(now))], case.drift)
    assert comparison.drifted is moved
