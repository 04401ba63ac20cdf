"""Definitions from pipelines/: compiled when what they are made from has changed, and checked each time."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from operations import fingerprints, parameters, settings
from operations.failures import Failure
from operations.repository import Repository
from runtime import metrics

NAMES = ("training", "inference")
STAMP = "sources"


def definition(repository: Repository, environment: str, name: str) -> dict[str, Any]:
    """The compiled training or inference definition. Raises Failure where it can't be compiled."""
    ensure(repository, environment)
    loaded: dict[str, Any] = json.loads((repository.compiled(environment) / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def show(repository: Repository, environment: str) -> int:
    """Compile and check anew, and say where; the exit code."""
    compile_all(repository, environment)
    print(f"compiled and checked: {repository.shown(repository.compiled(environment))}/")
    return 0


def ensure(repository: Repository, environment: str) -> bool:
    """Compile, unless the definitions are those of the present sources; whether it had to."""
    folder, wanted = repository.compiled(environment), fingerprints.sources(repository, environment)
    stamp = folder / STAMP
    whole = all((folder / f"{name}.json").is_file() for name in NAMES)
    if whole and stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return False
    print("compiling the pipelines (only when they, usecase.toml or the environment changed)", flush=True)
    compile_all(repository, environment)
    return True


def compile_all(repository: Repository, environment: str) -> None:
    """Check every setting, compile and check, in processes of their own: the SDK takes seconds to import.

    Raises Failure.
    """
    case = settings.read(repository, environment)[0]
    check_hyperparameters(repository)
    if metrics.passes_all(case.data.task, case.gate.metric, case.gate.minimum):
        print(f"[gate] minimum = {case.gate.minimum:g} lets every model pass: {case.gate.metric} is never worse")
    folder, made_from = repository.compiled(environment), fingerprints.sources(repository, environment)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).unlink(missing_ok=True)
    run_module(repository, "pipelines.compile", "--env", environment, "--output", str(folder))
    run_module(repository, "pipelines.checker", *(str(folder / f"{name}.json") for name in NAMES))
    (folder / STAMP).write_text(made_from, encoding="utf-8")


def check_chosen(
    repository: Repository, environment: str, definition: Mapping[str, Any], chosen: Mapping[str, Any]
) -> None:
    """Check what is chosen in place of settings as they are checked. Raises Failure."""
    if chosen:
        settings.check_chosen(repository, environment, chosen)
    if found := parameters.hyperparameters(definition, chosen):
        check_hyperparameters(repository, found)


def check_hyperparameters(repository: Repository, chosen: Mapping[str, str] | None = None) -> None:
    """Ask the algorithm whether it takes usecase.toml's, overridden by those chosen. Raises Failure."""
    pairs = [f"{name}={value}" for name, value in (chosen or {}).items()]
    try:
        run_module(repository, "algorithm.hyperparameters", *pairs, python=repository.python())
    except Failure as failure:  # LightGBM's own complaint stands above
        raise Failure(str(failure).splitlines()[-1].removeprefix("error: ")) from None


def run_module(repository: Repository, module: str, *arguments: str, python: str = sys.executable) -> str:
    """What a module of this repository prints, run by a Python. Raises Failure with what it says is wrong."""
    path = os.pathsep.join([str(repository.root), str(repository.root / "components")])
    command = [python, "-m", module, *arguments]
    variables = os.environ | {"PYTHONPATH": path, "USECASE_FILE": str(repository.root / "usecase.toml")}
    done = subprocess.run(  # noqa: S603 - this repository's own modules
        command, cwd=repository.root, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or "it said nothing"
        if "Traceback" in said:
            raise Failure(f"python -m {module} failed: {said.splitlines()[-1]}")
        raise Failure(said.removeprefix("error: "))
    return done.stdout
