"""Adopting a table: what real files hold becomes a contract that reads them cleanly, a question, or one sentence."""

import gzip
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import datasets

from batchloop.adopt.adopting import main
from batchloop.container import raw, usecase

# what a repository starts with, less what adopting must not need
BEFORE = """
[usecase]
name = "case"
title = "A case"
[data]
task = "binary"                    # binary | multiclass | regression
id = "old_id"
label = "old_label"
classes = ["0", "1"]
time = ""
missing = [""]
separator = ","
[columns]                          # what the model may look at
old = { type = "number" }
[split]
method = "random"                  # random | time | given
[hyperparameters]
learning_rate = 0.05               # smaller learns slower and usually better
[gate]
metric = "auc"                     # on the test split
minimum = 0.7
minimum_lead = -0.005
"""
Adopt = Callable[..., dict[str, Any]]


def rows(count: int = 120, **columns: Any) -> pl.DataFrame:
    """A table with a label and one ordinary number, and whatever columns a test adds."""
    random = np.random.default_rng(1)
    base = {
        "amount": random.normal(100, 20, count).round(2),
        "target": ["yes" if n % 3 else "no" for n in range(count)],
    }
    return pl.DataFrame(base | columns)


def run(folder: Path, data: Path, *options: str) -> int:
    arguments = ["--data", str(data), "--usecase", str(folder / "usecase.toml"), "--folder", str(folder / "data")]
    return main([*arguments, *options])


@pytest.fixture
def adopt(tmp_path: Path) -> Adopt:
    """Adopt a frame written as CSV (or other text); the answer is the new usecase.toml, proven to read the table."""
    (tmp_path / "usecase.toml").write_text(BEFORE)

    def adopted(table: pl.DataFrame | str | bytes, *options: str, name: str = "table.csv") -> dict[str, Any]:
        file = tmp_path / name
        if isinstance(table, pl.DataFrame):
            table.write_parquet(file) if name.endswith(".parquet") else table.write_csv(file)
        else:
            file.write_bytes(table.encode() if isinstance(table, str) else table)
        label = () if "--label" in options else ("--label", "target")
        assert run(tmp_path, file, *label, *options) == 0
        prove(tmp_path)
        return tomllib.loads((tmp_path / "usecase.toml").read_text(encoding="utf-8"))

    return adopted


def prove(folder: Path) -> None:
    """The contract is valid and reads every row of the placed data without a broken cell."""
    case = usecase.load(folder / "usecase.toml")
    assert (folder / "data" / "window").read_text() == "adopted\n"
    for part in ("train", "production"):
        frame = raw.read(folder / "data" / "adopted" / part, case, labelled=True).frame.collect()
        assert not frame[raw.BROKEN].any()
        assert not frame.select(pl.any_horizontal(pl.col("^__invalid:.*$")).any()).item()


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "iris", "digits", "diabetes"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_that_everybody_knows_are_adopted_without_a_question(adopt: Adopt, name: str, kind: str) -> None:
    table = pl.from_pandas(getattr(datasets, f"load_{name}")(as_frame=True).frame)
    found = adopt(table, name=f"table.{kind}")
    task = {"breast_cancer": "binary", "diabetes": "regression"}.get(name, "multiclass")
    assert found["data"]["task"] == task
    assert len(found["columns"]) >= 4
    assert found["gate"]["metric"] in {"binary": "auc", "multiclass": "log_loss", "regression": "rmse"}[task]


def test_what_is_later_written_into_the_window_does_not_reach_the_original(adopt: Adopt, tmp_path: Path) -> None:
    adopt(rows())
    before = (tmp_path / "table.csv").read_bytes()
    (tmp_path / "data" / "adopted" / "production" / "table.csv").write_text("other rows")
    assert (tmp_path / "table.csv").read_bytes() == before


def test_other_tables_and_comments_of_usecase_toml_stay(adopt: Adopt, tmp_path: Path) -> None:
    before = tomllib.loads((tmp_path / "usecase.toml").read_text())
    after = adopt(rows())
    for name in set(before) - {"data", "columns", "gate"}:
        assert after[name] == before[name]
    assert "# smaller learns slower" in (tmp_path / "usecase.toml").read_text()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_marks_and_quoted_headers_are_understood(adopt: Adopt, separator: str) -> None:
    table = rows().rename({"amount": f"the amount.{separator} in €"})
    found = adopt(b"\xef\xbb\xbf" + table.write_csv(separator=separator).encode())
    assert found["data"]["separator"] == separator
    assert list(found["columns"]) == [f"the amount.{separator} in €"]


