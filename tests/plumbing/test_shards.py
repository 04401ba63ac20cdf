"""One host or several: what each finds in its part of the files is together what one host finds in all of them."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from batchloop.container import artifacts, explanations, job, profile, samples
from batchloop.contract.flow import Flow
from components.explainability import serve as explaining
from components.monitoring import serve as monitoring
from components.monitoring import train as learning
from components.processing import train as preparing

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
[features]
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
SHARED, AGAIN, ALONE = "shared", "again", "alone"  # what is done before, what all do then, and what one does
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
            "branch": pl.Series(random.integers(0, 60, rows))
            .cast(pl.String)
            .set(pl.Series(random.random(rows) < 0.05), None),
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
        self, component: str, mode: Mode, inputs: Mapping[str, Path], spread: str = "", how: str = SHARED
    ) -> tuple[list[int], Path]:
        """The hosts' exit codes, and the folder with their outputs together."""
        names = self.names[:1] if how == ALONE else self.names
        root, codes = self.flow.root / f"hosts-{component}-{len(self.names)}-{how}", list[int]()
        for number, name in enumerate(names):
            place = root / name
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ML_ROOT", str(place))
                patch.setenv("USECASE_FILE", str(self.flow.root / "usecase.toml"))
                for given, source in inputs.items():
                    target = job.processing_input(given)
                    target.mkdir(parents=True)
                    files = sorted(path for path in source.rglob("*") if path.is_file())
                    for file in files[number :: len(self.names)] if given == spread else files:
                        shutil.copy(file, target)
                kinds = {given: "ShardedByS3Key" if given == spread else "FullyReplicated" for given in inputs}
                described = [
                    {"InputName": given, "S3Input": {"S3DataDistributionType": kind}} for given, kind in kinds.items()
                ]
                (place / "config").mkdir()
                job.processing_output("").mkdir()
                artifacts.write_json(place / "config" / "processingjobconfig.json", {"ProcessingInputs": described})
                hosts = {"current_host": name, "hosts": list(names)}
                artifacts.write_json(place / "config" / "resourceconfig.json", hosts)
                arguments = ["--share", "true"] if how == SHARED else []
                codes.append(job.run(component, mode, arguments, samples.spread))
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
    codes, judged = hosts.run("monitoring serve", monitoring.serve, inputs, how=ALONE)
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
    assert hosts.run("monitoring serve", monitoring.serve, inputs, how=ALONE)[0] == [1]
    assert "lacks the share of algo-2" in capsys.readouterr().err


def explained_by(flow: Flow, count: int) -> tuple[list[int], Path]:
    """What hosts explain together, and what is made of it."""
    release, hosts = flow.root / "release", Hosts(flow, count)
    given = {"model": release / "model", "explainer": release / "explainer"}
    features = flow.root / "jobs/processing-serve/processing/output/features"
    codes, found = hosts.run("explainability serve", explaining.serve, {"features": features, **given})
    assert codes == [0] * count
    return hosts.run("explainability serve", explaining.serve, {"reasons": found / "reasons", **given}, how=ALONE)


@pytest.fixture(params=["rows = 0", "rows = 700", 'rows = 700\nrule = "highest"'])
def chosen(flow: Flow, request: pytest.FixtureRequest) -> Iterator[None]:
    """Which rows are explained, under one of the rules."""
    file = flow.root / "usecase.toml"
    file.write_text(USECASE.replace("\nrows = 0", f"\n{request.param}"))
    yield
    file.write_text(USECASE)


