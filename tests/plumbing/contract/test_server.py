"""The algorithm's server where it is hard: sizes, damaged bodies, many and slow clients, its end, a wrong model."""

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from plumbing.contract.bodies import CSV, LINES, body, read
from plumbing.contract.containers import HERE, PARQUET, Contract, Server, serving, until
from plumbing.contract.processes import kill, memory

MEGABYTE = 2**20


def large(frame: pl.DataFrame, megabytes: int) -> bytes:
    """A CSV body of about that size."""
    one = len(body(frame, CSV))
    return body(pl.concat([frame] * max(1, megabytes * MEGABYTE // one)), CSV)


def test_what_the_transform_job_sets_is_what_it_answers(contract: Contract, tmp_path: Path) -> None:
    options = ["--env", "SAGEMAKER_MAX_PAYLOAD_IN_MB=50", "--env", "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS=1"]
    with serving(contract, tmp_path, *options) as running:
        found = json.loads(running.ask("GET", "/execution-parameters")[1])
    assert (found["MaxPayloadInMB"], found["MaxConcurrentTransforms"]) == (50, 1)


def test_payloads_of_every_size(server: Server, features: pl.DataFrame) -> None:
    assert server.invoke(b"", PARQUET)[0] == 400
    assert len(read(server.invoke(body(features[:1], PARQUET), PARQUET)[1])) == 1
    for megabytes in (6, 100):
        sent = large(features, megabytes)
        status, answer = server.invoke(sent, CSV, PARQUET)
        assert status == 200
        assert len(read(answer)) == sent.count(b"\n") - 1
    assert server.ask("GET", "/ping")[0] == 200


def test_what_it_can_not_read_is_refused_with_the_place(server: Server, features: pl.DataFrame) -> None:
    assert server.invoke(b"{}", "application/json")[0] == 415
    sent = body(features[:5], CSV).splitlines(keepends=True)
    status, reason = server.invoke(b"".join(sent[:3]) + b"\xff\xfe" + sent[3], CSV)
    assert (status, b"line 4" in reason) == (400, True), reason
    lines = body(features[:5], LINES).splitlines(keepends=True)
    status, reason = server.invoke(b"".join([*lines[:2], b"{broken\n", *lines[2:]]), LINES)
    assert (status, b"line 3" in reason) == (400, True), reason
    status, reason = server.invoke(body(features, PARQUET)[:-100], PARQUET)
    assert (status, b"Parquet" in reason) == (400, True), reason


def test_a_hundred_requests_at_once_get_their_own_answers_and_ping_stays_quick(
    server: Server, features: pl.DataFrame, schema: dict[str, Any]
) -> None:
    parts = [features.sample(500, seed=number, with_replacement=True) for number in range(100)]
    pings, done = [], threading.Event()

    def ping() -> None:
        while not done.is_set():
            begun = time.monotonic()
            assert server.ask("GET", "/ping", seconds=10)[0] == 200
            pings.append(time.monotonic() - begun)
            time.sleep(0.02)

    with ThreadPoolExecutor(101) as pool:
        watching = pool.submit(ping)
        answers = list(pool.map(lambda part: server.invoke(body(part, PARQUET), PARQUET), parts))
        done.set()
        watching.result()
    for part, (status, answer) in zip(parts, answers, strict=True):
        assert status == 200
        assert read(answer)[schema["id"]].cast(pl.String).equals(part[schema["id"]].cast(pl.String))
    assert max(pings) < 2, max(pings)


def test_slow_and_vanished_clients_hold_nobody_up(server: Server, features: pl.DataFrame) -> None:
    sent = body(features, PARQUET)
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {PARQUET}\r\nContent-Length: {len(sent)}\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(20)]
    for connection in slow:
        connection.sendall(head.encode() + sent[:1000])
    for _ in range(20):  # the whole request, and gone before the answer
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as gone:
            gone.sendall(head.encode() + sent)
    begun = time.monotonic()
    assert server.invoke(sent, PARQUET)[0] == 200
    assert server.ask("GET", "/ping")[0] == 200
    assert time.monotonic() - begun < 10
    for connection in slow:
        connection.sendall(sent[1000:])
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.close()


def test_told_to_stop_it_answers_what_it_has_begun_and_ends_with_0(
    contract: Contract, features: pl.DataFrame, tmp_path: Path
) -> None:
    sent = large(features, 90)
    with serving(contract, tmp_path) as running, ThreadPoolExecutor(1) as pool:
        idle = memory(running)
        future = pool.submit(running.invoke, sent, CSV, PARQUET)
        # what is on its way lies in a file: with all of it in memory, and more, the answer has begun
        until(lambda: memory(running) > idle + 110 * MEGABYTE or future.done())
        assert not future.done(), "give it more rows: it must be at work when the signal comes"
        begun = time.monotonic()
        kill(running.running, signal.SIGTERM)
        code = running.running.wait()
        assert time.monotonic() - begun < 10  # the service waits for 30
        status, answer = future.result()
    assert (code, status) == (0, 200)
    assert len(read(answer)) == sent.count(b"\n") - 1


def test_a_model_of_another_contract_is_not_served(contract: Contract, tmp_path: Path) -> None:
    other = HERE.root.joinpath("usecase.toml").read_text(encoding="utf-8").replace('\nlabel = "', '\nlabel = "other_')
    file = tmp_path / "usecase.toml"
    file.write_text(other, encoding="utf-8")
    with (
        pytest.raises(AssertionError, match="was learned under another contract"),
        serving(contract, tmp_path, "--env", "USECASE_FILE=/usecase.toml", "--volume", f"{file}:/usecase.toml:ro"),
    ):
        pass


def test_ping_is_empty_and_execution_parameters_fit_the_service(server: Server) -> None:
    assert server.ask("GET", "/ping") == (200, b"")
    status, answer = server.ask("GET", "/execution-parameters")
    found = json.loads(answer)
    assert status == 200
    assert set(found) == {"MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"}
    assert 1 <= found["MaxConcurrentTransforms"] * found["MaxPayloadInMB"] <= 100
    assert found["BatchStrategy"] in ("SINGLE_RECORD", "MULTI_RECORD")


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
