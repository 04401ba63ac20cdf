"""`make images` and `make push`: the four images, built where their content changed, pushed where they are missing."""

import base64
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchloop import repository as batchloop_repository
from batchloop.cloud.session import Session, opened
from batchloop.container import usecase
from batchloop.container.job import InputError, listed
from batchloop.control.names import NOTHING
from batchloop.engine.containers import docker, exists, meaning
from batchloop.engine.storage import write_json
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, Repository

PLATFORM = "linux/amd64"  # what SageMaker's instances are, whatever this machine is
PACKAGES = "/opt/packages"  # the step of the Dockerfile that makes this folder is the first that is ours
MEGABYTE = 1_000_000
ABSENT = ("not found", "manifest unknown", "name unknown", "repository does not exist")


@dataclass(frozen=True)
class Image:
    """One component's image as the sources are now; `reason` says why it has to be built, "" that it is there."""

    component: str
    name: str
    parts: Mapping[str, str]
    reason: str

    @property
    def version(self) -> str:
        return self.name.rpartition(":")[2]


def current(repository: Repository) -> list[Image]:
    """The four images that belong to the sources as they are, built or not."""
    before, images = _last_built(repository), []
    for component in COMPONENTS:
        parts = batchloop_repository.parts(repository, component)
        name = repository.image(component, batchloop_repository.of(parts))
        last = before.get(component, {})
        changed = sorted(part for part in {*last, *parts} if last.get(part) != parts.get(part))
        reason = f"{listed(changed, 3)} changed" if changed else "it is no longer on this machine"
        images.append(Image(component, name, parts, "" if exists(name) else reason if last else "there is none yet"))
    return images


