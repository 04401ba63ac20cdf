"""`make images` and `make push`: the four images, built where their content changed, pushed where they are missing.

From another registry they are copied: the same bytes by the same digest, without docker and without building anything.
"""

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from batchloop import repository as batchloop_repository
from batchloop.cloud.session import CallFailed, Session, opened
from batchloop.container import usecase
from batchloop.container.job import InputError
from batchloop.control import names
from batchloop.control.names import NOTHING, RELEASED
from batchloop.engine.containers import docker, exists, meaning
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, Repository

PLATFORM = "linux/amd64"  # what SageMaker's instances are, whatever this machine is
# The one kind of manifest that SageMaker's CreateModel is known to take: it has refused OCI's, which BuildKit writes
# from 0.31 on, and before that for every image with attestations ("Unsupported manifest media type").
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
ATTESTATIONS = ["type=provenance,disabled=true", "type=sbom,disabled=true"]
INSPECT = ("buildx", "imagetools", "inspect", "--format")
LABEL = "org.opencontainers.image"  # begins the labels, as OCI names them; base.digest is of what an image is built on
Texts = Mapping[str, str]
SECONDS = 60  # without a byte of a layer
ABSENT = ("not found", "manifest unknown", "name unknown", "repository does not exist")


@dataclass(frozen=True)
class Image:
    """One component's image as the sources are now, and whether it has to be built."""

    component: str
    name: str
    missing: bool
    lock: str

    @property
    def version(self) -> str:
        return self.name.rpartition(":")[2]


def current(repository: Repository, locks: Mapping[str, str]) -> list[Image]:
    """`locks`: component → what it is made of, where that is not its own."""
    made = {name: locks.get(name, name) for name in COMPONENTS}
    tags = {name: batchloop_repository.component(repository, name, lock) for name, lock in made.items()}
    named = {name: repository.image(name, tag) for name, tag in tags.items()}
    return [Image(component, name, not exists(name), made[component]) for component, name in named.items()]


def show(repository: Repository) -> int:
    for image in build(repository, definitions.locks(repository, definitions.read(repository)[1])):
        print(f"{image.component:<15} {'built' if image.missing else 'unchanged':<10} {image.name}")
    return 0


def build(repository: Repository, locks: Texts | None = None, cache: Texts | None = None) -> list[Image]:
    """Build what is missing; the four images. `cache`: component → image with layers to reuse. Raises InputError."""
    images = current(repository, locks or {})
    if missing := [image for image in images if image.missing]:
        print(f"building {', '.join(image.component for image in missing)}", flush=True)
        usecase.load(repository.root / "usecase.toml")  # it goes into them
        definitions.check_hyperparameters(repository)
        _bake(repository, missing, cache or {})
    return images


def _bake(repository: Repository, images: Sequence[Image], cache: Mapping[str, str]) -> None:
    base, pip = pinned(base_image(repository)), os.environ.get("PIP_CONFIG_FILE")
    commit, targets = definitions.git_commit(repository), {}
    name, _, digest = base.partition("@")
    for image in images:
        labels = {"version": image.version, "revision": commit, "title": image.component}
        labels |= {"base.name": name, "base.digest": digest} if digest else {}
        variant = {image.component.upper(): image.lock} if image.lock != image.component else {}
        targets[image.component] = {
            "output": ["type=docker,oci-mediatypes=false"],
            "attest": ATTESTATIONS,
            "context": str(repository.root),
            "dockerfile": "components/Dockerfile",
            "target": image.component,
            "platforms": [PLATFORM],
            "args": {"CODE_VERSION": image.version, **variant, "BASE_IMAGE": base},
            "labels": {f"{LABEL}.{label}": value for label, value in labels.items()},
            "tags": [image.name],
            "secret": ["id=pip,env=PIP_SETTINGS"] if pip else [],
            "cache-to": ["type=inline"],
            "cache-from": [cache[image.component]] if image.component in cache else [],
        }
    plan = json.dumps({"group": {"default": {"targets": [*targets]}}, "target": targets})
    log = repository.local / "images.log"
    repository.local.mkdir(exist_ok=True)
    command = ["docker", "buildx", "bake", "--file", "-", "--progress", "plain"]
    docker("version")  # says in one sentence what is wrong with docker itself
    try:  # as text: bake from 0.20 on asks leave to read files outside its folder, which older ones can't be given
        environment = {"PIP_SETTINGS": Path(pip).read_text(encoding="utf-8")} if pip else {}
    except OSError as error:
        raise InputError(f"PIP_CONFIG_FILE={pip} can't be read: {error.strerror}.") from None
    with log.open("w", encoding="utf-8") as out:
        said = {"stdout": out, "stderr": subprocess.STDOUT, "capture_output": False}
        done = batchloop_repository.ran(command, repository.root, environment, input=plan, **said)
    if done.returncode != 0:
        words = log.read_text(encoding="utf-8", errors="replace")
        what = meaning(words[-4000:]) or _last_words(words)
        raise InputError(f"the images could not be built: {what}\n  log: {repository.shown(log)}")


def base_image(repository: Repository) -> str:
    """What the images are built on: BASE_IMAGE, or what the Dockerfile names."""
    text = (repository.root / "components" / "Dockerfile").read_text(encoding="utf-8")
    return os.environ.get("BASE_IMAGE") or str(re.findall(r"(?m)^ARG BASE_IMAGE=(\S+)", text)[0])


def pinned(base: str) -> str:
    """A base image with the digest that its registry has for its tag now; as it is where none answers."""
    with suppress(InputError, ValueError, LookupError, TypeError):
        return base if "@" in base else f"{base}@{json.loads(docker(*INSPECT, '{{json .Manifest}}', base))['digest']}"
    return base


