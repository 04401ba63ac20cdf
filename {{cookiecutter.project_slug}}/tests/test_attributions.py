"""★ What attributions.py has to hold, whichever method it computes."""

import json
from typing import Any

import pytest

from batchloop.container import explanations, models
from batchloop.container.protocols import Matrix, Problem
from tests.conftest import PROBLEMS, Known, problems, table


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


def test_scores_move_with_what_they_are_attributed_to(known: Known) -> None:
    """Of two rows that differ in x alone, the one with the higher raw score owes it to x."""
    features = table(2, PROBLEMS[0], seed=5).features
    features[:] = features[0]
    features[:, 0] = (-2, 2)
    found = explain(known(PROBLEMS[0]), features)
    assert found.raw[1, 0] > found.raw[0, 0]
    assert found.values[1, 0, 0] > found.values[0, 0, 0]
