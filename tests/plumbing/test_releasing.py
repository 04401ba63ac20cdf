"""Release, history, rollback and promotion. moto stands where AWS would; between it and us, each call fails once."""

import fnmatch
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from moto import mock_aws
from moto.core.responses import ActionResult
from moto.ecr.responses import ECRResponse

from batchloop.cloud import images, session
from batchloop.cloud import release as cloud_release
from batchloop.container.job import InputError
from batchloop.control import release, storage
from batchloop.control.names import Aws
from batchloop.control.storage import LIMIT
from batchloop.repository import Repository
from plumbing import (
    pipeline_versions,  # noqa: F401 - moto has none
    test_bootstrap,
    unreliable_services,
)
from plumbing.control_plane import ACCOUNT, COMPONENTS, KEYS, NOW, REGION, World
from plumbing.control_plane import session as control_plane_session
from plumbing.rendered import ROOT
from plumbing.stack.template import everything
from plumbing.unreliable_services import Body, Wire, silence

ANOTHER = "222222222222"
PROD = f"team-case-prod-{ACCOUNT}-euc1"
CALLER = f"arn:aws:sts::{ACCOUNT}:user/moto"  # moto's answer for keys that it did not give out
MINE = (KEYS["aws_access_key_id"], KEYS["aws_secret_access_key"], None)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/team-case-dev-execution"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def refusal(request: Any, event_name: str) -> AWSResponse:
    """An error as AWS words it: S3 in XML too, the others as bootstrap has them."""
    if ".s3." not in event_name:
        return unreliable_services.refusal(400, "AccessDeniedException", request, event_name)
    text = b"<Error><Code>AccessDenied</Code><Message>because</Message></Error>"
    return AWSResponse(request.url, 403, {}, Body(b"" if request.method == "HEAD" else text))


WIRES = [Wire()]  # the last one is the test's


@cache
def signed_in(access: str, secret: str, token: str | None) -> Any:
    """A session that shares what has been read of the services, because that takes longer than all the rest."""
    core = botocore.session.Session()
    core.register_component("data_loader", control_plane_session()._session.get_component("data_loader"))
    keys = {"aws_access_key_id": access, "aws_secret_access_key": secret, "aws_session_token": token}
    return boto3.Session(botocore_session=core, region_name=REGION, **keys)


@cache
def wired(access: str, secret: str, token: str | None, attempts: int) -> Callable[[str], Any]:
    """Clients with the test's wire between them and moto."""
    mine = signed_in.__wrapped__(access, secret, token)
    mine.events.register_first("before-send", lambda **given: WIRES[-1].before_send(**given))  # noqa: PLW0108
    mine.events.register("after-call", lambda **given: WIRES[-1].after_call(**given))  # noqa: PLW0108
    config = Config(retries={"mode": "standard", "total_max_attempts": attempts})
    return cache(lambda service: mine.client(service, config=config))


class Here:
    """A repository with the environments dev, staging and prod, what stands for AWS, and our wire to it."""

    def __init__(self, root: Path) -> None:
        self.world = World()
        self.repository = Repository(root)
        WIRES.append(Wire())
        self.wire = WIRES[-1]
        self.profiles: list[str] = []
        self.keys: dict[str, tuple[str, str, str | None]] = {"": MINE}
        self.attempts = 1
        self.past = self.world.aws
        self.models = control_plane_session().client("sagemaker")
        self.deploy("dev", "{}")

    def connect(self, region: str, profile: str) -> Callable[[str], Any]:
        assert region == REGION
        self.profiles.append(profile)
        return wired(*self.keys[profile], self.attempts)

    def another(self, environment: str, account: str = ACCOUNT) -> Aws:
        """Its bucket and parameters; clients past the wire."""
        keys = MINE
        if account != ACCOUNT:
            role = {"RoleArn": f"arn:aws:iam::{account}:role/people", "RoleSessionName": "ada"}
            given = control_plane_session().client("sts").assume_role(**role)["Credentials"]
            keys = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
        clients = {name: signed_in(*keys).client(name) for name in ("ecr", "s3", "ssm")}
        where = {"LocationConstraint": REGION}
        clients["s3"].create_bucket(Bucket=f"team-case-{environment}-{account}-euc1", CreateBucketConfiguration=where)
        for name in test_bootstrap.parameters(environment):
            clients["ssm"].put_parameter(Name=name, Value="none", Type="String")
        self.keys[environment] = keys
        set_account(self.repository.root, environment, account)
        return Aws(cloudwatch=None, sns=None, sagemaker=None, **clients)

    def register(self, version: int, status: str = "Approved", **metadata: str) -> str:
        """A model package as the training pipeline registers it, also in moto's registry; its ARN."""
        arn = self.world.register(version, **metadata)
        package = self.world.sagemaker.packages[arn]
        if not self.models.list_model_package_groups()["ModelPackageGroupSummaryList"]:
            self.models.create_model_package_group(ModelPackageGroupName="team-case-dev")
        made = self.models.create_model_package(
            ModelPackageGroupName="team-case-dev",
            ModelApprovalStatus=status,
            CustomerMetadataProperties=package["CustomerMetadataProperties"],
            ModelMetrics=package["ModelMetrics"],
        )
        assert made["ModelPackageArn"] == arn
        return arn

    def deploy(self, environment: str, *definitions: str) -> None:
        """Its inference pipeline, with these versions after those that it has."""
        given = {"PipelineName": f"team-case-{environment}-inference", "RoleArn": ROLE}
        for definition in definitions:
            known = {its["PipelineName"] for its in self.models.list_pipelines()["PipelineSummaries"]}
            write = self.models.update_pipeline if given["PipelineName"] in known else self.models.create_pipeline
            token = {} if given["PipelineName"] in known else {"ClientRequestToken": "0" * 32}
            write(**given, **token, PipelineDefinition=definition)

    def state(self) -> dict[str, tuple[str, int]]:
        """Every parameter's value and version."""
        pages = self.past.ssm.get_paginator("get_parameters_by_path").paginate(Path="/team", Recursive=True)
        return {one["Name"]: (one["Value"], one["Version"]) for page in pages for one in page["Parameters"]}

    def texts(self, name: str) -> list[str]:
        """All that a parameter has held, the oldest first."""
        return [one["Value"] for one in self.past.ssm.get_parameter_history(Name=name)["Parameters"]]

    def released(self, environment: str = "dev", aws: Aws | None = None) -> dict[str, Any]:
        name = f"/team/case/{environment}/release"
        return dict(json.loads((aws or self.past).ssm.get_parameter(Name=name)["Parameter"]["Value"]))

    def write(self, text: str, environment: str = "dev") -> None:
        self.past.ssm.put_parameter(Name=f"/team/case/{environment}/release", Value=text, Overwrite=True)

    def rollback(self, *arguments: Any) -> int:
        return cloud_release.rollback(self.repository, *arguments)

    def promote(self, target: str = "prod", source: str = "dev", **options: str) -> int:
        return cloud_release.promote(self.repository, source, target, **options)

    def release(self, *arguments: Any, **options: Any) -> int:
        return cloud_release.release(self.repository, *arguments, **options)


