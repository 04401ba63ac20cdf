"""The example of docs/spark/: as processing, on a sample with broken rows; and as a step, compiled and checked.

pyspark has an environment of its own, made on demand; Java is the machine's (Debian: default-jre-headless).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from plumbing.rendered import ROOT

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "spark"
OPTIONS = "--master local[2] --driver-memory 1g --conf spark.ui.enabled=false pyspark-shell"
BROKEN = {3: ("age", "abc"), 5: ("age", "7"), 8: ("paperless", "perhaps"), 13: ("signed_up_on", "2026-13-01")}
BROKEN |= {21: ("customer_id", " ")}
ODD = {
    30: ("age", " 44.0 "),
    31: ("city", "Atlantis"),
    32: ("plan", "NA"),
    33: ("monthly_charge", "1e2"),
    34: ("paperless", "TRUE"),
}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with pyspark."""
    assert shutil.which("java"), "there is no java; Debian has it as default-jre-headless."
    place, uv = tmp_path_factory.mktemp("spark") / "environment", Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=True)
    lock = EXAMPLE / "requirements.lock"
    subprocess.run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", place, lock], check=True)
    return str(place / "bin" / "python")


def component(root: Path, mode: str) -> None:
    """The processing component as a job with its /opt/ml at `root`."""
    variables = {"ML_ROOT": root, "USECASE_FILE": ROOT / "usecase.toml", "PYTHONPATH": ROOT}
    given = os.environ | {name: str(value) for name, value in variables.items()}
    command = [sys.executable, "-m", "batchloop.container", "processing", mode]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_features_errors_and_counts_are_those_of_the_component(spark: str, tmp_path: Path) -> None:
    learning, serving, sample = tmp_path / "train", tmp_path / "serve", tmp_path / "sample"
    command = [sys.executable, "-m", "data.sample", "--rows", "3000", "--output", str(sample)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for name in ("raw", "earlier", "champion"):
        (learning / "processing/input" / name).mkdir(parents=True)
    shutil.copy(sample / "train/customers.csv", learning / "processing/input/raw")
    for name in ("earlier", "champion"):
        (learning / "processing/input" / name / "manifest.json").write_text('{"component": "none"}')
    for name in ("preprocessor", "train", "validation", "test", "champion_test"):
        (learning / "processing/output" / name).mkdir(parents=True)
    component(learning, "train")
    table = pl.read_csv(sample / "production/customers.csv", infer_schema=False).with_row_index("n")
    for row, (name, text) in (BROKEN | ODD).items():
        table = table.with_columns(pl.when(pl.col("n") == row).then(pl.lit(text)).otherwise(name).alias(name))
    rows = table.drop("n").write_csv().splitlines()
    rows[50] += ",one too many"
    rows[60] = rows[60].rpartition(",")[0]
    raw = serving / "processing/input/raw"
    raw.mkdir(parents=True)
    (raw / "first.csv").write_text("\n".join(rows[:700]) + "\n")
    (raw / "second.csv").write_text("\n".join([rows[0], *rows[700:]]) + "\n")
    preprocessor = learning / "processing/output/preprocessor"
    shutil.copytree(preprocessor, serving / "processing/input/preprocessor")
    for name in ("features", "summary"):
        (serving / "processing/output" / name).mkdir(parents=True)
    component(serving, "serve")
    words = {"raw": f"{raw.as_uri()}/", "preprocessor": preprocessor, "features": (tmp_path / "spark").as_uri()}
    words |= {"summary": tmp_path / "summary", "usecase": ROOT / "usecase.toml"}
    given = os.environ | {"PYSPARK_SUBMIT_ARGS": OPTIONS, "SPARK_LOCAL_IP": "127.0.0.1"}
    command = [
        spark,
        str(EXAMPLE / "prepare_features.py"),
        *(str(word) for name in words for word in (f"--{name}", words[name])),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    ours = pl.read_parquet(serving / "processing/output/features/*.parquet")
    files = [file for file in (tmp_path / "spark").iterdir() if not file.name.startswith(".")]
    assert {file.suffix for file in files} == {".parquet"}  # each becomes a request
    theirs = pl.read_parquet(files)
    assert theirs.columns == ours.columns
    order = ["customer_id", "__error"]
    plain = ours.with_columns(pl.col(pl.Enum).cast(pl.String), _kind(pl.col("__error"))).sort(order)
    assert theirs.with_columns(_kind(pl.col("__error"))).sort(order).equals(plain)
    assert plain["__error"].count() == len(BROKEN) + 2
    counted, expected = (
        json.loads((folder / "summary.json").read_text())
        for folder in (tmp_path / "summary", serving / "processing/output/summary")
    )
    assert {key: counted[key] for key in ("rows", "broken")} == {key: expected[key] for key in ("rows", "broken")}


def _kind(error: pl.Expr) -> pl.Expr:
    """The reason, of a line that is torn only that it is."""
    return pl.when(error.str.contains("cells")).then(pl.lit("cells")).otherwise(error).alias("__error")


def test_the_step_compiles_and_the_checker_has_nothing_to_say(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv*", "local", ".git", "data"))
    file = copy / "pipelines" / "inference.py"
    text = file.read_text().replace("import steps\n", "import steps\nfrom pipelines import spark\n")
    text, found = re.subn(r" _prepare_features\(context\)", " spark.prepare_features(context)", text)
    assert found == 1
    file.write_text(text)
    shutil.copy(EXAMPLE / "step.py", copy / "pipelines" / "spark.py")
    variables = os.environ | {"PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "batchloop.pipelines.compile", str(copy), "dev", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    definition: Any = json.loads((tmp_path / "out/inference.json").read_text())
    steps = {entry["Name"]: entry["Arguments"] for entry in definition["Steps"]}
    request = steps["PrepareFeatures"]
    assert "sagemaker-spark-processing:3.5-cpu-py312" in request["AppSpecification"]["ImageUri"]
    options = request["AppSpecification"]["ContainerArguments"]
    script = (EXAMPLE / "prepare_features.py").read_text()
    assert all(f'"{word.removeprefix("--")}"' in script or f'"{word}"' in script for word in options[::2])
    written = options[options.index("--features") + 1]
    [output] = [entry for entry in request["ProcessingOutputConfig"]["Outputs"] if entry["OutputName"] == "features"]
    assert written == output["S3Output"]["S3Uri"]
    assert "PrepareFeatures" in json.dumps(steps["ScoreFeatures"]["TransformInput"])
