"""The control plane's functions: each event's handler, twice, late, at once and cut short; and the loop as a whole."""

import ast
import copy
import json
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import polars as pl
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import Stubber
from moto import mock_aws

from batchloop.container import drift_report, profile, usecase
from batchloop.control import artifacts, handlers, release, reports, retraining, storage
from batchloop.control import names as control_names
from batchloop.control.artifacts import NotReleased
from batchloop.control.decision import IDLE, RETRAINING, WAITING, Memory
from batchloop.control.names import Aws, Settings
from plumbing.control_plane import (
    ACCOUNT,
    ARN,
    BUCKET,
    COMPONENTS,
    EVALUATION,
    HEALTHY,
    NOW,
    OBJECT_CREATED,
    PACKAGE_CHANGED,
    REALISED,
    REGION,
    RUN_CHANGED,
    WINDOW,
    Event,
    World,
    refused,
)
from plumbing.rendered import ROOT


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        yield World()


@pytest.fixture
def live(world: World) -> World:
    """With a first release, whose messages are read."""
    world.publish(1)
    world.messages.clear()
    world.measured.clear()
    world.writes.clear()
    return world


# publish_release


def test_an_approved_package_becomes_the_release(world: World) -> None:
    assert world.publish(1) == f"{ARN}:model-package/team-case-dev/1 is release 1."
    manifest = world.released()
    assert manifest == {
        "schema": 1,
        "version": 1,
        "created": "2026-11-20T10:00:00+00:00",
        "by": f"arn:aws:sts::{ACCOUNT}:assumed-role/people/ada",
        "reason": "looks good",
        "model_package": f"{ARN}:model-package/team-case-dev/1",
        "images": world.images,
        "artifacts": manifest["artifacts"],
        "metrics": {"validation:auc": 0.827809, "test:auc": 0.843255, "gate:value": 0.843255, "gate:lead": 0.0},
        "earlier_windows": "",
        "training_data": f"s3://{BUCKET}/team/case/data/2026-11-01/train/",
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "contract": "37292a7f3b7932a2",
        "pipeline_version": 1,
        "files": manifest["files"],
    }
    assert len(world.value("release")) < 4096
    assert world.value("components/algorithm/artifact") == manifest["artifacts"]["model"]
    assert world.value("components/monitoring/artifact") == manifest["artifacts"]["baseline"]
    assert world.value("components/algorithm/image") == world.images["algorithm"]
    assert (world.messages, world.measured) == ([], [{"ReleaseRefused": 0}])


RELEASE_WRITTEN = {  # "Reference: Amazon EventBridge event patterns and types for Systems Manager", user guide
    "version": "0",
    "id": "9547ef2d-3b7e-4057-b6cb-5fdf09ee7c8f",
    "detail-type": "Parameter Store Change",
    "source": "aws.ssm",
    "account": ACCOUNT,
    "time": "2026-11-24T08:00:00Z",
    "region": REGION,
    "resources": [f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/team/case/dev/release"],
    "detail": {"operation": "Update", "name": "/team/case/dev/release", "type": "String", "description": ""},
}


def told(world: World) -> list[str]:
    """The notices of what an event of the parameter says, past the one function for both events."""
    world.messages.clear()
    release.changed(RELEASE_WRITTEN, world.aws, world.places, NOW)
    return [message["Subject"] for message in world.messages]


def test_whoever_writes_the_release_people_are_told_once(world: World) -> None:
    world.publish(1)
    assert world.messages == []
    assert told(world) == ["case dev: release 1: looks good"]
    assert "test:auc 0.843255" in world.messages[0]["Message"]
    assert world.measured[-1] == {"ReleaseVersion": 1}
    world.publish(2, "2026-11-21T10:00:00Z")
    oldest = release.history(world.aws, world.places)[-1]
    release.publish(world.aws, world.places, {**oldest, "by": "ada", "reason": "rollback to 1"})
    assert told(world) == ["case dev: release 3: rollback to 1"]


def test_a_damaged_release_is_told_and_other_parameters_are_not(world: World) -> None:
    assert told(world) == []
    world.aws.ssm.put_parameter(Name="/team/case/dev/release", Value="{", Overwrite=True)
    assert told(world) == ["case dev: the release is damaged"]
    other = {**RELEASE_WRITTEN, "detail": {"operation": "Update", "name": "/team/case/prod/release"}}
    assert release.changed(other, world.aws, world.places, NOW) == "This is no release here."


# the artifacts of a release, and its pipeline


def artifacts_of(world: World) -> dict[str, bytes]:
    """What lies below releases/, by key."""
    found = world.aws.s3.list_objects_v2(Bucket=BUCKET, Prefix="team/case/dev/releases/")["Contents"]
    return {entry["Key"]: world.aws.s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in found}


def test_releasing_copies_the_artifacts_and_lists_them_with_versions_and_hashes(live: World) -> None:
    place, manifest = "team/case/dev/releases/1", live.released()
    assert manifest["artifacts"] == {
        "preprocessor": f"s3://{BUCKET}/{place}/preprocessor/",
        "model": f"s3://{BUCKET}/{place}/model/model.tar.gz",
        "baseline": f"s3://{BUCKET}/{place}/baseline/",
        "explainer": f"s3://{BUCKET}/{place}/explainer/",
    }
    folders = [f"{place}/{name}/manifest.json" for name in ("preprocessor", "baseline", "explainer")]
    assert set(artifacts_of(live)) == {f"{place}/files.json", f"{place}/model/model.tar.gz", *folders}
    listed = json.loads(artifacts_of(live)[f"{place}/files.json"])["artifacts"]
    head = live.aws.s3.head_object(Bucket=BUCKET, Key=f"{place}/model/model.tar.gz", ChecksumMode="ENABLED")
    assert listed["model"] == {"model.tar.gz": {"version": head["VersionId"], "sha256": head["ChecksumSHA256"]}}
    assert head["VersionId"]
    assert head["ChecksumSHA256"]


def test_an_artifact_too_large_for_one_call_is_copied_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "LARGEST", largest := 5 * 2**20)
    arn, sizes, calls = world.register(1), dict[str, int](), list[str]()
    world.put(world.sagemaker.packages[arn]["CustomerMetadataProperties"]["model"], bytes(largest + 1))

    def called(params: dict[str, Any], model: Any, **_: Any) -> None:
        calls.append(model.name)
        if model.name == "CopyObject":  # as S3 refuses it, and moto does not
            source = params["CopySource"]
            sizes[source["Key"]] = world.aws.s3.head_object(**source)["ContentLength"]
            assert sizes[source["Key"]] <= largest

    world.aws.s3.meta.events.register("provide-client-params.s3", called)
    assert release.package_changed(world.approval(arn), world.aws, world.places, NOW).endswith("is release 1.")
    assert calls.count("UploadPartCopy") == 2
    assert len(sizes) == 3
    key = "team/case/dev/releases/1/model/model.tar.gz"
    head = world.aws.s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert head["ContentLength"] == largest + 1
    assert (
        head["ChecksumSHA256"]
        == json.loads(artifacts_of(world)["team/case/dev/releases/1/files.json"])["artifacts"]["model"]["model.tar.gz"][
            "sha256"
        ]
    )


def test_what_a_run_writes_over_its_artifacts_changes_no_release(live: World) -> None:
    arn = f"{ARN}:model-package/team-case-dev/1"
    source = live.sagemaker.packages[arn]["CustomerMetadataProperties"]["model"]
    before = artifacts_of(live)
    live.put(source, b"another model")
    assert handlers.score({"window": live.start() and WINDOW}, live.aws, live.places, NOW).startswith("Window")
    said = release.package_changed(live.approval(arn), live.aws, live.places, NOW)
    assert "another model's artifacts; remove that folder" in said
    assert (artifacts_of(live), live.released()["version"]) == (before, 1)


@pytest.mark.parametrize("change", ["replaced", "deleted", "added", "listing"])
def test_nothing_starts_with_an_artifact_that_is_not_what_was_released(live: World, change: str) -> None:
    place = f"s3://{BUCKET}/team/case/dev/releases/1"
    if change == "deleted":
        live.aws.s3.delete_object(Bucket=BUCKET, Key="team/case/dev/releases/1/baseline/manifest.json")
    else:
        names = {"replaced": "model/model.tar.gz", "added": "baseline/more.json", "listing": "files.json"}
        live.put(f"{place}/{names[change]}", b"{}")
    live.messages.clear()
    said = handlers.score({"window": WINDOW}, live.aws, live.places, NOW)
    assert said.startswith("release 1 is not what was released: ")
    wanted = {
        "replaced": f"{place}/model/model.tar.gz is not what was released (its version ",
        "deleted": f"{place}/baseline/manifest.json does not exist",
        "added": f"{place}/baseline/more.json was not released",
        "listing": f"{place}/files.json is gone or not what was released",
    }
    assert wanted[change] in said
    assert live.sagemaker.executions == {}
    assert said in live.messages[0]["Message"]
    oldest = live.released()
    live.publish(2, "2026-11-21T10:00:00Z")
    with pytest.raises(NotReleased, match=r"releases/1/"):
        release.publish(live.aws, live.places, oldest)


def test_a_manifest_holds_as_many_files_as_an_artifact_has_under_long_names(world: World) -> None:
    arn = world.register(1)
    about = world.sagemaker.packages[arn]["CustomerMetadataProperties"]
    for number in range(60):
        world.put(f"{about['explainer']}/{'a-long-name-' * 8}{number}.parquet")
    release.package_changed(world.approval(arn), world.aws, world.places, NOW)
    assert len(world.value("release")) < 4096
    listed = json.loads(artifacts_of(world)["team/case/dev/releases/1/files.json"])["artifacts"]
    assert len(listed["explainer"]) == 61
    assert handlers.score({"window": world.start() and WINDOW}, world.aws, world.places, NOW).startswith("Window")