def set_account(root: Path, environment: str, account: str) -> None:
    file = root / "environments" / f"{environment}.toml"
    text = re.sub(r'(?m)^account = "\d+"', f'account = "{account}"', file.read_text(encoding="utf-8"))
    file.write_text(re.sub(r'(?m)^region = ".*?"', f'region = "{REGION}"', text), encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files of this repository, under the names that the control plane is tried with."""
    text = (ROOT / "usecase.toml").read_text(encoding="utf-8")
    for key, value in (("name", "case"), ("namespace", "team")):
        text = re.sub(rf'(?m)^{key} = ".*?"', f'{key} = "{value}"', text, count=1)
    (tmp_path / "usecase.toml").write_text(text, encoding="utf-8")
    (tmp_path / "environments").mkdir()
    for name in ("dev", "staging", "prod"):
        source = ROOT / "environments" / f"{name}.toml"
        (tmp_path / "environments" / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        set_account(tmp_path, name, ACCOUNT)
    return tmp_path


@pytest.fixture
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """With nothing released."""
    with mock_aws():
        made = Here(root)
        monkeypatch.setattr(session, "connect", made.connect)
        yield made


@pytest.fixture
def live(here: Here) -> Here:
    """With three releases, of models 1 to 3."""
    for version in (1, 2, 3):
        here.world.publish(version, f"2026-11-2{version}T10:00:00Z")
    return here


def failure(act: Callable[[], int]) -> str:
    """What a refused command says; it never ends its last line with anything but a sentence or a command."""
    with pytest.raises(InputError) as raised:
        act()
    said = str(raised.value)
    assert "Traceback" not in said
    assert not re.search(r"\.\.|  \.|\.\)\.$", said)
    return said


def without_occasion(manifest: dict[str, Any]) -> dict[str, Any]:
    return release.identity(manifest)


# release


def test_the_newest_approved_model_becomes_the_release(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    for version, status in ((1, "Approved"), (2, "Approved"), (3, "PendingManualApproval")):
        here.register(version, status)
    assert here.release() == 0
    manifest = here.released()
    assert manifest["model_package"].endswith("/2")
    assert (manifest["version"], manifest["by"], manifest["reason"]) == (1, CALLER, "model 2 released by hand")
    assert here.world.value("components/algorithm/artifact") == manifest["artifacts"]["model"]
    said = capsys.readouterr().out
    assert said.startswith("release 1 of dev: model 2 released by hand (by moto)\n")
    assert "model          nothing → team-case-dev/2\n" in said


def test_by_hand_and_by_event_the_same_is_released(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    arn = here.register(1)
    here.release()
    by_hand, before = here.released(), here.state()
    said = release.package_changed(here.world.approval(arn), here.world.aws, here.world.places, NOW)
    assert said == f"{arn} is release 1."
    assert here.state() == before
    here.write("none")
    release.package_changed(here.world.approval(arn), here.world.aws, here.world.places, NOW)
    assert without_occasion(here.released()) == without_occasion(by_hand)
    capsys.readouterr()
    before = here.state()
    assert here.release() == 0
    assert "is that already; nothing was written" in capsys.readouterr().out
    assert here.state() == before


def test_a_version_can_be_named_also_one_that_was_released_before(here: Here) -> None:
    for version in (1, 2):
        here.register(version)
        here.release()
    assert here.release(1, reason="the second one is slow") == 0
    assert here.released()["model_package"].endswith("/1")
    assert (here.released()["version"], here.released()["reason"]) == (3, "the second one is slow")


@pytest.mark.parametrize("status", ["PendingManualApproval", "Rejected"])
@pytest.mark.parametrize("model", [None, 1])
def test_a_model_that_is_not_approved_is_refused_with_how_to_approve_it(
    here: Here, status: str, model: int | None
) -> None:
    here.register(1, status)
    said = failure(lambda: here.release(model))
    assert f"version 1 of team-case-dev is not approved ({status})" in said
    assert "`make release ENV=dev MODEL=1 APPROVE=yes`" in said
    assert here.world.value("release") == "none"


def test_an_approval_leaves_the_release_to_its_event(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    arn = here.register(1, "PendingManualApproval")
    assert here.release(1, approve=True, reason="good on the hard cases") == 0
    assert "version 1 of team-case-dev is approved" in capsys.readouterr().out
    assert here.world.value("release") == "none"
    found = here.models.describe_model_package(ModelPackageName=arn)
    assert (found["ModelApprovalStatus"], found["ApprovalDescription"]) == ("Approved", "good on the hard cases")


def test_an_approved_version_needs_no_approval_and_is_released(here: Here) -> None:
    here.register(1)
    assert here.release(1, approve=True) == 0
    assert here.released()["version"] == 1
    assert "UpdateModelPackage" not in here.wire.calls


def test_which_model_can_t_be_released_is_said(here: Here) -> None:
    here.models.create_model_package_group(ModelPackageGroupName="team-case-dev")
    assert failure(here.release) == "team-case-dev has no model yet; the training pipeline registers one."
    here.register(1)
    here.register(2, "Rejected")
    assert failure(lambda: here.release(7)) == "team-case-dev has no version 7; there are 1, 2."
    assert failure(lambda: here.release(approve=True)) == "APPROVE=yes approves one version; name it with MODEL=."


def test_a_model_that_the_pipeline_did_not_register_is_refused(here: Here) -> None:
    arn = here.register(1)
    about = {"ModelApprovalStatus": "Approved", "CustomerMetadataProperties": {"name": "value"}}
    here.models.update_model_package(ModelPackageArn=arn, **about)
    assert failure(here.release).startswith(
        "releasing model 1 of dev is not possible: its metadata has no preprocessor"
    )
    assert here.world.value("release") == "none"


# history


def table(here: Here, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert cloud_release.show(here.repository) == 0
    return capsys.readouterr().out.splitlines()


def test_the_history_shows_the_newest_release_first(live: Here, capsys: pytest.CaptureFixture[str]) -> None:
    live.rollback(1, "[red]too many alarms[/red]")
    heading, *rows = table(live, capsys)
    assert re.split(r"\s{2,}", heading.strip())[:3] == ["release", "when (UTC)", "model"]
    assert [row.split()[0] for row in rows] == ["→", "3", "2", "1"]
    assert rows[0].rstrip().endswith("0123456  moto        [red]too many alarms[/red]")
    cells = "3 2026-11-23 10:00 team-case-dev/3 auc 0.8433 0123456 people/ada looks good"
    assert rows[1].split() == cells.split()


def test_the_metric_that_the_gate_judged_stands_first() -> None:
    metrics = {"validation:f1": 0.1, "test:accuracy": 0.9, "test:auc": 0.8, "test:f1": 0.8, "gate:value": 0.8}
    assert cloud_release.measured(metrics, "f1") == ["f1 0.8", "auc 0.8", "accuracy 0.9"]
    assert cloud_release.measured(metrics, "accuracy") == ["auc 0.8", "f1 0.8", "accuracy 0.9"]
    assert cloud_release.measured({"test:accuracy": 0.9, "test:auc": 0.8}, "auc") == ["auc 0.8", "accuracy 0.9"]
    assert cloud_release.measured({}, "auc") == []


def test_a_release_whose_validation_repeats_training_is_not_to_be_trusted() -> None:
    metrics = {"test:auc": 0.9, "test:f1": 0.8, "gate:value": 0.9}
    said = "auc 0.9 (validation repeats training: not to be trusted on new rows)"
    assert cloud_release.measured({**metrics, "gate:trusted": 0.0}, "auc") == [said, "f1 0.8"]
    assert cloud_release.measured(metrics, "auc") == ["auc 0.9", "f1 0.8"]


def test_without_releases_the_history_says_how_to_make_one(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    assert table(here, capsys) == ["dev has no release yet; `make release ENV=dev` makes the newest approved model it."]
    here.past.ssm.delete_parameter(Name="/team/case/dev/release")
    said = failure(lambda: cloud_release.show(here.repository))
    assert said == "there is no parameter /team/case/dev/release; `make bootstrap CREATE=yes ENV=dev` makes it."


def test_what_was_taken_back_at_once_is_no_release(live: Here, capsys: pytest.CaptureFixture[str]) -> None:
    """Two who write at the same time: the later one puts the other's back (batchloop.control.storage)."""
    third = live.released()
    live.write(json.dumps(third | {"reason": "taken back"}))
    live.write(json.dumps(third))
    rows = table(live, capsys)[1:]
    assert [row.split()[0] for row in rows] == ["→", "2", "1"]
    assert "taken back" not in "".join(rows)


# rollback


def test_a_rollback_writes_the_release_before_as_a_new_one(live: Here, capsys: pytest.CaptureFixture[str]) -> None:
    second = release.history(live.past, live.world.places)[1]
    live.wire.calls.clear()
    assert live.rollback() == 0
    manifest = live.released()
    assert without_occasion(manifest) == without_occasion(second)
    assert (manifest["version"], manifest["by"], manifest["reason"]) == (4, CALLER, "rollback to 2")
    assert manifest["created"] > second["created"]
    assert live.world.value("components/monitoring/artifact") == second["artifacts"]["baseline"]
    written = [name for name in live.wire.calls if name.startswith("Put")]
    assert written == ["PutImage"] * len(COMPONENTS) + ["PutParameter"] * (1 + len(COMPONENTS))
    said = capsys.readouterr().out
    assert said.startswith("release 4 of dev: rollback to 2 (by moto)\n")
    assert "  release        3 → 4\n  model          team-case-dev/3 → team-case-dev/2\n" in said
    assert said.endswith("  artifacts      preprocessor, model, baseline, explainer\n")


def test_two_rollbacks_go_two_steps_back_and_no_further_than_the_first(live: Here) -> None:
    live.rollback()
    live.rollback()
    assert (live.released()["version"], live.released()["reason"]) == (5, "rollback to 1")
    said = "dev has nothing before what is released now; there are 1, 2, 3, 4, 5, and TO= names one of them."
    assert failure(live.rollback) == said


def test_a_release_can_be_named_and_a_reason_given(live: Here, capsys: pytest.CaptureFixture[str]) -> None:
    assert live.rollback(1, "too many alarms") == 0
    assert (live.released()["model_package"][-2:], live.released()["reason"]) == ("/1", "too many alarms")
    before = live.state()
    capsys.readouterr()
    assert live.rollback(1) == 0
    assert "release 4 of dev is that already; nothing was written" in capsys.readouterr().out
    assert live.state() == before


def test_a_release_that_never_was_is_refused(live: Here) -> None:
    assert failure(lambda: live.rollback(7)) == "dev has no release 7; there are 1, 2, 3."


def test_before_the_first_release_there_is_nothing_to_go_back_to(here: Here) -> None:
    assert "there are none" in failure(here.rollback)
    assert failure(lambda: here.rollback(1)) == "dev has no release 1; there are none."


def test_a_rollback_to_an_image_that_is_gone_is_refused(live: Here) -> None:
    before = live.state()
    for component, image in live.world.images.items():
        repository, digest = f"team/case/{component}", DIGEST.findall(image)[0]
        [kept] = live.past.ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "abc"}])["images"]
        live.past.ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])
        said = f"it can't be released: {image} does not exist. The release stays what it is."
        assert failure(live.rollback) == said
        live.past.ecr.put_image(repositoryName=repository, imageManifest=kept["imageManifest"], imageTag="abc")
    assert live.state() == before
    assert live.rollback() == 0


