"""Facts are of the same rows, decisions near a limit take the exact count, and a wide table costs its width."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from plumbing.test_adopt import BEFORE, asked, rows, run
from plumbing.test_adopt_edges import adopted, types

COUNT = 300


def unlabelled(table: pl.DataFrame, count: int) -> pl.DataFrame:
    """The table with rows that have no label, and nothing but an amount."""
    more = pl.DataFrame({"amount": [1.5] * count}, schema={"amount": pl.Float64})
    return pl.concat([table, more], how="diagonal")


def draw(values: list[Any], count: int = COUNT) -> list[Any]:
    return [values[n] for n in np.random.default_rng(3).integers(0, len(values), count)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_is_empty_only_where_the_label_is_gives_nothing_away(tmp_path: Path, kind: str) -> None:
    table = rows(COUNT, town=draw(["Oslo", "Rome"]), size=draw([1.5, 2.5, 3.5]), key=[f"k{n}" for n in range(COUNT)])
    table = unlabelled(table.rename({"key": "customer_id"}), 40)
    found = adopted_with_gaps(tmp_path, table, kind)
    assert types(found) == {"town": "category", "size": "number"}
    assert "customer_id" in found["data"]["id"]


def adopted_with_gaps(folder: Path, table: pl.DataFrame, kind: str) -> dict[str, Any]:
    """The contract of a table whose unlabelled rows have no id: such rows break it, and are few enough."""
    return adopted(folder, table.with_columns(pl.col("customer_id").fill_null("later")), name=f"table.{kind}")


def test_what_is_alike_in_all_labelled_rows_is_nothing_to_learn_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = unlabelled(rows(COUNT, state=["done"] * COUNT), 40)
    state = pl.when(pl.col("target").is_null()).then(pl.lit("open")).otherwise(pl.col("state"))
    assert types(adopted(tmp_path, table.with_columns(state.alias("state")))) == {}
    assert "is 'done' in every row" in capsys.readouterr().out


def test_rows_without_a_label_are_counted_and_empty_ones_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = unlabelled(rows(COUNT, town=draw(["Oslo", "Rome"])), 40).write_csv() + ",,\n" * 60
    adopted(tmp_path, text.encode())
    said = capsys.readouterr().out
    assert "table.csv: 340 rows" in said
    assert "40 rows have no label" in said


def test_a_table_without_any_label_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = asked(tmp_path, unlabelled(rows(0).cast({"amount": pl.Float64}), 40), capsys)
    assert code == 1
    assert "the label has no value in any of 40 rows" in said


@pytest.mark.parametrize("classes", [["yes", "no"], ["a", "b", "c"]])
def test_a_value_in_all_rows_of_one_class_and_in_no_other_gives_it_away(tmp_path: Path, classes: list[str]) -> None:
    labels = draw(classes)
    table = rows(COUNT).with_columns(
        pl.Series("target", labels),
        pl.Series(
            "ended", [f"2024-01-0{1 + n % 9}" if label == classes[0] else None for n, label in enumerate(labels)]
        ),
        pl.Series("hint", [f"h{n % 3}" if label == classes[0] and n % 9 else None for n, label in enumerate(labels)]),
    )
    found = adopted(tmp_path, table)
    assert types(found) == ({"hint": "category"} if len(classes) == 2 else {"ended": "date", "hint": "category"})


def underestimated(count: int) -> list[str]:
    """Distinct texts of which the fast estimate finds the fewest."""

    def estimate(texts: list[str]) -> int:
        counted = pl.LazyFrame({"t": texts}).select(pl.col("t").approx_n_unique())
        return int(counted.collect(engine="streaming").item())

    return min(([f"{seed}-{n}" for n in range(count)] for seed in range(300)), key=estimate)


def test_an_id_is_found_where_the_estimate_of_its_values_is_low(tmp_path: Path) -> None:
    assert adopted(tmp_path, rows(1000, customer_id=underestimated(1000)))["data"]["id"] == "customer_id"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("over", [-1, 1])
def test_more_values_than_half_of_the_rows_are_counted_one_by_one(tmp_path: Path, seed: int, over: int) -> None:
    distinct = 1000 + over
    texts = [f"{seed}x{n % distinct}" for n in range(2000)]
    assert types(adopted(tmp_path, rows(2000, word=texts))) == ({} if over > 0 else {"word": "category"})


@pytest.mark.parametrize("seed", range(3))
def test_many_values_that_each_go_with_one_class_give_it_away(tmp_path: Path, seed: int) -> None:
    count, values = 10_000, 200
    place = np.random.default_rng(seed).integers(0, values, count)
    table = rows(count).with_columns(
        pl.Series("target", ["yes" if value % 3 else "no" for value in place]),
        pl.Series("branch", [f"{seed}b{value}" for value in place]),
    )
    assert types(adopted(tmp_path, table)) == {}


def wide(columns: int, count: int = 150) -> pl.DataFrame:
    random = np.random.default_rng(5)
    numbers = pl.DataFrame(random.normal(0, 1, (count, columns)).round(3), schema=[f"n{n}" for n in range(columns)])
    words = pl.DataFrame({f"w{n}": draw(["a", "b", "c"], count) for n in range(columns // 10)})
    return rows(count).hstack(numbers).hstack(words)


def test_time_grows_no_faster_than_the_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def seconds(columns: int) -> float:
        (tmp_path / "usecase.toml").write_text(BEFORE)
        wide(columns).write_csv(tmp_path / "table.csv")
        started = time.process_time()
        assert run(tmp_path, tmp_path / "table.csv", "--label", "target") == 0
        return time.process_time() - started

    seconds(20)
    assert seconds(800) < 6 * seconds(200)
    said = capsys.readouterr().out
    assert "… and 781 more" in said
    assert len(said.splitlines()) < 400
