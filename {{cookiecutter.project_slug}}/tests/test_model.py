"""★ What model.py has to hold, whichever library it is written for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchloop.container import hyperparameters, models
from batchloop.container.job import InputError
from batchloop.container.protocols import Problem
from batchloop.container.usecase import UseCase
from tests.conftest import FEATURES, HYPERPARAMETERS, PROBLEMS, Known, fitted, problems, table


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
        models.fit(table(400, PROBLEMS[1]), table(200, PROBLEMS[1], seed=4), HYPERPARAMETERS, problem),
        {"classes": list(problem.classes), "features": list(FEATURES)},
    )
    features = table(50, PROBLEMS[1], seed=5).features
    predicted = models.predict(made, features)
    assert predicted.shape == (50, 4)
    assert predicted[:, 3].max() < 0.1


def test_a_hyperparameter_that_it_does_not_know_is_refused(case: UseCase) -> None:
    hyperparameters.refuse(case, HYPERPARAMETERS)
    with pytest.raises(InputError, match="no_such_setting"):
        hyperparameters.refuse(case, {**HYPERPARAMETERS, "no_such_setting": 3})


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
    first = Watched(stop=1)
    with pytest.raises(InterruptedError):
        fitted(problem, first)
    second = Watched(state=first.state)
    fitted(problem, second)
    assert (first.rounds, second.rounds[0]) == ([1], 2)


@pytest.mark.skipif(not models.takes_progress(), reason="this model can't go on from another")
@problems
def test_it_goes_on_from_another_model(known: Known, problem: Problem) -> None:
    watched = Watched(start=known(problem).fitted)
    fitted(problem, watched)
    assert watched.rounds[0] > 1
