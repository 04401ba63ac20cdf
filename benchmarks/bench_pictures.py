"""Measures pictures beside what is least: decoding beside a bare Pillow loop, serving beside predicting in one process.

`PYTHON benchmarks/bench_pictures.py REPOSITORY`, where REPOSITORY is a rendered one of the domain image after `make
train` and `make score`, and PYTHON any; the results stand in docs/domains.md. Subjects run in fresh processes, in an
order drawn for each round; what counts are ratios within a round.
"""

import io
import json
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_measure as measure
from bench_measure import Command, Values
from bench_serving import AT_ONCE, Load, free_port, loaded

ROUNDS, REQUESTS = 5, 8
KINDS = {"photos": ("JPEG", 640, 480, 64, 1500), "small": ("PNG", 48, 48, 32, 12_000)}  # to so many pixels, so many
BODY = 5_000  # pictures in a request


def main(repository: Path) -> None:
    """Prints a line for each ratio: the median, and the quartiles behind it."""
    python, work = repository / ".venv-components" / "bin" / "python", Path(tempfile.mkdtemp(prefix="pictures-"))
    environment = {"PYTHONPATH": f"{repository}:{Path(__file__).parent}", "PATH": os.environ["PATH"]}
    environment |= {"KERAS_BACKEND": "jax", "HOME": os.environ["HOME"]}

    def subject(*words: str | Path) -> Callable[[], Values]:
        log = work / "logs" / str(words[0])
        command = Command((str(python), "-W", "ignore", __file__, *map(str, words)), environment, log, work)

        def ran() -> Values:
            measure.run(command)
            found: Values = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
            return found

        return ran

    for kind in KINDS:
        subject("write", kind, work / kind)()
        subjects = {name: subject(name, kind, work / kind) for name in ("contract", "pillow")}
        said(kind, subjects, "contract", "pillow")
    storage = repository / "local" / "storage" / "runs"
    with tarfile.open(max(storage.glob("training/*/TrainModel/output/*/output/model.tar.gz"))) as packed:
        packed.extractall(model := work / "model", filter="data")
    features = max(storage.glob("inference/*/PrepareFeatures/features"))
    body = work / "body.parquet"
    subject("body", features, body)()
    root = work / "ml"
    (root / "input" / "config").mkdir(parents=True)
    (root / "input" / "config" / "resourceconfig.json").write_text('{"current_host": "a", "hosts": ["a"]}')
    (root / "model").symlink_to(model)
    served = environment | {"ML_ROOT": str(root), "USECASE_FILE": str(repository / "usecase.toml")}
    served |= {"CODE_VERSION": "benchmark", "SERVE_HOST": "127.0.0.1", "MAX_CONCURRENT_TRANSFORMS": str(AT_ONCE)}

    def server() -> Values:
        port = free_port()
        words = (str(python), "-m", "batchloop.container", "algorithm", "serve")
        command = Command(words, served | {"SAGEMAKER_BIND_TO_PORT": str(port)}, work / "log", root)
        return loaded(command, port, Load(body, BODY, REQUESTS))

    said("serving", {"server": server, "in process": subject("predict", model, body)}, "server", "in process")


def said(title: str, subjects: dict[str, Callable[[], Values]], of: str, to: str) -> None:
    """Measure, and print the ratios of rates and of CPU time."""
    done: list[measure.Round] = []
    measure.measure(subjects, measure.Plan(ROUNDS, ROUNDS + 3), done, lambda: None)
    counted = measure.counted(done, ROUNDS)
    rate, cpu = (measure.spread(measure.ratios(counted, of, to, what)).text() for what in ("rate", "cpu"))
    taken = {name: measure.spread(measure.ratios(counted, name, "", "rate")).text() for name in subjects}
    print(f"{title}: rate of {of} / {to} {rate}, CPU {cpu}; pictures a second: {taken}", flush=True)


def _timed(work: Callable[[], int]) -> None:
    start, used = time.perf_counter(), time.process_time()
    rows = work()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    print(json.dumps({"rate": rows / seconds, "cpu": used / rows * 1e6}))


def write(kind: str, folder: str) -> None:
    """A table of pictures with some detail in them."""
    import numpy as np
    import polars as pl
    from PIL import Image

    form, width, height, _, count = KINDS[kind]
    random, cells = np.random.default_rng(7), []
    for _ in range(40):
        coarse = Image.fromarray(random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
        target = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(target, form, quality=90)
        cells.append(target.getvalue())
    Path(folder).mkdir()
    picked = [cells[number % len(cells)] for number in range(count)]
    labels = [("circle", "square")[number % 2] for number in range(count)]
    rows = {"picture_id": [f"P{number}" for number in range(count)], "picture": picked, "shape": labels}
    pl.DataFrame(rows).write_parquet(Path(folder) / "table.parquet", row_group_size=2000)
    print("{}")


def contract(kind: str, folder: str) -> None:
    """The component's own reading: every rule of the contract, and rows in batches."""
    from batchloop.container import raw, usecase

    file = next(Path(place) / "usecase.toml" for place in os.environ["PYTHONPATH"].split(":"))
    case = usecase.load(file)
    (column,) = case.columns
    case = replace(case, columns=(replace(column, size=KINDS[kind][3], colour=True),))
    _timed(lambda: sum(len(batch) for batch in raw.stream(Path(folder), case)[1]))


def pillow(kind: str, folder: str) -> None:
    """Open, draft, convert and resize on two threads."""
    import polars as pl
    from PIL import Image

    size = KINDS[kind][3]

    def one(cell: bytes) -> bytes:
        with Image.open(io.BytesIO(cell)) as image:
            image.draft("RGB", (2 * size, 2 * size))
            made: bytes = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2).tobytes()
            return made

    def work() -> int:
        cells = pl.read_parquet(Path(folder) / "table.parquet")["picture"].to_list()
        with ThreadPoolExecutor(2) as pool:
            return len(list(pool.map(one, cells)))

    _timed(work)


def body(features: str, target: str) -> None:
    """Rows as processing writes them, as many as a request has here."""
    import polars as pl

    some = pl.concat([pl.read_parquet(file) for file in sorted(Path(features).glob("*.parquet"))], how="diagonal")
    pl.concat([some] * (BODY // len(some) + 1)).head(BODY).write_parquet(target, compression="lz4")
    print("{}")


def predict(model: str, body: str) -> None:
    """Parse, predict and write on as many threads as a server answers requests."""
    import polars as pl

    from batchloop.container import models, tables

    fitted = models.load(Path(model))
    content = Path(body).read_bytes()

    def one(_number: int) -> int:
        frame, target = pl.read_parquet(content), io.BytesIO()
        scores = models.module().predict(fitted.fitted, tables.matrix(frame, fitted.metadata["features"]), 1)
        pl.DataFrame({"id": frame[fitted.metadata["id"]], "score": scores.max(axis=1)}).write_parquet(target)
        return len(frame)

    def work() -> int:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return sum(pool.map(one, range(REQUESTS)))

    one(0)
    _timed(work)


if __name__ == "__main__":
    known: dict[str, Any] = {each.__name__: each for each in (write, contract, pillow, body, predict)}
    if sys.argv[1] in known:
        known[sys.argv[1]](*sys.argv[2:])
    else:
        main(Path(sys.argv[1]).resolve())
