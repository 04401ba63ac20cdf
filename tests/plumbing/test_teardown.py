"""Tearing down: what is named goes, and nothing else, however often it is begun. Its limits: tests/deployed.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from batchloop.cloud.deploy import deploy, teardown
from batchloop.container.job import InputError
from batchloop.repository import Repository
from plumbing import deployed
from plumbing.deployed import ACCOUNT, BUCKET, DEPLOYED, NAME, REGION, STORAGE, Account

PIPELINES = [f"{NAME}-inference", f"{NAME}-training"]


@pytest.fixture(scope="module")
def everywhere() -> Account:
    return Account()


@pytest.fixture
def account(everywhere: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with mock_aws():
        deployed.in_use(everywhere, monkeypatch)
        yield everywhere


@pytest.fixture
def there(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    """It was deployed, and so was prod's half: its parameters."""
    repository = deployed.repository(tmp_path, monkeypatch)
    deploy_all(repository, account)
    capsys.readouterr()
    return repository


def deploy_all(repository: Repository, account: Account) -> None:
    deployed.bootstrapped(repository, account)
    deploy(repository, True)
    account.past("ssm").put_parameter(Name="/team/case/prod/release", Value="{}", Type="String")
    account.wire.calls.clear()


def failure(repository: Repository, name: str = NAME) -> str:
    with pytest.raises(InputError) as raised:
        teardown(repository, name)
    return str(raised.value)


def left(account: Account) -> dict[str, Any]:
    """What a teardown takes away, as far as it is there."""
    return {name: found for name, found in account.exist().items() if name in ("stacks", "pipelines")} | {
        "parameters": {name for name in account.parameters() if name.startswith("/team/case/dev/")}
    }


NOTHING: dict[str, Any] = {"stacks": {STORAGE: "CREATE_COMPLETE"}, "pipelines": [], "parameters": set()}


def test_what_goes_and_what_stays_is_said_and_is_true(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = account.objects()
    assert teardown(there, NAME) == 0
    said = set(deployed.lines(capsys.readouterr().out))
    assert left(account) == NOTHING
    assert account.objects() == objects
    groups = account.past("sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"]
    assert [its["ModelPackageGroupName"] for its in groups] == [NAME]
    repositories = account.past("ecr").describe_repositories()["repositories"]
    assert len(repositories) == 2
    assert account.parameters() == {"/team/case/prod/release"}
    stack = f"stack {NAME} with its functions, rules, alarms, roles and logs"
    for name in (stack, f"pipeline {NAME}-training", "parameter /team/case/dev/release"):
        assert {f"deletes: {name}", f"deleted: {name}"} <= said
    assert f"keeps: the stack {STORAGE}, which costs nothing and which the next deployment finds, and in it" in said
    assert f"keeps: the bucket {BUCKET} with data, artifacts, predictions and functions" in said
    assert f"keeps: the model package group {NAME} and its models" in said
    assert "keeps: the image repository team/case/algorithm and its images" in said


def test_a_second_time_there_is_nothing_to_do(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    teardown(there, NAME)
    account.wire.calls.clear()
    assert teardown(there) == 0
    assert f"{NAME} has nothing to delete." in capsys.readouterr().out
    assert not account.writes


@pytest.mark.parametrize("name", ["", "dev", "team-case-prod", f"{NAME} "])
def test_another_name_deletes_nothing(there: Repository, account: Account, name: str) -> None:
    before = account.exist(), account.parameters()
    assert failure(there, name) == f"nothing was deleted; `make teardown ENV=dev NAME={NAME}` does it."
    assert (account.exist(), account.parameters()) == before
    assert not account.writes


def test_the_name_can_be_typed(there: Repository, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _prompt: "yes")
    failure(there, "")
    assert not account.writes
    monkeypatch.setattr("builtins.input", lambda _prompt: NAME)
    assert teardown(there) == 0
    assert left(account) == NOTHING


def test_what_is_not_ours_stays_and_is_named(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:pipeline/{NAME}-training"
    account.past("sagemaker").delete_tags(ResourceArn=arn, TagKeys=["usecase"])
    account.cloudformation.stack(NAME)["Tags"] = [{"Key": "namespace", "Value": "other"}]
    release = {"ResourceType": "Parameter", "ResourceId": "/team/case/dev/release"}
    account.past("ssm").remove_tags_from_resource(**release, TagKeys=["namespace"])
    assert teardown(there, NAME) == 0
    said = capsys.readouterr().out
    assert said.count("not ours, and stays: ") == 3
    assert left(account) == {
        "stacks": DEPLOYED,
        "pipelines": [f"{NAME}-training"],
        "parameters": {"/team/case/dev/release"},
    }


def test_a_run_under_way_keeps_everything(there: Repository, account: Account) -> None:
    account.refuse("DeletePipeline", "ConflictException")
    before = left(account)
    assert f"A run of {NAME}-training is under way: wait for it or stop it" in failure(there)
    assert left(account) == before


def test_a_stack_that_can_not_be_deleted_says_what_stands_against_it_and_is_tried_again(
    there: Repository, account: Account
) -> None:
    account.cloudformation.failing = {"DeadLetters": "the queue is in use"}
    told = failure(there)
    assert told.startswith("DeadLetters (AWS::SQS::Queue) failed: the queue is in use\n")
    assert (
        f"{NAME} is DELETE_FAILED: it could not be deleted whole; mend the cause, and `make teardown ENV=dev`" in told
    )
    assert left(account)["parameters"]
    account.cloudformation.failing = {}
    assert teardown(there, NAME) == 0
    assert left(account) == NOTHING


def test_half_a_stack_goes_too(there: Repository, account: Account) -> None:
    for status in ("ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS", "CREATE_FAILED"):
        account.cloudformation.stack(NAME)["StackStatus"] = status
        assert teardown(there, NAME) == 0
        assert left(account) == NOTHING
        deploy_again(there, account)


def deploy_again(repository: Repository, account: Account) -> None:
    deployed.bootstrapped(repository, account)
    deploy(repository, True)


def test_what_was_torn_down_can_be_deployed_again_with_its_data(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.past("s3").put_object(Bucket=BUCKET, Key="team/case/data/1/train/rows.csv")
    teardown(there, NAME)
    deploy_again(there, account)
    assert account.stacks() == DEPLOYED
    assert "team/case/data/1/train/rows.csv" in account.objects()
    assert f"{STORAGE}: unchanged" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["broken", "lost"])
def test_whatever_call_fails_a_second_run_finishes(
    tmp_path: Path, everywhere: Account, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A call fails without having been carried out (broken), or is carried out and its answer is lost."""
    monkeypatch.setattr("batchloop.cloud.deploy.check", lambda _target: None)
    repository = deployed.repository(tmp_path, monkeypatch)
    number = 1
    failing = 0
    while failing < number:
        with mock_aws():
            deployed.in_use(everywhere, monkeypatch)
            deploy_all(repository, everywhere)
            if number == 1:  # count first
                everywhere.fail(-1, kind)
                teardown(repository, NAME)
                number = len(everywhere.wire.calls)
                continue
            everywhere.fail(failing, kind)
            failure(repository)
            everywhere.fail(-1, kind)
            everywhere.cloudformation.time_passes()
            teardown(repository, NAME)
            assert left(everywhere) == NOTHING, failing
        failing += 1
    assert number > 25
