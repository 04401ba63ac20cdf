"""A table's whole way through the components in one process: train, score; a job is a folder."""

import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, job, models, raw, server, usecase
from batchloop.container.horizons import Series
from batchloop.container.usecase import Column, UseCase

SPLITS = ("train", "validation", "test", "champion_test")
Mode = Callable[[Mapping[str, str]], None]


def rows(case: UseCase, count: int, seed: int = 1) -> pl.DataFrame:
    """Made-up rows under a use case's contract: id, time, group, columns and a label that the columns say much of.

    Of series, so many rows or a few more: whole series of one length, which go up and down with their season.
    """
    if case.series:
        return _series_rows(case, case.series, count, seed)
    random = np.random.default_rng(seed)
    columns = {column.name: _values(column, count, random) for column in case.columns}
    ranks = [pl.Series(values).rank("ordinal").to_numpy() / count for values in columns.values()]
    signal = sum(ranks[:3]) / min(3, len(ranks)) + random.normal(0, 0.1, count)
    label: Any = signal
    if case.data.classes:
        borders = np.quantile(signal, np.arange(1, len(case.data.classes)) / len(case.data.classes))
        label = np.array(case.data.classes)[np.digitize(signal, borders)]
    pictures = {column.name: _pictures(columns[column.name]) for column in case.columns if column.type == "image"}
    table = {case.data.label: label, **columns, **pictures}
    for name in {case.data.time, *(column.name for column in case.columns if column.type == "date")} - {""}:
        table.setdefault(name, _values(Column(name, "date"), count, random))
    if case.split.group:
        table.setdefault(case.split.group, [f"g{number % (count // 4)}" for number in range(count)])
    if case.data.id:
        table[case.data.id] = [f"{seed}-{number}" for number in range(count)]
    return pl.DataFrame(table)


