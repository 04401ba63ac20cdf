"""`make audit FROM=dev`: a release of an account, where moto stands for AWS."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from batchloop import local
from batchloop.audit import bundle, supply
from batchloop.audit.bundle import Wanted
from batchloop.audit.subject import Subject
from batchloop.container.job import InputError
from batchloop.container.usecase import load
from batchloop.control import storage
from batchloop.engine import running
from batchloop.repository import Repository
from plumbing.rendered import ROOT
from plumbing.test_releasing import CALLER, Here, failure, here, set_account  # noqa: F401 - a fixture

LEARNED = {
    "rows": 9,
    "columns": [
        {"name": "age", "kind": "number", "missing": 0.0, "low": 1.0, "mean": 2.0, "high": 3.0},
        {"name": "since", "kind": "date", "missing": 0.0, "low": -0.5, "mean": 19000.7, "high": 1e9},
    ],
}
REASONS = {"importance": [{"feature": "age", "importance": 0.4}], "rows": 9, "method": "sampling", "unit": "log-odds"}
EVALUATION = {
    "metric": "auc",
    "test": {"auc": 0.8},
    "validation": {"auc": 0.9},
    "intervals": {"auc": {"low": 0.7, "high": 0.9}},
    "hyperparameters": {"num_leaves": 77},  # a search has found it
}
DRIFT = {"verdict": "no drift", "reason": "nothing has moved"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The whole repository, under the names that the control plane is tried with."""
    folder = tmp_path / "repository"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv*", "local", "__pycache__", "data"))
    file = folder / "usecase.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"customer-churn"', '"case"').replace('"ml"', '"team"'), encoding="utf-8")
    for name in ("dev", "staging", "prod"):
        set_account(folder, name, "123456789012")
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def put(here: Here, uri: str, value: Any) -> None:  # noqa: F811
    bucket, key = storage.split(uri)
    text = value if isinstance(value, str) else json.dumps(value)
    here.past.s3.put_object(Bucket=bucket, Key=key, Body=text.encode())


