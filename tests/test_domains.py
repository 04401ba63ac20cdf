"""The other domains: a table's repository but for the files that a domain lays over, and within its budgets."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import TEMPLATE, commit, run_in

NAMES = sorted(folder.name for folder in (TEMPLATE / "domains").iterdir() if folder.is_dir())
STARS = ("features.py", "model.py", "drift.py", "attributions.py")
OWN = re.compile(rf"components/\w+/({'|'.join(STARS)})|tests/test_\w+\.py|data/\w+\.py|locks/\w+\.txt|usecase\.toml")
SHARED = ("README.md", "pyproject.toml", "environments/dev.toml", "environments/prod.toml", "environments/staging.toml")


@pytest.fixture(scope="module", params=NAMES)
def domain(
    request: pytest.FixtureRequest, render: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    answers = {"domain": request.param, "project_slug": "case", "project_name": "Case", "description": "d"}
    return render(tmp_path_factory.mktemp(request.param), aws_resources="skip", **answers)


@pytest.fixture(scope="module")
def plain(render: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    answers = {"project_slug": "case", "project_name": "Case", "description": "d"}
    return render(tmp_path_factory.mktemp("plain"), aws_resources="skip", **answers)


def files(folder: Path) -> dict[str, bytes]:
    found = [file for file in folder.rglob("*") if file.is_file() and ".git" not in file.relative_to(folder).parts]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def test_it_differs_from_a_table_in_its_own_files_alone(domain: Path, plain: Path) -> None:
    mine, others = files(domain), files(plain)
    assert set(mine) == set(others)
    different = {name for name in mine if mine[name] != others[name]}
    assert {name for name in different if not OWN.fullmatch(name)} <= set(SHARED)
    assert "components/algorithm/model.py" in different


def test_its_owner_sees_few_files_and_little_code(domain: Path) -> None:
    own = {name: text for name, text in files(domain).items() if not name.startswith(("batchloop/", "locks/"))}
    lines = sum(text.count(b"\n") for name, text in own.items() if name.endswith(".py"))
    assert len(own) <= 60
    assert lines <= 2600, lines


def test_its_own_checks_and_tests_pass(domain: Path) -> None:
    commit(domain)
    run = run_in(domain)
    run("make", "check")
    assert " passed" in run("make", "test").stdout
    assert run("git", "status", "--porcelain").stdout == ""
