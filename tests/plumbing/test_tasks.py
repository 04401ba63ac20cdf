"""A table of each task, made up, goes through all components with what is rendered for them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, explanations
from plumbing.adopted import Adopted
from tests.conftest import CLASSES, frame


@pytest.mark.parametrize("task", list(CLASSES))
def test_a_table_is_adopted_learned_scored_and_explained(tmp_path: Path, task: str) -> None:
    made, flow = frame(700, task), Adopted(tmp_path / "case").empty()
    made[:600].write_csv(tmp_path / "table.csv")
    made[600:].drop("label").write_csv(tmp_path / "new.csv")
    assert flow.adopt(tmp_path / "table.csv", "--label", "label", "--id", "id", "--task", task) == 0
    flow.learn()
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
