"""`make release`, `releases`, `rollback` and `promote`: which model an environment scores with, by hand."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchloop.cloud import copying
from batchloop.cloud.session import NOT_SIGNED_IN, CallFailed, Session, opened
from batchloop.container.job import InputError
from batchloop.control import release as control
from batchloop.control import storage
from batchloop.control.release import APPROVED, Manifest, NotReleased
from batchloop.control.storage import LIMIT, Conflict, Stored
from batchloop.repository import Repository

SHORT = 7  # digits of a commit that a person reads
NOTHING, NOT_KNOWN = "nothing", "not known"
COLUMNS = ("", "release", "when (UTC)", "model", "test metrics, the gate's first", "commit", "by", "reason")
WIDE = 240  # characters, where there is no terminal whose width would matter
METRICS = 3
PROMOTED = "promoted"
ETAG = "source-etag"  # the copy's own ETag differs with KMS and for parts ("Checking object integrity", S3 user guide)
Copy = tuple[dict[str, str], dict[str, str], Mapping[str, Any]]  # from and to (Bucket and Key); the source as listed


@dataclass(frozen=True)
class Current:
    """The parameter as it was read, and its manifest: None before the first one, or where `damage` says why."""

    stored: Stored
    manifest: Manifest | None
    damage: str = ""


def current(session: Session) -> Current:
    """What is released now. Raises InputError where there is no parameter."""
    with session.asking("reading the release"):
        stored = storage.read(session.aws.ssm, session.places.parameter("release"))
    if stored.version == 0:
        raise InputError(f"there is no parameter {stored.name}; `{session.environment.bootstrap}` makes it.")
    try:
        return Current(stored, control.parsed(stored.text))
    except NotReleased as why:
        return Current(stored, None, str(why))


def history(session: Session) -> list[Manifest]:
    """The releases so far, the newest first. Of one number only the last counts: others were taken back at once."""
    with session.asking("reading the releases"):
        found = control.history(session.aws, session.places)
    return list({manifest["version"]: manifest for manifest in reversed(found)}.values())[::-1]


def prepared(session: Session, manifest: Mapping[str, Any], reason: str) -> Manifest:
    """A manifest as something that the caller releases now. Raises InputError for what the parameter can't hold."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = {**manifest, "created": now, "by": session.call("sts", "get_caller_identity", "Arn"), "reason": reason}
    refused = f"it can't be the release of {session.name}: "
    try:
        control.check(made)
    except NotReleased as why:
        raise InputError(f"{refused}{why}") from None
    if (size := len(control.written(made).encode())) > LIMIT:
        raise InputError(
            f"{refused}its manifest has {size:,} bytes, a parameter takes {LIMIT:,}; "
            "a shorter REASON helps, or shorter names."
        )
    return made


def check_existence(session: Session, manifest: Manifest) -> None:
    """Raises InputError where an image or an artifact is missing."""
    with session.asking("looking for the images and artifacts"):
        gone = list(control.missing(session.aws, manifest))
    if gone:
        does = "does" if len(gone) == 1 else "do"
        raise InputError(f"it can't be released: {', '.join(gone)} {does} not exist. The release stays what it is.")


def write(session: Session, now: Current, manifest: Manifest, again: str) -> int:
    """Make it the release, and say what changed; the exit code. Raises InputError; the command `again` finishes."""
    look = f"`make releases ENV={session.name}` shows what is released"
    try:
        with session.asking("writing the release"):
            written, new = control.put(session.aws, session.places, now.stored, now.manifest, manifest)
    except Conflict as conflict:
        raise InputError(f"somebody else wrote {conflict} at the same time, and theirs stays; {look}.") from None
    except ValueError as error:
        raise InputError(f"it was not released: {error}") from None
    except CallFailed as failed:
        raise InputError(f"{failed}.\n{look}; to finish: {again}") from None
    if not new:
        print(f"release {written['version']} of {session.name} is that already; nothing was written.")
        return 0
    print(*changes(session.name, now.manifest, written), sep="\n")
    return 0


