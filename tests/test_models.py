"""The models of docs/models/, each taken on as its README says: what it names is all that is changed.

`.venv/bin/python -m pytest tests/test_models.py -m whole` takes each the whole way: locks, environments, checks, tests,
a simulation, images and their contract (about a quarter of an hour each, with docker).
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, TEMPLATE, run_in

EXAMPLES = ROOT / "docs" / "models"
GOES_ON = {"hist-gradient-boosting": False, "logistic-regression": False, "xgboost": True}
REFUSED = {
    "hist-gradient-boosting": ("LearningRate=-1.0", "learning_rate"),
    "logistic-regression": ("C=-1.0", "C"),
    "xgboost": ("MaxDepth=-1", "max_depth"),
}
PLACES = {"model.py": "components/algorithm", "attributions.py": "components/explainability"}


def take(name: str, folder: Path) -> None:
    """What the README of a model says: two files, the tables of usecase.toml, and the dependency group."""
    for file, place in PLACES.items():
        shutil.copy(EXAMPLES / name / file, folder / place / file)
    text, given = ((where / "usecase.toml").read_text(encoding="utf-8") for where in (folder, EXAMPLES / name))
    for part in re.split(r"(?m)^(?=\[)", given)[1:]:
        head = re.escape(part.partition("]")[0])
        [old] = re.findall(rf"(?ms)^{head}\].*?(?=^\[)", text)
        text = text.replace(old, f"{part.rstrip()}\n\n")
    (folder / "usecase.toml").write_text(text, encoding="utf-8")
    project = (folder / "pyproject.toml").read_text(encoding="utf-8")
    project, found = re.subn(r"(?m)^model = .*$", lambda _: group(name), project)
    assert found == 1
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")


def group(name: str) -> str:
    """The line of pyproject.toml that the README names."""
    [line] = re.findall(r"(?m)^ *(model = .*)$", (EXAMPLES / name / "README.md").read_text(encoding="utf-8"))
    return str(line)


@dataclass(frozen=True)
class Taken:
    """A rendered repository with one of the models in it."""

    name: str
    folder: Path
    python: str

    def run(self, *words: str, succeeds: bool = True) -> str:
        """A command of the rendered repository's; the components run with the models' own environment."""
        variables = [f"COMPONENTS_PYTHON={self.python}", "OMP_WAIT_POLICY=PASSIVE", "PYTHONDONTWRITEBYTECODE=1"]
        done = run_in(self.folder)("env", *variables, *words, succeeds=succeeds)
        return done.stdout + done.stderr

    def operation(self, *words: str, succeeds: bool = True) -> str:
        return self.run(".venv/bin/python", "-m", "batchloop", *words, succeeds=succeeds)

    def newest(self, pattern: str) -> Path:
        found = self.folder.glob(f"local/storage/{pattern}")
        return max(found, key=lambda file: file.stat().st_mtime)


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the components need, with the three models' libraries and without LightGBM."""
    place, uv = tmp_path_factory.mktemp("models") / "environment", Path(sys.executable).parent / "uv"
    locks = [TEMPLATE / "locks" / "components.txt", EXAMPLES / "requirements.lock"]
    for words in (
        ["venv", "--quiet", "--python", sys.executable, place],
        ["pip", "sync", "--quiet", "--require-hashes", "--python", place, *locks],
        ["pip", "uninstall", "--quiet", "--python", place, "lightgbm"],
    ):
        subprocess.run([uv, *map(str, words)], check=True)
    return str(place / "bin" / "python")


@pytest.fixture(scope="module", params=sorted(GOES_ON))
def taken(request: pytest.FixtureRequest, another: Callable[[str], Path], python: str) -> Taken:
    """Trained on two thousand rows of the sample, after a search of two trials."""
    folder = another(request.param)
    take(request.param, folder)
    text = (folder / "usecase.toml").read_text(encoding="utf-8")
    (folder / "usecase.toml").write_text(text.replace("rows = 2000 ", "rows = 200 "), encoding="utf-8")  # explained
    case = Taken(request.param, folder, python)
    case.run(".venv/bin/python", "-m", "data.sample", "--output", "data/sample", "--rows", "2000")
    said = case.operation("train", "--set", "Trials=2")
    assert "released as version 1" in said
    return case


