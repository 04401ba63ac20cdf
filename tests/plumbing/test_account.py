"""An account from its first day to its last: every command of the README in order, and what is left in the end.

moto and tests/cloudformation.py stand where AWS would, a few lines for docker; tests/contract/test_buildspec.py pushes
real images.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from batchloop.cloud import bootstrap, images, release
from batchloop.cloud.deploy import deploy, teardown
from batchloop.cloud.images import Image
from batchloop.container.job import InputError
from batchloop.repository import COMPONENTS, Repository
from plumbing import deployed
from plumbing.deployed import ACCOUNT, NAME, REGION, Account
from plumbing.test_releasing import set_account

STAGING = "team-case-staging"
ARTIFACTS = {"preprocessor": "PrepareTrainingData", "model": "TrainModel", "baseline": "LearnBaseline"}
ARTIFACTS |= {"explainer": "LearnExplainer"}
PUSHED = ["application/vnd.docker.distribution.manifest.v2+json"]  # the kind of manifest that docker's stand-in pushes


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """All four components, unlike in the tests of single commands."""
    found = Account()
    with mock_aws():
        deployed.in_use(found, monkeypatch)
        monkeypatch.setattr("batchloop.control.names.COMPONENTS", COMPONENTS)
        yield found


@pytest.fixture
def repository(tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch) -> Repository:
    found = deployed.repository(tmp_path, monkeypatch)
    set_account(tmp_path, "staging", ACCOUNT)
    built = [Image(name, f"local/team/case/{name}:c0ffee", missing=False, lock=name) for name in COMPONENTS]
    monkeypatch.setattr(images, "current", lambda *_: built)
    monkeypatch.setattr(images, "build", lambda *_: built)
    monkeypatch.setattr(images, "docker", lambda *words, **_: docker(account, *words))
    return found


def docker(account: Account, *words: str) -> str:
    """The registry is moto's: a push puts a manifest, an inspection finds its digest."""
    if words[0] in ("login", "tag"):
        return ""
    repository, _, tag = words[-1].partition("/")[2].rpartition(":")
    ecr = account.past("ecr")
    if words[0] == "push":
        manifest = json.dumps({"schemaVersion": 2, "mediaType": PUSHED[-1], "of": repository})
        ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)
        return ""
    try:
        [found] = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
        raise InputError("not found") from None
    return json.dumps({"digest": found["imageDigest"], "mediaType": found["imageManifestMediaType"]})


def registered(account: Account, version: int) -> None:
    """What a training run in dev leaves: artifacts, and a model package that names them."""
    pushed = {name: value(account, f"dev/components/{name}/image") for name in COMPONENTS}
    run = f"team/case/dev/training/{version:012}"
    for step in ARTIFACTS.values():
        account.past("s3").put_object(Bucket=f"{NAME}-{ACCOUNT}-euc1", Key=f"{run}/{step}/x/manifest.json", Body=b"{}")
    about = {name: f"s3://{NAME}-{ACCOUNT}-euc1/{run}/{step}/x/" for name, step in ARTIFACTS.items()}
    about |= {f"{name}_image": image for name, image in pushed.items()}
    about |= {
        "training_data": f"s3://{NAME}-{ACCOUNT}-euc1/team/case/data/2026-0{version}/train/",
        "git_commit": "c0ffee",
    }
    client = account.past("sagemaker")
    if version == 1:  # the stack's own resource
        client.create_model_package_group(ModelPackageGroupName=NAME)
    client.create_model_package(
        ModelPackageGroupName=NAME,
        ModelApprovalStatus="Approved",
        CustomerMetadataProperties={**about, "contract": "37292a7f3b7932a2"},
    )


def value(account: Account, name: str) -> str:
    return str(account.past("ssm").get_parameter(Name=f"/team/case/{name}")["Parameter"]["Value"])


def released(account: Account, environment: str) -> dict[str, Any]:
    return dict(json.loads(value(account, f"{environment}/release")))


def test_from_the_first_day_to_the_last(
    repository: Repository, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="make bootstrap CREATE=yes"):
        images.push(repository)
    staging = replace(repository, environment="staging")
    for seen in (repository, staging):
        assert bootstrap.run(seen, "create", account.connect) == 0
        assert images.push(seen) == 0
        assert deploy(seen, True) == 0
        capsys.readouterr()
        assert deploy(seen, True) == 0
        assert "nothing was changed" in capsys.readouterr().out
    assert account.stacks() == dict.fromkeys(
        (f"{NAME}-storage", NAME, f"{STAGING}-storage", STAGING), "CREATE_COMPLETE"
    )

    for version in (1, 2):
        registered(account, version)
        assert release.release(repository) == 0
        assert released(account, "dev")["version"] == version
    for image in released(account, "dev")["images"].values():
        assert re.fullmatch(
            rf"{ACCOUNT}\.dkr\.ecr\.{REGION}\.amazonaws\.com/team/case/\w+@sha256:[0-9a-f]{{64}}", image
        )

    assert release.promote(repository, "dev", "staging") == 0
    promoted = released(account, "staging")
    assert promoted["images"] == released(account, "dev")["images"]
    assert promoted["model_package"] == released(account, "dev")["model_package"]
    for uri in promoted["artifacts"].values():
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        assert bucket == f"{STAGING}-{ACCOUNT}-euc1"
        assert account.past("s3").list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] == 1

    assert release.rollback(repository) == 0
    assert (released(account, "dev")["version"], released(account, "dev")["model_package"][-2:]) == (3, "/1")
    assert released(account, "staging") == promoted

    capsys.readouterr()
    for name, seen in ((NAME, repository), (STAGING, staging)):
        assert teardown(seen, name) == 0
    said = capsys.readouterr().out
    assert account.stacks() == dict.fromkeys((f"{NAME}-storage", f"{STAGING}-storage"), "CREATE_COMPLETE")
    assert account.pipelines() == {}
    assert account.parameters() == set()
    kept = [its["Name"] for its in account.past("s3").list_buckets()["Buckets"]]
    assert sorted(kept) == [f"{NAME}-{ACCOUNT}-euc1", f"{STAGING}-{ACCOUNT}-euc1"]
    models = account.past("sagemaker").list_model_packages(ModelPackageGroupName=NAME)
    assert len(models["ModelPackageSummaryList"]) == 2
    for component in COMPONENTS:
        assert account.past("ecr").describe_images(repositoryName=f"team/case/{component}")["imageDetails"]
        assert f"keeps: the image repository team/case/{component}" in said
    for words in (*kept, f"the model package group {NAME}", f"the model package group {STAGING}"):
        assert words in said


@pytest.mark.parametrize("kind", ["image.manifest", "image.index"])
def test_an_image_that_sagemaker_would_refuse_is_not_recorded(
    repository: Repository, account: Account, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """amazon-sagemaker-feedback #180: "Unsupported manifest media type application/vnd.oci.image.manifest.v1+json"."""
    monkeypatch.setattr("plumbing.test_account.PUSHED", [f"application/vnd.oci.{kind}.v1+json"])
    bootstrap.run(repository, "create", account.connect)
    for _ in range(2):  # also where it lies there from earlier on
        with pytest.raises(InputError) as raised:
            images.push(repository)
        assert f"is in the registry as application/vnd.oci.{kind}.v1+json" in str(raised.value)
        assert "Delete it there" in str(raised.value)
    assert value(account, "dev/components/processing/image") == "none"
