"""How long jobs take: as given, as the newest run here, or as the last runs in the account."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from batchloop import cost
from batchloop.cost import Usage
from batchloop.pipelines import check
from batchloop.repository import Repository
from plumbing import test_costing
from plumbing.test_costing import ACCOUNT, change, estimate

here = test_costing.here


def record(here: Repository, name: str, steps: dict[str, tuple[str, float]]) -> None:
    folder = here.root / "local" / "runs" / name
    folder.mkdir(parents=True)
    rest = {"message": "", "properties": {}}
    written = {step: {"state": state, "seconds": seconds, **rest} for step, (state, seconds) in steps.items()}
    value = {"execution": name, "started": f"{name[:4]}-{name[4:6]}-{name[6:8]}T08:00:00+00:00", "steps": written}
    value |= {"pipeline": "team-case-dev-training", "state": "done", "parameters": {}}
    (folder / "run.json").write_text(json.dumps(value))


def test_a_job_takes_as_long_as_the_newest_run_here_in_which_it_worked(here: Repository) -> None:
    record(
        here, "20260101-1", {"TrainModel": ("done", 60), "DetectDrift": ("done", 120), "LearnBaseline": ("failed", 9)}
    )
    record(here, "20260102-1", {"TrainModel": ("done", 180), "DetectDrift": ("unchanged, reused", 0.01)})
    (here.root / "local" / "runs" / "20260103-1").mkdir()
    (here.root / "local" / "runs" / "20260103-1" / "run.json").write_text('{"steps": {')
    found = {job.what: (job.minutes, job.origin) for job in estimate(here, minutes="monitoring=5").lines}
    assert found["TrainModel"] == (1 + 3, "as here, 2026-01-02")
    assert found["DetectDrift"] == (1 + 5, "as given")
    assert found["PrepareFeatures"] == (1 + 7, "assumed")
    assert {job.what: job.minutes for job in estimate(here).lines}["DetectDrift"] == 1 + 2
    assert {job.what: job.origin for job in estimate(here).lines}["LearnBaseline"] == "assumed"


Run = tuple[str, dict[str, float | None]]


class Runs:
    """Executions in an account, newest first: their status, and the minutes of their steps, None for a reused one.

    What is asked and answered is held against botocore's model.
    """

    def __init__(self, **pipelines: list[Run]) -> None:
        self.pipelines, self.refusing = pipelines, ""
        self.asked: list[dict[str, Any]] = []

    def connect(self, region: str, _profile: str = "") -> Callable[[str], Any]:
        def client(service: str) -> Any:
            found = boto3.client(service, region_name=region, aws_access_key_id="x", aws_secret_access_key="x")
            found.meta.events.register("before-call", self._answer)
            found.meta.events.register("provide-client-params", self._ask)
            return found

        return client

    def _ask(self, params: dict[str, Any], **_: object) -> None:
        self.asked.append(params)

    def _answer(self, model: Any, **_: object) -> tuple[Any, dict[str, Any]]:
        code = self.refusing if model.service_model.service_name == "sagemaker" else ""
        if model.name == "DescribePipeline":
            code = code or ("" if self._short(self.asked[-1]["PipelineName"]) in self.pipelines else "ResourceNotFound")
        if code:
            return SimpleNamespace(status_code=400), {"Error": {"Code": code, "Message": "because"}}
        said = {"Account": ACCOUNT} if model.name == "GetCallerIdentity" else self._said(model.name, self.asked[-1])
        assert not ParamValidator().validate(said, model.output_shape).has_errors()
        assert model.name == "GetCallerIdentity" or list(check.request(model.name, self.asked[-1])) == []
        return SimpleNamespace(status_code=200), said

    def _short(self, name: str) -> str:
        return name.rpartition("-")[2]

    def _said(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if name == "DescribePipeline":
            return {"PipelineName": asked["PipelineName"]}
        if name == "ListPipelineExecutions":
            arn = f"arn:aws:sagemaker:eu-south-2:{ACCOUNT}:pipeline"
            runs = self.pipelines[self._short(asked["PipelineName"])]
            found = [f"{arn}/{asked['PipelineName']}/execution/{number:012}" for number in range(len(runs))]
            summaries = zip(found, runs, strict=True)
            return {
                "PipelineExecutionSummaries": [
                    {"PipelineExecutionArn": arn, "PipelineExecutionStatus": status} for arn, (status, _) in summaries
                ]
            }
        pipeline, _, number = asked["PipelineExecutionArn"].partition("/")[2].partition("/execution/")
        steps, began = self.pipelines[self._short(pipeline)][int(number)][1], datetime(2026, 2, 1, 6, tzinfo=UTC)
        cached = {"CacheHitResult": {"SourcePipelineExecutionArn": asked["PipelineExecutionArn"]}}
        return {
            "PipelineExecutionSteps": [
                {"StepName": name, "StepStatus": "Succeeded", "StartTime": began}
                | {"EndTime": began + timedelta(minutes=minutes or 0.1)}
                | (cached if minutes is None else {})
                for name, minutes in steps.items()
            ]
        }


@pytest.fixture
def there(here: Repository, monkeypatch: pytest.MonkeyPatch) -> Callable[[Runs], Runs]:
    """The account that the environment names, with these runs."""
    change(here, "environments/dev.toml", 'account = "000000000000"', f'account = "{ACCOUNT}"')

    def account(runs: Runs) -> Runs:
        monkeypatch.setattr("batchloop.cloud.session.connect", runs.connect)
        return runs

    return account


def shown(here: Repository, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[set[str], str]:
    assert cost.show_cost(here, Usage(**options)) == 0
    said = capsys.readouterr().out
    return {" ".join(line.split()) for line in said.splitlines()}, said


def test_minutes_are_those_of_the_last_runs_in_the_account(
    here: Repository, there: Callable[[Runs], Runs], capsys: pytest.CaptureFixture[str]
) -> None:
    """The median, of steps that worked: as long as each took there, with its start."""
    record(here, "20260101-1", {"TrainModel": ("done", 60), "LearnBaseline": ("done", 60)})
    took = [3.0, 90.0, 4.0, 6.0, 7.0, 99.0]  # the sixth is too long ago
    runs: list[Run] = [("Executing", {"TrainModel": 500.0}), ("Failed", {"TrainModel": 500.0})]
    runs += [("Succeeded", {"TrainModel": minutes, "PrepareTrainingData": None}) for minutes in took]
    there(Runs(training=runs, inference=[("Succeeded", {"DetectDrift": 2.5}), ("Succeeded", {"DetectDrift": 3.5})]))
    rows, said = shown(here, capsys, minutes="ScoreFeatures=9")
    assert "TrainModel 1 × ml.m5.xlarge 6.0 measured: last 5 runs 0.13" in rows
    assert "DetectDrift 1 × ml.m5.large 3.0 measured: last 2 runs 0.032" in rows
    assert "ScoreFeatures 1 × ml.m5.large 10.0 as given 0.10" in rows
    assert "LearnBaseline 1 × ml.m5.large 2.0 as here, 2026-01-01 0.021" in rows
    assert "PrepareTrainingData 1 × ml.m5.large 8.0 assumed 0.084" in rows
    assert "Nothing was asked of AWS" not in said
    assert "measured" in said.partition("Minutes:")[2]


def test_what_is_given_goes_before_what_was_measured_there(
    here: Repository, there: Callable[[Runs], Runs], capsys: pytest.CaptureFixture[str]
) -> None:
    there(Runs(training=[("Succeeded", {"TrainModel": 30.0})]))  # there is no other pipeline yet
    assert "TrainModel 1 × ml.m5.xlarge 10.0 as given 0.21" in shown(here, capsys, minutes="algorithm=9")[0]
    assert "TrainModel 1 × ml.m5.xlarge 30.0 measured: last run 0.63" in shown(here, capsys)[0]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException"])
def test_where_the_account_does_not_answer_the_table_says_so_and_goes_on(
    here: Repository, there: Callable[[Runs], Runs], capsys: pytest.CaptureFixture[str], code: str
) -> None:
    there(Runs(training=[], inference=[])).refusing = code
    rows, said = shown(here, capsys)
    assert "TrainModel 1 × ml.m5.xlarge 8.0 assumed 0.17" in rows
    assert "note: how long past runs in AWS took is not known: sagemaker:DescribePipeline" in said


def test_without_an_account_nothing_is_asked(
    here: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("batchloop.cloud.session.connect", lambda *_: pytest.fail("AWS was asked"))
    assert "Nothing was asked of AWS." in shown(here, capsys)[1]


def test_minutes_of_a_step_go_before_those_of_its_job(here: Repository) -> None:
    found = {job.what: job.minutes for job in estimate(here, minutes="processing=4 PrepareFeatures=0.5").lines}
    assert (found["PrepareTrainingData"], found["PrepareFeatures"]) == (5, 1.5)
