"""Champion and challenger: what is compared, and how sure the lead is."""

import numpy as np
import pytest

from batchloop.container import evaluation, measures
from batchloop.container.evaluation import Side


def pair(rows, seed=1, noise=(2.0, 1.0)):
    """Labels and two models' scores: the smaller the noise, the better the model."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=rows)
    labels = (truth + random.normal(size=rows) > 0.5).astype(float)
    sides = [Side(1 / (1 + np.exp(-(truth + random.normal(0, spread, rows)))), 0.5) for spread in noise]
    return labels, *sides


def test_the_comparison_is_of_the_same_rows_and_says_what_each_model_says():
    labels, champion, challenger = pair(2000)
    found = evaluation.compare("binary", "auc", labels, champion, challenger)
    assert found["rows"] == 2000
    assert found["champion"] == measures.binary(labels, champion.predicted, 0.5)["auc"]
    assert found["lead"] == pytest.approx(found["challenger"] - found["champion"])
    assert found["lead_low"] < found["lead"] < found["lead_high"]
    assert found["disagreement"] == np.mean((champion.predicted >= 0.5) != (challenger.predicted >= 0.5))
    assert found["mean_absolute_difference"] == pytest.approx(
        np.mean(np.abs(champion.predicted - challenger.predicted))
    )
    assert found["quantiles"]["champion"][3] == np.median(champion.predicted)
    assert len(found["quantiles"]["share"]) == len(found["quantiles"]["challenger"])


def test_each_model_predicts_by_its_own_threshold():
    scores = np.array([0.2, 0.4, 0.6])
    assert evaluation.disagreement("binary", Side(scores, 0.5), Side(scores, 0.3)) == pytest.approx(1 / 3)
    assert evaluation.disagreement("regression", Side(scores, 0.5), Side(scores + 1, 0.5)) is None
    several = [Side(np.array([[0.6, 0.4], [0.1, 0.9]]), 0.5), Side(np.array([[0.4, 0.6], [0.2, 0.8]]), 0.5)]
    assert evaluation.disagreement("multiclass", *several) == 0.5


def test_the_same_model_has_no_lead_and_its_limits_are_zero():
    labels, champion, _ = pair(500)
    assert evaluation.limits("binary", "auc", labels, champion, champion) == (0.0, 0.0)


def test_a_lead_is_positive_where_the_challengers_error_is_smaller():
    labels = np.arange(300.0)
    better, worse = Side(labels + 1, 0.5), Side(labels + np.where(labels % 2, 3, 4), 0.5)
    found = evaluation.compare("regression", "rmse", labels, worse, better)
    assert 0 < found["lead_low"] <= found["lead"] <= found["lead_high"]
    assert found["disagreement"] is None


def test_limits_hold_the_true_lead_nineteen_times_of_twenty():
    """Of 60 test splits; 95 % gives at least 51 with 99.9 %."""
    labels, *sides = pair(400_000, seed=0)
    values = [measures.binary(labels, side.predicted, 0.5)["accuracy"] for side in sides]
    truth, inside = values[1] - values[0], 0
    for seed in range(1, 61):
        low, high = evaluation.limits("binary", "accuracy", *pair(400, seed))
        inside += low <= truth <= high
    assert inside >= 51


def repeated(entities, seed, copies=10):
    """Rows of which `copies` say the same, as visits of one patient may, and the patient of each."""
    labels, *sides = pair(entities, seed)
    groups = np.arange(entities).repeat(copies)
    return labels.repeat(copies), *(Side(side.predicted.repeat(copies), 0.5, groups) for side in sides)


def test_limits_of_rows_that_come_in_groups_hold_the_true_lead_nineteen_times_of_twenty():
    """Of 60 test splits of 100 patients with ten rows each; 95 % gives at least 51 with 99.9 %. By rows it is half."""
    labels, *sides = pair(400_000, seed=0)
    values = [measures.binary(labels, side.predicted, 0.5)["accuracy"] for side in sides]
    truth, inside, alone = values[1] - values[0], 0, 0
    for seed in range(1, 61):
        rows, champion, challenger = repeated(100, seed)
        low, high = evaluation.limits("binary", "accuracy", rows, champion, challenger)
        inside += low <= truth <= high
        low, high = evaluation.limits("binary", "accuracy", rows, champion, Side(challenger.predicted, 0.5))
        alone += low <= truth <= high
    assert inside >= 51
    assert alone < 40


def test_groups_of_any_size_are_drawn_whole():
    members = evaluation._members(np.array([5, -1, 5, 2, -3, 5]))
    assert len(members) == 4
    assert members.drawn(np.array([3, 0, 3])).tolist() == [0, 2, 5, 4, 0, 2, 5]


def test_rows_of_one_group_say_nothing_of_how_sure_the_lead_is():
    labels, champion, challenger = pair(50)
    low, high = evaluation.limits("binary", "auc", labels, champion, Side(challenger.predicted, 0.5, np.zeros(50, int)))
    assert np.isnan([low, high]).all()


def test_resamples_of_a_large_table_are_smaller_and_their_spread_is_scaled(monkeypatch):
    case = pair(4000)
    whole = np.diff(evaluation.limits("binary", "accuracy", *case))[0]
    monkeypatch.setattr(evaluation, "ROWS", 500)
    assert np.diff(evaluation.limits("binary", "accuracy", *case))[0] == pytest.approx(whole, rel=0.25)


def test_a_lead_that_can_not_be_measured_is_null():
    labels = np.zeros(50)
    found = evaluation.compare("binary", "auc", labels, Side(np.linspace(0, 1, 50), 0.5), Side(np.full(50, 0.5), 0.5))
    assert (found["lead"], found["lead_low"], found["lead_high"]) == (None, None, None)
    assert evaluation.lines(found)[:2] == [("gate:lead_low", 0.0), ("gate:lead_high", 0.0)]


def test_without_a_champion_the_lines_are_zeros():
    assert {value for _, value in evaluation.lines(None)} == {0.0}
