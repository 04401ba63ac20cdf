"""One host or several: what each finds in its part of the files is together what one host finds in all of them."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, explanations, job
from batchloop.contract.flow import Flow
from components.explainability import serve as explaining
from components.monitoring import serve as monitoring

USECASE = """
[usecase]
name = "loans"
title = "Loans"
[data]
task = "binary"
id = "id"
label = "repaid"
classes = ["no", "yes"]
bad_rows = 0.1
[columns]
income = { type = "number", minimum = 0 }
debt = { type = "number" }
town = { type = "category" }
owner = { type = "boolean" }
since = { type = "date", format = "%Y-%m-%d" }
[split]
method = "random"
validation = 0.2
test = 0.2
[hyperparameters]
num_iterations = 20
early_stopping_rounds = 5
[gate]
metric = "auc"
minimum = 0.5
[drift]
minimum_rows = 100
[explanation]
rows = 0
"""
HOSTS = pytest.mark.parametrize("count", [1, 2, 4, 6])  # there are five files
Mode = Callable[[Mapping[str, str]], None]


def table(rows: int, seed: int, towns: str) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    income, debt = random.lognormal(7, 0.5, rows), random.normal(size=rows)
    return pl.DataFrame(
        {
            "id": [f"{seed}-{number}" for number in range(rows)],
            "income": pl.Series(income.round(2)).set(pl.Series(random.random(rows) < 0.02), -1.0),
            "debt": debt,
            "town": random.choice([*towns], rows),
            "owner": random.choice(["yes", "no"], rows),
            "since": [f"20{10 + day % 14:02}-{1 + day % 12:02}-11" for day in random.integers(0, 999, rows)],
            "repaid": np.where(debt + random.normal(size=rows) > 0, "yes", "no"),
        }
    )


def write(folder: Path, files: int, rows: int, towns: str = "abc", seed: int = 1) -> Path:
    """A table in some files, some of them CSV, whose towns change from one to the next."""
    folder.mkdir(parents=True)
    for number in range(files):
        part = table(rows + 10 * number, seed + number, towns + "xyzuvw"[: number % 5] * (towns != "abc"))
        if number % 2:
            part.write_csv(folder / f"part-{number}.csv")
        else:
            part.write_parquet(folder / f"part-{number}.parquet")
    return folder


class Hosts:
    """A job on several hosts, one after another: each has its /opt/ml, and what they store lies in one place."""

    def __init__(self, flow: Flow, count: int) -> None:
        self.flow, self.names = flow, tuple(f"algo-{number + 1}" for number in range(count))

    def run(
        self, component: str, mode: Mode, inputs: Mapping[str, Path], spread: str = "", share: bool = True
    ) -> tuple[list[int], Path]:
        """The hosts' exit codes, and the folder with their outputs together."""
        root, codes = self.flow.root / f"hosts-{component}-{len(self.names)}-{share}", list[int]()
        for number, name in enumerate(self.names if share else self.names[:1]):
            place = root / name
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ML_ROOT", str(place))
                patch.setenv("USECASE_FILE", str(self.flow.root / "usecase.toml"))
                for given, source in inputs.items():
                    target = job.processing_input(given)
                    target.mkdir(parents=True)
                    files = sorted(path for path in source.rglob("*") if path.is_file())
                    for file in files[number :: len(self.names)] if given == spread and share else files:
                        shutil.copy(file, target)
                kinds = {name: "ShardedByS3Key" if name == spread and share else "FullyReplicated" for name in inputs}
                described = [{"InputName": name, "S3Input": {"S3DataDistributionType": kinds[name]}} for name in inputs]
                (place / "config").mkdir()
                job.processing_output("").mkdir()
                artifacts.write_json(place / "config" / "processingjobconfig.json", {"ProcessingInputs": described})
                hosts = {"current_host": name, "hosts": list(self.names if share else self.names[:1])}
                artifacts.write_json(place / "config" / "resourceconfig.json", hosts)
                arguments = ["--share", "true"] if share else []
                codes.append(job.run(component, mode, arguments))
            shutil.copytree(place / "processing" / "output", root / "together", dirs_exist_ok=True)
        return codes, root / "together"


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    """A released model, and a batch of five files that was scored by one host."""
    flow = Flow(tmp_path_factory.mktemp("shards") / "repository").begin(USECASE)
    flow.train(write(flow.root / "training", 2, 2000))
    flow.score(write(flow.root / "batch", 5, 300, "abcd", seed=50))
    return flow


