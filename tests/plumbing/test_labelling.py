"""`make label`: labels that have come meet the predictions of their window; and steps that run again by themselves."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from batchloop import labelling
from batchloop.container import usecase
from batchloop.container.job import InputError
from batchloop.engine import graph
from batchloop.engine.graph import Selection
from batchloop.pipelines.expressions import Node
from data.sample import Shift, customers
from plumbing.engine_miniature import USECASE, Miniature, copied

FOLDERS = ("batchloop", "components", "pipelines", "infra", "environments", "data", "locks")
ROWS = 2000


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """This repository with the sample's contract, trained with a quick fit, and its new rows scored."""
    root = tmp_path_factory.mktemp("labelled") / "repository"
    copied(root, FOLDERS, num_iterations=30)
    command = [sys.executable, "-m", "data.sample", "--rows", str(ROWS), "--output", "data/sample"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    mini = Miniature(root)
    mini.run("adopt", "--data", "data/sample/train/customers.csv", "--label", "churned")
    shutil.rmtree(root / "data/adopted/production", ignore_errors=True)
    (root / "data/adopted/production").mkdir()
    truth().drop("churned").write_csv(root / "data/adopted/production/customers.csv")
    mini.run("train")
    assert "make label DATA=file" in mini.run("score")
    return mini


def truth() -> pl.DataFrame:
    return customers(ROWS // 2, 8, Shift(), first=ROWS + 1)


def given(copy: Miniature, table: pl.DataFrame, name: str = "labels.csv") -> str:
    table.write_csv(copy.root / name)
    return name


def drift(copy: Miniature) -> dict[str, Any]:
    newest = max(copy.root.glob("local/storage/**/DetectDrift/drift/drift.json"), key=lambda file: file.stat().st_mtime)
    return dict(json.loads(newest.read_text()))


def test_labels_are_measured_and_kept_and_their_rows_can_be_learned_from(copy: Miniature) -> None:
    labels = truth().select("customer_id", "churned")
    said = copy.run("label", "--data", given(copy, labels))
    found = drift(copy)["realised"]
    predictions = pl.read_parquet(copy.stored("**/ScoreFeatures/predictions/**/*.out")[0])
    joined = predictions.join(labels, on="customer_id")
    assert found["value"] == pytest.approx(roc_auc_score(joined["churned"] == "yes", joined["score"]))
    assert set(copy.states()) == {"DetectDrift"}
    assert "1,000 rows have a prediction and a label, 100 % of those scored" in said
    learned = pl.read_parquet(copy.root / "data/adopted/train/labelled.parquet")
    assert learned.height == ROWS // 2
    assert set(learned.columns) == set(truth().columns)


def test_later_labels_join_the_earlier_ones_and_correct_them(copy: Miniature) -> None:
    labels = truth().select("customer_id", "churned")
    copy.run("label", "--data", given(copy, labels.head(600)))
    other = {"yes": "no", "no": "yes"}
    corrected = labels[500:900].with_columns(pl.col("churned").replace_strict(other))
    said = copy.run("label", "--data", given(copy, corrected))
    assert "labels.csv: 400 rows with labels, 0 of them of no scored row; 1,000 with those of earlier files" in said
    assert ", of which 400 had another label that this file replaces" in said
    kept = pl.read_parquet(copy.root / "data/adopted/labels/labels.parquet")
    assert kept.height == kept["customer_id"].n_unique()
    changed = kept.join(labels, on="customer_id", suffix="_before").filter(
        pl.col("churned") != pl.col("churned_before")
    )
    assert changed.height == 400
    copy.run("label", "--data", given(copy, labels))


REFUSED: dict[str, tuple[pl.DataFrame, str]] = {
    "no label": (truth().select("customer_id"), "labels.csv has no column 'churned': labels are a table with"),
    "no id": (truth().select("churned"), "labels.csv has no column 'customer_id'"),
    "other ids": (
        truth().select(pl.lit("x").alias("customer_id"), "churned").head(3),
        "none of its 3 ids ('x', 'x', 'x' …) is among the 1,000 rows that were scored",
    ),
    "other labels": (
        truth().select("customer_id", pl.lit("maybe").alias("churned")),
        "column 'churned' holds 'maybe', and a label is one of no, yes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nonsense_is_refused_in_a_sentence_and_changes_nothing(copy: Miniature, name: str) -> None:
    table, expected = REFUSED[name]
    before = sorted((file, file.stat().st_mtime_ns) for file in (copy.root / "data").rglob("*.parquet"))
    said = copy.run("label", "--data", given(copy, table), code=1)
    assert expected in said
    assert "Traceback" not in said
    assert sorted((file, file.stat().st_mtime_ns) for file in (copy.root / "data").rglob("*.parquet")) == before


def test_what_is_missing_is_said(copy: Miniature) -> None:
    assert "DATA=file is needed" in copy.run("label", code=1)
    assert "nowhere.csv: no such file or folder" in copy.run("label", "--data", "nowhere.csv", code=1)
    said = copy.run("label", "--data", given(copy, truth()), "--window", "2026-01", code=1)
    assert "put its rows into data/2026-01/production/, run `make score`" in said


def test_labels_of_rows_that_data_named_are_measured_and_kept_apart_from_the_windows(copy: Miniature) -> None:
    before = sorted((file, file.stat().st_mtime_ns) for file in (copy.root / "data").rglob("*") if file.is_file())
    rows = customers(700, 9, first=2 * ROWS)
    rows.drop("churned").write_csv(copy.root / "new_rows.csv")
    assert "make label DATA=file" in copy.run("score", "--data", "new_rows.csv")
    run = max((copy.root / "local/runs").iterdir()).name
    labels = rows.select("customer_id", "churned").head(600)
    said = copy.run("label", "--data", given(copy, labels))
    assert f"new_rows.csv was scored in run {run}" in said
    assert "600 rows have a prediction and a label, 86 % of those scored" in said
    assert pl.read_parquet(copy.root / f"local/labels/{run}/labels.parquet").height == 600
    after = sorted((file, file.stat().st_mtime_ns) for file in (copy.root / "data").rglob("*") if file.is_file())
    assert after == before
    of_window = given(copy, truth().select("customer_id", "churned"))
    assert "none of its 1,000 ids" in copy.run("label", "--data", of_window, code=1)
    assert "window adopted was scored" in copy.run("label", "--data", of_window, "--window", "adopted")
    said = copy.run("label", "--data", of_window, "--window", "2026-01", code=1)
    assert "The last scoring was of new_rows.csv: leave WINDOW= out" in said


@pytest.fixture
def scored(tmp_path: Path) -> labelling.Scored:
    """A window whose January and February rows were scored."""
    for name in ("january", "february"):
        batch(tmp_path / "w/production", name, "x")
    return labelling.Scored({}, tmp_path / "w/production", "w", tmp_path / "w/labels", "window w")


def batch(folder: Path, name: str, *columns: str) -> Path:
    """A month's file: its rows differ from those of other months."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame({"x": [float(len(name)), None, 2.5], "y": ["no", "yes", "no"]})
    table.select(columns).write_csv(folder / f"{name}.csv")
    return folder / f"{name}.csv"


def test_without_an_id_the_labels_of_rows_scored_earlier_make_way_for_those_of_the_rows_scored_now(
    tmp_path: Path, scored: labelling.Scored
) -> None:
    case = usecase.parse(tomllib.loads(USECASE))
    for name in ("january", "february"):
        labelling._by_row(case, batch(tmp_path, name, "x", "y"), scored)
    assert {file.name for file in scored.labels.iterdir()} == {"january.csv", "february.csv"}
    (scored.rows / "january.csv").unlink()
    (scored.rows / "february.csv").unlink()
    batch(scored.rows, "march", "x")
    with pytest.raises(InputError, match=r"february.csv holds other rows than those that were scored of window w"):
        labelling._by_row(case, tmp_path / "february.csv", scored)
    assert {file.name for file in scored.labels.iterdir()} == {"january.csv", "february.csv"}
    labelling._by_row(case, batch(tmp_path, "march", "x", "y"), scored)
    assert {file.name for file in scored.labels.iterdir()} == {"march.csv"}


# selective execution


def nodes(**needs: list[str]) -> dict[str, Node]:
    steps = [{"Name": name, "Type": "Processing", "DependsOn": needed} for name, needed in needs.items()]
    return graph.nodes({"Steps": steps})


LINE = nodes(a=[], b=["a"], c=["b"], d=["c"])


def record(folder: Path, **changes: Any) -> Path:
    done = {"state": "done", "seconds": 1.0, "message": "", "properties": {"Out": "x"}}
    value = {"execution": "run-1", "started": "2026-11-01", "parameters": {}, "pipeline": "p", "state": "done"}
    value |= {"steps": {"b": done}, **changes}
    (folder / "run-1").mkdir()
    (folder / "run-1" / "run.json").write_text(json.dumps(value))
    return folder


def test_a_selected_step_runs_with_what_another_execution_left(tmp_path: Path) -> None:
    chosen, results = graph.selected(LINE, Selection(("c",), "run-1"), "p", record(tmp_path))
    assert (set(chosen), chosen["c"].needs, results) == ({"c"}, frozenset(), {"b": {"Out": "x"}})
    chosen, _ = graph.selected(LINE, Selection(("c", "d"), "run-1"), "p", tmp_path)
    assert [set(chosen[name].needs) for name in "cd"] == [set(), {"c"}]
    chosen, results = graph.selected(LINE, Selection(("a",)), "p", tmp_path)
    assert (set(chosen), results) == ({"a"}, {})


@pytest.mark.parametrize(
    ("selection", "changes", "said"),
    [
        (Selection(()), {}, "1 to 50 steps, not 0"),
        (Selection(("x",)), {}, "there is no step x; there are a, b, c, d"),
        (Selection(("a", "c"), "run-1"), {}, "have to be selected too: b"),
        (Selection(("c",)), {}, "depend on b: no execution of p has ended here with its results"),
        (Selection(("c",), "run-2"), {}, "depend on b: no execution run-2 of p has ended here"),
        (Selection(("c",), "run-1"), {"pipeline": "q"}, "no execution run-1 of p has ended"),
        (Selection(("c",), "run-1"), {"state": "running"}, "no execution run-1 of p has ended"),
        (Selection(("d",), "run-1"), {}, "depend on c: no execution run-1 of p has ended here with its results"),
    ],
)
def test_a_selection_is_refused_where_the_service_refuses_it(
    tmp_path: Path, selection: Selection, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        graph.selected(LINE, selection, "p", record(tmp_path, **changes))


def test_labels_that_contradict_or_are_unknown_are_not_learned_from(copy: Miniature) -> None:
    labels = truth().select("customer_id", "churned")
    other = {"yes": "no", "no": "yes"}
    twice = labels.head(40).with_columns(pl.col("churned").replace_strict(other))
    odd = labels[40:60].with_columns(pl.lit("maybe").alias("churned"))
    said = copy.run(
        "label", "--window", "adopted", "--data", given(copy, pl.concat([labels.head(40), twice, odd, labels[60:]]))
    )
    assert "0 of them of no scored row" in said
    assert pl.read_parquet(copy.root / "data/adopted/train/labelled.parquet").height == ROWS // 2 - 60
    copy.run("label", "--window", "adopted", "--data", given(copy, labels))


def test_lines_that_are_cut_off_are_said(copy: Miniature) -> None:
    file = copy.root / given(copy, truth().select("customer_id", "churned"))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:5], lines[5].split(",")[0], f"{lines[6]},x", *lines[7:]]) + "\n")
    said = copy.run("label", "--window", "adopted", "--data", file.name)
    assert "2 lines have too few or too many cells and tell nothing" in said
    copy.run("label", "--window", "adopted", "--data", given(copy, truth().select("customer_id", "churned")))


def test_a_model_that_has_learned_from_the_rows_is_not_measured_by_them(copy: Miniature) -> None:
    copy.run("label", "--window", "adopted", "--data", given(copy, truth().select("customer_id", "churned")))
    assert "has learned from these rows" not in copy.run("score")
    assert drift(copy)["realised"]
    copy.run("train", "--fresh")
    assert "has learned from these rows" in copy.run("score")
    assert drift(copy)["realised"] is None
