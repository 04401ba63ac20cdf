"""The other domains: a table's repository but for the files that a domain lays over, and within its budgets."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import TEMPLATE, commit, run_in

NAMES = sorted(folder.name for folder in (TEMPLATE / "domains").iterdir() if (folder / "usecase.toml").is_file())
STARS = ("features.py", "model.py", "drift.py", "attributions.py")
TESTS = r"tests/(?:test_\w+|conftest)\.py"
OWN = re.compile(rf"components/\w+/({'|'.join(STARS)})|{TESTS}|data/\w+\.py|locks/[\w-]+\.txt|usecase\.toml")
SHARED = (
    "README.md",
    "pyproject.toml",
    ".template.json",
    *(f"environments/{name}.toml" for name in ("dev", "prod", "staging")),
)


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
    cuda = {
        f"locks/{name}-gpu.txt" for name in ("algorithm", "explainability") if domain.parent.name.startswith("image")
    }
    assert set(mine) == set(others) | cuda
    different = {name for name in mine if mine[name] != others.get(name)}
    assert {name for name in different if not OWN.fullmatch(name)} <= set(SHARED)
    assert "components/algorithm/model.py" in different


def test_its_owner_sees_few_files_and_little_code(domain: Path) -> None:
    own = {name: text for name, text in files(domain).items() if not name.startswith(("batchloop/", "locks/"))}
    lines = sum(text.count(b"\n") for name, text in own.items() if name.endswith(".py"))
    assert len(own) <= 60
    assert lines <= 2600, lines


def test_its_own_checks_and_tests_pass_and_its_sample_goes_through_both_pipelines(domain: Path) -> None:
    commit(domain)
    run = run_in(domain)
    run("make", "check")
    assert " passed" in run("make", "test").stdout
    run("make", "train")
    scored, series = run("make", "score").stdout, "[series]" in (domain / "usecase.toml").read_text(encoding="utf-8")
    assert "report.html" in scored
    assert f"make label DATA=file (with {'series, time' if series else 'the id'} and the label)" in scored
    assert run("git", "status", "--porcelain").stdout == ""


def test_an_image_with_cuda_holds_what_the_one_without_does_and_cuda(domain: Path) -> None:
    """The same versions, so that a model trained on a GPU is served without one."""

    def pins(lock: str) -> set[str]:
        return set(re.findall(r"(?m)^([\w.-]+==\S+)", (domain / "locks" / f"{lock}.txt").read_text(encoding="utf-8")))

    for file in (domain / "locks").glob("*-gpu.txt"):
        plain, cuda = pins(file.stem.removesuffix("-gpu")), pins(file.stem)
        versions = dict(pin.split("==") for pin in cuda)
        assert plain < cuda
        assert versions["jax-cuda12-plugin"] == versions["jax-cuda12-pjrt"] == versions["jax"]
        assert all(re.match(r"jax-cuda12|nvidia-", pin) for pin in cuda - plain), cuda - plain


FINE_TUNED = """
from pathlib import Path
from components.algorithm import model
import keras, numpy as np
from batchloop.container.protocols import Problem, Table

keras.utils.set_random_seed(1)
pixels = keras.layers.Input((None, None, 1))
hidden = keras.layers.Conv2D(8, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
keras.Model(pixels, hidden).save(Path(model.__file__).parent / "tiny.keras")
random = np.random.default_rng(1)
labels = np.arange(200) % 2
rows = random.integers(0, 100, (200, 256)) + 100 * labels[:, None]
table = Table(rows.astype(np.uint8), labels.astype(float))
feature = {"name": "p", "source": "p", "kind": "image", "shape": [16, 16, 1]}
problem = Problem("binary", ("no", "yes"), (feature,), 2)
learned = {}
def drawn(*_, **__):
    raise AssertionError("weights that the saved ones replace are drawn, which takes seconds to compile")
for train in (False, True):
    chosen = {"backbone": "tiny.keras", "train_backbone": train, "epochs": 15, "learning_rate": 0.05}
    assert not list(model.check(chosen, problem))
    fitted = model.fit(table, table, chosen, problem)
    right = ((model.predict(fitted, table.features) > 0.5) == labels).mean()
    assert right > 0.9, right
    folder = Path("saved") / str(train)
    folder.mkdir(parents=True)
    model.save(fitted, folder)
    keras.initializers.GlorotUniform.__call__ = drawn
    loaded = model.load(folder)
    del keras.initializers.GlorotUniform.__call__
    assert np.array_equal(model.predict(loaded, table.features), model.predict(fitted, table.features))
    learned[train] = [value for value in fitted.body.get_weights() if value.shape == (3, 3, 1, 8)][0]
given = keras.models.load_model(Path(model.__file__).parent / "tiny.keras").get_weights()[0]
assert np.array_equal(learned[False], given) and not np.array_equal(learned[True], given)
assert [name for name, _ in model.check({"backbone": "gone.keras"}, problem)] == ["backbone"]
"""


def test_its_simulation_shows_the_published_table_where_there_is_one(domain: Path) -> None:
    """Of pictures, on as many as the published sets had."""
    stages = (domain / "data" / "stages.py").read_text(encoding="utf-8")
    if not domain.parent.name.startswith("image"):
        assert "published" not in stages
        return
    run = run_in(domain)
    run("make", "setup")
    run(".venv-components/bin/python", "-m", "data.stages", "--rows", "4", "--output", "stages")
    said = " ".join((domain / "stages" / "about.txt").read_text(encoding="utf-8").split())
    drift = "published drift FALSE FALSE TRUE FALSE TRUE FALSE FALSE; "
    assert said.startswith(f"{drift}accuracy on stage 3 0.928 before, 1.000 after retraining")
    assert len(list((domain / "stages").glob("*/train"))) == 7


def test_a_pretrained_network_stays_as_it_is_or_is_trained_further(domain: Path) -> None:
    if "train_backbone" not in (domain / "usecase.toml").read_text(encoding="utf-8"):
        assert "backbone" not in (domain / "components" / "algorithm" / "model.py").read_text(encoding="utf-8")
        return
    run_in(domain)("make", "setup")
    run_in(domain)("env", "PYTHONPATH=.", ".venv-components/bin/python", "-c", FINE_TUNED)
