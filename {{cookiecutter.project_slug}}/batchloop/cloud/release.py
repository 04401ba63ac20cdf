"""A release in words: what it is, who made it, and how it differs from the one before."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchloop.cloud import registries, session
from batchloop.cloud.session import CallFailed, NotSignedIn, SignedIn, ask
from batchloop.control import release as control_release
from batchloop.control import storage
from batchloop.control.release import APPROVED, Manifest, NotReleased, learned_from
from batchloop.control.storage import LIMIT, Conflict, Stored
from batchloop.repository import Failure, Repository

SHORT = 7  # digits of a commit that a person reads
NOTHING = "nothing"


def lines(environment: str, before: Manifest | None, after: Manifest) -> Iterator[str]:
    """The release in a line, then one line for each thing that changed."""
    yield f"release {after['version']} of {environment}: {after['reason']} (by {person(after['by'])})"
    old, new = (_told(before) if before else {}), _told(after)
    for name, value in new.items():
        if old.get(name, NOTHING) != value:
            yield f"  {name:<14} {old.get(name, NOTHING)} → {value}"
    if before:
        for kind in ("images", "artifacts"):
            if changed := [name for name, place in after[kind].items() if before[kind].get(name) != place]:
                yield f"  {kind:<14} {', '.join(changed)}"


def _told(manifest: Manifest) -> dict[str, str]:
    return {
        "release": str(manifest["version"]),
        "model": model(manifest),
        "quality": ", ".join(measured(manifest["metrics"], "")[:1]) or "not known",
        "training data": learned_from(manifest) or "not known",
        "commit": commit(manifest),
        "contract": manifest["contract"] or "not known",
    }


def model(manifest: Mapping[str, Any]) -> str:
    """A model package as its group and version."""
    return str(manifest["model_package"]).partition(":model-package/")[2] or str(manifest["model_package"])


def commit(manifest: Mapping[str, Any]) -> str:
    """The first digits of the commit; a tree with changes stays marked."""
    name, dash, rest = str(manifest["git_commit"]).partition("-")
    return f"{name[:SHORT] if len(name) == 40 else name}{dash}{rest}" or "not known"


def person(arn: str) -> str:
    """Whom an ARN names, as a person would say it: role and session, or the user."""
    return arn.rpartition(":")[2].removeprefix("assumed-role/").removeprefix("user/")


def measured(metrics: Mapping[str, float], preferred: str) -> list[str]:
    """Test metrics, the one that the gate judged first: its value is `gate:value`, and of equals it is `preferred`."""
    test = {name.removeprefix("test:"): value for name, value in metrics.items() if name.startswith("test:")}
    gate = metrics.get("gate:value")
    names = sorted(test, key=lambda name: (test[name] != gate, name != preferred))
    doubt = " (validation repeats training: not to be trusted on new rows)" if metrics.get("gate:trusted") == 0 else ""
    return [f"{name} {test[name]:.4g}{'' if place else doubt}" for place, name in enumerate(names)]


@dataclass(frozen=True)
class Current:
    """The parameter as it was read, and its manifest: None before the first one, or where `damage` says why."""

    stored: Stored
    manifest: Manifest | None
    damage: str = ""


def current(there: SignedIn) -> Current:
    """What is released now. Raises Failure where there is no parameter."""
    with there.asking("reading the release"):
        stored = storage.read(there.aws.ssm, there.places.parameter("release"))
    if stored.version == 0:
        raise Failure(f"there is no parameter {stored.name}; `{there.needs.command}` makes it.")
    try:
        return Current(stored, control_release.parsed(stored.text))
    except NotReleased as why:
        return Current(stored, None, str(why))


def history(there: SignedIn) -> list[Manifest]:
    """The releases so far, the newest first. Of one number only the last counts: others were taken back at once."""
    with there.asking("reading the releases"):
        found = control_release.history(there.aws, there.places)
    numbers = [manifest["version"] for manifest in found]
    return [manifest for place, manifest in enumerate(found) if manifest["version"] not in numbers[:place]]


def occasion(there: SignedIn, manifest: Mapping[str, Any], reason: str) -> Manifest:
    """The manifest as something that the caller releases now. Raises CallFailed."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {**manifest, "created": now, "by": there.caller(), "reason": reason}


def fits(there: SignedIn, manifest: Manifest) -> None:
    """Raises Failure for what the parameter can't hold, or is no manifest."""
    try:
        control_release.check(manifest)
    except NotReleased as why:
        raise Failure(f"it can't be the release of {there.name}: {why}") from None
    if (size := len(control_release.written(manifest).encode())) > LIMIT:
        raise Failure(
            f"it can't be the release of {there.name}: its manifest has {size:,} bytes, a parameter takes {LIMIT:,}; "
            "a shorter REASON helps, or shorter names."
        )


