"""The release: one manifest in SSM that names everything that belongs together. Rollback and promotion use it too."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from batchloop.control import artifacts, reports, storage
from batchloop.control.artifacts import NotReleased
from batchloop.control.names import COMPONENTS, NOTHING, RELEASED, Aws, Places, besides, handler, order
from batchloop.control.storage import Stored

Manifest = dict[str, Any]
SCHEMA = 1
OCCASION = ("version", "created", "by", "reason")  # what differs between two releases of the same thing
TEXTS = ("created", "by", "reason", "model_package", "training_data", "git_commit", "contract")
ECR = re.compile(r"(\d{12})\.dkr\.ecr\.[^/]+/([^@:]+)(?:@(sha256:[0-9a-f]{64})|:([\w.-]+))")
APPROVED = "Approved"


def current(aws: Aws, places: Places) -> tuple[Stored, Manifest | None]:
    """The parameter, and the manifest in it, None before the first. Raises NotReleased for a damaged one."""
    stored = storage.read(aws.ssm, places.parameter("release"))
    return stored, parsed(stored.text)


def parsed(text: str) -> Manifest | None:
    """The manifest that the parameter holds, None for `none`. Raises NotReleased for anything else."""
    if text == NOTHING:
        return None
    manifest: Any = None
    with suppress(ValueError):
        manifest = json.loads(text)
    check(manifest)
    return dict(manifest)


def written(manifest: Manifest) -> str:
    """The text that the parameter holds; it may hold no {{ ("PutParameter"), which stand in what people write alone."""
    return json.dumps(manifest, separators=(",", ":")).replace("{{", "{\\u007b")


def check(manifest: Any) -> None:
    """Raises NotReleased for what is no manifest of this schema."""
    whole = (
        isinstance(manifest, dict)
        and (manifest.get("schema"), type(manifest.get("version"))) == (SCHEMA, int)
        and all(isinstance(manifest.get(name), str) for name in TEXTS)
        and all(isinstance(manifest.get(name), dict) for name in ("images", "artifacts", "metrics"))
        and set(manifest["images"]) == set(COMPONENTS)
        and set(manifest["artifacts"]) == set(COMPONENTS.values())
    )
    if not whole:
        raise NotReleased(
            f"the release's manifest is none of schema {SCHEMA}; `make rollback` brings an earlier release back."
        )


def history(aws: Aws, places: Places) -> list[Manifest]:
    """The releases so far, the newest first; SSM keeps 100 versions of a parameter."""
    pages = aws.ssm.get_paginator("get_parameter_history").paginate(Name=places.parameter("release"))
    found = []
    for text in [entry["Value"] for page in pages for entry in page["Parameters"]][::-1]:
        with suppress(NotReleased):  # what an older schema wrote
            if manifest := parsed(text):
                found.append(manifest)
    return found


def build(aws: Aws, package: Mapping[str, Any], by: str, reason: str, created: str) -> Manifest:
    """The manifest of a model package (DescribeModelPackage's answer). Raises NotReleased where it lacks something."""
    about = package.get("CustomerMetadataProperties", {})
    wanted = [*COMPONENTS.values(), *(f"{component}_image" for component in COMPONENTS)]
    if lacking := [name for name in wanted if name not in about]:
        raise NotReleased(f"its metadata has no {', '.join(lacking)}: the training pipeline did not register it.")
    uri = package.get("ModelMetrics", {}).get("ModelQuality", {}).get("Statistics", {}).get("S3Uri", "")
    evaluation = (storage.read_json(aws, uri) if uri else None) or {}
    # as the training job names them, and `gate:trusted`, 0 where they say little of new rows
    splits = {split: evaluation.get(split) or {} for split in ("validation", "test", "champion")}
    metrics = {f"{split}:{name}": value for split, values in splits.items() for name, value in values.items()}
    metrics |= {"gate:value": splits["test"].get(evaluation.get("metric")), "gate:lead": evaluation.get("lead")}
    metrics |= {"gate:trusted": 0} if (evaluation.get("leak") or {}).get("trusted") is False else {}
    return {
        "schema": SCHEMA,
        "version": 0,
        "created": created,
        "by": by,
        "reason": reason,
        "model_package": package["ModelPackageArn"],
        "images": {name: pinned(aws, about[f"{name}_image"]) or about[f"{name}_image"] for name in COMPONENTS},
        "artifacts": {name: about[name] for name in COMPONENTS.values()},
        "metrics": {name: float(f"{value:.6g}") for name, value in metrics.items() if value is not None},
        "earlier_windows": besides(sorted(evaluation.get("earlier") or [], key=order)),
        **{name: about.get(name, "") for name in ("training_data", "git_commit", "contract")},
    }


def pipeline_version(aws: Aws, places: Places) -> int:
    """The newest version of the inference pipeline, 0 where it is not deployed."""
    request = {"PipelineName": places.pipeline("inference"), "SortOrder": "Descending", "MaxResults": 1}
    with storage.passed_over("ResourceNotFound"):
        found = aws.sagemaker.list_pipeline_versions(**request)["PipelineVersionSummaries"]
        return max((int(entry["PipelineVersionId"]) for entry in found), default=0)
    return 0


def kept(aws: Aws, places: Places, manifest: Manifest) -> Manifest:
    """With copies of its artifacts and the pipeline as it is deployed now. Raises NotReleased where one is missing."""
    place, found = artifacts.folder(places, manifest["model_package"]), artifacts.found(aws, manifest["artifacts"])
    about = artifacts.keep(aws, place, manifest["artifacts"], (found, ""), artifacts.copying(aws))
    return {**manifest, "pipeline_version": pipeline_version(aws, places), **about}


def put(aws: Aws, places: Places, stored: Stored, before: Manifest | None, manifest: Manifest) -> tuple[Manifest, bool]:
    """Write it over `stored`, as the next version, unless it is what `before` is; the release, and whether it is new.

    `before` is the manifest in `stored`, None where there is none or a damaged one. The parameters
    components/*/artifact follow it; components/*/image, what `make push` built last, is only filled where it is empty.
    Two releases never share a number, also where the parameter was damaged in between. Raises Conflict.
    """
    new = before is None or identity(before) != identity(manifest)
    if new:
        earlier = [before] if before else history(aws, places) if stored.version > 1 else []
        last = max((int(release["version"]) for release in earlier), default=0)
        manifest = {**manifest, "version": last + 1}
        keep_images(aws, manifest)
        storage.write(aws.ssm, stored, written(manifest))
    else:
        manifest = before or {}
    for component, artifact in COMPONENTS.items():
        uri, image = (places.parameter(f"components/{component}/{kind}") for kind in ("artifact", "image"))
        storage.write(aws.ssm, storage.read(aws.ssm, uri), manifest["artifacts"][artifact])
        if (empty := storage.read(aws.ssm, image)).text == NOTHING:
            storage.write(aws.ssm, empty, manifest["images"][component])
    return manifest, new


def publish(aws: Aws, places: Places, manifest: Manifest) -> tuple[Manifest, bool]:
    """As `put`, after a look at what it names. Raises Conflict, and NotReleased where that is missing or another."""
    check(manifest)
    if found := list(troubles(aws, manifest)):
        raise NotReleased(f"{', '.join(found)}.")
    stored, before = current(aws, places)
    return put(aws, places, stored, before, manifest)


def troubles(aws: Aws, manifest: Manifest) -> Iterator[str]:
    """In words, which images no longer exist, and which artifacts are gone or changed. Only ECR's can be looked for."""
    yield from (f"{image} does not exist" for image in manifest["images"].values() if not pinned(aws, image))
    yield from artifacts.troubles(aws, manifest)


def pinned(aws: Aws, image: str) -> str:
    """An ECR image by its digest, "" where it does not exist; any other image as it is."""
    found = ECR.fullmatch(image)
    if not found:
        return image
    registry, repository, digest, tag = found.groups()
    wanted = {"imageDigest": digest} if digest else {"imageTag": tag}
    with storage.passed_over("ImageNotFoundException", "RepositoryNotFoundException"):
        answer = aws.ecr.describe_images(registryId=registry, repositoryName=repository, imageIds=[wanted])
        return f"{re.split('[@:]', image)[0]}@{answer['imageDetails'][0]['imageDigest']}"
    return ""


def keep_images(aws: Aws, manifest: Manifest) -> None:
    """Give the images in the account's own registry a tag by which no rule of their repository expires them."""
    for image in manifest["images"].values():
        found = ECR.fullmatch(image)
        if not found or not found[3]:
            continue
        wanted = {"repositoryName": found[2], "imageIds": [{"imageDigest": found[3]}]}
        # without a registry's id: another account's has rules of its own
        with storage.passed_over("ImageAlreadyExistsException", "RepositoryNotFoundException"):
            for held in aws.ecr.batch_get_image(**wanted)["images"][:1]:
                tag = f"{RELEASED}{found[3].partition(':')[2][:16]}"
                aws.ecr.put_image(repositoryName=found[2], imageManifest=held["imageManifest"], imageTag=tag)


def learned_from(manifest: Mapping[str, Any]) -> str:
    """The data that a release learned from, in words; what was released before `earlier_windows` has none."""
    earlier = manifest.get("earlier_windows", "")
    return f"{manifest['training_data']} and {earlier}" if earlier else str(manifest["training_data"])


def identity(manifest: Manifest) -> Manifest:
    """What is released, without when, by whom and why."""
    return {name: value for name, value in manifest.items() if name not in OCCASION}


def version(manifest: Mapping[str, Any]) -> dict[str, int]:
    """StartPipelineExecution's member for the version that a release runs under; none where it names none."""
    number = manifest.get("pipeline_version")
    return {"PipelineVersionId": number} if number else {}


def package_changed(event: Mapping[str, Any], aws: Aws, places: Places, now: datetime) -> str:
    """Release a model package of the environment's group that was approved. What was done, in a sentence.

    Of "SageMaker Model Package State Change"; packages outside any group have neither group nor approval. An approved
    package is released once: what has been released before comes back by `make rollback` only, because any later change
    of a package is the same event again. An approval older than the release is late, and is not one.
    """
    detail, time = event["detail"], reports.moment(event["time"])
    arn, status = detail["ModelPackageArn"], "ModelApprovalStatus"
    approved = (detail.get("ModelPackageGroupName"), detail.get(status)) == (places.prefix, APPROVED)
    if not approved or status not in (detail.get("UpdatedModelPackageFields") or [status]):
        return "This is no approval of a model package here."
    try:
        return _published(aws, places, now, arn, time)
    except NotReleased as why:
        done = f"{arn} is approved and not released: {why}"
        todo = "Train again, or bring back what is missing and approve it anew. The release stays what it is."
        reports.tell(aws, places, "an approved model can't be released", {"Decision": done, "To do": todo})
        reports.measure(aws, places, now, {"ReleaseRefused": 1})
        return done


def _published(aws: Aws, places: Places, now: datetime, arn: str, time: str) -> str:
    package = aws.sagemaker.describe_model_package(ModelPackageName=arn)
    if package.get("ModelApprovalStatus") != APPROVED:
        return f"{arn} is no longer approved."
    _, released = current(aws, places)
    if released and released["model_package"] != arn:
        if any(earlier["model_package"] == arn for earlier in history(aws, places)):
            return f"{arn} was released before; `make rollback` brings it back."
        if time < reports.moment(released["created"]):
            raise NotReleased(f"its approval of {time} is older than release {released['version']}.")
    reason = package.get("ApprovalDescription") or "approved"
    manifest = kept(aws, places, build(aws, package, approver(package), reason, time))
    if released and released["model_package"] == arn:  # the event moves no release to another pipeline
        manifest |= {"pipeline_version": released.get("pipeline_version", 0)}
    manifest, _ = publish(aws, places, manifest)
    reports.measure(aws, places, now, {"ReleaseRefused": 0})
    return f"{arn} is release {manifest['version']}."


def approver(package: Mapping[str, Any]) -> str:
    """Who changed a package last, or made it."""
    users = [package.get(key) or {} for key in ("LastModifiedBy", "CreatedBy")]
    names = [user.get("IamIdentity", {}).get("Arn") or user.get("UserProfileArn") for user in users]
    return str(next(filter(None, names), "unknown"))


def parameter_changed(event: Mapping[str, Any], aws: Aws, places: Places, now: datetime) -> str:
    """Tell of a new release, whoever wrote it: an approval, a person, a rollback or a promotion. It, in a sentence.

    Of "Parameter Store Change"; such an event says that something was written and not what, and may never come.
    """
    if event["detail"]["name"] != places.parameter("release"):
        return "This is no release here."
    try:
        _, manifest = current(aws, places)
    except NotReleased as why:
        damage = {"Decision": f"The release is damaged: {why}", "To do": "Nothing is scored until it is mended."}
        reports.tell(aws, places, "the release is damaged", damage)
        return damage["Decision"]
    if manifest is None:
        return "Nothing is released."
    measured = {name: value for name, value in manifest["metrics"].items() if name.startswith(("test:", "gate:"))}
    lines = {
        "Release": f"{manifest['version']}, model package {manifest['model_package']}",
        "Released by": f"{manifest['by']} ({manifest['reason']})",
        "Learned from": learned_from(manifest),
        "Metrics": ", ".join(f"{name} {value:g}" for name, value in measured.items()),
        "To do": f"Nothing. `make rollback ENV={places.environment}` goes back to the release before.",
    }
    reports.tell(aws, places, f"release {manifest['version']}: {manifest['reason']}", lines)
    reports.measure(aws, places, now, {"ReleaseVersion": manifest["version"]})
    return f"Release {manifest['version']} was told of."


def changed(event: Mapping[str, Any], aws: Aws, places: Places, now: datetime) -> str:
    tells = event.get("source") == "aws.ssm"
    return parameter_changed(event, aws, places, now) if tells else package_changed(event, aws, places, now)


publish_release = handler(changed)
