"""Near-twins: a model that knows rows by heart is found out, and tables that are alike by nature are left in peace."""

from typing import Any

import numpy as np
import pytest

from batchloop.container import leakage
from batchloop.container.protocols import Problem, Table
from components.algorithm import model

HYPERPARAMETERS = {
    "learning_rate": 0.1,
    "num_iterations": 100,
    "early_stopping_rounds": 20,
    "num_leaves": 31,
    "min_data_in_leaf": 5,
    "native_categories": False,
    "seed": 7,
}
METRICS = {"binary": "auc", "multiclass": "log_loss", "regression": "rmse"}


def patients(*, count=400, visits=10, seed=1, noise=0.0, varying=0, known=0.0):
    """Five measurements a patient, repeated with some noise in each visit, and a label a patient: chance, or partly."""
    random = np.random.default_rng(seed)
    measured = random.normal(size=(count, 5))
    label = (known * measured[:, 0] + random.normal(size=count) > 0).astype(float)
    features = measured.repeat(visits, axis=0)
    features = features + noise * random.normal(size=features.shape)
    return np.hstack([features, random.normal(size=(count * visits, varying))]), label.repeat(visits)


def find(features, labels, task="binary", kinds=None, sources=None, *, groups=None):
    """The leak of a table that is split row by row, or by groups."""
    features, rows = np.asarray(features, dtype=np.float32), len(labels)
    random = np.random.default_rng(2)
    draws = random.random(rows) if groups is None else random.random(max(groups) + 1)[groups]
    table = Table(features, np.asarray(labels, dtype=float))
    parts = [
        Table(table.features[chosen], table.labels[chosen])
        for chosen in (draws >= 0.3, draws < 0.15, (draws >= 0.15) & (draws < 0.3))
    ]
    described = [
        {
            "name": f"f{place}",
            "source": sources[place] if sources else f"c{place}",
            "kind": kinds[place] if kinds else "number",
        }
        for place in range(features.shape[1])
    ]
    classes = tuple(map(str, sorted(set(labels)))) if task == "multiclass" else ()
    problem = Problem(task, classes, tuple(described), 2)

    def fit(train, validation, judged):
        return model.predict(model.fit(train, validation, HYPERPARAMETERS, problem), judged)

    question = leakage.Question(task, METRICS[task], 0.5, fit)
    return leakage.find(parts[0], {"validation": parts[1], "test": parts[2]}, described, question)


LEAKS: dict[str, Any] = {
    "the same features in every visit": {},
    "up to rounding": {"noise": 1e-7},
    "nearly the same features": {"noise": 0.01},
    "one column of six that varies": {"varying": 1},
    "three visits": {"count": 1200, "visits": 3},
    "few patients with many visits": {"count": 40, "visits": 100},
    "a label that the features tell partly": {"known": 1.0},
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_model_that_knows_patients_by_heart_is_not_trusted(name):
    found = find(*patients(**LEAKS[name]))
    assert not found["trusted"]
    assert found["twins"]["validation"] > 0.8
    assert found["expected"] < 0.1
    assert found["seen"] > found["unseen"] + 0.1
    assert "near-twin in training" in found["reason"]


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_labels_are_known_by_heart_too(task):
    features, _ = patients()
    random = np.random.default_rng(3)
    labels = (random.integers(0, 4, 400) if task == "multiclass" else random.normal(size=400)).repeat(10)
    found = find(features, labels, task)
    assert not found["trusted"]
    assert found["seen"] < found["unseen"]  # a loss


def test_categories_that_describe_a_patient_are_known_by_heart_too():
    random = np.random.default_rng(4)
    features, labels = random.integers(0, 4, (400, 8)).repeat(10, 0), random.integers(0, 2, 400).repeat(10)
    assert not find(features, labels, kinds=["category"] * 8)["trusted"]


def test_a_category_that_most_rows_lack_hides_no_twins():
    """Rows without a value are partners of each other, none its own."""
    features, labels = patients()
    clinic = np.where(np.arange(400) < 20, np.arange(400) % 4, np.nan).repeat(10)
    found = find(np.column_stack([features, clinic]), labels, kinds=["number"] * 5 + ["category"])
    assert found["expected"] < 0.1
    assert not found["trusted"]


def test_rows_split_by_patient_leave_nothing_to_say():
    found = find(*patients(), groups=np.arange(400).repeat(10))
    assert found["trusted"]
    assert found["reason"] is None
    assert max(found["twins"].values()) < 0.05


def natural():
    """Tables of independent rows that are alike by nature."""
    random = np.random.default_rng(5)
    rows = 4000
    flags, levels = random.integers(0, 2, (rows, 3)), random.integers(0, 5, (rows, 4))
    latent = random.normal(size=(rows, 1))
    numbers = latent + 0.3 * random.normal(size=(rows, 6))
    sick = latent[:, 0] + 0.5 * random.normal(size=rows) > 0
    price = random.gamma(2, 30, rows).round(1)
    product = random.integers(0, 200, rows)
    prices, effect = random.gamma(2, 30, (200, 2)).round(2), random.normal(size=200)
    day = random.integers(0, 365, rows)
    return {
        "three flags that decide": (flags, flags.sum(1) % 2),
        "three flags and chance": (flags, random.random(rows) < 0.2 + 0.2 * flags.sum(1)),
        "four answers that decide": (levels, (levels @ [3, 5, 7, 11]) % 3 == 0),
        "numbers that go together": (numbers, sick),
        "a survey": (np.clip(np.round(numbers), -2, 2), sick),
        "a price and its tax": (np.column_stack([price, (price * 1.19).round(2)]), price + sick > 50),
        "products that are named": (
            np.column_stack([product, prices[product]]),
            effect[product] + random.normal(size=rows) > 0,
            "binary",
            ["category", "number", "number"],
        ),
        "days of a year": (
            np.column_stack([day, day // 30, day % 7, numbers[:, :1]]),
            sick,
            "binary",
            ["date"] * 3 + ["number"],
            ["day"] * 3 + ["measured"],
        ),
        "one column": (numbers[:, :1].round(1), sick),
        "few rows": (numbers[:150], sick[:150]),
    }


@pytest.mark.parametrize("name", natural())
def test_a_table_whose_rows_are_alike_by_nature_is_left_in_peace(name):
    found = find(*natural()[name])
    assert found["reason"] is None
    assert found["trusted"]
