"""What the tests of the template share: a clean copy of it, and one rendered repository with its environments."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
sys.path.append(str(ROOT))  # the hooks, from wherever the tests are run
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def template_files() -> list[str]:
    """What git knows or would add, below the template's folder, by relative path."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", TEMPLATE.name]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    return sorted(name.removeprefix(f"{TEMPLATE.name}/") for name in names)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the template without the caches of tools that ran in it."""
    copy = tmp_path_factory.mktemp("template")
    for name in ["cookiecutter.json", "hooks/answers.py", "hooks/post_gen_project.py"]:
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for name in template_files():
        (copy / TEMPLATE.name / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TEMPLATE / name, copy / TEMPLATE.name / name)
    return copy


def run_in(folder: Path) -> Run:
    """A function that runs a command in a folder, with an environment that holds nothing of the caller's project."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")
    }

    def run(*command: str, succeeds: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is succeeds, (
            f"{' '.join(command)} gave {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        )
        return done

    return run


@pytest.fixture(scope="session")
def render(template: Path) -> Callable[..., Path]:
    """Render into a folder with some answers; cookiecutter's own errors come through."""

    def rendered(folder: Path, **answers: Any) -> Path:
        return Path(cookiecutter(str(template), no_input=True, output_dir=str(folder), extra_context=answers))

    return rendered


def commit(folder: Path) -> None:
    """What its user does first."""
    run, identity = run_in(folder), ("-c", "user.name=test", "-c", "user.email=test@example.com")
    run("git", "add", "--all")
    run("git", *identity, "commit", "--quiet", "--message", "rendered")


@pytest.fixture(scope="session")
def repository(render: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default use case, committed, in a folder with a space in its name, its environments installed."""
    folder = render(tmp_path_factory.mktemp("a folder"))
    commit(folder)
    run_in(folder)("make", "setup", "scanners", "auditors")
    return folder


@pytest.fixture(scope="session")
def another(
    render: Callable[..., Path], repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A fresh repository that shares the first one's environments."""

    def fresh(name: str, **answers: Any) -> Path:
        folder = render(tmp_path_factory.mktemp("its own table"), project_name=name, aws_resources="skip", **answers)
        for environment in (".venv", ".venv-components", ".venv-scanners", ".venv-auditors"):
            (folder / environment).symlink_to(repository / environment)
        commit(folder)
        return folder

    return fresh
