"""Training: three tasks on small generated features, the champion, the search, and what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, memory, models, tables
from batchloop.container.job import InputError
from components.algorithm import train
from plumbing.rendered import ROOT

# As in the image: LightGBM would import pandas and scikit-learn where it finds them, which takes seconds.
WITHOUT = "import sys, runpy; sys.modules |= {'pandas': None, 'sklearn': None}; "
AS_IN_THE_IMAGE = WITHOUT + "runpy.run_module('batchloop.container', None, '__main__')"
LABELS = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "regression": []}
METRIC = {"binary": ("auc", 0.5), "multiclass": ("macro_f1", 0.3), "regression": ("rmse", 9.0)}
CITIES = ["other", "bern", "köln", "oslo"]
FEATURES: list[dict[str, Any]] = [
    {"name": "age", "source": "age", "kind": "number"},
    {"name": "monthly [€]: {net}", "source": "monthly [€]: {net}", "kind": "number"},
    {"name": "city", "source": "city", "kind": "category", "categories": CITIES},
    {"name": "paperless", "source": "paperless", "kind": "boolean"},
]


def describe(task, **hyperparameters):
    metric, minimum = METRIC[task]
    values = {"learning_rate": 0.1, "num_iterations": 60, "early_stopping_rounds": 10, "num_leaves": 7}
    values |= {"min_data_in_leaf": 5, "bagging_fraction": 0.8, "bagging_freq": 1, "native_categories": False, "seed": 7}
    lines = [f"{key} = {json.dumps(value)}" for key, value in (values | hyperparameters).items()]
    return f"""
