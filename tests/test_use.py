"""The rendered repository as its users know it: every command of its README, in a folder with a space in its name."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn import datasets

from conftest import ROOT, run_in

Another = Callable[..., Path]


def clean(folder: Path) -> bool:
    return run_in(folder)("git", "status", "--porcelain").stdout == ""


def changed(folder: Path) -> list[str]:
    """The files that git sees as changed or new."""
    return [line[3:] for line in run_in(folder)("git", "status", "--porcelain").stdout.splitlines()]


def only(folder: Path, pattern: str) -> Path:
    """The newest file that matches."""
    return max(folder.glob(pattern), key=lambda file: file.stat().st_mtime)


def session() -> dict[str, list[str]]:
    """Each command of docs/session.md with the lines that it prints."""
    [text] = re.findall(r"(?ms)^```text\n(.*?)^```", (ROOT / "docs" / "session.md").read_text(encoding="utf-8"))
    parts = [part.partition("\n") for part in re.split(r"(?m)^\$ ", text)[1:]]
    return {command: without_numbers(said) for command, _, said in parts}


def without_numbers(said: str) -> list[str]:
    """The lines in alphabetical order: steps beside each other end in any."""
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("make: ***")]
    return sorted(re.sub(r"\d[\d.,-]*", "#", " ".join(line.split())) for line in lines)


def test_training_and_scoring_the_sample_end_in_reports_and_a_clean_repository(repository: Path) -> None:
    run, recorded = run_in(repository), session()
    trained = run("make", "train").stdout
    assert "report.html" in trained
    scored = run("make", "score").stdout
    assert "report.html" in scored
    assert without_numbers(trained) == recorded.pop("make train")
    assert without_numbers(scored) == recorded.pop("make score")
    for command, said in recorded.items():
        assert without_numbers(run(*command.split(), succeeds=False).stderr) == said
    drift = json.loads(only(repository, "local/storage/**/drift.json").read_text(encoding="utf-8"))
    assert drift["verdict"] == "no drift"
    assert clean(repository)


def test_a_second_training_of_the_same_reuses_every_step(repository: Path) -> None:
    run_in(repository)("make", "train")
    assert "reused" in run_in(repository)("make", "train").stdout


def test_the_notebook_runs_from_its_first_cell_to_its_last_and_holds_no_output(repository: Path) -> None:
    run_in(repository)("make", "train")
    assert re.fullmatch(r"0 rows break the contract; first: none\n\{.*\}\n(\d+) \1\n", looked(repository), re.DOTALL)


def looked(folder: Path) -> str:
    """What the notebook's cells print as a program: a notebook's server would bring a hundred packages."""
    file = folder / "notebooks" / "explore.ipynb"
    notebook = json.loads(file.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    program = "\n".join("".join(cell["source"]) for cell in cells)
    run = run_in(file.parent)
    return run("../.venv/bin/python", "-c", f"{program}\nprint(importance.height, len(reasons))").stdout


def test_its_own_checks_pass_and_change_nothing(repository: Path) -> None:
    run_in(repository)("make", "check")
    run_in(repository)("make", "fix")
    assert clean(repository)


def test_its_own_tests_pass(repository: Path) -> None:
    assert " passed" in run_in(repository)("make", "test").stdout
    assert clean(repository)


def write(file: Path, table: Any) -> None:
    """One of scikit-learn's tables as CSV."""
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow([*table["feature_names"], "target"])
        writer.writerows([*row, label] for row, label in zip(table["data"], table["target"], strict=True))


TABLES: list[tuple[str, Callable[..., Any], str]] = [
    ("binary", datasets.load_breast_cancer, "auc"),
    ("multiclass", datasets.load_wine, "log_loss"),
    ("regression", datasets.load_diabetes, "rmse"),
]


@pytest.mark.parametrize(("task", "load", "metric"), TABLES)
def test_a_table_from_elsewhere_needs_no_edit_by_hand(
    another: Another, tmp_path: Path, task: str, load: Callable[..., Any], metric: str
) -> None:
    folder = another(f"{task} table")
    write(tmp_path / "table.csv", load())
    run = run_in(folder)
    run("make", "adopt", f"DATA={tmp_path / 'table.csv'}", "LABEL=target")
    run("make", "train")
    scored = run("make", "score").stdout
    assert "report.html" in scored
    evaluation = json.loads((folder / "local" / "release.json").read_text(encoding="utf-8"))["metrics"]
    assert metric in json.dumps(evaluation)
    assert sorted(changed(folder)) == ["usecase.toml"]


# edits that change nothing of what the tests of a ★ file ask for
HARMLESS = {
    "no id": ("id = .*", 'id = ""'),
    "validation rows of one's own": ('method = "random"', 'method = "given"'),
    "large leaves": ("min_data_in_leaf = [0-9]+", "min_data_in_leaf = 500"),
    "few trees": ("num_iterations = .*", "num_iterations = 2"),
    "a hyperparameter with an entry a feature": (
        "num_leaves = (.*)",
        'num_leaves = \\1\nmonotone_constraints = "0,-1' + ",0" * 15 + '"',
    ),
    "a column": (r"\[columns\]", '[columns]\nnew_number = { type = "number" }\nnew_kind = { type = "category" }'),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_its_own_tests_pass_after_a_harmless_edit(another: Another, name: str) -> None:
    folder = another(name)
    pattern, text = HARMLESS[name]
    file = folder / "usecase.toml"
    before = file.read_text(encoding="utf-8")
    file.write_text(re.sub(f"(?m)^{pattern}", text, before, count=1), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != before
    run_in(folder)("make", "test", "TESTS=tests/test_features.py tests/test_model.py tests/test_attributions.py")


LEARNED = '    features.append({"name": "charge_a_gigabyte", "source": "monthly_charge", "kind": "number"})\n'
DERIVED = """\
    if feature["name"] == "charge_a_gigabyte":
        return (pl.col("monthly_charge") / (1 + pl.col("data_used_gb"))).cast(pl.Float32).alias("charge_a_gigabyte")
"""


def test_its_own_tests_pass_with_a_derived_feature(another: Another) -> None:
    folder = another("derived")
    file = folder / "components" / "processing" / "features.py"
    text = file.read_text(encoding="utf-8")
    for before, more in (("    return features\n", LEARNED), ('    source = pl.col(feature["source"])\n', DERIVED)):
        assert before in text
        text = text.replace(before, more + before, 1)
    file.write_text(text, encoding="utf-8")
    run_in(folder)("make", "test")


def test_its_own_tests_still_pass_with_another_table(another: Another, tmp_path: Path) -> None:
    folder = another("another table")
    write(tmp_path / "table.csv", datasets.load_diabetes())
    run = run_in(folder)
    run("make", "adopt", f"DATA={tmp_path / 'table.csv'}", "LABEL=target")
    run("make", "check")
    run("make", "test")
