"""The server: what it refuses, many requests at once, its start and its end."""

import codecs
import concurrent.futures
import contextlib
import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import models, tables
from batchloop.container import server as container_server
from batchloop.container.job import InputError
from plumbing import test_algorithm_serving
from plumbing.rendered import ROOT
from plumbing.test_algorithm_serving import (
    CSV,
    HEADER,
    LABELS,
    LINES,
    PARQUET,
    WITHOUT,
    Server,
    encoded,
    expected,
    make_model,
    table,
)

root = test_algorithm_serving.root
server = test_algorithm_serving.server


@pytest.mark.parametrize("column", ["customer", "city"])
@pytest.mark.parametrize("content_type", [PARQUET, CSV, LINES])
def test_a_missing_column_is_named(column, content_type, server):
    status, reason = server.refuse(encoded(table(2).drop(column), content_type), content_type)
    assert status == 400
    assert f"column '{column}' is missing" in reason


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", PARQUET, "empty (0 bytes)"),
        (b"", CSV, "empty (0 bytes)"),
        (b"\n\n", CSV, "the body holds nothing but empty lines"),
        (b"not parquet at all", PARQUET, "not a readable Parquet file"),
        (encoded(table(50))[:-30], PARQUET, "not a readable Parquet file"),
        (HEADER.replace(b"age", b"city"), CSV, "the column 'city' more than once"),
        (HEADER + b"a,1,bern,1,2\nb,1,be\xff,1,2\n", CSV, "line 3, byte 7 is not UTF-8"),
        (HEADER + b"a,1,bern,1,2\nb,1,be", CSV, "its last line has 3 of 5 cells"),
        (b'{"customer": 1}\n{"customer": ', LINES, "line 2, column 14 is not JSON"),
        (b'{"customer": 1}\n[1, 2]\n', LINES, "line 2 is not a JSON object"),
        (b'{"customer": "\xff"}\n', LINES, "line 1, byte 15 is not UTF-8"),
        (b'{"customer": "a", "age": ' + b"9" * 5000 + b"}\n", LINES, "line 1 is not readable"),
        (b'{"customer": "a", "age": NaN}\n', LINES, "line 1 is not readable: NaN is no number of JSON; write null"),
        (b'{"customer": "a"}\n{"customer": "b", "age": -Infinity}\n', LINES, "line 2 is not readable: -Infinity"),
        (b'{"customer": "a", "age": 1e400}\n', LINES, "line 1 is not readable: 1e400 is no number of JSON"),
        (b'{"customer": "a", "age": 1, "age": 2}\n', LINES, "line 1 has the column 'age' more than once"),
        (b"null\n", LINES, "line 1 is not a JSON object"),
        (b"\n", LINES, "nothing but empty lines"),
        (
            (HEADER + b"a,1,bern,1,2\n").decode().encode("utf-16"),
            CSV,
            "the body is UTF-16 text, and text/csv is read as",
        ),
        ((HEADER + b"a,1,bern,1,2\n").decode().encode("utf-16-le"), CSV, "the body is UTF-16 text"),
        ('{"customer": "a"}'.encode("utf-16"), LINES, "the body is UTF-16 text"),
        (gzip.compress(HEADER, mtime=0), CSV, "the body is packed with gzip, and text/csv is read as plain UTF-8 text"),
        (encoded(pl.DataFrame({"a": [1]})), CSV, "the body is a Parquet file"),
        (b"PK\x03\x04....", CSV, "the body is a zip archive"),
        (b"a,1,bern,5,2\nb,1,bern,1,2\n", CSV, "has 'a', '1', 'bern', '5', '2'; does the first line hold the names?"),
        (HEADER.upper(), CSV, "'CUSTOMER' differs from 'customer' in upper and lower case or blanks"),
        (HEADER.replace(b",", b";") + b"a;1;bern;1;2\n", CSV, "its cells seem to be separated by ';'"),
        (HEADER.replace(b",", b"\t") + b"a\t1,5\tbern\t1\t2\n", CSV, "its cells seem to be separated by"),
    ],
)
def test_a_body_that_can_not_be_read_says_where_it_breaks(body, content_type, reason, server):
    status, found = server.refuse(body, content_type)
    assert status == 400
    assert reason in found