[usecase]
name = "sample"
[data]
task = "{task}"
id = "customer"
label = "outcome"
classes = {json.dumps(LABELS[task])}
missing = ["", "NA"]
[columns]
age = {{ type = "number" }}
"monthly [€]: {{net}}" = {{ type = "number" }}
city = {{ type = "category" }}
paperless = {{ type = "boolean" }}
[hyperparameters]
{chr(10).join(lines)}
[tuning.search]
learning_rate = [0.02, 0.3, "log"]
num_leaves = [3, 15]
native_categories = [false, true]
[gate]
metric = "{metric}"
minimum = {minimum}
"""


def table(task, rows, seed):
    random = np.random.default_rng(seed)
    age, spend = random.normal(40, 12, rows), random.gamma(2.0, 30.0, rows)
    city, paperless = random.integers(0, len(CITIES), rows), random.integers(0, 2, rows)
    signal_ = (age - 40) / 12 + 1.5 * (city == 2) - spend / 60 + random.normal(0, 0.7, rows)
    outcome = signal_ * 5 + 100
    if task != "regression":
        places = np.digitize(signal_, [-1.0] if task == "binary" else [-1.2, 0.2])
        outcome = np.array(LABELS[task], dtype=object)[places].tolist()
    columns = {
        "customer": [f"c{seed}-{row}" for row in range(rows)],
        "age": pl.Series(np.where(random.random(rows) < 0.05, np.nan, age), dtype=pl.Float32).fill_nan(None),
        "monthly [€]: {net}": pl.Series(spend, dtype=pl.Float32),
        "city": pl.Series([CITIES[place] for place in city], dtype=pl.Enum(CITIES)),
        "paperless": pl.Series(paperless, dtype=pl.Float32),
        "outcome": outcome,
    }
    return pl.DataFrame(columns)


def write_channel(folder, frame, features=FEATURES):
    folder.mkdir(parents=True)
    half = frame.height // 2
    frame[:half].write_parquet(folder / "part-00000.parquet")
    frame[half:].write_parquet(folder / "part-00001.parquet")
    artifacts.write_json(folder / "features.json", {"id": "customer", "label": "outcome", "features": features})


def lay_out(root, task, rows=600, **hyperparameters):
    """A job folder as SageMaker would fill it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "usecase.toml").write_text(describe(task, **hyperparameters), encoding="utf-8")
    for seed, (name, count) in enumerate({"train": rows, "validation": rows // 2, "test": rows // 2}.items(), start=1):
        write_channel(root / "input/data" / name, table(task, count, seed))
    for name in ("champion", "champion_test"):
        folder = root / "input/data" / name
        folder.mkdir()
        artifacts.write_json(folder / "manifest.json", {"component": "none"})
    return root


def enthrone(root, champion):
    """Make the model of one job folder the champion of another."""
    folder = root / "input/data/champion"
    (folder / "manifest.json").unlink()
    with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
        for file in sorted((champion / "model").iterdir()):
            archive.add(file, file.name)
    test = root / "input/data/champion_test"
    (test / "manifest.json").unlink()
    for file in (root / "input/data/test").iterdir():
        (test / file.name).write_bytes(file.read_bytes())


@pytest.fixture
def run(monkeypatch, capfd):
    """Train in a job folder; the answer is what was printed."""

    def start(root, **settings):
        monkeypatch.setenv("ML_ROOT", str(root))
        monkeypatch.setenv("USECASE_FILE", str(root / "usecase.toml"))
        train.train(settings)
        return capfd.readouterr().out

    return start


def evaluation(root):
    return json.loads((root / "output/data/evaluation.json").read_text())


def command(root, *arguments, **environment):
    values = {"ML_ROOT": str(root), "USECASE_FILE": str(root / "usecase.toml"), "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", AS_IN_THE_IMAGE, "algorithm", "train", *arguments]
    return subprocess.Popen(
        line, env={**os.environ, **values, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_training_writes_a_model_that_has_learned_and_says_how_well(task, tmp_path, run):
    printed = run(lay_out(tmp_path, task))
    report, (metric, minimum) = evaluation(tmp_path), METRIC[task]
    better = report["test"][metric] < minimum if task == "regression" else report["test"][metric] > minimum + 0.2
    assert better
    assert report["rows"] == {"train": 600, "validation": 300, "test": 300}
    assert report["champion"] is None
    assert report["lead"] == 0.0
    assert report["not_comparable"] == ""
    caught = {name: float(value) for name, value in re.findall(r"^metric (\S+)=(\S+)$", printed, re.MULTILINE)}
    assert caught[f"test:{metric}"] == pytest.approx(report["test"][metric], rel=1e-6)
    assert caught["gate:value"] == caught[f"test:{metric}"]
    assert caught["gate:lead"] == caught["gate:disagreement"] == 0.0
    assert report["comparison"] is None
    assert {f"validation:{name}" for name in report["validation"]} <= set(caught)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "manifest.json",
        "metadata.json",
        "model.txt",
    ]
    loaded = models.load(tmp_path / "model")
    assert loaded.fitted.current_iteration() == loaded.metadata["best_iteration"]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_predictions_of_the_validation_split_have_their_ids_and_scores(task, tmp_path, run):
    run(lay_out(tmp_path, task))
    predictions = pl.read_parquet(tmp_path / "output/data/predictions.parquet")
    assert predictions["customer"].to_list() == [f"c2-{row}" for row in range(300)]
    assert predictions["error"].null_count() == 300
    assert predictions["__label"].to_list() == table(task, 300, 2)["outcome"].to_list()
    if task == "regression":
        assert predictions.columns == ["customer", "prediction", "error", "__label"]
        assert predictions["prediction"].dtype == pl.Float64
    elif task == "binary":
        assert predictions["prediction"].to_list() == ["yes" if s >= 0.5 else "no" for s in predictions["score"]]
    else:
        each = predictions.select("score:a", "score:b", "score:c").to_numpy()
        assert np.allclose(each.sum(axis=1), 1)
        assert predictions["prediction"].to_list() == [LABELS[task][place] for place in each.argmax(axis=1)]
        assert np.array_equal(predictions["score"].to_numpy(), each.max(axis=1))


def test_the_same_input_gives_the_same_bytes(tmp_path, run):
    for name in ("first", "second"):
        run(lay_out(tmp_path / name, "binary"))
    for file in (
        "model/model.txt",
        "model/metadata.json",
        "output/data/evaluation.json",
        "output/data/predictions.parquet",
    ):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_native_categories_are_split_as_sets(tmp_path, run):
    run(lay_out(tmp_path, "binary"), native_categories="true")
    assert re.search(r"^num_cat=[1-9]", (tmp_path / "model/model.txt").read_text(), re.MULTILINE)
    assert json.loads((tmp_path / "model/metadata.json").read_text())["hyperparameters"]["native_categories"] is True


def test_the_champion_is_measured_on_the_same_rows(tmp_path, run):
    run(lay_out(tmp_path / "old", "regression"), num_iterations="3")
    run(lay_out(tmp_path / "new", "regression"))
    alone = evaluation(tmp_path / "new")
    enthrone(lay_out(tmp_path / "challenge", "regression"), tmp_path / "old")
    printed = run(tmp_path / "challenge")
    report = evaluation(tmp_path / "challenge")
    assert report["champion"] == evaluation(tmp_path / "old")["test"]
    assert report["test"] == alone["test"]
    assert report["lead"] == pytest.approx(report["champion"]["rmse"] - report["test"]["rmse"])
    assert report["lead"] > 0  # a smaller error is better
    assert report["comparison"]["lead"] == report["lead"]
    assert report["comparison"]["lead_low"] > 0
    assert "metric gate:lead_low=" in printed
    assert "metric champion:rmse=" in printed
    assert "metric gate:compared=1." in printed
    assert report["not_comparable"] == ""


def test_groups_are_resampled_whole_and_stand_beside_the_predictions(tmp_path, run):
    champion = lay_out(tmp_path / "champion", "binary", num_iterations=3)
    root = lay_out(tmp_path / "challenger", "binary")
    run(champion)
    enthrone(root, champion)
    for name in ("validation", "test"):
        for file in sorted((root / "input/data" / name).iterdir()):
            if file.suffix == ".parquet":
                frame = pl.read_parquet(file)
                frame.with_columns((pl.int_range(pl.len()) // 5).cast(pl.String).alias("__group")).write_parquet(file)
    run(root)
    found = evaluation(root)["comparison"]
    assert found["groups"] == 30
    assert found["lead_low"] < found["lead"] < found["lead_high"]
    predictions = pl.read_parquet(root / "output/data/predictions.parquet")
    assert predictions["__group"].to_list() == [str(n // 5) for n in range(150)] * 2


def test_a_split_that_repeats_training_is_said_and_not_trusted(tmp_path, run, caplog):
    root = lay_out(tmp_path, "binary", rows=2000, min_data_in_leaf=5)
    random = np.random.default_rng(3)
    people = table("binary", 400, 9).with_columns(pl.Series("outcome", random.choice(LABELS["binary"], 400)))
    for name in ("train", "validation", "test"):
        folder = root / "input/data" / name
        for file in folder.glob("*.parquet"):
            people.sample(pl.read_parquet(file).height, with_replacement=True, seed=len(str(file))).write_parquet(file)
    run(root)
    found = evaluation(root)["leak"]
    assert not found["trusted"]
    assert found["unseen"] < 0.65 < found["seen"]
    assert found["reason"] in caplog.text


def test_a_champion_with_other_test_rows_is_measured_and_not_compared_row_by_row(tmp_path, run, caplog):
    run(lay_out(tmp_path / "old", "binary"), num_iterations="3")
    root = lay_out(tmp_path / "new", "binary")
    enthrone(root, tmp_path / "old")
    file = root / "input/data/champion_test/part-00000.parquet"
    pl.read_parquet(file)[::-1].write_parquet(file)
    run(root)
    assert evaluation(root)["champion"] is not None
    assert evaluation(root)["comparison"] is None
    assert "can't be compared row by row" in caplog.text


def rewrite(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def empty(root, reason):
    folder = root / "input/data/champion_test"
    shutil.rmtree(folder)
    folder.mkdir()
    artifacts.write_absent(folder, reason)


def packed(root, change):
    """Change the champion's files before they are packed again."""
    archive = root / "input/data/champion/model.tar.gz"
    folder = root / "unpacked"
    artifacts.extract(archive, folder)
    change(folder)
    with tarfile.open(archive, "w:gz") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, file.name)


UNUSABLE = {
    "of another contract": (
        lambda root: packed(root, lambda old: rewrite(old / "manifest.json", '"contract": "', '"contract": "other')),
        "learned under another contract",
    ),
    "of another component": (
        lambda root: packed(root, lambda old: rewrite(old / "manifest.json", "algorithm", "forest")),
        "'forest'",
    ),
    "of another library": (
        lambda root: packed(root, lambda old: [(old / name).unlink() for name in ("model.txt", "metadata.json")]),
        "metadata.json is missing",
    ),
    "with other metadata": (
        lambda root: packed(root, lambda old: rewrite(old / "metadata.json", '"features"', '"columns"')),
        "KeyError: 'features'",
    ),
    "with a list in its manifest": (
        lambda root: packed(root, lambda old: (old / "manifest.json").write_text("[]")),
        "AttributeError",
    ),
    "in a damaged archive": (
        lambda root: (root / "input/data/champion/model.tar.gz").write_bytes(b"no archive"),
        "can't be unpacked",
    ),
    "without a preprocessor that fits": (lambda root: empty(root, "it is of another contract."), "another contract"),
    "without a preprocessor": (lambda root: empty(root, ""), "no preprocessor"),
    "with test rows of another preprocessor": (
        lambda root: rewrite(root / "input/data/champion_test/features.json", "oslo", "rome"),
        "other features",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_champion_that_can_not_be_compared_stops_no_training_and_is_said(kind, tmp_path, run, caplog):
    change, why = UNUSABLE[kind]
    run(lay_out(tmp_path / "old", "binary", rows=100), num_iterations="3")
    root = lay_out(tmp_path / "new", "binary", rows=100)
    enthrone(root, tmp_path / "old")
    change(root)
    printed = run(root, num_iterations="3")
    report = evaluation(root)
    assert (report["champion"], report["lead"], report["comparison"]) == (None, 0.0, None)
    assert why in report["not_comparable"]
    assert "not comparable" in caplog.text
    assert "metric gate:compared=0." in printed


def test_going_on_from_a_champion_that_can_not_be_used_says_why_and_what_else_there_is(tmp_path, run):
    run(lay_out(tmp_path / "old", "binary", rows=100), num_iterations="3")
    root = lay_out(tmp_path / "new", "binary", rows=100)
    enthrone(root, tmp_path / "old")
    UNUSABLE["of another contract"][0](root)
    with pytest.raises(InputError, match=r"learned under another contract.*FRESH=yes"):
        run(root, continue_training="true")


def test_training_goes_on_from_the_champions_trees(tmp_path, run):
    run(lay_out(tmp_path / "old", "binary"), num_iterations="5", early_stopping_rounds="0")
    enthrone(lay_out(tmp_path / "new", "binary"), tmp_path / "old")
    run(tmp_path / "new", continue_training="true", num_iterations="7", early_stopping_rounds="0")
    old, new = (models.load(tmp_path / name / "model").fitted for name in ("old", "new"))
    assert (old.num_trees(), new.num_trees()) == (5, 12)
    features = tables.matrix(table("binary", 50, 9), FEATURES)
    assert np.allclose(old.predict(features, raw_score=True), new.predict(features, raw_score=True, num_iteration=5))


def test_going_on_needs_a_champion_and_its_features(tmp_path, run):
    with pytest.raises(InputError, match="no model is released yet"):
        run(lay_out(tmp_path / "alone", "binary"), continue_training="true")
    run(lay_out(tmp_path / "old", "binary"), num_iterations="3")
    enthrone(lay_out(tmp_path / "new", "binary"), tmp_path / "old")
    schema = tmp_path / "new/input/data/validation/features.json"
    schema.write_text(schema.read_text().replace('"oslo"', '"rome"'))
    with pytest.raises(InputError, match="another"):
        run(tmp_path / "new", continue_training="true")


def test_a_search_is_never_worse_than_the_defaults_and_prints_its_trials(tmp_path, run):
    def loss(root):
        return evaluation(root)["validation"]["log_loss"]

    run(lay_out(tmp_path / "plain", "binary"), learning_rate="0.5")
    printed = run(lay_out(tmp_path / "first", "binary"), learning_rate="0.5", trials="6")
    assert loss(tmp_path / "first") <= loss(tmp_path / "plain")
    assert len(re.findall(r"^trial \d+: ", printed, re.MULTILINE)) == 6
    assert re.search(r"^trial 0: loss \S+ \(learning_rate=0.5, num_leaves=7, native_categories=false\)", printed)
    run(lay_out(tmp_path / "second", "binary"), learning_rate="0.5", trials="6")
    assert (tmp_path / "first/model/model.txt").read_bytes() == (tmp_path / "second/model/model.txt").read_bytes()
    leaves = json.loads((tmp_path / "first/model/metadata.json").read_text())["hyperparameters"]["num_leaves"]
    assert isinstance(leaves, int)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_trial_tells_the_objective_of_the_search_and_writes_nothing(task, tmp_path, run):
    root = lay_out(tmp_path / "trial", task)
    for channel in ("test", "champion", "champion_test"):
        shutil.rmtree(root / "input/data" / channel, ignore_errors=True)
    told = run(root, trial="true", num_iterations="60", early_stopping_rounds="0", _tuning_objective_metric="x")
    losses = [float(text) for text in re.findall(r"^metric trial:loss=(\S+)$", told, re.MULTILINE)]
    assert len(losses) == 3 + 1
    assert losses == sorted(losses, reverse=True)
    assert not [path for folder in ("model", "output", "checkpoints") for path in (root / folder).rglob("*.*")]
    run(lay_out(tmp_path / "whole", task), num_iterations="60", early_stopping_rounds="0")
    metric = "rmse" if task == "regression" else "log_loss"
    assert losses[-1] == pytest.approx(evaluation(tmp_path / "whole")["validation"][metric])


@pytest.mark.parametrize(
    ("search", "complaint"),
    [
        ("lerning_rate = [0.1, 0.2]", "'lerning_rate' is not among"),
        ("num_leaves = [9]", "num_leaves = .9. is not"),
        ("num_leaves = [9, 3]", "num_leaves"),
        ('lambda_l2 = [0.0, 3.0, "log"]', "lambda_l2: .log. needs values above 0"),
    ],
)
def test_a_wrong_search_is_named(search, complaint, tmp_path, run):
    root = lay_out(tmp_path, "binary", lambda_l2=1.0)
    text = describe("binary", lambda_l2=1.0)
    (root / "usecase.toml").write_text(
        re.sub(r"(?s)\[tuning.search\].*?\[gate", f"[tuning.search]\n{search}\n[gate", text)
    )
    with pytest.raises(InputError, match=complaint):
        run(root, trials="2")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"lerning_rate": "0.1"}, "no hyperparameter 'lerning_rate'"),
        ({"num_leaves": "31.5"}, "num_leaves = '31.5' is not a whole number"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast' is not a number"),
        ({"learning_rate": "nan"}, "learning_rate"),
        ({"native_categories": "maybe"}, "native_categories = 'maybe' is not true or false"),
        ({"trials": "-1"}, "trials"),
        ({"trials": "many"}, "trials = 'many'"),
        ({"continue_training": "perhaps"}, "continue_training"),
        ({"num_leaves": "1"}, "num_leaves"),
        ({"num_iterations": "0"}, "num_iterations"),
        ({"early_stopping_rounds": "-3"}, "early_stopping_rounds"),
    ],
)
def test_a_wrong_hyperparameter_is_named(settings, complaint, tmp_path, run):
    with pytest.raises(InputError, match=complaint):
        run(lay_out(tmp_path, "binary", rows=60), **settings)
    assert not (tmp_path / "model/model.txt").exists()


def test_tables_that_need_more_memory_than_there_is_are_refused_before_they_are_read(tmp_path, run, monkeypatch):
    root = lay_out(tmp_path, "binary", rows=600)
    monkeypatch.setenv(memory.SETTING, "100")
    monkeypatch.setattr(tables, "read", None)
    with pytest.raises(InputError, match=r"^1,200 rows of 4 features need about 0.2 GiB, and 0.1 GiB are there; ml.m5"):
        run(root)


def test_the_containers_limit_counts_where_it_is_less_than_the_machines(tmp_path, monkeypatch):
    ours = tmp_path / "memory.max"
    ours.write_text(f"{4 * 2**30}\n")
    monkeypatch.setattr(memory, "LIMITS", (ours, tmp_path / "nothing"))
    assert memory.limit() == 4096
    ours.write_text("max\n")
    assert memory.limit() > 0
    assert [memory.usable(name) for name in ("ml.m5.large", "ml.r5.2xlarge", "ml.g5.xlarge")] == [6144, 49152, 0]


def test_names_that_the_service_adds_are_no_hyperparameters(tmp_path, run):
    run(lay_out(tmp_path, "binary"), sagemaker_program="", num_iterations="2")


def test_a_hyperparameter_that_lightgbm_does_not_know_is_named(tmp_path, run):
    with pytest.raises(InputError, match="leaves = 3: LightGBM knows no such name"):
        run(lay_out(tmp_path, "binary", rows=60, leaves=3))


def test_a_gate_on_another_tasks_metric_is_refused(tmp_path, run):
    root = lay_out(tmp_path, "binary", rows=60)
    (root / "usecase.toml").write_text(describe("binary").replace('metric = "auc"', 'metric = "rmse"'))
    with pytest.raises(InputError, match="'rmse' is not a metric of a binary task"):
        run(root)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_label_with_one_value_only_is_refused(task, tmp_path, run):
    root = lay_out(tmp_path, task, rows=60)
    for file in (root / "input/data/train").glob("*.parquet"):
        pl.read_parquet(file).with_columns(outcome=pl.lit(1.0 if task == "regression" else "no")).write_parquet(file)
    with pytest.raises(InputError, match="in all 60 rows of train/: nothing to learn"):
        run(root)


def test_a_gate_that_can_not_be_measured_leaves_nothing_behind(tmp_path, run):
    root = lay_out(tmp_path, "binary")
    for file in (root / "input/data/test").glob("*.parquet"):
        pl.read_parquet(file).with_columns(outcome=pl.lit("no")).write_parquet(file)
    with pytest.raises(InputError, match="auc can't be measured on the test split"):
        run(root)
    assert list((tmp_path / "model").iterdir()) == []
    assert list((tmp_path / "output/data").iterdir()) == []


def test_labels_of_no_known_class_and_missing_columns_are_named(tmp_path, run):
    root = lay_out(tmp_path / "label", "binary", rows=60)
    file = root / "input/data/validation/part-00001.parquet"
    pl.read_parquet(file).with_columns(outcome=pl.lit("perhaps")).write_parquet(file)
    with pytest.raises(InputError, match="validation/: label 'outcome': 'perhaps' is not one of no, yes"):
        run(root)
    root = lay_out(tmp_path / "column", "binary", rows=60)
    for file in (root / "input/data/train").glob("*.parquet"):
        pl.read_parquet(file).drop("city").write_parquet(file)
    with pytest.raises(InputError, match="train/ has no column 'city'"):
        run(root)


def test_a_model_whose_files_do_not_fit_is_refused(tmp_path, run):
    run(lay_out(tmp_path / "one", "binary"), num_iterations="3")
    run(lay_out(tmp_path / "two", "binary"), num_iterations="4")
    one, two = tmp_path / "one/model", tmp_path / "two/model"
    text = (one / "model.txt").read_bytes()
    for wrong in ((two / "model.txt").read_bytes(), text[:-50], b""):
        (one / "model.txt").write_bytes(wrong)
        with pytest.raises(InputError, match="not of the same model"):
            models.load(one)
    (one / "model.txt").unlink()
    with pytest.raises(InputError, match="is missing"):
        models.load(one)


def test_as_a_job_it_reads_the_hyperparameter_file_and_writes_the_reason_of_a_failure(tmp_path):
    root = lay_out(tmp_path, "binary", rows=60)
    (root / "input/config").mkdir()
    (root / "input/config/hyperparameters.json").write_text('{"num_leaves": "many"}')
    process = command(root)
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert (root / "output/failure").read_text() == ("hyperparameter num_leaves = 'many' is not a whole number.")
