"""Realised performance: labels that arrive late are joined by id, measured as scikit-learn does, and said with care."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as peer

from batchloop.container import artifacts, job, realised
from batchloop.container.job import InputError
from batchloop.container.measures import Scored
from components.monitoring import serve, train

USECASE = """
[usecase]
name = "loans"
[data]
task = "{task}"
id = "{id}"
label = "repaid"
classes = {classes}
bad_rows = 1.0
[columns]
income = {{ type = "number" }}
[split]
group = ""
[gate]
metric = "{metric}"
minimum = 0.5
[drift]
minimum_rows = 100
performance_drop = 0.05
"""
CLASSES = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "regression": []}
METRICS = {"binary": "auc", "multiclass": "log_loss", "regression": "rmse"}
ROWS = 3000


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ROOT", str(tmp_path / "ml"))
    monkeypatch.setenv("USECASE_FILE", str(tmp_path / "usecase.toml"))


def contract(task: str = "binary", identity: str = "id") -> None:
    filled = USECASE.format(task=task, id=identity, classes=json.dumps(CLASSES[task]), metric=METRICS[task])
    Path(job.root().parent / "usecase.toml").write_text(filled)


def scored(task: str, rows: int = ROWS, seed: int = 1, noise: float = 0.0) -> pl.DataFrame:
    """Predictions as the algorithm writes them, and what is true; `noise` is the share of rows with a random truth."""
    random = np.random.default_rng(seed)
    frame = pl.DataFrame({"id": [f"c{number}" for number in range(rows)]})
    wrong = random.random(rows) < noise
    if task == "regression":
        value = random.normal(100, 20, rows)
        spread = np.where(wrong, 30.0, 5.0)
        return frame.with_columns(
            prediction=pl.Series(value), error=pl.lit(None, dtype=pl.String), truth=value + random.normal(0, spread)
        )
    names = np.array(CLASSES[task])
    scores = random.dirichlet(np.ones(len(names)) * 0.7, rows)
    truth = np.array([random.choice(len(names), p=row) for row in scores])
    truth = np.where(wrong, random.integers(0, len(names), rows), truth)
    each = {f"score:{name}": scores[:, number] for number, name in enumerate(names)} if task == "multiclass" else {}
    score = scores.max(axis=1) if task == "multiclass" else scores[:, 1]
    chosen = names[scores.argmax(axis=1)]
    return frame.with_columns(
        prediction=pl.Series(chosen),
        score=pl.Series(score),
        **{name: pl.Series(values) for name, values in each.items()},
        error=pl.lit(None, dtype=pl.String),
        truth=pl.Series(names[truth]),
    )


def put(frame: pl.DataFrame, name: str) -> None:
    file = job.root() / "processing" / "input" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.write_csv(file) if file.suffix == ".csv" else frame.write_parquet(file)


def raw(rows: int, seed: int = 1) -> pl.DataFrame:
    income = np.random.default_rng(seed).normal(size=rows)
    return pl.DataFrame({"id": [f"c{number}" for number in range(rows)], "income": income})


def learn(task: str = "binary", identity: str = "id") -> None:
    """A baseline, from a validation split of 3,000 rows."""
    contract(task, identity)
    put(raw(ROWS), "raw/part.csv")
    known = scored(task).rename({"truth": "__label"})
    put(known, "evaluation/predictions.parquet")
    report = {
        "metric": METRICS[task],
        "threshold": 0.5,
        "validation": {METRICS[task]: by_scikit_learn(task, scored(task))},
    }
    artifacts.write_json(job.processing_input("evaluation") / "evaluation.json", report)
    train.train({})
    job.processing_output("baseline").rename(job.processing_input("baseline"))


def labels(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.select("id", repaid="truth")


def measure(batch: pl.DataFrame, given: pl.DataFrame | None) -> dict[str, Any]:
    """The report of a batch with labels."""
    put(raw(len(batch), seed=2), "raw/part.csv")
    put(batch.drop("truth"), "predictions/features-00000.parquet.out")
    if given is not None:
        put(given, "labels/part.csv")
    serve.serve({})
    text = (job.processing_output("drift") / "drift.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    return found


def page() -> str:
    return (job.processing_output("drift") / "report.html").read_text(encoding="utf-8")


def by_scikit_learn(task: str, batch: pl.DataFrame) -> float:
    if task == "regression":
        return float(peer.root_mean_squared_error(batch["truth"], batch["prediction"]))
    if task == "binary":
        return float(peer.roc_auc_score(batch["truth"] == "yes", batch["score"]))
    return float(peer.log_loss(batch["truth"], batch.select("^score:.*$").to_numpy(), labels=CLASSES[task]))


@pytest.mark.parametrize("task", CLASSES)
def test_what_predictions_were_worth_is_scikit_learns_metric_of_the_joined_rows(task: str) -> None:
    learn(task)
    batch = scored(task, 2000, seed=5)
    shuffled = labels(batch).sample(fraction=0.6, shuffle=True, seed=1)
    found = measure(batch, shuffled)["realised"]
    half = batch.join(shuffled, on="id", how="semi")
    assert found["value"] == pytest.approx(by_scikit_learn(task, half))
    assert found["low"] < found["value"] < found["high"]
    assert (found["metric"], found["rows"], found["share"]) == (METRICS[task], 1200, 0.6)
    assert found["reference"] == pytest.approx(by_scikit_learn(task, scored(task)))
    assert not found["alarm"]
    assert found["bias"] == ""


@pytest.mark.parametrize("task", CLASSES)
def test_a_model_that_has_become_worse_is_an_alarm_whatever_its_task(task: str) -> None:
    learn(task)
    batch = scored(task, 2000, seed=5, noise=0.6)
    report = measure(batch, labels(batch))
    found = report["realised"]
    assert found["alarm"]
    assert found["drop"] > 0.05
    assert report["verdict"] == "no drift"  # nothing has moved but what is true
    assert "but a worse model" in page()
    assert "with the labels of 2,000 rows, 100 % of the scored ones" in report["reason"].replace("With", "with")


def test_what_was_expected_stands_beside_what_is_true() -> None:
    learn()
    batch = scored("binary", 2000, seed=5, noise=0.6)
    report = measure(batch, labels(batch))
    assert report["realised"]["expected"] == report["performance"]["estimated"]
    assert "was expected" in report["reason"]
    for text in ("Realised performance", "expected without labels", "on validation"):
        assert text in page()


def test_a_batch_without_labels_says_nothing_of_them() -> None:
    learn()
    batch = scored("binary", 500, seed=5)
    artifacts.write_json(_folder("labels") / "manifest.json", {"component": "none"})
    report = measure(batch, None)
    assert report["realised"] is None
    assert "Realised" not in page()


def _folder(name: str) -> Path:
    folder = job.processing_input(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_few_labels_are_not_known() -> None:
    learn()
    batch = scored("binary", 2000, seed=5, noise=1.0)
    report = measure(batch, labels(batch).head(99))
    found = report["realised"]
    assert (found["value"], found["alarm"], found["rows"]) == (None, False, 99)
    assert "99 rows with label and prediction are fewer than [drift] minimum_rows = 100" in found["reason"]
    assert found["reason"] in report["reason"]


def test_everything_that_does_not_fit_is_counted_and_said() -> None:
    learn()
    batch = scored("binary", 1000, seed=5).with_columns(
        error=pl.when(pl.col("id") == "c0").then(pl.lit("column 'income': 'x' is not a number"))
    )
    batch = batch.with_columns(pl.when(pl.col("error").is_null()).then(pl.col("score")), prediction="prediction")
    twice = batch.filter(pl.col("id") == "c1").with_columns(score=pl.lit(0.123))
    again = batch.filter(pl.col("id") == "c2")
    truth = dict(zip(batch["id"], batch["truth"], strict=True))
    other = {"yes": "no", "no": "yes"}
    odd = [
        ("", "yes"),  # no id
        ("c3", None),  # an empty label beside a good one
        ("c4", "maybe"),
        ("c5", other[truth["c5"]]),
        ("c6", truth["c6"]),
        ("c6", truth["c6"]),
        ("nobody", "yes"),
        ("no one", "no"),
    ]
    given = pl.concat([labels(batch), pl.DataFrame(odd, schema=["id", "repaid"], orient="row")])
    found = measure(pl.concat([batch, twice, again]), given)["realised"]
    assert found["left_out"] == {
        "broken_line": 0,
        "missing_id": 1,
        "missing_label": 1,
        "unknown_label": 1,
        "contradicting": 2,
        "repeated": 2,
        "not_scored": 2,
        "scored_twice": 1,
        "failed": 1,
    }
    assert found["rows"] == 1000 - 3
    left = batch.filter(~pl.col("id").is_in(["c0", "c1", "c5"]))
    assert found["value"] == pytest.approx(by_scikit_learn("binary", left))
    for text in ("2 contradict each other", "2 match no scored row", "1 match a row that could not be scored"):
        assert text in page()


def test_labels_that_came_for_high_scores_only_are_no_random_share() -> None:
    learn()
    batch = scored("binary", 2000, seed=5)
    report = measure(batch, labels(batch.filter(pl.col("score") > 0.4)))
    assert "the mean of score is" in report["realised"]["bias"]
    assert "no random share" in report["reason"]
    assert "no random share" in page()


def test_labels_of_one_class_can_not_be_measured_by_auc() -> None:
    learn()
    batch = scored("binary", 2000, seed=5)
    found = measure(batch, labels(batch.filter(pl.col("truth") == "yes")))["realised"]
    assert found["value"] is None
    assert "auc can't be measured on these labels" in found["reason"]
    assert found["metrics"]["accuracy"]["value"] is not None


def test_without_an_id_the_scored_files_with_their_labels_are_joined_by_row() -> None:
    learn(identity="")
    batch = scored("binary", 1000, seed=5)
    rows = raw(1000, seed=2).drop("id")
    numbered = batch.with_columns(pl.Series("row", [f"part:{number + 1}" for number in range(1000)])).drop("id")
    found = measure(numbered, rows.with_columns(repaid=batch["truth"]))["realised"]
    assert found["rows"] == 1000
    assert found["value"] == pytest.approx(by_scikit_learn("binary", batch))


@pytest.mark.parametrize("change", ["other rows", "another order", "no columns"])
def test_without_an_id_other_files_are_not_guessed_at(change: str) -> None:
    learn(identity="")
    batch = scored("binary", 1000, seed=5)
    given = raw(1000, seed=2).drop("id").with_columns(repaid=batch["truth"])
    changed = {
        "other rows": raw(1000, seed=3).drop("id").with_columns(repaid=batch["truth"]),
        "another order": given.sample(fraction=1.0, shuffle=True, seed=1),
        "no columns": given.select("repaid"),
    }
    numbered = batch.with_columns(pl.Series("row", [f"part:{number + 1}" for number in range(1000)])).drop("id")
    found = measure(numbered, changed[change])["realised"]
    assert (found["value"], found["rows"]) == (None, 0)
    assert "[data] id is empty" in found["reason"]


def test_a_table_without_the_label_is_named() -> None:
    learn()
    batch = scored("binary", 500, seed=5)
    with pytest.raises(InputError, match=r"part\.csv has no column 'repaid'"):
        measure(batch, labels(batch).rename({"repaid": "paid"}))


def test_a_baseline_from_before_gives_the_value_and_no_alarm() -> None:
    learn()
    file = job.processing_input("baseline") / "baseline.json"
    artifacts.write_json(file, {key: value for key, value in artifacts.read_json(file).items() if key != "validation"})
    batch = scored("binary", 1000, seed=5, noise=1.0)
    found = measure(batch, labels(batch))["realised"]
    assert found["value"] is not None
    assert (found["reference"], found["drop"], found["alarm"]) == (None, None, False)


def test_an_estimate_that_alarmed_and_that_labels_do_not_confirm_is_taken_back() -> None:
    learn()
    batch = scored("binary", 2000, seed=5)
    flat = batch.with_columns(score=0.5 + (pl.col("score") - 0.5) / 100)  # the order stays, and with it the AUC
    report = measure(flat, labels(flat))
    assert report["performance"]["alarm"]
    assert not report["realised"]["alarm"]
    assert "but scored as well as before" in page()


@pytest.mark.parametrize("rows", [120, 300])
@pytest.mark.parametrize("task", CLASSES)
def test_batches_as_good_as_validation_rarely_alarm(task: str, rows: int) -> None:
    """The level is 1 %; of 30 batches at most 3 may alarm (binomial, 99.9 %), before the drop is even looked at."""
    rng, alarms, metric = np.random.default_rng(rows), 0, METRICS[task]
    whole = judged(task, scored(task, 30 * rows + ROWS, seed=3))
    before = _rows(whole, np.arange(ROWS)).spreads()[metric]
    for number in range(30):
        now = _rows(whole, ROWS + number * rows + rng.permutation(rows)).spreads()[metric]
        drop = (before.value - now.value) * (1 if metric == "auc" else -1)
        alarms += drop > 2.326 * np.hypot(before.error, now.error)
    assert alarms <= 3


def _rows(whole: Scored, rows: Any) -> Scored:
    return Scored(whole.task, whole.labels[rows], whole.predicted[rows])


def judged(task: str, frame: pl.DataFrame) -> Scored:
    if task == "regression":
        return Scored(task, frame["truth"].to_numpy(), frame["prediction"].to_numpy())
    truth = frame["truth"].cast(pl.Enum(CLASSES[task])).to_physical().cast(pl.Float64).to_numpy()
    scores = frame["score"].to_numpy() if task == "binary" else frame.select("^score:.*$").to_numpy()
    return Scored(task, truth, scores)


def test_rows_of_one_group_are_drawn_together_and_make_the_limits_wider() -> None:
    """200 machines of 10 rows each, all of a machine right or all wrong: there are 200 observations, not 2,000."""
    right = np.repeat(np.random.default_rng(1).random(200) < 0.8, 10)
    apart = Scored("binary", right.astype(float), np.full(2000, 0.9))
    together = Scored("binary", right.astype(float), np.full(2000, 0.9), groups=np.repeat(np.arange(200), 10))
    narrow, wide = (one.spreads()["accuracy"] for one in (apart, together))
    assert wide.value == narrow.value == right.mean()
    assert wide.error == pytest.approx(narrow.error * 10**0.5, rel=0.2)


def test_many_rows_are_drawn_in_part_and_their_limits_are_scaled() -> None:
    random = np.random.default_rng(2)
    values = random.normal(size=60_000)
    found = Scored("regression", values, np.zeros(60_000)).spreads()["mae"]
    assert found.error == pytest.approx(np.abs(values).std() / 60_000**0.5, rel=0.2)


def test_labels_that_arrive_twice_give_the_same_report() -> None:
    learn()
    batch = scored("binary", 1000, seed=5)
    first = measure(batch, labels(batch))
    shutil.rmtree(job.processing_output("drift"))
    assert measure(batch, labels(batch)) == first


def test_metrics_of_a_class_need_thirty_rows_of_it_to_raise_an_alarm() -> None:
    scores = np.concatenate([np.full(29, 0.9), np.full(371, 0.1)])
    labels = np.concatenate([np.ones(40), np.zeros(360)])
    assert realised._few_of_class(Scored("binary", labels, scores))
    assert not realised._few_of_class(Scored("binary", labels, np.where(np.arange(400) < 30, 0.9, 0.1)))
    assert realised._few_of_class(Scored("binary", np.where(np.arange(400) < 29, 1.0, 0.0), np.full(400, 0.9)))
    assert not realised._few_of_class(Scored("regression", labels, scores))
