"""Explainability: attributions that add up, find what was planted, and are said in words for the rows one asked for."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, explanations, job, models, usecase
from batchloop.container.job import InputError
from batchloop.container.models import Model
from batchloop.container.protocols import Problem, Table
from batchloop.container.tables import matrix as matrix_of
from batchloop.container.usecase import Explanation
from components.algorithm import model
from components.explainability import attributions, serve, train

USECASE = """
[usecase]
name = "loans"
title = "Loans"
[data]
task = "{task}"
id = "id"
label = "repaid"
classes = {classes}
[columns]
income = {{ type = "number" }}
"<b>town</b>" = {{ type = "category" }}
owner = {{ type = "boolean" }}
noise = {{ type = "number" }}
[gate]
metric = "{metric}"
minimum = 0.5
[explanation]
rows = {rows}
rule = "{rule}"
top = 3
"""
TASKS = {
    "binary": {"task": "binary", "classes": '["no", "yes"]', "metric": "auc"},
    "multiclass": {"task": "multiclass", "classes": '["a", "b", "c"]', "metric": "log_loss"},
    "regression": {"task": "regression", "classes": "[]", "metric": "rmse"},
}
TOWN = "<b>town</b>"
TOWNS = ["other", "Oslo", "Rome"]
FEATURES: list[dict[str, Any]] = [
    {"name": "income", "source": "income", "kind": "number"},
    {"name": TOWN, "source": TOWN, "kind": "category", "categories": TOWNS},
    {"name": "owner", "source": "owner", "kind": "boolean"},
    {"name": "noise", "source": "noise", "kind": "number"},
]


def features(count: int, seed: int = 1) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    towns = random.choice([0, 1, 2], count)
    frame = pl.DataFrame(
        {
            "id": [f"c{number}" for number in range(count)],
            "income": random.normal(size=count).astype(np.float32),
            TOWN: pl.Series(
                [["other", "Oslo", "Rome"][town] for town in towns], dtype=pl.Enum(["other", "Oslo", "Rome"])
            ),
            "owner": random.integers(0, 2, count).astype(np.float32),
            "noise": random.normal(size=count).astype(np.float32),
        }
    )
    gap = pl.Series(random.random(count) < 0.1)
    return frame.with_columns(pl.when(~gap).then(pl.col("income")), pl.when(~gap).then(pl.col(TOWN)))


def labels(frame: pl.DataFrame, task: str) -> Any:
    signal = frame["income"].fill_null(2.0).to_numpy() * 2 + (frame[TOWN] == "Rome").fill_null(False).to_numpy()
    if task == "regression":
        return signal.astype(float)
    return np.digitize(signal, [0.5] if task == "binary" else [-0.5, 1.0]).astype(float)


def fitted(task: str, seed: int = 1) -> Model:
    frame = features(1500, seed)
    table = Table(matrix_of(frame, FEATURES), labels(frame, task))
    classes = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "regression": []}[task]
    chosen = {"num_iterations": 30, "num_leaves": 8, "learning_rate": 0.2}
    booster = model.fit(table, table, chosen, Problem(task, tuple(classes), tuple(FEATURES)))
    metadata = {"task": task, "id": "id", "label": "repaid", "classes": classes, "features": FEATURES}
    return Model(booster, metadata | {"threshold": 0.5})


def write_model(folder: Path, found: Model) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    models.save(found, folder)
    artifacts.write_manifest(folder, "algorithm", usecase.load().contract())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ML_ROOT", str(tmp_path / "ml"))
    monkeypatch.setenv("USECASE_FILE", str(tmp_path / "usecase.toml"))
    settle(tmp_path, "binary")
    return tmp_path


def settle(folder: Path, task: str, count: int = 0, rule: str = "random") -> None:
    (folder / "usecase.toml").write_text(USECASE.format(**TASKS[task], rows=count, rule=rule))


def put(frame: pl.DataFrame) -> None:
    folder = job.processing_input("features")
    folder.mkdir(parents=True, exist_ok=True)
    half = len(frame) // 2
    for number, part in enumerate((frame[:half], frame[half:])):
        part.write_parquet(folder / f"features-{number:05}.parquet")


def chosen(frame: pl.DataFrame) -> explanations.Chosen:
    return explanations.Chosen(frame.lazy(), len(frame), len(frame))


def summary(found: Model, frame: pl.DataFrame) -> explanations.Summary:
    result = explanations.Summary()
    for part in explanations.explained(found, {}, chosen(frame)):
        result.add(part.arrays)
    return result


def learn(task: str = "binary") -> dict[str, Any]:
    write_model(job.processing_input("model"), fitted(task))
    put(features(600, seed=2))
    train.train({})
    job.processing_output("explainer").rename(job.processing_input("explainer"))
    value: dict[str, Any] = artifacts.read_json(job.processing_input("explainer") / "explainer.json")
    return value


def explain(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Any]]:
    put(frame)
    serve.serve({})
    folder = job.processing_output("explanations")
    return pl.read_parquet(folder / "explanations.parquet"), artifacts.read_json(folder / "summary.json")


@pytest.mark.parametrize("task", TASKS)
def test_attributions_and_base_add_up_to_the_raw_score(task: str) -> None:
    found, matrix = fitted(task), matrix_of(features(300, seed=3), FEATURES)
    attributed = attributions.explain(found.fitted, {}, matrix)
    outputs = 3 if task == "multiclass" else 1
    assert attributed.values.shape == (300, outputs, 4)
    total = attributed.values.sum(axis=2) + attributed.base
    raw = found.fitted.predict(matrix, raw_score=True).reshape(300, outputs)
    assert np.abs(total - raw).max() <= 1e-9 * np.maximum(1, np.abs(raw)).max()


def test_attributions_that_do_not_add_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found, honest = fitted("binary"), attributions.explain

    def explain(*arguments: Any) -> Any:
        attributed = honest(*arguments)
        return replace(attributed, raw=attributed.raw + 1e-6)

    monkeypatch.setattr(attributions, "explain", explain)
    with pytest.raises(InputError, match="miss its raw score"):
        list(explanations.explained(found, {}, chosen(features(50, seed=3))))


def test_a_single_split_is_attributed_to_its_feature_as_the_definition_says() -> None:
    """One stump: the attribution is the leaf's value less the mean over the training rows, all of it the feature's."""
    frame = features(1000)
    table = Table(matrix_of(frame, FEATURES), labels(frame, "regression"))
    chosen = {"num_iterations": 1, "num_leaves": 2, "learning_rate": 1.0, "min_data_in_leaf": 20}
    stump = model.fit(table, table, chosen, Problem("regression", (), tuple(FEATURES)))
    attributed = attributions.explain(stump, {}, table.features)
    predicted = model.predict(stump, table.features)
    assert attributed.values[:, 0, 0] == pytest.approx(predicted - predicted.mean(), abs=1e-9)
    assert np.abs(attributed.values[:, 0, 1:]).max() == 0


@pytest.mark.parametrize("task", TASKS)
def test_what_was_planted_is_found_most_important(place: Path, task: str) -> None:
    settle(place, task)
    explainer = learn(task)
    order = [line["feature"] for line in explainer["importance"]]
    assert order[:2] == ["income", TOWN]
    assert explainer["source_importance"]["income"] > 10 * explainer["source_importance"]["noise"]
    assert explainer["additivity_error"] <= explainer["tolerance"]
    if task == "regression":
        assert explainer["importance"][0]["direction"] > 0.7


@pytest.mark.usefixtures("place")
def test_reasons_are_said_in_words_and_point_the_right_way() -> None:
    learn()
    frame = features(200, seed=4)
    found, told = explain(frame)
    joined = frame.join(found, on="id")
    assert told["explained"] == told["rows"] == 200
    assert set(found["reason_1_feature"]) <= {"income", TOWN}
    missing = joined.filter(pl.col("income").is_null() & (pl.col("reason_1_feature") == "income"))
    assert set(missing["reason_1_value"]) == {"missing"}
    high = joined.filter((pl.col("income") > 1) & (pl.col("reason_1_feature") == "income"))
    assert (high["reason_1_attribution"] > 0).all()
    towns = joined.filter(pl.col("reason_2_feature") == TOWN)
    assert set(towns["reason_2_value"]) <= {"Oslo", "Rome", "other", "missing"}


def test_all_rows_a_random_sample_or_the_highest_scores_are_explained(place: Path) -> None:
    learn()
    frame = features(300, seed=4)
    everything, _ = explain(frame)
    settle(place, "binary", count=40)
    sample, told = explain(frame)
    assert (len(everything), len(sample), told["rows"]) == (300, 40, 300)
    assert sample.equals(explain(frame)[0])
    assert sample.equals(everything.filter(pl.col("id").is_in(sample["id"].implode())))
    settle(place, "binary", count=40, rule="highest")
    highest, _ = explain(frame)
    assert highest["raw_score"].min() >= everything.sort("raw_score", descending=True)["raw_score"][39]


def test_the_highest_scores_are_kept_across_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(explanations, "BATCH", 37)
    found, frame = fitted("binary"), features(500, seed=5)
    frame.write_parquet(tmp_path / "features-00000.parquet")
    chosen = explanations.choose(tmp_path, found, Explanation(rows=25, rule="highest"))
    best = np.sort(models.predict(found, matrix_of(frame, FEATURES)))[-25:]
    kept = np.sort(models.predict(found, chosen.matrix(FEATURES)))
    assert kept == pytest.approx(best)


@pytest.mark.usefixtures("place")
def test_rows_that_could_not_be_scored_are_left_out() -> None:
    learn()
    errors = pl.Series("__error", ["why"] * 50 + [None] * 150, dtype=pl.String)
    found, told = explain(features(200, seed=4).with_columns(errors))
    assert told["rows"] == len(found) == 150
    with pytest.raises(InputError, match="no row to explain"):
        explain(features(10).with_columns(pl.lit("why").alias("__error")))


@pytest.mark.usefixtures("place")
def test_importance_that_moved_is_measured_against_the_reference() -> None:
    learn()
    _, same = explain(features(600, seed=2))
    assert same["moved"] == pytest.approx(0, abs=1e-12)
    _, other = explain(features(600, seed=2).with_columns(pl.lit(0.0, dtype=pl.Float32).alias("income")))
    assert other["moved"] > 0.2
    assert {line["reference_rank"] for line in other["importance"]} == {1, 2, 3, 4}


@pytest.mark.usefixtures("place")
def test_an_explainer_of_another_model_is_refused() -> None:
    learn()
    write_model(job.processing_input("model"), fitted("binary", seed=9))
    put(features(100))
    assert job.run("explainability serve", serve.serve) == 1
    assert "learned from another model" in (job.root() / "output" / "message").read_text()
    assert not job.processing_output("explanations").exists()


@pytest.mark.usefixtures("place")
def test_pages_show_hostile_names_as_text() -> None:
    learn()
    explain(features(100))
    for folder in ("report", "explanations"):
        page = (job.processing_output(folder) / "report.html").read_text(encoding="utf-8")
        assert "<b>" not in page
        assert "&lt;b&gt;town" in page


@pytest.mark.usefixtures("place")
def test_the_same_batch_is_explained_in_the_same_bytes() -> None:
    learn()
    explain(features(100))
    first = artifacts.fingerprint(job.processing_output("explanations"))
    explain(features(100))
    assert artifacts.fingerprint(job.processing_output("explanations")) == first


@pytest.mark.parametrize("series", [True, False])
@pytest.mark.usefixtures("place")
def test_what_the_features_of_a_series_mean_is_said(series: bool) -> None:
    found, data = learn(), SimpleNamespace(label="sales", time="day")
    names = [("lag_2", "sales"), ("lag_1", "sales"), ("step", "day"), ("season_mean", "mine")]
    found["importance"] = [{**found["importance"][0], "feature": name, "source": source} for name, source in names]
    case = SimpleNamespace(title="t", series=series or None, data=data, columns=())
    page = explanations.page(cast(Any, case), found, cast(Any, SimpleNamespace(pictures=[])))
    assert ("<dd>lag_1, lag_2 …: the last label" in page) is series
    assert (">step</dt>" in page) is series
    assert "season_mean</dt>" not in page


def test_the_parts_of_a_date_add_up_to_its_column() -> None:
    parts = [{"name": f"since__{part}", "source": "since"} for part in ("days", "month")]
    found = explanations.by_source([*parts, {"name": "age", "source": "age"}], np.array([1.0, 2.0, 2.5]))
    assert found == {"since": 3.0, "age": 2.5}


def test_values_are_said_as_people_read_them() -> None:
    said = {
        "boolean": explanations.in_words(pl.Series([1.0, 0.0, None]), {"name": "x", "kind": "boolean"}),
        "date": explanations.in_words(pl.Series([20000.5]), {"name": "x__days", "kind": "date"}),
        "number": explanations.in_words(pl.Series([1234.5, None]), {"name": "x", "kind": "number"}),
    }
    assert said["boolean"].to_list() == ["yes", "no", "missing"]
    assert said["date"].to_list() == ["2024-10-04"]
    assert said["number"].to_list() == ["1,234.5", "missing"]


def test_importance_does_not_depend_on_how_rows_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    found, frame = fitted("binary"), features(500, seed=6)
    whole = summary(found, frame)
    monkeypatch.setattr(explanations, "CHUNK", 130)
    monkeypatch.setattr(explanations, "CELLS", 1)
    cut = summary(found, frame)
    assert cut.importance == pytest.approx(whole.importance)
    assert np.concatenate(cut.values) == pytest.approx(np.concatenate(whole.values))


def test_of_many_rows_evenly_spread_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory: quantiles are taken of so many attributions at most, importance and errors of all rows."""
    found, frame = fitted("binary"), features(500, seed=6)
    whole = summary(found, frame)
    monkeypatch.setattr(explanations, "CHUNK", 30)
    monkeypatch.setattr(explanations, "CELLS", 1)
    monkeypatch.setattr(explanations, "KEPT", 4 * 100)
    some = summary(found, frame)
    assert np.concatenate(some.values) == pytest.approx(np.concatenate(whole.values)[::5])
    kept: list[Any] = [*some.values, *some.matrices]
    assert all(part.base is None for part in kept)  # a view would hold all rows
    assert np.concatenate(some.matrices).shape == chosen(frame).matrix(FEATURES).shape == (100, 4)
    assert (some.rows, some.importance.tolist()) == (500, pytest.approx(whole.importance.tolist()))
