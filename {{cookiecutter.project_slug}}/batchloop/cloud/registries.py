"""The same images in another registry: under the same digest, or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchloop.cloud.session import CallFailed, SignedIn, ask
from batchloop.control import release, storage
from batchloop.control.names import Places
from batchloop.repository import Failure


def images(giving: SignedIn, taking: SignedIn, released: Mapping[str, str]) -> dict[str, str]:
    """Each component's image in the target's registry. Raises Failure with the commands that copy what is missing.

    An image that is not in the source's own registry stays where it is: that registry serves both.
    """
    found = {component: _there(giving, taking, image) for component, image in released.items()}
    with taking.asking("looking for the images"):
        moved = {released[component]: image for component, image in found.items() if image != released[component]}
        missing = {image: to for image, to in moved.items() if not release.pinned(taking.aws, to)}
    if missing:
        commands = [_command(giving, image, to) for image, to in missing.items()]
        raise Failure(
            f"the registry of {taking.name} lacks {len(missing)} of {len(found)} images. Let docker sign in to both "
            "registries and run (buildx 0.15 or newer; without --prefer-index=false the digest changes):\n  "
            + "\n  ".join(commands)
        )
    return found


def _there(giving: SignedIn, taking: SignedIn, image: str) -> str:
    """The image's name in the target's registry, where it lies in the source's."""
    own, other = (f"{there.account}.dkr.ecr.{there.needs.region}." for there in (giving, taking))
    return f"{other}{image.removeprefix(own)}" if image.startswith(own) else image


def _command(giving: SignedIn, image: str, wanted: str) -> str:
    """What copies it, under the tag by which `make push` would look for it."""
    repository, _, digest = wanted.partition("@")
    request = {"repositoryName": repository.partition("/")[2], "imageIds": [{"imageDigest": digest}]}
    registry = image.partition(".")[0]
    [found] = ask(giving.aws.ecr, "describe_images", "imageDetails", registryId=registry, **request)
    tag = next(iter(found.get("imageTags", [])), digest.partition(":")[2][:16])
    return f"docker buildx imagetools create --prefer-index=false --tag {repository}:{tag} {image}"


PROMOTED = "promoted"
ETAG = "source-etag"  # the copy's own ETag differs with KMS and for parts ("Checking object integrity", S3 user guide)


@dataclass(frozen=True)
class Copy:
    """One object and where it goes; `etag` is the source's, in the quotes that HTTP has around it."""

    bucket: str
    key: str
    etag: str
    size: int
    to_bucket: str
    to_key: str


def destination(giving: Places, taking: Places, uri: str) -> str:
    """Where an artifact lies in the target: below training/promoted/<environment it was learned in>/, as it lay there.

    The same artifact always comes to the same place, also by way of a third environment.
    """
    runs = f"{giving.runs('training')}/"
    path = uri.removeprefix(runs) if uri.startswith(runs) else storage.split(uri)[1]
    if not path.startswith(f"{PROMOTED}/"):
        path = f"{PROMOTED}/{giving.environment}/{path}"
    return f"{taking.runs('training')}/{path}"


def copy_all(giving: SignedIn, taking: SignedIn, pairs: Sequence[tuple[str, str]]) -> None:
    """Copy artifacts, each from a URI to a URI. Raises CallFailed, and Failure where another file lies there."""
    copies = [copy for uri, to in pairs for copy in _objects(giving, uri, to)]
    missing = [copy for copy in copies if not _is_there(taking, copy)]
    for copy in missing:
        with taking.asking(f"copying s3://{copy.bucket}/{copy.key} into the bucket"):
            _copy(giving, taking, copy)
    size = sum(copy.size for copy in missing)
    print(f"{len(missing)} of {len(copies)} files copied to {taking.name} ({size:,} bytes)", flush=True)


def _objects(giving: SignedIn, uri: str, to: str) -> Iterator[Copy]:
    """The object, or those in the folder; a console's "folder" objects are none."""
    (bucket, key), (to_bucket, to_key) = storage.split(uri), storage.split(to)
    with giving.asking(f"listing {uri}"):
        pages = giving.aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        entries = [entry for page in pages for entry in page.get("Contents", [])]
    for entry in entries:
        below = entry["Key"].removeprefix(key)
        if below == "" or (below.startswith("/") and not below.endswith("/")):
            yield Copy(bucket, entry["Key"], entry["ETag"], entry["Size"], to_bucket, f"{to_key}{below}")


def _is_there(taking: SignedIn, copy: Copy) -> bool:
    """Raises Failure for another file: a release may name it, so it is not replaced."""
    try:
        found = ask(taking.aws.s3, "head_object", Bucket=copy.to_bucket, Key=copy.to_key)
    except CallFailed as failed:
        if failed.code not in ("404", "NoSuchKey"):
            raise
        return False
    if found["ContentLength"] == copy.size and copy.etag in (found["ETag"], f'"{found["Metadata"].get(ETAG)}"'):
        return True
    raise Failure(
        f"s3://{copy.to_bucket}/{copy.to_key} is another file than s3://{copy.bucket}/{copy.key}, and a release may "
        f"need it; remove it if none of {taking.name} does."
    )


def _copy(giving: SignedIn, taking: SignedIn, copy: Copy) -> None:
    about: dict[str, Any] = {"Metadata": {ETAG: copy.etag.strip('"')}}
    if giving.account == taking.account:
        source = {"Bucket": copy.bucket, "Key": copy.key}
        extra = about | {"MetadataDirective": "REPLACE", "CopySourceIfMatch": copy.etag}
        taking.aws.s3.copy(source, copy.to_bucket, copy.to_key, ExtraArgs=extra, SourceClient=giving.aws.s3)
        return
    body = giving.aws.s3.get_object(Bucket=copy.bucket, Key=copy.key, IfMatch=copy.etag)["Body"]
    taking.aws.s3.upload_fileobj(body, copy.to_bucket, copy.to_key, ExtraArgs=about)
