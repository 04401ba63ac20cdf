"""What the functions read and write in AWS: two parameters that hold state, the objects of windows and artifacts.

The parameters are written only where they differ, and never over somebody else's value unseen. PutParameter knows no
compare-and-set ("PutParameter" in the Systems Manager API reference): a write reads again first, and its answer's
version shows whether another came in between; then it puts the other's value back and raises Conflict, and its caller
starts over from what is there. What remains possible: for the moment until it is back, the other's value is hidden;
whoever reads in that moment may decide once more about a window, and finds the training that already runs.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from botocore.exceptions import ClientError

from batchloop.control.names import NOTHING, Aws, Places, is_data, order

LIMIT = 8192  # bytes; beyond 4096 Intelligent-Tiering makes it an advanced parameter, which costs a little
MARK = "_SUCCESS"  # lies in a part of a window that is complete, as Spark writes it


class Conflict(Exception):
    """Somebody else wrote at the same time."""

    def __init__(self, name: str) -> None:
        super().__init__(f"somebody else wrote {name} at the same time, and theirs stays")


@contextmanager
def passed_over(*codes: str) -> Iterator[None]:
    """Go on after the block where AWS refuses with one of these codes."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise


@dataclass(frozen=True)
class Stored:
    """A parameter as it was read; version 0 is one that does not exist."""

    name: str
    text: str
    version: int


def read(ssm: Any, name: str) -> Stored:
    """The parameter; where it does not exist its text is `none`."""
    with passed_over("ParameterNotFound"):
        found = ssm.get_parameter(Name=name)["Parameter"]
        return Stored(name, found["Value"], found["Version"])
    return Stored(name, NOTHING, 0)


def write(ssm: Any, stored: Stored, text: str) -> Stored:
    """The parameter after it holds `text`. Raises Conflict, and ValueError for a text that is too long."""
    if text == stored.text:
        return stored
    if len(text.encode()) > LIMIT:
        raise ValueError(f"{stored.name} would hold {len(text.encode()):,} bytes; a parameter takes {LIMIT:,}")
    if read(ssm, stored.name).version != stored.version:
        raise Conflict(stored.name)
    request = {"Name": stored.name, "Type": "String", "Tier": "Intelligent-Tiering", "Overwrite": True}
    version = int(ssm.put_parameter(**request, Value=text)["Version"])
    if version != stored.version + 1:
        between = read(ssm, f"{stored.name}:{version - 1}").text
        # boto3 sends a write again whose answer was lost: then this is our own text, twice
        if (version, between) != (stored.version + 2, text):
            ssm.put_parameter(**request, Value=between)
            raise Conflict(stored.name)
    return Stored(stored.name, text, version)


def split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def objects(aws: Aws, uri: str) -> dict[str, Any]:
    """The object of that URI, or every one in the folder ("…/") but a console's "folder" objects: key → its entry."""
    bucket, key = split(uri)
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    entries = {entry["Key"]: entry for page in pages for entry in page.get("Contents", [])}
    return {name: entry for name, entry in entries.items() if name[-1] != "/" and (key[-1] == "/" or name == key)}


def files(aws: Aws, uri: str) -> dict[str, str]:
    """What of `objects` is data: key → size and ETag."""
    start = len(split(uri)[1])
    found = {key: f"{entry['Size']} {entry['ETag']}" for key, entry in objects(aws, uri).items()}
    return {key: tag for key, tag in found.items() if is_data(key[start:])}


def complete(aws: Aws, places: Places, window: str, part: str) -> bool:
    """Whether a part of a window is marked as complete; before that, files of it may still be missing."""
    bucket, key = split(f"{places.data(window, part)}{MARK}")
    found = aws.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
    return any(entry["Key"] == key for entry in found)


def fingerprint(*folders: Mapping[str, str]) -> str:
    """Of what `files` gives: another one for other keys, sizes or ETags.

    A cached step looks at its request alone ("Default cache key attributes by pipeline step type", developer guide).
    """
    entries = {key: tag for files in folders for key, tag in files.items()}
    return sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:16]


def windows(aws: Aws, places: Places) -> list[str]:
    """Every window that anything lies in, old to new."""
    bucket, key = split(f"{places.storage}/data/")
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key, Delimiter="/")
    names = [entry["Prefix"].removeprefix(key).strip("/") for page in pages for entry in page.get("CommonPrefixes", [])]
    return sorted((name for name in names if places.window(places.data(name, "train"), "train")), key=order)


def newest_window(aws: Aws, places: Places, part: str = "production") -> tuple[str, list[str]]:
    """The newest window whose part is complete, "" where there is none; and the newer ones that have files without."""
    waiting: list[str] = []
    for name in windows(aws, places)[::-1]:
        if complete(aws, places, name, part):
            return name, waiting
        waiting += [name] if files(aws, places.data(name, part)) else []
    return "", waiting


def unmarked(places: Places, names: list[str], part: str) -> str:
    them = ", ".join(places.data(name, part) for name in names)
    return f"{them} {'has' if len(names) == 1 else 'have'} files and no {MARK}, which says that all of them are there."


def read_text(aws: Aws, uri: str) -> str | None:
    bucket, key = split(uri)
    with passed_over("NoSuchKey"):
        return str(aws.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())
    return None


def write_once(aws: Aws, uri: str, text: str) -> str:
    """Write a file unless there is one; what it holds then ("Conditional writes" in the S3 user guide)."""
    bucket, key = split(uri)
    with passed_over("PreconditionFailed", "ConditionalRequestConflict"):
        aws.s3.put_object(Bucket=bucket, Key=key, Body=text.encode(), IfNoneMatch="*")
        return text
    return read_text(aws, uri) or text


def read_json(aws: Aws, uri: str) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none, or something else."""
    try:
        found = json.loads(read_text(aws, uri) or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
