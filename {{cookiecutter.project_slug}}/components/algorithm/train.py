"""Train mode: fit (after a search, if one was asked for), judge it beside the champion, write model and evaluation."""

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from batchloop.container import (
    artifacts,
    evaluation,
    hyperparameters,
    job,
    leakage,
    measures,
    models,
    slice_metrics,
    tables,
    usecase,
)
from batchloop.container.evaluation import Champion
from batchloop.container.job import InputError
from batchloop.container.models import Model
from batchloop.container.protocols import Matrix, Predicted, Problem, Table
from batchloop.container.settings import errors_in
from batchloop.container.usecase import UseCase

log = logging.getLogger(__name__)
SPREAD = models.spread  # each of several hosts learns from its part of the rows; the first one writes the model


@dataclass(frozen=True)
class Run:
    """What a training run was given: contract, data, hyperparameters, champion."""

    case: UseCase
    schema: tables.Schema
    train: Table
    validation: Table
    hyperparameters: Mapping[str, Any]
    problem: Problem
    champion: Champion
    start: Any  # a fitted model to go on from, or None
    parents: Mapping[str, str]  # artifact → fingerprint

    def identity(self) -> list[Any]:
        """What a checkpoint must agree with to belong to this run."""
        contract, search = self.case.contract(), dict(self.case.tuning.search)
        return [contract, self.parents, self.hyperparameters, search, self.schema["features"]]


def train(settings: Mapping[str, str]) -> None:
    """Write model, evaluation.json and the predictions of the validation split, with its labels and groups.

    Settings: every key of [hyperparameters], `trials`, `continue_training` = "true" to boost on from the champion, and
    `trial` = "true" to print the validation loss and write nothing.
    Interrupted by SIGTERM it keeps a checkpoint, and the same run started again goes on from there.
    """
    case = usecase.load()
    with errors_in("usecase.toml"):
        chosen = hyperparameters.resolve(case.hyperparameters, settings)
        hyperparameters.refuse(case, chosen)
        trials = hyperparameters.trials(settings, case.tuning.trials)
        continues, host = job.flag(settings, "continue_training"), job.current()
        if host.together and (trials or continues):
            raise InputError("a search (trials) and CONTINUE need one host: [instances] algorithm count = 1.")
        run = _gather(case, chosen, continues)
        if job.flag(settings, "trial"):
            hyperparameters.attempt((run.train, run.validation), run.hyperparameters, run.problem)
            return
        run = _tuned(run, trials)
        checkpoint = models.Checkpoint(job.checkpoints(), run.identity(), run.start)
        fitted = models.calibrated(Model(_fit(run, checkpoint), _metadata(run)), run.validation)
        if host.first:
            _write(run, fitted, checkpoint.predicted)
        models.forget(job.checkpoints())


def _gather(case: UseCase, chosen: Mapping[str, Any], continues: bool) -> Run:
    """Read the tables and check that they can be learned from. Raises InputError."""
    schema = tables.schema(job.channel("validation"))  # train/ may be a part, without it
    classes = case.data.classes
    tables.check_memory(schema, "train", "validation", "test", "champion_test")
    learned, validation = (tables.read(job.channel(name), schema, classes) for name in ("train", "validation"))
    _check_labels(learned, validation, classes)
    with tempfile.TemporaryDirectory() as scratch:
        champion = evaluation.load(case, Path(scratch))
    start = evaluation.start(champion, schema, classes) if continues else None
    problem = Problem(case.data.task, classes, tuple(schema["features"]), os.cpu_count() or 1)
    channels = ["train", "validation", *(["champion"] if continues else [])]
    parents = {name: artifacts.fingerprint(job.channel(name)) for name in channels}
    return Run(case, schema, learned, validation, chosen, problem, champion, start, parents)


def _check_labels(learned: Table, validation: Table, classes: tuple[str, ...]) -> None:
    if not learned.labels.size or not validation.labels.size:
        raise InputError("the train or the validation split has no rows; give more data or change [split].")
    first = learned.labels[0]
    if np.all(learned.labels == first):
        value = classes[int(first)] if classes else float(first)
        raise InputError(f"the label is {value!r} in all {learned.labels.size} rows of train/: nothing to learn.")


