"""Performance without labels: metrics are scikit-learn's, estimates true where scores are, limits as wide as said."""

import dataclasses
import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn import metrics as peer

from batchloop.container import measures, performance, usecase
from batchloop.container.measures import Cells
from batchloop.container.performance import Known

Floats = NDArray[np.float64]
Label = NDArray[np.bool_]
THRESHOLD = 0.4


def grouped(scores: Floats, labels: Label, threshold: float = THRESHOLD) -> tuple[Cells, Floats]:
    """A cell for each score that occurs, and its hits."""
    values, places, rows = np.unique(scores, return_inverse=True, return_counts=True)
    hits = np.bincount(places, weights=labels.astype(float)).astype(float)
    return Cells(values, rows.astype(float), (values >= threshold).astype(float)), hits


def counted(scores: Floats, threshold: float = THRESHOLD) -> dict[str, Cells]:
    return performance.count(pl.LazyFrame({"score": scores}), ["score"], threshold)


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


def known(scores: Floats, labels: Label) -> Known:
    """What a labelled validation split teaches."""
    groups, numbers = counted(scores), performance.cell_numbers(scores, THRESHOLD)
    hits = np.bincount(numbers, weights=labels.astype(float))[np.unique(numbers)].astype(float)
    return Known(groups, {"score": performance.fit(groups["score"].scores, groups["score"].rows, hits)})


def perfect() -> Known:
    """A validation split so large that scores are known to be chances."""
    scores = 1 / (1 + np.exp(-np.linspace(-9, 9, 400)))
    rows = np.full(400, 1e9)
    return Known(
        {"score": Cells(scores, rows, (scores >= THRESHOLD).astype(float))},
        {"score": performance.fit(scores, rows, rows * scores)},
    )


