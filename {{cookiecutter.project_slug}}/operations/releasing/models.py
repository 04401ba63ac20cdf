"""`make release`: an approved model package becomes the release, as the approval event's function does it."""

from collections.abc import Mapping
from typing import Any

from functions import release as releases
from functions.publish_release import APPROVED
from functions.release import NotReleased
from operations.bootstrap.calls import ask
from operations.failures import Failure
from operations.releasing import signing, writing
from operations.releasing.signing import SignedIn
from operations.repository import Repository

Package = Mapping[str, Any]


def release(
    repository: Repository, environment: str, model: int | None = None, approve: bool = False, reason: str = ""
) -> int:
    """Release a version of the group, or the newest approved one; the exit code. Raises Failure.

    With `approve`, a version that is not approved is approved and nothing else: the event of that is what releases it,
    with the approver's name, as if somebody had approved it in the console.
    """
    if approve and model is None:
        raise Failure("APPROVE=yes approves one version; name it with MODEL=.")
    there = signing.sign_in(repository, environment)
    package = _chosen(there, model)
    number, status = package["ModelPackageVersion"], package["ModelApprovalStatus"]
    if status != APPROVED:
        if not approve:
            raise Failure(_unapproved(there, package))
        return _approve(there, package, reason or f"approved by hand for {environment}")
    now = writing.current(there)
    described = ask(there.aws.sagemaker, "describe_model_package", ModelPackageName=package["ModelPackageArn"])
    try:
        with there.asking("reading the model"):
            built = releases.build(there.aws, described, "", "", "")
    except NotReleased as why:
        raise Failure(f"model {number} can't be released: {why}") from None
    manifest = writing.occasion(there, built, reason or f"model {number} released by hand")
    writing.fits(there, manifest)
    writing.stands(there, manifest)
    return writing.write(there, now, manifest, f"make release ENV={environment} MODEL={number}")


def _chosen(there: SignedIn, model: int | None) -> Package:
    """Raises Failure where there is no such version, or none that is approved."""
    group = there.places.prefix
    with there.asking("listing the models"):
        request = {"ModelPackageGroupName": group, "SortBy": "CreationTime", "SortOrder": "Descending"}
        pages = there.aws.sagemaker.get_paginator("list_model_packages").paginate(**request)
        packages = [package for page in pages for package in page["ModelPackageSummaryList"]]
    wanted = [
        package
        for package in packages
        if (package["ModelApprovalStatus"] == APPROVED if model is None else package["ModelPackageVersion"] == model)
    ]
    if wanted:
        return dict(wanted[0])
    if not packages:
        raise Failure(f"{group} has no model yet; the training pipeline registers one.")
    if model is None:
        raise Failure(_unapproved(there, packages[0]))
    numbers = ", ".join(str(package["ModelPackageVersion"]) for package in reversed(packages))
    raise Failure(f"{group} has no version {model}; there are {numbers}.")


def _unapproved(there: SignedIn, package: Package) -> str:
    number, status = package["ModelPackageVersion"], package["ModelApprovalStatus"]
    return (
        f"version {number} of {there.places.prefix} is not approved ({status}); approve it in SageMaker, or with "
        f"`make release ENV={there.name} MODEL={number} APPROVE=yes`."
    )


def _approve(there: SignedIn, package: Package, reason: str) -> int:
    arn, number = package["ModelPackageArn"], package["ModelPackageVersion"]
    approval = {"ModelApprovalStatus": APPROVED, "ApprovalDescription": reason}
    ask(there.aws.sagemaker, "update_model_package", ModelPackageArn=arn, **approval)
    print(
        f"version {number} of {there.places.prefix} is approved. The event of that starts the function that releases "
        f"it; `make releases ENV={there.name}` shows when it has. Where the functions are not deployed, "
        f"`make release ENV={there.name} MODEL={number}` does the same."
    )
    return 0