def test_a_copy_that_was_cut_short_is_made_again(world: World) -> None:
    arn = world.register(1)
    world.put(f"s3://{BUCKET}/team/case/dev/releases/1/model/model.tar.gz", b"half")
    release.package_changed(world.approval(arn), world.aws, world.places, NOW)
    assert artifacts_of(world)["team/case/dev/releases/1/model/model.tar.gz"] == b"x"


def test_a_release_runs_under_the_pipeline_that_it_was_released_with(world: World) -> None:
    world.publish(1)
    world.sagemaker.versions["team-case-dev-inference"] = 2
    world.start("2026-11-23")
    world.publish(2, "2026-11-21T10:00:00Z")
    world.start("2026-11-24")
    oldest = release.history(world.aws, world.places)[-1]
    release.publish(world.aws, world.places, {**oldest, "reason": "rollback to 1"})
    world.start("2026-11-25")
    assert [run["request"].get("PipelineVersionId") for run in world.sagemaker.started("inference")] == [1, 2, 1]


def test_an_approval_that_comes_again_moves_no_release_to_another_pipeline(live: World) -> None:
    live.sagemaker.versions["team-case-dev-inference"] = 2
    live.publish(1)
    assert (live.released()["version"], live.released()["pipeline_version"]) == (1, 1)


def test_labels_are_measured_under_the_pipeline_that_scored(live: World) -> None:
    live.judge(live.scored(**HEALTHY))
    live.sagemaker.versions["team-case-dev-inference"] = 2
    live.arrived(live.label(part="labels"))
    first, again = live.sagemaker.started("inference")
    assert again["request"]["SelectiveExecutionConfig"]
    assert [first["version"], again["version"]] == [1, 1]


def test_a_version_that_is_gone_is_refused_as_the_service_does(live: World) -> None:
    live.sagemaker.versions["team-case-dev-inference"] = 0
    with pytest.raises(ClientError, match="ResourceNotFound"):
        live.start()


def test_a_new_release_leaves_the_images_that_were_pushed_for_the_next_training(live: World) -> None:
    live.aws.ssm.put_parameter(Name="/team/case/dev/components/algorithm/image", Value="newer", Overwrite=True)
    live.publish(2, "2026-11-21T10:00:00Z")
    assert (live.released()["version"], live.value("components/algorithm/image")) == (2, "newer")
    assert live.value("components/algorithm/artifact") == live.released()["artifacts"]["model"]


@pytest.mark.parametrize(
    "detail",
    [
        {"ModelApprovalStatus": "Rejected"},
        {"ModelApprovalStatus": "PendingManualApproval"},
        {"ModelPackageGroupName": "another-group"},
        {"UpdatedModelPackageFields": ["CustomerMetadataProperties"]},
    ],
)
def test_other_changes_of_packages_release_nothing(world: World, detail: dict[str, Any]) -> None:
    event = world.approval(world.register(1), **detail)
    assert "no approval" in release.package_changed(event, world.aws, world.places, NOW)
    assert (world.writes, world.messages) == ([], [])


def test_a_reason_may_hold_what_the_parameter_store_takes_for_a_parameter(world: World) -> None:
    arn = world.register(1)
    world.sagemaker.packages[arn]["ApprovalDescription"] = "as {{ticket}} says {{{{}}}}"
    release.package_changed(world.approval(arn), world.aws, world.places, NOW)
    assert world.released()["reason"] == "as {{ticket}} says {{{{}}}}"


def test_an_event_that_names_the_approval_among_its_changes_releases(world: World) -> None:
    event = world.approval(world.register(1), UpdatedModelPackageFields=["ModelApprovalStatus"])
    release.package_changed(event, world.aws, world.places, NOW)
    assert world.released()["version"] == 1


def test_a_package_that_has_been_rejected_since_is_not_released(world: World) -> None:
    arn = world.register(1)
    world.sagemaker.packages[arn]["ModelApprovalStatus"] = "Rejected"
    assert "no longer approved" in release.package_changed(world.approval(arn), world.aws, world.places, NOW)
    assert world.value("release") == "none"


def test_an_approval_that_comes_again_does_not_roll_back(live: World) -> None:
    """Any later change of an approved package is the same event with a newer time."""
    live.publish(2, "2026-11-21T10:00:00Z")
    again = live.approval(f"{ARN}:model-package/team-case-dev/1", "2026-11-22T10:00:00Z")
    assert "was released before" in release.package_changed(again, live.aws, live.places, NOW)
    assert live.released()["model_package"].endswith("/2")


def test_an_approval_older_than_the_release_is_late_and_said_so(live: World) -> None:
    assert "older than release 1" in live.publish(2, "2026-11-20T09:59:59Z")
    assert live.released()["version"] == 1
    assert live.messages[0]["Subject"] == "case dev: an approved model can't be released"
    assert live.measured == [{"ReleaseRefused": 1}]


def test_an_older_package_that_a_person_approves_now_is_released(live: World) -> None:
    live.publish(3, "2026-11-21T10:00:00Z")
    live.publish(2, "2026-11-22T10:00:00Z")
    assert (live.released()["version"], live.released()["model_package"][-2:]) == (3, "/2")


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_release_whose_image_is_gone_is_refused(world: World, component: str) -> None:
    arn = world.register(1)
    digest = world.images[component].partition("@")[2]
    world.aws.ecr.batch_delete_image(repositoryName=f"team/case/{component}", imageIds=[{"imageDigest": digest}])
    said = release.package_changed(world.approval(arn), world.aws, world.places, NOW)
    assert f"{world.images[component]} does not exist" in said
    assert world.value("release") == "none"
    assert said in world.messages[0]["Message"]


@pytest.mark.parametrize("artifact", ["preprocessor", "model", "baseline", "explainer"])
def test_a_release_whose_artifact_is_gone_is_refused(world: World, artifact: str) -> None:
    arn = world.register(1)
    uri = world.sagemaker.packages[arn]["CustomerMetadataProperties"][artifact]
    key = storage.split(uri)[1]
    world.aws.s3.delete_object(Bucket=BUCKET, Key=key if artifact == "model" else f"{key}manifest.json")
    world.put(f"{uri.rstrip('/')}-of-another/manifest.json")
    assert f"{uri} does not exist" in release.package_changed(world.approval(arn), world.aws, world.places, NOW)
    assert world.value("release") == "none"


def test_an_image_named_by_its_tag_is_released_by_its_digest(world: World) -> None:
    tagged = world.images["algorithm"].partition("@")[0] + ":abc"
    world.publish(1, algorithm_image=tagged)
    assert world.released()["images"]["algorithm"] == world.images["algorithm"]
    assert "does not exist" in world.publish(2, "2026-11-21T10:00:00Z", algorithm_image=tagged.replace("abc", "latest"))


def tags(world: World, image: str) -> list[str]:
    repository, digest = image.partition("/")[2].split("@")
    asked = {"repositoryName": repository, "imageIds": [{"imageDigest": digest}]}
    return sorted(world.aws.ecr.describe_images(**asked)["imageDetails"][0]["imageTags"])


def test_what_is_released_is_tagged_so_that_it_never_expires(world: World) -> None:
    before = world.images["processing"].rpartition(":")[2][:16]
    assert tags(world, world.images["processing"]) == ["abc"]
    world.publish(1)
    world.publish(2, "2026-11-21T10:00:00Z")  # of the same images
    assert tags(world, world.images["processing"]) == ["abc", f"released-{before}"]
    for image in world.images.values():
        assert len(tags(world, image)) == 2


def test_an_image_in_another_accounts_registry_is_left_to_its_rules(world: World) -> None:
    own = world.images["algorithm"]
    theirs = own.replace(own.partition(".")[0], "999999999999").replace("team/case", "shared/models")
    release.keep_images(world.aws, {"images": {"algorithm": theirs, "processing": world.images["processing"]}})
    assert len(tags(world, world.images["processing"])) == 2
    assert tags(world, own) == ["abc"]


def test_images_outside_ecr_are_taken_as_they_are(world: World) -> None:
    world.publish(1, algorithm_image="local/team/case/algorithm:9af0fc2fa138c315")
    assert world.released()["images"]["algorithm"] == "local/team/case/algorithm:9af0fc2fa138c315"


def test_a_package_that_the_pipeline_did_not_register_is_refused(world: World) -> None:
    arn = world.register(1)
    del world.sagemaker.packages[arn]["CustomerMetadataProperties"]["baseline"]
    assert "no baseline" in release.package_changed(world.approval(arn), world.aws, world.places, NOW)


@pytest.mark.parametrize("body", [b"not JSON", b"[]", b"{}", b"\xff"])
def test_a_release_without_its_evaluation_has_no_metrics(world: World, body: bytes) -> None:
    arn = world.register(1)
    uri = world.sagemaker.packages[arn]["CustomerMetadataProperties"]["evaluation"]
    world.put(uri, body)
    release.package_changed(world.approval(arn), world.aws, world.places, NOW)
    assert world.released()["metrics"] == {}


def test_a_release_says_that_validation_repeats_training(world: World) -> None:
    arn = world.register(1)
    uri = world.sagemaker.packages[arn]["CustomerMetadataProperties"]["evaluation"]
    found = {"metric": "auc", "test": {"auc": 0.99}, "leak": {"trusted": False, "reason": "twins"}}
    world.put(uri, json.dumps(found).encode())
    release.package_changed(world.approval(arn), world.aws, world.places, NOW)
    assert world.released()["metrics"]["gate:trusted"] == 0


def test_publishing_finishes_what_an_earlier_try_left(world: World) -> None:
    world.publish(1)
    lost = "/team/case/dev/components/explainability/artifact"
    world.aws.ssm.put_parameter(Name=lost, Value="none", Overwrite=True)
    world.writes.clear()
    world.publish(1)
    assert world.writes == ["components/explainability/artifact"]