@pytest.mark.parametrize("digits", [2, 12])
def test_metrics_of_cells_are_scikit_learns(digits: int) -> None:
    scores, labels = drawn(np.random.default_rng(digits), 900)
    scores = np.clip(scores.round(digits), 0.001, 0.999)
    groups, hits = grouped(scores, labels)
    found = {
        name: float(metric({"score": groups}, {"score": hits})) for name, metric in measures.METRICS["binary"].items()
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
    found = {name: float(metric(groups, hits)) for name, metric in measures.METRICS["multiclass"].items()}  # type: ignore[arg-type]
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
        learned = known(DISTORTIONS[name](chances), labels)
        now, truth = drawn(random, 1500)
        scores = DISTORTIONS[name](now)
        found, real = performance.expected("binary", counted(scores), learned), sklearn(scores, truth)
        for metric in inside:
            inside[metric] += found[metric].low <= real[metric] <= found[metric].high
    assert min(inside.values()) >= 33, inside


def test_the_estimate_follows_a_shift_of_the_scores_and_can_not_see_labels_that_turned_round() -> None:
    random = np.random.default_rng(8)
    scores, labels = drawn(random, 5000)
    learned = known(scores, labels)
    narrow = random.beta(20, 50, 5000)  # everyone alike: hard to rank
    truth = peer.roc_auc_score(random.random(5000) < narrow, narrow)
    shifted = performance.expected("binary", counted(narrow), learned)["auc"]
    assert shifted.low <= truth <= shifted.high
    assert truth < peer.roc_auc_score(labels, scores) - 0.1
    turned = performance.expected("binary", counted(scores), learned)["auc"].estimated
    assert turned > peer.roc_auc_score(random.random(5000) < 1 - scores, scores) + 0.3


def test_without_labels_a_score_is_taken_at_its_word_and_no_chance_is_certain() -> None:
    scores = np.array([1e-9, 0.001, 0.2, 0.5, 0.999])
    few = performance.fit(scores, np.full(5, 1e-9), np.zeros(5))
    assert few.probabilities(scores) == pytest.approx(scores)
    never = performance.fit(scores, np.full(5, 100.0), np.zeros(5)).probabilities(np.linspace(0, 1, 99))
    assert 0 < never[0] < never[-1] < 1


@pytest.mark.parametrize("sharpness", [0.5, 3.0, 12.0])
def test_a_calibration_gives_the_log_loss_of_the_rows_it_was_learned_from_however_sharp_the_scores(
    sharpness: float,
) -> None:
    random = np.random.default_rng(6)
    chances = 1 / (1 + np.exp(-sharpness * random.normal(size=5000)))
    labels = random.random(5000) < chances
    learned = known(chances, labels)
    found = performance.expected("binary", learned.cells, learned)["log_loss"]
    assert found.estimated == pytest.approx(sklearn(chances, labels)["log_loss"], rel=0.03)


@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
def test_one_score_for_all_is_judged_and_not_a_crash(score: float) -> None:
    labels = np.arange(500) % 4 == 0
    learned = known(np.full(500, score), labels)
    found = performance.expected("binary", counted(np.full(300, score)), learned)
    assert found["auc"].estimated == pytest.approx(0.5)
    assert all(np.isfinite([one.estimated, one.low, one.high]).all() for one in found.values())
    assert learned.calibrations["score"].probabilities(np.array([score]))[0] == pytest.approx(0.25, abs=0.01)


def test_no_cell_lies_across_the_threshold_and_scores_that_are_missing_do_not_count() -> None:
    scores = pl.LazyFrame({"score": [0.0, 0.3999999, THRESHOLD, 1.0, None, float("nan")]})
    found = performance.count(scores, ["score"], THRESHOLD)["score"]
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
    assert float(measures.auc(groups, hits)) == pytest.approx(peer.roc_auc_score(labels, scores), abs=1e-3)


USECASE: dict[str, Any] = {
    "usecase": {"name": "loans", "title": "Loans"},
    "columns": {"income": {"type": "number"}},
    "gate": {"metric": "log_loss", "minimum": 1.0},
}


def case(classes: int, **drift: float) -> usecase.UseCase:
    task = "binary" if classes == 2 else "multiclass"
    data = {"task": task, "label": "repaid", "classes": [f"c{place}" for place in range(classes)]}
    return usecase.parse({**USECASE, "data": data, "drift": drift})


def softmax(logits: Floats) -> Floats:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = odds / odds.sum(axis=1, keepdims=True)
    return shares


def scored(random: np.random.Generator, rows: int, classes: int, sharpness: float, margin: float = 0) -> pl.DataFrame:
    """Predictions as the algorithm writes them: scores are chances, and __label obeys them."""
    first = margin * np.eye(classes)[random.integers(0, classes, rows)]
    chances = softmax(first + sharpness * random.normal(size=(rows, classes)))
    names = np.array([f"c{place}" for place in range(classes)])
    truth = (chances.cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
    each = {f"score:{name}": chances[:, place] for place, name in enumerate(names)} if classes > 2 else {}
    top = chances.max(axis=1) if classes > 2 else chances[:, 1]
    predicted = names[chances.argmax(axis=1)]
    return pl.DataFrame({"prediction": predicted, "score": top, **each, "__label": names[truth]})


def evaluation(metric: str, frame: pl.DataFrame) -> dict[str, Any]:
    """evaluation.json, as far as monitoring reads it."""
    names = sorted(name for name in frame.columns if name.startswith("score:"))
    classes = [name.removeprefix("score:") for name in names] or ["c0", "c1"]
    score = frame["score"].to_numpy()
    shares = frame.select(names).to_numpy() if names else np.column_stack([1 - score, score])
    loss = peer.log_loss(frame["__label"].to_numpy(), shares, labels=classes)
    return {"metric": metric, "threshold": 0.5, "validation": {"log_loss": loss}}


def judged(about: usecase.UseCase, before: pl.DataFrame, now: pl.DataFrame, **said: Any) -> dict[str, Any]:
    """What monitoring says of a batch; the baseline goes through JSON, as in an artifact."""
    learned = performance.learned(about, before.lazy(), {**evaluation(about.gate.metric, before), **said})
    baseline = json.loads(json.dumps({"performance": learned}))
    return performance.estimated(about, baseline, now.drop("__label").lazy())


QUIET = [  # classes, validation rows, spread and margin of the scores' logits: calibrated, and no drift
    (2, 50, 2.0, 0.0),
    (2, 99, 2.0, 0.0),
    (2, 200, 8.0, 0.0),
    (3, 150, 12.0, 0.0),
    (3, 3000, 15.0, 60.0),  # a log loss of about 0.002
    (10, 400, 20.0, 0.0),
]


@pytest.mark.parametrize(("classes", "rows", "sharpness", "margin"), QUIET)
def test_calibrated_scores_without_drift_raise_no_alarm(
    classes: int, rows: int, sharpness: float, margin: float
) -> None:
    """The level is 1 %: of 20 tries at most 2 may alarm (binomial, 99.9 %)."""
    alarms, about = 0, case(classes, minimum_rows=rows)  # so that few rows are judged, too
    for seed in range(20 if classes < 10 else 8):
        random = np.random.default_rng(seed)
        before, now = (scored(random, size, classes, sharpness, margin) for size in (rows, 500))
        alarms += judged(about, before, now)["alarm"]
    assert alarms <= 2


def test_scores_that_have_become_less_sure_raise_an_alarm() -> None:
    found = []
    for classes in (2, 3, 10):
        random = np.random.default_rng(classes)
        now = scored(random, 1000, classes, 1.0)
        found.append(judged(case(classes), scored(random, 1000, classes, 12.0), now))
        loss = evaluation("log_loss", now)["validation"]["log_loss"]
        assert found[-1]["low"] <= loss <= found[-1]["high"]
    assert all(one["alarm"] and one["p_value"] < 0.01 for one in found)


def test_limits_over_several_classes_are_as_wide_as_labels_scatter() -> None:
    """A label is a hit of one class and a miss of another: drawn apart, they would scatter by 0.7 times as much."""
    random = np.random.default_rng(2)
    chances = softmax(3.0 * random.normal(size=(1000, 3)))
    names = ["score:c0", "score:c1", "score:c2"]
    frame = pl.DataFrame({"score": chances.max(axis=1), **dict(zip(names, chances.T, strict=True))})
    groups = performance.count(frame.lazy(), frame.columns, 0.0)
    many = {name: dataclasses.replace(one, rows=1e6 * one.rows) for name, one in groups.items()}
    sure = {name: performance.fit(one.scores, one.rows, one.rows * one.scores) for name, one in many.items()}
    found = performance.expected("multiclass", groups, Known(many, sure))
    drawn: dict[str, list[float]] = {"auc": [], "brier": []}
    for _ in range(150):
        truth = (chances.cumsum(axis=1) > random.random((1000, 1))).argmax(axis=1)
        drawn["auc"].append(peer.roc_auc_score(truth, chances, multi_class="ovr"))
        drawn["brier"].append(float(np.mean(np.sum((chances - np.eye(3)[truth]) ** 2, axis=1))))
    for name, values in drawn.items():
        assert found[name].high - found[name].low == pytest.approx(3.92 * np.std(values), rel=0.22), name


def test_an_alarm_needs_a_drop_that_matters_and_chance_to_be_excluded() -> None:
    random = np.random.default_rng(3)
    before, now = scored(random, 2000, 2, 6.0), scored(random, 2000, 2, 4.0)
    real = judged(case(2), before, now)
    assert real["alarm"]
    assert real["drop"] == pytest.approx(real["estimated"] - real["reference"], abs=0.01)
    small = judged(case(2, performance_drop=0.4), before, now)
    assert (small["alarm"], small["p_value"]) == (False, None)
    few = case(2, significance=1e-3, performance_drop=0.02, minimum_rows=20)
    unsure = judged(few, before[:300], scored(random, 20, 2, 4.0))
    assert unsure["drop"] > 0.02
    assert (unsure["p_value"] > 1e-3, unsure["alarm"]) == (True, False)
    assert not judged(case(2), now, before)["alarm"]  # better is no alarm


def test_the_chance_of_a_drop_is_every_share_as_often_as_it_says() -> None:
    """Of 200 pairs of samples without drift, the p-value is below 10 % in 6 to 36 (binomial, 99.9 %: 7 to 35)."""
    below, random = 0, np.random.default_rng(12)
    for _ in range(200):
        learned = known(*drawn(random, 300))
        parts = tuple({"score": performance.cell_numbers(drawn(random, rows)[0], THRESHOLD)} for rows in (300, 80))
        below += performance.p_value(("binary", "f1"), learned, parts, 0.1) < 0.1  # type: ignore[arg-type]
    assert 6 <= below <= 36


TOO_LITTLE: dict[str, tuple[int, dict[str, Any], str]] = {
    "rows": (99, {}, "99 labelled validation rows are fewer than [drift] minimum_rows = 200"),
    "rows of a class": (4000, {"rare": 9}, "9 validation rows are 'c1'"),
    "groups": (4000, {"groups": 12}, "of 12 groups"),
    "new rows": (
        4000,
        {"leak": {"trusted": False, "reason": "9 of 10 have a twin in training."}},
        "9 of 10 have a twin",
    ),
    "new rows, without words": (4000, {"leak": {"trusted": False}}, "no new rows"),
}


@pytest.mark.parametrize("name", TOO_LITTLE)
def test_too_little_validation_is_not_known_and_says_why(name: str) -> None:
    rows, about, reason = TOO_LITTLE[name]
    random = np.random.default_rng(4)
    before, now = scored(random, rows, 2, 3.0), scored(random, 500, 2, 0.1)
    if "rare" in about:
        yes = before.filter(pl.col("__label") == "c1")[: about["rare"]]
        before = pl.concat([before.filter(pl.col("__label") == "c0"), yes])
    if "groups" in about:
        before = before.with_columns(__group=pl.int_range(pl.len()) % about["groups"])
    found = judged(case(2), before, now, **{key: value for key, value in about.items() if key == "leak"})
    assert (found["estimated"], found["alarm"]) == (None, False)
    assert reason in found["reason"]


def test_a_leak_that_is_trusted_or_not_understood_changes_nothing() -> None:
    random = np.random.default_rng(5)
    before, now = scored(random, 1000, 2, 3.0), scored(random, 500, 2, 3.0)
    plain = judged(case(2), before, now)
    for leak in ({"trusted": True}, {"trusted": "no"}, None, True, ["trusted"]):
        assert judged(case(2), before, now, leak=leak) == plain


def test_rows_of_one_group_are_no_more_than_one_row() -> None:
    """40 patients of 50 equal rows: limits are as wide as 40 rows make them, and chance is not excluded by 2,000."""
    alarms = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        once = [scored(random, 40, 2, 6.0) for _ in range(2)]
        before, now = (pl.concat([frame] * 50) for frame in once)
        about = case(2, performance_drop=0.02)
        found = judged(about, before.with_columns(__group=pl.int_range(pl.len()) % 40), now)
        alarms += found["alarm"]
        if seed == 0:
            alone = judged(about, before, now)
            assert found["high"] - found["estimated"] > 4 * (alone["high"] - alone["estimated"])
    assert alarms <= 2


def test_what_a_baseline_keeps_does_not_grow_with_the_validation_rows() -> None:
    random = np.random.default_rng(7)
    frame = scored(random, 60_000, 3, 3.0)
    learned = performance.learned(case(3), frame.lazy(), evaluation("log_loss", frame))
    assert learned["rows"] == 60_000
    assert len(learned["sample"]["score"]) == performance.SAMPLE
    assert len(json.dumps(learned)) < 600_000


def test_what_is_expected_is_plain_numbers() -> None:
    scores, labels = drawn(np.random.default_rng(9), 500)
    found = performance.expected("binary", counted(scores), known(scores, labels))
    assert all(type(value) is float for one in found.values() for value in dataclasses.astuple(one))