def _tuned(run: Run, trials: int) -> Run:
    """The run with the best hyperparameters that were found, or as it is without a search."""
    if trials == 0 or not run.case.tuning.search:
        return run
    tuning, tables = run.case.tuning, (run.train, run.validation)
    folder, identity = job.checkpoints(), [*run.identity(), trials, tuning.timeout_seconds]
    best = models.recall(folder, identity)
    if best is None:
        best = hyperparameters.search(tables, run.hyperparameters, run.problem, tuning, trials)
        models.remember(folder, identity, best)
    return replace(run, hyperparameters=best)


def _fit(run: Run, checkpoint: models.Checkpoint) -> Any:
    """Fit from the start, or from where an interrupted run left off, as far as the model can."""
    examples = (run.train, run.validation, run.hyperparameters, run.problem)
    if job.current().together:
        return models.fit_together(*examples)
    if not models.takes_progress():
        log.info("this model keeps no checkpoint: an interrupted training starts over")
        return models.fit(*examples)
    with checkpoint.fitting():
        return models.fit(*examples, checkpoint)


def _metadata(run: Run) -> dict[str, Any]:
    return {
        "task": run.problem.task,
        "id": run.schema["id"],
        "label": run.schema["label"],
        "classes": list(run.problem.classes),
        "features": run.schema["features"],
        "threshold": run.case.prediction.threshold,
        "hyperparameters": dict(run.hyperparameters),
    }


def _write(run: Run, fitted: Model, known: "Predicted | None") -> None:
    """Model, evaluation and predictions, or none of them; the metrics are printed for the training job to catch."""
    with artifacts.writing(job.model()) as folder, artifacts.writing(job.training_output()) as output:
        models.save(fitted, folder)
        artifacts.write_manifest(folder, "algorithm", run.case.contract(), run.parents)
        model = models.load(folder)  # what will serve
        predicted = models.confirmed(model, run.validation.features, known, run.problem.threads)
        report = _evaluate(run, model, predicted)
        artifacts.write_json(output / "evaluation.json", report)
        identity = tables.ids(job.channel("validation"), run.schema)
        labels = tables.labels(run.validation.labels, model.metadata)
        table = tables.table(identity, predicted, model.metadata).with_columns(labels)
        table = table.hstack(tables.groups(job.channel("validation")))
        table.write_parquet(output / "predictions.parquet")
    for line in evaluation.metric_lines(report):
        print(line, flush=True)


def _evaluate(run: Run, model: Model, predicted: Predicted) -> dict[str, Any]:
    """The report; `predicted` is of the validation split."""
    metadata, metric = model.metadata, run.case.gate.metric
    measured = measures.measure(metadata["task"], run.validation.labels, predicted, metadata["threshold"])
    test, groups = evaluation.test_rows("test", model), tables.coded(tables.groups(job.channel("test")))
    candidate = evaluation.scored(model, test, run.problem.threads, groups)
    rival, reason = evaluation.rival(run.champion, run.problem.threads)
    report = {**evaluation.evaluate(candidate, measured, rival, metric), "not_comparable": reason}
    parts = run.schema.get("slices", {})
    report["slices"] = slice_metrics.evaluated(candidate, tables.slices(job.channel("test")), run.case, parts, rival)
    report["earlier"] = list(run.schema.get("earlier", []))  # windows whose rows joined the training part
    report["hyperparameters"] = dict(run.hyperparameters)  # those that a search has found, where there was one
    splits = {"train": run.train, "validation": run.validation, "test": test}
    leak = _leak(run, {name: splits[name] for name in ("validation", "test")})
    return {**report, "rows": {name: int(table.labels.size) for name, table in splits.items()}, "leak": leak}


def _leak(run: Run, splits: Mapping[str, Table]) -> dict[str, Any]:
    """Whether validation and test hold what training does; two small models more where it looks like it."""

    def fit(learned: Table, validation: Table, rows: Matrix) -> Predicted:
        fitted = models.fit(learned, validation, run.hyperparameters, run.problem)
        return models.predict(Model(fitted, {"classes": run.problem.classes}), rows, run.problem.threads)

    question = leakage.Question(run.case.data.task, run.case.gate.metric, run.case.prediction.threshold, fit)
    leak = leakage.find(run.train, splits, run.schema["features"], question)
    if leak["reason"]:
        log.warning("%s", leak["reason"])
    return leak
