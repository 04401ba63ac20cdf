"""`make images`: the four images, built where their content changed, and why."""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchloop import repository as batchloop_repository
from batchloop.container.job import listed
from batchloop.engine.containers import docker, exists, meaning_of
from batchloop.engine.storage import write_json
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, Failure, Repository

PLATFORM = "linux/amd64"  # what SageMaker's instances are, whatever this machine is
DOCKERFILE = "components/Dockerfile"
PACKAGES = "/opt/packages"  # the step of the Dockerfile that makes this folder is the first that is ours
MEGABYTE = 1_000_000


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
    return [_image(repository, component) for component in COMPONENTS]


def build(repository: Repository, cache: Mapping[str, str] | None = None) -> list[Image]:
    """Build what is not there, side by side; the four images. Raises Failure, and then nothing half built is tagged.

    `cache` maps a component to an image in a registry whose layers may be reused.
    """
    images = current(repository)
    missing = [image for image in images if image.reason]
    for image in missing:
        print(f"building {image.component}: {image.reason}", flush=True)
    if missing:
        definitions.read_case(repository)  # it goes into them
        definitions.check_hyperparameters(repository)
        bake(repository, missing, cache or {})
        print(*(_line(image) for image in missing), sep="\n", flush=True)
    repository.local.mkdir(exist_ok=True)
    kept = _known(repository) | {image.component: dict(image.parts) for image in images}
    write_json(repository.local / "images.json", kept)
    return images


def show(repository: Repository) -> int:
    """Build, and say what is there."""
    for image in build(repository):
        if not image.reason:
            print(_line(image))
    return 0


def _line(image: Image) -> str:
    """What it is called, and how large it is beyond the base image."""
    state = "built" if image.reason else "unchanged"
    return f"{image.component:<15} {beyond_base(image.name) / MEGABYTE:>4.0f} MB  {state:<10} {image.name}"


def beyond_base(name: str) -> int:
    """The uncompressed bytes that an image adds to its base."""
    lines = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", name).splitlines()
    first = max((number for number, line in enumerate(lines) if f"venv --without-pip {PACKAGES}" in line), default=-1)
    return sum(int(line.split(maxsplit=1)[0]) for line in lines[: first + 1])


def _image(repository: Repository, component: str) -> Image:
    parts = batchloop_repository.parts(repository, component)
    name = repository.image(component, batchloop_repository.of(parts))
    return Image(component, name, parts, "" if exists(name) else _reason(_known(repository).get(component), parts))


def _reason(before: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    if before is None:
        return "there is none yet"
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if not changed:
        return "it is no longer on this machine"
    return f"{listed(changed, 3)} changed"


def _known(repository: Repository) -> dict[str, Any]:
    try:
        return dict(json.loads((repository.local / "images.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def bake(repository: Repository, images: Sequence[Image], cache: Mapping[str, str]) -> None:
    """Build images, side by side."""
    commit = definitions.git_commit(repository)
    targets = {image.component: _target(repository, image, commit, cache.get(image.component)) for image in images}
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
        what = meaning_of(log) or _last_words(log.read_text(encoding="utf-8", errors="replace"))
        raise Failure(f"the images could not be built: {what}\n  log: {repository.shown(log)}")


def _target(repository: Repository, image: Image, commit: str, cache: str | None) -> dict[str, Any]:
    base = {"BASE_IMAGE": os.environ["BASE_IMAGE"]} if os.environ.get("BASE_IMAGE") else {}
    pip = os.environ.get("PIP_CONFIG_FILE", "")
    labels = {"version": image.version, "revision": commit, "title": image.component}
    return {
        "context": str(repository.root),
        "dockerfile": DOCKERFILE,
        "target": image.component,
        "platforms": [PLATFORM],
        "args": {"CODE_VERSION": image.version, **base},
        "labels": {f"org.opencontainers.image.{name}": value for name, value in labels.items()},
        "tags": [image.name],
        "secret": [f"id=pip,src={pip}"] if pip else [],
        "cache-to": ["type=inline"],
        "cache-from": [cache] if cache else [],
    }


def _last_words(log: str) -> str:
    """The step that failed, and the last thing it said."""
    target = re.findall(r"^#\d+ \[(\w+) [\d/]+\]", log, re.MULTILINE)
    said = re.findall(r"^#?\d* ?[\d.]+ (?=\S)(.*(?:[Ee]rror|ERROR|failed|No ).*)$", log, re.MULTILINE)
    errors = re.findall(r"^ERROR: (.*)$", log, re.MULTILINE)
    last = (said or errors or log.strip().splitlines() or ["docker said nothing"])[-1]
    return f"{last}" + (f" ({target[-1]})" if target and said else "")
