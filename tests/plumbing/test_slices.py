"""[slices]: metrics of parts of the test rows, in the evaluation, the report and the gate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from batchloop.container import slice_metrics, slices, usecase
from batchloop.container.job import InputError
from batchloop.container.usecase import UseCase
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
def trained(tmp_path_factory: pytest.TempPathFactory) -> Adopted:
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
def case(trained: Adopted) -> UseCase:
    return usecase.load(trained.root / "usecase.toml")


@pytest.fixture(scope="module")
def found(trained: Adopted) -> dict[str, Any]:
    files = [json.loads(file.read_text()) for file in trained.root.rglob("evaluation.json")]
    found: dict[str, Any] = next(file for file in files if "slices" in file)["slices"]
    return found


def test_each_value_and_each_part_of_a_number_is_measured_with_limits(found: dict[str, Any]) -> None:
    lines = {(line["column"], line["slice"]): line for line in found["lines"]}
    ages = [name for column, name in lines if column == "age"]
    assert [ages[0][0], ages[2][0], *ages[3:]] == ["≤", ">", "missing"]  # in their order
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


def test_the_figures_are_those_of_the_rows(trained: Adopted, found: dict[str, Any]) -> None:
    scored = trained.score(_written(trained, people(4000, 1).drop("label"))).predictions
    table = people(4000, 1).with_columns(scored["score"])
    test = {line["slice"]: line["rows"] for line in found["lines"] if line["column"] == "gender"}
    assert sum(test.values()) == sum(line["rows"] for line in found["lines"] if line["column"] == "age")
    part = table.filter(pl.col("gender") == "m")
    whole = roc_auc_score(part["label"].to_numpy() == "yes", part["score"].to_numpy())
    assert abs(found["worst"]["value"] - whole) < 0.12


def _written(flow: Adopted, frame: pl.DataFrame) -> Path:
    frame.write_csv(flow.root / "new.csv")
    return flow.root / "new.csv"


def test_a_slice_is_where_its_rows_are(case: UseCase) -> None:
    frame = people(500, 2).rename({"gender": "__slice:gender"}).with_columns(pl.col("age").cast(pl.Float64))
    parts = slices.learned(frame.lazy(), case)
    made = frame.select("age", *slices.assigned(parts, case))
    first, second = parts["age"]
    counts = made.group_by("__slice:age").len()
    assert min(counts["len"].to_list()) > 30
    assert frame.filter(pl.col("age") <= first).height == made.filter(pl.col("__slice:age").str.starts_with("≤")).height
    assert frame.filter(pl.col("age") > second).height == made.filter(pl.col("__slice:age").str.starts_with(">")).height


def test_scored_rows_stand_in_their_order_with_their_slices(case: UseCase, tmp_path: Path) -> None:
    """Sums of their scores depend on it: the same batch would give another report."""
    table = people(60_000, 6)
    table.drop("label").write_parquet(tmp_path / "new.parquet")
    predictions = pl.LazyFrame({"id": table["id"].cast(pl.String).shuffle(seed=1)})
    parts: dict[str, list[Any]] = {"age": [30.0, 60.0], "gender": ["f", "m"]}
    found = slice_metrics.beside(case, parts, tmp_path, predictions).collect(engine="streaming")
    assert found["__slice:age"].null_count() == 0
    assert found["id"].equals(predictions.collect()["id"])


def test_a_column_that_is_not_there_is_named(trained: Adopted) -> None:
    file = trained.root / "usecase.toml"
    text = file.read_text()
    try:
        file.write_text(text.replace('"gender"]', '"gendre"]'))
        with pytest.raises(InputError, match="no column 'gendre'"):
            trained.learn()
    finally:
        file.write_text(text)


def test_a_batch_is_expected_and_measured_by_slice(trained: Adopted, case: UseCase) -> None:
    new = people(2000, 5).with_columns(pl.col("id") + 10_000)
    new.select("id", "label").write_csv(trained.root / "labels.csv")
    scored = trained.score(_written(trained, new.drop("label")), labels=trained.root / "labels.csv")
    lines = {(line["column"], line["slice"]): line for line in scored.report["slices"]}
    ages = [name for column, name in lines if column == "age"]
    assert [ages[0][0], ages[2][0], *ages[3:]] == ["≤", ">", "missing"]
    best, worst = lines["gender", "f"], lines["gender", "m"]
    part = scored.predictions.with_columns(new["gender"], new["label"]).filter(pl.col("gender") == "m")
    assert worst["realised"] == pytest.approx(
        roc_auc_score(part["label"].to_numpy() == "yes", part["score"].to_numpy())
    )
    assert worst["realised_low"] < worst["realised"] < worst["realised_high"] < best["realised_low"]
    assert worst["expected_low"] < worst["expected"] < worst["expected_high"]
    assert sum(line["rows"] for (column, _), line in lines.items() if column == "age") == 2000
    alone = trained.score(_written(trained, new.drop("label", "gender")))
    assert alone.report["slices"] == []  # the batch lacks a column that the model does without
