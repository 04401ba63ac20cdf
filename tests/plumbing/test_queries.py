"""Rows of a window by a query end up as uploaded files do, and whatever goes wrong leaves the window as it was."""

import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from batchloop.__main__ import main
from batchloop.cloud import queries
from batchloop.cloud.session import PATIENCE
from batchloop.cloud.upload import Upload, upload
from batchloop.container.job import InputError
from batchloop.control import storage
from batchloop.repository import Repository
from plumbing import deployed, warehouse
from plumbing.control_plane import BUCKET, WINDOW, World, session
from plumbing.test_upload import there
from plumbing.warehouse import ROWS, Warehouse

QUERY = "SELECT * FROM customers WHERE city = 'Zürich'"
UPLOADED = {f"rows-{at:05}.parquet": body.decode() for at, body in enumerate(ROWS)} | {"_SUCCESS": ""}


class Fixture:
    def __init__(self, world: World, repository: Repository) -> None:
        self.world, self.repository, self.house = world, repository, Warehouse(world.aws.s3)

    def setting(self, value: str, key: str = "warehouse") -> None:
        file = self.repository.root / "environments" / "dev.toml"
        lines = [line for line in file.read_text().splitlines() if not line.startswith(f"{key} = ")]
        file.write_text("\n".join([f"{key} = {value}", *lines]))

    def upload(self, query: str = QUERY, window: str = WINDOW, **more: Any) -> int:
        return upload(self.repository, Upload("", window, query=query, **more))

    def failure(self, query: str = QUERY, **more: Any) -> str:
        with pytest.raises(InputError) as raised:
            self.upload(query, **more)
        assert self.staged() == []
        return str(raised.value)

    def staged(self) -> list[str]:
        """Old versions too: a person who is erased is to be in none."""
        found = self.world.aws.s3.list_object_versions(Bucket=BUCKET, Prefix=f"team/case/data/{WINDOW}/_")
        return [entry["Key"] for entry in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]]

    @property
    def states(self) -> list[str]:
        return [query["state"] for query in self.house.queries.values()]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fixture]:
    with mock_aws():
        fixture = Fixture(World(), deployed.repository(tmp_path, monkeypatch))
        aws, house = fixture.world.aws, fixture.house
        versioned: Any = {"Status": "Enabled"}  # as infra/storage.yaml makes it
        aws.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=versioned)
        known = {"sts": session().client("sts"), **{its.name: getattr(aws, its.name) for its in fields(aws)}}
        known |= {"athena": warehouse.athena(house), "redshift-data": warehouse.redshift(house)}
        monkeypatch.setattr("batchloop.cloud.session.connect", lambda *_: known.__getitem__)
        monkeypatch.setattr("batchloop.cloud.session.time.sleep", lambda _: None)
        fixture.setting('"athena:analysts"')
        yield fixture


PLACES = ["athena:analysts", "athena:analysts/sales", "redshift-serverless:team/sales", "redshift:cluster-1/sales"]


@pytest.mark.parametrize("place", PLACES)
def test_rows_of_a_query_end_up_as_uploaded_files_do(
    made: Fixture, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made.setting(f'"{place}"')
    assert made.upload() == 0
    assert there(made.world) == UPLOADED
    assert made.staged() == []
    assert storage.newest_window(made.world.aws, made.world.places) == (WINDOW, [])
    said = capsys.readouterr().out
    assert f"/{WINDOW}/production/ has 2 files (21 bytes) and _SUCCESS. " in said
    assert said.endswith(
        "Athena scanned 12,345,678 bytes, and bills them.\n" if "athena" in place else "Redshift took 3 seconds.\n"
    )


def test_redshift_gets_the_query_in_quotes_and_no_limit_outside(made: Fixture) -> None:
    made.setting('"redshift-serverless:team/sales"')
    assert made.upload(r"SELECT a, '\d' FROM t LIMIT 5") == 0
    [query] = made.house.queries.values()
    assert query["query"] == "SELECT * FROM (\nSELECT a, ''\\\\d'' FROM t LIMIT 5\n) AS selected"


@pytest.mark.parametrize(("setting", "encrypted"), [("false", False), ("true", True)])
def test_redshift_encrypts_with_the_bucket_s_key_where_there_is_one(
    made: Fixture, setting: str, encrypted: bool
) -> None:
    made.setting('"redshift-serverless:team/sales"')
    made.setting(setting, "create_key")
    assert made.upload() == 0
    assert [query["encrypted"] for query in made.house.queries.values()] == [encrypted]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("select 1; -- all", "select 1"),
        ("select 1 ;; /* all; */ -- of it\n; ", "select 1"),
        ("select '; -- it''s', \"a;\" -- b; c", "select '; -- it''s', \"a;\" -- b; c"),
        ("select 4 - 2 / 2 /* ; */ ;", "select 4 - 2 / 2 /* ; */"),
    ],
)
@pytest.mark.parametrize("place", ["redshift:cluster-1/sales"])
def test_nothing_after_a_query_s_semicolon_is_sent(made: Fixture, place: str, given: str, sent: str) -> None:
    made.setting(f'"{place}"')
    assert made.upload(given) == 0
    [query] = made.house.queries.values()
    assert query["query"] == f"SELECT * FROM (\n{sent}\n) AS selected".replace("'", "''")