def test_a_rollback_to_an_artifact_that_is_gone_is_refused(live: Here) -> None:
    before = live.state()
    for uri in release.history(live.past, live.world.places)[1]["artifacts"].values():
        bucket, key = storage.split(uri)
        kept = files(live.past, bucket, key)
        for name in kept:
            live.past.s3.delete_object(Bucket=bucket, Key=name)
        where = uri if uri.endswith(".gz") else f"{uri}manifest.json"
        assert f"it can't be released: {where} does not exist." in failure(live.rollback)
        for name, body in kept.items():
            live.past.s3.put_object(Bucket=bucket, Key=name, Body=body, ChecksumAlgorithm="SHA256")
    assert live.state() == before
    assert live.rollback() == 0


@pytest.mark.parametrize("text", ["", "damaged", "[]", '{"schema": 2, "version": 9}', "none"])
def test_a_rollback_mends_a_damaged_release_and_numbers_go_on(
    live: Here, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    live.write(text or " ")
    damaged = ["the release of dev is damaged: the release's manifest is none of schema 1; `make rollback` brings"]
    assert [row[: len(damaged[0])] for row in table(live, capsys)[:1]] == damaged or text == "none"
    assert live.rollback() == 0
    assert (live.released()["version"], live.released()["model_package"][-2:]) == (4, "/3")
    assert live.rollback(2) == 0
    assert live.released()["version"] == 5


def test_a_manifest_that_no_parameter_holds_is_refused(live: Here) -> None:
    before = live.state()
    said = failure(lambda: live.rollback(1, "x" * LIMIT))
    assert f"a parameter takes {LIMIT:,}" in said
    assert "REASON" in said
    assert live.state() == before


def test_who_writes_at_the_same_time_is_left_alone(live: Here) -> None:
    theirs = json.dumps(live.released() | {"version": 4, "reason": "theirs"})

    def meanwhile(**_: object) -> None:
        live.wire.answers = lambda number, call: None
        live.write(theirs)

    live.wire.answers = lambda _, call: meanwhile if call == "PutParameter" else None
    said = "somebody else wrote /team/case/dev/release at the same time, and theirs stays; "
    assert failure(live.rollback) == f"{said}`make releases ENV=dev` shows what is released."
    assert live.world.value("release") == theirs


def test_our_own_write_is_no_stranger_s_when_its_answer_was_lost(live: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    live.attempts = 3

    def swallow(request: Any, **given: Any) -> AWSResponse | None:
        """Carried out, and the answer lost: boto3 sends it again."""
        live.wire.answers = lambda number, call: None
        live.write(json.loads(request.body)["Value"])
        return silence(request)

    live.wire.answers = lambda _, call: swallow if call == "PutParameter" else None
    assert live.rollback() == 0
    assert (live.released()["version"], live.released()["reason"]) == (4, "rollback to 2")


# promotion


@pytest.fixture
def prod(live: Here) -> Here:
    """With an environment to promote to, in the same account."""
    live.another("prod")
    return live


def files(aws: Aws, bucket: str, prefix: str = "") -> dict[str, bytes]:
    keys = [entry["Key"] for entry in aws.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]
    return {key: aws.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def readable(uri: str) -> bool:
    """Whether prod's execution role may read it, by the stack's own policy."""
    statements = everything(Environment="prod", BucketName=PROD).statements("ExecutionRole")
    [granted] = [one["Resource"] for one in statements if one["Sid"] == "ReadDataAndArtifacts"]
    return any(fnmatch.fnmatchcase(uri.replace("s3://", "arn:aws:s3:::"), resource) for resource in granted)


def test_a_promotion_brings_artifacts_and_then_the_release(prod: Here, capsys: pytest.CaptureFixture[str]) -> None:
    explainer = f"{prod.world.places.runs('training')}/000000000004/LearnExplainer/explainer"
    prod.world.put(f"{explainer}/parts/attributions.parquet", b"PAR1")
    prod.world.put(f"{explainer}-older/manifest.json", b"not this one")
    prod.world.put(f"{explainer}/parts/", b"")
    prod.world.publish(4, "2026-11-24T10:00:00Z")
    dev = prod.released()
    assert prod.promote() == 0
    manifest, place = prod.released("prod"), "team/case/prod/releases/team-case-dev-4"
    assert manifest["artifacts"] == {
        "preprocessor": f"s3://{PROD}/{place}/preprocessor/",
        "model": f"s3://{PROD}/{place}/model/model.tar.gz",
        "baseline": f"s3://{PROD}/{place}/baseline/",
        "explainer": f"s3://{PROD}/{place}/explainer/",
    }
    copied = files(prod.past, PROD)
    assert copied.pop(f"{place}/files.json")
    assert copied == {
        f"{place}/preprocessor/manifest.json": b"x",
        f"{place}/model/model.tar.gz": b"x",
        f"{place}/baseline/manifest.json": b"x",
        f"{place}/explainer/manifest.json": b"x",
        f"{place}/explainer/parts/attributions.parquet": b"PAR1",
    }
    assert all(readable(f"{uri}/x") for uri in manifest["artifacts"].values())
    assert (manifest["version"], manifest["by"], manifest["reason"]) == (1, CALLER, "promoted from dev release 4")
    same = {name for name in manifest if manifest[name] == dev.get(name)}
    shared = {
        "schema",
        "images",
        "metrics",
        "model_package",
        "training_data",
        "earlier_windows",
        "git_commit",
        "contract",
    }
    assert same == shared
    assert prod.state()["/team/case/prod/components/algorithm/artifact"][0] == manifest["artifacts"]["model"]
    said = capsys.readouterr().out
    assert said.startswith(f"the artifacts are in s3://{PROD}/{place}/\nrelease 1 of prod: promoted from dev release 4")


def test_promoting_the_same_again_changes_nothing(prod: Here, capsys: pytest.CaptureFixture[str]) -> None:
    prod.promote(reason="quarterly")
    assert prod.released("prod")["reason"] == "quarterly"
    before = prod.state()
    capsys.readouterr()
    prod.wire.calls.clear()
    assert prod.promote() == 0
    assert capsys.readouterr().out.endswith("\nrelease 1 of prod is that already; nothing was written.\n")
    assert prod.state() == before
    assert not [call for call in prod.wire.calls if call.startswith(("Put", "Copy", "Upload", "Create"))]


def test_a_promoted_release_can_be_rolled_back_and_promoted_once_more(prod: Here) -> None:
    prod.promote()
    prod.rollback(2)
    prod.promote()
    assert prod.released("prod")["model_package"].endswith("/2")
    assert cloud_release.rollback(replace(prod.repository, environment="prod")) == 0
    assert (prod.released("prod")["version"], prod.released("prod")["model_package"][-2:]) == (3, "/3")


def test_by_way_of_a_third_environment_artifacts_come_to_the_same_place(prod: Here) -> None:
    prod.another("staging")
    prod.promote("staging")
    prod.promote("prod", "staging")
    roundabout = prod.released("prod")
    assert roundabout["reason"] == "promoted from staging release 1"
    before = prod.state()
    prod.promote("prod", "dev")
    assert prod.state() == before
    assert "/prod/releases/team-case-dev-3/" in roundabout["artifacts"]["model"]


def test_what_another_model_left_there_is_not_replaced(prod: Here) -> None:
    """As when a group was deleted and its numbers begin anew."""
    prod.promote()
    prod.write("none", "prod")
    place = f"s3://{PROD}/team/case/prod/releases/team-case-dev-3/"
    text = json.loads(files(prod.past, PROD)["team/case/prod/releases/team-case-dev-3/files.json"])
    prod.world.put(f"{place}files.json", json.dumps(text | {"origin": "another"}).encode())
    assert f"{place} holds another model's artifacts; remove that folder" in failure(prod.promote)
    assert prod.state()["/team/case/prod/release"][0] == "none"


def test_a_release_runs_under_the_pipeline_that_is_deployed_where_it_is_released(prod: Here) -> None:
    prod.deploy("prod", "{}", "{ }")
    prod.promote()
    assert prod.released("prod")["pipeline_version"] == 2
    prod.deploy("prod", "{  }")
    prod.promote()
    assert (prod.released("prod")["version"], prod.released("prod")["pipeline_version"]) == (2, 3)
    cloud_release.rollback(replace(prod.repository, environment="prod"))
    assert (prod.released("prod")["version"], prod.released("prod")["pipeline_version"]) == (3, 2)
    prod.models.delete_pipeline(PipelineName="team-case-prod-inference")
    prod.deploy("prod", "{}")
    gone = "release 2 ran under version 3 of team-case-prod-inference, whose newest is 1"
    assert gone in failure(lambda: cloud_release.rollback(replace(prod.repository, environment="prod"), 2))
    prod.models.delete_pipeline(PipelineName="team-case-prod-inference")
    prod.promote(reason="before it is deployed")
    assert prod.released("prod")["pipeline_version"] == 0


def test_an_environment_is_not_promoted_to_itself(prod: Here) -> None:
    assert failure(lambda: prod.promote("dev")) == "FROM and TO are both dev; name two environments."
    assert prod.wire.calls == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("none", "dev has no release yet; `make release ENV=dev` makes one."),
        ("damaged", "reading the release of dev is not possible: the release's manifest is none of schema 1"),
    ],
)
def test_where_the_source_has_no_release_there_is_nothing_to_promote(prod: Here, text: str, told: str) -> None:
    prod.write(text)
    assert told in failure(prod.promote)
    assert files(prod.past, PROD) == {}


def test_a_damaged_release_of_the_target_is_replaced(prod: Here) -> None:
    prod.promote()
    prod.write("damaged", "prod")
    assert prod.promote() == 0
    assert prod.released("prod")["version"] == 2


def test_what_is_gone_in_the_source_is_not_promoted(prod: Here) -> None:
    model = prod.released()["artifacts"]["model"]
    bucket, key = storage.split(model)
    prod.past.s3.delete_object(Bucket=bucket, Key=key)
    assert f"it can't be released: {model} does not exist" in failure(prod.promote)
    prod.world.put(model)
    digest = DIGEST.findall(prod.world.images["monitoring"])[0]
    prod.past.ecr.batch_delete_image(repositoryName="team/case/monitoring", imageIds=[{"imageDigest": digest}])
    assert f"{prod.world.images['monitoring']} does not exist" in failure(prod.promote)
    assert (files(prod.past, PROD), prod.state()["/team/case/prod/release"]) == ({}, ("none", 1))


def test_a_manifest_that_is_too_long_is_refused_before_anything_is_copied(prod: Here) -> None:
    assert f"a parameter takes {LIMIT:,}" in failure(lambda: prod.promote(reason="x" * LIMIT))
    assert (files(prod.past, PROD), prod.state()["/team/case/prod/release"]) == ({}, ("none", 1))


def test_a_target_that_is_not_ready_is_said_so(live: Here) -> None:
    assert "there is no parameter /team/case/prod/release; `make bootstrap CREATE=yes ENV=prod`" in failure(
        live.promote
    )
    live.another("prod")
    live.past.s3.delete_bucket(Bucket=PROD)
    said = failure(live.promote)
    assert said.startswith(f"looking for the bucket {PROD} of the stack of prod failed (404): ")
    assert said.endswith("prod was not touched but for copies; to finish: make promote FROM=dev TO=prod")
    set_account(live.repository.root, "prod", "000000000000")
    assert "write the number of your AWS account into environments/prod.toml first" in failure(live.promote)


def test_two_promotions_at_once_end_with_one_of_them(prod: Here) -> None:
    prod.promote()
    theirs = json.dumps(prod.released("prod") | {"version": 2, "reason": "theirs"})
    prod.rollback(2)

    def meanwhile(**_: object) -> None:
        prod.wire.answers = lambda number, call: None
        prod.write(theirs, "prod")

    prod.wire.answers = lambda _, call: meanwhile if call == "PutParameter" else None
    assert "somebody else wrote /team/case/prod/release at the same time, and theirs stays" in failure(prod.promote)
    assert prod.state()["/team/case/prod/release"][0] == theirs


# two accounts


@pytest.fixture
def abroad(live: Here) -> tuple[Here, Aws]:
    """prod in an account of its own, whose credentials are the ambient ones; dev's have a profile."""
    aws = live.another("prod", ANOTHER)
    live.keys = {"": live.keys["prod"], "dev": MINE}
    return live, aws


def manifest(aws: Aws, component: str, digest: str) -> str:
    asked = {"repositoryName": f"team/case/{component}", "imageIds": [{"imageDigest": digest}]}
    return str(aws.ecr.batch_get_image(**asked)["images"][0]["imageManifest"])


@pytest.fixture
def registry(abroad: tuple[Here, Aws], monkeypatch: pytest.MonkeyPatch) -> tuple[Here, Aws]:
    """With image repositories in the other account; layers are read where ECR says that they lie."""
    here, aws = abroad
    for component in COMPONENTS:
        aws.ecr.create_repository(repositoryName=f"team/case/{component}", imageTagMutability="IMMUTABLE")

    def located(asked: ECRResponse) -> ActionResult:
        """moto does not say where a layer lies."""
        return ActionResult({"downloadUrl": f"https://layers/{asked._get_param('layerDigest')}"})

    def opened(address: str, timeout: int) -> io.BytesIO:
        assert timeout
        return io.BytesIO(here.world.layers[address.rpartition("/")[2]])

    monkeypatch.setattr(ECRResponse, "get_download_url_for_layer", located)
    monkeypatch.setattr("batchloop.cloud.images.urlopen", opened)
    return abroad


def test_without_its_image_repositories_another_account_gets_nothing(abroad: tuple[Here, Aws]) -> None:
    here, aws = abroad
    said = failure(lambda: here.promote(profile="dev"))
    assert said.startswith(
        f"prod has no image repository {ANOTHER}.dkr.ecr.{REGION}.amazonaws.com/team/case/processing."
    )
    assert "`make bootstrap CREATE=yes ENV=prod` makes it" in said
    assert files(aws, f"team-case-prod-{ANOTHER}-euc1") == {}


def test_images_come_to_another_account_by_their_digests_and_are_never_built_there(
    registry: tuple[Here, Aws], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, aws = registry
    monkeypatch.setenv("PATH", "")  # no docker
    # somebody built the same sources there, which gave other bytes by the same tag
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    other = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {}, "layers": []})
    aws.ecr.put_image(repositoryName="team/case/monitoring", imageManifest=other, imageTag="abc")
    assert here.promote(profile="dev") == 0
    for component, image in here.released("prod", aws)["images"].items():
        [digest] = DIGEST.findall(image)
        assert image == here.world.images[component].replace(ACCOUNT, ANOTHER)
        assert manifest(aws, component, digest) == manifest(here.past, component, digest)
        [about] = aws.ecr.describe_images(repositoryName=f"team/case/{component}", imageIds=[{"imageDigest": digest}])[
            "imageDetails"
        ]
        tag = "abc" if component != "monitoring" else f"promoted-{digest[7:23]}"
        assert sorted(about["imageTags"]) == sorted([tag, f"released-{digest[7:23]}"])
        parts = json.loads(manifest(aws, component, digest))
        layers = [part["digest"] for part in (parts["config"], *parts["layers"])]
        known = aws.ecr.batch_check_layer_availability(repositoryName=f"team/case/{component}", layerDigests=layers)
        assert [layer["layerAvailability"] for layer in known["layers"]] == ["AVAILABLE"] * 3
    here.wire.calls.clear()
    assert here.promote(profile="dev") == 0
    assert not {"InitiateLayerUpload", "PutImage"} & set(here.wire.calls)


