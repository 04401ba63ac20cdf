"""The real server on a loopback port: content types, rows that can't be scored, refusals, load, and SIGTERM."""

import codecs
import concurrent.futures
import contextlib
import gzip
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, models, tables, usecase
from batchloop.container import server as container_server
from batchloop.container.job import InputError
from batchloop.container.protocols import Problem, Table
from components.algorithm import model
from plumbing.rendered import ROOT

# As in the image: LightGBM would import pandas and scikit-learn where it finds them, which takes seconds.
WITHOUT = "import sys, runpy; sys.modules |= {'pandas': None, 'sklearn': None}; "
AS_IN_THE_IMAGE = WITHOUT + "runpy.run_module('batchloop.container', None, '__main__')"
PARQUET, CSV, LINES = "application/x-parquet", "text/csv", "application/jsonlines"
CITIES = ["other", "bern", "köln", "oslo"]
FEATURES: list[dict[str, Any]] = [
    {"name": "age", "source": "age", "kind": "number"},
    {"name": "city", "source": "city", "kind": "category", "categories": CITIES},
    {"name": "paperless", "source": "paperless", "kind": "boolean"},
    {"name": "since__days", "source": "since", "kind": "date"},
]
LABELS = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "regression": []}


def describe(task):
    return f"""
[usecase]
name = "sample"
[data]
task = "{task}"
id = "customer"
label = "outcome"
classes = {json.dumps(LABELS[task])}
missing = ["", "NA"]
[columns]
age = {{ type = "number" }}
city = {{ type = "category" }}
paperless = {{ type = "boolean" }}
since = {{ type = "date" }}
[gate]
metric = "{"rmse" if task == "regression" else "auc"}"
minimum = 0.5
"""


def table(rows, seed=1):
    random = np.random.default_rng(seed)
    columns = {
        "customer": [f"c{row}" for row in range(rows)],
        "age": pl.Series(random.normal(40, 12, rows), dtype=pl.Float32),
        "city": pl.Series([CITIES[place] for place in random.integers(0, 4, rows)], dtype=pl.Enum(CITIES)),
        "paperless": pl.Series(random.integers(0, 2, rows), dtype=pl.Float32),
        "since__days": pl.Series(random.normal(18000, 900, rows), dtype=pl.Float32),
    }
    return pl.DataFrame(columns)


def make_model(root, task, rounds=20):
    """A job folder that holds a fitted model, as a transform container finds it."""
    folder = root / "model"
    folder.mkdir(parents=True)
    (root / "usecase.toml").write_text(describe(task), encoding="utf-8")
    frame = table(400)
    features = tables.matrix(frame, FEATURES)
    value = features[:, 0] / 10 + 3 * (features[:, 1] == 2) + features[:, 2]
    labels = value if task == "regression" else np.digitize(value, [5.0, 6.0][: len(LABELS[task]) - 1])
    learned = Table(features, labels.astype(float))
    problem = Problem(task, tuple(LABELS[task]), tuple(FEATURES), 1)
    booster = model.fit(learned, learned, {"num_iterations": rounds, "min_data_in_leaf": 5}, problem)
    metadata = {"task": task, "id": "customer", "label": "outcome", "classes": LABELS[task], "features": FEATURES}
    metadata |= {"threshold": 0.5, "hyperparameters": {}}
    models.save(models.Model(booster, metadata), folder)
    artifacts.write_manifest(folder, "algorithm", usecase.load(root / "usecase.toml").contract())
    return root


