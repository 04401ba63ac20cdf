"""The one write that changes a release: what is there before, what has to hold, and what is said where it fails."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from functions import parameters, release
from functions.parameters import LIMIT, Conflict, Stored
from functions.release import Manifest, NotReleased
from operations.bootstrap.calls import CallFailed
from operations.failures import Failure
from operations.releasing import differences
from operations.releasing.signing import SignedIn


@dataclass(frozen=True)
class Current:
    """The parameter as it was read, and its manifest: None before the first one, or where `damage` says why."""

    stored: Stored
    manifest: Manifest | None
    damage: str = ""


def current(there: SignedIn) -> Current:
    """What is released now. Raises Failure where there is no parameter."""
    with there.asking("reading the release"):
        stored = parameters.read(there.aws.ssm, there.places.parameter("release"))
    if stored.version == 0:
        raise Failure(f"there is no parameter {stored.name}; `{there.needs.command}` makes it.")
    try:
        return Current(stored, release.parsed(stored.text))
    except NotReleased as why:
        return Current(stored, None, str(why))


def history(there: SignedIn) -> list[Manifest]:
    """The releases so far, the newest first. Of one number only the last counts: others were taken back at once."""
    with there.asking("reading the releases"):
        found = release.history(there.aws, there.places)
    numbers = [manifest["version"] for manifest in found]
    return [manifest for place, manifest in enumerate(found) if manifest["version"] not in numbers[:place]]


def occasion(there: SignedIn, manifest: Mapping[str, Any], reason: str) -> Manifest:
    """The manifest as something that the caller releases now. Raises CallFailed."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {**manifest, "created": now, "by": there.caller(), "reason": reason}


def fits(there: SignedIn, manifest: Manifest) -> None:
    """Raises Failure for what the parameter can't hold, or is no manifest."""
    try:
        release.check(manifest)
    except NotReleased as why:
        raise Failure(f"it can't be the release of {there.name}: {why}") from None
    if (size := len(release.written(manifest).encode())) > LIMIT:
        raise Failure(
            f"it can't be the release of {there.name}: its manifest has {size:,} bytes, a parameter takes {LIMIT:,}; "
            "a shorter REASON helps, or shorter names."
        )


def stands(there: SignedIn, manifest: Manifest) -> None:
    """Raises Failure where an image or an artifact is missing."""
    with there.asking("looking for the images and artifacts"):
        gone = list(release.missing(there.aws, manifest))
    if gone:
        does = "does" if len(gone) == 1 else "do"
        raise Failure(f"it can't be released: {', '.join(gone)} {does} not exist. The release stays what it is.")


def write(there: SignedIn, now: Current, manifest: Manifest, again: str) -> int:
    """Make it the release, and say what changed; the exit code. `again` is the command that finishes what fails here.

    Raises Failure.
    """
    look = f"`make releases ENV={there.name}` shows what is released"
    try:
        with there.asking("writing the release"):
            written, new = release.put(there.aws, there.places, now.stored, now.manifest, manifest)
    except Conflict as conflict:
        raise Failure(f"somebody else wrote {conflict} at the same time, and theirs stays; {look}.") from None
    except ValueError as error:
        raise Failure(f"it was not released: {error}") from None
    except CallFailed as failed:
        raise Failure(f"{failed}.\n{look}; to finish: {again}") from None
    if not new:
        print(f"release {written['version']} of {there.name} is that already; nothing was written.")
        return 0
    print(*differences.lines(there.name, now.manifest, written), sep="\n")
    return 0