def test_a_damaged_parquet_body_never_takes_the_server_down(server):
    whole, random = encoded(table(300)), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(4, len(damaged) - 4, 4):
            damaged[place] = int(random.integers(256))
        assert server.ask("POST", "/invocations", bytes(damaged), PARQUET)[0] in (200, 400)
    assert server.score(whole).height == 300


def test_wrong_types_paths_and_methods_are_refused(server):
    assert server.refuse(b"x", "application/json")[0] == 415
    assert server.ask("POST", "/invocations", b"x")[0] == 415
    status, reason = server.refuse(encoded(table(1)), PARQUET, "text/html")
    assert (status, reason) == (
        406,
        f"Accept 'text/html' is none of {PARQUET}, {CSV}, {LINES}, application/x-jsonlines",
    )
    assert server.ask("GET", "/")[0] == 404
    status, headers, _ = server.ask("GET", "/invocations")
    assert (status, headers["Allow"]) == (405, "POST")
    assert server.ask("POST", "/ping", b"")[0] == 405


def test_eight_requests_at_once_get_their_own_answers(server, root):
    frames = [table(500, seed) for seed in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(server.score, [encoded(frame) for frame in frames] * 3))
    for frame, answer in zip(frames * 3, answers, strict=True):
        assert np.array_equal(answer["score"].to_numpy(), expected(root, frame))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks_have_their_own_columns(task, tmp_path):
    root = make_model(tmp_path, task)
    running = Server(root)
    try:
        answer = running.wait().score(encoded(table(20).with_columns(__error=pl.lit(None, dtype=pl.String))))
        scores = expected(root, table(20))
        if task == "regression":
            assert answer.columns == ["customer", "prediction", "error"]
            assert np.array_equal(answer["prediction"].to_numpy(), scores)
        else:
            assert answer.columns == ["customer", "prediction", "score", "score:a", "score:b", "score:c", "error"]
            assert np.array_equal(answer.select("score:a", "score:b", "score:c").to_numpy(), scores)
            assert answer["prediction"].to_list() == [LABELS[task][place] for place in scores.argmax(axis=1)]
        assert running.score(encoded(table(0))).columns == answer.columns
    finally:
        running.stop()


def test_a_request_in_flight_is_answered_before_the_server_ends(tmp_path):
    root = make_model(tmp_path, "binary", rounds=600)
    running = Server(root).wait()
    try:
        body, answers = encoded(table(80_000)), []
        asking = threading.Thread(target=lambda: answers.append(running.score(body)))
        idle = http.client.HTTPConnection("127.0.0.1", running.port)
        idle.connect()
        asking.start()
        time.sleep(0.3)
        assert answers == []
        running.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert running.process.wait(10) == 0
        assert time.monotonic() - started < 5
        asking.join()
        assert answers[0].height == 80_000
        with pytest.raises(ConnectionRefusedError):
            running.ask("GET", "/ping")
    finally:
        running.stop()


def refused_start(root):
    running = Server(root)
    assert running.process.wait(60) == 1
    running.stop()
    return (root / "output/failure").read_text()


def test_a_model_of_another_contract_or_a_damaged_one_does_not_start(tmp_path):
    root = make_model(tmp_path / "contract", "binary")
    text = (root / "usecase.toml").read_text()
    (root / "usecase.toml").write_text(
        text.replace('age = { type = "number" }', 'age = { type = "number", minimum = 1 }')
    )
    assert re.search("column 'age' minimum was not set, now 1; train again", refused_start(root))
    root = make_model(tmp_path / "damaged", "binary")
    with (root / "model/model.txt").open("a") as file:
        file.write("\n")
    assert "not of the same model" in refused_start(root)


