"""`make push`: the images that the registry does not have yet, and which digest each component has now."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchloop.cloud import images, session
from batchloop.cloud.images import Image
from batchloop.cloud.session import CallFailed, ask
from batchloop.engine.containers import docker
from batchloop.engine.storage import write_json
from batchloop.repository import Failure, Repository

ABSENT = ("not found", "manifest unknown", "name unknown", "repository does not exist")
NO_VALUE = "none"


@dataclass(frozen=True)
class Target:
    """A registry (host, with its port if any) and the parameters that record what lies in it."""

    host: str
    needs: session.Wanted
    ssm: Any

    def repository(self, component: str) -> str:
        return f"{self.host}/{self.needs.namespace}/{self.needs.usecase}/{component}"

    def parameter(self, component: str) -> str:
        needs = self.needs
        return f"/{needs.namespace}/{needs.usecase}/{needs.environment}/components/{component}/image"


def push(repository: Repository, environment: str, host: str = "") -> int:
    """Look first, build and push only what is missing, record digests that changed; the exit code.

    `host` is another registry than the account's own. Raises Failure with what is left to do; a re-run goes on.
    """
    needs = session.read(repository.root, environment)
    signed_in = session.sign_in(needs)
    target = Target(host or _sign_in(needs, signed_in), needs, signed_in.ssm)
    built = images.current(repository)
    digests = {image.component: digest(target, image) for image in built}
    missing = [image for image in built if not digests[image.component]]
    recorded = _recorded(target, built)
    if missing:
        images.build(repository, {name: place for name, place in recorded.items() if place != NO_VALUE})
    for image in missing:
        digests[image.component] = _push(target, image)
    _record(target, digests, recorded)
    write_json(repository.local / f"images-{environment}.json", digests)
    return 0


def digest(target: Target, image: Image) -> str:
    """repository@sha256:… of an image in the registry, "" where it is not. Raises Failure."""
    name = f"{target.repository(image.component)}:{image.version}"
    try:
        found = json.loads(docker("buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", name))
    except Failure as failure:
        if any(sign in str(failure).lower() for sign in ABSENT):
            return ""
        raise
    return f"{target.repository(image.component)}@{found['digest']}"


def _sign_in(needs: session.Wanted, signed_in: session.Account) -> str:
    """Let docker into the account's registry; its host."""
    import base64  # noqa: PLC0415

    [data] = ask(signed_in.ecr, "get_authorization_token", "authorizationData")
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    host = f"{signed_in.number}.dkr.ecr.{needs.region}.amazonaws.com"
    docker("login", "--username", user, "--password-stdin", host, given=password)
    return host


def _push(target: Target, image: Image) -> str:
    name = f"{target.repository(image.component)}:{image.version}"
    docker("tag", image.name, name)
    try:
        docker("push", "--quiet", name)
    except Failure:
        # tags are immutable: somebody may have pushed the same content a moment earlier
        if not digest(target, image):
            raise
    found = digest(target, image)
    if not found:
        raise Failure(f"{name} was pushed, but the registry does not have it; run it again.")
    print(f"{image.component:<15} pushed {found}", flush=True)
    return found


def _recorded(target: Target, built: list[Image]) -> dict[str, str]:
    """What the parameters say. Raises Failure where there are none."""
    found = {}
    for image in built:
        name = target.parameter(image.component)
        try:
            found[image.component] = str(ask(target.ssm, "get_parameter", "Parameter", Name=name)["Value"])
        except CallFailed as failed:
            if failed.code == "ParameterNotFound":
                raise Failure(f"there is no parameter {name}; `{target.needs.command}` makes it.") from None
            raise
    return found


def _record(target: Target, digests: Mapping[str, str], recorded: Mapping[str, str]) -> None:
    """A write of the same value would still be a new version, so only what differs is written."""
    for component, place in digests.items():
        if recorded[component] == place:
            print(f"{component:<15} unchanged {place}")
            continue
        ask(target.ssm, "put_parameter", Name=target.parameter(component), Value=place, Overwrite=True)
        print(f"{component:<15} recorded in {target.parameter(component)}", flush=True)