@HOSTS
@pytest.mark.usefixtures("chosen")
def test_hosts_that_explain_write_what_one_writes(flow: Flow, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte: the rows are chosen and cut alike on every host."""
    monkeypatch.setattr(explanations, "CHUNK", 200)
    monkeypatch.setattr(explanations, "CELLS", 1)
    for folder in flow.root.glob("hosts-explainability*"):
        shutil.rmtree(folder)
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
    for folder in flow.root.glob("hosts-explainability*"):
        shutil.rmtree(folder)
    monkeypatch.setattr(explanations, "CHUNK", 500)
    monkeypatch.setattr(explanations, "CELLS", 1)
    monkeypatch.setattr(explanations, "explained", lambda *given: [*whole(*given)][1:])
    assert explained_by(flow, 3)[0] == [1]
    assert "has 61 of 1,561 rows" in capsys.readouterr().err


def rewritten(flow: Flow, folder: Path, **changed: str) -> Flow:
    """The same repository with other lines in usecase.toml."""
    other = Flow(folder / "repository").begin(USECASE)
    text = USECASE
    for old, new in changed.items():
        text = text.replace(f"[{old}]", f"[{old}]\n{new}", 1)
    (other.root / "usecase.toml").write_text(text.replace('method = "random"\n', "", "method =" in str(changed)))
    (other.root / "training").symlink_to(flow.root / "batch")
    return other


def prepared(flow: Flow, count: int) -> Path:
    """What hosts prepare together."""
    hosts, raw = Hosts(flow, count), flow.root / "training"
    given = {"raw": raw, "earlier": raw / "none"}
    codes, found = hosts.run("processing train", preparing.train, given, "raw")
    assert codes == [0] * count
    given |= {"sample": found / "sample", "champion": flow._absent()}
    codes, together = hosts.run("processing train", preparing.train, given, "raw", AGAIN)
    assert codes == [0] * count
    return together


SPLITTING = {
    "random": "",
    "time": 'method = "time"\n',
    "group": 'method = "group"\ngroup = "branch"\n',
}


@HOSTS
@pytest.mark.parametrize("method", SPLITTING)
def test_hosts_that_prepare_write_the_rows_of_one(flow: Flow, count: int, method: str, tmp_path: Path) -> None:
    changed = {"split": SPLITTING[method]} | ({"data": 'time = "since"'} if method == "time" else {})
    other = rewritten(flow, tmp_path, **changed)
    alone = other.prepare(other.root / "training")
    together = prepared(other, count)
    for part in ("train", "validation", "test"):
        one, several = (flow_table(folder / part) for folder in (alone["train"].parent, together))
        assert_frame_equal(one, several)
    for name in ("validation/features.json", "preprocessor/preprocessor.json", "champion_test/manifest.json"):
        assert (together / name).read_text() == (alone["train"].parent / name).read_text()
    assert not (together / "train" / "features.json").exists()


def flow_table(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted(folder.glob("*.parquet")), glob=False).sort("id")


def test_a_sample_is_the_same_on_any_number_of_hosts_and_near_the_whole(
    flow: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 600 rows of 1,600 a median is off by 5.6 % of the rows (DKW, once in 50 times); here with a seed."""
    other = rewritten(flow, tmp_path, features='impute = "median"\nrare = 100\n')
    alone = json.loads((other.prepare(other.root / "training")["preprocessor"] / "preprocessor.json").read_text())
    monkeypatch.setattr(samples, "ROWS", 600)
    found = [prepared(other, count) / "preprocessor" / "preprocessor.json" for count in (1, 2, 4)]
    learned = [json.loads(file.read_text()) for file in found]
    assert learned[0] == learned[1] == learned[2]
    rows = other.typed(other.root / "training")
    for before, now in zip(alone["features"], learned[0]["features"], strict=True):
        assert before["name"] == now["name"]
        assert set(before.get("categories", ())) == set(now.get("categories", ()))
        if "fill" in now:
            assert abs((rows[now["name"]] <= now["fill"]).mean() - 0.5) < 0.056


@HOSTS
def test_hosts_learn_the_baseline_of_one(flow: Flow, count: int) -> None:
    hosts, evaluation = Hosts(flow, count), flow.root / "jobs/monitoring-train/processing/input/evaluation"
    raw = {"raw": flow.root / "training"}
    codes, found = hosts.run("monitoring train", learning.train, raw, "raw")
    assert codes == [0] * count
    given = {"sample": found / "sample", "evaluation": evaluation}
    codes, together = hosts.run("monitoring train", learning.train, given, how=ALONE)
    assert codes == [0]
    alone = flow.root / "jobs/monitoring-train/processing/output"
    one, several = (json.loads((place / "baseline/baseline.json").read_text()) for place in (alone, together))
    assert close(one, several)


def test_a_baseline_of_a_sample_keeps_what_is_exact(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "ROWS", 1000)
    hosts, evaluation = Hosts(flow, 3), flow.root / "jobs/monitoring-train/processing/input/evaluation"
    _, found = hosts.run("monitoring train", learning.train, {"raw": flow.root / "training"}, "raw")
    given = {"sample": found / "sample", "evaluation": evaluation}
    _, together = hosts.run("monitoring train", learning.train, given, how=ALONE)
    alone = flow.root / "jobs/monitoring-train/processing/output"
    one, several = (json.loads((place / "baseline/baseline.json").read_text()) for place in (alone, together))
    assert several["rows"] == one["rows"] == 4010
    for before, now in zip(one["columns"], several["columns"], strict=True):
        for key in profile.EXACT:
            assert close(before.get(key), now.get(key)), (before["name"], key)
        assert sum(now["counts"]) < 600
        shares = [np.asarray(column["counts"]) / sum(column["counts"]) for column in (before, now)]
        if "values" in before:
            assert np.abs(shares[0] - shares[1]).max() < 0.1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"split": 'method = "time"\ngroup = "branch"', "data": 'time = "since"'}, "can't split by time and group"),
        ({"split": 'method = "given"\ngroup = "branch"'}, "can't split by given and group"),
        ({}, "not from earlier ones too"),
    ],
)
def test_what_takes_all_rows_on_one_host_is_refused_in_a_sentence(
    flow: Flow, changed: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = rewritten(flow, tmp_path, **changed)
    earlier = other.root / "training" if not changed else other.root / "none"
    given = {"raw": other.root / "training", "earlier": earlier}
    assert Hosts(other, 2).run("processing train", preparing.train, given, "raw")[0] == [1, 1]
    refused = capsys.readouterr().err
    assert said in refused
    assert "count = 1 for processing" in refused


def test_files_of_one_name_are_refused(flow: Flow, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = rewritten(flow, tmp_path)
    hosts, raw = Hosts(other, 2), other.root / "training"
    given = {"raw": raw, "earlier": raw / "none", "champion": other._absent()}
    _, found = hosts.run("processing train", preparing.train, given, "raw")
    for file in (found / "sample").glob("algo-2-share.json"):
        share = json.loads(file.read_text())
        file.write_text(json.dumps(share | {"files": {"part-0.parquet": 1}}))
    given["sample"] = found / "sample"
    assert hosts.run("processing train", preparing.train, given, "raw", AGAIN)[0] == [1, 1]
    assert "several files are called 'part-0.parquet'" in capsys.readouterr().err


def test_a_host_that_fails_says_which_file_is_wrong(
    flow: Flow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SageMaker ends the job there, and nobody adds up what the other hosts found."""
    other = rewritten(flow, tmp_path)
    (other.root / "training").unlink()
    shutil.copytree(flow.root / "batch", other.root / "training")
    (other.root / "training/part-1.csv").write_text("id,income\n1,2\n")
    given = {"raw": other.root / "training", "earlier": other.root / "none"}
    assert Hosts(other, 2).run("processing train", preparing.train, given, "raw")[0] == [0, 1]
    assert "part-1.csv has no column" in capsys.readouterr().err