def built_on(image: str) -> str:
    """name@digest of the base of an image here, or of a registry's; "" where none of its labels says it."""
    labels: Mapping[str, str] = {}
    with suppress(InputError, ValueError, LookupError, TypeError):
        if exists(image):
            labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image)) or {}
        elif "@" in image:
            labels = json.loads(docker(*INSPECT, "{{json .Image}}", image))["config"]["Labels"]
    name, digest = (labels.get(f"{LABEL}.base.{part}", "") for part in ("name", "digest"))
    return f"{name}@{digest}" if digest else ""


def _last_words(log: str) -> str:
    target = re.findall(r"^#\d+ \[([\w-]+) [\d/]+\]", log, re.MULTILINE)
    said = re.findall(r"^#?\d* ?[\d.]+ (?=\S)(.*(?:[Ee]rror|ERROR|failed|No ).*)$", log, re.MULTILINE)
    errors = re.findall(r"^ERROR: (.*)$", log, re.MULTILINE)
    last = (said or errors or log.strip().splitlines() or ["docker said nothing"])[-1]
    return f"{last}" + (f" ({target[-1]})" if target and said else "")


def push(repository: Repository, host: str = "", source: str = "", profile: str = "") -> int:
    """Build and push what is missing, record digests that changed; the exit code. Raises InputError; a re-run goes on.

    `host` is another registry than the account's own. With a `source`, the images that are recorded for that
    environment are copied by their digests, and nothing is built; `profile` signs in to its account.
    """
    session = opened(repository)
    before = recorded(session)
    if source:
        giving = opened(replace(repository, environment=source), profile)
        digests = copied(giving, session, pushed(giving))
        print(*other_variants(giving, session), sep="", end="")
    else:
        registry = f"{host or _sign_in(session)}/{session.environment.folder}"
        locks = definitions.locks(repository, session.environment)
        images = current(repository, locks)
        digests = {image.component: digest(registry, image) for image in images}
        if missing := [image for image in images if not digests[image.component]]:
            build(repository, locks, {component: uri for component, uri in before.items() if uri != NOTHING})
        for image in missing:
            digests[image.component] = _push(registry, image)
    for component, uri in digests.items():
        if before[component] == uri:  # a write of the same value would still be a new version
            print(f"{component:<15} unchanged {uri}")
        else:
            parameter = session.environment.parameter(f"components/{component}/image")
            session.call("ssm", "put_parameter", Name=parameter, Value=uri, Overwrite=True)
            print(f"{component:<15} recorded in {parameter}", flush=True)
    return 0


def other_variants(giving: Session, taking: Session) -> Iterator[str]:
    """A line where an image that is copied was not made for the instances that it comes to."""
    made, wanted = (definitions.locks(its.repository, its.environment) for its in (giving, taking))
    for component in (name for name, lock in made.items() if lock != wanted[name]):
        has = "a GPU, which is paid for and idle" if made[component] == component else "no GPU, and CUDA in its image"
        yield f"{component}: {taking.name} gives it {has}: {giving.name}'s image was made for other instances\n"


def recorded(session: Session) -> dict[str, str]:
    """Component → what the Parameter Store says of its image. Raises InputError where bootstrap has not been."""
    return {name: str(session.parameter(f"components/{name}/image")["Value"]) for name in names.COMPONENTS}


def pushed(session: Session) -> dict[str, str]:
    """As `recorded`. Raises InputError where an image was never pushed."""
    found = recorded(session)
    if missing := [component for component, uri in found.items() if uri == NOTHING]:
        command = f"make push ENV={session.name}"
        raise InputError(f"{session.name} has no image of {', '.join(missing)} yet; run `{command}` first.")
    return found


def _sign_in(session: Session) -> str:
    """Let docker into the account's registry; its host."""
    [data] = session.call("ecr", "get_authorization_token", "authorizationData")
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    host = f"{session.account}.dkr.ecr.{session.environment.region}.{session.environment.place['suffix']}"
    docker("login", "--username", user, "--password-stdin", host, given=password)
    return host


def digest(registry: str, image: Image) -> str:
    """repository@sha256:… of an image in the registry, "" where it is not. Raises InputError."""
    name = f"{registry}/{image.component}:{image.version}"
    try:
        manifest = json.loads(docker(*INSPECT, "{{json .Manifest}}", name))
    except InputError as failure:
        if not any(sign in str(failure).lower() for sign in ABSENT):
            raise
        return ""
    if (kind := manifest.get("mediaType")) != MANIFEST:
        raise InputError(
            f"{name} is in the registry as {kind}, and SageMaker's CreateModel takes {MANIFEST}. "
            "Delete it there, and here with `docker image rm`, and push again; if it comes back like this, another "
            "builder is in use than `make images` asks for: `docker buildx use default` takes docker's own."
        )
    return f"{registry}/{image.component}@{manifest['digest']}"


def _push(registry: str, image: Image) -> str:
    name = f"{registry}/{image.component}:{image.version}"
    docker("tag", image.name, name)
    print(f"{image.component:<15} on its way", flush=True)
    try:
        docker("push", "--quiet", name)
    except InputError:
        # tags are immutable: somebody may have pushed the same content a moment earlier
        if not digest(registry, image):
            raise
    if not (found := digest(registry, image)):
        raise InputError(f"{name} was pushed, but the registry does not have it; run it again.")
    print(f"{image.component:<15} pushed {found}", flush=True)
    return found


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