def stands(there: SignedIn, manifest: Manifest) -> None:
    """Raises Failure where an image or an artifact is missing."""
    with there.asking("looking for the images and artifacts"):
        gone = list(control_release.missing(there.aws, manifest))
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
            written, new = control_release.put(there.aws, there.places, now.stored, now.manifest, manifest)
    except Conflict as conflict:
        raise Failure(f"somebody else wrote {conflict} at the same time, and theirs stays; {look}.") from None
    except ValueError as error:
        raise Failure(f"it was not released: {error}") from None
    except CallFailed as failed:
        raise Failure(f"{failed}.\n{look}; to finish: {again}") from None
    if not new:
        print(f"release {written['version']} of {there.name} is that already; nothing was written.")
        return 0
    print(*lines(there.name, now.manifest, written), sep="\n")
    return 0


Package = Mapping[str, Any]


def release(
    repository: Repository, environment: str, model: int | None = None, approve: bool = False, reason: str = ""
) -> int:
    """Release a version of the group, or the newest approved one; the exit code. Raises Failure.

    With `approve`, a version that is not approved is approved and nothing else: the event of that is what releases it,
    with the approver's name, as if somebody had approved it in the console.
    """
    if approve and model is None:
        raise Failure("APPROVE=yes approves one version; name it with MODEL=.")
    there = session.sign_in_profile(repository, environment)
    package = _chosen(there, model)
    number, status = package["ModelPackageVersion"], package["ModelApprovalStatus"]
    if status != APPROVED:
        if not approve:
            raise Failure(_unapproved(there, package))
        return _approve(there, package, reason or f"approved by hand for {environment}")
    now = current(there)
    described = ask(there.aws.sagemaker, "describe_model_package", ModelPackageName=package["ModelPackageArn"])
    try:
        with there.asking("reading the model"):
            built = control_release.build(there.aws, described, "", "", "")
    except NotReleased as why:
        raise Failure(f"model {number} can't be released: {why}") from None
    manifest = occasion(there, built, reason or f"model {number} released by hand")
    fits(there, manifest)
    stands(there, manifest)
    return write(there, now, manifest, f"make release ENV={environment} MODEL={number}")


def _chosen(there: SignedIn, model: int | None) -> Package:
    """Raises Failure where there is no such version, or none that is approved."""
    group = there.places.prefix
    with there.asking("listing the models"):
        request = {"ModelPackageGroupName": group, "SortBy": "CreationTime", "SortOrder": "Descending"}
        pages = there.aws.sagemaker.get_paginator("list_model_packages").paginate(**request)
        packages = [package for page in pages for package in page["ModelPackageSummaryList"]]
    wanted = [
        package
        for package in packages
        if (package["ModelApprovalStatus"] == APPROVED if model is None else package["ModelPackageVersion"] == model)
    ]
    if wanted:
        return dict(wanted[0])
    if not packages:
        raise Failure(f"{group} has no model yet; the training pipeline registers one.")
    if model is None:
        raise Failure(_unapproved(there, packages[0]))
    numbers = ", ".join(str(package["ModelPackageVersion"]) for package in reversed(packages))
    raise Failure(f"{group} has no version {model}; there are {numbers}.")


def _unapproved(there: SignedIn, package: Package) -> str:
    number, status = package["ModelPackageVersion"], package["ModelApprovalStatus"]
    return (
        f"version {number} of {there.places.prefix} is not approved ({status}); approve it in SageMaker, or with "
        f"`make release ENV={there.name} MODEL={number} APPROVE=yes`."
    )


def _approve(there: SignedIn, package: Package, reason: str) -> int:
    arn, number = package["ModelPackageArn"], package["ModelPackageVersion"]
    approval = {"ModelApprovalStatus": APPROVED, "ApprovalDescription": reason}
    ask(there.aws.sagemaker, "update_model_package", ModelPackageArn=arn, **approval)
    print(
        f"version {number} of {there.places.prefix} is approved. The event of that starts the function that releases "
        f"it; `make releases ENV={there.name}` shows when it has. Where the functions are not deployed, "
        f"`make release ENV={there.name} MODEL={number}` does the same."
    )
    return 0


COLUMNS = ("", "release", "when (UTC)", "model", "test metrics, the gate's first", "commit", "by", "reason")
WIDE = 240  # characters, where there is no terminal whose width would matter
METRICS = 3


def show(repository: Repository, environment: str) -> int:
    """One row a release, newest first; the exit code. SSM keeps the last hundred versions of the parameter."""
    there = session.sign_in_profile(repository, environment)
    now = current(there)
    found = history(there)
    if now.damage:
        print(f"the release of {environment} is damaged: {now.damage}")
    if not found:
        print(f"{environment} has no release yet; `make release ENV={environment}` makes the newest approved model it.")
        return 0
    gate = str(repository.tables().get("gate", {}).get("metric", ""))
    _print([_row(manifest, now.manifest, gate) for manifest in found])
    return 0


def _row(manifest: Manifest, current: Manifest | None, gate: str) -> tuple[str, ...]:
    return (
        "→" if current and current["version"] == manifest["version"] else "",
        str(manifest["version"]),
        manifest["created"][:16].replace("T", " "),
        model(manifest),
        ", ".join(measured(manifest["metrics"], gate)[:METRICS]),
        commit(manifest),
        person(manifest["by"]),
        manifest["reason"],
    )