def _series_rows(case: UseCase, series: Series, count: int, seed: int) -> pl.DataFrame:
    periods = max(count // 10, 6 * series.horizon, 6 * series.season_length)
    names = [f"{seed}-{number}" for number in range(max(1, count // periods))] if series.id else [""]
    random, total = np.random.default_rng(seed), len(names) * periods
    unit = series.frequency.lstrip("0123456789")
    steps = pl.int_range(periods, eager=True) * int(series.frequency.removesuffix(unit))
    time = pl.select(pl.lit(datetime(2019, 1, 7)).dt.offset_by(pl.concat_str(steps, pl.lit(unit)))).to_series()
    number = np.tile(np.arange(periods), len(names))
    level = np.repeat(random.lognormal(3, 1, len(names)), periods)
    wave = 1 + 0.4 * np.sin(2 * np.pi * number / series.season_length) + number / periods
    table: dict[str, Any] = {case.data.time: pl.concat([time] * len(names)).cast(pl.Datetime("us"))}
    table |= {series.id: np.repeat(names, periods)} if series.id else {}
    table |= {column.name: _values(column, total, random) for column in case.columns}
    return pl.DataFrame({**table, case.data.label: level * wave * np.exp(random.normal(0, 0.05, total))})


def unlabelled(case: UseCase, table: pl.DataFrame) -> pl.DataFrame:
    """Rows as they are scored: without the label; of series only the last horizon is, and what is not known by then."""
    if case.series is None:
        return table.drop(case.data.label)
    names = [column.name for column in case.columns if column.name not in case.series.known]
    time = pl.col(case.data.time)
    last = table.select(time.unique().sort().tail(case.series.horizon).min()).item()
    return table.with_columns(pl.when(time < last).then(pl.col(name)).alias(name) for name in [case.data.label, *names])


def _values(column: Column, count: int, random: np.random.Generator) -> Any:
    match column.type:
        case "category":
            return np.array([f"{column.name} {letter}" for letter in "abcd"])[random.integers(0, 4, count)]
        case "text":
            words = np.array([f"{column.name}{letter}" for letter in "abcdefgh"])
            return [" ".join(words[random.integers(0, 8, 5)]) for _ in range(count)]
        case "boolean":
            return random.random(count) < 0.5
        case "date":
            days = pl.Series(random.integers(0, 1200, count)) + 18_000  # from 2019 on
            return days.cast(pl.Int32).cast(pl.Date)
        case "image":
            return random.integers(40, 216, count)  # their brightness
    low = column.minimum if column.minimum is not None else min(0.0, (column.maximum or 1.0) - 1.0)
    high = column.maximum if column.maximum is not None else max(1.0, low + 100.0)
    return np.round(random.uniform(low, high, count))


def _pictures(brightness: Any) -> list[bytes]:
    """Small pictures of a square, as PNG."""
    from PIL import Image  # noqa: PLC0415 - only where the contract has pictures

    made = []
    for grey in brightness:
        target, picture = io.BytesIO(), Image.new("L", (24, 24), int(grey))
        picture.paste(255 - int(grey), (8, 8, 16, 16))
        picture.save(target, "PNG")
        made.append(target.getvalue())
    return made


def table(folder: Path) -> pl.DataFrame:
    """The rows of all Parquet files in a folder."""
    return pl.read_parquet(sorted(folder.glob("*.parquet")), glob=False)


@dataclass(frozen=True)
class Scored:
    """What a batch was answered with: features, predictions, processing's summary and the drift report."""

    features: pl.DataFrame
    predictions: pl.DataFrame
    summary: dict[str, Any]
    report: dict[str, Any]


@dataclass(frozen=True)
class Flow:
    """A repository in small at `root`: usecase.toml, and the artifacts of one release."""

    root: Path

    def begin(self, text: str) -> "Flow":
        self.root.mkdir(parents=True)
        (self.root / "usecase.toml").write_text(text, encoding="utf-8")
        return self

    def case(self) -> UseCase:
        return usecase.load(self.root / "usecase.toml")

    def prepare(self, raw_rows: Path, validation: Path | None = None) -> dict[str, Path]:
        """Processing's outputs by name; validation rows that are given lie in `root`. Raises InputError."""
        if self.case().split.method == "given":
            validation = validation or self.root / "validation.parquet"
        given = {"validation": validation} if validation else {}
        folder = self._job("processing", "train", {"raw": raw_rows, "champion": self._absent(), **given})
        return {name: folder / "processing" / "output" / name for name in (*SPLITS, "preprocessor")}

    def train(self, raw_rows: Path, validation: Path | None = None) -> None:
        """The four components in train mode. Raises InputError as the jobs would fail."""
        outputs = self.prepare(raw_rows, validation)
        channels = {name: outputs[name] for name in SPLITS} | {"champion": self._absent()}
        fit = self._job("algorithm", "train", channels)
        learn = self._job("monitoring", "train", {"raw": raw_rows, "evaluation": fit / "output" / "data"})
        explained = {"model": fit / "model", "features": outputs["validation"]}
        explain = self._job("explainability", "train", explained)
        released = {
            "preprocessor": outputs["preprocessor"],
            "model": fit / "model",
            "baseline": learn / "processing" / "output" / "baseline",
            "explainer": explain / "processing" / "output" / "explainer",
        }
        for name, folder in released.items():
            shutil.rmtree(self.root / "release" / name, ignore_errors=True)
            shutil.copytree(folder, self.root / "release" / name)

    def score(self, data: Path, labels: Path | None = None) -> Scored:
        """The batch at `data`, and what the drift report says with or without labels."""
        release = self.root / "release"
        prepared = self._job("processing", "serve", {"raw": data, "preprocessor": release / "preprocessor"})
        output, answers = prepared / "processing" / "output", self.root / "predictions"
        shutil.rmtree(answers, ignore_errors=True)
        answers.mkdir()
        application = server.Application(models.load(release / "model"), self.case().data.missing, 1)
        for file in sorted((output / "features").glob("*.parquet")):
            with file.open("rb") as body:
                request = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": server.PARQUET, "wsgi.input": body}
                answer, _ = application.answer("/invocations", request)
            (answers / f"{file.name}.out").write_bytes(answer)
        told = sorted(answers.glob("*.out"))
        inputs = {"raw": data, "predictions": answers, "baseline": release / "baseline"}
        inputs |= {"explainer": release / "explainer"} | ({"labels": labels} if labels else {})
        drift = self._job("monitoring", "serve", inputs)
        given = {"model": release / "model", "explainer": release / "explainer"}
        self._job("explainability", "serve", {"features": output / "features", **given})
        return Scored(
            table(output / "features"),
            pl.concat([pl.read_parquet(answer, glob=False) for answer in told], how="vertical_relaxed"),
            artifacts.read_json(output / "summary" / "summary.json"),
            artifacts.read_json(drift / "processing" / "output" / "drift" / "drift.json"),
        )

    def typed(self, raw_rows: Path) -> pl.DataFrame:
        """Rows as features.py gets them: every column in its contract's type."""
        return raw.read(raw_rows, self.case()).frame.collect()

    def _absent(self) -> Path:
        """The empty artifact: there is no champion."""
        folder = self.root / "none"
        folder.mkdir(exist_ok=True)
        artifacts.write_json(folder / artifacts.MANIFEST, {"component": artifacts.ABSENT})
        return folder

    def _job(self, component: str, mode: str, inputs: Mapping[str, Path]) -> Path:
        root = self.root / "jobs" / f"{component}-{mode}"
        shutil.rmtree(root, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ML_ROOT", str(root))
            patch.setenv("USECASE_FILE", str(self.root / "usecase.toml"))
            for name, source in inputs.items():
                target = job.channel(name) if component == "algorithm" else job.processing_input(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_file():
                    target.mkdir()
                    shutil.copy(source, target)
                else:
                    shutil.copytree(source, target)
            start = cast(Mode, getattr(import_module(f"components.{component}.{mode}"), mode))
            start({"trials": "0"} if component == "algorithm" else {})
        return root
