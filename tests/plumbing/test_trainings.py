"""What `make compare` shows of trainings, and what MLflow gets of them: its own client and file store, and no server.

SageMaker is the stand-in of control_plane.py.
"""

import io
import json
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from batchloop import tracking, trainings
from batchloop.cloud.session import opened
from batchloop.container.job import InputError
from batchloop.control.retraining import start
from batchloop.engine import running
from batchloop.pipelines import definitions
from batchloop.repository import Repository
from plumbing import control_plane, deployed
from plumbing.control_plane import ACCOUNT, BUCKET, World, checked, connected, session

GROUP = "arn:aws:sagemaker:local:000000000000:model-package/team-case-dev"
RUNS = f"s3://{BUCKET}/team/case/dev/training"


def evaluation(value: float, half: float = 0.01, **chosen: Any) -> dict[str, Any]:
    return {
        "metric": "auc",
        "validation": {"auc": value + 0.01, "f1": None},
        "test": {"auc": value, "f1": None},
        "champion": {"auc": 0.8, "f1": None},
        "lead": value - 0.8,
        "intervals": {"auc": {"low": value - half, "high": value + half}},
        "comparison": {"metric": "auc", "lead": value - 0.8, "lead_low": value - 0.802, "lead_high": value - 0.797},
        "rows": {"train": 700, "validation": 150, "test": 150},
        "hyperparameters": {"rounds": 3, "rate": 0.1} | chosen,
    }


def step(said: str = "", **properties: Any) -> dict[str, Any]:
    """What the record of a run says of a step."""
    return {"state": "done", "seconds": 1.0, "message": said, "properties": properties}


def trained(
    repository: Repository, day: int, report: dict[str, Any] | None = None, version: int = 0, **record: Any
) -> str:
    """A training that was run here on a day; `version` is the model's that it registered."""
    run = f"202611{day:02}-080000-000000"
    steps: dict[str, Any] = {"PrepareTrainingData": step()}
    if report:
        uri = f"s3://runs/training/{run}/TrainModel/output/job/output/model.tar.gz"
        place = repository.local / "storage" / uri.removeprefix("s3://")
        place.parent.mkdir(parents=True)
        place.write_bytes(b"model")
        text = json.dumps(report).encode()
        with tarfile.open(place.with_name("output.tar.gz"), "w:gz") as archive:
            about = tarfile.TarInfo("evaluation.json")
            about.size = len(text)
            archive.addfile(about, io.BytesIO(text))
        steps["TrainModel"] = step(ModelArtifacts={"S3ModelArtifacts": uri})
    if version:
        steps["RegisterModel"] = step(ModelPackageArn=f"{GROUP}/{version}")
    about_run = {
        "execution": run,
        "pipeline": "team-case-dev-training",
        "state": "done",
        "started": f"2026-11-{day:02}",
    }
    parameters = {"TrainingData": "file:///x/data/2026-11/train/", "DataFingerprint": "abc", "GitCommit": "c0ffee"}
    parameters["AlgorithmImage"] = "image:1"
    file = repository.local / "runs" / run / "run.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({**about_run, "parameters": parameters, "steps": steps} | record))
    return run


def registered(repository: Repository, *statuses: str, released: int = 0) -> None:
    """Packages with these approval states, from version 1 on, one of which is the release."""
    packages = [
        {
            "ModelPackageArn": f"{GROUP}/{number}",
            "ModelPackageVersion": number,
            "ModelPackageGroupName": "team-case-dev",
            "CreationTime": "2026-11-01",
            "ModelApprovalStatus": status,
        }
        for number, status in enumerate(statuses, 1)
    ]
    (repository.local / "registry.json").write_text(json.dumps(packages))
    (repository.local / "release.json").write_text(json.dumps({"model_package": f"{GROUP}/{released}"}))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    made = deployed.repository(tmp_path, monkeypatch)
    made.local.mkdir(exist_ok=True)
    return made


@pytest.fixture
def offline(repository: Repository) -> Repository:
    """Its environment names no account."""
    file = repository.root / "environments" / "dev.toml"
    file.write_text(file.read_text().replace(ACCOUNT, "000000000000"))
    return repository