# release, as rollback and promotion use it


def test_rollback_writes_an_older_manifest_as_a_new_version(live: World) -> None:
    live.publish(2, "2026-11-21T10:00:00Z")
    newest, oldest = release.history(live.aws, live.places)
    assert (newest["version"], oldest["version"]) == (2, 1)
    occasion = {"by": "ada", "reason": "too many complaints", "created": NOW.isoformat()}
    manifest, new = release.publish(live.aws, live.places, {**oldest, **occasion})
    assert (manifest["version"], new, live.released()) == (3, True, manifest)
    assert live.value("components/monitoring/artifact") == oldest["artifacts"]["baseline"]
    again, new = release.publish(live.aws, live.places, {**oldest, **occasion, "reason": "once more"})
    assert (again, new) == (manifest, False)


def test_rollback_to_what_no_longer_exists_is_refused(live: World) -> None:
    live.publish(2, "2026-11-21T10:00:00Z")
    oldest = release.history(live.aws, live.places)[-1]
    key = storage.split(oldest["artifacts"]["model"])[1]
    live.aws.s3.delete_object(Bucket=BUCKET, Key=key)
    assert list(release.troubles(live.aws, oldest)) == [f"{oldest['artifacts']['model']} does not exist"]
    with pytest.raises(NotReleased, match=r"model\.tar\.gz does not exist"):
        release.publish(live.aws, live.places, oldest)
    assert live.released()["version"] == 2


def test_history_leaves_out_what_is_no_manifest(live: World) -> None:
    good = live.value("release")
    for text in ("{damaged", '{"schema": 0}', good):
        live.aws.ssm.put_parameter(Name="/team/case/dev/release", Value=text, Overwrite=True)
    assert [found["version"] for found in release.history(live.aws, live.places)] == [1, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"version": "1"},
        {"created": None},
        {"images": {"algorithm": "x"}},
        {"artifacts": {}},
        {"metrics": []},
        {"contract": None},
    ],
)
def test_a_manifest_of_another_shape_is_refused(live: World, change: dict[str, Any]) -> None:
    with pytest.raises(NotReleased, match="manifest is none of schema"):
        release.publish(live.aws, live.places, {**live.released(), **change})


def test_a_manifest_that_no_parameter_can_hold_is_refused(live: World) -> None:
    with pytest.raises(ValueError, match=r"bytes; a parameter takes 8,192"):
        release.publish(live.aws, live.places, {**live.released(), "metrics": {str(n): 0.5 for n in range(900)}})
    assert live.released()["version"] == 1


# start_inference


def test_the_newest_window_is_scored_with_everything_of_the_release(live: World) -> None:
    for window in ("2026-11-09", "2026-11-24", "2026-11-9x", "sample"):
        live.put(f"{live.places.data(window, 'production')}part-0.parquet")
        live.mark(window, "production")
    live.put(f"{live.places.data('2026-12-01', 'train')}rows.parquet")
    live.put(live.places.data("2026-12-02", "production"))  # a folder made in the console
    live.put(f"{live.places.data('2026-12-03 (copy)', 'production')}rows.parquet")
    said = handlers.score({"window": ""}, live.aws, live.places, NOW)
    assert said.startswith("Window 2026-11-24 is scored with release 1.")
    [run] = live.sagemaker.started("inference")
    artifacts = live.released()["artifacts"]
    assert run["parameters"] == {
        "ProductionData": f"s3://{BUCKET}/team/case/data/2026-11-24/production/",
        "DataFingerprint": storage.fingerprint(storage.files(live.aws, live.places.data(WINDOW, "production"))),
        "ArtifactsPrefix": f"s3://{BUCKET}/team/case/dev/inference",
        "Preprocessor": artifacts["preprocessor"],
        "Model": artifacts["model"],
        "Baseline": artifacts["baseline"],
        "Explainer": artifacts["explainer"],
        **{f"{name.capitalize()}Image": image for name, image in live.images.items()},
    }
    assert live.messages == []


def test_a_window_counts_once_it_is_marked_and_what_waits_is_said(live: World) -> None:
    """Files come one by one; a model is not trained or asked on the first of them."""
    live.put(f"{live.places.data(WINDOW, 'production')}part-0.parquet")
    live.put(f"{live.places.data(WINDOW, 'production')}.part-1.parquet.crc")
    said = handlers.score({"window": ""}, live.aws, live.places, NOW)
    assert (said, live.sagemaker.executions) == ("no window is complete.", {})
    waiting = f"s3://{BUCKET}/team/case/data/{WINDOW}/production/ has files and no _SUCCESS"
    assert waiting in live.messages[0]["Message"]
    assert "window 2026-11-24 is not complete" in handlers.score({"window": WINDOW}, live.aws, live.places, NOW)
    live.messages.clear()
    live.start("2026-11-20")
    handlers.score({"window": ""}, live.aws, live.places, NOW)
    assert waiting in live.messages[0]["Message"]
    assert live.messages[0]["Subject"] == "case dev: newer windows wait, 2026-11-20 is scored"
    live.messages.clear()
    live.mark(WINDOW, "production")
    assert handlers.score({"window": ""}, live.aws, live.places, NOW).startswith(f"Window {WINDOW} is scored")
    assert live.messages == []


def test_a_mark_alone_is_no_data(live: World) -> None:
    live.mark(WINDOW, "production")
    assert handlers.score({"window": WINDOW}, live.aws, live.places, NOW) == f"window {WINDOW} is not complete."


def test_a_window_can_be_named(live: World) -> None:
    live.start("2026-11-23")
    live.start("2026-11-24")
    handlers.score({"window": "2026-11-23", "again": "the first one was cut short"}, live.aws, live.places, NOW)
    named = [run["parameters"]["ProductionData"].split("/")[-3] for run in live.sagemaker.started("inference")]
    assert named == ["2026-11-23", "2026-11-24", "2026-11-23"]


@pytest.mark.parametrize("name", ["part-0.parquet", "more.parquet"])
def test_rows_that_change_behind_the_same_uri_are_another_request(live: World, name: str) -> None:
    """The service's cache compares requests, and never looks behind a URI."""
    place = live.places.data(WINDOW, "production")
    live.put(f"{place}part-0.parquet", b"rows")
    live.start()
    live.start()  # an event that comes twice starts nothing
    live.put(f"{place}{name}", b"ROWS")
    live.start()
    first, second = (run["parameters"] for run in live.sagemaker.started("inference"))
    assert {key for key in first if first[key] != second[key]} == {"DataFingerprint"}


def test_a_training_s_fingerprint_is_of_all_the_rows_that_it_reads(live: World) -> None:
    live.places = replace(live.places, given_validation=True, settings=replace(live.places.settings, learn="all"))
    seen = []
    for window, part in [(WINDOW, "train"), (WINDOW, "validation"), ("2026-11-23", "train"), (WINDOW, "production")]:
        live.put(f"{live.places.data(window, part)}rows.parquet", b"rows")
        live.mark(window, part)
        seen.append(retraining.plan(live.aws, live.places, WINDOW).values["DataFingerprint"])
    assert len(set(seen)) == 3
    assert seen[-2] == seen[-1]


def test_a_new_release_scores_the_window_anew(live: World) -> None:
    live.start()
    live.publish(2, "2026-11-21T10:00:00Z")
    live.start()
    assert len(live.sagemaker.started("inference")) == 2


@pytest.mark.parametrize("window", ["", "2026-11-30", "../dev/inference", "a/b"])
def test_where_there_is_no_data_nothing_is_scored_and_people_are_told(live: World, window: str) -> None:
    live.put(f"{live.places.data('a', 'b')}production/rows.parquet")
    handlers.score({"window": window}, live.aws, live.places, NOW)
    assert live.sagemaker.executions == {}
    assert "so nothing is scored" in live.messages[0]["Subject"]
    assert live.measured == [{"NothingToScore": 1}]


def test_before_the_first_release_nothing_is_scored_and_people_are_told(world: World) -> None:
    world.put(f"{world.places.data(WINDOW, 'production')}rows.parquet")
    assert handlers.score({}, world.aws, world.places, NOW) == "nothing is released yet."
    assert world.sagemaker.executions == {}
    assert "`make run PIPELINE=training ENV=dev`" in world.messages[0]["Message"]


def test_more_windows_than_one_page_holds_are_looked_through(live: World) -> None:
    """One page holds 1,000 names: "ListObjectsV2" in the S3 API reference."""
    asked = {"Bucket": BUCKET, "Prefix": "team/case/data/", "Delimiter": "/"}
    pages = [{"CommonPrefixes": [{"Prefix": f"team/case/data/{name}/"}]} for name in ("2026-11-23", "2026-11-24")]
    below = "team/case/data/2026-11-24/production/"
    with Stubber(live.aws.s3) as s3:
        s3.add_response("list_objects_v2", {**pages[0], "IsTruncated": True, "NextContinuationToken": "x"}, asked)
        s3.add_response("list_objects_v2", pages[1], {**asked, "ContinuationToken": "x"})
        found = {"Contents": [{"Key": f"{below}_SUCCESS"}]}
        s3.add_response("list_objects_v2", found, {"Bucket": BUCKET, "Prefix": f"{below}_SUCCESS", "MaxKeys": 1})
        assert storage.newest_window(live.aws, live.places) == (WINDOW, [])


# after_inference


def recorded(world: World, pipeline: str) -> dict[str, str]:
    return dict(json.loads(world.value(f"{pipeline}/latest")))


def test_where_the_last_run_s_outputs_lie_stands_in_a_parameter(live: World) -> None:
    event = live.scored("2026-11-23", **HEALTHY)
    live.judge(event)
    place = f"s3://{BUCKET}/team/case/dev/inference/000000000000"
    assert recorded(live, "inference") == {
        "run": event["detail"]["pipelineExecutionArn"],
        "started": "2026-11-24T06:00:00+00:00",
        "window": "2026-11-23",
        "predictions": f"{place}/ScoreFeatures/predictions/",
        "drift_report": f"{place}/DetectDrift/drift/report.html",
        "explanations": f"{place}/ExplainPredictions/explanations/",
    }


