"""Deploying: shown before it is done, done only where it is wanted, done once. Its limits: tests/deployed.py."""

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from batchloop import environment as environments
from batchloop.cloud import deploy, preflight, run, stack
from batchloop.cloud import stack as sent
from batchloop.cloud.deploy import deploy as deploy_deploy
from batchloop.container import usecase
from batchloop.container.job import InputError
from batchloop.pipelines import definitions
from batchloop.repository import Repository
from plumbing import deployed
from plumbing.cloudformation import forget_group, known, parsed
from plumbing.deployed import ACCOUNT, BUCKET, DEPLOYED, NAME, REGION, STORAGE, TAGS, Account
from plumbing.rendered import ROOT
from plumbing.stack.template import FUNCTIONS, KEY, OPTIONS, Stack
from plumbing.stack.template import template as written

FINDINGS = preflight.findings  # which no other test here asks for
KEY_OF_CODE = re.compile(r"team/case/dev/functions/[0-9a-f]{64}\.zip")
NOTHING: dict[str, Any] = {
    "stacks": {},
    "resources": [],
    "change sets": [],
    "pipelines": [],
    "buckets": [],
    "objects": [],
}


@pytest.fixture(scope="module")
def everywhere() -> Account:
    return Account()


@pytest.fixture
def account(everywhere: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with mock_aws():
        deployed.in_use(everywhere, monkeypatch)
        yield everywhere


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    return deployed.repository(tmp_path, monkeypatch)


@pytest.fixture
def ready(repository: Repository, account: Account, capsys: pytest.CaptureFixture[str]) -> Repository:
    """`make bootstrap CREATE=yes` and `make push` were done."""
    deployed.bootstrapped(repository, account)
    capsys.readouterr()
    return repository


@pytest.fixture
def there(ready: Repository, account: Account, capsys: pytest.CaptureFixture[str]) -> Repository:
    """It was deployed once."""
    assert deploy_deploy(ready, True) == 0
    account.wire.calls.clear()
    capsys.readouterr()
    return ready


def failure(repository: Repository, confirmed: bool = True) -> str:
    with pytest.raises(InputError) as raised:
        deploy_deploy(repository, confirmed)
    return str(raised.value)


def terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """A person who types this at every question."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _prompt: answer)


# ---- nothing unless it is wanted


@pytest.mark.parametrize("answer", [None, "", "y", "no", "yes please"])
def test_without_a_yes_everything_is_shown_and_nothing_is_left_behind(
    ready: Repository,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
) -> None:
    if answer is not None:
        terminal(monkeypatch, answer)
    told = failure(ready, confirmed=False)
    assert told == "none of this was carried out; `make deploy ENV=dev CONFIRM=yes` does it."
    said = capsys.readouterr().out
    for name in ("Bucket +AWS::S3::Bucket", "Models +AWS::SageMaker::ModelPackageGroup"):
        assert re.search(f"add +{name}", said)
    assert account.exist() == NOTHING
    assert account.writes == ["CreateChangeSet", "DeleteChangeSet", "DeleteStack"]


def test_a_typed_yes_is_one(ready: Repository, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch, "yes")
    assert deploy_deploy(ready, False) == 0
    assert account.stacks() == DEPLOYED


def test_an_end_of_input_is_no_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _prompt: (_ for _ in ()).throw(EOFError))
    assert deploy.typed("?") == ""


def test_what_is_made_after_the_storage_is_shown_before_it_is_made(
    ready: Repository, account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["yes", "no"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _prompt: next(answers))
    failure(ready, confirmed=False)
    said = capsys.readouterr().out
    for name in ("DeadLetters +AWS::SQS::Queue", "Dashboard +AWS::CloudWatch::Dashboard"):  # on two pages of the answer
        assert re.search(f"add +{name}", said)
    assert account.stacks() == {STORAGE: "CREATE_COMPLETE"}
    assert account.pipelines() == {}


def test_an_update_that_is_not_wanted_uploads_and_writes_nothing(there: Repository, account: Account) -> None:
    (there.root / "batchloop" / "control" / "notices.py").write_text("# other code\n")
    deployed.pushed(account, "2")
    before = account.exist()
    failure(there, confirmed=False)
    assert account.exist() == before
    assert set(account.writes) == {"CreateChangeSet", "DeleteChangeSet"}


# ---- what is there afterwards


def test_a_first_deployment_makes_the_storage_and_then_everything_else(
    ready: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy_deploy(ready, True) == 0
    exist = account.exist()
    assert exist["stacks"] == DEPLOYED
    assert exist["resources"][0] == ["Bucket", "BucketPolicy", "Models"]
    assert set(FUNCTIONS.values()) < set(exist["resources"][1])
    assert exist["pipelines"] == [f"{NAME}-inference", f"{NAME}-training"]
    assert exist["change sets"] == []
    code, template, *empty = exist["objects"]
    assert KEY_OF_CODE.fullmatch(code)
    assert re.fullmatch(r"team/case/dev/stack/[0-9a-f]{64}\.yaml", template)
    assert empty == ["team/case/none/earlier.manifest", "team/case/none/manifest.json"]
    order = [call for call in account.writes if call != "DeleteChangeSet"]
    storage = ["CreateChangeSet", "ExecuteChangeSet", "UpdateTerminationProtection"]
    stack = ["PutObject", "CreateChangeSet", *["PutObject"] * 3, "ExecuteChangeSet"]
    assert order == [*storage, *stack, "CreatePipeline", "CreatePipeline"]
    said = capsys.readouterr().out
    for line in (
        f"{NAME}: created",
        f"{STORAGE}: created",
        "CREATE_COMPLETE               Bucket",
        "release: none yet",
        "about a coffee",
    ):
        assert line in said
    assert f"make run PIPELINE=training ENV=dev WINDOW={ready.window()}" in said
    for made in account.cloudformation.stacks.values():
        assert {tag["Key"]: tag["Value"] for tag in made["Tags"]} == TAGS | {"managed-by": "cookiecutter-template"}


def test_pipelines_take_the_images_that_were_pushed_and_say_their_commit(there: Repository, account: Account) -> None:
    training = account.pipelines()[f"{NAME}-training"]
    defaults = {entry["Name"]: entry["DefaultValue"] for entry in training["Parameters"]}
    assert defaults == {"ProcessingImage": "r/processing@sha256:1", "GitCommit": "uncommitted", "Trials": 0}
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:pipeline/{NAME}-training"
    tags = {tag["Key"]: tag["Value"] for tag in account.past("sagemaker").list_tags(ResourceArn=arn)["Tags"]}
    assert tags["git_commit"] == "uncommitted"
    assert tags.items() >= TAGS.items()


def test_a_fresh_clone_without_docker_deploys_what_the_parameter_store_names(
    there: Repository,
    account: Account,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing that git ignores is needed, nor docker."""
    away, tools = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("tools")
    (there.local / "images-dev.json").write_text('{"processing": "r/processing@sha256:0"}')
    (there.root / "components").mkdir()
    for file in (".gitignore", "components/Dockerfile"):
        shutil.copy(ROOT / file, there.root / file)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "all"], ["clone", "-q", ".", str(away / "c")]):
        subprocess.run(["git", *words], cwd=there.root, check=True)
    (tools / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr("batchloop.cloud.preflight.findings", FINDINGS)
    clone = Repository(away / "c")
    assert not clone.local.exists()
    assert deploy_deploy(clone, False) == 0
    said = capsys.readouterr().out
    assert "dev is as this repository says; nothing was changed." in said
    deployed.pushed(account, "2")
    assert deploy_deploy(clone, True) == 0
    for definition in account.pipelines().values():
        assert definition["Parameters"][0]["DefaultValue"] == "r/processing@sha256:2"


def test_a_second_deployment_changes_nothing_needs_no_yes_and_says_so(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    before = account.exist()
    assert deploy_deploy(there, False) == 0
    assert account.exist() == before
    assert set(account.writes) == {"CreateChangeSet", "DeleteChangeSet"}
    assert "dev is as this repository says; nothing was changed." in capsys.readouterr().out


def test_another_commit_alone_changes_nothing(
    there: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchloop.pipelines.definitions.git_commit", lambda _repository: "0" * 40)
    assert deploy_deploy(there, False) == 0
    assert "UpdatePipeline" not in account.writes


def test_other_code_or_images_change_what_they_are_in_and_nothing_else(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    (there.root / "batchloop" / "control" / "notices.py").write_text("# other code\n")
    assert deploy_deploy(there, True) == 0
    assert len([key for key in account.objects() if KEY_OF_CODE.fullmatch(key)]) == 2
    assert account.writes.count("PutObject") == account.writes.count("ExecuteChangeSet") == 1
    said = capsys.readouterr().out
    assert re.search(r"change +StartInference +AWS::Lambda::Function +no", said)
    assert f"{NAME}-training: unchanged" in said
    account.wire.calls.clear()
    deployed.pushed(account, "2")
    assert deploy_deploy(there, True) == 0
    assert "ExecuteChangeSet" not in account.writes
    assert account.writes.count("UpdatePipeline") == 2


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("batchloop/control/names.py", "\nimport os", "\n# other code\nimport os"),
        ("usecase.toml", "[split]", "[retraining]\nbudget = 1\n[split]"),
        ("infra/stack.yaml", "RetentionInDays: 365", "RetentionInDays: 30"),
        ("infra/stack.yaml", "The pipelines' role", "The role of both pipelines"),  # which changes no resource
        ("environments/dev.toml", "hours_between_runs = 26", "hours_between_runs = 30"),  # nor does this, yet
    ],
)
def test_pipelines_alone_are_not_written_where_what_works_with_them_is_of_another_state(
    there: Repository, account: Account, file: str, old: str, new: str
) -> None:
    (there.local / "images-dev.json").write_text('{"processing": "r/processing@sha256:2"}')
    text = (there.root / file).read_text(encoding="utf-8")
    assert old in text
    (there.root / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match="`make deploy ENV=dev` brings stack and pipelines together"):
        run.upsert(there)
    assert not account.writes
    assert deploy_deploy(there, True) == 0
    account.wire.calls.clear()
    assert run.upsert(there) == 0
    assert not account.writes


def test_cloudformation_works_with_the_role_that_is_given_and_nobody_deletes_by_mistake(
    ready: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    role, seen = f"arn:aws:iam::{ACCOUNT}:role/cloudformation", []
    original = type(account.cloudformation).do_create_change_set

    def noted(self: Any, request: Any) -> Any:
        seen.append(request.get("RoleARN"))
        return original(self, request)

    monkeypatch.setattr(type(account.cloudformation), "do_create_change_set", noted)
    deployed.environment(ready.root, deployment_role=f'"{role}"')
    deploy_deploy(ready, True)
    assert set(seen) == {role}
    assert protected(account) == {STORAGE: True, NAME: False}
    deployed.environment(ready.root, deployment_role='""', approval='"PendingManualApproval"')
    deploy_deploy(ready, True)
    assert seen[-1] is None
    assert protected(account) == {STORAGE: True, NAME: True}
    with pytest.raises(ClientError, match="TerminationProtection is enabled"):
        account.cloudformation.delete_stack(StackName=NAME)
    assert deploy.teardown(ready, NAME) == 0
    assert account.stacks() == {STORAGE: "CREATE_COMPLETE"}


def protected(account: Account) -> dict[str, bool]:
    return {its["StackName"]: its["EnableTerminationProtection"] for its in account.cloudformation.alive()}


def test_pipelines_alone_are_written_where_nothing_else_changed(there: Repository, account: Account) -> None:
    deployed.pushed(account, "2")
    assert run.upsert(there) == 0
    assert account.writes.count("UpdatePipeline") == 2


def test_what_somebody_deleted_comes_back(there: Repository, account: Account) -> None:
    account.past("s3").delete_object(Bucket=BUCKET, Key="team/case/none/manifest.json")
    account.past("sagemaker").delete_pipeline(PipelineName=f"{NAME}-training")
    failure(there, confirmed=False)
    assert deploy_deploy(there, True) == 0
    assert "team/case/none/manifest.json" in account.objects()
    assert f"{NAME}-training" in account.pipelines()


def test_the_release_and_a_mail_to_confirm_are_told(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.environment(there.root, notice_email='"people@example.org"', schedule='"cron(0 6 * * ? *)"')
    account.past("ssm").put_parameter(Name="/team/case/dev/release", Value='{"version": 7}', Overwrite=True)
    assert deploy_deploy(there, True) == 0
    said = capsys.readouterr().out
    assert "release: `make releases ENV=dev` shows it" in said
    assert "the newest pipeline is not known: comparing the release with the pipeline of dev is not possible: " in said
    assert "confirm the mail that people@example.org got" in said
    assert "schedule: cron(0 6 * * ? *)" in said
    assert "PIPELINE=training" not in said


def test_the_pipelines_name_the_key_that_the_stack_has_made(
    there: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a first deployment too, in which it is made after the pipelines were compiled."""

    def compiled(here: Repository, short: str) -> dict[str, Any]:
        return {**deployed.DEFINITION, "Metadata": short, "Steps": [definitions.read(here)[1].key]}

    monkeypatch.setattr(definitions, "definition", compiled)
    deployed.environment(there.root, create_key="true")
    assert deploy_deploy(there, True) == 0
    made = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{KEY.rpartition('/')[2]}"
    assert {str(its["Steps"]) for its in account.pipelines().values()} == {str([made])}
    account.wire.calls.clear()
    assert run.upsert(there) == 0
    assert not account.writes
    deployed.environment(there.root, create_key="false")
    assert deploy_deploy(there, True) == 0
    assert {str(its["Steps"]) for its in account.pipelines().values()} == {"[None]"}


# ---- what would be lost


def test_whatever_would_be_replaced_or_deleted_is_called_out(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.environment(there.root, notice_email='"people@example.org"', create_key="true")
    key = {"kms_key": f'"{KEY}"'}
    assert deploy_deploy(there, True) == 0
    assert "ATTENTION" not in capsys.readouterr().out
    deployed.environment(there.root, notice_email='""', create_key="false", **key)
    assert deploy_deploy(there, True) == 0
    said = [line for line in deployed.lines(capsys.readouterr().out) if line.startswith("ATTENTION")]
    assert said == [
        "ATTENTION: Key (AWS::KMS::Key) leaves the stack, and is kept",
        "ATTENTION: TopicEmail (AWS::SNS::Subscription) is deleted",
    ]


@pytest.mark.parametrize(
    ("replacement", "policy", "column", "loss"),
    [
        ("True", "", "yes", "is replaced: a new one is made, and this one deleted"),
        ("True", "ReplaceAndRetain", "yes", "is replaced: a new one is made, and this one is kept"),
        ("Conditional", "ReplaceAndDelete", "perhaps", "is perhaps replaced: a new one is made, and this one deleted"),
        ("False", "", "no", ""),
    ],
)
def test_a_replacement_is_said_with_what_becomes_of_the_old_one(
    replacement: str, policy: str, column: str, loss: str
) -> None:
    about = {"LogicalResourceId": "Queue", "ResourceType": "AWS::SQS::Queue", "Replacement": replacement}
    policies = {"PolicyAction": policy} if policy else {}
    _, row, *said = stack.table([{"Action": "Modify", **about, **policies}])
    assert row.split() == ["change", "Queue", "AWS::SQS::Queue", column]
    assert said == ([f"  ATTENTION: Queue (AWS::SQS::Queue) {loss}"] if loss else [])


def test_another_bucket_is_refused_because_its_content_would_not_come_along(
    there: Repository, account: Account
) -> None:
    deployed.environment(there.root, bucket='"another-name"')
    assert f"has the bucket {BUCKET}, and environments/dev.toml names another-name" in failure(there)
    assert not account.writes


# ---- failures of the stack


def test_a_stack_that_can_not_be_made_says_what_failed_first_and_what_to_do(
    ready: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.cloudformation.failing = {"Topic": "the account has too many topics"}
    for _ in range(2):  # a second time it is still so
        told = failure(ready)
        assert told.startswith("Topic (AWS::SNS::Topic) failed: the account has too many topics\n")
        assert "ROLLBACK_COMPLETE: it could not be made; mend the cause" in told
        assert f"`aws cloudformation delete-stack --stack-name {NAME} --region {REGION}`" in told
    assert "Topic: the account has too many topics" in capsys.readouterr().out
    assert account.exist()["pipelines"] == []


def test_what_was_only_cancelled_is_never_the_reason(ready: Repository, account: Account) -> None:
    account.cloudformation.failing = {"Topic": "the account has too many topics"}
    failure(ready)
    events = account.cloudformation.stack(NAME)["events"]
    begun = next(place for place, event in enumerate(events) if event["ResourceStatus"] == "CREATE_IN_PROGRESS")
    why = {"ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": "Resource creation Cancelled"}
    events.insert(begun + 1, {**events[begun + 1], **why})
    assert failure(ready).startswith("Topic (AWS::SNS::Topic) failed: the account has too many topics\n")


def test_a_first_creation_that_fails_leaves_nothing_that_stands_against_the_next(
    ready: Repository, account: Account
) -> None:
    account.cloudformation.failing = {"Models": "the account has too many groups"}
    assert f"aws cloudformation delete-stack --stack-name {STORAGE}" in failure(ready)
    assert account.exist()["buckets"] == []
    account.cloudformation.failing = {}
    for name in (STORAGE, NAME):
        account.cloudformation.failing = {} if name == STORAGE else {"Topic": "the account has too many topics"}
        if name == NAME:
            failure(ready)
        account.cloudformation.failing = {}
        account.cloudformation.delete_stack(StackName=name)
        account.cloudformation.time_passes()
    assert deploy_deploy(ready, True) == 0
    assert account.stacks() == DEPLOYED


@pytest.mark.parametrize("key", [[], ["Key"]])
@pytest.mark.parametrize("kept", [["Bucket", "Models"], ["Bucket"], ["Models"]])
def test_what_a_deleted_storage_has_kept_is_taken_over_by_the_next(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str], kept: list[str], key: list[str]
) -> None:
    deployed.environment(there.root, create_key="true" if key else "false")
    account.cloudformation.update_termination_protection(StackName=STORAGE, EnableTerminationProtection=False)
    for name in (NAME, STORAGE):
        account.cloudformation.delete_stack(StackName=name)
        account.cloudformation.time_passes()
    if "Models" not in kept:
        forget_group(NAME)
    if "Bucket" not in kept:
        for name in account.objects():
            account.past("s3").delete_object(Bucket=BUCKET, Key=name)
        account.past("s3").delete_bucket(Bucket=BUCKET)
    before = account.objects() if "Bucket" in kept else set()
    assert deploy_deploy(there, True) == 0
    said = capsys.readouterr().out
    taken = set(re.findall(r"take over +(\w+) +AWS::", said))
    assert taken == set(kept)
    assert account.stacks() == {STORAGE: "UPDATE_COMPLETE", NAME: "CREATE_COMPLETE"}
    assert account.exist()["resources"][0] == ["Bucket", "BucketPolicy", *key, "Models"]
    assert before <= account.objects()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ResourcesToImport": []}, "cannot modify or add resources"),
        ({"identifier": {"ModelPackageGroupName": NAME}}, "is identified by"),
        ({"outputs": {"Name": {"Value": "x", "Description": "An output"}}}, "cannot modify or add"),
        ({"policy": None}, "is missing DeletionPolicy"),
        (
            {"tags": {"Fn::If": ["Never", {"Fn::GetAtt": ["Key", "Arn"]}, []]}},
            "Unresolved resource dependencies ['Key']",
        ),
    ],
)
def test_the_stand_in_refuses_the_imports_that_cloudformation_refuses(
    account: Account, changed: dict[str, Any], why: str
) -> None:
    group = account.past("sagemaker").create_model_package_group(ModelPackageGroupName=NAME)
    identity = changed.get("identifier", {"ModelPackageGroupArn": group["ModelPackageGroupArn"]})
    kind = "AWS::SageMaker::ModelPackageGroup"
    models: Any = {"Type": kind, "DeletionPolicy": "Retain", "Properties": {"ModelPackageGroupName": NAME}}
    if "policy" in changed:
        del models["DeletionPolicy"]
    models["Properties"]["Tags"] = changed.get("tags", [])
    body = {"Parameters": {}, "Conditions": {}, "Resources": {"Models": models}, "Outputs": changed.get("outputs", {})}
    wanted = [{"LogicalResourceId": "Models", "ResourceType": kind, "ResourceIdentifier": identity}]
    request = {"StackName": STORAGE, "ChangeSetName": "deploy", "ChangeSetType": "IMPORT", "Tags": [], "Parameters": []}
    request |= {"Capabilities": ["CAPABILITY_NAMED_IAM"], "TemplateBody": json.dumps(body)}
    with pytest.raises(ClientError, match=re.escape(why)):
        account.cloudformation.create_change_set(**request, ResourcesToImport=changed.get("ResourcesToImport", wanted))


@pytest.mark.parametrize("name", [{"Ref": "Name"}, BUCKET])
def test_the_stand_in_takes_over_by_itself_only_what_has_a_static_name(account: Account, name: Any) -> None:
    place = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    account.past("s3").create_bucket(Bucket=BUCKET, **place)
    bucket = {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "Properties": {"BucketName": name, "Tags": []}}
    body = {"Parameters": {"Name": {"Type": "String"}}, "Conditions": {}, "Resources": {"Bucket": bucket}}
    request: dict[str, Any] = {"StackName": STORAGE, "ChangeSetName": "deploy", "ChangeSetType": "CREATE", "Tags": []}
    request |= {"Parameters": [{"ParameterKey": "Name", "ParameterValue": BUCKET}], "ImportExistingResources": True}
    request |= {"Capabilities": ["CAPABILITY_NAMED_IAM"], "TemplateBody": json.dumps(body)}
    account.cloudformation.create_change_set(**request)
    account.cloudformation.execute_change_set(StackName=STORAGE, ChangeSetName="deploy")
    account.cloudformation.time_passes()
    account.cloudformation.time_passes()
    done = "IMPORT_COMPLETE" if name == BUCKET else "ROLLBACK_COMPLETE"
    assert account.stacks() == {STORAGE: done}


def test_an_update_that_fails_leaves_what_was_there_and_can_be_tried_again(there: Repository, account: Account) -> None:
    (there.root / "batchloop" / "control" / "notices.py").write_text("# other code\n")
    account.cloudformation.failing = {"AfterInference": "the code is too large"}
    told = failure(there)
    assert told.startswith("AfterInference (AWS::Lambda::Function) failed: the code is too large\n")
    assert "UPDATE_ROLLBACK_COMPLETE: it could not be changed and works as it did before" in told
    account.cloudformation.failing = {}
    assert deploy_deploy(there, True) == 0
    assert account.stacks() == DEPLOYED | {NAME: "UPDATE_COMPLETE"}


@pytest.mark.parametrize("status", [*sorted(set(stack.TO_DO) - set(stack.READY)), "SOMETHING_NEW"])
def test_a_state_that_can_not_be_deployed_to_is_a_sentence(there: Repository, account: Account, status: str) -> None:
    account.cloudformation.stack(NAME)["StackStatus"] = status
    told = failure(there).splitlines()[-1]
    assert told.startswith(f"the stack {NAME} is {status}: it ")
    assert "{" not in told
    assert "console" in told if status == "SOMETHING_NEW" else ("aws " in told or "make teardown ENV=dev" in told)
    assert not account.writes


def test_a_stack_that_somebody_works_on_is_waited_for(
    there: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = account.cloudformation.stack(NAME)
    stack["StackStatus"] = "UPDATE_IN_PROGRESS"

    def done() -> None:
        stack["StackStatus"] = "UPDATE_COMPLETE"

    stack["ahead"] = [lambda: None, lambda: None, done]
    assert deploy_deploy(there, False) == 0
    assert f"{NAME} is UPDATE_IN_PROGRESS: waiting for it" in capsys.readouterr().out


def test_a_change_set_that_can_not_be_made_says_why(
    there: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"Status": "FAILED", "StatusReason": "No export named X found.", "Changes": []}
    monkeypatch.setattr(type(account.cloudformation), "do_describe_change_set", lambda _self, _request: answer)
    assert failure(there) == f"CloudFormation can't change {STORAGE}: No export named X found."
    assert account.exist()["change sets"] == []


def test_an_update_that_is_none_is_known_in_the_older_words_too(
    there: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"Status": "FAILED", "StatusReason": "No updates are to be performed.", "Changes": []}
    monkeypatch.setattr(type(account.cloudformation), "do_describe_change_set", lambda _self, _request: answer)
    assert deploy_deploy(there, False) == 0


# ---- not ours, not ready, not signed in


def test_somebody_elses_stack_bucket_or_models_are_not_touched(ready: Repository, account: Account) -> None:
    account.past("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    assert failure(ready).startswith(f"the bucket {BUCKET}: it is there but has no tag namespace")
    account.past("s3").delete_bucket(Bucket=BUCKET)
    account.past("sagemaker").create_model_package_group(
        ModelPackageGroupName=NAME, Tags=[{"Key": "namespace", "Value": "other"}]
    )
    assert failure(ready).startswith(f"the model package group {NAME}: it is there but has the tag namespace=other")
    account.refuse("HeadBucket", "403", 403)
    assert "belongs to another account, or you may not look at it" in failure(ready)
    assert not account.writes


def test_a_stack_without_our_tags_is_not_touched(there: Repository, account: Account) -> None:
    account.cloudformation.stack(NAME)["Tags"] = [{"Key": "namespace", "Value": "team"}]
    assert failure(there).startswith(f"the stack {NAME}: it is there but has no tag usecase")
    assert not account.writes


def test_a_key_that_the_left_bucket_is_encrypted_with_has_to_be_named(ready: Repository, account: Account) -> None:
    s3 = account.past("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": [{"Key": key, "Value": TAGS[key]} for key in TAGS]})
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}}
    s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    deployed.environment(ready.root, create_key="true")
    assert f'write kms_key = "{KEY}" into environments/dev.toml' in failure(ready)
    deployed.environment(ready.root, kms_key=f'"{KEY}"')
    assert deploy_deploy(ready, True) == 0


def test_what_is_scheduled_where_a_person_approves_has_to_name_who_is_told(ready: Repository, account: Account) -> None:
    scheduled = {"schedule": '"cron(0 6 * * ? *)"', "approval": '"PendingManualApproval"'}
    deployed.environment(ready.root, **scheduled)
    assert "names nobody who is told when one fails" in failure(ready)
    assert not account.writes
    deployed.environment(ready.root, notice_email='"people@example.org"')
    assert deploy_deploy(ready, True) == 0


def test_what_bootstrap_and_push_make_has_to_be_there(
    repository: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    told = failure(repository)
    assert told.startswith("10 of 10 image repositories and parameters are not there yet:\n  team/case/processing\n")
    assert "`make bootstrap CREATE=yes ENV=dev` makes them; then `make push ENV=dev`" in told
    deployed.bootstrapped(repository, account)
    account.past("ssm").remove_tags_from_resource(
        ResourceType="Parameter", ResourceId="/team/case/dev/release", TagKeys=["usecase"]
    )
    assert failure(repository).startswith("/team/case/dev/release: it is there but has no tag usecase")
    account.past("ssm").delete_parameter(Name="/team/case/dev/release")
    assert failure(repository).startswith("1 of 10")
    deployed.bootstrapped(repository, account)
    account.past("ssm").put_parameter(Name="/team/case/dev/components/algorithm/image", Value="none", Overwrite=True)
    assert failure(repository) == "dev has no image of algorithm yet; run `make push ENV=dev` first."
    assert account.exist() == NOTHING


def test_the_account_has_to_be_named_and_the_one_of_the_credentials(ready: Repository, account: Account) -> None:
    deployed.environment(ready.root, account='"111111111111"')
    assert f"names account 111111111111, your credentials are of {ACCOUNT}" in failure(ready)
    deployed.environment(ready.root, account='"000000000000"')
    assert "write the number of your AWS account into environments/dev.toml first" in failure(ready)
    assert set(account.wire.calls) == {"GetCallerIdentity"}


def test_who_may_not_execute_is_told_so_and_nothing_is_left_behind(ready: Repository, account: Account) -> None:
    account.refuse("ExecuteChangeSet", "AccessDenied", 403)
    assert failure(ready) == "cloudformation:ExecuteChangeSet was denied: because"
    assert account.exist() == NOTHING


def test_a_change_set_that_can_not_be_taken_away_is_said_and_taken_away_next_time(
    ready: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.refuse("DeleteChangeSet", "AccessDenied", 403)
    failure(ready, confirmed=False)
    assert "the change set deploy of team-case-dev-storage could not be deleted" in capsys.readouterr().out
    assert account.exist()["stacks"] == {STORAGE: stack.REVIEW}
    account.fail(-1, "denied")
    failure(ready, confirmed=False)
    assert account.exist() == NOTHING


def test_a_stack_that_somebody_else_prepares_is_left_to_them(
    ready: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(account.cloudformation).do_create_change_set

    def both(self: Any, given: Any) -> Any:
        made = original(self, given)
        if given["ChangeSetName"] == "deploy":
            sets = self.stack(STORAGE)["change sets"]
            sets["theirs"] = {**sets["deploy"], "arn": "x"}
        return made

    monkeypatch.setattr(type(account.cloudformation), "do_create_change_set", both)
    failure(ready, confirmed=False)
    assert account.exist()["change sets"] == ["theirs"]
    assert account.stacks() == {STORAGE: stack.REVIEW}


# ---- failures on the way


def test_credentials_that_expire_while_waiting_are_said_and_the_next_run_goes_on(
    ready: Repository, account: Account
) -> None:
    act: Any = deployed.FAULTS["expired"]
    account.wire.answers = lambda _, __: act if "ExecuteChangeSet" in account.wire.calls[:-1] else None
    told = failure(ready)
    assert told.startswith("your AWS credentials have expired; sign in again. CloudFormation goes on with team-case")
    account.fail(-1, "expired")
    account.cloudformation.time_passes()
    assert deploy_deploy(ready, True) == 0
    assert account.stacks() == DEPLOYED


def test_whoever_stops_waiting_is_told_that_it_goes_on(
    ready: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_stack: object, _identity: str) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("batchloop.cloud.stack.Stack.news", interrupted)
    told = (
        "stopped waiting. CloudFormation goes on with team-case-dev-storage meanwhile, and the same command from there."
    )
    assert failure(ready) == told


def test_whoever_stops_before_that_leaves_nothing_behind(
    ready: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deploy_deploy(ready, False)
    assert account.exist() == NOTHING


def test_waiting_ends(ready: Repository, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchloop.cloud.stack.LONGEST", -1)
    assert "nobody waits any longer. CloudFormation goes on with team-case-dev" in failure(ready)


@pytest.mark.parametrize("kind", ["broken", "lost"])
def test_whatever_call_fails_a_second_run_finishes(
    repository: Repository, everywhere: Account, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What bootstrap made is not looked at here: its own tests let each of those calls fail."""
    monkeypatch.setattr("batchloop.cloud.deploy.check", lambda _target: None)

    def begun() -> None:
        deployed.in_use(everywhere, monkeypatch)
        deployed.bootstrapped(repository, everywhere)

    with mock_aws():
        begun()
        deploy_deploy(repository, True)
        number, wanted = len(everywhere.wire.calls), everywhere.exist()
    assert number > 40
    silent = 0
    for failing in range(number):
        with mock_aws():
            begun()
            everywhere.fail(failing, kind)
            try:
                deploy_deploy(repository, True)
                silent += 1  # taking a change set away may fail, and is then said
            except InputError:
                pass
            everywhere.fail(-1, kind)
            everywhere.cloudformation.time_passes()
            deploy_deploy(repository, True)
            assert everywhere.exist() == wanted, failing
    assert silent <= 1


# ---- the package and the template


def test_the_same_content_is_the_same_package_wherever_and_whenever_it_is_made(
    repository: Repository, tmp_path: Path
) -> None:
    first = sent.package(repository.root)
    copied = tmp_path / "elsewhere"
    (copied / "batchloop" / "control" / "__pycache__").mkdir(parents=True)
    (copied / "batchloop" / "control" / "__pycache__" / "x.pyc").write_bytes(b"x")
    code = repository.root / "batchloop"
    for file in [code / "__init__.py", *(code / "control").glob("*.py"), repository.root / "usecase.toml"]:
        place = copied / file.relative_to(repository.root)
        place.write_bytes(file.read_bytes())
        place.chmod(0o600)
    assert sent.package(copied) == first
    with zipfile.ZipFile(BytesIO(first)) as archive:
        names = archive.namelist()
        assert {"usecase.toml", "batchloop/control/handlers.py", "batchloop/__init__.py"} <= set(names)
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("usecase.toml") == (repository.root / "usecase.toml").read_bytes()
    (copied / "usecase.toml").write_text("# other\n")
    assert sent.package(copied) != first


def test_the_package_is_what_the_handlers_are_imported_from(repository: Repository, tmp_path: Path) -> None:
    """As in Lambda: the folder of the zip on the path, usecase.toml beside the package."""
    with zipfile.ZipFile(BytesIO(sent.package(repository.root))) as archive:
        archive.extractall(tmp_path / "task")
    source = (tmp_path / "task" / "batchloop" / "control" / "names.py").resolve()
    assert (source.parents[2] / "usecase.toml").is_file()


@pytest.mark.parametrize("name", ["stack", "storage"])
def test_a_template_is_sent_without_comments_and_says_the_same(name: str) -> None:
    body = sent.template(ROOT, f"{name}.yaml")
    assert parsed(body) == written(name)
    assert not [line for line in body.splitlines() if line.lstrip().startswith("#")]


def test_a_template_that_no_request_holds_is_deployed_too(ready: Repository, account: Account) -> None:
    file = ready.root / "infra" / "stack.yaml"
    more = f'  Long: {{Description: "A long one", Value: "{"x" * 51_200}"}}\n'
    file.write_text(file.read_text() + more)
    assert deploy_deploy(ready, True) == 0
    assert account.stacks() == DEPLOYED


def test_a_resource_is_left_out_with_all_its_lines_and_nothing_else() -> None:
    body = parsed(sent.template(ROOT, "stack.yaml", ["Budget", "Build"]))
    whole = written()
    left = {name: entry for name, entry in whole["Resources"].items() if name not in ("Budget", "Build")}
    assert body == {**whole, "Resources": left}


def test_a_region_without_budgets_gets_a_template_without_one(
    ready: Repository, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A condition would not help: CloudFormation reads every type of a template before it decides any."""
    lacking = {**environments.places()["regions"][REGION], "without": ["Budget"]}
    monkeypatch.setitem(environments.places()["regions"], REGION, lacking)
    monkeypatch.setattr("plumbing.cloudformation.known", lambda _, kind: known("eu-north-1", kind))
    assert not known("eu-north-1", "AWS::Budgets::Budget")
    assert deploy_deploy(ready, True) == 0
    monkeypatch.setitem(lacking, "without", [])
    assert "Unrecognized resource types: ['AWS::Budgets::Budget']" in failure(ready)


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
@pytest.mark.parametrize("full", [False, True])
def test_every_parameter_of_the_template_has_a_value_that_it_takes(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, name: str, full: bool
) -> None:
    if full:
        build = {"connection": f'"{CONNECTION}"', "repository": '"https://github.com/a/b"'}
        mail = {"notice_email": '"a@b.org"', "monthly_budget": "12.5", "kms_key": f'"{KEY}"'}
        limits = {
            "permissions_boundary": f'"{OPTIONS["PermissionsBoundaryArn"]}"',
            "subnets": '["subnet-0123abcd", "subnet-1123abcd"]',
        }
        deployed.environment(repository.root, **build, **mail, **limits, security_groups='["sg-0123abcd"]')
    case = usecase.load(repository.root / "usecase.toml")
    found = environments.load(repository.root / "environments", name, case)
    for file, least in (("storage", 3), ("stack", 20 if full and name == "dev" else 18)):
        values = sent.parameters(repository, found, sent.template(ROOT, f"{file}.yaml"), FunctionsKey="0.zip")
        declared = written(file)["Parameters"]
        assert set(values) == set(declared)
        for key, entry in declared.items():
            assert re.fullmatch(entry.get("AllowedPattern", ".*"), values[key]), key
            assert values[key] in entry.get("AllowedValues", [values[key]]), key
        assert len(Stack(written(file), **values).resources) >= least


CONNECTION = "arn:aws:codeconnections:eu-central-1:123456789012:connection/11111111-2222-3333-4444-555555555555"
WRONG = [
    ("schedule", '"daily"', "schedule = 'daily' is not one like \"cron(0 6 * * ? *)\""),
    ("kms_key", '"alias/mine"', "kms_key = 'alias/mine' is not the ARN of a key"),
    ("create_key", '"yes"', "create_key = 'yes' is not true or false"),
    ("permissions_boundary", '"Boundary"', "permissions_boundary = 'Boundary' is not the ARN of a policy"),
    ("hours_between_runs", "200", "hours_between_runs = 200 is not a whole number from 0 to 168"),
    ("notice_email", '"me"', "notice_email = 'me' is not a mail address"),
    ("monthly_budget", "-1", "monthly_budget = -1 is not a number from 0 up"),
    ("connection", '"arn:aws:codestar-connections:x"', "a connection, like arn:aws:codeconnections:eu-central-1:"),
    ("provider", '"SVN"', "[build] provider = 'SVN' is not one of GITHUB"),
    ("branch", '"a b"', "[build] branch = 'a b' is not a branch's name"),
    ("connection", f'"{CONNECTION}"', "a connection needs the repository's https:// address"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), WRONG)
def test_what_the_stack_would_refuse_is_refused_before(
    repository: Repository, key: str, value: str, sentence: str
) -> None:
    deployed.environment(repository.root, **{key: value})
    with pytest.raises(InputError, match=re.escape(sentence)):
        environments.load(repository.root / "environments", "dev", usecase.load(repository.root / "usecase.toml"))
    assert sentence in failure(repository)


def test_a_build_without_all_it_needs_is_refused(repository: Repository) -> None:
    file = repository.root / "environments" / "dev.toml"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("branch")))
    assert "[build] needs branch: a branch's name" in failure(repository)
