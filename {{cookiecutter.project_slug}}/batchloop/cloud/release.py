"""`make release`, `releases`, `rollback` and `promote`: which model an environment scores with, by hand."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from batchloop.cloud import images
from batchloop.cloud.session import NOT_SIGNED_IN, CallFailed, Session, opened
from batchloop.container.job import InputError
from batchloop.control import artifacts
from batchloop.control import release as control
from batchloop.control.artifacts import NotReleased, Source
from batchloop.control.release import APPROVED, Manifest
from batchloop.control.storage import LIMIT, Conflict, Stored
from batchloop.repository import Repository, print_table

SHORT = 7  # digits of a commit that a person reads
NOTHING, NOT_KNOWN = "nothing", "not known"
COLUMNS = ("", "release", "when (UTC)", "model", "test metrics, the gate's first", "commit", "by", "reason")
METRICS = 3


def current(session: Session) -> tuple[Stored, Manifest | None]:
    """The parameter, and the manifest in it: None before the first, and for a damaged one, which is told.

    Raises InputError where there is no parameter.
    """
    found = session.parameter("release")
    stored = Stored(found["Name"], found["Value"], found["Version"])
    try:
        return stored, control.parsed(stored.text)
    except NotReleased as why:
        print(f"the release of {session.name} is damaged: {why}")
        return stored, None


def history(session: Session) -> list[Manifest]:
    """The releases so far, the newest first. Of one number only the last counts: others were taken back at once."""
    with session.asking("reading the releases"):
        found = control.history(session.aws, session.places)
    return list({manifest["version"]: manifest for manifest in reversed(found)}.values())[::-1]


def prepared(session: Session, manifest: Mapping[str, Any], reason: str) -> Manifest:
    """A manifest as something that the caller releases now. Raises InputError for what the parameter can't hold."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = {**manifest, "created": now, "by": session.call("sts", "get_caller_identity", "Arn"), "reason": reason}
    if (size := len(control.written(made).encode())) > LIMIT:
        large = f"its manifest has {size:,} bytes, a parameter takes {LIMIT:,}"
        raise InputError(f"it can't be the release of {session.name}: {large}; a shorter REASON helps.")
    return made


def check_existence(session: Session, manifest: Manifest) -> None:
    """Raises InputError where an image or an artifact is missing, or an artifact is not what was released."""
    with session.asking("looking for the images and artifacts"):
        found = list(control.troubles(session.aws, manifest))
    if found:
        raise InputError(f"it can't be released: {', '.join(found)}. The release stays what it is.")


def write(session: Session, stored: Stored, before: Manifest | None, manifest: Manifest, again: str) -> int:
    """Make it the release, and say what changed; the exit code. Raises InputError; the command `again` finishes."""
    look = f"`make releases ENV={session.name}` shows what is released"
    try:
        with session.asking("writing the release"):
            written, new = control.put(session.aws, session.places, stored, before, manifest)
    except Conflict as conflict:
        raise InputError(f"{conflict}; {look}.") from None
    except ValueError as error:
        raise InputError(f"it was not released: {error}; {look}.") from None
    except CallFailed as failed:
        raise InputError(f"{failed}.\n{look}; to finish: {again}") from None
    if not new:
        print(f"release {written['version']} of {session.name} is that already; nothing was written.")
        return 0
    print(*changes(session.name, before, written), sep="\n")
    return 0


def changes(environment: str, before: Manifest | None, after: Manifest) -> Iterator[str]:
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


def release(repository: Repository, version: int | None = None, approve: bool = False, reason: str = "") -> int:
    """Release a version of the group, or the newest approved one; the exit code. Raises InputError.

    With `approve`, a version that is not approved is approved and nothing else: the event of that is what releases it,
    with the approver's name, as if somebody had approved it in the console.
    """
    if approve and version is None:
        raise InputError("APPROVE=yes approves one version; name it with MODEL=.")
    session, name = opened(repository), repository.environment
    package = _chosen(session, version, approve)
    arn, number = package["ModelPackageArn"], package["ModelPackageVersion"]
    command = f"make release ENV={name} MODEL={number}"
    if package["ModelApprovalStatus"] != APPROVED:
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
    with session.asking(f"releasing model {number}"):
        built = control.build(session.aws, described, "", "", "")
    manifest = prepared(session, built, reason or f"model {number} released by hand")
    with session.asking("copying the artifacts"):
        manifest = control.kept(session.aws, session.places, manifest)
    check_existence(session, manifest)
    return write(session, *now, manifest, command)


def _chosen(session: Session, version: int | None, approve: bool) -> Mapping[str, Any]:
    """The summary of a version, or of the newest approved one. Raises InputError where there is none, or not yet."""
    group = session.places.prefix
    request = {"ModelPackageGroupName": group, "SortBy": "CreationTime", "SortOrder": "Descending"}
    packages = list(session.pages("sagemaker", "list_model_packages", "ModelPackageSummaryList", **request))
    if not packages:
        raise InputError(f"{group} has no model yet; the training pipeline registers one.")
    wanted = [package for package in packages if version in (None, package["ModelPackageVersion"])]
    if not wanted:
        numbers = ", ".join(str(package["ModelPackageVersion"]) for package in reversed(packages))
        raise InputError(f"{group} has no version {version}; there are {numbers}.")
    approved = [package for package in wanted if package["ModelApprovalStatus"] == APPROVED]
    if not approved and not approve:
        number, status = wanted[0]["ModelPackageVersion"], wanted[0]["ModelApprovalStatus"]
        raise InputError(
            f"version {number} of {group} is not approved ({status}); approve it in SageMaker, or with "
            f"`make release ENV={session.name} MODEL={number} APPROVE=yes`."
        )
    return dict((approved or wanted)[0])