def _last_built(repository: Repository) -> dict[str, Any]:
    """Component → what its image was made of when it was built last."""
    try:
        return dict(json.loads((repository.local / "images.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def show(repository: Repository) -> int:
    """Build, and say what is there."""
    for image in build(repository):
        if not image.reason:
            print(_line(image))
    return 0


def build(repository: Repository, cache: Mapping[str, str] | None = None) -> list[Image]:
    """Build what is not there, side by side; the four images. Raises InputError, and then nothing half built is tagged.

    `cache` maps a component to an image in a registry whose layers may be reused.
    """
    images = current(repository)
    missing = [image for image in images if image.reason]
    for image in missing:
        print(f"building {image.component}: {image.reason}", flush=True)
    if missing:
        usecase.load(repository.root / "usecase.toml")  # it goes into them
        definitions.check_hyperparameters(repository)
        _bake(repository, missing, cache or {})
        print(*(_line(image) for image in missing), sep="\n", flush=True)
    repository.local.mkdir(exist_ok=True)
    made = {image.component: dict(image.parts) for image in images}
    write_json(repository.local / "images.json", _last_built(repository) | made)
    return images


def _line(image: Image) -> str:
    """What it is called, and the uncompressed bytes that it adds to its base."""
    how = ("--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}")
    layers = docker("history", *how, image.name).splitlines()
    first = max((number for number, line in enumerate(layers) if f"venv --without-pip {PACKAGES}" in line), default=-1)
    size = sum(int(line.split(maxsplit=1)[0]) for line in layers[: first + 1]) / MEGABYTE
    return f"{image.component:<15} {size:>4.0f} MB  {'built' if image.reason else 'unchanged':<10} {image.name}"


def _bake(repository: Repository, images: Sequence[Image], cache: Mapping[str, str]) -> None:
    base, pip = os.environ.get("BASE_IMAGE"), os.environ.get("PIP_CONFIG_FILE")
    commit, targets = definitions.git_commit(repository), {}
    for image in images:
        labels = {"version": image.version, "revision": commit, "title": image.component}
        targets[image.component] = {
            "context": str(repository.root),
            "dockerfile": "components/Dockerfile",
            "target": image.component,
            "platforms": [PLATFORM],
            "args": {"CODE_VERSION": image.version, **({"BASE_IMAGE": base} if base else {})},
            "labels": {f"org.opencontainers.image.{name}": value for name, value in labels.items()},
            "tags": [image.name],
            "secret": [f"id=pip,src={pip}"] if pip else [],
            "cache-to": ["type=inline"],
            "cache-from": [cache[image.component]] if image.component in cache else [],
        }
    plan = json.dumps({"group": {"default": {"targets": [*targets]}}, "target": targets})
    log = repository.local / "images.log"
    repository.local.mkdir(exist_ok=True)
    command = ["docker", "buildx", "bake", "--file", "-", "--load", "--progress", "plain"]
    # SageMaker wants a plain image: an attestation would make it an index
    environment = os.environ | {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    docker("version")  # says in one sentence what is wrong with docker itself
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(  # noqa: S603 - the docker command line
            command, input=plan, stdout=out, stderr=subprocess.STDOUT, text=True, check=False, env=environment
        )
    if done.returncode != 0:
        said = log.read_text(encoding="utf-8", errors="replace")
        what = meaning(said[-4000:]) or _last_words(said)
        raise InputError(f"the images could not be built: {what}\n  log: {repository.shown(log)}")


def _last_words(log: str) -> str:
    """The step that failed, and the last thing it said."""
    target = re.findall(r"^#\d+ \[(\w+) [\d/]+\]", log, re.MULTILINE)
    said = re.findall(r"^#?\d* ?[\d.]+ (?=\S)(.*(?:[Ee]rror|ERROR|failed|No ).*)$", log, re.MULTILINE)
    errors = re.findall(r"^ERROR: (.*)$", log, re.MULTILINE)
    last = (said or errors or log.strip().splitlines() or ["docker said nothing"])[-1]
    return f"{last}" + (f" ({target[-1]})" if target and said else "")


def push(repository: Repository, name: str, host: str = "") -> int:
    """Look first, build and push only what is missing, record digests that changed; the exit code.

    `host` is another registry than the account's own. Raises InputError with what is left to do; a re-run goes on.
    """
    session = opened(repository, name)
    registry = f"{host or _sign_in(session)}/{session.environment.folder}"
    images = current(repository)
    digests = {image.component: digest(registry, image) for image in images}
    parameters = {name: session.environment.parameter(f"components/{name}/image") for name in COMPONENTS}
    recorded = {}
    for component, parameter in parameters.items():
        found = session.find("ssm", "get_parameter", ("ParameterNotFound",), "Parameter", Name=parameter)
        if found is None:
            raise InputError(f"there is no parameter {parameter}; `{session.environment.bootstrap}` makes it.")
        recorded[component] = str(found["Value"])
    if missing := [image for image in images if not digests[image.component]]:
        build(repository, {component: uri for component, uri in recorded.items() if uri != NOTHING})
    for image in missing:
        digests[image.component] = _push(registry, image)
    for component, uri in digests.items():
        if recorded[component] == uri:  # a write of the same value would still be a new version
            print(f"{component:<15} unchanged {uri}")
        else:
            session.call("ssm", "put_parameter", Name=parameters[component], Value=uri, Overwrite=True)
            print(f"{component:<15} recorded in {parameters[component]}", flush=True)
    write_json(repository.local / f"images-{name}.json", digests)
    return 0


def _sign_in(session: Session) -> str:
    """Let docker into the account's registry; its host."""
    [data] = session.call("ecr", "get_authorization_token", "authorizationData")
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    host = f"{session.account}.dkr.ecr.{session.environment.region}.{session.environment.place['suffix']}"
    docker("login", "--username", user, "--password-stdin", host, given=password)
    return host


def digest(registry: str, image: Image) -> str:
    """repository@sha256:… of an image in the registry, "" where it is not. Raises InputError."""
    repository = f"{registry}/{image.component}"
    how = ("--format", "{{json .Manifest}}", f"{repository}:{image.version}")
    try:
        return f"{repository}@{json.loads(docker('buildx', 'imagetools', 'inspect', *how))['digest']}"
    except InputError as failure:
        if not any(sign in str(failure).lower() for sign in ABSENT):
            raise
        return ""


def _push(registry: str, image: Image) -> str:
    name = f"{registry}/{image.component}:{image.version}"
    docker("tag", image.name, name)
    try:
        docker("push", "--quiet", name)
    except InputError:
        # tags are immutable: somebody may have pushed the same content a moment earlier
        if not digest(registry, image):
            raise
    if not (pushed := digest(registry, image)):
        raise InputError(f"{name} was pushed, but the registry does not have it; run it again.")
    print(f"{image.component:<15} pushed {pushed}", flush=True)
    return pushed
