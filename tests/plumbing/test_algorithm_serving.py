"""The real server on a loopback port: content types, rows that can't be scored, refusals, load, and SIGTERM."""

import http.client
import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, models, tables, usecase
from batchloop.container.protocols import Problem, Table
from components.algorithm import model
from plumbing.rendered import ROOT

# As in the image: LightGBM would import pandas and scikit-learn where it finds them, which takes seconds.
WITHOUT = "import sys, runpy; sys.modules |= {'pandas': None, 'sklearn': None}; "
AS_IN_THE_IMAGE = WITHOUT + "runpy.run_module('batchloop.container', None, '__main__')"
PARQUET, CSV, LINES = "application/x-parquet", "text/csv", "application/jsonlines"
HEADER = b"customer,age,city,paperless,since__days\n"
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
