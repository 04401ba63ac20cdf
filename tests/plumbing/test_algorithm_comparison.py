"""Champion and challenger: what is compared, and how sure the lead is."""

from dataclasses import replace

import numpy as np
import pytest

from batchloop.container import evaluation, measures
from batchloop.container.measures import Scored


def pair(rows, seed=1, noise=(2.0, 1.0)):
    """Two models' scores of labelled rows: the smaller the noise, the better the model."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=rows)
    labels = (truth + random.normal(size=rows) > 0.5).astype(float)
    sides = [1 / (1 + np.exp(-(truth + random.normal(0, spread, rows)))) for spread in noise]
    return [Scored("binary", labels, side) for side in sides]


def test_the_comparison_is_of_the_same_rows_and_says_what_each_model_says():
    champion, challenger = pair(2000)
    found = evaluation.compare("auc", champion, challenger)
    assert found["rows"] == 2000
    assert found["champion"] == measures.binary(champion.labels, champion.predicted, 0.5)["auc"]
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
    labels = np.array([0.0, 1.0, 1.0])
    sides = [Scored("binary", labels, scores, threshold) for threshold in (0.5, 0.3)]
    assert evaluation.disagreement(*sides) == pytest.approx(1 / 3)
    assert evaluation.disagreement(*[Scored("regression", labels, scores + more) for more in (0, 1)]) is None
    several = (np.array([[0.6, 0.4], [0.1, 0.9]]), np.array([[0.4, 0.6], [0.2, 0.8]]))
    assert evaluation.disagreement(*[Scored("multiclass", labels[:2], one) for one in several]) == 0.5


def test_the_same_model_has_no_lead_and_its_limits_are_zero():
    champion, _ = pair(500)
    assert evaluation.limits("auc", champion, champion) == (0.0, 0.0)


def test_a_lead_is_positive_where_the_challengers_error_is_smaller():
    labels = np.arange(300.0)
    errors = (np.where(labels % 2, 3, 4), 1)
    found = evaluation.compare("rmse", *[Scored("regression", labels, labels + error) for error in errors])
    assert 0 < found["lead_low"] <= found["lead"] <= found["lead_high"]
    assert found["disagreement"] is None


def test_limits_hold_the_true_lead_nineteen_times_of_twenty():
    """Of 60 test splits; 95 % gives at least 51 with 99.9 %."""
    sides = pair(400_000, seed=0)
    values = [measures.binary(side.labels, side.predicted, 0.5)["accuracy"] for side in sides]
    truth, inside = values[1] - values[0], 0
    for seed in range(1, 61):
        low, high = evaluation.limits("accuracy", *pair(400, seed))
        inside += low <= truth <= high
    assert inside >= 51


def repeated(entities, seed, copies=10):
    """Rows of which `copies` say the same, as visits of one patient may, and the patient of each."""
    groups = np.arange(entities).repeat(copies)
    repeats = [(side.labels.repeat(copies), side.predicted.repeat(copies)) for side in pair(entities, seed)]
    return [Scored("binary", *repeat, groups=groups) for repeat in repeats]


def test_limits_of_rows_that_come_in_groups_hold_the_true_lead_nineteen_times_of_twenty():
    """Of 60 test splits of 100 patients with ten rows each; 95 % gives at least 51 with 99.9 %. By rows it is half."""
    sides = pair(400_000, seed=0)
    values = [measures.binary(side.labels, side.predicted, 0.5)["accuracy"] for side in sides]
    truth, inside, alone = values[1] - values[0], 0, 0
    for seed in range(1, 61):
        champion, challenger = repeated(100, seed)
        low, high = evaluation.limits("accuracy", champion, challenger)
        inside += low <= truth <= high
        low, high = evaluation.limits("accuracy", champion, replace(challenger, groups=None))
        alone += low <= truth <= high
    assert inside >= 51
    assert alone < 40


def test_groups_of_any_size_are_drawn_whole():
    groups = np.array([5, -1, 5, 2, -3, 5])
    for rows in measures._resamples(groups)[1]:
        times = np.bincount(rows, minlength=len(groups))
        assert times[0] == times[2] == times[5]
        assert times[[0, 1, 3, 4]].sum() == 4


def test_rows_of_one_group_say_nothing_of_how_sure_the_lead_is():
    champion, challenger = pair(50)
    low, high = evaluation.limits("auc", champion, replace(challenger, groups=np.zeros(50, int)))
    assert np.isnan([low, high]).all()


def test_resamples_of_a_large_table_are_smaller_and_their_spread_is_scaled(monkeypatch):
    case = pair(4000)
    whole = np.diff(evaluation.limits("accuracy", *case))[0]
    monkeypatch.setattr(measures, "MOST", 500)
    assert np.diff(evaluation.limits("accuracy", *case))[0] == pytest.approx(whole, rel=0.25)


def test_a_lead_that_can_not_be_measured_is_null():
    labels = np.zeros(50)
    sides = [Scored("binary", labels, scores) for scores in (np.linspace(0, 1, 50), np.full(50, 0.5))]
    found = evaluation.compare("auc", *sides)
    assert (found["lead"], found["lead_low"], found["lead_high"]) == (None, None, None)
    assert "gate:lead_" not in " ".join(lines(found))  # no limit is said that is none


@pytest.mark.parametrize("metric", ["pinball", "coverage"])
def test_the_naive_forecast_has_no_interval_and_is_no_rival_in_metrics_of_one(metric):
    """A lead that isn't known would stand for one below every minimum."""
    random = np.random.default_rng(1)
    labels = random.normal(10, 1, 60)
    forecasts = np.column_stack([labels, labels - 1, labels + 1, labels + random.normal(size=60), np.ones((60, 2))])
    found = evaluation.evaluate(Scored("forecasting", labels, forecasts), {}, None, metric)
    assert (found["lead"], found["champion"], found["comparison"]) == (0.0, None, None)
    assert found["naive"]["mase"] > 0
    assert "metric gate:lead=0.0" in evaluation.metric_lines(found)
    assert evaluation.evaluate(Scored("forecasting", labels, forecasts), {}, None, "mase")["lead"] > 0


def test_without_a_champion_the_lines_are_zeros():
    assert lines(None)[-3:] == [f"metric gate:{name}=0.0" for name in ("lead", "compared", "disagreement")]


def lines(comparison):
    """What is printed of an evaluation with this comparison."""
    values = {"metric": "auc", "validation": {}, "test": {"auc": 0.7}, "champion": None, "lead": 0.0}
    return evaluation.metric_lines({**values, "comparison": comparison})
