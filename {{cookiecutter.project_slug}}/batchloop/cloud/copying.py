"""Images between two registries: the same bytes by the same digest, without docker and without building anything."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.request import urlopen

from batchloop.cloud.session import CallFailed, Session
from batchloop.container.job import InputError
from batchloop.control.names import RELEASED

SECONDS = 60  # without a byte


def copied(giving: Session, taking: Session, images: Mapping[str, str]) -> dict[str, str]:
    """Each component's image in the target's registry, copied where it is missing; other registries' stay.

    Raises InputError; a re-run goes on.
    """
    own, other = (f"{its.account}.dkr.ecr.{its.environment.region}." for its in (giving, taking))
    moved = {name: uri.replace(own, other) if uri.startswith(own) else uri for name, uri in images.items()}
    for component, to in moved.items():
        if to != images[component]:
            try:
                size = _copy(giving, taking, to)
            except CallFailed as failed:
                if failed.code != "RepositoryNotFoundException":
                    raise
                again = f"`{taking.environment.bootstrap}` makes it; then say this again."
                raise InputError(f"{taking.name} has no image repository {to.partition('@')[0]}. {again}") from None
            if size:
                print(f"{component:<15} copied to {to} ({size:,} bytes)", flush=True)
    return moved


def _copy(giving: Session, taking: Session, to: str) -> int:
    """Layers, then the manifest as it is, which keeps its digest; the bytes of the image, 0 where it is there."""
    name, _, digest = to.partition("@")
    repository = {"repositoryName": name.partition("/")[2]}
    asked = {**repository, "imageIds": [{"imageDigest": digest}]}
    look = partial(taking.find, "ecr", "describe_images", ("ImageNotFoundException",), **repository)
    if look(imageIds=asked["imageIds"]) is not None:
        return 0
    [about] = giving.call("ecr", "describe_images", "imageDetails", **asked)
    [found] = giving.call("ecr", "batch_get_image", "images", **asked)
    manifest = json.loads(found["imageManifest"])
    parts = {part["digest"]: part.get("size", 0) for part in [manifest["config"], *manifest["layers"]]}
    known = taking.call("ecr", "batch_check_layer_availability", "layers", **repository, layerDigests=[*parts])
    there = {layer["layerDigest"] for layer in known if layer.get("layerAvailability") == "AVAILABLE"}
    for part in (part for part in parts if part not in there):
        _copy_layer(giving, taking, repository, part)
    # tags are immutable: one that means other bytes there is left alone, and the copy is called after its digest
    tags = (tag for tag in about.get("imageTags", []) if not tag.startswith(RELEASED))
    free = (tag for tag in tags if look(imageIds=[{"imageTag": tag}]) is None)
    image: dict[str, Any] = {"imageManifest": found["imageManifest"], "imageDigest": digest}
    image["imageTag"] = next(free, f"promoted-{digest.partition(':')[2][:16]}")
    taking.find("ecr", "put_image", ("ImageAlreadyExistsException",), **repository, **image)
    return sum(parts.values())


def _copy_layer(giving: Session, taking: Session, repository: Mapping[str, str], digest: str) -> None:
    """In parts of the size that the registry asks for; it counts the digest itself, and refuses other bytes."""
    address = giving.call("ecr", "get_download_url_for_layer", "downloadUrl", **repository, layerDigest=digest)
    upload = taking.call("ecr", "initiate_layer_upload", **repository)
    where, first = {**repository, "uploadId": upload["uploadId"]}, 0
    try:
        with urlopen(address, timeout=SECONDS) as layer:  # noqa: S310 - ECR's own, signed address
            while part := layer.read(upload["partSize"]):
                last = first + len(part) - 1
                about = {"partFirstByte": first, "partLastByte": last, "layerPartBlob": part}
                taking.call("ecr", "upload_layer_part", **where, **about)
                first = last + 1
    except OSError as error:
        raise InputError(f"layer {digest} of {repository['repositoryName']} can't be read: {error}.") from None
    done = ("LayerAlreadyExistsException",)  # it came from elsewhere meanwhile
    taking.find("ecr", "complete_layer_upload", done, **where, layerDigests=[digest])
