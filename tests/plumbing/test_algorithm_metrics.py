"""Metrics agree with scikit-learn, also where scores tie, and say NaN where nothing can be measured."""

import math

import numpy as np
import pytest
from sklearn import metrics as peer

from batchloop.container import evaluation, measures
from batchloop.container import metrics as names
from batchloop.container.job import InputError


def binary_case(seed, rows=400):
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.3).astype(float)
    scores = np.clip(np.round(0.3 * labels + random.random(rows) * 0.7, 2 if seed % 2 else 12), 0.001, 0.999)
    return labels, scores


@pytest.mark.parametrize("seed", range(6))
def test_binary_metrics_are_scikit_learns(seed):
    labels, scores = binary_case(seed)
    chosen = scores >= 0.4
    assert measures.binary(labels, scores, 0.4) == pytest.approx(
        {
            "auc": peer.roc_auc_score(labels, scores),
            "average_precision": peer.average_precision_score(labels, scores),
            "log_loss": peer.log_loss(labels, scores),
            "brier": peer.brier_score_loss(labels, scores),
            "accuracy": peer.accuracy_score(labels, chosen),
            "precision": peer.precision_score(labels, chosen),
            "recall": peer.recall_score(labels, chosen),
            "f1": peer.f1_score(labels, chosen),
            "expected_calibration_error": calibration_by_hand(labels, scores),
        }
    )


def calibration_by_hand(happened, scores):
    """Rows one by one, with bins as text."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for label, score in zip(happened, scores, strict=True):
        bins.setdefault(min(9, math.floor(score * 10)), []).append((label, score))
    gaps = [abs(sum(label - score for label, score in rows)) for rows in bins.values()]
    return sum(gaps) / len(scores)


@pytest.mark.parametrize("seed", range(4))
def test_multiclass_metrics_are_scikit_learns(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 500).astype(float)
    scores = random.dirichlet(np.ones(4), 500) * 0.6 + 0.4 * np.eye(4)[labels.astype(int)]
    scores = scores[:, [0, 1, 3, 2]] if seed == 3 else scores
    chosen, truth = scores.argmax(axis=1), np.eye(4)[labels.astype(int)]
    assert measures.multiclass(labels, scores) == pytest.approx(
        {
            "log_loss": peer.log_loss(labels, scores),
            "accuracy": peer.accuracy_score(labels, chosen),
            "balanced_accuracy": peer.balanced_accuracy_score(labels, chosen),
            "macro_f1": peer.f1_score(labels, chosen, average="macro"),
            "auc": peer.roc_auc_score(labels, scores, multi_class="ovr", average="macro"),
            "brier": np.mean(np.sum((scores - truth) ** 2, axis=1)),
            "expected_calibration_error": calibration_by_hand(chosen == labels, scores.max(axis=1)),
        }
    )


@pytest.mark.parametrize("seed", range(3))
def test_regression_metrics_are_scikit_learns(seed):
    random = np.random.default_rng(seed)
    labels = random.normal(50, 20, 301)
    values = labels + random.normal(0, 5, 301)
    assert measures.regression(labels, values) == pytest.approx(
        {
            "rmse": peer.root_mean_squared_error(labels, values),
            "mae": peer.mean_absolute_error(labels, values),
            "r2": peer.r2_score(labels, values),
            "mean_absolute_percentage_error": peer.mean_absolute_percentage_error(labels, values),
            "median_absolute_error": peer.median_absolute_error(labels, values),
        }
    )


def test_a_label_of_zero_does_not_spoil_the_percentage_error():
    found = measures.regression(np.array([0.0, 10.0, 20.0]), np.array([5.0, 11.0, 18.0]))
    assert found["mean_absolute_percentage_error"] == pytest.approx(0.1)
    assert math.isnan(measures.regression(np.zeros(2), np.ones(2))["mean_absolute_percentage_error"])


def test_what_can_not_be_measured_is_nan_and_null_in_json():
    found = measures.binary(np.zeros(3), np.array([0.1, 0.2, 0.9]), 0.5)
    assert math.isnan(found["auc"])
    assert math.isnan(found["average_precision"])
    assert (found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0)
    assert evaluation.finite(found)["auc"] is None
    assert math.isnan(measures.regression(np.ones(3), np.arange(3.0))["r2"])


def test_a_certain_and_wrong_score_costs_much_and_not_infinitely_much():
    assert measures.binary(np.array([1.0]), np.array([0.0]), 0.5)["log_loss"] == pytest.approx(36.04, abs=0.01)


def test_scores_of_zero_and_one_fall_into_the_outer_bins():
    table = measures.reliability(np.array([False, True, True]), np.array([0.0, 1.0, 0.95]))
    assert [(row["from"], row["to"], row["rows"]) for row in table] == [(0.0, 0.1, 1), (0.9, 1.0, 2)]
    assert table[1]["mean_score"] == pytest.approx(0.975)
    assert table[1]["observed"] == 1.0


def test_every_task_measures_exactly_the_metrics_it_is_known_for():
    labels, scores = binary_case(0)
    several = np.column_stack([scores, 1 - scores, scores]) / (1 + scores)[:, None]
    found = {
        "binary": measures.measure("binary", labels, scores, 0.5),
        "multiclass": measures.measure("multiclass", labels, several, 0.5),
        "regression": measures.measure("regression", labels, scores, 0.5),
    }
    assert {task: tuple(values) for task, values in found.items()} == {task: names.NAMES[task] for task in found}
    assert set().union(*names.NAMES.values()) >= names.SMALLER_IS_BETTER


def test_a_lead_is_positive_when_the_new_one_is_better():
    assert names.lead("auc", 0.8, 0.7) == pytest.approx(0.1)
    assert names.lead("rmse", 0.8, 0.7) == pytest.approx(-0.1)
    with pytest.raises(InputError, match="'mae' is not a metric of a binary task"):
        names.check_limit("binary", "mae", 0, "[gate] minimum")


@pytest.mark.parametrize("value", [0.1234567891, 1e-9, 123456789.5, -4.0, 0.0, 1e12])
def test_metric_lines_have_no_exponent(value):
    found = {"metric": "auc", "validation": {}, "test": {"auc": value}, "champion": None, "comparison": None}
    text = evaluation.metric_lines({**found, "lead": 0.0})[0].partition("=")[2]
    assert float(text) == pytest.approx(value, rel=1e-8)
    assert "e" not in text


def test_cells_of_one_score_count_as_one_in_every_draw() -> None:
    """Expected hits have an axis of draws before that of the cells, which need not be in order."""
    scores, rows = np.array([0.7, 0.2, 0.7, 0.4]), np.array([4.0, 3.0, 6.0, 5.0])
    draws = np.array([[3.0, 1.0, 4.0, 2.0], [2.5, 0.5, 5.0, 1.0]])
    cells = measures.Cells(scores, rows, (scores >= 0.5).astype(float))
    merged = measures.Cells(np.array([0.2, 0.4, 0.7]), np.array([3.0, 5.0, 10.0]), np.array([0.0, 0.0, 1.0]))
    expected = [float(measures.auc(merged, np.array([hits[1], hits[3], hits[0] + hits[2]]))) for hits in draws]
    assert measures.auc(cells, draws) == pytest.approx(expected, abs=1e-12)