def changes(environment: str, before: Manifest | None, after: Manifest) -> Iterator[str]:
    """The release in a line, then one line for each thing that changed."""
    yield f"release {after['version']} of {environment}: {after['reason']} (by {person(after['by'])})"
    old, new = (_described(before) if before else {}), _described(after)
    for name, value in new.items():
        if old.get(name, NOTHING) != value:
            yield f"  {name:<14} {old.get(name, NOTHING)} → {value}"
    for kind in ("images", "artifacts"):
        if changed := [name for name, place in after[kind].items() if before and before[kind].get(name) != place]:
            yield f"  {kind:<14} {', '.join(changed)}"


def _described(manifest: Manifest) -> dict[str, str]:
    return {
        "release": str(manifest["version"]),
        "model": model(manifest),
        "quality": ", ".join(measured(manifest["metrics"], "")[:1]) or NOT_KNOWN,
        "training data": control.learned_from(manifest) or NOT_KNOWN,
        "commit": commit(manifest),
        "contract": manifest["contract"] or NOT_KNOWN,
    }


def model(manifest: Mapping[str, Any]) -> str:
    """A model package as its group and version."""
    return str(manifest["model_package"]).partition(":model-package/")[2] or str(manifest["model_package"])


def commit(manifest: Mapping[str, Any]) -> str:
    """The first digits of the commit; a tree with changes stays marked."""
    name, dash, rest = str(manifest["git_commit"]).partition("-")
    return f"{name[:SHORT] if len(name) == 40 else name}{dash}{rest}" or NOT_KNOWN


def person(arn: str) -> str:
    """Whom an ARN names, as a person would say it: role and session, or the user."""
    return arn.rpartition(":")[2].removeprefix("assumed-role/").removeprefix("user/")


def measured(metrics: Mapping[str, float], preferred: str) -> list[str]:
    """Test metrics, the one that the gate judged first: its value is `gate:value`, and of equals it is `preferred`."""
    test = {name.removeprefix("test:"): value for name, value in metrics.items() if name.startswith("test:")}
    names = sorted(test, key=lambda name: (test[name] != metrics.get("gate:value"), name != preferred))
    said = [f"{name} {test[name]:.4g}" for name in names]
    if said and metrics.get("gate:trusted") == 0:
        said[0] += " (validation repeats training: not to be trusted on new rows)"
    return said


def release(
    repository: Repository, name: str, version: int | None = None, approve: bool = False, reason: str = ""
) -> int:
    """Release a version of the group, or the newest approved one; the exit code. Raises InputError.

    With `approve`, a version that is not approved is approved and nothing else: the event of that is what releases it,
    with the approver's name, as if somebody had approved it in the console.
    """
    if approve and version is None:
        raise InputError("APPROVE=yes approves one version; name it with MODEL=.")
    session = opened(repository, name)
    package = _chosen(session, version)
    arn, number = package["ModelPackageArn"], package["ModelPackageVersion"]
    command = f"make release ENV={name} MODEL={number}"
    if package["ModelApprovalStatus"] != APPROVED:
        if not approve:
            raise InputError(_unapproved(session, package))
        why = reason or f"approved by hand for {name}"
        approval = {"ModelApprovalStatus": APPROVED, "ApprovalDescription": why}
        session.call("sagemaker", "update_model_package", ModelPackageArn=arn, **approval)
        print(
            f"version {number} of {session.places.prefix} is approved. The event of that starts the function that "
            f"releases it; `make releases ENV={name}` shows when it has. Where the functions are not deployed, "
            f"`{command}` does the same."
        )
        return 0
    now = current(session)
    described = session.call("sagemaker", "describe_model_package", ModelPackageName=arn)
    try:
        with session.asking("reading the model"):
            built = control.build(session.aws, described, "", "", "")
    except NotReleased as why:
        raise InputError(f"model {number} can't be released: {why}") from None
    manifest = prepared(session, built, reason or f"model {number} released by hand")
    check_existence(session, manifest)
    return write(session, now, manifest, command)


def _chosen(session: Session, version: int | None) -> Mapping[str, Any]:
    """A model package's summary. Raises InputError where there is no such version, or none that is approved."""
    group = session.places.prefix
    request = {"ModelPackageGroupName": group, "SortBy": "CreationTime", "SortOrder": "Descending"}
    packages = list(session.pages("sagemaker", "list_model_packages", "ModelPackageSummaryList", **request))
    key, wanted = ("ModelApprovalStatus", APPROVED) if version is None else ("ModelPackageVersion", version)
    if chosen := next((package for package in packages if package[key] == wanted), None):
        return dict(chosen)
    if not packages:
        raise InputError(f"{group} has no model yet; the training pipeline registers one.")
    if version is None:
        raise InputError(_unapproved(session, packages[0]))
    numbers = ", ".join(str(package["ModelPackageVersion"]) for package in reversed(packages))
    raise InputError(f"{group} has no version {version}; there are {numbers}.")