def test_a_gzipped_table_is_read(adopt: Adopt) -> None:
    found = adopt(gzip.compress(rows().write_csv().encode()), name="table.csv.gz")
    assert list(found["columns"]) == ["amount"]


def test_gaps_in_numbers_are_told_from_text(adopt: Adopt) -> None:
    values = [["?", "", "12.5", "n.a.", "-", "7"][n % 6] for n in range(120)]
    found = adopt(rows(income=values))
    assert found["columns"]["income"]["type"] == "number"
    assert {"?", "n.a.", "-"} <= set(found["data"]["missing"])


def test_one_odd_marker_at_the_end_of_a_long_column_is_found(adopt: Adopt) -> None:
    found = adopt(rows(5000, income=[str(n % 700) for n in range(4999)] + ["--"]))
    assert found["columns"]["income"]["type"] == "number"
    assert "--" in found["data"]["missing"]


def test_types_are_told_by_their_values(adopt: Adopt) -> None:
    count = 120
    found = adopt(
        rows(
            words=[("Yes", "NO")[n % 2] for n in range(count)],
            flags=[n % 2 for n in range(count)],
            town=[("Oslo", "Rome", "Bonn")[n % 3 if n else 1] for n in range(count)],
            zip=[10115 + n % 7 for n in range(count)],
            padded=[f"0{n % 9}" for n in range(count)],
            day=[f"2024-{1 + n % 12:02}-17" for n in range(count)],
            german=[f"17.{1 + n % 12:02}.2024" for n in range(count)],
            at=[f"2024-03-{1 + n % 28:02}T10:{n % 60:02}:00" for n in range(count)],
        )
    )
    types = {name: column["type"] for name, column in found["columns"].items()}
    assert types["words"] == "boolean"
    assert types["flags"] == "number"
    assert types["town"] == types["zip"] == types["padded"] == "category"
    assert types["day"] == types["german"] == types["at"] == "date"
    assert found["columns"]["german"]["format"] == "%d.%m.%Y"


def test_what_can_t_be_learned_from_is_left_out_and_said(adopt: Adopt, capsys: pytest.CaptureFixture[str]) -> None:
    count = 120
    found = adopt(
        rows(
            constant=["x"] * count,
            empty=[None] * count,
            note=[f"customer number {n} called again about the matter" for n in range(count)],
            token=[f"{n * 7919 % 9973:x}z" for n in range(count)],
            answer=["good" if n % 3 else "bad" for n in range(count)],
            comma=[f"{n},5" for n in range(count)],
            counter=list(range(5, count + 5)),
        )
    )
    assert list(found["columns"]) == ["amount", "note", "comma"]
    assert found["columns"]["note"]["type"] == "text"
    assert found["columns"]["comma"]["format"] == "1234,5"
    said = capsys.readouterr().out
    for reason in (
        "in every row",
        "no value in any row",
        "free text",
        "same as the label",
        "ID=counter",
    ):
        assert reason in said, reason


def test_an_id_is_found_used_and_kept_from_the_model(adopt: Adopt) -> None:
    found = adopt(rows(customer_id=[f"c{n}" for n in range(120)]))
    assert found["data"]["id"] == "customer_id"
    assert "customer_id" not in found["columns"]
    again = adopt(rows(reference=[f"r{n}" for n in range(120)]), "--id", "reference")
    assert again["data"]["id"] == "reference"


def test_the_positive_class_is_yes_or_the_rarer_one(adopt: Adopt) -> None:
    assert adopt(rows())["data"]["classes"] == ["no", "yes"]
    letters = pl.Series("target", ["b" if n % 5 else "a" for n in range(120)])
    assert adopt(rows().with_columns(letters))["data"]["classes"] == ["b", "a"]


