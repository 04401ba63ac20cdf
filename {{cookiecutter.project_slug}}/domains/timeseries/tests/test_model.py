"""★ What model.py has to hold, whichever library it is written for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchloop.container import hyperparameters, measures, models
from batchloop.container.job import InputError
from batchloop.container.metrics import FORECAST, INTERVAL, NAIVE
from batchloop.container.protocols import Problem, Table
from batchloop.container.usecase import UseCase
from tests.conftest import HYPERPARAMETERS

SHOWN = ("step", "seasonal_naive", "seasonal_error", "series_level", "series_size")
NAMES = (*SHOWN, "wave", "noise")
FEATURES: tuple[dict[str, Any], ...] = tuple({"name": name, "source": name, "kind": "number"} for name in NAMES)
PROBLEM = Problem("forecasting", (), FEATURES, threads=1)


def table(rows: int, seed: int = 3, size: float = 1.0) -> Table:
    """Values that `wave` says much of, at any level; the naive forecast is the level."""
    random = np.random.default_rng(seed)
    level, wave, noise = size * random.lognormal(2, 1, rows), random.normal(size=rows), random.normal(size=rows)
    step = random.integers(1, 8, rows)
    labels = level * (1 + 0.3 * wave + 0.02 * step * random.normal(size=rows))
    columns = [step, level, 0.3 * level, level, level, wave, noise]
    return Table(np.column_stack(columns).astype(np.float32), labels)


def fitted(progress: Any = None, rows: tuple[int, int] = (3000, 1500)) -> models.Model:
    """A model with the hyperparameters of usecase.toml, and its interval."""
    train, validation = table(rows[0]), table(rows[1], seed=4)
    made = models.fit(train, validation, HYPERPARAMETERS, PROBLEM, progress)
    metadata = {"task": "forecasting", "classes": [], "features": list(FEATURES)}
    return models.calibrated(models.Model(made, metadata), validation)


@pytest.fixture(scope="module")
def known() -> models.Model:
    """One model for all tests."""
    return fitted()


def test_a_forecast_has_its_interval_and_what_it_was_made_with(known: models.Model) -> None:
    rows = table(50, seed=5)
    predicted = models.predict(known, rows.features, threads=1)
    assert predicted.shape == (50, len(FORECAST))
    assert (predicted[:, 1] <= predicted[:, 2]).all()
    assert predicted[:, NAIVE] == pytest.approx(rows.features[:, 1])


def test_it_beats_the_naive_forecast_and_its_interval_covers_what_it_should(known: models.Model) -> None:
    rows = table(3000, seed=5)
    found = measures.measure("forecasting", rows.labels, models.predict(known, rows.features, threads=1), 0.5)
    assert found["relative_mase"] < 0.6
    assert found["coverage"] == pytest.approx(INTERVAL, abs=0.04)


def test_the_interval_widens_with_the_step(known: models.Model) -> None:
    features = np.repeat(table(1, seed=5).features, 7, axis=0)
    features[:, 0] = np.arange(1, 8)
    predicted = models.predict(known, features)
    width = predicted[:, 2] - predicted[:, 1]
    assert width[-1] > width[0]


def test_large_series_are_forecast_as_small_ones_are(known: models.Model) -> None:
    small, large = (models.predict(known, table(50, seed=5, size=size).features)[:, :3] for size in (1, 1024))
    assert large == pytest.approx(1024 * small, rel=1e-4)


def test_the_same_model_is_the_same_bytes(known: models.Model, tmp_path: Path) -> None:
    """What a step has written is known by its content: a run here and one in an image are to agree."""
    written = []
    for name, model in (("first", known), ("second", fitted())):
        (tmp_path / name).mkdir()
        models.save(model, tmp_path / name)
        written.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert written[0] == written[1]


def test_read_back_it_predicts_the_same(known: models.Model, tmp_path: Path) -> None:
    features = table(50, seed=5).features
    models.save(known, tmp_path)
    assert np.array_equal(models.predict(models.load(tmp_path), features), models.predict(known, features))


def test_few_validation_values_give_an_interval_too() -> None:
    assert np.isfinite(models.predict(fitted(rows=(300, 3)), table(20, seed=5).features)).all()


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
def test_an_interrupted_fit_goes_on_where_it_was() -> None:
    first = Watched(stop=1)
    with pytest.raises(InterruptedError):
        fitted(first)
    second = Watched(state=first.state)
    fitted(second)
    assert (first.rounds, second.rounds[0]) == ([1], 2)


@pytest.mark.skipif(not models.takes_progress(), reason="this model can't go on from another")
def test_it_goes_on_from_another_model(known: models.Model) -> None:
    watched = Watched(start=known.fitted)
    fitted(watched)
    assert watched.rounds[0] > 1
