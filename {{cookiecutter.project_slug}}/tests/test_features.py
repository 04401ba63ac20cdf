"""★ What features.py has to hold, whatever the columns of usecase.toml are."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchloop.container.usecase import UseCase
from batchloop.contract.flow import Flow, rows, table
from components.processing import features


@pytest.fixture(scope="module")
def typed(flow: Flow) -> pl.DataFrame:
    return flow.typed(flow.root / "train.parquet")


@pytest.fixture(scope="module")
def learned(case: UseCase, typed: pl.DataFrame) -> list[dict[str, Any]]:
    """As preprocessor.json holds it."""
    made: list[dict[str, Any]] = json.loads(json.dumps(features.fit(typed.lazy(), case.columns, case.features)))
    return made


def test_every_feature_is_described_and_has_the_type_that_the_model_takes(
    learned: list[dict[str, Any]], typed: pl.DataFrame
) -> None:
    made = typed.select(features.transform(learned))
    assert made.columns == [feature["name"] for feature in learned]
    for feature in learned:
        kind = {"category": pl.Enum(feature.get("categories", [])), "image": pl.Binary}.get(feature["kind"], pl.Float32)
        assert made.schema[feature["name"]] == kind, feature["name"]


def test_scoring_computes_the_features_that_training_did(flow: Flow, case: UseCase, tmp_path: Path) -> None:
    outputs = flow.prepare(flow.root / "train.parquet")
    parts = ["train", "test"] if case.split.method == "given" else ["train", "validation", "test"]
    trained = pl.concat([table(outputs[part]) for part in parts])
    batch = pl.read_parquet(flow.root / "train.parquet").drop(case.data.label)
    batch.write_parquet(tmp_path / "new.parquet")
    scored = flow.score(tmp_path / "new.parquet").features
    names = trained.columns[1:-1]  # between the id and the label
    assert trained.select(names).sort(names).equals(scored.select(names).sort(names))


def test_a_row_has_the_same_features_in_any_batch(learned: list[dict[str, Any]], typed: pl.DataFrame) -> None:
    """So nothing is learned from the rows that are to be predicted."""
    whole = typed.select(features.transform(learned))
    alone = pl.concat([typed[row].select(features.transform(learned)) for row in (0, 7, 99)])
    assert alone.equals(whole[[0, 7, 99]])


def test_nothing_is_learned_from_validation_and_test(flow: Flow, case: UseCase, tmp_path: Path) -> None:
    if case.split.method == "given":
        pytest.skip("validation is a table of its own, which fit never sees")
    outputs = flow.prepare(flow.root / "train.parquet")
    before = json.loads((outputs["preprocessor"] / "preprocessor.json").read_text())["features"]
    raw = pl.read_parquet(flow.root / "train.parquet").with_row_index("row", offset=1)
    held = pl.concat([table(outputs[part]) for part in ("validation", "test")])
    identity = pl.col(case.data.id) if case.data.id else pl.format("train:{}", "row")  # of a table without ids
    other = rows(case, len(raw), seed=9).select(column.name for column in case.columns)
    kept = {case.data.time, case.split.group}
    mixed = [
        pl.when(identity.is_in(held[held.columns[0]].implode())).then(other[name]).otherwise(pl.col(name)).alias(name)
        for name in other.columns
        if name not in kept
    ]
    raw.with_columns(mixed).drop("row").write_parquet(tmp_path / "changed.parquet")
    changed = flow.prepare(tmp_path / "changed.parquet")["preprocessor"] / "preprocessor.json"
    assert json.loads(changed.read_text())["features"] == before


def test_a_row_without_any_value_and_one_never_seen_have_an_answer(
    learned: list[dict[str, Any]], typed: pl.DataFrame
) -> None:
    empty = typed[:1].with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in typed.schema.items())
    texts = [pl.lit("never seen").alias(name) for name, kind in typed.schema.items() if kind == pl.String]
    for row in (empty, typed[:1].with_columns(texts)):
        assert row.select(features.transform(learned)).height == 1