class Server:
    """A server process on a free port of the loopback interface."""

    def __init__(self, root):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        values = {"ML_ROOT": str(root), "USECASE_FILE": str(root / "usecase.toml"), "PYTHONPATH": str(ROOT)}
        values |= {"SERVE_HOST": "127.0.0.1", "SAGEMAKER_BIND_TO_PORT": str(self.port), "PYTHONUNBUFFERED": "1"}
        self.log = (root / "server.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", AS_IN_THE_IMAGE, "algorithm", "serve"],
            env={**os.environ, **values},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def wait(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask("GET", "/ping")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError(self.said())

    def said(self):
        return Path(self.log.name).read_text()

    def ask(self, method, path, body=None, content_type=None, accept=None):
        """Status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": content_type} if content_type is not None else {}
        headers |= {"Accept": accept} if accept else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def score(self, body, content_type=PARQUET, accept=None):
        """The predictions as a table."""
        status, headers, answer = self.ask("POST", "/invocations", body, content_type, accept)
        assert status == 200, answer
        return decoded(answer, headers["Content-Type"])

    def refuse(self, body, content_type=PARQUET, accept=None):
        """The status and the reason of a refusal."""
        status, _, answer = self.ask("POST", "/invocations", body, content_type, accept)
        assert answer.count(b"\n") == 1
        assert b"Traceback" not in answer
        return status, answer.decode().strip()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def encoded(frame, content_type=PARQUET):
    target = io.BytesIO()
    if content_type == PARQUET:
        frame.write_parquet(target)
    elif content_type == CSV:
        frame.write_csv(target)
    else:
        frame.write_ndjson(target)
    return target.getvalue()


def decoded(body, content_type):
    if content_type == PARQUET:
        return pl.read_parquet(io.BytesIO(body))
    if content_type == CSV:
        return pl.read_csv(io.BytesIO(body), schema_overrides={"error": pl.String})
    return pl.read_ndjson(io.BytesIO(body))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("serving") / "job", "binary")


@pytest.fixture(scope="module")
def server(root):
    running = Server(root)
    yield running.wait()
    running.stop()


def expected(root, frame):
    loaded = model.load(root / "model")
    return model.predict(loaded, tables.matrix(frame, FEATURES))


def test_the_service_finds_it_healthy_and_learns_what_to_send(server):
    status, _, body = server.ask("GET", "/ping")
    assert (status, body) == (200, b"")
    status, headers, body = server.ask("GET", "/execution-parameters")
    found = json.loads(body)
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert found["BatchStrategy"] == "SINGLE_RECORD"
    assert found["MaxPayloadInMB"] * found["MaxConcurrentTransforms"] <= 100


@pytest.mark.parametrize("content_type", [PARQUET, CSV, LINES, "application/x-jsonlines", "Text/CSV; charset=utf-8"])
def test_every_content_type_gives_the_models_scores_in_order(content_type, server, root):
    frame = table(100, seed=5)
    plain = content_type.partition(";")[0].lower()
    body = encoded(frame, plain)
    answer = server.score(body, content_type)
    assert answer.columns == ["customer", "prediction", "score", "error"]
    assert answer["customer"].to_list() == frame["customer"].to_list()
    assert np.allclose(answer["score"].to_numpy(), expected(root, frame), atol=1e-9)
    assert answer["prediction"].to_list() == ["yes" if score >= 0.5 else "no" for score in answer["score"]]
    assert answer["error"].null_count() == 100


@pytest.mark.parametrize(
    "accept", [PARQUET, CSV, LINES, "application/x-jsonlines", "text/html, application/x-parquet;q=0.9"]
)
def test_the_answer_comes_in_the_type_that_was_asked_for(accept, server):
    status, headers, body = server.ask("POST", "/invocations", encoded(table(3), CSV), CSV, accept)
    wanted = accept.split(",")[-1].partition(";")[0].strip()
    assert (status, headers["Content-Type"]) == (200, wanted)
    assert decoded(body, wanted).height == 3


def test_without_a_wish_the_answer_has_the_requests_type(server):
    for accept in (None, "*/*", "text/*"):
        assert server.ask("POST", "/invocations", encoded(table(3), CSV), CSV, accept)[1]["Content-Type"] == CSV


def test_a_row_that_broke_the_contract_keeps_its_reason_and_the_others_are_scored(server, root):
    frame = table(4).with_columns(pl.Series("__error", [None, "column 'age': 'x' is not a number", None, None]))
    answer = server.score(encoded(frame))
    assert answer["error"].to_list() == [None, "column 'age': 'x' is not a number", None, None]
    assert answer["prediction"].is_null().to_list() == [False, True, False, False]
    assert answer["score"].is_null().to_list() == [False, True, False, False]
    assert answer["score"][3] == expected(root, frame)[3]


@pytest.mark.parametrize("content_type", [CSV, LINES, PARQUET])
def test_a_value_of_a_wrong_type_spoils_its_own_row_only(content_type, server, root):
    frame = table(4)
    text = frame.with_columns(
        pl.Series("age", ["31.5", "forty", "NA", None]), pl.Series("paperless", ["true", "0", "maybe", "1.0"])
    )
    answer = server.score(encoded(text, content_type), content_type)
    assert answer["error"].to_list() == [
        None,
        "column 'age': 'forty' is not a number",
        "column 'paperless': 'maybe' is not a yes or no",
        None,
    ]
    numbers = frame.with_columns(
        pl.Series("age", [31.5, None, None, None], dtype=pl.Float32), pl.Series("paperless", [1, 0, None, 1])
    )
    scores = expected(root, numbers)
    assert answer["score"].to_list() == pytest.approx([scores[0], None, None, scores[3]])


def test_json_types_that_differ_from_row_to_row_are_taken_one_by_one(server):
    good = {"customer": "a", "age": 40, "city": "bern", "paperless": True, "since__days": 18000.5}
    rows = [good, good | {"age": "41"}, good | {"age": [1, 2]}, good | {"age": {"years": 3}}, good | {"city": None}]
    body = "\n".join(json.dumps(row) for row in rows).encode()
    answer = server.score(body, LINES)
    assert answer["error"].is_null().to_list() == [True, True, False, False, True]
    assert answer["error"][2].startswith("column 'age': '[")


def test_a_column_of_an_impossible_type_gives_every_row_a_reason(server):
    frame = table(2).with_columns(pl.Series("age", [[1.0], None], dtype=pl.List(pl.Float64)))
    answer = server.score(encoded(frame))
    assert answer["error"].to_list() == ["column 'age': a value of type List(Float64) is not a number", None]


def test_a_category_the_model_does_not_know_counts_as_other(server, root):
    frame = table(3).with_columns(pl.lit("atlantis").alias("city"))
    other = frame.with_columns(pl.lit("other").alias("city"))
    reordered = frame.with_columns(pl.lit("other").cast(pl.Enum(["oslo", "other"])).alias("city"))
    scores = server.score(encoded(other))["score"].to_list()
    assert server.score(encoded(frame))["score"].to_list() == scores
    assert server.score(encoded(reordered))["score"].to_list() == scores
    assert scores == pytest.approx(expected(root, other).tolist())


def test_ids_keep_their_type_and_a_missing_one_is_said(server):
    frame = table(3).with_columns(pl.Series("customer", [7, None, 9]))
    answer = server.score(encoded(frame))
    assert answer["customer"].to_list() == [7, None, 9]
    assert answer["error"].to_list() == [None, "column 'customer': the id is missing", None]
    assert server.score(encoded(frame, LINES), LINES)["customer"].to_list() == [7, None, 9]


def test_columns_in_another_order_and_strange_ones_do_not_matter(server):
    frame = table(5)
    shuffled = frame.select(reversed(frame.columns)).with_columns(pl.lit(1).alias("score"), pl.lit("x").alias("error"))
    assert server.score(encoded(shuffled)).equals(server.score(encoded(frame)))


def test_a_table_without_rows_is_answered_without_rows(server):
    assert server.score(encoded(table(0))).height == 0
    assert server.ask("POST", "/invocations", b"customer,age,city,paperless,since__days\n", CSV)[2] == (
        b"customer,prediction,score,error\n"
    )


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_line_with_too_few_or_too_many_cells_is_a_row_that_says_so(end, server):
    rows = [
        HEADER.strip(),
        b"a,31,bern,1,18000",
        b"b,31",
        b"",
        b'c,31,"be,rn",1,18000',
        b",,,,",
        b"d,31,be,rn,1,2,3",
        b"e,31,bern,1,18000",
        b"",
    ]
    answer = server.score(end.join(rows), CSV)
    assert answer["customer"].to_list() == ["a", "b", "c", "d", "e"]
    assert answer["error"].to_list() == [
        None,
        "line 3 has 2 of 5 cells",
        None,
        "line 7 has 7 cells instead of 5; put a cell that holds a separator in quotes",
        None,
    ]
    assert answer["score"].is_null().to_list() == [False, True, False, True, False]
    assert answer["score"][0] == answer["score"][4]


def test_a_cell_of_several_lines_and_doubled_quotes_keep_their_row(server):
    body = HEADER.replace(b"city", b'"city"') + b'"a ""b""\nc",31,bern,1,18000\nd,31\ne,31,bern,1,18000\n'
    answer = server.score(body, CSV)
    assert answer["customer"].to_list() == ['a "b"\nc', "d", "e"]
    assert answer["error"].to_list() == [None, "line 4 has 2 of 5 cells", None]


def test_a_key_that_json_leaves_out_is_no_value(server):
    good = {"customer": "a", "age": 40, "city": None, "paperless": True, "since__days": 18000.5}
    rows = [good, {name: value for name, value in good.items() if name != "age"}, good]
    answer = server.score("\n".join(json.dumps(row) for row in rows).encode(), LINES)
    assert answer["error"].to_list() == [None, "line 2 has no 'age'; write null where there is no value", None]


@pytest.mark.parametrize("column", ["customer", "city"])
@pytest.mark.parametrize("content_type", [PARQUET, CSV, LINES])
def test_a_missing_column_is_named(column, content_type, server):
    status, reason = server.refuse(encoded(table(2).drop(column), content_type), content_type)
    assert status == 400
    assert f"column '{column}' is missing" in reason


HEADER = b"customer,age,city,paperless,since__days\n"


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