def _unapproved(session: Session, package: Mapping[str, Any]) -> str:
    number, status = package["ModelPackageVersion"], package["ModelApprovalStatus"]
    return (
        f"version {number} of {session.places.prefix} is not approved ({status}); approve it in SageMaker, or with "
        f"`make release ENV={session.name} MODEL={number} APPROVE=yes`."
    )


def show(repository: Repository, name: str) -> int:
    """One row a release, newest first; the exit code. SSM keeps the last hundred versions of the parameter."""
    session = opened(repository, name)
    now, found = current(session), history(session)
    if now.damage:
        print(f"the release of {name} is damaged: {now.damage}")
    if not found:
        print(f"{name} has no release yet; `make release ENV={name}` makes the newest approved model it.")
        return 0
    from rich.console import Console  # noqa: PLC0415 - costs a tenth of a second
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    gate = str(repository.tables().get("gate", {}).get("metric", ""))
    table: Any = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold")
    for manifest in found:
        is_current = now.manifest is not None and now.manifest["version"] == manifest["version"]
        number, when = str(manifest["version"]), manifest["created"][:16].replace("T", " ")
        quality = ", ".join(measured(manifest["metrics"], gate)[:METRICS])
        about = model(manifest), quality, commit(manifest), person(manifest["by"]), manifest["reason"]
        # what people wrote stays text: rich would read [brackets] as its own
        cells = map(Text, ("→" if is_current else "", number, when, *about))
        table.add_row(*cells, style="green" if is_current else "")
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)
    return 0


def rollback(repository: Repository, name: str, version: int | None = None, reason: str = "") -> int:
    """Go back to a release, or to the one before what is released now; the exit code. Raises InputError."""
    session = opened(repository, name)
    now, known = current(session), history(session)
    wanted = [manifest for manifest in known if manifest["version"] == version]
    if version is None:
        # before what is released now was for the first time, so that two rollbacks go two steps back
        identity = control.identity(now.manifest) if now.manifest else None
        same = [manifest["version"] for manifest in known if control.identity(manifest) == identity]
        wanted = [its for its in known if identity is None or its["version"] < min(same, default=0)]
    if not wanted:
        there_are = f"there are {', '.join(str(manifest['version']) for manifest in reversed(known)) or 'none'}"
        if version is not None:
            raise InputError(f"{name} has no release {version}; {there_are}.")
        raise InputError(f"{name} has nothing before what is released now; {there_are}, and TO= names one of them.")
    number = wanted[0]["version"]
    manifest = prepared(session, wanted[0], reason or f"rollback to {number}")
    check_existence(session, manifest)
    return write(session, now, manifest, f"make rollback ENV={name} TO={number}")


def promote(repository: Repository, source: str, target: str, profile: str = "", reason: str = "") -> int:
    """Copy what the target lacks, then write its release; the exit code. Raises InputError; a re-run goes on.

    `profile` signs in to the source's account, where that is another one than the target's. The manifest goes on naming
    the source's model package and training data: they are where the model comes from, and nothing reads them in the
    target. The contract is not compared with usecase.toml, because the images bring the one that they were built with.
    """
    if source == target:
        raise InputError(f"FROM and TO are both {source}; name two environments.")
    giving, taking = _source(repository, source, profile), opened(repository, target)
    for session in (giving, taking):
        if not session.environment.account_is_set:
            wanted = f'write account = "{session.account}" into {session.environment.file} first'
            raise InputError(f"{wanted}, so that no other is met.")
    given, now = current(giving), current(taking)
    if given.damage:
        raise InputError(f"the release of {source} is damaged: {given.damage}")
    if (released := given.manifest) is None:
        raise InputError(f"{source} has no release yet; `make release ENV={source}` makes one.")
    check_existence(giving, released)
    artifacts = {key: destination(giving, taking, uri) for key, uri in released["artifacts"].items()}
    moved = {**released, "images": copying.copied(giving, taking, released["images"]), "artifacts": artifacts}
    manifest = prepared(taking, moved, reason or f"promoted from {source} release {released['version']}")
    again = f"make promote FROM={source} TO={target}{f' FROM_PROFILE={profile}' if profile else ''}"
    try:
        taking.call("s3", "head_bucket", **taking.own_bucket)
    except CallFailed as failed:
        what = f"bucket {taking.environment.bucket} of {target} is not there, or not yours"
        raise InputError(f"{what} ({failed}); it comes with the stack of {target}.") from None
    try:
        copy_artifacts(giving, taking, {uri: artifacts[key] for key, uri in released["artifacts"].items()})
    except CallFailed as failed:
        raise InputError(f"{failed}.\n{target} was not touched but for copies; to finish: {again}") from None
    return write(taking, now, manifest, again)