def test_a_query_in_a_file_with_comments_and_a_semicolon(made: Fixture, tmp_path: Path) -> None:
    file = tmp_path / "customers.SQL"
    text = "\ufeff-- who is scored\nWITH a AS (SELECT 1)\nSELECT * FROM a -- all of them\n;\n"
    file.write_text(text, encoding="utf-8")
    assert made.upload(str(file), part="train") == 0
    assert there(made.world, "train") == UPLOADED
    [query] = made.house.queries.values()
    assert query["query"].endswith("-- all of them")


def test_a_query_that_fails_is_said_in_a_sentence_and_leaves_the_window_as_it_was(made: Fixture) -> None:
    made.upload()
    made.house.fault = "SYNTAX_ERROR: line 2:8:\n Column 'citty' cannot be resolved"
    said = made.failure(replace=True)
    assert said.endswith(" failed: SYNTAX_ERROR: line 2:8: Column 'citty' cannot be resolved")
    assert there(made.world) == UPLOADED


def test_a_complete_window_asks_no_warehouse(made: Fixture) -> None:
    made.upload()
    assert "is complete. REPLACE=yes" in made.failure()
    assert len(made.house.queries) == 1
    made.house.files = (b"PAR1 other",)
    made.upload(replace=True)
    assert there(made.world) == {"rows-00000.parquet": "PAR1 other", "_SUCCESS": ""}


@pytest.mark.parametrize("files", [(), (b"",)])
@pytest.mark.parametrize("place", ["athena:analysts", "redshift:cluster-1/sales"])
def test_a_query_without_rows_is_refused(made: Fixture, place: str, files: tuple[bytes, ...]) -> None:
    made.setting(f'"{place}"')
    made.house.files = files
    assert made.failure().startswith("the query gave no rows, and nothing was put there.")
    assert there(made.world) == {}


