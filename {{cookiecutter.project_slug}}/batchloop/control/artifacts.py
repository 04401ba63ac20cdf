"""A release's own copies of its artifacts: where only a release writes, listed with versions and hashes, and checked.

The listing lies beside the copies and is written last, so copies without one are half a copy, and are made again. The
manifest holds the listing's hash, and the listing everything else: a parameter has no room for many files.
Sources: "CopyObject", "HeadObject" and "PutObject" (conditional writes) in the S3 API reference.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from batchloop.control import storage
from batchloop.control.names import Aws, Places

LISTING = "files.json"
LARGEST = 5 * 2**30  # bytes that CopyObject takes; more is copied in parts, of whose hashes its SHA-256 is one


class NotReleased(Exception):
    """Why something can't be the release, in one sentence."""


class Source(NamedTuple):
    """An object that an artifact consists of."""

    bucket: str
    key: str
    etag: str


Found = Mapping[str, Mapping[str, Source]]  # artifact → name of a file in it → object
Bring = Callable[[Source, str, str], object]  # an object to a bucket and a key


def folder(places: Places, package: str) -> str:
    """Where the artifacts of a model package lie in an environment; one of another's group is called after that too."""
    group, _, number = package.partition(":model-package/")[2].rpartition("/")
    return f"{places.releases}{number if group in ('', places.prefix) else f'{group}-{number}'}/"


def found(aws: Aws, artifacts: Mapping[str, str]) -> dict[str, dict[str, Source]]:
    """What lies at the artifacts' URIs, each being an object or a folder."""
    return {name: _files(aws, uri) for name, uri in artifacts.items()}


def _files(aws: Aws, uri: str) -> dict[str, Source]:
    bucket, key = storage.split(uri)
    parent = f"{key.rpartition('/')[0]}/"  # of a folder ("…/") itself
    found = storage.objects(aws, uri)
    return {name.removeprefix(parent): Source(bucket, name, entry["ETag"]) for name, entry in found.items()}


def origin(source: Found) -> str:
    """What tells artifacts apart, whatever they are called: a hash of their files' names and ETags."""
    tags = {name: {file: entry.etag for file, entry in files.items()} for name, files in source.items()}
    return sha256(json.dumps(tags, sort_keys=True).encode()).hexdigest()


def copying(aws: Aws) -> Bring:
    """S3 copies by itself."""
    from boto3.s3.transfer import TransferConfig  # noqa: PLC0415 - boto3 is not needed before

    whole = TransferConfig(multipart_threshold=LARGEST, multipart_chunksize=LARGEST // 10)

    def bring(entry: Source, bucket: str, key: str) -> None:
        # without the tags of the source, which would take further permissions
        given = {"ChecksumAlgorithm": "SHA256", "TaggingDirective": "REPLACE", "CopySourceIfMatch": entry.etag}
        aws.s3.copy({"Bucket": entry.bucket, "Key": entry.key}, bucket, key, ExtraArgs=given, Config=whole)

    return bring


def keep(aws: Aws, place: str, artifacts: Mapping[str, str], given: tuple[Found, str], bring: Bring) -> dict[str, Any]:
    """Bring the artifacts into a folder where it does not hold them yet; the manifest's `artifacts` and `files`.

    `given` is what they consist of, and their origin where they are copies already. Raises NotReleased where an
    artifact is missing, and where the folder holds another model's.
    """
    (source, known), (bucket, key) = given, storage.split(place)
    text, gone = storage.read_text(aws, f"{place}{LISTING}"), [name for name, files in source.items() if not files]
    if text is None:
        if gone:
            raise NotReleased(
                f"{', '.join(artifacts[name] for name in gone)} {'does' if len(gone) == 1 else 'do'} not exist."
            )
        copies = {name: {file: f"{key}{name}/{file}" for file in files} for name, files in source.items()}
        for name, files in copies.items():
            for file, to in files.items():
                bring(source[name][file], bucket, to)
        listed = {name: {file: _about(aws, bucket, to) for file, to in files.items()} for name, files in copies.items()}
        about = {"origin": known or origin(source), "artifacts": listed}
        text = storage.write_once(aws, f"{place}{LISTING}", json.dumps(about, indent=1))
    listing = json.loads(text)
    if not gone and listing["origin"] != (known or origin(source)):
        raise NotReleased(f"{place} holds another model's artifacts; remove that folder if no release needs it.")
    ends = {name: uri.rpartition("/")[2] for name, uri in artifacts.items()}
    files = listing["artifacts"]
    return {
        "artifacts": {name: f"{place}{name}/{end if end in files[name] else ''}" for name, end in ends.items()},
        "files": {"uri": f"{place}{LISTING}", "sha256": sha256(text.encode()).hexdigest()},
    }


def listing(aws: Aws, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The listing that a manifest names; None where it is gone or another, or none is named."""
    pinned = manifest.get("files") or {}
    text = storage.read_text(aws, pinned["uri"]) if pinned else None
    whole = text is not None and sha256(text.encode()).hexdigest() == pinned["sha256"]
    return dict(json.loads(text)) if text is not None and whole else None


def troubles(aws: Aws, manifest: Mapping[str, Any], names: Iterable[str] = ()) -> list[str]:
    """In words, which of a release's artifacts, or of those that are named, are gone or not what was released."""
    artifacts = {name: uri for name, uri in manifest["artifacts"].items() if not names or name in names}
    if not manifest.get("files"):
        return ["it is of a time when releases had no copies of their artifacts: release its model once more"]
    listed = listing(aws, manifest)
    if listed is None:
        return [f"{manifest['files']['uri']} is gone or not what was released"]
    return [why for name, uri in artifacts.items() for why in _changes(aws, uri, listed["artifacts"][name])]


def _changes(aws: Aws, uri: str, files: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    there = _files(aws, uri)
    for file, about in files.items():
        place = f"{uri.rpartition('/')[0]}/{file}"
        if file not in there:
            yield f"{place} does not exist"
        elif _about(aws, there[file].bucket, there[file].key)["sha256"] != about["sha256"]:
            yield f"{place} is not what was released (its version {about['version']} is)"
    yield from (f"{uri.rpartition('/')[0]}/{file} was not released" for file in there if file not in files)


def _about(aws: Aws, bucket: str, key: str) -> dict[str, str]:
    """An object's version and hash, "" where it has none."""
    head = aws.s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    return {"version": head.get("VersionId", ""), "sha256": head.get("ChecksumSHA256", "")}