def _source(repository: Repository, name: str, profile: str) -> Session:
    try:
        return opened(repository, name, profile)
    except InputError as failure:
        if isinstance(failure, CallFailed) and failure.cause == NOT_SIGNED_IN:
            raise
        hint = "" if profile else f". FROM_PROFILE= names the AWS profile of {name}'s account"
        raise InputError(f"{str(failure).rstrip('.')}{hint}.") from None


def destination(giving: Session, taking: Session, uri: str) -> str:
    """Where an artifact lies in the target: below training/promoted/<environment it was learned in>/, as it lay there.

    The same artifact always comes to the same place, also by way of a third environment.
    """
    runs = f"{giving.environment.runs('training')}/"
    path = uri.removeprefix(runs) if uri.startswith(runs) else storage.split(uri)[1]
    if not path.startswith(f"{PROMOTED}/"):
        path = f"{PROMOTED}/{giving.name}/{path}"
    return f"{taking.environment.runs('training')}/{path}"


def copy_artifacts(giving: Session, taking: Session, artifacts: Mapping[str, str]) -> None:
    """Copy what the target lacks, from URI → to URI. Raises CallFailed, and InputError where another lies there."""
    copies = [copy for uri, to in artifacts.items() for copy in _copies(giving, uri, to)]
    missing = [copy for copy in copies if not _exists(taking, copy)]
    for source, target, entry in missing:
        with taking.asking(f"copying s3://{source['Bucket']}/{source['Key']} into the bucket"):
            about: dict[str, Any] = {"Metadata": {ETAG: entry["ETag"].strip('"')}}
            if giving.account == taking.account:
                about |= {"MetadataDirective": "REPLACE", "CopySourceIfMatch": entry["ETag"]}
                taking.aws.s3.copy(source, *target.values(), ExtraArgs=about, SourceClient=giving.aws.s3)
            else:
                body = giving.aws.s3.get_object(**source, IfMatch=entry["ETag"])["Body"]
                taking.aws.s3.upload_fileobj(body, *target.values(), ExtraArgs=about)
    size = sum(entry["Size"] for _, _, entry in missing)
    print(f"{len(missing)} of {len(copies)} files copied to {taking.name} ({size:,} bytes)", flush=True)


def _copies(giving: Session, uri: str, to: str) -> Iterator[Copy]:
    """The object, or those in the folder; a console's "folder" objects are none."""
    (bucket, key), (to_bucket, to_key) = storage.split(uri), storage.split(to)
    for entry in giving.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=key):
        if entry["Key"] == key or (key.endswith("/") and not entry["Key"].endswith("/")):
            target = {"Bucket": to_bucket, "Key": f"{to_key}{entry['Key'].removeprefix(key)}"}
            yield {"Bucket": bucket, "Key": entry["Key"]}, target, entry


def _exists(taking: Session, copy: Copy) -> bool:
    """Raises InputError for another file: a release may name it, so it is not replaced."""
    source, target, entry = copy
    found = taking.find("s3", "head_object", ("404", "NoSuchKey"), **target)
    if found is None:
        return False
    tag = f'"{found["Metadata"].get(ETAG)}"'
    if found["ContentLength"] == entry["Size"] and entry["ETag"] in (found["ETag"], tag):
        return True
    here, there = (f"s3://{place['Bucket']}/{place['Key']}" for place in (target, source))
    raise InputError(
        f"{here} is another file than {there}, and a release may need it; remove it if none of {taking.name} does."
    )