@pytest.fixture
def released(here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:  # noqa: F811
    """With one release, the training that made it, and one scoring by it."""
    monkeypatch.setattr(supply, "bill", lambda *_: {"bomFormat": "CycloneDX"})
    package = here.world.sagemaker.packages[here.world.register(1)]
    about, places = dict(package["CustomerMetadataProperties"]), here.world.places
    started: dict[str, str] = {}
    for name in ("training", "inference"):
        pipeline = {"PipelineName": places.pipeline(name)}
        if name == "training":
            definition = '{"Parameters": [{"Name": "TrainingData"}, {"Name": "QualityLimit", "DefaultValue": 0.75}]}'
            here.models.create_pipeline(
                **pipeline,
                RoleArn=CALLER.replace(":sts:", ":iam:"),
                ClientRequestToken="1" * 32,
                PipelineDefinition=definition,
            )
        given = {"TrainingData": about["training_data"], "DataFingerprint": "x", "QualityLimit": "0.1"}
        if name == "inference":
            model = f"{places.releases}1/model/model.tar.gz"
            given = {"ProductionData": places.data("2026-11-24", "production"), "Model": model, "DataFingerprint": "x"}
        values = [{"Name": key, "Value": value} for key, value in given.items()]
        answer = here.models.start_pipeline_execution(
            **pipeline, PipelineParameters=values, ClientRequestToken="2" * 32
        )
        started[name] = answer["PipelineExecutionArn"]
    execution, old = started["training"].rpartition("/")[2], f"{1:012}"
    run = f"{places.runs('training')}/{execution}"
    moved = {key: value.replace(f"/training/{old}/", f"/training/{execution}/") for key, value in about.items()}
    for key in ("preprocessor", "baseline", "explainer"):
        put(here, f"{moved[key]}manifest.json", {})
    put(here, moved["model"], "a model")
    put(here, f"{moved['baseline']}baseline.json", LEARNED)
    put(here, f"{moved['explainer']}explainer.json", REASONS)
    put(here, moved["evaluation"], EVALUATION)
    put(here, f"{run}/LearnBaseline/report/report.html", "<p>")
    put(here, f"{run}/LearnExplainer/report/report.html", "<p>")
    put(here, f"{about['training_data']}rows.csv", "age,churned\n1,no\n")
    statistics = {"ContentType": "application/json", "S3Uri": moved["evaluation"]}
    report = {"ContentType": "text/html", "S3Uri": f"{run}/LearnExplainer/report/report.html"}
    here.models.create_model_package_group(ModelPackageGroupName=places.prefix)
    here.models.create_model_package(
        ModelPackageGroupName=places.prefix,
        ModelApprovalStatus="Approved",
        CustomerMetadataProperties=moved,
        ModelMetrics={"ModelQuality": {"Statistics": statistics}, "Explainability": {"Report": report}},
    )
    assert here.release() == 0
    scored = f"{places.runs('inference')}/run"
    put(here, f"{scored}/ScoreFeatures/predictions/features/a.parquet.out", "scores")
    put(here, f"{scored}/DetectDrift/drift/drift.json", DRIFT)
    put(here, f"{places.data('2026-11-24', 'production')}rows.csv", "age\n1\n")
    latest = {
        "run": started["inference"],
        "started": "2026-11-24T08:00:00Z",
        "predictions": f"{scored}/ScoreFeatures/predictions/",
        "drift_report": f"{scored}/DetectDrift/drift/report.html",
        "explanations": f"{scored}/ExplainPredictions/explanations/",
    }
    name = places.parameter("inference/latest")
    here.past.ssm.put_parameter(Name=name, Value=json.dumps(latest), Type="String", Overwrite=True)
    return here


def test_a_release_of_an_account_is_bundled_with_who_released_it(
    released: Here, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    out.mkdir()
    link.symlink_to(out)
    assert bundle.audit(released.repository, Wanted(None, "dev", str(link), batch=True)) == 1
    said = capsys.readouterr().out
    assert "missing: sources of algorithm" in said  # the release's images are made up
    assert "TrainingData: what run" in said
    manifest = json.loads((out / "release.json").read_text(encoding="utf-8"))
    assert manifest["by"] == CALLER
    assert all("@sha256:" in image for image in manifest["digests"].values())
    decisions = json.loads((out / "decisions.json").read_text(encoding="utf-8"))
    assert [one["version"] for one in decisions["releases"]] == [1]
    assert decisions["scorings"][0]["verdict"] == "no drift"
    data = json.loads((out / "data.json").read_text(encoding="utf-8"))
    assert [file["bytes"] for part in data.values() for file in part["files"]] == [17, 6]
    assert {file.name for file in (out / "definitions").iterdir()} == {"training.json", "inference.json"}
    assert (out / "batch" / "rows.csv").read_text(encoding="utf-8") == "age\n1\n"
    assert (out / "predictions" / "features" / "a.parquet.out").read_text(encoding="utf-8") == "scores"
    model = released.released()["artifacts"]["model"].removeprefix("s3://")
    assert (out / "local" / "storage" / model).read_text(encoding="utf-8") == "a model"
    page = (out / "card.html").read_text(encoding="utf-8")
    assert CALLER in page
    assert "model 1 released by hand" in page
    assert "1969-12-31" in page
    assert "2022-01-08" in page
    assert "19,00" not in page
    assert "the sources, of this folder, as it lay here" in (out / "README.md").read_text(encoding="utf-8")
    assert "the gate asked for at least 0.1 (QualityLimit was 0.1 in this run, instead of 0.75)" in page
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    job = card["training_details"]["training_job_details"]
    assert job["hyper_parameters"] == [{"name": "num_leaves", "value": "77"}]


def test_a_release_that_is_not_there_is_named(here: Here) -> None:  # noqa: F811
    said = failure(lambda: bundle.audit(here.repository, Wanted(7, "dev")))
    assert said == "dev has no release 7; `make releases ENV=dev` lists them."


def test_files_that_came_later_are_none_that_are_missing(tmp_path: Path) -> None:
    repository, rows = Repository(tmp_path), tmp_path / "data" / "w" / "train"
    rows.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (rows / f"{name}.csv").write_text("age,churned\n1,no\n", encoding="utf-8")
    given: dict[str, Any] = {"TrainingData": rows.as_uri()}
    run = {"execution": "first", "parameters": given | {"DataFingerprint": local.fingerprint(repository, given)}}
    subject, case = Subject({}, {}, {}, {}, running.storage(repository), run, {}), load(ROOT / "usecase.toml")
    audited = bundle.Bundle(repository, subject, tmp_path / "made", False)

    def read() -> dict[str, Any]:
        return dict(audited.raw(case, run))["TrainingData"]

    (rows / "labelled.csv").write_text("age,churned\n2,yes\n", encoding="utf-8")
    assert read()["same"]
    assert [file["since"] for file in read()["files"]] == ["same", "same", "same", "added since"]
    (rows / "b.csv").write_text("age,churned\n2,no\n", encoding="utf-8")
    (rows / "c.csv").unlink()
    assert not read()["same"]
    assert read()["lost"] == {"b.csv": "changed", "c.csv": "gone"}


def test_a_file_of_an_earlier_window_that_is_gone_is_missing(tmp_path: Path) -> None:
    repository, stored = Repository(tmp_path), running.storage(Repository(tmp_path))
    rows = tmp_path / "data" / "earlier" / "train" / "a.csv"
    rows.parent.mkdir(parents=True)
    rows.write_text("age,churned\n1,no\n", encoding="utf-8")
    local.absent(stored)
    read = list[dict[str, Any]]()
    for prefix, key in ((tmp_path.as_uri() + "/data/", "earlier/train/a.csv"), (local.ABSENT, "manifest.json")):
        stored.write_json("s3://local/earlier.manifest", [{"prefix": prefix}, key])
        given: dict[str, Any] = {"EarlierData": "s3://local/earlier.manifest"}
        run = {"execution": "first", "parameters": given | {"DataFingerprint": local.fingerprint(repository, given)}}
        rows.unlink(missing_ok=True)
        subject = Subject({}, {}, {}, {}, stored, run, {})
        audited = bundle.Bundle(repository, subject, tmp_path / "made", False)
        read.append(dict(audited.raw(load(ROOT / "usecase.toml"), run)))
    assert read[0]["EarlierData"]["lost"] == {"earlier/train/a.csv": "gone"}
    assert not read[0]["EarlierData"]["same"]
    assert read[1] == {}  # there are none


def test_a_link_in_git_that_leads_elsewhere_is_named(released: Here, tmp_path: Path) -> None:
    root = released.repository.root
    (root / "link").symlink_to("/etc/hosts")
    (root / "file").symlink_to("usecase.toml")
    subprocess.run(["git", "add", "link", "file"], cwd=root, check=True)
    said = failure(lambda: bundle.audit(released.repository, Wanted(None, "dev", str(tmp_path / "out"))))
    assert said == "git knows link, which leads out of this folder: make it a file, and commit."


def test_a_release_that_was_promoted_is_audited_where_it_was_trained(released: Here, tmp_path: Path) -> None:
    released.another("prod")
    assert released.promote() == 0
    with pytest.raises(InputError, match=r"\(promoted from dev release 1\): model 1 of team-case-dev is audited where"):
        bundle.audit(released.repository, Wanted(None, "prod", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
