"""The four components together, in train and in serve mode, on made-up rows of this use case."""

from pathlib import Path

import polars as pl

from batchloop.container import artifacts
from batchloop.container.usecase import UseCase
from batchloop.contract.flow import Flow


def test_every_row_of_this_use_case_is_predicted(flow: Flow, case: UseCase, new: pl.DataFrame, tmp_path: Path) -> None:
    new.write_parquet(tmp_path / "new.parquet")
    scored = flow.score(tmp_path / "new.parquet")
    assert scored.predictions["error"].is_null().all()
    if case.data.id:
        assert scored.predictions[case.data.id].to_list() == new[case.data.id].to_list()
    if case.data.classes:
        assert set(scored.predictions["prediction"]) <= set(case.data.classes)
    assert scored.summary["rows"] == len(new)
    assert scored.report["rows"] == len(new) or case.series  # of which the last periods are monitored


def test_the_same_rows_give_the_same_predictions(flow: Flow, new: pl.DataFrame, tmp_path: Path) -> None:
    new.write_parquet(tmp_path / "new.parquet")
    first, second = (flow.score(tmp_path / "new.parquet").predictions for _ in range(2))
    assert first.equals(second)


def test_reasons_are_of_columns_that_the_table_has(flow: Flow, case: UseCase) -> None:
    explainer = artifacts.read_json(flow.root / "release" / "explainer" / "explainer.json")
    metadata = artifacts.read_json(flow.root / "release" / "model" / "metadata.json")
    sources = {feature["source"] for feature in metadata["features"]}
    assert set(explainer["source_importance"]) == sources
    assert sources <= {column.name for column in case.sources()}