def test_outputs_of_a_step_from_the_cache_lie_with_the_run_that_made_them(live: World) -> None:
    live.sagemaker.cached["ExplainPredictions"] = f"{ARN}:pipeline/team-case-dev-inference/execution/abcdefabcdef"
    live.judge(live.scored(**HEALTHY))
    found = recorded(live, "inference")
    assert found["explanations"].endswith("/inference/abcdefabcdef/ExplainPredictions/explanations/")
    assert found["predictions"].endswith("/inference/000000000000/ScoreFeatures/predictions/")


def test_an_earlier_run_or_a_failed_one_or_a_measurement_is_not_the_last_that_succeeded(live: World) -> None:
    live.judge(live.scored("2026-11-24", **HEALTHY))
    known = recorded(live, "inference")
    late = live.scored("2026-11-23", **HEALTHY)
    late["detail"]["executionStartTime"] = "2026-11-23T06:00:00Z"
    live.judge(late)
    live.judge(live.ended(live.start("2026-11-25"), "Failed"))
    live.arrived(live.label("2026-11-24", part="labels"))
    live.judge(live.measured_by_labels())
    assert recorded(live, "inference") == known


def test_the_model_of_a_run_that_succeeded_is_deleted_and_no_other(
    live: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that failed may be retried, which goes on with its model."""
    other, *_ = live.sagemaker.models
    done = live.scored("2026-11-23", **HEALTHY)
    failed = live.ended(live.start("2026-11-24"), "Failed")
    for event in (done, failed, done):
        live.judge(event)
    assert live.sagemaker.models == [other, "pipelines-000000000001-CreateModel-CreateM-0123456789"]
    event = live.scored("2026-11-25", **HEALTHY)
    for error in (refused("DeleteModel", "AccessDeniedException"), EndpointConnectionError(endpoint_url="x")):
        live.sagemaker.delete_model = Mock(side_effect=error)  # type: ignore[method-assign]
        capsys.readouterr()
        assert "2026-11-25" in live.judge(event)
        assert "stay: " in capsys.readouterr().out


def test_a_training_s_evaluation_and_reports_are_recorded_too(live: World) -> None:
    live.judge(live.scored())
    live.arrived(live.label())
    training = live.remembered().execution
    live.judge(live.ended(training))
    place = f"s3://{BUCKET}/team/case/dev/training/{training.rpartition('/')[2]}"
    found = recorded(live, "training")
    assert (found["run"], found["window"]) == (training, WINDOW)
    assert found["evaluation"] == f"{place}/LearnBaseline/report/evaluation.json"
    assert found["explanation_report"] == f"{place}/LearnExplainer/report/report.html"


def test_drift_with_labels_starts_a_retraining_on_that_window(live: World) -> None:
    event = live.scored()
    live.label()
    live.judge(event)
    [run] = live.sagemaker.started("training")
    artifacts = live.released()["artifacts"]
    assert run["parameters"] == {
        "TrainingData": f"s3://{BUCKET}/team/case/data/2026-11-24/train/",
        "DataFingerprint": storage.fingerprint(storage.files(live.aws, live.places.data(WINDOW, "train"))),
        "ArtifactsPrefix": f"s3://{BUCKET}/team/case/dev/training",
        "ChampionPreprocessor": artifacts["preprocessor"],
        "ChampionModel": artifacts["model"],
        **{f"{name.capitalize()}Image": image for name, image in live.images.items()},
    }
    known = live.remembered()
    assert (known.state, known.window, known.started) == (RETRAINING, WINDOW, (NOW.isoformat(),))
    assert live.sagemaker.executions[known.execution] is run
    assert known.windows[0].time == "2026-11-24T06:00:00+00:00"
    [message] = live.messages
    assert message["Subject"] == "case dev: 2026-11-24: drift, retraining started"
    assert message["Message"].splitlines() == [
        "Window: 2026-11-24 (1,000 rows)",
        "Verdict: drift: 2 of 3 columns drifted, most of all age (PSI 1.20).",
        f"Decision: {known.reason}",
        "To do: Nothing until a model is registered; approve it then, where this environment does not do so by itself.",
        f"Report: s3://{BUCKET}/team/case/dev/inference/000000000000/DetectDrift/drift/report.html",
        f"Predictions: s3://{BUCKET}/team/case/dev/inference/000000000000/ScoreFeatures/predictions/",
        f"Explanations: s3://{BUCKET}/team/case/dev/inference/000000000000/ExplainPredictions/explanations/",
        f"Run: {event['detail']['pipelineExecutionArn']}",
        f"Training: {known.execution}",
    ]


def test_drift_without_labels_asks_for_them_and_their_arrival_starts_the_retraining(live: World) -> None:
    live.judge(live.scored())
    assert (live.remembered().state, live.sagemaker.started("training")) == (WAITING, [])
    assert live.messages[0]["Subject"] == "case dev: 2026-11-24: drift, waiting for labels"
    assert f"rows into s3://{BUCKET}/team/case/data/2026-11-24/train/, then _SUCCESS" in live.messages[0]["Message"]
    live.arrived(live.label())
    [run] = live.sagemaker.started("training")
    assert run["parameters"]["TrainingData"].endswith("data/2026-11-24/train/")
    assert live.remembered().state == RETRAINING
    assert live.messages[1]["Subject"] == "case dev: 2026-11-24: labels are there, retraining started"


def test_labels_that_come_while_the_decision_is_made_are_not_missed(live: World) -> None:
    event = live.scored()

    def arrive(params: dict[str, Any], **_: Any) -> None:
        if '"waiting for labels"' in params["Value"]:
            live.arrived(live.label())  # before the memory says that it waits: nothing happens

    live.aws.ssm.meta.events.register("provide-client-params.ssm.PutParameter", arrive)
    live.judge(event)
    assert len(live.sagemaker.started("training")) == 1
    assert live.remembered().state == RETRAINING


def test_metrics_say_how_the_window_is_and_how_the_loop_stands(live: World) -> None:
    event = live.scored()
    live.measured.clear()
    live.judge(event)
    assert live.measured == [
        {
            "RunFailed": 0,
            "ReportMissing": 0,
            "Rows": 1000,
            "RowsWithErrors": 3,
            "Drift": 1,
            "DriftedColumns": 2,
            "LargestEffect": 1.19,
            "PredictionMean": 0.25,
            "LoopState": 1,
            "RetrainingsInBudget": 0,
        }
    ]


def test_a_healthy_window_is_measured_and_nobody_is_bothered(live: World) -> None:
    live.judge(live.scored(**HEALTHY, scores={}))
    assert (live.messages, live.remembered().state) == ([], IDLE)
    assert live.measured[-1]["Drift"] == 0
    assert "PredictionMean" not in live.measured[-1]


WORSE: dict[str, Any] = {
    "metric": "auc",
    "limit": 0.05,
    "estimated": 0.71234,
    "low": 0.68,
    "high": 0.745,
    "reference": 0.83,
    "drop": 0.11766,
    "alarm": True,
    "reason": None,
}


def test_a_model_that_is_expected_to_score_worse_is_retrained_also_without_drift(live: World) -> None:
    live.label()
    event = live.scored(**HEALTHY, performance=WORSE)
    live.judge(event)
    [run] = live.sagemaker.started("training")
    assert run["parameters"]["TrainingData"].endswith("data/2026-11-24/train/")
    assert run["request"]["PipelineExecutionDescription"].startswith(
        "Window 2026-11-24 has not drifted, but auc is expected to fall to 0.712 from 0.83; labels are there"
    )
    [message] = live.messages
    assert message["Subject"] == "case dev: 2026-11-24: no drift, a worse model expected, retraining started"
    assert "Expected performance: auc 0.712 (0.68 to 0.745), 0.83 on validation: an alarm\n" in message["Message"]
    measured = live.measured[-1]
    assert (measured["Drift"], measured["ExpectedPerformance"], measured["ExpectedDrop"]) == (0, 0.71234, 0.11766)


def test_an_expectation_that_does_not_count_is_told_and_leaves_the_model(live: World) -> None:
    live.places = replace(live.places, settings=replace(live.places.settings, on=("drift",)))
    assert "[retraining] on leaves out" in live.judge(live.scored(**HEALTHY, performance=WORSE))
    assert (live.remembered().state, live.sagemaker.started("training")) == (IDLE, [])
    assert live.messages[0]["Subject"] == "case dev: 2026-11-24: no drift, a worse model expected"
    assert "to retrain all the same, start team-case-dev-training" in live.messages[0]["Message"]


def test_the_message_names_the_drifted_columns_that_the_model_uses(live: World) -> None:
    about: dict[str, Any] = {"drifted_importance": 0.41, "drifted_important": ["income"]}
    live.judge(live.scored(**about, performance={**WORSE, "alarm": False, "estimated": 0.82}))
    lines = live.messages[0]["Message"].splitlines()
    assert "Drifted columns that the model uses: income" in lines
    assert "Expected performance: auc 0.82 (0.68 to 0.745), 0.83 on validation: no alarm" in lines
    assert live.remembered().reason.startswith(
        "Window 2026-11-24 drifted in 2 columns, which carry 41 % of the model's reasons; "
    )


def test_drift_of_scores_alone_is_no_share_of_the_reasons(live: World) -> None:
    live.judge(live.scored(drifted=["score"], drifted_importance=0, drifted_important=[]))
    assert live.remembered().reason.startswith("Window 2026-11-24 drifted in 1 column; ")


def test_why_nothing_is_expected_is_told(live: World) -> None:
    performance = {**WORSE, "estimated": None, "alarm": False, "reason": "the scores are no probabilities"}
    live.judge(live.scored(performance=performance))
    assert "Expected performance: not known: the scores are no probabilities" in live.messages[0]["Message"]
    assert "ExpectedPerformance" not in live.measured[-1]


ODD: list[dict[str, Any]] = [
    {"performance": None},
    {"performance": ["auc", 0.7]},
    {"performance": {}},
    {"performance": {**WORSE, "metric": None}},
    {"performance": {**WORSE, "metric": ["auc"]}},
    {"performance": {**WORSE, "estimated": "0.7"}},
    {"performance": {**WORSE, "estimated": True}},
    {"performance": {**WORSE, "estimated": float("nan")}},
    {"performance": {**WORSE, "estimated": None, "reason": {"a": 1}}},
    {"performance": {**WORSE, "alarm": "yes"}},
    {"drifted_importance": "much", "drifted_important": None},
    {"drifted_importance": float("inf"), "drifted_important": [1, {}]},
    {"drifted_importance": -3, "drifted_important": "income"},
]


@pytest.mark.parametrize("report", ODD)
def test_whatever_a_report_says_besides_its_verdict_the_loop_goes_on(live: World, report: dict[str, Any]) -> None:
    event = live.scored(**report)
    live.label()
    live.judge(event)
    known = live.remembered()
    assert (known.state, known.windows[0].worse or False) == (RETRAINING, False)
    assert known.reason.startswith("Window 2026-11-24 drifted in 2 columns; labels are there")
    assert "that the model uses: " not in live.messages[0]["Message"]
    live.judge(live.scored("2026-11-25", **HEALTHY, **report))
    assert live.remembered().windows[-1].drifted is False


def test_an_expectation_without_its_limits_is_one(live: World) -> None:
    bare = {"metric": "f1" * 99, "estimated": 1234.56, "alarm": True, "low": "x", "drop": float("inf")}
    live.judge(live.scored(**HEALTHY, performance=bare))
    assert live.remembered().state == WAITING
    assert len(live.remembered().windows[0].metric) == 40
    assert live.measured[-1]["ExpectedPerformance"] == 1234.56
    assert "ExpectedDrop" not in live.measured[-1]
    assert f"Expected performance: {'f1' * 20} 1,235: an alarm" in live.messages[0]["Message"]


FEW: list[dict[str, Any]] = [{"verdict": "not enough data", "drifted": []}, {"rows": 199}]


@pytest.mark.parametrize("report", FEW)
def test_too_few_rows_are_told_and_publish_no_effects(live: World, report: dict[str, Any]) -> None:
    event = live.scored(**report, performance=WORSE)
    live.label()
    live.judge(event)
    assert live.sagemaker.started("training") == []
    assert live.messages[0]["Subject"] == "case dev: 2026-11-24: too few rows for a verdict"
    assert {"Drift", "DriftedColumns", "LargestEffect", "ExpectedPerformance"}.isdisjoint(live.measured[-1])
    assert live.measured[-1]["Rows"] == report.get("rows", 1000)


@pytest.mark.parametrize("body", [None, b"{", b"[]", b"{}", b'{"verdict": "maybe", "rows": 1, "drifted": []}'])
def test_a_report_that_is_missing_or_damaged_decides_nothing_and_is_told(live: World, body: bytes | None) -> None:
    arn = live.start()
    place = f"{live.places.runs('inference')}/{arn.rpartition('/')[2]}/DetectDrift/drift/drift.json"
    if body is not None:
        live.put(place, body)
    live.writes.clear()
    assert f"{place}, about window {WINDOW}, is missing or no drift report." in live.judge(live.ended(arn))
    assert (live.writes, live.measured[-1]) == (["inference/latest"], {"RunFailed": 0, "ReportMissing": 1})
    assert live.messages[0]["Subject"] == "case dev: a scoring run without a verdict on drift"


@pytest.mark.parametrize("data", ["s3://elsewhere/data/2026-11-24/production/", None])
def test_a_run_of_other_data_decides_nothing_and_is_told(live: World, data: str | None) -> None:
    event = live.scored()
    given = live.sagemaker.executions[event["detail"]["pipelineExecutionArn"]]["parameters"]
    del given["ProductionData"]
    given.update({"ProductionData": data} if data else {})
    assert "no window of this use case" in live.judge(event)
    assert (live.remembered(), len(live.messages)) == (Memory(), 1)


@pytest.mark.parametrize("status", ["Failed", "Stopped", "CompletedWithFailures"])
def test_a_run_that_failed_is_told_with_the_reason(live: World, status: str) -> None:
    event = live.ended(live.start(), status)
    live.sagemaker.executions[event["detail"]["pipelineExecutionArn"]]["why"] = "Step ScoreFeatures: AlgorithmError"
    live.judge(event)
    assert (live.remembered(), live.measured[-1]) == (Memory(), {"RunFailed": 1})
    assert live.messages[0]["Subject"] == f"case dev: a scoring run ended as {status}"
    assert "AlgorithmError" in live.messages[0]["Message"]


@pytest.mark.parametrize("status", ["Executing", "Stopping"])
def test_a_run_that_has_not_ended_is_no_news(live: World, status: str) -> None:
    live.judge(live.ended(live.start(), status))
    assert (live.remembered(), live.messages) == (Memory(), [])


def test_other_pipelines_are_no_news(live: World) -> None:
    assert live.judge(copy.deepcopy(RUN_CHANGED)) == "This is no end of a scoring run."


def test_a_release_that_changed_during_the_run_is_mentioned_and_its_own_baseline_counts(live: World) -> None:
    event = live.scored()
    baseline = live.released()["artifacts"]["baseline"]
    live.label()
    live.publish(2, "2026-11-24T07:00:00Z")
    live.messages.clear()
    live.judge(event)
    assert live.remembered().state == RETRAINING
    assert "Note: the release is not the one this run used" in live.messages[0]["Message"]
    assert live.sagemaker.started("training")[0]["parameters"]["ChampionModel"] == live.released()["artifacts"]["model"]
    run = live.sagemaker.executions[event["detail"]["pipelineExecutionArn"]]
    assert run["parameters"]["Baseline"] == baseline != live.released()["artifacts"]["baseline"]


def test_a_release_that_learned_from_the_window_meanwhile_needs_no_retraining(live: World) -> None:
    event = live.scored()
    live.label()
    arn = live.register(2, window=WINDOW)
    release.package_changed(live.approval(arn, "2026-11-24T07:00:00Z"), live.aws, live.places, NOW)
    assert "has learned from it already" in live.judge(event)
    assert live.sagemaker.started("training") == []


def test_without_a_release_the_empty_artifact_is_the_champion(live: World) -> None:
    event = live.scored()
    live.label()
    live.aws.ssm.put_parameter(Name="/team/case/dev/release", Value="none", Overwrite=True)
    live.judge(event)
    given = live.sagemaker.started("training")[0]["parameters"]
    assert given["ChampionModel"] == given["ChampionPreprocessor"] == f"s3://{BUCKET}/team/case/none/"


def test_the_newest_images_are_trained_with_and_the_release_s_where_none_was_pushed(live: World) -> None:
    event = live.scored()
    live.label()
    for component, value in (("algorithm", "newer"), ("monitoring", "none")):
        live.aws.ssm.put_parameter(Name=f"/team/case/dev/components/{component}/image", Value=value, Overwrite=True)
    live.judge(event)
    given = live.sagemaker.started("training")[0]["parameters"]
    assert (given["AlgorithmImage"], given["MonitoringImage"]) == ("newer", live.images["monitoring"])


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        ("preprocessor/manifest.json", "gone", "does not exist"),
        ("model/model.tar.gz", "gone", "does not exist"),
        ("model/model.tar.gz", "replaced", "is not what was released"),
    ],
)
def test_a_champion_that_is_gone_or_another_is_not_compared_and_stops_no_retraining(
    live: World, file: str, change: str, why: str
) -> None:
    event = live.scored()
    live.label()
    key = f"team/case/dev/releases/1/{file}"
    if change == "gone":
        live.aws.s3.delete_object(Bucket=BUCKET, Key=key)
    else:
        live.put(f"s3://{BUCKET}/{key}", b"another")
    said = live.judge(event)
    given = live.sagemaker.started("training")[0]["parameters"]
    assert given["ChampionModel"] == given["ChampionPreprocessor"] == f"s3://{BUCKET}/team/case/none/"
    assert f"Release 1 is not compared, because s3://{BUCKET}/{key} {why}" in said
    assert why in live.messages[-1]["Message"]


def windows(world: World, learn: str) -> None:
    """Five windows, of which 11-21 has no labels yet, and what is no earlier window of these."""
    world.places = replace(world.places, settings=replace(world.places.settings, learn=learn))
    for day in (19, 20, 22, 23, 24, 25):
        world.label(f"2026-11-{day}")
    world.label("2026-11-23", "sub/more.csv")
    world.put(f"{world.places.data('2026-11-21', 'production')}rows.parquet")
    world.put(world.places.data("2026-11-21", "train"))  # as the console makes folders
    for other in ("sample", "adopted", "2026-11"):
        world.label(other)


@pytest.mark.parametrize(
    ("learn", "days"),
    [("window", []), ("last 1", []), ("last 2", [23]), ("last 4", [20, 22, 23]), ("all", [19, 20, 22, 23])],
)
def test_a_retraining_learns_from_the_earlier_windows_that_are_asked_for(
    live: World, learn: str, days: list[int]
) -> None:
    windows(live, learn)
    event = live.scored()
    said = live.judge(event)
    [run] = live.sagemaker.started("training")
    given = run["parameters"]
    assert given["TrainingData"] == live.places.data(WINDOW, "train")
    names = [f"2026-11-{day}" for day in days]
    if not days:
        assert "EarlierData" not in given
        assert "earlier window" not in said
        return
    assert f"It also learns from {len(days)} earlier window" in said
    for text in (said, live.messages[-1]["Message"], run["request"]["PipelineExecutionDescription"]):
        assert ", ".join(names) in text
    bucket, key = storage.split(given["EarlierData"])
    first, *keys = json.loads(live.aws.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    assert first == {"prefix": f"{live.places.storage}/data/"}
    assert sorted({key.split("/")[0] for key in keys}) == names
    assert "2026-11-23/train/sub/more.csv" in keys
    for name in keys:
        assert storage.objects(live.aws, f"{first['prefix']}{name}")
        assert not name.endswith("_SUCCESS")
    assert live.remembered().reason == said


def test_other_files_or_other_contents_are_another_input_and_the_same_ones_are_not(live: World) -> None:
    windows(live, "last 2")
    seen = [retraining.plan(live.aws, live.places, WINDOW).values["EarlierData"] for _ in range(2)]
    live.put(f"{live.places.data('2026-11-23', 'train')}rows.parquet", b"corrected")
    seen.append(retraining.plan(live.aws, live.places, WINDOW).values["EarlierData"])
    live.label("2026-11-23", "late.parquet")
    seen.append(retraining.plan(live.aws, live.places, WINDOW).values["EarlierData"])
    assert len(set(seen)) == 3


def test_the_release_says_from_which_windows_it_learned(live: World) -> None:
    for count, said in (
        (2, "2 earlier windows (2026-11-9, 2026-11-10)"),
        (40, "40 earlier windows (2026-11-1 to 2026-11-40)"),
    ):
        names = sorted(f"2026-11-{day}" for day in (range(1, 41) if count == 40 else (9, 10)))
        arn = live.register(count)
        uri = live.sagemaker.packages[arn]["CustomerMetadataProperties"]["evaluation"]
        body = json.dumps({**json.loads(EVALUATION), "earlier": names}).encode()
        live.put(uri, body)
        release.package_changed(live.approval(arn, "2026-11-24T07:00:00Z"), live.aws, live.places, NOW)
        assert live.released()["earlier_windows"] == said
        assert len(told(live)) == 1
        assert said in live.messages[-1]["Message"]


def test_a_use_case_with_validation_files_waits_for_both_and_trains_with_both(live: World) -> None:
    live.places = replace(live.places, given_validation=True)
    event = live.scored()
    live.label()
    live.judge(event)
    assert live.remembered().state == WAITING
    live.arrived(live.label(part="validation"))
    assert live.sagemaker.started("training")[0]["parameters"]["ValidationData"].endswith("2026-11-24/validation/")


@pytest.mark.parametrize(("status", "told"), [("Succeeded", 0), ("Failed", 1), ("Stopped", 1), ("gone", 1)])
def test_a_retraining_that_has_ended_blocks_nothing(live: World, status: str, told: int) -> None:
    event = live.scored()
    live.label()
    live.judge(event)
    training = live.remembered().execution
    live.sagemaker.executions[training] |= {"status": status, "why": "" if status == "Succeeded" else "RejectModel"}
    if status == "gone":
        del live.sagemaker.executions[training]
    live.messages.clear()
    live.judge(live.scored("2026-11-25", **HEALTHY))
    known = live.remembered()
    assert (known.state, len(known.started), len(live.messages)) == (IDLE, 1, told)
    if status == "Failed":
        assert "ended as Failed: RejectModel" in live.messages[0]["Message"]


def test_the_end_of_a_training_settles_the_loop_at_once(live: World) -> None:
    event = live.scored()
    live.label()
    live.judge(event)
    live.judge(live.ended(live.remembered().execution, "Failed"))
    assert live.remembered().state == IDLE
    assert live.remembered().reason == "The retraining on window 2026-11-24 ended as Failed."


def test_only_one_training_runs_also_when_a_person_started_it(live: World) -> None:
    values = {"TrainingData": "s3://x/y/", "DataFingerprint": "mine"}
    retraining.start(live.aws, "team-case-dev-training", values, ("by hand",), "mine")
    event = live.scored()
    live.label()
    assert "another one is still running" in live.judge(event)
    assert len(live.sagemaker.started("training")) == 1


def test_the_report_that_monitoring_writes_is_the_one_that_is_read(live: World, tmp_path: Path) -> None:
    arn = live.start()
    place = f"{live.places.runs('inference')}/{arn.rpartition('/')[2]}/DetectDrift/drift/drift.json"
    live.put(place, json.dumps(real_report()).encode())
    live.judge(live.ended(arn))
    assert (live.remembered().windows[0].drifted, live.remembered().windows[0].columns) == (True, 1)
    assert live.measured[-1]["Rows"] == 500
    assert live.measured[-1]["RowsWithErrors"] == 50
    assert live.measured[-1]["LargestEffect"] > 0.1


def real_report() -> dict[str, Any]:
    """What the monitoring component says of a shifted column, a tenth of the rows having no prediction."""
    tables = {
        "usecase": {"name": "case"},
        "data": {"task": "regression", "label": "y"},
        "columns": {"x": {"type": "number"}},
        "gate": {"metric": "rmse", "minimum": 1.0},
    }
    random = np.random.default_rng(1)
    learned, scores = (
        pl.LazyFrame({"x": random.normal(size=4000)}),
        pl.LazyFrame({"prediction": random.normal(size=400)}),
    )
    rows, columns = profile.learned(learned, {"x": "number"}, 20)
    score_rows, scored = profile.learned(scores, {"prediction": "number"}, 20)
    baseline = {"rows": rows, "columns": columns, "score_rows": score_rows, "scores": scored}
    errors = [None] * 450 + ["broken"] * 50
    predictions = pl.LazyFrame({"prediction": random.normal(size=500), "error": errors})
    now = pl.LazyFrame({"x": random.normal(size=500) + 2})
    return drift_report.create(usecase.parse(tables), baseline, now, predictions)


# labels


def scoring(live: World) -> list[dict[str, Any]]:
    """The executions of the inference pipeline, whole and selective."""
    return live.sagemaker.started("inference")


def test_a_window_whose_labels_are_there_is_measured_while_it_is_scored(live: World) -> None:
    live.label(part="labels", name="labels.csv")
    live.judge(live.scored(**HEALTHY, realised=REALISED | {"alarm": False, "value": 0.82, "drop": 0.01}))
    [run] = scoring(live)
    assert run["parameters"]["LabelledData"] == f"s3://{BUCKET}/team/case/data/{WINDOW}/labels/"
    assert len(run["parameters"]["LabelsVersion"]) == 16
    assert (live.messages, live.remembered().labelled[0].worse) == ([], False)
    measured = live.measured[-1]
    assert (measured["RealisedPerformance"], measured["RealisedDrop"], measured["Rows"]) == (0.82, 0.01, 1000)


def test_late_labels_run_the_drift_step_again_with_the_predictions_of_the_window_s_own_run(live: World) -> None:
    event = live.scored(**HEALTHY)
    live.judge(event)
    source = event["detail"]["pipelineExecutionArn"]
    said = live.arrived(live.label())
    first, again = scoring(live)
    assert said.startswith(f"Window {WINDOW} is measured by its labels in arn:aws")
    assert again["request"]["SelectiveExecutionConfig"] == {
        "SourcePipelineExecutionArn": source,
        "SelectedSteps": [{"StepName": "DetectDrift"}],
    }
    labels = {"LabelledData", "LabelsVersion"}
    assert {name: value for name, value in again["parameters"].items() if name not in labels} == first["parameters"]
    assert again["parameters"]["LabelledData"] == f"s3://{BUCKET}/team/case/data/{WINDOW}/train/"


def test_what_labels_say_is_told_measured_and_retrained_on(live: World) -> None:
    live.judge(live.scored(**HEALTHY))
    live.judge(live.scored("2026-11-25", **HEALTHY))
    live.arrived(live.label())
    live.measured.clear()
    said = live.judge(live.measured_by_labels())
    assert said.startswith(f"Labels of window {WINDOW} have come late: by its labels auc is 0.7, 0.83 on validation")
    [run] = live.sagemaker.started("training")
    assert run["parameters"]["TrainingData"].endswith(f"data/{WINDOW}/train/")
    [message] = live.messages
    assert message["Subject"] == f"case dev: {WINDOW}: no drift, a worse model, retraining started"
    assert (
        "Realised performance: auc 0.7 (0.66 to 0.74) by the labels of 900 rows, 0.81 was expected, 0.83 on "
        "validation: an alarm\n" in message["Message"]
    )
    assert live.measured == [
        {"RealisedPerformance": 0.7, "RealisedDrop": 0.13, "LoopState": 2, "RetrainingsInBudget": 1}
    ]
    live.judge(live.ended(run_arn(live)))
    assert len(live.measured) == 1  # told again, it is no news


def run_arn(live: World) -> str:
    """The execution that measured by labels."""
    return next(arn for arn, run in live.sagemaker.executions.items() if "SelectiveExecutionConfig" in run["request"])


def test_good_labels_of_a_healthy_window_bother_nobody(live: World) -> None:
    live.judge(live.scored(**HEALTHY))
    live.arrived(live.label())
    live.judge(live.measured_by_labels(value=0.83, drop=0.0, alarm=False))
    assert (live.messages, live.sagemaker.started("training")) == ([], [])
    assert live.measured[-1]["RealisedPerformance"] == 0.83


def test_an_estimate_is_held_against_labels_before_it_is_retrained_on(live: World) -> None:
    live.judge(live.scored(**HEALTHY, performance=WORSE))
    assert live.remembered().state == WAITING
    said = live.arrived(live.label())
    assert "how well it was scored is measured first" in said
    assert live.sagemaker.started("training") == []
    live.judge(live.measured_by_labels(value=0.83, drop=0.0, alarm=False, performance=WORSE))
    assert (live.remembered().state, live.sagemaker.started("training")) == (IDLE, [])
    assert live.messages[-1]["Subject"] == f"case dev: {WINDOW}: no drift, scored as well as before"
    assert "not 0.712 as was expected" in live.messages[-1]["Message"]


def test_a_measurement_that_fails_is_told_and_what_waits_goes_on(live: World) -> None:
    live.judge(live.scored(**HEALTHY, performance=WORSE))
    live.arrived(live.label())
    live.sagemaker.executions[run_arn(live)]["why"] = "part.csv has no column 'churned'"
    live.judge(live.ended(run_arn(live), "Failed"))
    assert live.messages[1]["Subject"] == "case dev: a measurement ended as Failed"
    assert "part.csv has no column 'churned'" in live.messages[1]["Message"]
    assert len(live.sagemaker.started("training")) == 1
    assert len(scoring(live)) == 2  # the same labels are not tried again


def test_many_files_of_labels_are_measured_together(live: World) -> None:
    """The first file starts a measurement; its end asks whether there are more by now, and then there is one more."""
    live.judge(live.scored(**HEALTHY))
    for number in range(5):
        live.arrived(live.label(name=f"part-{number}.parquet"))
    assert len(scoring(live)) == 2
    live.judge(live.measured_by_labels(alarm=False))
    assert len(scoring(live)) == 3
    live.judge(live.measured_by_labels(alarm=False))
    assert len(scoring(live)) == 3


def test_labels_that_come_while_a_window_is_scored_are_measured_after_it(live: World) -> None:
    event = live.scored(**HEALTHY)
    arn = event["detail"]["pipelineExecutionArn"]
    live.sagemaker.executions[arn]["status"] = "Executing"
    assert live.arrived(live.label()) == "Nothing waits for this."
    live.judge(live.ended(arn))
    assert len(scoring(live)) == 2


def test_the_same_labels_are_measured_once(live: World) -> None:
    live.sagemaker.remembers = False
    live.judge(live.scored(**HEALTHY))
    event = live.label()
    live.arrived(event)
    live.judge(live.measured_by_labels(alarm=False))
    live.arrived(event)
    assert len(scoring(live)) == 2


def test_a_window_is_measured_by_its_newest_run_and_never_by_another_s(live: World) -> None:
    live.judge(live.scored("2026-11-23", **HEALTHY))
    live.judge(live.scored(**HEALTHY))
    live.publish(2)
    newest = live.scored(**HEALTHY)
    live.judge(newest)
    live.arrived(live.label())
    again = scoring(live)[-1]["request"]["SelectiveExecutionConfig"]
    assert again["SourcePipelineExecutionArn"] == newest["detail"]["pipelineExecutionArn"]


def test_a_measurement_that_is_refused_is_told_and_decides_nothing(live: World) -> None:
    live.judge(live.scored(**HEALTHY))
    live.sagemaker.refusing = "ValidationException"
    live.arrived(live.label())
    assert live.messages[0]["Subject"] == f"case dev: {WINDOW}: labels can't be measured"


def test_unknown_performance_by_labels_is_told_with_its_reason(live: World) -> None:
    live.judge(live.scored(**HEALTHY))
    live.arrived(live.label())
    live.judge(live.measured_by_labels(value=None, reason="9 rows with label and prediction are fewer than …"))
    assert "Realised performance: not known: 9 rows" in live.messages[0]["Message"]
    assert live.sagemaker.started("training") == []


# labels_arrived


def test_labels_that_nobody_waits_for_change_nothing(live: World) -> None:
    assert live.arrived(live.label()) == "Nothing waits for this."
    assert (live.writes, live.messages, live.sagemaker.executions) == ([], [], {})


def test_other_objects_are_not_taken_for_labels(live: World) -> None:
    live.judge(live.scored())
    for part, name in (("production", "rows.parquet"), ("trainer", "rows.parquet")):
        assert live.arrived(live.label("2026-11-30", name, part)) == "Nothing waits for this."
    assert live.sagemaker.started("training") == []


def test_labels_of_another_window_leave_the_loop_waiting(live: World) -> None:
    live.judge(live.scored())
    live.writes.clear()
    live.arrived(live.label("2026-11-23"))
    assert (live.remembered().state, live.writes) == (WAITING, [])


def test_many_files_of_labels_start_one_retraining(live: World) -> None:
    live.judge(live.scored())
    for number in range(5):
        live.arrived(live.label(name=f"part-{number}.parquet"))
    assert len(live.sagemaker.started("training")) == 1


# events twice, late, at once; functions that end halfway


ACTIONS = ("drift", "wait", "labels", "approve", "failed", "few")


@pytest.mark.parametrize(("handler", "remembers"), [("start", True), *((name, False) for name in ACTIONS)])
def test_each_event_twice_ends_in_the_same_state(live: World, handler: str, remembers: bool) -> None:
    """Only the schedule relies on SageMaker to remember the token."""
    live.sagemaker.remembers = remembers
    act = action(live, handler)
    act()
    once, told = live.state(), len(live.messages)
    act()
    assert live.state() == once
    assert len(live.messages) == told or handler == "failed"


def action(live: World, name: str, window: str = WINDOW) -> Any:
    """Something that can be done twice."""
    if name == "start":
        live.put(f"{live.places.data(WINDOW, 'production')}rows.parquet")
        live.mark(WINDOW, "production")
        return lambda: handlers.score({"window": ""}, live.aws, live.places, NOW)
    if name == "approve":
        event = live.approval(live.register(2), "2026-11-21T10:00:00Z")
        return lambda: release.package_changed(event, live.aws, live.places, NOW)
    if name == "labels":
        live.judge(live.scored())
        arrival = live.label()
        return lambda: live.arrived(arrival)
    if name == "failed":
        event = live.ended(live.start(window), "Failed")
    else:
        rows = 3 if name == "few" else 1000
        event = live.scored(window, rows=rows)
    if name == "drift":
        live.label(window)
    return lambda: live.judge(event)


def test_a_run_of_an_older_window_that_ends_late_decides_nothing(live: World) -> None:
    older, newer = live.scored("2026-11-23"), live.scored("2026-11-24", **HEALTHY)
    live.label("2026-11-23")
    live.judge(newer)
    live.measured.clear()
    assert "came after newer ones" in live.judge(older)
    assert (live.sagemaker.started("training"), live.measured, live.remembered().state) == ([], [], IDLE)


def test_two_functions_at_once_start_one_retraining(live: World) -> None:
    """The second one runs between the first one's look at the memory and its write."""
    event = live.scored()
    live.label()
    once(live, "provide-client-params.ssm.PutParameter", lambda: live.judge(event))
    live.judge(event)
    assert len(live.sagemaker.started("training")) == 1
    assert live.remembered().state == RETRAINING
    assert len(live.remembered().started) == 1


def test_two_windows_at_once_start_one_retraining(live: World) -> None:
    first, second = live.scored("2026-11-23"), live.scored("2026-11-24")
    live.label("2026-11-23")
    live.label("2026-11-24")
    once(live, "provide-client-params.ssm.PutParameter", lambda: live.judge(second))
    live.judge(first)
    assert len(live.sagemaker.started("training")) == 1
    assert live.remembered().execution in live.sagemaker.executions
    assert len(live.remembered().started) == 1


def once(live: World, moment: str, act: Any) -> None:
    """Do something at the first such call, on its way out."""
    done: list[bool] = []

    def hook(**_: Any) -> None:
        if not done:
            done.append(True)
            act()

    live.aws.ssm.meta.events.register(moment, hook)


def test_a_parameter_that_is_not_there_is_one_without_a_value(live: World) -> None:
    live.aws.ssm.delete_parameter(Name="/team/case/dev/retraining")
    live.judge(live.scored())
    assert live.remembered().state == WAITING
    live.aws.ssm.delete_parameter(Name="/team/case/dev/release")
    assert handlers.score({}, live.aws, live.places, NOW) == "nothing is released yet."


def test_a_write_over_an_unseen_value_is_taken_back(live: World) -> None:
    name = "/team/case/dev/retraining"
    stored = storage.read(live.aws.ssm, name)
    once(live, "provide-client-params.ssm.PutParameter", lambda: put(live, name, "theirs"))
    with pytest.raises(storage.Conflict):
        storage.write(live.aws.ssm, stored, "ours")
    assert live.value("retraining") == "theirs"


def test_a_value_that_changed_since_it_was_read_is_not_written_over(live: World) -> None:
    name = "/team/case/dev/retraining"
    stored = storage.read(live.aws.ssm, name)
    put(live, name, "theirs")
    live.writes.clear()
    with pytest.raises(storage.Conflict):
        storage.write(live.aws.ssm, stored, "ours")
    assert live.writes == []


def put(live: World, name: str, value: str) -> None:
    live.aws.ssm.put_parameter(Name=name, Value=value, Overwrite=True)


@pytest.mark.parametrize("when", range(4))
def test_a_function_that_ends_halfway_is_completed_by_the_next_try(live: World, when: int) -> None:
    """It ends before its first, second … call that changes something: intent, start, message and metrics, memory."""
    event = live.scored()
    live.label()
    calls = iter(range(99))

    def end(*_: Any, **__: Any) -> None:
        if next(calls) == when:
            raise TimeoutError

    for client, call in ((live.aws.ssm, "ssm.PutParameter"), (live.aws.sns, "sns.Publish")):
        client.meta.events.register(f"provide-client-params.{call}", end)
    begin = live.sagemaker.start_pipeline_execution

    def start(**request: Any) -> dict[str, Any]:
        end()
        return begin(**request)

    live.sagemaker.start_pipeline_execution = start  # type: ignore[method-assign]
    with suppress(TimeoutError):
        live.judge(event)
    live.judge(event)
    assert len(live.sagemaker.started("training")) == 1
    known = live.remembered()
    assert (known.state, len(known.started)) == (RETRAINING, 1)
    assert live.sagemaker.executions[known.execution]["status"] == "Executing"
    assert any("retraining" in message["Subject"] for message in live.messages)


def test_a_retraining_that_was_released_before_its_arn_was_written_down_is_not_run_twice(live: World) -> None:
    event = live.scored()
    live.label()
    live.judge(event)
    begun = live.remembered()
    live.sagemaker.executions[begun.execution] |= {"status": "Succeeded"}
    live.publish(2, "2026-11-25T10:00:00Z", training_data=live.places.data(begun.window, "train"))
    cut = replace(begun, execution="")  # as the memory is when the function ends right after the start
    put(live, live.places.parameter("retraining"), cut.text())
    live.judge(event)
    assert live.remembered().state == IDLE
    assert len(live.sagemaker.started("training")) == 1


def test_a_retraining_that_can_t_be_started_is_tried_for_an_hour_and_then_let_go(live: World) -> None:
    event = live.scored()
    live.label()
    live.sagemaker.refusing = "ResourceLimitExceeded"
    for minutes in (0, 1, 59):
        with pytest.raises(ClientError):
            live.judge(event, NOW + timedelta(minutes=minutes))
    assert live.remembered().state == RETRAINING
    live.judge(event, NOW + timedelta(minutes=61))
    known = live.remembered()
    assert (known.state, len(known.started)) == (IDLE, 1)
    assert "could not be started" in live.messages[-1]["Message"]
    live.sagemaker.refusing = ""
    later = live.scored("2026-11-26")
    live.label("2026-11-26")
    live.judge(later, NOW + timedelta(hours=25))
    assert len(live.sagemaker.started("training")) == 1


def test_a_refusal_of_aws_is_not_taken_for_an_answer(live: World) -> None:
    event = live.scored()
    for operation in ("describe_pipeline_execution", "list_pipeline_executions"):
        broken = Broken(live.sagemaker, operation)
        live.aws = replace(live.aws, sagemaker=broken)
        with pytest.raises(ClientError):
            live.judge(event if operation.startswith("list") else live.ended(live.start(), "Failed"))


def test_a_report_that_may_not_be_read_is_not_a_missing_one(live: World) -> None:
    with Stubber(live.aws.s3) as s3:
        s3.add_client_error("get_object", "AccessDenied")
        with pytest.raises(ClientError, match="AccessDenied"):
            storage.read_json(live.aws, "s3://bucket/drift.json")


class Broken:
    """A client that is denied one operation."""

    def __init__(self, client: Any, operation: str) -> None:
        self.client, self.operation = client, operation

    def __getattr__(self, name: str) -> Any:
        if name == self.operation:
            raise refused(name, "AccessDeniedException")
        return getattr(self.client, name)

    def get_paginator(self, name: str) -> Any:
        return getattr(self, name) and self.client.get_paginator(name)


def test_a_file_of_labels_before_their_mark_starts_nothing(live: World) -> None:
    live.judge(live.scored())
    event = live.label()
    live.aws.s3.delete_object(Bucket=BUCKET, Key=event["detail"]["object"]["key"])
    first = copy.deepcopy(event)
    first["detail"]["object"]["key"] = f"team/case/data/{WINDOW}/train/rows.parquet"
    assert live.arrived(first) == "Nothing waits for this."
    live.arrived(event)  # late: the mark was taken away again
    assert (live.remembered().state, live.sagemaker.started("training")) == (WAITING, [])


# the whole loop


def test_the_loop_closes_from_drift_to_a_new_release(live: World) -> None:
    live.judge(live.scored("2026-11-24"))
    live.arrived(live.label("2026-11-24"))
    training = live.remembered().execution
    live.judge(live.ended(training))
    arn = live.register(2, window="2026-11-24")
    release.package_changed(live.approval(arn, "2026-11-24T12:00:00Z"), live.aws, live.places, NOW)
    event = live.scored("2026-11-25", **HEALTHY)
    live.judge(event, NOW + timedelta(days=1))
    run = live.sagemaker.executions[event["detail"]["pipelineExecutionArn"]]
    assert run["parameters"]["Baseline"] == live.released()["artifacts"]["baseline"]
    assert (live.released()["version"], live.remembered().state) == (2, IDLE)
    assert [message["Subject"].removeprefix("case dev: ") for message in live.messages] == [
        "2026-11-24: drift, waiting for labels",
        "2026-11-24: labels are there, retraining started",
    ]


# names, messages, handlers


def test_the_parameters_that_are_given_are_those_that_the_pipelines_declare(live: World) -> None:
    declared = {
        name: (ROOT / "pipelines" / f"{name}.py").read_text(encoding="utf-8") for name in ("training", "inference")
    }
    event = live.scored()
    live.label()
    live.judge(event)
    for pipeline, source in declared.items():
        words = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
        images = {f"{name.capitalize()}Image" for name in COMPONENTS}
        for run in live.sagemaker.started(pipeline):
            assert set(run["parameters"]) - images <= words


@pytest.mark.parametrize(("subject", "expected"), [("ünï\ncode\ttext", "?n? code text"), ("x" * 200, "x" * 86 + "...")])
def test_subjects_are_short_ascii_on_one_line(live: World, subject: str, expected: str) -> None:
    reports.tell(live.aws, live.places, subject, {"A": "grün", "B": ""})
    assert live.messages[0]["Subject"] == f"case dev: {expected}"
    assert live.messages[0]["Message"] == "A: grün"
    assert len(live.messages[0]["Subject"]) < 100


def test_every_message_is_short_ascii_and_says_what_to_do(live: World) -> None:
    for name, window in (("drift", "2026-11-24"), ("failed", "2026-11-25"), ("few", "2026-11-26")):
        action(live, name, window)()
    handlers.score({"window": "none such"}, live.aws, live.places, NOW)
    assert len(live.messages) == 4
    for message in live.messages:
        assert message["Subject"].isascii()
        assert len(message["Subject"]) < 100
        assert "Decision: " in message["Message"]
        assert "To do: " in message["Message"]


@pytest.mark.parametrize(
    "called",
    [
        (handlers.start_inference, {"window": ""}),
        (handlers.after_inference, RUN_CHANGED),
        (release.publish_release, PACKAGE_CHANGED),
        (handlers.labels_arrived, OBJECT_CREATED),
    ],
)
def test_handlers_find_their_names_in_the_environment_and_log_what_they_did(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    called: tuple[Any, Event],
) -> None:
    (tmp_path / "usecase.toml").write_text(
        '[retraining]\nbudget = 7\n[drift]\nminimum_rows = 5\n[split]\nmethod = "given"\n'
    )
    (tmp_path / "batchloop" / "control").mkdir(parents=True)
    monkeypatch.setattr(control_names, "__file__", str(tmp_path / "batchloop" / "control" / "names.py"))
    names = {
        "NAMESPACE": "team",
        "USECASE": "case",
        "ENVIRONMENT": "dev",
        "BUCKET": BUCKET,
        "TOPIC_ARN": world.places.topic,
    }
    for name, value in (names | {"AWS_DEFAULT_REGION": REGION}).items():
        monkeypatch.setenv(name, value)
    handler, event = called
    said = handler(event, None)
    assert capsys.readouterr().out == f"{said}\n"
    here = control_names.here()
    assert here == replace(world.places, settings=Settings(budget=7, minimum_rows=5), given_validation=True)


def test_a_client_is_made_for_every_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        made = control_names.connect()
    assert {getattr(made, field.name).meta.service_model.service_name for field in fields(Aws)} == {
        field.name for field in fields(Aws)
    }
    asked, minute = made.glue.meta.config, 60  # a function's, for two or three calls of the catalog among others
    assert 3 * asked.retries["total_max_attempts"] * (asked.connect_timeout + asked.read_timeout) < minute


def test_an_event_that_is_none_of_these_fails_loudly(live: World) -> None:
    for function in (handlers.run_ended, release.package_changed, handlers.object_created):
        with pytest.raises(KeyError):
            function({"source": "aws.ec2"}, live.aws, live.places, NOW)


@pytest.mark.parametrize("time", ["2026-11-24T06:00:00Z", "2026-11-24T08:00:00.5+02:00"])
def test_times_are_kept_in_utc_so_that_they_sort(time: str) -> None:
    assert reports.moment(time) == "2026-11-24T06:00:00+00:00"


@pytest.mark.parametrize(
    ("uri", "window"),
    [
        ("s3://my.bucket/team/case/data/2026-11-24/train/", "2026-11-24"),
        ("s3://my.bucket/team/case/data/2026-11-24/train/a/b.csv", "2026-11-24"),
        ("s3://my-bucket/team/case/data/2026-11-24/train/", ""),
        ("s3://my.bucket/team/case/data/2026-11-24/trainer", ""),
        ("s3://my.bucket/team/case/data/2026-11-24/production/", ""),
        ("s3://my.bucket/team/case/data/a/b/train", ""),
        ("s3://my.bucket/team/case/data/../train", ""),
    ],
)
def test_a_window_is_known_by_where_its_data_lies(uri: str, window: str) -> None:
    assert control_names.Places("team", "case", "dev", "my.bucket", "", Settings()).window(uri, "train") == window


def test_pipeline_names_in_arns_are_compared_in_lower_case() -> None:
    assert handlers.run_changed(RUN_CHANGED).pipeline == "mypipeline-123"


def test_the_settings_of_this_use_case_are_valid() -> None:
    assert Settings.of(tomllib.loads((ROOT / "usecase.toml").read_text(encoding="utf-8"))).enabled


def test_functions_need_nothing_but_what_lambda_has() -> None:
    allowed = set(sys.stdlib_module_names) | {"boto3", "botocore", "batchloop"}
    for file in sorted((ROOT / "batchloop" / "control").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 11))
        assert ast.get_docstring(tree), file.name
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, file.name