def test_rows_with_a_blank_label_are_counted_and_stay_out_of_the_classes(
    adopt: Adopt, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = pl.Series("target", ["" if n < 7 else "yes" if n % 2 else "no" for n in range(120)])
    assert adopt(rows().with_columns(labels))["data"]["classes"] == ["no", "yes"]
    assert "7 rows have no label" in capsys.readouterr().out


def test_a_time_column_splits_by_it_and_says_hour_and_weekday_alone(adopt: Adopt) -> None:
    found = adopt(rows(day=[f"2024-{1 + n % 12:02}-17" for n in range(120)]), "--time", "day")
    assert (found["data"]["time"], found["data"]["time_format"]) == ("day", "%Y-%m-%d")
    assert found["split"]["method"] == "time"
    assert found["columns"]["day"] == {"type": "date", "format": "%Y-%m-%d", "drift": False}
    assert adopt(rows())["split"]["method"] == "random"


def asked(folder: Path, table: pl.DataFrame, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """The exit code and what was said, after making sure that nothing was written."""
    (folder / "usecase.toml").write_text(BEFORE)
    table.write_csv(folder / "table.csv")
    code = run(folder, folder / "table.csv", "--label", "target", *options)
    said = capsys.readouterr().err
    if code:
        assert (folder / "usecase.toml").read_text() == BEFORE
        assert not (folder / "data").exists()
        assert said.count("\n") == 1
    return code, said


@pytest.mark.parametrize("text", ["[data\n", 'name = "x', "a = 1\na = 2\n"])
def test_a_usecase_toml_that_is_none_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "usecase.toml").write_text(text)
    rows().write_csv(tmp_path / "table.csv")
    assert run(tmp_path, tmp_path / "table.csv", "--label", "target") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "usecase.toml is not valid TOML" in said
    assert (tmp_path / "usecase.toml").read_text() == text


def test_a_date_that_can_be_read_two_ways_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(day=[f"0{1 + n % 9}/0{1 + n % 7}/2024" for n in range(120)])
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert "DATES=%d/%m/%Y or DATES=%m/%d/%Y" in said
    assert asked(tmp_path, table, capsys, "--dates", "%m/%d/%Y")[0] == 0


def test_a_label_that_could_be_classes_or_amounts_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = rows().with_columns(pl.Series("target", [n % 30 for n in range(120)]))
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert "TASK=multiclass or TASK=regression" in said
    assert asked(tmp_path, table, capsys, "--task", "regression")[0] == 0


IMPOSSIBLE: list[tuple[pl.DataFrame, tuple[str, ...], str]] = [
    (rows().drop("target"), (), "has no column 'target' (LABEL)"),
    (rows(), ("--id", "nobody"), "has no column 'nobody' (ID)"),
    (rows().with_columns(pl.lit("yes").alias("target")), (), "nothing to learn"),
    (rows().select("target"), (), "no column to learn from"),
    (rows().head(0), (), "a header and no rows"),
    (rows(), ("--time", "amount"), "holds no dates"),
    (rows(), ("--task", "multiclass"), "three or more"),
    (rows(key=[None if n % 4 else f"k{n}" for n in range(120)]), ("--id", "key"), "90 of 120 rows are like that"),
]


@pytest.mark.parametrize(("table", "options", "sentence"), IMPOSSIBLE)
def test_an_impossible_table_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: pl.DataFrame, options: tuple[str, ...], sentence: str
) -> None:
    code, said = asked(tmp_path, table, capsys, *options)
    assert code == 1
    assert sentence in said


@pytest.mark.parametrize("name", ["__file", "^.*$"])
def test_a_name_that_is_taken_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, said = asked(tmp_path, rows().with_columns(pl.lit(1).alias(name)), capsys)
    assert code == 1
    assert f"column {name!r}" in said


def test_a_column_that_stands_there_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "usecase.toml").write_text(BEFORE)
    (tmp_path / "table.csv").write_text("a,a,target\n1,2,yes\n3,4,no\n")
    assert run(tmp_path, tmp_path / "table.csv", "--label", "target") == 1
    assert "'a' more than once" in capsys.readouterr().err


names_of_columns = st.text(min_size=1, max_size=8).filter(lambda text: text.strip(" \r\n\x00"))
names_of_measures = st.sampled_from(["count", "sum", "label", "len", "rows", "varies", "row", "value", "index"])
headers = st.lists(st.one_of(names_of_columns, names_of_measures), min_size=2, max_size=5, unique=True)
words = st.sampled_from(["yes", "no", "?", "1,5", "2024-01-02", "01/02/2024"])
cells = st.one_of(st.integers(), st.floats(), st.none(), st.text(max_size=6), words)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(headers, st.data())
def test_no_table_ends_in_a_traceback(names: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    columns = {name: [str(data.draw(cells)) for _ in range(count)] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "usecase.toml").write_text(BEFORE)
        pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String)).write_csv(folder / "table.csv")
        code = run(folder, folder / "table.csv", f"--label={names[0]}")
        assert code in (0, 1, 2)
        if code == 0:
            usecase.load(folder / "usecase.toml")