def _print(rows: list[tuple[str, ...]]) -> None:
    """What people wrote stays text: rich would read [brackets] as its own."""
    from rich.console import Console  # noqa: PLC0415 - costs a tenth of a second
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table: Any = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row), style="green" if row[0] else "")
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def rollback(repository: Repository, environment: str, version: int | None = None, reason: str = "") -> int:
    """Go back to a release, or to the one before what is released now; the exit code. Raises Failure."""
    there = session.sign_in_profile(repository, environment)
    now, known = current(there), history(there)
    wanted = _before(known, now.manifest) if version is None else _named(known, version)
    if wanted is None:
        raise Failure(_unknown(environment, known, version))
    number = wanted["version"]
    manifest = occasion(there, wanted, reason or f"rollback to {number}")
    fits(there, manifest)
    stands(there, manifest)
    return write(there, now, manifest, f"make rollback ENV={environment} TO={number}")


def _named(known: list[Manifest], version: int) -> Manifest | None:
    return next((manifest for manifest in known if manifest["version"] == version), None)


def _before(known: list[Manifest], current: Manifest | None) -> Manifest | None:
    """What was released before the current thing was for the first time, so that two rollbacks go two steps back."""
    if current is None:
        return known[0] if known else None
    same = [
        manifest["version"]
        for manifest in known
        if control_release.identity(manifest) == control_release.identity(current)
    ]
    return next((manifest for manifest in known if manifest["version"] < min(same)), None) if same else None


def _unknown(environment: str, known: list[Manifest], version: int | None) -> str:
    numbers = [str(manifest["version"]) for manifest in reversed(known)]
    there_are = f"there are {', '.join(numbers)}" if numbers else "there are none"
    if version is not None:
        return f"{environment} has no release {version}; {there_are}."
    return f"{environment} has nothing before what is released now; {there_are}, and TO= names one of them."


def promote(repository: Repository, source: str, target: str, profile: str = "", reason: str = "") -> int:
    """Copy what the target lacks, then write its release; the exit code. Raises Failure; a re-run goes on.

    `profile` signs in to the source's account, where that is another one than the target's. The manifest goes on naming
    the source's model package and training data: they are where the model comes from, and nothing reads them in the
    target. The contract is not compared with usecase.toml, because the images bring the one that they were built with.
    """
    if source == target:
        raise Failure(f"FROM and TO are both {source}; name two environments.")
    giving, taking = _source(repository, source, profile), session.sign_in_profile(repository, target)
    for there in (giving, taking):
        if not there.needs.account_is_set:
            raise Failure(f'write account = "{there.account}" into {there.needs.file} first, so that no other is met.')
    released, now = _released(giving), current(taking)
    stands(giving, released)
    about = reason or f"promoted from {source} release {released['version']}"
    manifest = occasion(taking, _moved(giving, taking, released), about)
    fits(taking, manifest)
    _bucket(taking)
    again = f"make promote FROM={source} TO={target}{f' FROM_PROFILE={profile}' if profile else ''}"
    try:
        registries.copy_all(giving, taking, [(uri, _to(giving, taking, uri)) for uri in released["artifacts"].values()])
    except CallFailed as failed:
        raise Failure(f"{failed}.\n{target} was not touched but for copies; to finish: {again}") from None
    return write(taking, now, manifest, again)


def _source(repository: Repository, environment: str, profile: str) -> SignedIn:
    try:
        return session.sign_in_profile(repository, environment, profile)
    except NotSignedIn:
        raise
    except Failure as failure:
        hint = "" if profile else f". FROM_PROFILE= names the AWS profile of {environment}'s account"
        raise Failure(f"{str(failure).rstrip('.')}{hint}.") from None


def _released(giving: SignedIn) -> Manifest:
    current_ = current(giving)
    if current_.manifest is None:
        why = f"the release of {giving.name} is damaged: {current_.damage}" if current_.damage else ""
        raise Failure(why or f"{giving.name} has no release yet; `make release ENV={giving.name}` makes one.")
    return current_.manifest


def _moved(giving: SignedIn, taking: SignedIn, released: Manifest) -> Manifest:
    """The manifest with places that the target's roles may read. Raises Failure where its registry lacks an image."""
    artifacts = {name: _to(giving, taking, uri) for name, uri in released["artifacts"].items()}
    return {**released, "images": registries.images(giving, taking, released["images"]), "artifacts": artifacts}


def _to(giving: SignedIn, taking: SignedIn, uri: str) -> str:
    return registries.destination(giving.places, taking.places, uri)


def _bucket(taking: SignedIn) -> None:
    """Raises Failure where the target's bucket is not there, or is another account's."""
    bucket = taking.places.bucket
    try:
        ask(taking.aws.s3, "head_bucket", Bucket=bucket, ExpectedBucketOwner=taking.account)
    except CallFailed as failed:
        where = f"bucket {bucket} of {taking.name} is not there, or not yours"
        raise Failure(f"{where} ({failed}); it comes with the stack of {taking.name}.") from None
