"""A table's whole way through the real components in this process: adopt, train, score, label; a job is a folder."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import components.algorithm.train
import components.explainability.serve
import components.explainability.train
import components.monitoring.serve
import components.monitoring.train
import components.processing.serve
import components.processing.train
from batchloop.adopt import adopting
from batchloop.container import artifacts, job, models, server, usecase
from batchloop.container.server import Application

USECASE = """
[usecase]
name = "case"
title = "A case"
description = "d"
namespace = "team"
[data]
task = "binary"
label = "label"
classes = ["0", "1"]
[columns]
x = { type = "number" }
[split]
method = "random"
[features]
rare = 5
[hyperparameters]
{hyperparameters}
[gate]
metric = "auc"
minimum = 0.5
[explanation]
rows = 50
"""
ROOT = Path(__file__).resolve().parents[1]
QUICK = {"num_iterations": 20, "early_stopping_rounds": 5, "learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 5}
SPLITS = ("train", "validation", "test", "champion_test")
Mode = Callable[[Mapping[str, str]], None]


@dataclass(frozen=True)
class Scored:
    """What a batch was answered with: predictions, processing's summary and the drift report."""

    predictions: pl.DataFrame
    summary: dict[str, Any]
    report: dict[str, Any]


@dataclass(frozen=True)
class Flow:
    """A repository in small at `root`: usecase.toml, data/adopted/ and the artifacts of one release."""

    root: Path

    def begin(self) -> "Flow":
        self.root.mkdir(parents=True)
        chosen = usecase.load(ROOT / "usecase.toml").hyperparameters
        lines = [f"{name} = {json.dumps(QUICK.get(name, value))}" for name, value in chosen.items()]
        text = USECASE.replace("{hyperparameters}", "\n".join(lines))
        (self.root / "usecase.toml").write_text(text, encoding="utf-8")
        return self

    def case(self) -> usecase.UseCase:
        return usecase.load(self.root / "usecase.toml")

    def adopt(self, data: Path, *options: str) -> int:
        """The exit code: 0 adopted, 1 refused, 2 a question."""
        folders = ["--usecase", str(self.root / "usecase.toml"), "--folder", str(self.root / "data")]
        return adopting.main(["--data", str(data), *folders, *options])

    def train(self) -> None:
        """Raises InputError as the jobs would fail."""
        raw = self.root / "data" / "adopted" / "train"
        none = self.root / "none"
        none.mkdir(exist_ok=True)
        artifacts.write_json(none / artifacts.MANIFEST, {"component": artifacts.ABSENT})
        prepare = self._job("prepare", components.processing.train.train, {"raw": raw, "champion": none})
        outputs = {name: prepare / "processing" / "output" / name for name in (*SPLITS, "preprocessor")}
        channels = {name: outputs[name] for name in SPLITS} | {"champion": none}
        fit = self._job("fit", components.algorithm.train.train, channels, training=True)
        evaluation = {"raw": raw, "evaluation": fit / "output" / "data"}
        learn = self._job("learn", components.monitoring.train.train, evaluation)
        explained = {"model": fit / "model", "features": outputs["validation"]}
        explain = self._job("explain", components.explainability.train.train, explained)
        released = {
            "preprocessor": outputs["preprocessor"],
            "model": fit / "model",
            "baseline": learn / "processing" / "output" / "baseline",
            "explainer": explain / "processing" / "output" / "explainer",
        }
        for name, folder in released.items():
            self._replace(folder, self.root / "release" / name)

    def score(self, data: Path, labels: Path | None = None) -> Scored:
        """The batch at `data`, and what the drift report says with or without labels."""
        release = self.root / "release"
        prepare = self._job(
            "features", components.processing.serve.serve, {"raw": data, "preprocessor": release / "preprocessor"}
        )
        features = prepare / "processing" / "output" / "features"
        answers = self.root / "predictions"
        shutil.rmtree(answers, ignore_errors=True)
        answers.mkdir()
        application = Application(models.load(release / "model"), self.case().data.missing, 1)
        for file in sorted(features.glob("*.parquet")):
            (answers / f"{file.name}.out").write_bytes(_answer(application, file))
        inputs = {"raw": data, "predictions": answers, "baseline": release / "baseline"}
        inputs |= {"explainer": release / "explainer"} | ({"labels": labels} if labels else {})
        drift = self._job("drift", components.monitoring.serve.serve, inputs)
        given = {"features": features, "model": release / "model", "explainer": release / "explainer"}
        self._job("reasons", components.explainability.serve.serve, given)
        return Scored(
            pl.concat([pl.read_parquet(file) for file in sorted(answers.glob("*.out"))], how="vertical_relaxed"),
            artifacts.read_json(prepare / "processing" / "output" / "summary" / "summary.json"),
            artifacts.read_json(drift / "processing" / "output" / "drift" / "drift.json"),
        )

    def _job(self, name: str, mode: Mode, inputs: Mapping[str, Path], training: bool = False) -> Path:
        root = self.root / "jobs" / name
        shutil.rmtree(root, ignore_errors=True)
        with _environment(ML_ROOT=str(root), USECASE_FILE=str(self.root / "usecase.toml")):
            for given, source in inputs.items():
                place = job.channel(given) if training else job.processing_input(given)
                place.parent.mkdir(parents=True, exist_ok=True)
                if source.is_file():
                    place.mkdir()
                    shutil.copy(source, place)
                else:
                    shutil.copytree(source, place)
            mode({})
        return root

    def _replace(self, source: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


def _answer(application: Application, file: Path) -> bytes:
    with file.open("rb") as body:
        request = {"PATH_INFO": "/invocations", "REQUEST_METHOD": "POST", "CONTENT_TYPE": server.PARQUET}
        answer = application.answer({**request, "wsgi.input": body})
    assert answer.status == 200, answer.body
    return answer.body


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
