"""[card] and the card that the training pipeline registers."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchloop.audit.card import Known
from batchloop.container import job, usecase
from batchloop.container.job import InputError
from batchloop.container.usecase import Card
from batchloop.pipelines import card, definitions
from plumbing.rendered import ROOT

SAMPLE = (ROOT / "usecase.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('onwer = "me"', "has an unknown key 'onwer'; the nearest is 'owner'"),
        ('risk = "high"', "is not one of Unknown, Low, Medium, High; the nearest is 'High'"),
        (f'ethics = "{"x" * 1025}"', "is not a text of at most 1,024 characters"),
        ("owner = 3", "is not a text of at most 1,024 characters"),
    ],
)
def test_what_is_wrong_in_the_card_is_said_with_its_line(line: str, said: str) -> None:
    text = f"{SAMPLE}\n[card]\n{line}\n"
    with pytest.raises(InputError) as raised:
        usecase.parse(tomllib.loads(text), text)
    assert f"line {text.count(chr(10))}: [card] " in str(raised.value)
    assert said in str(raised.value)


def test_a_registered_card_is_json_whatever_people_write() -> None:
    case = replace(usecase.load(ROOT / "usecase.toml"), card=Card('a "team"\n\\', "for <us>", "", 'e\x02"'))
    values: dict[str, Any] = {"TrainingData": "s3://b/t/", "AlgorithmImage": "i@sha256:0", "GitCommit": "c"}
    values |= {"DataFingerprint": "f", "Model": "s3://b/m", "Job": "job"}
    parts = card.registered(case, values, {"test auc": "0.5", "lead": "-0.1"})
    text = "".join(parts)
    assert len(text) < 100_000
    assert "\n" not in text  # the service's pattern is .*
    written = json.loads(text)
    assert written["model_overview"] == {"model_artifact": ["s3://b/m"], "model_creator": 'a "team"\n\\'}
    [group] = written["evaluation_details"][0]["metric_groups"]
    assert [metric["value"] for metric in group["metric_data"]] == [0.5, -0.1]
    assert "caveats_and_recommendations" not in written["additional_information"]
    assert written["additional_information"]["custom_details"]["git_commit"] == "c"


@pytest.mark.parametrize("sign", ['"', "\\", "\n"])
@pytest.mark.parametrize("name", ["TrainingData", "GitCommit"])
def test_a_value_that_would_break_the_card_is_refused(name: str, sign: str) -> None:
    definition = {"Parameters": [{"Name": name, "Type": "String"}]}
    with pytest.raises(InputError, match=rf"{name} = .* has a quote, a backslash or a line break in it"):
        definitions.values(definition, {name: f"s3://b/a{sign}b/"}, ())


def test_an_address_given_in_the_console_is_refused_by_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    (tmp_path / "config").mkdir()
    given = {"InputName": "raw", "S3Input": {"S3Uri": 's3://bucket/a "b"/train/'}}
    (tmp_path / "config" / "processingjobconfig.json").write_text(json.dumps({"ProcessingInputs": [given]}))
    ran: list[object] = []
    assert job.run("processing train", ran.append) == 1
    assert "TrainingData = 's3://bucket/a \"b\"/train/' has a quote" in capsys.readouterr().err
    assert job.run("processing serve", ran.append) == 0
    assert len(ran) == 1


def test_a_changed_card_builds_no_image_anew() -> None:
    assert not any("card" in tables for tables in usecase.TABLES.values())


@pytest.mark.parametrize(
    ("metric", "limit", "lead", "passed", "said"),
    [
        ("auc", 0.7, 0.0, False, "the gate asked for at least 0.7 (QualityLimit was 0.7 in this run, instead of 0.4)"),
        (
            "log_loss",
            0.7,
            0.0,
            True,
            "the gate asked for at most 0.7 (QualityLimit was 0.7 in this run, instead of 0.4)",
        ),
        ("auc", 0.4, 0.1, False, "the gate asked for at least 0.4 and a lead over the champion of 0, which was -0.1"),
    ],
)
def test_a_card_says_what_the_gate_of_the_run_asked_for(
    metric: str, limit: float, lead: float, passed: bool, said: str
) -> None:
    evaluation = {"metric": metric, "test": {metric: 0.5}, "lead": -lead, "champion": {metric: 0.6} if lead else None}
    usual, asked = {"QualityLimit": 0.4, "MinimumLead": 0.0}, {"QualityLimit": limit, "MinimumLead": 0.0}
    known = Known(usecase.load(ROOT / "usecase.toml"), {}, {}, usual, asked, evaluation, {}, {}, {})
    assert known.gate == (passed, said)


def test_who_approved_is_not_who_released() -> None:
    package = {
        "LastModifiedBy": {"IamIdentity": {"Arn": "ada"}},
        "ApprovalDescription": "seen",
        "LastModifiedTime": "t",
    }
    manifest = {"by": "bob", "reason": "rollback to 1", "created": "later"}
    known = Known(usecase.load(ROOT / "usecase.toml"), manifest, package, {}, {}, {}, {}, {}, {})
    assert known.approval == {"approved_by": "ada", "approved_at": "t", "reason": "seen"}
