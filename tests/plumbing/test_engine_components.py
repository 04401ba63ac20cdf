"""The engine with this repository's own components and compiled pipelines: train, then score, on a small sample."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from plumbing.engine_miniature import Miniature, copied, processes_of

FOLDERS = ("batchloop", "components", "pipelines", "infra", "environments", "data", "locks")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """This repository, trained on a small sample with a quick fit."""
    root = tmp_path_factory.mktemp("a copy") / "repository"
    copied(root, FOLDERS, num_iterations=30)
    command = [sys.executable, "-m", "data.sample", "--rows", "2000", "--output", "data/sample"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    # whatever table the repository has been given since, here it takes the sample on anew
    Miniature(root).run("adopt", "--data", "data/sample/train/customers.csv", "--label", "churned")
    shutil.rmtree(root / "data/adopted/production")
    shutil.copytree(root / "data/sample/production", root / "data/adopted/production")
    trained = Miniature(root).run("train")
    assert "registered and released as version 1" in trained
    return Miniature(root)


def test_the_compiled_pipelines_train_and_score_with_the_real_components(copy: Miniature) -> None:
    scored = copy.run("score")
    frame = pl.read_parquet(copy.stored("**/ScoreFeatures/predictions/**/*.out")[:1])
    assert frame.height == 1000
    assert frame["prediction"].null_count() == 0
    assert "1,000 rows; 0 break the contract" in scored
    assert "drift: " in scored
    assert "report of ExplainPredictions: local/storage/" in scored
    assert not processes_of(copy.root)


def test_its_release_names_everything_scoring_needs(copy: Miniature) -> None:
    release = copy.release()
    assert release["metrics"]["test:auc"] > 0.6
    assert re.fullmatch(r"[0-9a-f]{16}", release["contract"])
    for place in release["artifacts"].values():
        bucket, key = place.removeprefix("s3://").split("/", 1)
        assert (copy.root / "local" / "storage" / bucket / key).exists()


def test_scoring_again_reuses_what_the_service_would(copy: Miniature) -> None:
    """A model's name is new in each execution; drift is always told anew, where the loop looks for it."""
    copy.run("score")
    copy.run("score")
    reused = {name for name, state in copy.states().items() if state == "unchanged, reused"}
    assert reused == {"PrepareFeatures", "ExplainPredictions"}


def test_training_again_on_the_same_rows_runs_no_job(copy: Miniature) -> None:
    copy.run("train")
    reused = {name for name, state in copy.states().items() if state == "unchanged, reused"}
    assert reused == {"PrepareTrainingData", "TrainModel", "LearnBaseline", "LearnExplainer"}


def test_a_broken_row_is_answered_with_its_reason(copy: Miniature, tmp_path: Path) -> None:
    table = pl.read_csv(copy.root / "data/sample/production/customers.csv", infer_schema=False)
    age = pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("abc")).otherwise("age").alias("age")
    table.with_columns(age).write_csv(tmp_path / "rows.csv")
    said = copy.run("score", "--data", str(tmp_path / "rows.csv"))
    assert "1,000 rows; 1 break the contract" in said
    newest = json.loads(sorted(copy.root.glob("local/runs/*/run.json"))[-1].read_text())["execution"]
    frame = pl.read_parquet(copy.stored(f"**/{newest}/ScoreFeatures/predictions/**/*.out"))
    [reason] = frame.filter(pl.col("error").is_not_null())["error"].to_list()
    assert "'age'" in reason


def test_two_hosts_find_what_one_finds(copy: Miniature) -> None:
    """Of raw files and rows each has its part; they run one after another here."""
    [file] = (copy.root / "data/adopted/production").iterdir()
    rows = pl.read_csv(file)
    for number in range(3):
        rows.gather_every(3, number).write_csv(file.with_name(f"part-{number}.csv"))
    file.unlink()
    before, reasons = newest(copy)
    several = copy.root / "environments/dev.toml"
    several.write_text(several.read_text().replace("count = 1", "count = 2"))
    copy.run("train")
    shutil.rmtree(copy.root / "local/cache")
    after, others = newest(copy)
    assert {"CountProductionData", "ExplainRows"} <= set(copy.states())
    for key in ("name", "counts", "drifted", "unknown_examples", "outside_range"):
        assert [column[key] for column in after["columns"]] == [column[key] for column in before["columns"]]
    assert after["verdict"] == before["verdict"]
    assert_frame_equal(others, reasons)  # rows stand in another order: each host has prepared its part of them


def newest(copy: Miniature) -> tuple[dict[str, Any], pl.DataFrame]:
    """What a new run says of drift, and the reasons by id."""
    assert "1,000 rows; 0 break the contract" in copy.run("score")
    run = copy.newest()
    [drift] = copy.stored(f"**/{run}/DetectDrift/drift/drift.json")
    [reasons] = copy.stored(f"**/{run}/ExplainPredictions/explanations/explanations.parquet")
    frame = pl.read_parquet(reasons)
    return json.loads(drift.read_text()), frame.sort(frame.columns[0])
