"""`make rollback`: an earlier release, written again as the newest."""

from functions import release
from functions.release import Manifest
from operations.failures import Failure
from operations.releasing import signing, writing
from operations.repository import Repository


def rollback(repository: Repository, environment: str, version: int | None = None, reason: str = "") -> int:
    """Go back to a release, or to the one before what is released now; the exit code. Raises Failure."""
    there = signing.sign_in(repository, environment)
    now, known = writing.current(there), writing.history(there)
    wanted = _before(known, now.manifest) if version is None else _named(known, version)
    if wanted is None:
        raise Failure(_unknown(environment, known, version))
    number = wanted["version"]
    manifest = writing.occasion(there, wanted, reason or f"rollback to {number}")
    writing.fits(there, manifest)
    writing.stands(there, manifest)
    return writing.write(there, now, manifest, f"make rollback ENV={environment} TO={number}")


def _named(known: list[Manifest], version: int) -> Manifest | None:
    return next((manifest for manifest in known if manifest["version"] == version), None)


def _before(known: list[Manifest], current: Manifest | None) -> Manifest | None:
    """What was released before the current thing was for the first time, so that two rollbacks go two steps back."""
    if current is None:
        return known[0] if known else None
    same = [manifest["version"] for manifest in known if release.identity(manifest) == release.identity(current)]
    return next((manifest for manifest in known if manifest["version"] < min(same)), None) if same else None


def _unknown(environment: str, known: list[Manifest], version: int | None) -> str:
    numbers = [str(manifest["version"]) for manifest in reversed(known)]
    there_are = f"there are {', '.join(numbers)}" if numbers else "there are none"
    if version is not None:
        return f"{environment} has no release {version}; {there_are}."
    return f"{environment} has nothing before what is released now; {there_are}, and TO= names one of them."
