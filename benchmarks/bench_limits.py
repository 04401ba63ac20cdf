"""The least work there is, as programs of the components' environment: `python bench_limits.py NAME ARGUMENT …`.

What a limit does not need it does not import: starting counts too.
"""

import io
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

PARTS = ("train", "validation", "test")


def copy(source: str, target: str) -> None:
    """Read a table and write it as Parquet, streaming; a CSV file's types are given."""
    if source.endswith(".csv"):
        with open(source, encoding="utf-8") as file:
            names = file.readline().strip().split(",")
        numbers = [name for name in names if name[0] == "n" and name[1:].isdigit()]
        frame = pl.scan_csv(source, schema=dict.fromkeys(names, pl.String) | dict.fromkeys(numbers, pl.Float64))
    else:
        frame = pl.scan_parquet(source)
    Path(target).mkdir(parents=True, exist_ok=True)
    frame.sink_parquet(f"{target}/copy.parquet", engine="streaming")


def read(*files: str) -> None:
    """Read every file whole."""
    for file in files:
        pl.read_parquet(file)


def matrix(frame: pl.DataFrame, features: Sequence[dict[str, Any]]) -> Any:
    """A table's features as a model takes them."""
    import numpy as np

    numbers = np.empty((frame.height, len(features)), dtype=np.float32)
    for position, feature in enumerate(features):
        column = frame[feature["name"]]
        if feature["kind"] == "category":
            column = column.cast(pl.Enum(feature["categories"]), strict=False).to_physical()
        numbers[:, position] = column.cast(pl.Float32).to_numpy()
    return numbers


def model(folder: str) -> tuple[Any, list[dict[str, Any]]]:
    """A booster and its features."""
    import lightgbm as lgb

    booster = lgb.Booster(model_str=Path(folder, "model.txt").read_text(encoding="utf-8"))
    return booster, json.loads(Path(folder, "metadata.json").read_text(encoding="utf-8"))["features"]


def fit(data: str, hyperparameters: str, target: str) -> None:
    """lightgbm.train with its own evaluation of validation, the test rows' AUC, and the model as text."""
    import lightgbm as lgb

    features = json.loads(Path(data, "validation", "features.json").read_text(encoding="utf-8"))["features"]
    sets: dict[str, Any] = {}
    for part in PARTS:
        frame = pl.read_parquet(f"{data}/{part}/*.parquet")
        labels = (frame["label"] == "yes").cast(pl.Float64).to_numpy()
        rows = matrix(frame, features)
        sets[part] = lgb.Dataset(rows, labels, reference=sets["train"] if sets else None)
    given = json.loads(hyperparameters)
    fixed = {"objective": "binary", "metric": "binary_logloss", "num_threads": os.cpu_count(), "verbosity": -1}
    fixed |= {"deterministic": True, "force_row_wise": True, "feature_pre_filter": False}
    booster = lgb.train(
        given | fixed,
        sets["train"],
        valid_sets=[sets["validation"]],
        valid_names=["validation"],
    )
    ranks = pl.Series(booster.predict(rows)).rank().to_numpy()  # of the test rows, which were read last
    hits = labels.sum()
    auc = (ranks[labels == 1].sum() - hits * (hits + 1) / 2) / (hits * (labels.size - hits))
    Path(target).mkdir(parents=True, exist_ok=True)
    Path(target, "model.txt").write_text(booster.model_to_string(), encoding="utf-8")
    Path(target, "auc.json").write_text(json.dumps(float(auc)), encoding="utf-8")


def table(content: bytes, name: str) -> pl.DataFrame:
    """A request's body."""
    return pl.read_parquet(content) if name.endswith(".parquet") else pl.read_csv(content, infer_schema_length=1000)


def answer(folder: str, body: str, requests: str) -> None:
    """Parse, predict and write in this process on two threads, so many requests; prints rows a second as JSON."""
    booster, features = model(folder)
    content = Path(body).read_bytes()

    def one(_number: int) -> int:
        frame, target = table(content, body), io.BytesIO()
        scores = booster.predict(matrix(frame, features), num_threads=1)
        answered = pl.DataFrame({"id": frame["id"], "score": scores})
        answered.write_parquet(target, compression="lz4") if body.endswith(".parquet") else answered.write_csv(target)
        return len(answered)

    one(0)
    start, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(2) as pool:
        rows = sum(pool.map(one, range(int(requests))))
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"rate": rows / seconds, "cpu_a_million": used / rows * 1e6}))


def contributions(folder: str, features: str, rows: str, target: str) -> None:
    """pred_contrib of the first rows."""
    import numpy as np

    booster, described = model(folder)
    numbers = matrix(pl.read_parquet(features).head(int(rows)), described)
    Path(target).mkdir(parents=True, exist_ok=True)
    np.save(Path(target, "contributions.npy"), booster.predict(numbers, pred_contrib=True))


def main(name: str, *arguments: str) -> None:
    known = (copy, read, fit, answer, contributions)
    {function.__name__: function for function in known}[name](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
