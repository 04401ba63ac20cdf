"""What the tests share: this use case trained on made-up rows under its contract, and a small problem of every task.

A new column, feature or model needs no change here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import models, usecase
from batchloop.container.protocols import Problem, Table
from batchloop.container.usecase import UseCase
from batchloop.contract.flow import Flow, rows

ROOT = Path(__file__).resolve().parents[1]
HYPERPARAMETERS = {  # of the small problems; texts and lists may have an entry for each feature of your own table
    name: value
    for name, value in usecase.load(ROOT / "usecase.toml").hyperparameters.items()
    if not isinstance(value, str | list)
}
KINDS = ("a", "b", "c", "d")
FEATURES: tuple[dict[str, Any], ...] = (
    {"name": "x", "source": "x", "kind": "number"},
    {"name": "noise", "source": "noise", "kind": "number"},
    {"name": "kind", "source": "kind", "kind": "category", "categories": ["other", *KINDS]},
)
CLASSES = {"binary": ("no", "yes"), "multiclass": ("low", "middle", "high"), "regression": ()}
PROBLEMS = [Problem(task, classes, FEATURES, threads=1) for task, classes in CLASSES.items()]
problems = pytest.mark.parametrize("problem", PROBLEMS, ids=list(CLASSES))
Known = Callable[[Problem], models.Model]


@pytest.fixture(scope="session")
def case() -> UseCase:
    """usecase.toml."""
    return usecase.load(ROOT / "usecase.toml")


@pytest.fixture(scope="session")
def flow(case: UseCase, tmp_path_factory: pytest.TempPathFactory) -> Flow:
    """This use case, trained on 1,500 made-up rows: its components in train mode, in this process."""
    flow = Flow(tmp_path_factory.mktemp("flow") / "case").begin((ROOT / "usecase.toml").read_text(encoding="utf-8"))
    for name, seed in (("train", 1), ("validation", 2)):
        rows(case, 1500, seed).write_parquet(flow.root / f"{name}.parquet")
    flow.train(flow.root / "train.parquet")
    return flow


@pytest.fixture(scope="session")
def new(case: UseCase) -> pl.DataFrame:
    """Rows to predict."""
    return rows(case, 800, seed=3).drop(case.data.label)


def frame(rows: int, task: str, seed: int = 3) -> pl.DataFrame:
    """Rows of which `x` says much, `kind` something, and `noise`, which has gaps, nothing."""
    random = np.random.default_rng(seed)
    x, kind = random.normal(size=rows), random.integers(0, len(KINDS), rows)
    signal = 1.5 * x + (kind == 1) + random.normal(size=rows) / 2
    label: Any = 10 * signal + 3
    if task != "regression":
        label = np.array(CLASSES[task])[np.digitize(signal, [0.0] if task == "binary" else [-1.0, 1.5])]
    noise = pl.Series(random.normal(size=rows)).set(pl.Series(random.random(rows) < 0.1), None)
    columns = {"id": np.arange(rows), "x": x, "noise": noise, "kind": np.array(KINDS)[kind], "label": label}
    return pl.DataFrame(columns)


def table(rows: int, problem: Problem, seed: int = 3) -> Table:
    """The same as the model sees it."""
    made = frame(rows, problem.task, seed)
    codes = made["kind"].cast(pl.Enum(FEATURES[2]["categories"])).to_physical()
    label = made["label"].cast(pl.Enum(problem.classes)).to_physical() if problem.classes else made["label"]
    features = made.select("x", "noise", codes.alias("kind")).to_numpy().astype(np.float32)
    return Table(features, label.to_numpy().astype(np.float64))


def fitted(problem: Problem, progress: Any = None, rows: int = 2000) -> models.Model:
    """A model with the hyperparameters of usecase.toml."""
    made = models.fit(table(rows, problem), table(200, problem, seed=4), HYPERPARAMETERS, problem, progress)
    metadata = {"task": problem.task, "classes": list(problem.classes), "features": list(FEATURES)}
    return models.Model(made, metadata)


@pytest.fixture(scope="session")
def known() -> Callable[[Problem], models.Model]:
    """One model a task."""
    made: dict[str, models.Model] = {}

    def model(problem: Problem) -> models.Model:
        return made.setdefault(problem.task, made.get(problem.task) or fitted(problem))

    return model
