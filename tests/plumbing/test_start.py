"""What a command or a component loads before it does anything: nobody is to wait for a library that is not used."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchloop.cli import COMMANDS
from batchloop.pipelines import definitions
from batchloop.pipelines.compile import Nobody
from batchloop.repository import Repository
from plumbing.rendered import ROOT

SEVERAL = {"label": {"numpy", "polars"}, "size": {"polars"}, "simulate": {"botocore", "jinja2", "numpy", "polars"}}
SEVERAL |= {"audit": {"jinja2", "polars"}}
CLOUD = (
    "compare",
    "deploy",
    "promote",
    "release",
    "releases",
    "rollback",
    "run",
    "teardown",
    "track",
    "upload",
    "upsert",
)
LOADED = """
import json, os, sys
from importlib import import_module
def loaded(work):
    read, write = os.pipe()
    if os.fork() == 0:
        work()
        found = {name.partition(".")[0] for name in sys.modules} - {"batchloop", "components"}
        os.write(write, json.dumps(sorted(found | {name for name in sys.modules if "batchloop." in name})).encode())
        os._exit(0)
    os.close(write)
    os.wait()
    return json.load(os.fdopen(read))
"""
COMMAND = """
from batchloop import cli
def work(command):
    cli.arguments(cli.load(command.function), command.given)
print(json.dumps({command.name: loaded(lambda: work(command)) for command in cli.COMMANDS}))
"""
COMPONENT = """
import batchloop.container.__main__
names = [f"{name}.{mode}" for name in sys.argv[1:] for mode in ("train", "serve")]
print(json.dumps({name: loaded(lambda: import_module(f"components.{name}")) for name in names}))
"""
UNUSED = {  # by a component, though another loads them
    "processing": {"jinja2", "lightgbm", "numpy", "optuna", "waitress"},
    "algorithm": {"jinja2", "lightgbm", "optuna"},  # the model's library comes with the model
    "monitoring": {"lightgbm", "optuna", "waitress"},
    "explainability": {"lightgbm", "optuna", "waitress"},
}
NOT_SERVING = {f"batchloop.container.{name}" for name in ("evaluation", "hyperparameters", "leakage", "measures")}


def modules(script: str, *arguments: str) -> dict[str, set[str]]:
    """What is loaded for each of several names, in a process of its own each; the standard library is left out."""
    command = [sys.executable, "-c", LOADED + script, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: set(found) - sys.stdlib_module_names for name, found in json.loads(done.stdout).items()}


def test_a_command_loads_no_library_that_it_does_without() -> None:
    found = modules(COMMAND)
    assert found.keys() == {command.name for command in COMMANDS}
    for name, loaded in found.items():
        allowed = SEVERAL.get(name, {"botocore"} if name in CLOUD else set())
        libraries = {one for one in loaded if "." not in one and not one.startswith("_")}
        assert libraries - allowed - {"typing_extensions", "markupsafe", "cython_runtime"} == set(), name


def test_a_component_loads_what_it_uses_and_no_more() -> None:
    for name, loaded in modules(COMPONENT, *UNUSED).items():
        component, _, mode = name.partition(".")
        assert loaded & UNUSED[component] == set(), name
        assert "polars" in loaded
        if (component, mode) == ("algorithm", "serve"):
            assert loaded & NOT_SERVING == set()


def test_installing_leaves_bytecode_of_what_compiling_imports(tmp_path: Path) -> None:
    shown = subprocess.run(["make", "-n", "install"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [words] = re.findall(r"python -c '(from batchloop[^']+)'", shown)
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    variables["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", words], cwd=ROOT, env=variables, check=True)
    written = {file.name.partition(".")[0] for file in tmp_path.rglob("*.pyc") if "sagemaker" in file.parts}
    assert {"model_trainer", "model_builder", "pipeline", "processing", "resources", "shapes"} <= written


def test_who_stands_for_aws_while_compiling_says_that_nobody_is_there() -> None:
    with pytest.raises(AttributeError, match=r"compiling needs no account.*list_models"):
        Nobody().list_models()


def test_definitions_are_compiled_again_only_where_what_they_are_made_from_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's version is part of it; what they are made from is told by content, not by dates."""
    compiled = list[str]()

    def compile_here(_: Repository, module: str, *words: str) -> str:
        compiled.append(module)
        for name in definitions.NAMES:
            (Path(words[-1]) / f"{name}.json").write_text("{}")
        return ""

    for name in ("usecase.toml", "environments/dev.toml", "locks/development.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(definitions, "run_module", compile_here)
    monkeypatch.setattr(definitions, "check_hyperparameters", lambda _: None)
    for changed, times in (("", 1), ("usecase.toml", 2), ("environments/dev.toml", 3), ("locks/development.txt", 4)):
        if changed:
            text = (tmp_path / changed).read_text(encoding="utf-8")
            (tmp_path / changed).write_text(f"{text}\n# another\n", encoding="utf-8")
        for _ in range(2):
            (tmp_path / "usecase.toml").touch()
            assert definitions.definition(Repository(tmp_path), "training") == {}
        assert len(compiled) == times