def show(repository: Repository) -> int:
    """One row a release, newest first; the exit code. SSM keeps the last hundred versions of the parameter."""
    session, name = opened(repository), repository.environment
    (_, released), found = current(session), history(session)
    if not found:
        print(f"{name} has no release yet; `make release ENV={name}` makes the newest approved model it.")
        return 0
    gate, rows = str(repository.tables().get("gate", {}).get("metric", "")), list[tuple[str, list[str]]]()
    for manifest in found:
        mark, style = ("→", "green") if released and released["version"] == manifest["version"] else ("", "")
        quality = ", ".join(measured(manifest["metrics"], gate)[:METRICS])
        about = model(manifest), quality, commit(manifest), person(manifest["by"]), manifest["reason"]
        rows.append((style, [mark, str(manifest["version"]), manifest["created"][:16].replace("T", " "), *about]))
    print_table(COLUMNS, rows)
    return 0


def rollback(repository: Repository, version: int | None = None, reason: str = "") -> int:
    """Go back to a release, or to the one before what is released now; the exit code. Raises InputError."""
    session, name = opened(repository), repository.environment
    (stored, released), known = current(session), history(session)
    wanted = [manifest for manifest in known if manifest["version"] == version]
    if version is None:
        # before what is released now was for the first time, so that two rollbacks go two steps back
        identity = control.identity(released) if released else None
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
    with session.asking("reading the pipeline's versions"):
        newest = control.pipeline_version(session.aws, session.places)
    if (under := manifest.get("pipeline_version", 0)) > newest:
        ran = f"release {number} ran under version {under} of {session.places.pipeline('inference')}"
        raise InputError(f"{ran}, whose newest is {newest}; release its model anew, which takes that one.")
    return write(session, stored, released, manifest, f"make rollback ENV={name} TO={number}")


def promote(repository: Repository, source: str, target: str, profile: str = "", reason: str = "") -> int:
    """Copy what the target lacks, then write its release; the exit code. Raises InputError; a re-run goes on.

    `profile` signs in to the source's account, where that is another one than the target's. The manifest goes on naming
    the source's model package and training data: they are where the model comes from, and nothing reads them in the
    target. The contract is not compared with usecase.toml, because the images bring the one that they were built with.
    """
    if source == target:
        raise InputError(f"FROM and TO are both {source}; name two environments.")
    giving = _source(replace(repository, environment=source), profile)
    taking = opened(replace(repository, environment=target), account_is_set=True)
    now = current(taking)
    with giving.asking("reading the release"):
        _, released = control.current(giving.aws, giving.places)
    if released is None:
        raise InputError(f"{source} has no release yet; `make release ENV={source}` makes one.")
    check_existence(giving, released)
    print(*images.other_variants(giving, taking), sep="", end="", flush=True)
    moved = {**released, "images": images.copied(giving, taking, released["images"])}
    manifest = prepared(taking, moved, reason or f"promoted from {source} release {released['version']}")
    again = f"make promote FROM={source} TO={target}{f' FROM_PROFILE={profile}' if profile else ''}"
    try:
        with taking.asking(f"looking for the bucket {taking.environment.bucket} of the stack"):
            taking.aws.s3.head_bucket(**taking.own_bucket)
        manifest |= moved_artifacts(giving, taking, released)
        with taking.asking("reading the pipeline's versions"):
            manifest["pipeline_version"] = control.pipeline_version(taking.aws, taking.places)
    except CallFailed as failed:
        raise InputError(f"{failed}.\n{target} was not touched but for copies; to finish: {again}") from None
    return write(taking, *now, manifest, again)


def _source(repository: Repository, profile: str) -> Session:
    try:
        return opened(repository, profile, account_is_set=True)
    except InputError as failure:
        if profile or (isinstance(failure, CallFailed) and failure.cause == NOT_SIGNED_IN):
            raise
        hint = f"FROM_PROFILE= names the AWS profile of {repository.environment}'s account"
        raise InputError(f"{str(failure).rstrip('.')}. {hint}.") from None


def moved_artifacts(giving: Session, taking: Session, released: Manifest) -> dict[str, Any]:
    """Copy what the target lacks to where its releases lie; the manifest's `artifacts` and `files`.

    Within an account S3 copies; from another one files come through this machine. Raises InputError.
    """
    place, uris = artifacts.folder(taking.places, str(released["model_package"])), released["artifacts"]

    def download(entry: Source, bucket: str, key: str) -> None:
        body = giving.aws.s3.get_object(Bucket=entry.bucket, Key=entry.key, IfMatch=entry.etag)["Body"]
        taking.aws.s3.upload_fileobj(body, bucket, key, ExtraArgs={"ChecksumAlgorithm": "SHA256"})

    with giving.asking("looking for the artifacts"):
        source, listing = artifacts.found(giving.aws, uris), artifacts.listing(giving.aws, released)
    given = (source, str((listing or {}).get("origin", "")))
    bring = artifacts.copying(taking.aws) if giving.account == taking.account else download
    with taking.asking(f"copying the artifacts to {place}"):
        about = artifacts.keep(taking.aws, place, uris, given, bring)
    print(f"the artifacts are in {place}", flush=True)
    return about