def test_an_environment_takes_another_s_images_before_its_first_release(
    registry: tuple[Here, Aws], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, aws = registry
    monkeypatch.setenv("PATH", "")
    made = {"dev": {"algorithm": "algorithm"}, "prod": {"algorithm": "algorithm-gpu"}}
    monkeypatch.setattr("batchloop.pipelines.definitions.locks", lambda _, place: made[place.environment])
    for component, image in here.world.images.items():
        here.past.ssm.put_parameter(Name=f"/team/case/dev/components/{component}/image", Value=image, Overwrite=True)
    assert images.push(replace(here.repository, environment="prod"), source="dev", profile="dev") == 0
    idle = "algorithm: prod gives it a GPU, which is paid for and idle: dev's image was made for other instances\n"
    assert idle in capsys.readouterr().out
    for component, image in here.world.images.items():
        found = aws.ssm.get_parameter(Name=f"/team/case/prod/components/{component}/image")["Parameter"]["Value"]
        assert found == image.replace(ACCOUNT, ANOTHER)


def test_a_layer_that_can_t_be_read_is_said_and_the_next_try_goes_on(
    registry: tuple[Here, Aws], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, aws = registry
    reading: Callable[..., io.BytesIO] = vars(images)["urlopen"]

    def broken(address: str, timeout: int) -> io.BytesIO:
        if here.wire.calls.count("CompleteLayerUpload") == 2:
            raise OSError("the line is dead")
        return reading(address, timeout)

    with monkeypatch.context() as patch:
        patch.setattr("batchloop.cloud.images.urlopen", broken)
        assert "of team/case/processing can't be read: the line is dead" in failure(lambda: here.promote(profile="dev"))
    here.wire.calls.clear()
    assert here.promote(profile="dev") == 0
    assert here.wire.calls.count("CompleteLayerUpload") == 3 * 4 - 2
    assert files(aws, f"team-case-prod-{ANOTHER}-euc1")


def test_between_two_accounts_artifacts_come_through_this_machine(registry: tuple[Here, Aws]) -> None:
    here, aws = registry
    assert here.promote(profile="dev") == 0
    manifest = here.released("prod", aws)
    assert here.profiles == ["dev", ""]
    assert manifest["by"] == f"arn:aws:sts::{ANOTHER}:assumed-role/people/ada"
    assert manifest["images"] == {name: image.replace(ACCOUNT, ANOTHER) for name, image in here.world.images.items()}
    assert manifest["model_package"].startswith(f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:")
    assert len(files(aws, f"team-case-prod-{ANOTHER}-euc1", "team/case/prod/releases/team-case-dev-3/")) == 5
    assert "CopyObject" not in here.wire.calls
    here.wire.calls.clear()
    assert here.promote(profile="dev") == 0
    assert not {"PutObject", "PutParameter"} & set(here.wire.calls)


def test_credentials_of_the_wrong_account_are_answered_with_the_profile_s_name(abroad: tuple[Here, Aws]) -> None:
    here, _ = abroad
    said = failure(here.promote)
    assert f"environments/dev.toml names account {ACCOUNT}, your credentials are of {ANOTHER}" in said
    assert said.endswith("FROM_PROFILE= names the AWS profile of dev's account.")
    here.keys[""] = MINE
    assert f"environments/prod.toml names account {ANOTHER}" in failure(lambda: here.promote(profile="dev"))


def test_a_registry_that_both_accounts_use_stays_what_it_is(abroad: tuple[Here, Aws]) -> None:
    here, _ = abroad
    giving, taking = (
        session.opened(replace(here.repository, environment=name), profile)
        for name, profile in (("dev", "dev"), ("prod", ""))
    )
    elsewhere = {"algorithm": "local/team/case/algorithm:9af0fc2fa138c315"}
    assert images.copied(giving, taking, elsewhere) == elsewhere
    digest = f"sha256:{0:064}"
    shared = {"algorithm": f"333333333333.dkr.ecr.{REGION}.amazonaws.com/team/case/algorithm@{digest}"}
    assert images.copied(giving, taking, shared) == shared


# what fails


def told_truly(here: Here, command: str, act: Callable[[], int]) -> None:
    """Whatever call fails, once: it is a sentence, the release is the old or the new one, and a re-run finishes."""
    said = failure(act)
    assert said.startswith(("sts:", "ssm:", "s3:", "ecr:")) or re.match(r"[a-z]\S+ing .+ of (dev|prod) ", said)
    if "PutParameter" in here.wire.calls:
        assert said.endswith(f"to finish: {command}")


COMMANDS: dict[str, tuple[str, Callable[[Here], int]]] = {
    "rollback": ("make rollback ENV=dev TO=2", lambda here: here.rollback(2)),
    "promotion": ("make promote FROM=dev TO=prod", lambda here: here.promote()),
}


@pytest.fixture
def two_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough where every call of a run is to fail once: one artifact is a folder, one a file."""
    monkeypatch.setattr(release, "COMPONENTS", {"processing": "preprocessor", "algorithm": "model"})


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", ["refused", "lost"])
def test_whatever_call_fails_the_release_is_the_old_or_the_new_one_and_a_second_run_finishes(
    two_components: None, prod: Here, name: str, kind: str
) -> None:
    command, act = COMMANDS[name]
    changed = "/team/case/dev/release" if name == "rollback" else "/team/case/prod/release"
    start = {name: prod.texts(name) for name in prod.state()}
    before = values(prod)
    act(prod)
    calls, after, copies = list(prod.wire.calls), values(prod), files(prod.past, PROD)
    first = next(number for number, call in enumerate(calls) if call.startswith(("Put", "Copy")))
    begin_anew(prod, start)
    for number in range(first):
        fail(prod.wire, number, kind)
        told_truly(prod, command, partial(act, prod))
        assert (values(prod), files(prod.past, PROD)) == (before, {})
    for number in range(first, len(calls)):
        begin_anew(prod, start)
        fail(prod.wire, number, kind)
        told_truly(prod, command, partial(act, prod))
        assert values(prod)[changed] in (before[changed], after[changed])
        fail(prod.wire, -1, kind)
        assert act(prod) == 0
        assert (values(prod), files(prod.past, PROD)) == (after, copies)


def values(here: Here) -> dict[str, str]:
    """Every parameter's text without the time, in which two runs that end the same differ."""
    return {name: re.sub(r'"created":"[^"]*"', "", value) for name, (value, _) in here.state().items()}


def begin_anew(here: Here, texts: dict[str, list[str]]) -> None:
    """Parameters with the versions that they had, and nothing in prod's bucket."""
    for name, versions in texts.items():
        here.past.ssm.delete_parameter(Name=name)
        for text in versions:
            here.past.ssm.put_parameter(Name=name, Value=text, Type="String", Overwrite=True)
    for key in files(here.past, PROD):
        here.past.s3.delete_object(Bucket=PROD, Key=key)


def fail(wire: Wire, number: int, kind: str) -> None:
    wire.calls.clear()
    act: Any = {"refused": refusal, "lost": wire.lose}[kind]
    wire.answers = lambda at, _: act if at == number else None


def test_a_call_that_aws_refuses_is_a_sentence_with_what_it_was_for(live: Here) -> None:
    live.wire.answers = lambda _, call: refusal if call == "GetParameter" else None
    assert failure(live.rollback) == "ssm:GetParameter was denied: because"


def test_files_that_say_nothing_sensible_are_a_sentence(live: Here) -> None:
    with pytest.raises(InputError, match="there is no environment 'test'; there are dev, prod, staging"):
        cloud_release.show(replace(live.repository, environment="test"))
    file = live.repository.root / "environments" / "dev.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("spot = true", 'spot = "yes"'), encoding="utf-8")
    assert failure(live.rollback) == "environments/dev.toml, line 14: spot = 'yes' is not true or false."


def test_credentials_are_the_ambient_ones_or_the_profile_s(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_bootstrap.alone(monkeypatch, tmp_path)
    assert (
        failure(lambda: cloud_release.promote(Repository(root), "dev", "prod")) == "there are no AWS credentials here"
    )
    said = failure(lambda: cloud_release.promote(Repository(root), "dev", "prod", "absent"))
    assert said == "signing in failed: The config profile (absent) could not be found"
    (tmp_path / "credentials").write_text("[dev]\naws_access_key_id = DEV\naws_secret_access_key = x\n")
    ambient = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_ACCESS_KEY_ID": "AMBIENT"}
    for name, value in (ambient | {"AWS_SECRET_ACCESS_KEY": "x"}).items():
        monkeypatch.setenv(name, value)
    for profile, key in (("dev", "DEV"), ("", "AMBIENT")):
        for client in map(session.connect(REGION, profile), ("sts", "s3", "ssm")):
            assert client._request_signer._credentials.access_key == key
            assert client.meta.region_name == REGION
