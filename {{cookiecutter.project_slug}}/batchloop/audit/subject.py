"""What an audit is of: a release with what is known of it, here or in an account."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import polars as pl

from batchloop import local
from batchloop.container import files
from batchloop.container.job import InputError
from batchloop.container.usecase import UseCase
from batchloop.engine import running, storage
from batchloop.engine.graph import Progress
from batchloop.engine.storage import Storage
from batchloop.repository import Repository, kept_definition, of


@dataclass(frozen=True)
class Subject:
    """A release; `trained` and `scored` are the records of its runs, {} where there are none.

    A scoring has `outputs`: the folders of predictions, drift and explanations, as far as they were made.
    """

    manifest: Mapping[str, Any]
    package: Mapping[str, Any]
    definitions: Mapping[str, Any]
    decisions: Mapping[str, Any]
    stored: Storage
    trained: Mapping[str, Any]
    scored: Mapping[str, Any]

    def raw(self, case: UseCase, name: str, uri: str) -> list[dict[str, Any]]:
        """Every file of raw data that a parameter names. Raises InputError where it is gone."""
        found = self.stored.listed(uri) if name == "EarlierData" else self.stored.files(uri)
        print(f"hashing {len(found)} files of {name}", flush=True)
        return [{"name": key, **described(case, path)} for key, path in found]

    def fingerprint(self, parts: Iterable[list[dict[str, Any]]]) -> str:
        """Of the files of each parameter, as a run takes it."""
        return of([[file[key] for key in ("name", "bytes", "sha256")] for files in parts for file in files])

    def before(self, repository: Repository, run: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
        """Parameter → name → size and hash of what a run has read; {} where it has kept no list."""
        with suppress(OSError, KeyError, ValueError):
            kept = json.loads(local.fingerprinted(repository, run["parameters"]["DataFingerprint"]).read_text("utf-8"))
            return {name: {file: about for file, *about in files} for name, files in kept.items()}
        return {}


def here(repository: Repository, number: int | None) -> Subject:
    """What is released here, or a version that is registered. Raises InputError for none, or too little of it."""
    packages, released = running.registry(repository).packages(), storage.read_release(repository.release)
    last = (one for one in packages if one["ModelPackageArn"] == (released or {}).get("model_package"))
    package = next(last, None) if number is None else local.registered(repository, number)
    if package is None:
        raise InputError("there is no released model yet; run `make train` first.")
    manifest, stored = storage.read_release(local.release_file(repository, package)), running.storage(repository)
    if gone := storage.missing_artifacts(stored, manifest) if manifest else "its file in local/releases is gone":
        raise InputError(f"version {package['ModelPackageVersion']} can't be audited: {gone}; train again.")
    manifest = dict(manifest or {})
    digests = {"training": manifest.get("training"), "inference": manifest.get("definition")}
    kept = {name: kept_definition(repository, name, str(digest)) for name, digest in digests.items()}
    model = manifest["artifacts"]["model"]
    runs = [*running.records(repository)][::-1]
    done = [run for run in runs if run["parameters"].get("Model") == model and run["state"] == "done"]
    scorings = [{**run, "outputs": outputs(run)} for run in done]
    approvals = [{key: value for key, value in one.items() if isinstance(value, str | int)} for one in packages]
    return Subject(
        manifest,
        package,
        {name: definition for name, definition in kept.items() if definition},
        {"packages": approvals, "released": released, "scorings": [decided(stored, run) for run in scorings]},
        stored,
        next((run for run in runs if f"/{run['execution']}/" in model), {}),
        next((run for run in reversed(scorings) if "predictions" in run["outputs"]), {}),
    )


def outputs(run: Mapping[str, Any]) -> dict[str, str]:
    """The folders of what a run has made: name → URI."""
    found = dict[str, str]()
    for properties in (step["properties"] for step in run["steps"].values()):
        found |= running.outputs(Progress("", properties=properties))
        if "TransformOutput" in properties:
            found["predictions"] = properties["TransformOutput"]["S3OutputPath"]
    return {name: f"{uri.rstrip('/')}/" for name, uri in found.items()}


def decided(stored: Storage, run: Mapping[str, Any]) -> dict[str, Any]:
    """What monitoring said of a batch."""
    drift: Mapping[str, Any] = {}
    with suppress(InputError, KeyError):
        drift = stored.read_json(f"{run['outputs']['drift']}drift.json")
    said = {name: drift.get(name) for name in ("verdict", "reason", "drifted", "consequence", "realised")}
    return {"run": run["execution"], "ended": run.get("ended"), "data": run["parameters"]["ProductionData"], **said}


def described(case: UseCase, path: Path) -> dict[str, Any]:
    """Size, hash and rows of a raw file; no rows where it is no table."""
    rows = None
    with suppress(InputError):
        if path.name.lower().endswith(files.KINDS):
            rows = files.scan(path, case.data).select(pl.len()).collect().item()
    return {"bytes": path.stat().st_size, "sha256": sha256(path), "rows": rows}


def sha256(path: Path) -> str:
    """A file's hash."""
    with path.open("rb") as handle:
        return file_digest(handle, "sha256").hexdigest()
