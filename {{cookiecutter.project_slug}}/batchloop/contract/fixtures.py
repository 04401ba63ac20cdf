"""The images of this repository as it is now, and one finished run of every job on rows of its own table."""

import io
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchloop import repository
from batchloop.cloud import images
from batchloop.contract.containers import JOBS, Contract, Server, serving

PARQUET, CSV, LINES = "application/x-parquet", "text/csv", "application/jsonlines"
ROWS = 3000
HERE = repository.here()


def excerpt(source: Path, target: Path) -> None:
    """The first rows of the first table in a folder, in its own format."""
    file = sorted(path for path in source.rglob("*") if path.is_file() and path.name[0] not in "._")[0]
    separator = tomllib.loads((HERE.root / "usecase.toml").read_text(encoding="utf-8"))["data"].get("separator", ",")
    target.mkdir(parents=True)
    if file.suffix == ".parquet":
        pl.read_parquet(file, n_rows=ROWS).write_parquet(target / "rows.parquet")
    else:
        rows = pl.read_csv(file, infer_schema=False, n_rows=ROWS, separator=separator)
        rows.write_csv(target / "rows.csv", separator=separator)


def tables(folder: Path) -> tuple[Path, Path]:
    """Where labelled and new rows lie: the use case's own, or a sample for this process alone."""
    learned, production = HERE.data("train"), HERE.data("production")
    if not learned.exists():
        command = [sys.executable, "-m", "data.sample", "--rows", str(ROWS), "--output", str(folder / "sample")]
        subprocess.run(command, cwd=HERE.root, check=True, capture_output=True)
        return folder / "sample" / "train", folder / "sample" / "production"
    return learned, production if production.exists() else learned


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    """Every job has run once, the next on what the one before has written."""
    folder = tmp_path_factory.mktemp("contract")
    learned, production = tables(tmp_path_factory.mktemp("tables"))
    excerpt(learned, folder / "data" / "train")
    excerpt(production, folder / "data" / "production")
    if HERE.tables().get("split", {}).get("method") == "given":
        excerpt(HERE.data("validation"), folder / "data" / "validation")
    (folder / "data" / "absent").mkdir()
    (folder / "data" / "absent" / "manifest.json").write_text(json.dumps({"component": "none"}))
    built = {image.component: image.name for image in images.build(HERE)}
    hyperparameters = {name: _text(value) for name, value in HERE.tables()["hyperparameters"].items()}
    found = Contract(built, folder, {**hyperparameters, "trials": "0", "continue_training": "false"})
    try:
        for spec in JOBS:
            if spec.name == "monitoring serve":
                score(found, tmp_path_factory.mktemp("server"))
            root = tmp_path_factory.mktemp("job")
            code, running = found.run(spec, root)
            assert code == 0, running.log()
            found.keep(spec, root)
        yield found
    finally:
        found.remove_all()


def score(contract: Contract, root: Path) -> None:
    """What batch transform does: every file of features is a request, every answer a file."""
    target = contract.stored(("algorithm serve", "predictions"))
    target.mkdir(parents=True)
    with serving(contract, root) as server:
        for file in sorted(contract.stored(("processing serve", "features")).iterdir()):
            status, body = server.invoke(file.read_bytes(), PARQUET, PARQUET)
            assert status == 200, body
            (target / f"{file.name}.out").write_bytes(body)


@pytest.fixture(scope="module")
def server(contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The algorithm's image in serve mode."""
    with serving(contract, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def features(contract: Contract) -> pl.DataFrame:
    """The features of the use case's own rows, as processing wrote them."""
    return pl.read_parquet(contract.stored(("processing serve", "features")) / "*.parquet")


@pytest.fixture(scope="session")
def schema(contract: Contract) -> dict[str, Any]:
    """preprocessor.json: the name of the id, and each feature's name and kind."""
    learned = contract.stored(("processing train", "preprocessor")) / "preprocessor.json"
    return dict(json.loads(learned.read_text()))


def body(frame: pl.DataFrame, kind: str) -> bytes:
    """A table as a request's body."""
    target = io.BytesIO()
    if kind == PARQUET:
        frame.write_parquet(target)
    else:
        frame.write_csv(target) if kind == CSV else frame.write_ndjson(target)
    return target.getvalue()


def read(answer: bytes, kind: str = PARQUET) -> pl.DataFrame:
    """An answer as a table."""
    source = io.BytesIO(answer)
    if kind == PARQUET:
        return pl.read_parquet(source)
    return pl.read_csv(source) if kind == CSV else pl.read_ndjson(source)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
