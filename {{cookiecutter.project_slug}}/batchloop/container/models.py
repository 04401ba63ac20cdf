"""A fitted model with what it predicts from: how it is made, kept and asked, whichever library ★ model.py uses."""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from batchloop.container import artifacts
from batchloop.container.job import InputError, told
from batchloop.container.protocols import Matrix, ModelFile, Predicted, Problem, Progress, Table

METADATA = "metadata.json"
EXAMPLES = 1000  # rows on which hyperparameters are tried


@dataclass(frozen=True)
class Model:
    """A fitted model; `metadata` says what it predicts (task, classes, threshold) and from which features."""

    fitted: Any
    metadata: Mapping[str, Any]


def module() -> ModelFile:
    """★ components/algorithm/model.py."""
    return cast(ModelFile, import_module("components.algorithm.model"))


def takes_progress() -> bool:
    """Whether a fit can be interrupted and go on."""
    return "progress" in inspect.signature(module().fit).parameters


def fit(
    train: Table,
    validation: Table,
    hyperparameters: Mapping[str, Any],
    problem: Problem,
    progress: Progress | None = None,
) -> Any:
    """A fitted model; `progress` is heeded where the model can be interrupted."""
    file: Any = module()
    known = {"progress": progress} if progress is not None and takes_progress() else {}
    return file.fit(train, validation, hyperparameters, problem, **known)


def predict(model: Model, features: Matrix, threads: int = 0) -> Predicted:
    """The model's predictions, a row each; without rows, an empty answer of the right shape."""
    if not len(features):
        classes = len(model.metadata["classes"])
        return np.empty((0, classes) if classes > 2 else 0)
    return np.asarray(module().predict(model.fitted, features, threads), dtype=np.float64)


def example(problem: Problem) -> Table:
    """A few made-up rows of two numbers for `fit` to be tried on."""
    classes = len(problem.classes)
    labels = np.arange(EXAMPLES, dtype=np.float64) % (classes or EXAMPLES) + (0 if classes else 1)
    return Table(np.arange(2 * EXAMPLES, dtype=np.float32).reshape(EXAMPLES, 2), labels)


def save(model: Model, folder: Path) -> None:
    """Write the model's own files into an empty folder, and metadata.json with a checksum of each."""
    file: Any = module()
    file.save(model.fitted, folder)
    described = file.describe(model.fitted) if hasattr(file, "describe") else {}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    sums = {name: _checksum(folder / name) for name in names}
    artifacts.write_json(folder / METADATA, {**model.metadata, **described, "files": sums})


def load(folder: Path) -> Model:
    """The model in a folder. Raises InputError where a file is missing, damaged, or not of the same model."""
    metadata: dict[str, Any] = artifacts.read_json(folder / METADATA)
    files = metadata.get("files") if isinstance(metadata, dict) else None
    for name, checksum in (files or {"": ""}).items():
        if name and not (folder / name).is_file():
            raise InputError(f"{name} is missing from {folder.name}/; was the model uploaded whole?")
        if not name or _checksum(folder / name) != checksum:
            what = f"{name} and {METADATA}" if name else f"the files and {METADATA}"
            raise InputError(f"{what} in {folder.name}/ are not of the same model; restore both.")
    try:
        loaded = Model(module().load(folder), metadata)
        predict(loaded, np.full((1, len(metadata["features"])), np.nan, dtype=np.float32), threads=1)
    except Exception as error:  # of any library
        raise InputError(
            f"{folder.name}/ holds no model that components/algorithm/model.py can read and ask: {told(error)}"
        ) from None
    return loaded


def _checksum(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