def test_only_cells_that_are_no_plain_number_are_looked_at_one_by_one(root, monkeypatch):
    loaded, looked_at, numbers = models.load(root / "model"), dict[str, int](), tables._numbers

    def counted(column: pl.Series, feature: Any, missing: Any) -> Any:
        looked_at[column.name] = len(column)
        return numbers(column, feature, missing)

    monkeypatch.setattr(tables, "_numbers", counted)
    texts = table(500).with_columns(pl.all().cast(pl.String))
    plain = tables.score(loaded, texts, ["", "NA", "95"])
    assert looked_at == {}
    assert plain.equals(tables.score(loaded, table(500), []))
    age, some = pl.col("age"), pl.int_range(pl.len()) < 5

    def scored(cells: pl.Expr, *missing: str) -> pl.DataFrame:
        return tables.score(loaded, texts.with_columns(pl.when(some).then(cells).otherwise(age).alias("age")), missing)

    assert scored(" " + age + "\t", "NA").equals(plain)
    assert looked_at == {"age": 5}
    gap = scored(pl.lit(None))
    assert scored(pl.lit("NA"), "NA").equals(gap)
    assert scored(pl.lit("95"), "95").equals(gap)
    assert not scored(pl.lit("95")).equals(gap)
    assert scored(pl.lit("inf"))["error"].null_count() == 495
    assert tables.score(loaded, texts, ["other"]).height == 500
    assert looked_at["city"] == (table(500)["city"] == "other").sum()


def test_serving_does_not_wait_for_optuna():
    code = WITHOUT + "from components.algorithm import serve, train; print('optuna' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    "body",
    [
        b"a\rb,c\n1,2\n",
        b"a,b\n1,2\r3\n",
        b"a,b\n1,2\r3,4,5\n6,7\n",
        b"a,b\n1," + b"x" * 200_000,
        b"a,b\n1," + b"x" * 200_000 + b",3,4\n5,6\n",
    ],
)
def test_carriage_returns_and_huge_cells_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(InputError):
        assert container_server.read(body, "text/csv", ()).drop("__error", strict=False).width == 2


def test_a_body_that_would_fill_the_memory_is_refused_in_a_line(server):
    line = "k" * 3_000_000
    for body, content_type, reason in [
        (b"[" * 100_000, LINES, "line 1 "),
        (b'{"a": ' * 100_000, LINES, "line 1 "),
        (f"{line}\n1\n".encode(), CSV, "line 1 has more than"),
        (f'{{"customer": "{line}"}}\n'.encode(), LINES, "line 1 has more than"),
        (b"a," * 2000 + b"b\n" + b"1," * 2000 + b"2\n", CSV, "line 1 has 2,001 cells"),
        (b"customer,age,city,paperless,since__days\n" + b"\n" * 11_000_000, CSV, "a request may have 10,000,000"),
        (b"{}\n" * 11_000_000, LINES, "a request may have 10,000,000"),
        (encoded(table(1).select(pl.all().repeat_by(11_000_000).explode())), PARQUET, "a request may have 10,000,000"),
    ]:
        status, found = server.refuse(body, content_type)
        assert status == 400
        assert reason in found
        assert len(found) < 1100


def test_lines_of_ever_new_keys_do_not_make_a_table_of_all_of_them(server):
    row = json.dumps({"customer": 1, "age": 40, "city": "bern", "paperless": True, "since__days": 1})[:-1]
    body = "\n".join(f'{row}, "k{number}": 1}}' for number in range(20_000)).encode()
    started = time.monotonic()
    assert server.score(body, LINES)["customer"].to_list() == [1] * 20_000
    assert time.monotonic() - started < 10


