"""The sample keeps the contract in usecase.toml, carries a signal, and moves only as far as it is told."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from data import sample
from plumbing.rendered import ROOT


def matrix(table: pl.DataFrame) -> pl.DataFrame:
    features = table.drop("customer_id", "churned").with_columns(pl.col("signed_up_on").dt.epoch("d"))
    return features.with_columns(pl.col(pl.String).cast(pl.Enum(sorted(set(sample.CITIES) | WORDS))).to_physical())


WORDS = {*sample.PLANS, *sample.PAYMENTS, *sample.REGIONS, "wallet", "yes", "no"}


def score(trained: HistGradientBoostingClassifier, table: pl.DataFrame) -> float:
    predicted = trained.predict_proba(matrix(table).cast(pl.Float64).to_numpy())[:, 1]
    return float(roc_auc_score(table["churned"] == "yes", predicted))


@pytest.fixture(scope="module")
def trained() -> HistGradientBoostingClassifier:
    table = sample.customers(8000, seed=1)
    features, left = matrix(table).cast(pl.Float64).to_numpy(), (table["churned"] == "yes").to_numpy()
    return HistGradientBoostingClassifier(learning_rate=0.05, max_iter=120, early_stopping=False).fit(features, left)


def test_the_same_seed_gives_the_same_table_and_another_seed_another() -> None:
    assert sample.customers(500, seed=1).equals(sample.customers(500, seed=1))
    assert not sample.customers(500, seed=1).equals(sample.customers(500, seed=2))


def test_a_model_can_learn_it_but_not_perfectly(trained: HistGradientBoostingClassifier) -> None:
    assert 0.78 < score(trained, sample.customers(5000, seed=2)) < 0.88


def test_a_shift_of_concept_costs_the_model_and_drift_alone_hardly(trained: HistGradientBoostingClassifier) -> None:
    before = score(trained, sample.customers(5000, seed=3))
    assert score(trained, sample.customers(5000, seed=3, shift=sample.Shift(concept=0.6))) < before - 0.2
    assert score(trained, sample.customers(5000, seed=3, shift=sample.Shift(drift=0.5))) > before - 0.06


def test_drift_brings_new_categories_and_more_gaps() -> None:
    calm, moved = (sample.customers(5000, seed=4, shift=sample.Shift(drift=drift)) for drift in (0.0, 0.8))
    assert "wallet" not in calm["payment_method"]
    assert "wallet" in moved["payment_method"]
    assert moved["days_since_login"].null_count() > 2 * calm["days_since_login"].null_count()


def test_labelled_rows_and_new_ones_are_written_as_a_window(tmp_path: Path) -> None:
    sample.write(tmp_path / "sample", 2000, seed=7, shift=sample.Shift(drift=1.0))
    train, production = (pl.read_csv(tmp_path / "sample" / part / "customers.csv") for part in ("train", "production"))
    assert (train.height, production.height) == (2000, 1000)
    assert train.drop("churned").columns == production.columns
    assert not set(train["customer_id"]) & set(production["customer_id"])
    later = pl.read_csv(tmp_path / "sample" / "later" / "customers.csv")
    assert later.columns == ["customer_id", "churned"]
    assert later["customer_id"].to_list() == production["customer_id"].to_list()
    assert (tmp_path / "window").read_text() == "sample\n"


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        sample.write(tmp_path / name, 300, seed=7, shift=sample.Shift(drift=0.5, concept=0.5))
    for part in ("train", "production"):
        first, second = (tmp_path / name / part / "customers.csv" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_a_window_holds_one_file_whatever_was_there_before(tmp_path: Path) -> None:
    for extension in ("csv", "parquet"):
        sample.write(tmp_path / "sample", 300, 7, sample.Shift(), extension)
    assert [file.name for file in (tmp_path / "sample" / "train").iterdir()] == ["customers.parquet"]
    assert pl.read_parquet(tmp_path / "sample" / "train").equals(sample.customers(300, 7))


def test_a_knob_out_of_range_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data.sample", "--drift", "2", "--output", str(tmp_path / "x")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "from 0 to 1" in done.stderr
    assert not (tmp_path / "x").exists()
