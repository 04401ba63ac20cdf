"""The same images in another registry: under the same digest, or not at all."""

from collections.abc import Mapping

from functions import release
from operations.bootstrap.calls import ask
from operations.failures import Failure
from operations.releasing.signing import SignedIn


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
