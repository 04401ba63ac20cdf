"""Both pipelines compile without AWS for every environment, and are what SageMaker takes."""

import json
from typing import Any

import pytest

from batchloop.pipelines import check
from batchloop.pipelines.compile import compile_all
from tests.conftest import ROOT

ENVIRONMENTS = sorted(file.stem for file in (ROOT / "environments").glob("*.toml"))
Definitions = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def definitions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    files = compile_all(ROOT, request.param, tmp_path_factory.mktemp(request.param))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def test_the_checker_has_nothing_to_say(definitions: Definitions) -> None:
    assert set(definitions) == {"training", "inference"}
    for definition in definitions.values():
        assert check.check(definition) == []


def test_steps_run_in_their_order(definitions: Definitions) -> None:
    names = {name: [step["Name"] for step in definition["Steps"]] for name, definition in definitions.items()}
    training = ["PrepareTrainingData", "TrainModel", "LearnBaseline", "LearnExplainer", "CheckQuality"]
    inference = ["PrepareFeatures", "CreateModel", "ScoreFeatures", "DetectDrift", "ExplainPredictions"]
    assert [name for name in names["training"] if name in training] == training
    assert [name for name in names["inference"] if name in inference] == inference


def test_jobs_have_no_network_and_their_images_are_parameters(definitions: Definitions) -> None:
    for definition in definitions.values():
        for step in definition["Steps"]:
            arguments = step["Arguments"]
            if step["Type"] == "Processing":
                assert arguments["NetworkConfig"]["EnableNetworkIsolation"] is True, step["Name"]
                assert arguments["AppSpecification"]["ImageUri"]["Get"].startswith("Parameters."), step["Name"]
            if step["Type"] in ("Training", "Model"):
                assert arguments["EnableNetworkIsolation"] is True, step["Name"]


def test_a_model_is_registered_only_if_it_passes_the_gate(definitions: Definitions) -> None:
    [gate] = [step["Arguments"] for step in definitions["training"]["Steps"] if step["Type"] == "Condition"]
    assert [step["Type"] for step in gate["ElseSteps"]] == ["Fail"]
    assert "RegisterModel" in [step["Type"] for step in gate["IfSteps"]]
