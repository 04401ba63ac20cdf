"""Starting and following an execution. SageMaker is the stand-in of tests/control_plane.py, with steps that move on."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batchloop.cloud import run as cloud_run
from batchloop.cloud.run import Request
from batchloop.cloud.session import PATIENCE
from batchloop.cloud.session import opened as signed_in
from batchloop.container.job import InputError
from batchloop.control.storage import files, fingerprint
from batchloop.repository import Repository
from plumbing import control_plane, deployed
from plumbing.control_plane import BUCKET, WINDOW, World, checked, connected, refused, session

AWS = "arn:aws:sagemaker:eu-central-1:123456789012"
DEFINITION = {
    "Parameters": [
        *({"Name": name, "Type": "String", "DefaultValue": "x"} for name in ("TrainingData", "ProductionData")),
        {"Name": "Trials", "Type": "Integer", "DefaultValue": 0},
        {"Name": "ContinueTraining", "Type": "String", "DefaultValue": "false", "EnumValues": ["false", "true"]},
    ]
}
SUCCEEDED: list[list[tuple[str, str, dict[str, Any]]]] = [
    [("PrepareTrainingData", "Executing", {})],
    [("PrepareTrainingData", "Succeeded", {}), ("TrainModel", "Starting", {})],
    [("PrepareTrainingData", "Succeeded", {}), ("TrainModel", "Executing", {})],
    [("PrepareTrainingData", "Succeeded", {}), ("TrainModel", "Succeeded", {})],
]


class SageMaker(control_plane.SageMaker):
    """Executions that show the next of `looks` each time their steps are listed, and then end as `end` says."""

    def __init__(self) -> None:
        super().__init__()
        self.meta = session().client("sagemaker").meta
        self.looks: list[list[tuple[str, str, dict[str, Any]]]] = list(SUCCEEDED)
        self.end = ("Succeeded", "")
        self.failing: list[Exception | None] = []  # one a look; None answers
        self.missing: set[str] = set()
        self.described: list[int] = []
        self.page = 1

    def get_paginator(self, name: str) -> Any:
        """botocore's own, of this stand-in's answers."""
        found = session().client("sagemaker").get_paginator(name)
        found._method = getattr(self, name)
        return found

    def describe_pipeline(self, **request: Any) -> dict[str, Any]:
        if request["PipelineName"] in self.missing:
            raise refused("DescribePipeline", "ResourceNotFound")
        self.described.append(request.get("PipelineVersionId", 0))
        answer = {"PipelineDefinition": json.dumps(DEFINITION), "RoleArn": "arn:aws:iam::123456789012:role/r"}
        return checked("DescribePipeline", request, answer)

    def describe_pipeline_execution(self, **request: Any) -> dict[str, Any]:
        if self.failing and (error := self.failing.pop(0)):
            raise error
        run = self.executions[request["PipelineExecutionArn"]]
        if len(self.looks) == 1:
            run["status"], run["why"] = self.end
        return super().describe_pipeline_execution(**request)

    def list_pipeline_execution_steps(self, **request: Any) -> dict[str, Any]:
        steps, first = self.looks[0], int(request.get("NextToken", 0))
        more = {"NextToken": str(first + self.page)} if len(steps) > first + self.page else {}
        if not more and len(self.looks) > 1:
            self.looks.pop(0)
        times = {"StartTime": datetime(2026, 11, 25, tzinfo=UTC)}
        shown = [
            {"StepName": name, "StepStatus": status, **times, **about}
            for name, status, about in steps[first : first + self.page]
        ]
        return checked("ListPipelineExecutionSteps", request, {"PipelineExecutionSteps": shown, **more})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with connected(monkeypatch, SageMaker()) as made:
        monkeypatch.setattr("batchloop.cloud.run.SECONDS", 0)
        yield made


@pytest.fixture
def sagemaker(world: World) -> SageMaker:
    assert isinstance(world.sagemaker, SageMaker)
    return world.sagemaker


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    return deployed.repository(tmp_path, monkeypatch)


def labelled(world: World, window: str = WINDOW) -> None:
    world.label(window)


def failure(repository: Repository, asked: Request) -> str:
    with pytest.raises(InputError) as raised:
        cloud_run.run(repository, asked)
    return str(raised.value)


# ---- what is started


def test_training_is_given_what_a_retraining_is_given(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    world.aws.ssm.put_parameter(
        Name=world.places.parameter("components/algorithm/image"), Value="pushed@sha256:1", Overwrite=True
    )
    labelled(world)
    assert cloud_run.run(repository, Request("training", WINDOW)) == 0
    [run] = sagemaker.started("training")
    storage = f"s3://{BUCKET}/team/case"
    assert run["parameters"] == {
        "TrainingData": f"{storage}/data/{WINDOW}/train/",
        "DataFingerprint": fingerprint(files(world.aws, f"{storage}/data/{WINDOW}/train/")),
        "ArtifactsPrefix": f"{storage}/dev/training",
        "ChampionPreprocessor": f"{storage}/none/",
        "ChampionModel": f"{storage}/none/",
        "AlgorithmImage": "pushed@sha256:1",
    }
    assert run["request"]["PipelineExecutionDescription"] == f"learns from window {WINDOW}. There is no champion yet."


def test_training_challenges_the_release(world: World, sagemaker: SageMaker, repository: Repository) -> None:
    world.publish(1)
    labelled(world)
    cloud_run.run(repository, Request("training"))
    released, [run] = world.released(), sagemaker.started("training")
    assert run["parameters"]["ChampionModel"] == released["artifacts"]["model"]
    assert run["parameters"]["ProcessingImage"] == released["images"]["processing"]


def test_training_without_a_champion_is_asked_for_also_where_the_release_is_damaged(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    world.publish(1)
    labelled(world)
    cloud_run.run(repository, Request("training", fresh=True))
    world.aws.ssm.put_parameter(Name=world.places.parameter("release"), Value="{half", Overwrite=True)
    assert "starting the training pipeline of dev is not possible: the release's manifest is none of" in failure(
        repository, Request("training")
    )
    cloud_run.run(repository, Request("training", fresh=True))
    for run in sagemaker.started("training"):
        assert run["parameters"]["ChampionModel"] == f"s3://{BUCKET}/team/case/none/"
        assert "No champion was asked for" in run["request"]["PipelineExecutionDescription"]


def test_training_learns_from_the_earlier_windows_that_the_settings_ask_for(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    with (repository.root / "usecase.toml").open("a", encoding="utf-8") as file:
        file.write('[retraining]\nlearn = "last 2"\n')
    for day in (22, 23, 24):
        labelled(world, f"2026-11-{day}")
    cloud_run.run(repository, Request("training"))
    [run] = sagemaker.started("training")
    assert "from window 2026-11-24 and 1 earlier window (2026-11-23)." in run["request"]["PipelineExecutionDescription"]
    assert run["parameters"]["EarlierData"].startswith(f"s3://{BUCKET}/team/case/dev/training/earlier/2026-11-24-")


def test_inference_is_given_what_the_schedule_gives_it(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    world.publish(1)
    world.start()
    sagemaker.remembers = True
    assert cloud_run.run(repository, Request("inference", WINDOW)) == 0
    scheduled, by_hand = sagemaker.started("inference")
    assert by_hand["parameters"] == scheduled["parameters"]
    assert by_hand["token"] != scheduled["token"], "what was scored before is scored again when a person asks for it"


def test_without_a_window_the_newest_with_rows_is_taken(
    world: World, sagemaker: SageMaker, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    for window in ("2026-9", "2026-10"):
        labelled(world, window)
    world.put(f"{world.places.data('2026-11', 'production')}rows.parquet")
    cloud_run.run(repository, Request("training"))
    assert sagemaker.started("training")[0]["parameters"]["TrainingData"].endswith("/2026-10/train/")
    assert "learns from window 2026-10" in capsys.readouterr().out


def test_parameters_of_ones_own_are_checked_and_go_before(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    labelled(world)
    chosen = ("Trials=5  ContinueTraining = true", "TrainingData=s3://mine/rows=1")
    cloud_run.run(repository, Request("training", "", chosen))
    given = sagemaker.started("training")[0]["parameters"]
    assert (given["Trials"], given["ContinueTraining"], given["TrainingData"]) == ("5", "true", "s3://mine/rows=1")
    assert "there is no parameter 'Nonsense'" in failure(repository, Request("training", "", ("Nonsense=1",)))
    assert "Trials = 'many' is not a whole number" in failure(repository, Request("training", "", ("Trials=many",)))
    assert "the nearest is 'Trials'" in failure(repository, Request("training", "", ("trials=1",)))
    assert "SET gives Trials two values, 1 and 2" in failure(
        repository, Request("training", "", ("Trials=1 Trials=2",))
    )
    assert "SET=Trials=-1: [tuning] trials = -1 is not a whole number from 0 up" in failure(
        repository, Request("training", "", ("Trials=-1",))
    )
    assert len(sagemaker.started("training")) == 1


def test_what_a_run_is_pointed_at_is_read_anew(world: World, sagemaker: SageMaker, repository: Repository) -> None:
    labelled(world)
    for chosen in ((), ("Trials=5",), *[("TrainingData=s3://mine/rows=1",)] * 2):
        cloud_run.run(repository, Request("training", "", chosen))
    plain, same, first, again = [run["parameters"]["DataFingerprint"] for run in sagemaker.started("training")]
    assert plain == same
    assert len({plain, first, again}) == 3  # a cached step is found by its request alone


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Request("scoring"), "PIPELINE=scoring is none of training, inference."),
        (Request("inference"), f"no rows at s3://{BUCKET}/team/case/data/<window>/production"),
        (Request("training", "2026-1"), "make upload ENV=dev WINDOW=2026-1 PART=train DATA=data/sample/train"),
        (Request("training", "a/b"), "no rows at"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(
    world: World, sagemaker: SageMaker, repository: Repository, asked: Request, told: str
) -> None:
    assert told in failure(repository, asked)
    assert not sagemaker.executions


def test_nothing_is_scored_before_something_is_released(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    world.put(f"{world.places.data(WINDOW, 'production')}rows.parquet")
    assert "there is no _SUCCESS at" in failure(repository, Request("inference", WINDOW))
    world.mark(WINDOW, "production")
    assert "nothing is released yet: `make run PIPELINE=training ENV=dev`" in failure(repository, Request("inference"))
    world.aws.ssm.put_parameter(Name=world.places.parameter("release"), Value="{}", Overwrite=True)
    damaged = "starting the inference pipeline of dev is not possible: the release's manifest is none of"
    assert failure(repository, Request("inference")).startswith(damaged)
    sagemaker.missing = {"team-case-dev-inference"}
    assert failure(repository, Request("inference")) == (
        "there is no pipeline team-case-dev-inference; `make deploy ENV=dev` makes it."
    )
    assert not sagemaker.executions


def test_whatever_refuses_the_start_is_a_sentence(world: World, sagemaker: SageMaker, repository: Repository) -> None:
    labelled(world)
    sagemaker.refusing = "AccessDeniedException"
    assert failure(repository, Request("training")) == "starting the training pipeline of dev was denied: because"


def test_a_use_case_with_its_own_validation_needs_it(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    text = (repository.root / "usecase.toml").read_text()
    (repository.root / "usecase.toml").write_text(text.replace('method = "random"', 'method = "given"'))
    labelled(world)
    assert f"data/{WINDOW}/validation" in failure(repository, Request("training"))
    world.label(part="validation")
    cloud_run.run(repository, Request("training"))
    assert sagemaker.started("training")[0]["parameters"]["ValidationData"].endswith(f"{WINDOW}/validation/")


# ---- how it is followed


def test_each_change_of_a_step_is_one_line(
    world: World, sagemaker: SageMaker, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled(world)
    assert cloud_run.run(repository, Request("training")) == 0
    said = [line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert said == [
        ["PrepareTrainingData", "Executing"],
        ["PrepareTrainingData", "Succeeded"],
        ["TrainModel", "Starting"],
        ["TrainModel", "Executing"],
        ["TrainModel", "Succeeded"],
    ]


def test_a_step_says_what_else_there_is_to_know(
    world: World, sagemaker: SageMaker, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    cached = {"CacheHitResult": {"SourcePipelineExecutionArn": f"{AWS}:pipeline/p/execution/1"}}
    package = f"{AWS}:model-package/team-case-dev/3"
    sagemaker.looks = [
        [
            ("TrainModel", "Succeeded", {"AttemptCount": 2, **cached}),
            ("CheckQuality", "Succeeded", {"Metadata": {"Condition": {"Outcome": "True"}}}),
            ("RegisterModel", "Succeeded", {"Metadata": {"RegisterModel": {"Arn": package}}}),
        ]
    ]
    labelled(world)
    cloud_run.run(repository, Request("training"))
    said = capsys.readouterr().out
    assert "Succeeded (try 2, from the cache)" in said
    assert "Succeeded (true)" in said
    assert f"registered: {package}" in said
    assert "approves it" not in said
    deployed.environment(repository.root, approval='"PendingManualApproval"')
    cloud_run.run(repository, Request("training"))
    assert "it is released once somebody approves it" in capsys.readouterr().out


def test_a_scoring_says_where_its_predictions_are(
    world: World, sagemaker: SageMaker, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    world.publish(1)
    world.put(f"{world.places.data(WINDOW, 'production')}rows.parquet")
    world.mark(WINDOW, "production")
    job = {"Metadata": {"TransformJob": {"Arn": f"{AWS}:transform-job/pipelines-1-score"}}}
    sagemaker.looks = [[("ScoreFeatures", "Succeeded", job)]]
    assert cloud_run.run(repository, Request("inference")) == 0
    place = f"s3://{BUCKET}/team/case/dev/inference/000000000000"
    said = capsys.readouterr().out
    assert f"predictions: {place}/ScoreFeatures/predictions/" in said
    assert "the parameter /team/case/dev/inference/latest names them" in said


def test_a_scoring_runs_under_the_pipeline_of_the_release(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    world.publish(1)
    sagemaker.versions["team-case-dev-inference"] = 2
    world.start()
    cloud_run.run(repository, Request("inference"))
    scheduled, by_hand = sagemaker.started("inference")
    assert [scheduled["version"], by_hand["version"]] == [1, 1]
    assert sagemaker.described[-1] == 1
    world.put(f"{world.places.releases}1/model/model.tar.gz", b"another")
    said = failure(repository, Request("inference"))
    assert said.startswith("release 1 is not what was released: ")


def test_a_release_under_an_older_pipeline_is_said_with_the_command_that_moves_it(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    opened = signed_in(repository)
    assert list(cloud_run.behind(opened)) == []
    world.publish(1)
    assert list(cloud_run.behind(opened)) == []
    sagemaker.versions["team-case-dev-inference"] = 2
    [said] = cloud_run.behind(opened)
    assert said.startswith("release 1 runs under version 1 of team-case-dev-inference, the newest is 2; ")
    assert said.endswith("`make release ENV=dev MODEL=1` moves it\n")
    other = {**world.released(), "model_package": f"{AWS}:model-package/team-case-staging/7"}
    world.aws.ssm.put_parameter(Name=world.places.parameter("release"), Value=json.dumps(other), Overwrite=True)
    [said] = cloud_run.behind(opened)
    assert said.endswith("`make promote FROM=staging TO=dev` moves it\n")


def test_what_waits_for_its_mark_is_said(
    world: World, sagemaker: SageMaker, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled(world)
    world.put(f"{world.places.data('2026-11-25', 'train')}rows.parquet")
    cloud_run.run(repository, Request("training"))
    assert "/data/2026-11-25/train/ has files and no _SUCCESS" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["ProcessingJob", "TrainingJob", "TransformJob"])
def test_a_step_that_failed_says_why_and_where_its_log_is(
    world: World,
    sagemaker: SageMaker,
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    about = {"FailureReason": "row 3: no such plan", "Metadata": {kind: {"Arn": f"{AWS}:a-job/pipelines-1-step"}}}
    sagemaker.looks = [[("Good", "Succeeded", {}), ("Bad", "Failed", about)]]
    sagemaker.end = ("Failed", "Step failure: One or multiple steps failed.")
    labelled(world)
    assert cloud_run.run(repository, Request("training")) == 1
    said = capsys.readouterr().out
    assert "Failed.\nStep failure: One or multiple steps failed.\nBad failed: row 3: no such plan\n" in said
    command = f"aws logs tail /aws/sagemaker/{kind}s --region eu-central-1 --since 1d"
    assert f"  its log: {command} --log-stream-name-prefix pipelines-1-step/\n" in said
    assert "Good failed" not in said
    assert "all of it: aws sagemaker list-pipeline-execution-steps" in said


def test_a_model_that_the_gate_refuses_says_its_numbers(
    world: World, sagemaker: SageMaker, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    fail = {"Metadata": {"Fail": {"ErrorMessage": "test:auc is 0.61 and must be 0.7"}}}
    sagemaker.looks, sagemaker.end = [[("RejectModel", "Failed", fail)]], ("Failed", "")
    labelled(world)
    assert cloud_run.run(repository, Request("training")) == 1
    assert "RejectModel failed: test:auc is 0.61 and must be 0.7" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["Stopped", "CompletedWithFailures"])
def test_any_other_end_is_no_success(
    world: World, sagemaker: SageMaker, repository: Repository, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    sagemaker.looks, sagemaker.end = [[("TrainModel", "Stopped", {})]], (status, "")
    labelled(world)
    assert cloud_run.run(repository, Request("training")) == 1
    assert f"{status}." in capsys.readouterr().out


def test_a_look_that_fails_is_tried_again_and_many_in_a_row_end_the_following(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    labelled(world)
    some = [refused("DescribePipelineExecution", "ThrottlingException")] * (PATIENCE - 1)
    sagemaker.failing = [*some, None, *some]
    assert cloud_run.run(repository, Request("training")) == 0
    sagemaker.failing = [refused("DescribePipelineExecution", "ThrottlingException")] * PATIENCE
    told = failure(repository, Request("training"))
    assert "was throttled" in told
    assert "The run goes on; to look at it:\n  aws sagemaker list-pipeline-execution-steps" in told


def test_credentials_that_expire_end_the_following_at_once(
    world: World, sagemaker: SageMaker, repository: Repository
) -> None:
    labelled(world)
    sagemaker.failing = [refused("DescribePipelineExecution", "ExpiredTokenException")]
    assert failure(repository, Request("training")).startswith(
        "your AWS credentials have expired; sign in again. The run goes on"
    )


def _interrupted(_seconds: float) -> None:
    raise KeyboardInterrupt


def test_an_interruption_ends_the_following_and_not_the_run(
    world: World,
    sagemaker: SageMaker,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labelled(world)
    monkeypatch.setattr("batchloop.cloud.session.time.sleep", _interrupted)
    assert cloud_run.run(repository, Request("training")) == 130
    arn = next(iter(sagemaker.executions))
    said = capsys.readouterr().out
    assert f"aws sagemaker stop-pipeline-execution --region eu-central-1 --pipeline-execution-arn {arn}" in said
    assert sagemaker.executions[arn]["status"] == "Executing"


def test_following_ends_some_day(
    world: World, sagemaker: SageMaker, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled(world)
    monkeypatch.setattr("batchloop.cloud.run.LONGEST", -1)
    assert "nobody follows any longer. The run goes on" in failure(repository, Request("training"))