def test_ids_in_json_lines_stay_what_they_were(server):
    good = {"age": 40, "city": "bern", "paperless": True, "since__days": 18000.5}
    for ids in ([7, None, 9], ["007", "8", None], [7, "007", 8], ["c1", 2, 3]):
        body = "\n".join(json.dumps({"customer": identity} | good) for identity in ids).encode()
        expected_ids = ids if ids[0] == 7 and ids[1] is None else [None if i is None else str(i) for i in ids]
        assert server.score(body, LINES)["customer"].to_list() == expected_ids


def test_two_hundred_half_open_connections_do_not_keep_the_health_check_waiting(server):
    held = []
    try:
        for number in range(200):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            if number % 2:
                connection.sendall(b"POST /invocations HTTP/1.1\r\nContent-Length: 1000\r\n")
            held.append(connection)
        started = time.monotonic()
        assert server.ask("GET", "/ping")[0] == 200
        assert server.score(encoded(table(3))).height == 3
        assert time.monotonic() - started < 2
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Content-Type": "text/csv; charset=iso-8859-1"}, "charset iso-8859-1 is not read; send plain UTF-8"),
        ({"Content-Type": 'text/csv; CHARSET="utf-16"'}, "charset utf-16"),
        ({"Content-Type": "text/csv", "Content-Encoding": "gzip"}, "Content-Encoding gzip is not read"),
        ({"Content-Type": "text/csv", "Content-Encoding": "br"}, "Content-Encoding br is not read"),
        ({"Content-Type": "text/csv; charset=UTF-8"}, ""),
        ({"Content-Type": "text/csv; header=present; charset=us-ascii", "Content-Encoding": "identity"}, ""),
    ],
)
def test_a_text_in_another_encoding_is_refused_by_its_headers(headers, reason, server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/invocations", HEADER + b"a,1,bern,1,2\n", headers)
    answer = connection.getresponse()
    status, said = answer.status, answer.read().decode()
    connection.close()
    assert (status, reason in said) == (415 if reason else 200, True), said


def test_a_byte_order_mark_is_no_matter(server):
    row = {"customer": "a", "age": 40, "city": "bern", "paperless": True, "since__days": 18000.5}
    plain = json.dumps(row).encode() + b"\n"
    assert server.score(codecs.BOM_UTF8 + plain, LINES).equals(server.score(plain, LINES))
    rows = HEADER + b"a,40,bern,1,18000.5\n"
    assert server.score(codecs.BOM_UTF8 + rows, CSV).equals(server.score(rows, CSV))


def test_what_a_spreadsheet_would_run_is_marked_in_csv_and_nowhere_else(server):
    ids = ["=1+1", "+cmd|x", "-2+3", "@SUM(1)", "\tx", "-5", "+4.5e3", "plain", "a=b"]
    wide = ["＝1+1", "＋x", "－5", "＠x", "\r=1"]
    frame = table(len(ids)).with_columns(pl.Series("customer", ids))
    other = server.score(encoded(table(5).with_columns(pl.Series("customer", wide))), PARQUET, CSV)
    assert other["customer"].to_list() == [f"'{text}" for text in wide]
    marked = server.score(encoded(frame), PARQUET, CSV)["customer"].to_list()
    assert marked == ["'=1+1", "'+cmd|x", "'-2+3", "'@SUM(1)", "'\tx", "-5", "+4.5e3", "plain", "a=b"]
    assert server.score(encoded(frame), PARQUET, LINES)["customer"].to_list() == ids
    assert server.score(encoded(frame))["customer"].to_list() == ids


def test_the_mark_is_a_setting(tmp_path):
    root = make_model(tmp_path, "binary")
    with (root / "usecase.toml").open("a") as file:
        file.write("[prediction]\nescape_formulas = false\n")
    running = Server(root)
    try:
        frame = table(1).with_columns(pl.lit("=1+1").alias("customer"))
        assert running.wait().score(encoded(frame), PARQUET, CSV)["customer"].to_list() == ["=1+1"]
    finally:
        running.stop()
