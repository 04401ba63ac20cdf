"""Predictions as a table of the Glue Data Catalog: its columns, and a partition a window. moto stands for Glue."""

import io
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.parsers import ResponseParserError
from moto import mock_aws

from batchloop.cloud import stack as sent
from batchloop.container import server, tables
from batchloop.container.job import InputError
from batchloop.container.metrics import FORECAST
from batchloop.pipelines import definitions
from plumbing import deployed
from plumbing.control_plane import BUCKET, WINDOW, World
from plumbing.stack.template import Stack

DATABASE = "team_case_dev"
TABLE = {"DatabaseName": DATABASE, "TableName": "predictions"}
PARQUET = {pl.String: "string", pl.Float64: "double"}


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        made = World()
        made.places = replace(made.places, catalog=DATABASE)
        made.publish(1)
        made.messages.clear()
        yield made


@pytest.fixture
def live(world: World) -> World:
    """With the table that the stack makes."""
    stack = Stack(Catalog=DATABASE)
    world.aws.glue.create_database(DatabaseInput=stack.of("AWS::Glue::Database")["CatalogDatabase"]["DatabaseInput"])
    table = stack.of("AWS::Glue::Table")["CatalogTable"]
    world.aws.glue.create_table(DatabaseName=table["DatabaseName"], TableInput=table["TableInput"])
    return world


def partitions(world: World) -> dict[str, str]:
    """The windows' places, after what stands beside them was looked at."""
    found = world.aws.glue.get_partitions(**TABLE)["Partitions"]
    whole = world.aws.glue.get_table(DatabaseName=DATABASE, Name="predictions")["Table"]["StorageDescriptor"]
    for entry in found:
        assert entry["StorageDescriptor"] | {"Location": ""} == whole | {"Location": ""}
        assert len(entry["Values"]) == 1
    return {entry["Values"][0]: entry["StorageDescriptor"]["Location"] for entry in found}


def place(arn: str) -> str:
    return f"s3://{BUCKET}/team/case/dev/inference/{arn.rpartition('/')[2]}/ScoreFeatures/predictions/"


def test_a_run_that_ends_well_makes_its_window_a_partition(live: World) -> None:
    first, second = live.scored("2026-11-23"), live.scored(WINDOW)
    for event in (first, second, second):  # events come more than once
        live.judge(event)
    arns = [event["detail"]["pipelineExecutionArn"] for event in (first, second)]
    assert partitions(live) == {"2026-11-23": place(arns[0]), WINDOW: place(arns[1])}
    found = live.aws.glue.get_partition(**TABLE, PartitionValues=[WINDOW])["Partition"]
    assert found["Parameters"] == {"run": arns[1], "started": "2026-11-24T06:00:00+00:00"}


def test_a_window_that_is_scored_again_has_the_later_run_whichever_event_comes_first(live: World) -> None:
    early = live.scored()
    arn = live.start()
    live.sagemaker.executions[again := f"{arn[:-1]}9"] = dict(live.sagemaker.executions[arn])
    live.put(f"{live.places.runs('inference')}/{again.rpartition('/')[2]}/DetectDrift/drift/drift.json", b"{}")
    live.judge(live.ended(again, start="2026-11-24T07:00:00Z"))
    live.judge(early)
    assert partitions(live) == {WINDOW: place(again)}
    before = live.ended(again, start="2026-11-24T09:00:00Z")
    before["detail"]["pipelineExecutionArn"] = arn
    live.judge(before)
    assert partitions(live) == {WINDOW: place(arn)}


def test_without_a_report_on_drift_predictions_are_there_all_the_same(live: World) -> None:
    arn = live.start()
    assert "is missing or no drift report" in live.judge(live.ended(arn))
    assert partitions(live) == {WINDOW: place(arn)}


def test_a_step_from_the_cache_has_the_place_of_the_run_that_made_it(live: World) -> None:
    live.sagemaker.cached["ScoreFeatures"] = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/p/execution/earlier"
    live.judge(live.scored())
    assert partitions(live) == {WINDOW: place("x/earlier")}


def test_a_run_that_failed_and_a_measurement_by_labels_make_none(live: World) -> None:
    live.judge(live.ended(live.start("2026-11-20"), "Failed"))
    assert partitions(live) == {}
    live.judge(live.scored())
    before = live.aws.glue.get_partition(**TABLE, PartitionValues=[WINDOW])["Partition"]["Parameters"]
    live.arrived(live.label(part="labels"))
    live.judge(live.measured_by_labels())
    assert live.aws.glue.get_partition(**TABLE, PartitionValues=[WINDOW])["Partition"]["Parameters"] == before


def test_a_table_that_is_gone_is_told_and_the_window_is_judged(world: World) -> None:
    said = world.judge(world.scored())
    assert "no drift" in said or "drift" in said
    [told] = [message for message in world.messages if "predictions are not in" in message["Subject"]]
    assert told["Subject"] == f"case dev: {WINDOW}: predictions are not in {DATABASE}.predictions"
    for words in ("EntityNotFoundException", place("x/000000000000"), "team-case-dev-start-inference"):
        assert words in told["Message"], told["Message"]
    assert world.value("inference/latest") != "none"


