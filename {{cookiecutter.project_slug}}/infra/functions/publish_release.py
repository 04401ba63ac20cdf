"""An approval: make the approved model package the release."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from functions import events, notices, release
from functions.clients import Aws, connect
from functions.events import PackageChanged
from functions.places import Places, here
from functions.release import Manifest, NotReleased

APPROVED = "Approved"


def handler(event: Mapping[str, Any], _context: Any) -> str:
    """A model package of the environment's group changed."""
    said = run(event, connect(), here(), datetime.now(UTC))
    print(said)
    return said


def run(event: Mapping[str, Any], aws: Aws, places: Places, now: datetime) -> str:
    """What was done, in a sentence.

    An approved package is released once: what has been released before comes back by `make rollback` only, because
    any later change of a package is the same event again. An approval older than the release is late, and is not one.
    """
    changed = events.package_changed(event)
    if (changed.group, changed.status) != (places.prefix, APPROVED) or "ModelApprovalStatus" not in (
        changed.fields or ("ModelApprovalStatus",)
    ):
        return "This is no approval of a model package here."
    try:
        return _published(aws, places, now, changed)
    except NotReleased as why:
        said = f"{changed.arn} is approved and not released: {why}"
        todo = "Train again, or bring back what is missing and approve it anew. The release stays what it is."
        notices.tell(aws, places, "an approved model can't be released", {"Decision": said, "To do": todo})
        notices.measure(aws, places, now, {"ReleaseRefused": 1})
        return said


def _published(aws: Aws, places: Places, now: datetime, changed: PackageChanged) -> str:
    package = aws.sagemaker.describe_model_package(ModelPackageName=changed.arn)
    if package.get("ModelApprovalStatus") != APPROVED:
        return f"{changed.arn} is no longer approved."
    _, released = release.current(aws, places)
    if released and released["model_package"] != changed.arn:
        if any(earlier["model_package"] == changed.arn for earlier in release.history(aws, places)):
            return f"{changed.arn} was released before; `make rollback` brings it back."
        if changed.time < events.moment(released["created"]):
            raise NotReleased(f"its approval of {changed.time} is older than release {released['version']}.")
    reason = package.get("ApprovalDescription") or "approved"
    wanted = release.build(aws, package, _approver(package), reason, changed.time)
    manifest, new = release.publish(aws, places, wanted)
    if new:
        notices.tell(aws, places, f"release {manifest['version']} is published", _lines(places, manifest))
    notices.measure(aws, places, now, {"ReleaseVersion": manifest["version"], "ReleaseRefused": 0})
    return f"{changed.arn} is release {manifest['version']}."


def _approver(package: Mapping[str, Any]) -> str:
    """Who changed the package last, or made it, where that is known."""
    for entry in (package.get("LastModifiedBy") or {}, package.get("CreatedBy") or {}):
        if found := entry.get("IamIdentity", {}).get("Arn") or entry.get("UserProfileArn"):
            return str(found)
    return "unknown"


def _lines(places: Places, manifest: Manifest) -> dict[str, str]:
    measured = {name: value for name, value in manifest["metrics"].items() if name.startswith(("test:", "gate:"))}
    return {
        "Release": f"{manifest['version']}, model package {manifest['model_package']}",
        "Approved by": f"{manifest['by']} ({manifest['reason']})",
        "Learned from": release.learned_from(manifest),
        "Metrics": ", ".join(f"{name} {value:g}" for name, value in measured.items()),
        "To do": f"Nothing. `make rollback ENV={places.environment}` goes back to the release before.",
    }
