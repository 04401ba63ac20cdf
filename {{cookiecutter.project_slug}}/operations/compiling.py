"""Definitions from pipelines/: compiled when what they are made from has changed, and checked each time."""

import json
import os
import subprocess
import sys
from typing import Any

from operations import fingerprints
from operations.failures import Failure
from operations.repository import Repository

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
    """Compile and check, in a process of its own: the SDK takes seconds to import. Raises Failure."""
    if not (repository.root / "environments" / f"{environment}.toml").is_file():
        known = sorted(file.stem for file in (repository.root / "environments").glob("*.toml"))
        raise Failure(f"environments/{environment}.toml does not exist; there are {', '.join(known) or 'none'}.")
    folder, made_from = repository.compiled(environment), fingerprints.sources(repository, environment)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).unlink(missing_ok=True)
    run_module(repository, "pipelines.compile", "--env", environment, "--output", str(folder))
    run_module(repository, "pipelines.checker", *(str(folder / f"{name}.json") for name in NAMES))
    (folder / STAMP).write_text(made_from, encoding="utf-8")


def run_module(repository: Repository, module: str, *arguments: str) -> str:
    """What a module of this repository prints, run by this Python. Raises Failure with what it says is wrong."""
    path = os.pathsep.join([str(repository.root), str(repository.root / "components")])
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(  # noqa: S603 - this repository's own modules
        command, cwd=repository.root, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or "it said nothing"
        if "Traceback" in said:
            raise Failure(f"python -m {module} failed: {said.splitlines()[-1]}")
        raise Failure(said.removeprefix("error: "))
    return done.stdout