def test_without_any_training_the_command_says_what_to_do(
    offline: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trainings.compare(offline) == 0
    assert capsys.readouterr().out == "nothing was trained yet; run `make train`.\n"


def test_trainings_stand_side_by_side_the_newest_first(offline: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    trained(offline, 1, evaluation(0.80), version=1)
    trained(offline, 2, evaluation(0.81, rate=0.2, rounds=30), version=2)
    trained(offline, 3, evaluation(0.70, rate=0.0125), state="failed")
    failed = trained(offline, 4, state="failed")
    trained(offline, 5, evaluation(0.9), pipeline="team-case-prod-training")  # another environment's
    trained(offline, 6, pipeline="team-case-dev-inference")
    registered(offline, "Approved", "PendingManualApproval", released=1)
    file = offline.local / "runs" / failed / "run.json"
    record = json.loads(file.read_text())
    record["steps"]["PrepareTrainingData"]["message"] = "customers.csv has no column 'age'."
    file.write_text(json.dumps(record))
    out = offline.root / "there" / "compared.json"

    assert trainings.compare(offline, out=str(out)) == 0

    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    assert " ".join(lines[0]) == "trained here state auc 95 % lead, 95 % rows window rounds rate release"
    assert lines[1] == f"{failed} failed – – – 2026-11 – – –".split()
    assert lines[2][2:4] == ["0.7", "↓"]  # worse than what is released by more than both intervals
    assert lines[2][-5:] == ["1,000", "2026-11", "3", "0.0125", "–"]
    assert lines[3][2:5] == ["0.81", "(0.8000", "to"]  # better, but it may be chance
    assert (lines[4][0], lines[4][-1]) == ("→", "1")
    assert f"{failed}: customers.csv has no column 'age'." in said
    rows = json.loads(out.read_text())["here"]
    assert [row["beyond"] for row in rows] == ["", "worse", "", ""]
    assert [row["release"] for row in rows] == ["", "", "", "1"]
    assert [row["rows"] for row in rows] == [None, 1000, 1000, 1000]
    assert rows[2]["hyperparameters"] == {"rounds": 30, "rate": 0.2}


def test_of_series_examples_are_counted(offline: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    """A value is learned from several origins, so there are more of them than rows."""
    trained(offline, 1, evaluation(0.80))
    case = Mock(series=Mock(), gate=Mock(metric="auc"))
    trainings._print("here", trainings.rows(trainings.here(offline), "auc"), case)
    said = capsys.readouterr().out.split()
    assert "examples" in said
    assert "rows" not in said


def test_only_the_last_ones_are_shown_and_one_alone_is_compared_with_nothing(
    offline: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(offline, 1, evaluation(0.80))
    newest = trained(offline, 2, evaluation(0.99))
    assert trainings.compare(offline, last=1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert newest in lines[1]
    assert "rate" not in lines[0]  # nothing differs


def test_for_metrics_where_smaller_is_better_less_is_better() -> None:
    def of(value: float, released: bool = False) -> trainings.Training:
        report = {"test": {"rmse": value}, "intervals": {"rmse": {"low": value - 1, "high": value + 1}}, "rows": {}}
        return trainings.Training("run", "", "", "done", {}, report, "", {}, released=released)

    rows = trainings.rows([of(10), of(20), of(14, released=True), of(14.5)], "rmse")
    assert [row["beyond"] for row in rows] == ["better", "worse", "", ""]


LACKING = {"execution": "", "pipeline": "team-case-dev-training", "state": "running", "started": "2026", "steps": {}}


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        '{"state": "ru',
        "[]",
        "\x00",
        '{"pipeline": "team-case-dev-training", "state": "running"}',
        json.dumps(LACKING),  # no parameters
        json.dumps(LACKING | {"parameters": [], "execution": "20261102-080000-000000"}),
        json.dumps(LACKING | {"parameters": {}, "execution": "../../data"}),
        json.dumps(LACKING | {"parameters": {}, "execution": "20261102-080000-000000", "steps": {"TrainModel": {}}}),
    ],
)
def test_a_damaged_record_of_a_run_hides_no_other(offline: Repository, damaged: str) -> None:
    name = trained(offline, 1, evaluation(0.8))
    broken = offline.local / "runs" / trained(offline, 2, evaluation(0.9)) / "run.json"
    broken.write_text(damaged)
    assert [training.run for training in trainings.here(offline, 1)] == [name]
    with running.exclusively(offline):
        assert broken.read_text() == damaged


def test_what_data_or_a_step_say_steers_no_terminal(offline: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2Jgone\x9b\u202e"
    steps = {"Fail": step(evil)}
    trained(offline, 1, steps=steps, parameters={"TrainingData": f"file:///x/data/{evil}/train/"})
    assert trainings.compare(offline) == 0
    assert capsys.readouterr().out.count(r"\x1b[2Jgone\x9b\u202e") == 2


def test_a_damaged_archive_of_a_training_tells_nothing(offline: Repository) -> None:
    trained(offline, 1, evaluation(0.8))
    [archive] = offline.local.rglob("output.tar.gz")
    whole = archive.read_bytes()
    for damaged in (b"", b"x", whole[: len(whole) // 2], whole[:-9] + b"123456789"):
        archive.write_bytes(damaged)
        assert len(trainings.here(offline)) == 1


def test_a_hyperparameter_s_name_steers_no_terminal(offline: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    for day, value in enumerate((1, 2), 1):
        trained(offline, day, evaluation(0.8, **{"[red]\x1b[2J": value}))
    assert trainings.compare(offline) == 0
    assert r"[red]\x1b[2J" in capsys.readouterr().out


def test_a_training_from_before_intervals_is_shown_without_one(offline: Repository) -> None:
    old = evaluation(0.8)
    del old["intervals"], old["hyperparameters"], old["rows"], old["comparison"]
    trained(offline, 1, old)
    trained(offline, 2, evaluation(0.9))
    rows = trainings.rows(trainings.here(offline), "auc")
    assert [(row["value"], row["low"], row["rows"]) for row in rows] == [(0.9, 0.89, 1000), (0.8, None, None)]


def test_a_table_that_can_not_be_written_is_said(offline: Repository) -> None:
    with pytest.raises(InputError, match=r"OUT=\. can't be written: "):
        trainings.compare(offline, out=".")


# ---- in an account


class SageMaker(control_plane.SageMaker):
    """Executions with the steps that a test gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[str, list[dict[str, Any]]] = {}
        self.meta = session().client("sagemaker").meta

    def list_pipeline_executions(self, **request: Any) -> dict[str, Any]:
        answer = super().list_pipeline_executions(**request)
        began = {"StartTime": datetime(2026, 11, 25, tzinfo=UTC)}
        return {"PipelineExecutionSummaries": [its | began for its in answer["PipelineExecutionSummaries"]]}

    def list_pipeline_execution_steps(self, **request: Any) -> dict[str, Any]:
        found = {"PipelineExecutionSteps": self.steps[request["PipelineExecutionArn"]]}
        return checked("ListPipelineExecutionSteps", request, found)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with connected(monkeypatch, SageMaker()) as made:
        yield made


def ran(world: World, status: str, steps: list[dict[str, Any]], report: dict[str, Any] | None = None) -> str:
    """A training in the account; what it stored lies where the pipeline writes."""
    sagemaker = world.sagemaker
    assert isinstance(sagemaker, SageMaker)
    values = {"TrainingData": world.places.data("2026-11", "train"), "DataFingerprint": str(len(sagemaker.steps))}
    arn = start(world.aws, world.places.pipeline("training"), values, ("x",), "because")
    sagemaker.executions[arn]["status"] = status
    sagemaker.steps[arn] = steps
    place = f"{RUNS}/{arn.rpartition('/')[2]}"
    if report:
        world.put(f"{place}/LearnBaseline/report/evaluation.json", json.dumps(report).encode())
        world.put(f"{place}/TrainModel/output/job/output/model.tar.gz")
    return arn


DONE: list[dict[str, Any]] = [
    {"StepName": name, "StepStatus": "Succeeded"} for name in ("TrainModel", "LearnBaseline", "LearnExplainer")
]
MODEL = f"arn:aws:sagemaker:eu-central-1:{ACCOUNT}:model-package/team-case-dev/7"
REGISTERED = {"StepName": "RegisterModel", "StepStatus": "Succeeded", "Metadata": {"RegisterModel": {"Arn": MODEL}}}
REJECTED = {
    "StepName": "RejectModel",
    "StepStatus": "Failed",
    "Metadata": {"Fail": {"ErrorMessage": "not good enough"}},
}


def test_where_an_account_is_set_its_trainings_are_shown_too(
    repository: Repository, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(repository, 1, evaluation(0.80), version=1)
    first = ran(world, "Succeeded", [*DONE, REGISTERED], evaluation(0.84))
    rejected = ran(world, "Failed", [*DONE, REJECTED], evaluation(0.6, rate=0.3))
    under_way = ran(world, "Executing", [])
    world.publish(7)

    assert trainings.compare(repository) == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in lines if line[:1] == ["trained"]] == [
        ["trained", "here", "state"],
        ["trained", "in", ACCOUNT],
    ]
    found = {line[1] if line[0] == "→" else line[0]: line for line in lines}
    assert found[under_way.rpartition("/")[2]][1] == "running"
    assert found[rejected.rpartition("/")[2]][1:4] == ["failed", "0.6", "↓"]
    assert (found[first.rpartition("/")[2]][0], found[first.rpartition("/")[2]][-1]) == ("→", "1")


def test_an_account_that_does_not_answer_is_said_and_stops_nothing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: Any) -> Any:
        raise InputError("there are no AWS credentials here")

    monkeypatch.setattr("batchloop.cloud.session.connect", none)
    trained(repository, 1, evaluation(0.80))
    assert trainings.compare(repository) == 0
    said = capsys.readouterr()
    assert "0.8" in said.out
    assert f"trainings in account {ACCOUNT} are not shown: there are no AWS credentials here" in said.err


def test_the_model_of_a_step_from_the_cache_is_the_earlier_run_s(repository: Repository, world: World) -> None:
    first = ran(world, "Succeeded", DONE, evaluation(0.84))
    again = [step | {"CacheHitResult": {"SourcePipelineExecutionArn": first}} for step in DONE]
    ran(world, "Succeeded", again)
    both = trainings.in_account(opened(repository))
    assert both[0].files == both[1].files
    assert both[0].files["model"].endswith("/TrainModel/output/job/output/model.tar.gz")
    assert both[0].evaluation == both[1].evaluation != {}


# ---- in MLflow


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in tracking.VARIABLES.items():
        monkeypatch.setenv(name, value)
    yield
    if sys.modules.get("mlflow"):
        sys.modules["mlflow"].set_tracking_uri(None)


def to(repository: Repository, uri: str) -> Any:
    """The environment with this store."""
    file = repository.root / "environments" / "dev.toml"
    file.write_text(file.read_text().replace('tracking.uri = ""', f'tracking.uri = "{uri}"'))
    return definitions.read(repository)[1]


def runs(repository: Repository, folder: str = "ml runs") -> dict[str, Any]:
    """Everything that the store holds, by the runs' names."""
    from mlflow import MlflowClient  # noqa: PLC0415 - as what is tested

    client = MlflowClient(str(repository.root / folder))
    experiment = client.get_experiment_by_name("team-case-dev")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return {run.info.run_name: run for run in found}


def files(run: Any) -> set[str]:
    folder = Path(run.info.artifact_uri)
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def use(repository: Repository, folder: str = "ml runs") -> Any:
    """A folder with a blank in its name, as a path of the repository may have one."""
    environment = to(repository, "mlruns")
    object.__setattr__(environment.tracking, "uri", folder)
    return environment


def test_what_a_repository_keeps_elsewhere_is_tracked_nowhere(offline: Repository) -> None:
    trained(offline, 1, evaluation(0.81), version=1, ended="2026-11-01T08:01:00+00:00")
    tracking.after(Repository(offline.root, offline.local), use(offline))
    assert not (offline.root / "ml runs").exists()


def test_a_training_is_one_run_with_all_that_is_known_of_it(offline: Repository) -> None:
    name = trained(offline, 1, evaluation(0.81), version=1, ended="2026-11-01T08:01:00+00:00")
    registered(offline, "Approved", released=1)
    tracking.after(offline, use(offline))
    [run] = runs(offline).values()
    assert (run.info.run_name, run.info.status) == (name, "FINISHED")
    assert run.data.params == {"rounds": "3", "rate": "0.1"}
    metrics = run.data.metrics
    assert (metrics["test/auc"], metrics["validation/auc"], metrics["champion/auc"]) == (0.81, 0.81 + 0.01, 0.8)
    assert (metrics["test/auc_low"], metrics["test/auc_high"]) == (0.81 - 0.01, 0.81 + 0.01)
    assert "test/f1" not in metrics  # it could not be measured
    tags = run.data.tags
    assert (tags["mlflow.source.git.commit"], tags["data_fingerprint"]) == ("c0ffee", "abc")
    assert (tags["window"], tags["release"], tags["image.algorithm"]) == ("2026-11", "1", "image:1")
    [data] = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest, data.dataset.profile) == ("2026-11", "abc", '{"num_rows": 1000}')
    assert files(run) == {"model/model.tar.gz"}


def test_what_is_there_is_not_logged_again_and_a_later_release_is_added(
    offline: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(offline, 1, evaluation(0.81), version=1)
    trained(offline, 2, evaluation(0.6), state="failed")
    trained(offline, 3, state="interrupted")
    trained(offline, 4, state="running")
    registered(offline, "PendingManualApproval")
    to(offline, "mlruns")
    assert tracking.track(offline) == 0
    found = runs(offline, "mlruns")
    assert sorted(run.info.status for run in found.values()) == ["FAILED", "FINISHED", "KILLED"]
    assert "release" not in found["20261101-080000-000000"].data.tags
    registered(offline, "Approved", released=1)
    assert tracking.track(offline) == 0
    found = runs(offline, "mlruns")
    assert found["20261101-080000-000000"].data.tags["release"] == "1"
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" to ")[0] for line in said] == ["3 trainings logged", "0 trainings logged"]


def test_one_that_was_logged_in_part_is_gone_on_with(
    offline: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient  # noqa: PLC0415 - as above

    trained(offline, 1, evaluation(0.81))
    with monkeypatch.context() as broken:

        def full(*_: Any) -> None:
            raise OSError("No space left on device")

        broken.setattr(MlflowClient, "log_artifact", full)
        tracking.after(offline, use(offline))
    assert "warning: not logged to MLflow at ml runs: OSError: No space left" in capsys.readouterr().err
    assert [run.info.status for run in runs(offline).values()] == ["RUNNING"]
    tracking.after(offline, use(offline))
    [run] = runs(offline).values()
    assert (run.info.status, files(run)) == ("FINISHED", {"model/model.tar.gz"})


def test_a_server_that_does_not_answer_is_a_warning_and_no_failure(
    offline: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(offline, 1, evaluation(0.81))
    environment = to(offline, "http://127.0.0.1:9")
    tracking.after(offline, environment)
    said = capsys.readouterr()
    assert said.err.startswith("warning: not logged to MLflow at http://127.0.0.1:9: MlflowException: ")
    assert said.err.endswith("`make track ENV=dev` logs it later.\n")
    assert said.out == ""
    with pytest.raises(InputError, match=r"not logged to MLflow at http://127\.0\.0\.1:9: "):
        tracking.track(offline)


def test_without_a_store_nothing_is_logged_and_track_says_where_to_name_one(offline: Repository) -> None:
    trained(offline, 1, evaluation(0.81))
    tracking.after(offline, definitions.read(offline)[1])
    with pytest.raises(InputError, match=r"environments/dev\.toml names no MLflow: .* tracking\.uri = "):
        tracking.track(offline)


def test_where_mlflow_is_not_installed_that_is_said(offline: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    to(offline, "mlruns")
    with pytest.raises(InputError, match="mlflow is not here: add mlflow-skinny"):
        tracking.track(offline)


@pytest.mark.parametrize("uri", ["sqlite:///x.db", "postgresql://x", "ml runs"])
def test_a_database_or_a_blank_is_refused(offline: Repository, uri: str) -> None:
    with pytest.raises(InputError, match=r"\[tracking\] uri = .* is not a folder, an MLflow server's address"):
        to(offline, uri)


def test_trainings_in_an_account_are_logged_from_what_they_stored(repository: Repository, world: World) -> None:
    arn = ran(world, "Succeeded", [*DONE, REGISTERED], evaluation(0.84))
    world.publish(7)
    to(repository, "mlruns")
    assert tracking.track(repository) == 0
    found = runs(repository, "mlruns")
    run = found[arn.rpartition("/")[2]]
    assert (run.data.tags["run"], run.data.tags["release"]) == (arn, "1")
    assert (run.data.tags["window"], run.data.metrics["test/auc"]) == ("2026-11", 0.84)
    assert files(run) == {"evaluation/evaluation.json", "model/model.tar.gz"}  # the reports are gone
