"""★ What attributions.py has to hold, whichever method it computes."""

import json
from typing import Any

import pytest

from batchloop.container import explanations, models, tables
from batchloop.container.protocols import Matrix
from batchloop.contract.flow import Flow


@pytest.fixture(scope="module")
def model(flow: Flow) -> models.Model:
    """The released one."""
    return models.load(flow.root / "release" / "model")


@pytest.fixture(scope="module")
def features(flow: Flow, model: models.Model) -> Matrix:
    """Test rows as it sees them."""
    folder = flow.prepare(flow.root / "train.parquet")["test"]
    return tables.read(folder, tables.schema(folder), ()).features


def explain(model: models.Model, features: Matrix) -> Any:
    """What attributions.py learned goes through JSON, as in explainer.json."""
    learned = explanations.module().fit(model.fitted, features)
    return explanations.module().explain(model.fitted, json.loads(json.dumps(learned, allow_nan=False)), features)


def test_attributions_add_up_to_the_raw_score(model: models.Model, features: Matrix) -> None:
    found = explain(model, features)
    assert found.values.shape == (len(features), 1, features.shape[1])
    assert explanations.additivity_error(found).max() <= explanations.module().TOLERANCE


def test_a_row_is_explained_the_same_in_any_batch(model: models.Model, features: Matrix) -> None:
    whole, alone = explain(model, features), explain(model, features[7:8])
    assert alone.values[0] == pytest.approx(whole.values[7], abs=1e-6)
