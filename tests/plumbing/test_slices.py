"""[slices]: metrics of parts of the test rows, in the evaluation, the report and the gate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from batchloop.container import slices, usecase
from batchloop.container.usecase import UseCase
from batchloop.contract.flow import Flow
from plumbing.adopted import Adopted

SETTINGS = '\n[slices]\ncolumns = ["age", "gender"]\nbins = 3\nminimum_rows = 30\n'


def people(rows: int, seed: int) -> pl.DataFrame:
    """`gender` is no column of the contract; what is learned holds for one of its values much more than for others."""
    random = np.random.default_rng(seed)
    x, age, rare = random.normal(size=rows), random.integers(18, 90, rows), random.random(rows) < 0.01
    gender = np.where(rare, "x", np.where(random.random(rows) < 0.5, "f", "m"))
    noise = np.where(gender == "m", 3.0, 0.3)
    label = np.where(x + noise * random.normal(size=rows) > 0, "yes", "no")
    ages = pl.Series(age).set(pl.Series(random.random(rows) < 0.1), None)
    return pl.DataFrame({"id": range(rows), "x": x, "age": ages, "gender": gender, "label": label})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    folder = tmp_path_factory.mktemp("slices")
    flow = Adopted(folder / "case").empty()
    people(4000, 1).write_csv(folder / "table.csv")
    options = ("--label", "label", "--id", "id", "--types", "gender=out")
    assert flow.adopt(folder / "table.csv", *options) == 0
    file = flow.root / "usecase.toml"
    file.write_text(file.read_text() + SETTINGS)
    assert [column.name for column in usecase.load(file).columns] == ["x", "age"]
    flow.learn()
    return flow


@pytest.fixture(scope="module")
def case(trained: Flow) -> UseCase:
    return usecase.load(trained.root / "usecase.toml")


@pytest.fixture(scope="module")
def found(trained: Flow) -> dict[str, Any]:
    files = [json.loads(file.read_text()) for file in trained.root.rglob("evaluation.json")]
    return next(file for file in files if "slices" in file)["slices"]


def test_each_value_and_each_part_of_a_number_is_measured_with_limits(found: dict[str, Any]) -> None:
    lines = {(line["column"], line["slice"]): line for line in found["lines"]}
    ages = [name for column, name in lines if column == "age"]
    assert len(ages) == 4
    assert "missing" in ages
    assert {name for column, name in lines if column == "gender"} == {"f", "m", "x"}
    for line in lines.values():
        assert line["value"] is None or line["low"] <= line["value"] <= line["high"]
    assert lines["gender", "f"]["value"] > lines["gender", "m"]["value"] + 0.1
    assert found["worst"] == lines["gender", "m"]


def test_a_slice_of_few_rows_is_not_evaluable_and_fails_unless_it_is_said_to_pass(
    found: dict[str, Any], case: UseCase
) -> None:
    rare = next(line for line in found["lines"] if line["slice"] == "x")
    assert rare["rows"] < 30
    assert rare["value"] is None
    assert found["gate"] == {"worst_slice": found["worst"]["value"], "slices_not_evaluable": 1.0}


def test_the_figures_are_those_of_the_rows(trained: Flow, found: dict[str, Any]) -> None:
    scored = trained.score(_written(trained, people(4000, 1).drop("label"))).predictions
    table = people(4000, 1).with_columns(scored["score"])
    test = {line["slice"]: line["rows"] for line in found["lines"] if line["column"] == "gender"}
    assert sum(test.values()) == sum(line["rows"] for line in found["lines"] if line["column"] == "age")
    part = table.filter(pl.col("gender") == "m")
    whole = roc_auc_score(part["label"].to_numpy() == "yes", part["score"].to_numpy())
    assert abs(found["worst"]["value"] - whole) < 0.12


def _written(flow: Flow, frame: pl.DataFrame) -> Path:
    frame.write_csv(flow.root / "new.csv")
    return flow.root / "new.csv"


def test_a_slice_is_where_its_rows_are(case: UseCase) -> None:
    frame = people(500, 2).rename({"gender": "__slice:gender"}).with_columns(pl.col("age").cast(pl.Float64))
    parts = slices.learned(frame.lazy(), case)
    made = frame.select("age", *slices.assigned(parts, case))
    first, second = parts["age"]
    counts = made.group_by("__slice:age").len()
    assert counts["len"].min() > 30
    assert frame.filter(pl.col("age") <= first).height == made.filter(pl.col("__slice:age").str.starts_with("≤")).height
    assert frame.filter(pl.col("age") > second).height == made.filter(pl.col("__slice:age").str.starts_with(">")).height


def test_a_column_that_is_not_there_is_named(trained: Flow, tmp_path: Path) -> None:
    file = trained.root / "usecase.toml"
    text = file.read_text()
    try:
        file.write_text(text.replace('"gender"]', '"gendre"]'))
        with pytest.raises(Exception, match="no column 'gendre'"):
            trained.learn()
    finally:
        file.write_text(text)
