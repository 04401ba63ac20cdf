"""Training that is interrupted, and goes on from its checkpoint."""

import re
import signal
import time
from typing import Any

import numpy as np
import pytest

from batchloop.container import models
from batchloop.container.protocols import Problem, Table
from components.algorithm import model
from components.algorithm.model import Best
from plumbing import test_algorithm_training
from plumbing.test_algorithm_training import FEATURES, LABELS, command, lay_out

run = test_algorithm_training.run


def wait_for(condition, process, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_interrupted_training_goes_on_from_its_checkpoint(tmp_path, run, caplog):
    root = lay_out(tmp_path, "binary", num_iterations=3000, early_stopping_rounds=0, learning_rate=0.001)
    checkpoint = root / "checkpoints/fit.txt"
    process = command(root)
    wait_for(checkpoint.exists, process)
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1, errors
    assert time.monotonic() - started < 5
    assert not (root / "model/model.txt").exists()
    rounds = int(re.findall(r"interrupted after (\d+) rounds", errors)[0])
    assert models.EVERY <= rounds < 3000
    kept = checkpoint.read_text().partition("\n")[2]
    with caplog.at_level("INFO"):
        run(root)
    assert f"going on from a checkpoint of {rounds} rounds" in caplog.text
    finished = (root / "model/model.txt").read_text()
    assert finished.count("\nTree=") == 3000
    assert leaves_of(kept, rounds - 1) == leaves_of(finished, rounds - 1)
    assert not checkpoint.exists()


def leaves_of(text, tree):
    return text.split(f"\nTree={tree}\n")[1].split("\n\n")[0]


@pytest.fixture
def checkpoint(tmp_path):
    """A written checkpoint, and how to open it again under an identity."""

    def opened(identity):
        return models.Checkpoint(tmp_path, identity)

    opened("ours").after_round(models.EVERY, 0.25, lambda: "line 1\nline 2")
    return opened


def test_a_checkpoint_keeps_the_state_of_the_fit(checkpoint):
    assert checkpoint("ours").interrupted() == "line 1\nline 2"


def test_a_checkpoint_of_another_run_is_ignored(checkpoint):
    assert checkpoint("theirs").interrupted() is None


def test_a_checkpoint_of_other_code_is_ignored(checkpoint, monkeypatch):
    """All runs on the same data keep theirs in the same place."""
    monkeypatch.setenv("CODE_VERSION", "another")
    assert checkpoint("ours").interrupted() is None


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-3], lambda raw: b"\xff\x00\n", lambda raw: b"{}\n", lambda raw: b""]
)
def test_a_damaged_checkpoint_is_ignored(damage, checkpoint):
    file = checkpoint("ours").file
    file.write_bytes(damage(file.read_bytes()))
    assert checkpoint("ours").interrupted() is None


class Resumed:
    """A fit that was interrupted after 30 rounds, of which the 27th was better than any can be."""

    start = None
    predicted: Any = None

    def __init__(self, booster):
        self.booster = booster

    def interrupted(self):
        return model._state(self.booster, Best(27, -1.0))

    def after_round(self, rounds, loss, state):
        assert 30 < rounds <= 32, (loss, state)


def test_early_stopping_is_not_forgotten_over_an_interruption():
    learned = Table(np.arange(200, dtype=np.float32).reshape(100, 2), np.arange(100.0) % 7)
    problem = Problem("regression", (), tuple({"name": name, "kind": "number"} for name in "ab"))
    start = model.fit(learned, learned, {"num_iterations": 30}, problem)
    settings = {"num_iterations": 50, "early_stopping_rounds": 5}
    assert model.fit(learned, learned, settings, problem, Resumed(start)).best_iteration == 27


@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize("own", [{"early_stopping_rounds": 3}, {"early_stopping_rounds": 0, "bagging_freq": 1}])
def test_what_validation_was_evaluated_on_is_not_predicted_again(task, own, tmp_path, monkeypatch):
    """To the bit: it is what the model that was saved predicts, in the round that is the best."""
    rng, classes = np.random.default_rng(5), tuple(LABELS[task])
    features = rng.normal(size=(600, 4)).astype(np.float32)
    features[rng.random(features.shape) < 0.1] = np.nan
    labels = rng.integers(0, len(classes), 600).astype(float) if classes else rng.normal(size=600)
    first, second = Table(features[:300], labels[:300]), Table(features[300:], labels[300:])
    problem = Problem(task, classes, tuple(FEATURES))
    checkpoint = models.Checkpoint(tmp_path, "ours")
    settings = {"num_iterations": 40, "bagging_fraction": 0.7, "num_leaves": 5, "seed": 7, **own}
    fitted = models.Model(model.fit(first, second, settings, problem, checkpoint), {"classes": classes})
    again, known = models.predict(fitted, second.features), checkpoint.predicted
    assert known is not None
    assert np.array_equal(known, again)

    asked, predict = list[int](), models.predict

    def counted(fitted: models.Model, rows: Any, threads: int = 0) -> Any:
        asked.append(len(rows))
        return predict(fitted, rows, threads)

    monkeypatch.setattr(models, "predict", counted)
    monkeypatch.setattr(models, "COMPARED", 10)
    assert models.confirmed(fitted, second.features, known, 1) is known
    assert max(asked) <= 10
    for other in (None, known + 1e-9):  # of a model that can't tell, or of another one
        assert np.array_equal(models.confirmed(fitted, second.features, other, 1), again)


def test_a_search_is_not_repeated_after_an_interruption(tmp_path):
    models.remember(tmp_path, ["data", 3], {"num_leaves": 9})
    assert models.recall(tmp_path, ["data", 3]) == {"num_leaves": 9}
    assert models.recall(tmp_path, ["data", 4]) is None
    (tmp_path / models.TUNED).write_text("[")
    assert models.recall(tmp_path, ["data", 3]) is None
