"""The four components together, in train and in serve mode: this use case, and tables of every task."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, explanations
from batchloop.container.usecase import UseCase
from batchloop.contract.flow import Flow
from tests.conftest import CLASSES, frame


def test_every_row_of_this_use_case_is_predicted(flow: Flow, case: UseCase, new: pl.DataFrame, tmp_path: Path) -> None:
    new.write_parquet(tmp_path / "new.parquet")
    scored = flow.score(tmp_path / "new.parquet")
    assert scored.predictions["error"].is_null().all()
    if case.data.id:
        assert scored.predictions[case.data.id].to_list() == new[case.data.id].to_list()
    if case.data.classes:
        assert set(scored.predictions["prediction"]) <= set(case.data.classes)
    assert scored.summary["rows"] == len(new)
    assert scored.report["rows"] == len(new)


def test_the_same_rows_give_the_same_predictions(flow: Flow, new: pl.DataFrame, tmp_path: Path) -> None:
    new.write_parquet(tmp_path / "new.parquet")
    first, second = (flow.score(tmp_path / "new.parquet").predictions for _ in range(2))
    assert first.equals(second)


@pytest.mark.parametrize("task", list(CLASSES))
def test_a_table_is_adopted_learned_scored_and_explained(tmp_path: Path, task: str) -> None:
    made, flow = frame(700, task), Flow(tmp_path / "case").begin()
    made[:600].write_csv(tmp_path / "table.csv")
    made[600:].drop("label").write_csv(tmp_path / "new.csv")
    assert flow.adopt(tmp_path / "table.csv", "--label", "label", "--id", "id", "--task", task) == 0
    flow.train()
    scored = flow.score(tmp_path / "new.csv").predictions
    assert scored["id"].cast(pl.String).to_list() == [str(number) for number in range(600, 700)]
    assert scored["error"].is_null().all()
    if task == "regression":
        assert np.corrcoef(scored["prediction"].to_numpy(), made[600:]["label"].to_numpy())[0, 1] > 0.85
    else:
        assert np.mean(scored["prediction"].to_numpy() == made[600:]["label"].to_numpy()) > 0.65
    explainer = artifacts.read_json(flow.root / "release" / "explainer" / "explainer.json")
    assert explainer["importance"][0]["feature"] == "x"
    assert explainer["method"] == explanations.module().METHOD
