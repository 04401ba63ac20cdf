"""Trainings as runs of MLflow, where `tracking` of an environment names a store. Its client is imported only then.

What reads this is at the edge: after `make train`, `make run` and in `make track`. Containers have no network, and the
functions boto3 alone, so a retraining that an event started is logged by the next of these commands.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from batchloop import trainings
from batchloop.cloud.session import Session, sign_in
from batchloop.container.job import InputError, sentence
from batchloop.control import storage
from batchloop.engine import running
from batchloop.environment import Environment
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, Repository
from batchloop.trainings import Training

# the tag by which a training is found again; how many are looked at; deleted ones too
RUN, LAST, EVERY = "run", 20, 3
STATUS = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "interrupted": "KILLED"}
# Nothing is sent to MLflow's makers, and a server that does not answer is given up soon; what is set already stays.
VARIABLES = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
Fetch = Callable[[str, Path], Path | None]  # a URI's file, which may be put into the folder; None for one that is gone


def track(repository: Repository) -> int:
    """Log the last trainings that are not in MLflow yet, here and in the account, if one is set; the exit code."""
    environment = definitions.read(repository)[1]
    if not environment.tracking.uri:
        where = "a folder, a server's address or an ARN"
        raise InputError(f'{environment.file} names no MLflow: write {where} into it, tracking.uri = "…".')
    logged = _logged(repository, environment, None)
    if environment.account_is_set:
        logged += _logged(repository, environment, sign_in(repository, environment))
    print(f"{logged} training{'s' * (logged != 1)} logged to {environment.tracking.uri}; the others are there already.")
    return 0


def after(repository: Repository, environment: Environment, session: Session | None = None) -> None:
    """Log what `make train`, or with a session `make run`, has trained. A failure is a warning: the model is there.

    What a repository keeps elsewhere was trained to test it, and is tracked nowhere.
    """
    if environment.tracking.uri and not repository.elsewhere:
        try:
            _logged(repository, environment, session)
            print(f"logged to MLflow: {environment.tracking.uri}")
        except InputError as error:
            print(f"warning: {error} `make track ENV={environment.environment}` logs it later.", file=sys.stderr)


def _logged(repository: Repository, environment: Environment, session: Session | None) -> int:
    """How many trainings were logged, in the account or, without a session, here. Raises InputError."""
    try:
        if session:
            return log(repository, environment, trainings.in_account(session, LAST), partial(_downloaded, session))
        found, stored = trainings.here(repository, LAST), running.storage(repository)
        return log(repository, environment, found, lambda uri, _: path if (path := stored.path(uri)).exists() else None)
    except Exception as error:  # of a library, a server or a disk
        raise InputError(f"not logged to MLflow at {environment.tracking.uri}: {sentence(error)}") from error


def _downloaded(session: Session, uri: str, folder: Path) -> Path | None:
    bucket, key = storage.split(uri)
    file = folder / key.rpartition("/")[2]
    if body := session.find("s3", "get_object", ("NoSuchKey",), "Body", Bucket=bucket, Key=key):
        with file.open("wb") as out:
            shutil.copyfileobj(body, out)
    return file if body else None


def log(repository: Repository, environment: Environment, found: list[Training], fetch: Fetch) -> int:
    """Log the trainings that have ended and are not there, the oldest first; how many.

    One that was logged in part is gone on with; of one that is there only the release is written anew.
    """
    client = _client(repository, environment.tracking.uri)
    known = client.get_experiment_by_name(environment.prefix)
    experiment = known.experiment_id if known else client.create_experiment(environment.prefix)
    there = client.search_runs([experiment], f"tags.{RUN} LIKE '%'", run_view_type=EVERY, max_results=1000)
    runs = {run.data.tags[RUN]: run for run in there}
    logged = 0
    for training in found[::-1]:
        run = runs.get(training.run)
        if run and run.info.status in STATUS.values():
            if training.release and run.data.tags.get("release") != training.release:
                client.set_tag(run.info.run_id, "release", training.release)
        elif training.state in STATUS:
            _log(client, experiment, training, fetch, run.info.run_id if run else "")
            logged += 1
    return logged


def _client(repository: Repository, uri: str) -> Any:
    """MLflow's own; a folder's name is one of this repository. Raises InputError where it is not installed."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow  # noqa: PLC0415 - it takes seconds, and is optional
    except ImportError:
        raise InputError("mlflow is not here: add mlflow-skinny to the development group, then make lock.") from None
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # SageMaker's plugin warns of each request to another server
    mlflow.set_tracking_uri(uri if ":" in uri else str(repository.root / uri))  # the plugin asks for it
    return mlflow.MlflowClient()


def _log(client: Any, experiment: str, training: Training, fetch: Fetch, identity: str) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param  # noqa: PLC0415

    report, given, start = training.evaluation, training.parameters, _milliseconds(training.started)
    name = training.run.rpartition("/")[2]
    if not identity:
        identity = client.create_run(experiment, start, _tags(training), name).info.run_id
    params = [Param(key, str(value)) for key, value in report.get("hyperparameters", {}).items()]
    metrics = [Metric(key, value, start, 0) for key, value in _metrics(report).items() if value is not None]
    client.log_batch(identity, metrics, params)
    data = str(given.get("TrainingData", ""))
    rows = json.dumps({"num_rows": sum(report.get("rows", {}).values())})
    source = Dataset(training.window, given.get("DataFingerprint", ""), "uri", json.dumps({"uri": data}), profile=rows)
    client.log_inputs(identity, [DatasetInput(source, [InputTag("mlflow.data.context", "training")])])
    with tempfile.TemporaryDirectory() as scratch:
        for kind, uri in training.files.items():
            if file := fetch(uri, Path(scratch)):
                client.log_artifact(identity, str(file), kind)
    client.set_terminated(identity, STATUS[training.state], _milliseconds(training.ended or training.started))


def _tags(training: Training) -> dict[str, str]:
    """Where the model comes from and what became of it."""
    given = training.parameters
    tags = {
        RUN: training.run,
        "mlflow.source.name": "training pipeline",
        "mlflow.source.git.commit": str(given.get("GitCommit", "")),
        "mlflow.note.content": training.why,
        "window": training.window,
        "data_fingerprint": str(given.get("DataFingerprint", "")),
        "model_package": training.model,
        "release": training.release,
    }
    tags |= {f"image.{name}": str(given.get(f"{name.capitalize()}Image", "")) for name in COMPONENTS}
    return {key: value for key, value in tags.items() if value}


def _metrics(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Every metric by split, as `test/auc`, with the limits of test, and the lead over the champion."""
    splits = {split: report.get(split) or {} for split in ("validation", "test", "champion")}
    found = {f"{split}/{name}": value for split, values in splits.items() for name, value in values.items()}
    limits = report.get("intervals", {}).items()
    found |= {f"test/{name}_{end}": value for name, ends in limits for end, value in ends.items()}
    compared = report.get("comparison") or {}
    return found | {key: compared.get(key) for key in ("lead", "lead_low", "lead_high")}


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