def test_what_a_killed_one_has_left_goes_first(made: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows beside the part a day later, and its files in the part where it was killed while they were copied."""
    place = f"s3://{BUCKET}/team/case/data/{WINDOW}"
    made.world.put(f"{place}/_production/0123/rows", b"of another time")
    monkeypatch.setattr(queries, "LEFT", timedelta(seconds=-1))
    for name in ("rows-00000.parquet", "rows-00007.parquet"):
        made.world.put(f"{place}/production/{name}", b"half")
    assert made.upload() == 0
    assert (there(made.world), made.staged()) == (UPLOADED, [])
    made.world.put(f"{place}/train/other.csv")
    assert "holds other files, without _SUCCESS: other.csv" in made.failure(part="train")


def test_two_uploads_of_a_part_leave_each_other_s_rows(made: Fixture) -> None:
    place = f"s3://{BUCKET}/team/case/data/{WINDOW}/_production/0123/rows"
    made.world.put(place, b"of one that is under way")
    assert made.upload() == 0
    assert made.staged() == [place.partition(f"{BUCKET}/")[2]]
    assert there(made.world) == UPLOADED


def test_a_window_that_another_has_completed_meanwhile_stays_as_it_is(made: Fixture) -> None:
    def another() -> None:
        for name in ("other.csv", "_SUCCESS"):
            made.world.put(f"s3://{BUCKET}/team/case/data/{WINDOW}/production/{name}", b"")

    made.house.looked = another
    assert "is complete. REPLACE=yes" in made.failure()
    assert there(made.world) == {"other.csv": "", "_SUCCESS": ""}


@pytest.mark.parametrize("place", PLACES[1:3])
def test_ctrl_c_stops_the_query_there(made: Fixture, place: str) -> None:
    made.setting(f'"{place}"')

    def interrupt() -> None:
        raise KeyboardInterrupt

    made.house.looked = interrupt
    with pytest.raises(KeyboardInterrupt):
        made.upload()
    assert (made.states, made.staged(), there(made.world)) == (["STOPPED"], [], {})


def test_a_query_that_takes_too_long_is_stopped(
    made: Fixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr("batchloop.cloud.session.time.monotonic", lambda: float(next(clock)))
    made.setting("1000", "max_runtime_seconds")
    made.house.looks = 10**6
    assert made.failure().endswith(" was stopped: it takes longer than max_runtime_seconds allows.")
    assert made.states == ["STOPPED"]
    assert "\n  running\n" in capsys.readouterr().out


def test_a_network_that_is_away_for_a_while_ends_no_query(made: Fixture) -> None:
    looks = iter(range(100))

    def away() -> None:
        if next(looks) < PATIENCE - 1:
            raise warehouse.refused("GetQueryExecution", "ThrottlingException", "slow down")

    made.house.looked = away
    assert made.upload() == 0
    assert there(made.world) == UPLOADED


def test_a_refusal_ends_it_and_stops_the_query(made: Fixture) -> None:
    def denied() -> None:
        raise warehouse.refused("GetQueryExecution", "AccessDeniedException", "not you")

    made.house.looked = denied
    assert made.failure() == "athena:GetQueryExecution was denied: not you"
    assert made.states == ["STOPPED"]


@pytest.mark.parametrize(
    ("place", "query", "told"),
    [
        ("athena:others", QUERY, "WorkGroup others is not found."),
        ("athena:analysts", "SELECT 1; DROP TABLE x", "Only one sql statement is allowed."),
        ("athena:analysts", f"SELECT '{'x' * 300_000}'", "exceeded the length"),
        ("redshift:cluster-1/sales", f"SELECT '{'x' * 110_000}'", "limited to 100 KB"),
    ],
)
def test_what_the_service_refuses_is_said(made: Fixture, place: str, query: str, told: str) -> None:
    made.setting(f'"{place}"')
    assert told in made.failure(query)
    assert made.house.queries == {}


def test_a_workgroup_without_a_place_for_results_is_said(made: Fixture) -> None:
    made.house.places_for_results["analysts"] = ""
    assert made.failure().endswith("No output location provided.")


@pytest.mark.parametrize("query", ["dev", "DROP TABLE customers", "-- SELECT", ";", "/* a */ " * 500 + "DROP"])
def test_what_is_no_query_is_refused(made: Fixture, query: str) -> None:
    assert made.failure(query).startswith("FROM= takes one query, which begins with SELECT or WITH")


@pytest.mark.parametrize("query", [" ( select 1 )", "/* ** / */ with x as (select 1) select * from x", "Select\n1 ; "])
def test_queries_begin_in_many_ways(made: Fixture, query: str) -> None:
    assert made.upload(query) == 0


def test_what_names_no_file_and_no_warehouse_is_said(made: Fixture, tmp_path: Path) -> None:
    assert made.failure("absent.sql") == "FROM=absent.sql can't be read: No such file or directory."
    (tmp_path / "latin.sql").write_bytes("SELECT 'Zürich'".encode("latin-1"))
    assert made.failure(str(tmp_path / "latin.sql")).endswith("latin.sql can't be read: it is not UTF-8.")
    made.setting('""')
    assert made.failure().startswith("environments/dev.toml names nothing that runs queries: warehouse = ")


@pytest.mark.parametrize("words", [["--window", "w"], ["--window", "w", "--data", "x", "--from", "SELECT 1"]])
def test_data_or_a_query_is_asked_for(
    made: Fixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(made.repository.root)
    assert main(["upload", *words]) == 1
    assert capsys.readouterr().err == 'make upload takes DATA=folder or file, or FROM="SELECT …": one of the two.\n'


def test_rows_that_can_not_be_removed_are_named(
    made: Fixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = made.world.aws

    def denied(params: dict[str, Any], **_: Any) -> None:
        if "/_production/" in params["Key"]:
            raise warehouse.refused("DeleteObject", "AccessDenied", "not you")

    aws.s3.meta.events.register("provide-client-params.s3.DeleteObject", denied, unique_id="denied")
    try:
        assert made.upload() == 0
    finally:
        aws.s3.meta.events.unregister("provide-client-params.s3.DeleteObject", unique_id="denied")
    assert there(made.world) == UPLOADED
    said = capsys.readouterr().out
    assert re.search(r"/_production/[0-9a-f]{32}/ holds rows that nobody needs; an upload of the part tomorrow", said)
