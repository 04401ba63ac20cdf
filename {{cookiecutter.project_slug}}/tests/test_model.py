"""What ★ model.py and attributions.py have to hold, whichever library they are written for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import artifacts, explanations, hyperparameters, models, usecase
from batchloop.container.job import InputError
from batchloop.container.protocols import Matrix, Problem, Table
from tests.component_flow import Flow

ROOT = Path(__file__).resolve().parents[1]
CHOSEN = usecase.load(ROOT / "usecase.toml").hyperparameters
KINDS = ("a", "b", "c", "d")
FEATURES: tuple[dict[str, Any], ...] = (
    {"name": "x", "source": "x", "kind": "number"},
    {"name": "noise", "source": "noise", "kind": "number"},
    {"name": "kind", "source": "kind", "kind": "category", "categories": ["other", *KINDS]},
)
CLASSES = {"binary": ("no", "yes"), "multiclass": ("low", "middle", "high"), "regression": ()}
PROBLEMS = [Problem(task, classes, FEATURES, threads=1) for task, classes in CLASSES.items()]
problems = pytest.mark.parametrize("problem", PROBLEMS, ids=list(CLASSES))


def frame(rows: int, task: str, seed: int = 3) -> pl.DataFrame:
    """Rows of which `x` says much, `kind` something, and `noise`, which has gaps, nothing."""
    random = np.random.default_rng(seed)
    x, kind = random.normal(size=rows), random.integers(0, len(KINDS), rows)
    signal = 1.5 * x + (kind == 1) + random.normal(size=rows) / 2
    label: Any = 10 * signal + 3
    if task != "regression":
        label = np.array(CLASSES[task])[np.digitize(signal, [0.0] if task == "binary" else [-1.0, 1.5])]
    noise = pl.Series(random.normal(size=rows)).set(pl.Series(random.random(rows) < 0.1), None)
    columns = {"id": np.arange(rows), "x": x, "noise": noise, "kind": np.array(KINDS)[kind], "label": label}
    return pl.DataFrame(columns)


def table(rows: int, problem: Problem, seed: int = 3) -> Table:
    """The same as the model sees it."""
    made = frame(rows, problem.task, seed)
    codes = made["kind"].cast(pl.Enum(FEATURES[2]["categories"])).to_physical()
    label = made["label"].cast(pl.Enum(problem.classes)).to_physical() if problem.classes else made["label"]
    features = made.select("x", "noise", codes.alias("kind")).to_numpy().astype(np.float32)
    return Table(features, label.to_numpy().astype(np.float64))


def fitted(problem: Problem, progress: Any = None, rows: int = 400) -> models.Model:
    made = models.fit(table(rows, problem), table(200, problem, seed=4), CHOSEN, problem, progress)
    metadata = {"task": problem.task, "classes": list(problem.classes), "features": list(FEATURES)}
    return models.Model(made, metadata)


@pytest.fixture(scope="module")
def known() -> Callable[[Problem], models.Model]:
    """One model a task."""
    made: dict[str, models.Model] = {}

    def model(problem: Problem) -> models.Model:
        return made.setdefault(problem.task, made.get(problem.task) or fitted(problem))

    return model


Known = Callable[[Problem], models.Model]


@pytest.mark.parametrize("task", list(CLASSES))
def test_a_table_is_adopted_learned_scored_and_explained(tmp_path: Path, task: str) -> None:
    made, flow = frame(700, task), Flow(tmp_path / "case").begin()
    made[:600].write_csv(tmp_path / "table.csv")
    made[600:].drop("label").write_csv(tmp_path / "new.csv")
    assert flow.adopt(tmp_path / "table.csv", "--label", "label", "--id", "id", "--task", task) == 0
    flow.train()
    scored = flow.score(tmp_path / "new.csv").predictions
    assert scored["id"].cast(pl.String).to_list() == [str(number) for number in range(600, 700)]
    assert scored["error"].is_null().all()
    if task == "regression":
        assert np.corrcoef(scored["prediction"].to_numpy(), made[600:]["label"].to_numpy())[0, 1] > 0.85
    else:
        assert np.mean(scored["prediction"].to_numpy() == made[600:]["label"].to_numpy()) > 0.65
    explainer = artifacts.read_json(flow.root / "release" / "explainer" / "explainer.json")
    assert explainer["importance"][0]["feature"] == "x"
    assert explainer["method"] == explanations.module().METHOD


@problems
def test_predictions_have_the_shape_of_their_task(known: Known, problem: Problem) -> None:
    features = table(50, problem, seed=5).features
    predicted = models.predict(known(problem), features, threads=1)
    assert predicted.shape == ((50, 3) if problem.task == "multiclass" else (50,))
    if problem.classes:
        assert ((predicted >= 0) & (predicted <= 1)).all()
    if problem.task == "multiclass":
        assert predicted.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


@problems
def test_the_same_rows_give_the_same_model(known: Known, problem: Problem) -> None:
    features = table(50, problem, seed=5).features
    first, second = (models.predict(model, features, threads=1) for model in (known(problem), fitted(problem)))
    assert np.array_equal(first, second)


@problems
def test_the_same_model_is_the_same_bytes(known: Known, problem: Problem, tmp_path: Path) -> None:
    """What a step has written is known by its content: a run here and one in an image are to agree."""
    written = []
    for name, model in (("first", known(problem)), ("second", fitted(problem))):
        (tmp_path / name).mkdir()
        models.save(model, tmp_path / name)
        written.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert written[0] == written[1]


@problems
def test_a_row_without_any_value_is_predicted(known: Known, problem: Problem) -> None:
    assert np.isfinite(models.predict(known(problem), np.full((1, 3), np.nan, dtype=np.float32))).all()


@problems
def test_read_back_it_predicts_the_same(known: Known, problem: Problem, tmp_path: Path) -> None:
    features = table(50, problem, seed=5).features
    models.save(known(problem), tmp_path)
    loaded = models.load(tmp_path)
    assert np.array_equal(models.predict(loaded, features), models.predict(known(problem), features))


def test_a_class_that_training_lacks_has_its_column() -> None:
    problem = Problem("multiclass", ("low", "middle", "high", "never"), FEATURES)
    made = models.Model(
        models.fit(table(400, PROBLEMS[1]), table(200, PROBLEMS[1], seed=4), CHOSEN, problem),
        {"classes": list(problem.classes), "features": list(FEATURES)},
    )
    features = table(50, PROBLEMS[1], seed=5).features
    predicted = models.predict(made, features)
    assert predicted.shape == (50, 4)
    assert predicted[:, 3].max() < 0.1
    assert explain(made, features).raw.shape == (50, 4)


def explain(model: models.Model, features: Matrix) -> Any:
    """What attributions.py learned from other rows goes through JSON, as in explainer.json."""
    learned = explanations.module().fit(model.fitted, table(200, PROBLEMS[0], seed=4).features)
    return explanations.module().explain(model.fitted, json.loads(json.dumps(learned, allow_nan=False)), features)


@problems
def test_attributions_add_up_to_the_raw_score(known: Known, problem: Problem) -> None:
    features = table(50, problem, seed=5).features
    found = explain(known(problem), features)
    assert found.values.shape == (50, 3 if problem.task == "multiclass" else 1, 3)
    assert explanations.additivity_error(found).max() <= explanations.module().TOLERANCE
    assert explanations.importance(found.values).argmax() == 0
    assert found.sampling_error < explanations.importance(found.values).max() / 2


@problems
def test_a_row_is_explained_the_same_in_any_batch(known: Known, problem: Problem) -> None:
    features = table(50, problem, seed=5).features
    whole, alone = explain(known(problem), features), explain(known(problem), features[7:8])
    assert alone.values[0] == pytest.approx(whole.values[7], abs=1e-6)


def test_a_hyperparameter_that_it_does_not_know_is_refused() -> None:
    case = usecase.load(ROOT / "usecase.toml")
    hyperparameters.refuse(case, CHOSEN)
    with pytest.raises(InputError, match="no_such_setting"):
        hyperparameters.refuse(case, {**CHOSEN, "no_such_setting": 3})


class Watched:
    """A Progress that counts, and stops after some rounds."""

    def __init__(self, stop: int = 0, state: str | None = None, start: Any = None) -> None:
        self.stop, self.state, self.start, self.rounds = stop, state, start, list[int]()

    def interrupted(self) -> str | None:
        return self.state

    def after_round(self, rounds: int, loss: float, state: Callable[[], str]) -> None:
        assert np.isfinite(loss)
        self.rounds.append(rounds)
        if rounds == self.stop:
            self.state = state()
            raise InterruptedError


@pytest.mark.skipif(not models.takes_progress(), reason="this model can't be interrupted")
@problems
def test_an_interrupted_fit_goes_on_where_it_was(problem: Problem) -> None:
    first = Watched(stop=3)
    with pytest.raises(InterruptedError):
        fitted(problem, first)
    second = Watched(state=first.state)
    fitted(problem, second)
    assert (first.rounds, second.rounds[0]) == ([1, 2, 3], 4)


@pytest.mark.skipif(not models.takes_progress(), reason="this model can't go on from another")
@problems
def test_it_goes_on_from_another_model(known: Known, problem: Problem) -> None:
    watched = Watched(start=known(problem).fitted)
    fitted(problem, watched)
    assert watched.rounds[0] > 1
