"""What SageMaker asks of every image, for this use case: jobs in both modes, and the server of batch transform."""

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchloop.contract.containers import (
    CSV,
    JOBS,
    LINES,
    PARQUET,
    Contract,
    Server,
    Spec,
    body,
    read,
    serving,
)

every_job = pytest.mark.parametrize("spec", JOBS, ids=lambda spec: spec.name.replace(" ", "-"))


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@every_job
def test_it_reads_its_inputs_and_writes_every_output(contract: Contract, spec: Spec) -> None:
    for name in spec.outputs:
        folder = contract.stored((spec.name, name))
        assert contents(folder), f"{name} is empty"
        assert not [path for path in folder.rglob("*") if path.is_symlink() or path.name.startswith(".")]
    if spec.artifact:
        manifest = json.loads((contract.stored((spec.name, spec.artifact)) / "manifest.json").read_text())
        version = contract.images[spec.component].rpartition(":")[2]
        assert (manifest["component"], manifest["code_version"]) == (spec.component, version)


@every_job
def test_the_same_inputs_give_the_same_bytes(contract: Contract, spec: Spec, tmp_path: Path) -> None:
    code, running = contract.run(spec, tmp_path)
    assert (code, running.failure()) == (0, "")
    for name in spec.outputs:
        assert contents(contract.output(spec, tmp_path, name)) == contents(contract.stored((spec.name, name)))


def test_it_answers_within_two_seconds_of_its_start(contract: Contract, tmp_path: Path) -> None:
    """The best of several starts: other tests are at work on the same processors."""
    taken: list[float] = []
    while len(taken) < 8 and min(taken, default=2.0) >= 2:
        with serving(contract, tmp_path / str(len(taken))) as running:
            taken.append(running.ready)
    assert min(taken) < 2, taken
    print("seconds from docker run to the first /ping:", sorted(taken))


@pytest.mark.parametrize("kind", [PARQUET, CSV, LINES])
def test_every_content_type_gives_the_same_answer_in_the_same_order(
    server: Server, features: pl.DataFrame, schema: dict[str, Any], kind: str
) -> None:
    status, answer = server.invoke(body(features, kind), kind, PARQUET)
    assert status == 200
    wanted = read(server.invoke(body(features, PARQUET), PARQUET)[1])
    found = read(answer)
    assert found[schema["id"]].cast(pl.String).equals(features[schema["id"]].cast(pl.String))
    scores = [name for name in wanted.columns if name.startswith("score")] or ["prediction"]
    assert found.select(scores).equals(wanted.select(scores))
    for other in (CSV, LINES):
        assert len(read(server.invoke(body(features, kind), kind, other)[1], other)) == len(features)


def test_a_missing_column_is_named(server: Server, features: pl.DataFrame, schema: dict[str, Any]) -> None:
    name = schema["features"][0]["name"]
    status, reason = server.invoke(body(features.drop(name), PARQUET), PARQUET)
    assert status == 400
    assert name in reason.decode()


def test_one_wrong_value_spoils_its_own_row_only(
    server: Server, features: pl.DataFrame, schema: dict[str, Any]
) -> None:
    numbers = [feature["name"] for feature in schema["features"] if feature["kind"] != "category"]
    texts = features[:4].with_columns(pl.col(numbers[0]).cast(pl.String))
    wrong = texts.with_columns(
        pl.when(pl.int_range(4) == 2).then(pl.lit("no number")).otherwise(numbers[0]).alias(numbers[0])
    )
    answer = read(server.invoke(body(wrong, CSV), CSV, PARQUET)[1])
    assert answer["error"].is_null().to_list() == [True, True, False, True]
    assert numbers[0] in answer["error"][2]
    assert answer["prediction"].is_null().to_list() == [False, False, True, False]


def test_an_unknown_category_is_scored(server: Server, features: pl.DataFrame, schema: dict[str, Any]) -> None:
    categories = [feature["name"] for feature in schema["features"] if feature["kind"] == "category"]
    strange = features[:3].with_columns(pl.lit("never seen before").alias(name) for name in categories)
    answer = read(server.invoke(body(strange, CSV), CSV, PARQUET)[1])
    assert answer["prediction"].null_count() == 0
