"""Performance without labels: metrics are scikit-learn's, estimates true where scores are, limits as wide as said."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn import metrics as peer

from monitoring import calibration, cells, performance
from monitoring.cells import Cells
from monitoring.performance import Expected

Floats = NDArray[np.float64]
Label = NDArray[np.bool_]
THRESHOLD = 0.4


def grouped(scores: Floats, labels: Label, threshold: float = THRESHOLD) -> tuple[Cells, Floats]:
    """A cell for each score that occurs, and its hits."""
    values, places, rows = np.unique(scores, return_inverse=True, return_counts=True)
    hits = np.bincount(places, weights=labels.astype(float)).astype(float)
    return Cells(values, rows.astype(float), (values >= threshold).astype(float)), hits


def counted(scores: Floats, threshold: float = THRESHOLD) -> dict[str, Cells]:
    return cells.count(pl.LazyFrame({"score": scores}), ["score"], threshold)


def sklearn(scores: Floats, labels: Label) -> dict[str, float]:
    chosen = scores >= THRESHOLD
    return {
        "auc": peer.roc_auc_score(labels, scores),
        "log_loss": peer.log_loss(labels, scores),
        "brier": peer.brier_score_loss(labels, scores),
        "accuracy": peer.accuracy_score(labels, chosen),
        "precision": peer.precision_score(labels, chosen),
        "recall": peer.recall_score(labels, chosen),
        "f1": peer.f1_score(labels, chosen),
    }


def drawn(random: np.random.Generator, rows: int, high: float = 4.0) -> tuple[Floats, Label]:
    """Scores that are chances, and labels that obey them."""
    scores = random.beta(1.5, high, rows)
    return scores, random.random(rows) < scores


def perfect() -> dict[str, dict[str, list[float]]]:
    """Bins of a validation split so large that scores are known to be chances."""
    scores = 1 / (1 + np.exp(-np.linspace(-9, 9, 400)))
    odds = calibration.log_odds(scores).tolist()
    return {"score": {"score": scores.tolist(), "log_odds": odds, "rows": [1e9] * 400, "hits": (1e9 * scores).tolist()}}


@pytest.mark.parametrize("digits", [2, 12])
def test_metrics_of_cells_are_scikit_learns(digits: int) -> None:
    scores, labels = drawn(np.random.default_rng(digits), 900)
    scores = np.clip(scores.round(digits), 0.001, 0.999)
    groups, hits = grouped(scores, labels)
    found = {
        name: float(metric({"score": groups}, {"score": hits}))
        for name, metric in performance.METRICS["binary"].items()
    }
    assert found == pytest.approx(sklearn(scores, labels))


def test_metrics_of_several_classes_are_scikit_learns() -> None:
    random = np.random.default_rng(3)
    scores = random.dirichlet([2.0, 1.0, 1.0], 700).round(3) * 0.97 + 0.01
    labels = np.array([random.choice(3, p=row / row.sum()) for row in scores])
    scores /= scores.sum(axis=1, keepdims=True)
    pairs = {f"score:{place}": grouped(scores[:, place], labels == place, 0.0) for place in range(3)}
    pairs["score"] = grouped(scores.max(axis=1), scores.argmax(axis=1) == labels, 0.0)
    groups, hits = ({name: pair[side] for name, pair in pairs.items()} for side in (0, 1))
    found = {name: float(metric(groups, hits)) for name, metric in performance.METRICS["multiclass"].items()}  # type: ignore[arg-type]
    assert found == pytest.approx(
        {
            "log_loss": peer.log_loss(labels, scores),
            "accuracy": peer.accuracy_score(labels, scores.argmax(axis=1)),
            "auc": peer.roc_auc_score(labels, scores, multi_class="ovr"),
            "brier": np.mean(np.sum((scores - np.eye(3)[labels]) ** 2, axis=1)),
        }
    )


def test_the_estimate_of_a_calibrated_score_is_the_true_expectation() -> None:
    random = np.random.default_rng(5)
    scores, _ = drawn(random, 3000)
    found = performance.expected("binary", counted(scores), perfect())
    truth = [sklearn(scores, random.random(scores.size) < scores) for _ in range(200)]
    for name, expected in found.items():
        values = [one[name] for one in truth]
        error = 4 * float(np.std(values)) / np.sqrt(len(values))
        assert expected.estimated == pytest.approx(np.mean(values), abs=error + 5e-4), name
        inside = np.mean([expected.low <= value <= expected.high for value in values])
        assert 0.88 <= inside <= 1.0, name


DISTORTIONS: dict[str, Any] = {
    "as it is": lambda scores: scores,
    "cubed": lambda scores: scores**3,
    "too sure": lambda scores: 1 / (1 + ((1 - scores) / scores) ** 3),
}


@pytest.mark.parametrize("name", DISTORTIONS)
def test_limits_hold_the_truth_nineteen_times_of_twenty_whatever_the_scores_scale(name: str) -> None:
    """Of 40 pairs of a validation split and a batch; a binomial 95 % gives at least 33 with 99.9 %."""
    inside = dict.fromkeys(("auc", "log_loss", "accuracy"), 0)
    for seed in range(40):
        random = np.random.default_rng(seed)
        chances, labels = drawn(random, 1500)
        bins = {"score": calibration.learn(DISTORTIONS[name](chances), labels)}
        now, truth = drawn(random, 1500)
        scores = DISTORTIONS[name](now)
        found, real = performance.expected("binary", counted(scores), bins), sklearn(scores, truth)
        for metric in inside:
            inside[metric] += found[metric].low <= real[metric] <= found[metric].high
    assert min(inside.values()) >= 33, inside


def test_the_estimate_follows_a_shift_of_the_scores_and_can_not_see_labels_that_turned_round() -> None:
    random = np.random.default_rng(8)
    scores, labels = drawn(random, 5000)
    bins = {"score": calibration.learn(scores, labels)}
    narrow = random.beta(20, 50, 5000)  # everyone alike: hard to rank
    truth = peer.roc_auc_score(random.random(5000) < narrow, narrow)
    shifted = performance.expected("binary", counted(narrow), bins)["auc"]
    assert shifted.low <= truth <= shifted.high
    assert truth < peer.roc_auc_score(labels, scores) - 0.1
    turned = performance.expected("binary", counted(scores), bins)["auc"].estimated
    assert turned > peer.roc_auc_score(random.random(5000) < 1 - scores, scores) + 0.3


def test_a_chance_never_falls_while_the_score_rises_and_is_never_certain() -> None:
    random = np.random.default_rng(2)
    scores = random.random(400)
    bins = calibration.learn(scores, random.random(400) < 0.02)
    chances = calibration.chances(bins, np.linspace(0, 1, 999))
    assert np.all(np.diff(chances) >= -1e-15)
    assert 0 <= chances[0] <= chances[-1] < 1
    assert calibration.chances(bins, np.array([0.5]))[0] > 0


@pytest.mark.parametrize("rates", [[0.5, 0.4, 0.3], [0.1, 0.4, 0.2, 0.9], [0.3, 0.3, 0.1, 0.05, 0.6]])
def test_pooled_rates_are_scikit_learns_isotonic_regression(rates: list[float]) -> None:
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - takes a second

    rows = np.arange(1.0, len(rates) + 1)
    expected = IsotonicRegression().fit_transform(np.arange(len(rates)), rates, sample_weight=rows)
    assert calibration.pooled(np.array(rates), rows) == pytest.approx(expected)


@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
def test_one_score_for_all_is_judged_and_not_a_crash(score: float) -> None:
    labels = np.arange(500) % 4 == 0
    bins = {"score": calibration.learn(np.full(500, score), labels)}
    found = performance.expected("binary", counted(np.full(300, score)), bins)
    assert found["auc"].estimated == pytest.approx(0.5)
    assert all(np.isfinite([one.estimated, one.low, one.high]).all() for one in found.values())
    assert calibration.chances(bins["score"], np.array([score]))[0] == pytest.approx(0.25, abs=0.002)


def test_no_cell_lies_across_the_threshold_and_scores_that_are_missing_do_not_count() -> None:
    scores = pl.LazyFrame({"score": [0.0, 0.3999999, THRESHOLD, 1.0, None, float("nan")]})
    found = cells.count(scores, ["score"], THRESHOLD)["score"]
    assert found.scores == pytest.approx([0.0, 0.3999999, THRESHOLD, 1.0])
    assert found.chosen.tolist() == [0, 0, 1, 1]
    assert found.rows.sum() == 4


def test_the_grid_costs_no_more_than_a_thousandth_and_batches_add_up() -> None:
    scores, labels = drawn(np.random.default_rng(4), 300_000)
    groups = counted(scores)["score"]
    assert groups.rows.sum() == 300_000
    edges = groups.scores[1:] - np.diff(groups.scores) / 2
    places = np.searchsorted(edges, scores)
    hits = np.bincount(places, weights=labels.astype(float), minlength=groups.scores.size).astype(float)
    assert float(performance.auc(groups, hits)) == pytest.approx(peer.roc_auc_score(labels, scores), abs=1e-3)


ALARMS = [
    ("auc", Expected(0.70, 0.68, 0.72), 0.80, True),
    ("auc", Expected(0.70, 0.58, 0.82), 0.80, False),  # chance is not excluded
    ("auc", Expected(0.77, 0.76, 0.78), 0.80, False),  # the drop is small
    ("auc", Expected(0.90, 0.88, 0.92), 0.80, False),  # better
    ("log_loss", Expected(0.50, 0.48, 0.52), 0.40, True),  # where smaller is better
    ("log_loss", Expected(0.30, 0.28, 0.32), 0.40, False),
]


@pytest.mark.parametrize(("metric", "found", "reference", "alarm"), ALARMS)
def test_an_alarm_needs_a_drop_that_matters_and_limits_that_exclude_the_reference(
    metric: str, found: Expected, reference: float, alarm: bool
) -> None:
    assert performance.alarming(metric, found, reference, 0.05) is alarm