def read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def test_every_model_is_tried() -> None:
    assert sorted(file.parent.name for file in EXAMPLES.glob("*/model.py")) == sorted(GOES_ON)


def test_what_is_installed_is_what_the_readme_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name in GOES_ON:
        assert set(tomllib.loads(group(name))["model"]) <= set(project["dependency-groups"]["models"]), name


def test_it_learns_the_sample_and_says_why(taken: Taken) -> None:
    metrics = read(taken.folder / "local" / "release.json")["metrics"]
    assert metrics["test:auc"] > 0.7
    explainer = read(taken.newest("**/explainer.json"))
    assert explainer["additivity_error"] < 1e-5
    assert (explainer["sampling_error"] > 0) is (taken.name == "hist-gradient-boosting")
    assert explainer["importance"][0]["importance"] > 0.2


def test_it_scores_and_nothing_has_drifted(taken: Taken) -> None:
    assert "drift: no drift" in taken.operation("score")
    assert read(taken.newest("**/explanations/summary.json"))["moved"] < 0.1


def test_going_on_from_the_released_model_is_done_or_refused(taken: Taken) -> None:
    if GOES_ON[taken.name]:
        before = read(taken.newest("**/explainer.json"))
        assert "version 2" in taken.operation("train", "--continue")
        assert read(taken.newest("**/explainer.json")) != before
    else:
        said = taken.operation("train", "--continue", succeeds=False)
        assert "can't go on from a model: its fit takes no `progress`. Leave out CONTINUE" in said


def test_a_value_that_it_can_not_use_is_refused_before_anything_runs(taken: Taken) -> None:
    setting, name = REFUSED[taken.name]
    before = sorted((taken.folder / "local" / "runs").iterdir())
    said = taken.operation("train", "--set", setting, succeeds=False)
    assert name in said.splitlines()[-1]
    assert "Traceback" not in said
    assert sorted((taken.folder / "local" / "runs").iterdir()) == before


def test_it_holds_what_every_model_has_to(taken: Taken) -> None:
    """The three tasks, gaps, a class that training lacks, read back, repeated, interrupted."""
    files = ("tests/test_model.py", "tests/test_attributions.py")
    said = taken.run(taken.python, "-m", "pytest", *files, "-rs", "-p", "no:cacheprovider")
    assert ("SKIPPED" in said) is not GOES_ON[taken.name]


@pytest.fixture(scope="module", params=sorted(GOES_ON))
def whole(
    request: pytest.FixtureRequest, render: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Taken:
    """A repository with environments of its own, made from the locks that `make lock` wrote."""
    folder = render(tmp_path_factory.mktemp(request.param), project_name=request.param, aws_resources="skip")
    run_in(folder)("make", "setup")
    take(request.param, folder)
    run_in(folder)("make", "lock")
    run_in(folder)("make", "setup", "scanners")
    return Taken(request.param, folder, str(folder / ".venv-components" / "bin" / "python"))


@pytest.mark.whole
def test_locks_checks_and_the_simulation(whole: Taken) -> None:
    for lock in (whole.folder / "locks").iterdir():
        assert "lightgbm" not in lock.read_text(encoding="utf-8")
        assert "://" not in lock.read_text(encoding="utf-8")
    whole.run("make", "check")
    whole.run("make", "test")
    assert "led to a new release" in whole.run("make", "simulate", "ROWS=2400")


@pytest.mark.whole
def test_images_and_their_contract(whole: Taken) -> None:
    whole.run("make", "images")
    whole.run("make", "train", "ON=docker")
    whole.run("make", "contract")
