"""What the tests share: this use case trained on made-up series under its contract.

A new column, feature or model needs no change here.
"""

from pathlib import Path

import polars as pl
import pytest

from batchloop.container import usecase
from batchloop.container.usecase import UseCase
from batchloop.contract.flow import Flow, rows, unlabelled

ROOT = Path(__file__).resolve().parents[1]
HYPERPARAMETERS = {  # of small problems; texts and lists may have an entry for each feature of your own table
    name: value
    for name, value in usecase.load(ROOT / "usecase.toml").hyperparameters.items()
    if not isinstance(value, str | list)
}


@pytest.fixture(scope="session")
def case() -> UseCase:
    """usecase.toml."""
    return usecase.load(ROOT / "usecase.toml")


@pytest.fixture(scope="session")
def flow(case: UseCase, tmp_path_factory: pytest.TempPathFactory) -> Flow:
    """This use case, trained on 1,500 made-up rows: its components in train mode, in this process."""
    flow = Flow(tmp_path_factory.mktemp("flow") / "case").begin((ROOT / "usecase.toml").read_text(encoding="utf-8"))
    rows(case, 1500, seed=1).write_parquet(flow.root / "train.parquet")
    flow.train(flow.root / "train.parquet")
    return flow


@pytest.fixture(scope="session")
def new(case: UseCase) -> pl.DataFrame:
    """Rows to predict."""
    return unlabelled(case, rows(case, 800, seed=3))