def test_a_refusal_is_told_and_the_window_is_judged(live: World) -> None:
    def denied(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "Lake Formation"}}, "CreatePartition")

    live.aws.glue.meta.events.register("provide-client-params.glue.CreatePartition", denied, unique_id="denied")
    try:
        live.judge(live.scored())
    finally:
        live.aws.glue.meta.events.unregister("provide-client-params.glue.CreatePartition", unique_id="denied")
    assert [message for message in live.messages if "Lake Formation" in message["Message"]]
    assert partitions(live) == {}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (ReadTimeoutError(endpoint_url="https://glue"), True),
        (ResponseParserError("a proxy's page"), True),
        (KeyError("Partition"), True),
        (RuntimeError("nobody thought of this"), False),
    ],
)
def test_no_verdict_is_lost_whatever_the_catalog_does(live: World, fault: Exception, told: bool) -> None:
    """It is decided and remembered before the catalog is asked: a function that is ended there has lost nothing."""
    known: list[str] = []

    def hang(**_: Any) -> None:
        known.append(live.value("retraining"))
        raise fault

    live.aws.glue.meta.events.register("provide-client-params.glue.GetPartition", hang, unique_id="hang")
    event = live.scored()
    try:
        with nullcontext() if told else pytest.raises(RuntimeError):
            live.judge(event)
    finally:
        live.aws.glue.meta.events.unregister("provide-client-params.glue.GetPartition", unique_id="hang")
    assert WINDOW in known[0]
    assert bool([its for its in live.messages if "predictions are not in" in its["Subject"]]) == told
    live.judge(event)
    assert list(partitions(live)) == [WINDOW]


def test_where_no_table_is_asked_for_glue_is_not_called_and_nothing_is_made(world: World) -> None:
    world.places, world.aws = replace(world.places, catalog=""), replace(world.aws, glue=None)
    world.judge(world.scored())
    assert not [message for message in world.messages if "predictions are not" in message["Subject"]]
    stack = Stack()
    assert not stack.of("AWS::Glue::Database") | stack.of("AWS::Glue::Table")
    assert not [its for its in stack.statements("AfterInferenceRole") if "glue" in str(its)]
    assert "Predictions" not in stack.outputs
    assert Stack(Catalog=DATABASE).outputs["Predictions"] == f"{DATABASE}.predictions"
    assert "CATALOG" not in stack.of("AWS::Lambda::Function")["AfterInference"]["Environment"]["Variables"]
    assert Stack(Catalog=DATABASE).of("AWS::Lambda::Function")["AfterInference"]["Environment"]["Variables"][
        "CATALOG"
    ] == (DATABASE)


PREDICTED = {
    "binary": (["no", "yes"], np.array([0.1, 0.9])),
    "multiclass": (["a", "b", "c"], np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])),
    "regression": ([], np.array([1.5, 2.5])),
    "forecasting": ([], np.arange(2.0 * len(FORECAST)).reshape(2, -1)),
}


@pytest.mark.parametrize("task", PREDICTED)
def test_the_table_has_the_columns_that_a_scoring_run_writes(task: str) -> None:
    classes, predicted = PREDICTED[task]
    identity, errors = pl.Series("id", ["1", "2"]), pl.Series(["", None], dtype=pl.String).replace("", None)
    written = tables.table(identity, predicted, {"task": task, "classes": classes, "threshold": 0.5}, errors)
    columns = Stack(Catalog=DATABASE, IdColumn="id", Task=task).of("AWS::Glue::Table")["CatalogTable"]["TableInput"][
        "StorageDescriptor"
    ]["Columns"]
    known = {column["Name"]: column["Type"] for column in columns}
    assert known == {name: PARQUET[type(written.schema[name])] for name in known}
    rest = set(written.columns) - set(known)
    assert rest == ({f"score:{name}" for name in classes} if task == "multiclass" else set()) | (
        {"seasonal_naive", "seasonal_error", "step"} if task == "forecasting" else set()
    )


def test_predictions_are_packed_as_athena_reads_them() -> None:
    frame, wanted = pl.DataFrame({"id": ["1"] * 1000, "error": [None] * 1000}), io.BytesIO()
    frame.write_parquet(wanted, compression="snappy")
    assert server.write(frame, server.PARQUET) == wanted.getvalue()


def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_column: str, catalog: str = "true") -> Any:
    repository = deployed.repository(tmp_path, monkeypatch)
    file = repository.root / "environments" / "dev.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("catalog = ")]
    file.write_text("\n".join([f"catalog = {catalog}", *lines]))
    usecase = repository.root / "usecase.toml"
    usecase.write_text(usecase.read_text().replace('id = "id"', f'id = "{id_column}"'))
    environment = definitions.read(repository)[1]
    return sent.parameters(repository, environment, sent.template(repository.root, sent.STACK))


@pytest.mark.parametrize(
    ("id_column", "catalog", "expected"),
    [
        ("Customer_ID", "true", (DATABASE, "customer_id", "binary")),
        ("", "true", (DATABASE, "row", "binary")),
        ("window", "false", ("", "window", "binary")),
    ],
)
def test_the_stack_is_told_database_id_and_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_column: str, catalog: str, expected: tuple[str, ...]
) -> None:
    values = parameters(tmp_path, monkeypatch, id_column, catalog)
    assert (values["Catalog"], values["IdColumn"], values["Task"]) == expected


@pytest.mark.parametrize("id_column", ["window", "Score", "LOWER"])
def test_an_id_that_is_another_column_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_column: str
) -> None:
    with pytest.raises(InputError, match=rf"dev\.toml: catalog = true: .* may not be called {id_column.lower()}, as"):
        parameters(tmp_path, monkeypatch, id_column)