def close(one: Any, other: Any) -> bool:
    """The same but for the last digits of sums."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return bool(one == other or (isinstance(one, float) and one == pytest.approx(other, rel=1e-9)))


@HOSTS
def test_hosts_that_count_see_the_drift_that_one_sees(flow: Flow, count: int) -> None:
    release, hosts = flow.root / "release", Hosts(flow, count)
    inputs = {"raw": flow.root / "batch", "baseline": release / "baseline"}
    codes, found = hosts.run("monitoring serve", monitoring.serve, inputs, "raw")
    assert codes == [0] * count
    inputs = {"counts": found / "counts", "baseline": release / "baseline", "explainer": release / "explainer"}
    inputs["predictions"] = flow.root / "predictions"
    codes, judged = hosts.run("monitoring serve", monitoring.serve, inputs, share=False)
    assert codes == [0]
    alone = flow.root / "jobs/monitoring-serve/processing/output"
    together, one = (json.loads((place / "drift" / "drift.json").read_text()) for place in (judged, alone))
    assert one["drifted"]
    assert next(column for column in one["columns"] if column["name"] == "town")["unknown_examples"]
    assert close(one, together)


def test_what_one_of_the_hosts_did_not_write_is_missed(flow: Flow, capsys: pytest.CaptureFixture[str]) -> None:
    hosts = Hosts(flow, 3)
    inputs = {"raw": flow.root / "batch", "baseline": flow.root / "release" / "baseline"}
    _, found = hosts.run("monitoring serve", monitoring.serve, inputs, "raw")
    (found / "counts" / "algo-2-share.json").unlink()
    inputs = {"counts": found / "counts", "baseline": flow.root / "release" / "baseline"}
    inputs |= {"explainer": flow.root / "release" / "explainer"}
    assert hosts.run("monitoring serve", monitoring.serve, inputs, share=False)[0] == [1]
    assert "lacks the share of algo-2" in capsys.readouterr().err


def explained_by(flow: Flow, count: int) -> tuple[list[int], Path]:
    """What hosts explain together, and what is made of it."""
    release, hosts = flow.root / "release", Hosts(flow, count)
    given = {"model": release / "model", "explainer": release / "explainer"}
    features = flow.root / "jobs/processing-serve/processing/output/features"
    codes, found = hosts.run("explainability serve", explaining.serve, {"features": features, **given})
    assert codes == [0] * count
    return hosts.run("explainability serve", explaining.serve, {"reasons": found / "reasons", **given}, share=False)


@HOSTS
def test_hosts_that_explain_write_what_one_writes(flow: Flow, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte: the rows are chosen and cut alike on every host."""
    monkeypatch.setattr(explanations, "CHUNK", 200)
    monkeypatch.setattr(explanations, "CELLS", 1)
    flow.score(flow.root / "batch")
    codes, found = explained_by(flow, count)
    assert codes == [0]
    alone = flow.root / "jobs/explainability-serve/processing/output/explanations"
    files = sorted(file.name for file in alone.iterdir())
    assert "explanations.parquet" in files
    for name in files:
        assert (found / "explanations" / name).read_bytes() == (alone / name).read_bytes(), name


def test_reasons_that_a_host_did_not_write_are_missed(
    flow: Flow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = explanations.explained
    monkeypatch.setattr(explanations, "CHUNK", 500)
    monkeypatch.setattr(explanations, "CELLS", 1)
    monkeypatch.setattr(explanations, "explained", lambda *given: [*whole(*given)][1:])
    assert explained_by(flow, 3)[0] == [1]
    assert "has 61 of 1,561 rows" in capsys.readouterr().err
