"""What the functions read and write in AWS: two parameters that hold state, the objects of windows and artifacts.

The parameters are written only where they differ, and never over somebody else's value unseen. PutParameter knows no
compare-and-set ("PutParameter" in the Systems Manager API reference): a write reads again first, and its answer's
version shows whether another came in between; then it puts the other's value back and raises Conflict, and its caller
starts over from what is there. What remains possible: for the moment until it is back, the other's value is hidden;
whoever reads in that moment may decide once more about a window, and finds the training that already runs.
"""

import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from botocore.exceptions import ClientError

from batchloop.control.names import NOTHING, Aws, Places, order

LIMIT = 8192  # bytes; beyond 4096 Intelligent-Tiering makes it an advanced parameter, which costs a little
LARGEST = 16 * 2**20  # bytes of a JSON file inside an archive: a function has little memory


class Conflict(Exception):
    """Somebody else wrote at the same time."""


@dataclass(frozen=True)
class Stored:
    """A parameter as it was read; version 0 is one that does not exist."""

    name: str
    text: str
    version: int


def read(ssm: Any, name: str) -> Stored:
    """The parameter; where it does not exist its text is `none`."""
    try:
        found = ssm.get_parameter(Name=name)["Parameter"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        return Stored(name, NOTHING, 0)
    return Stored(name, found["Value"], found["Version"])


def write(ssm: Any, stored: Stored, text: str) -> Stored:
    """The parameter after it holds `text`. Raises Conflict, and ValueError for a text that is too long."""
    if text == stored.text:
        return stored
    if len(text.encode()) > LIMIT:
        raise ValueError(f"{stored.name} would hold {len(text.encode()):,} bytes; a parameter takes {LIMIT:,}.")
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
    """Bucket and key of an s3:// URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def exists(aws: Aws, uri: str) -> bool:
    """Whether the URI is an object, or a folder ("…/") with one in it; a console's "folder" object alone is none."""
    bucket, key = split(uri)
    found = [entry["Key"] for entry in aws.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=2).get("Contents", [])]
    return any(not name.endswith("/") for name in found) if key.endswith("/") else key in found


def files(aws: Aws, uri: str) -> dict[str, str]:
    """Every object in a folder, a console's "folder" objects left out: key → size and ETag."""
    bucket, key = split(uri)
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    entries = [entry for page in pages for entry in page.get("Contents", [])]
    return {entry["Key"]: f"{entry['Size']} {entry['ETag']}" for entry in entries if not entry["Key"].endswith("/")}


def fingerprint(*folders: Mapping[str, str]) -> str:
    """Of what `files` gives: another one for other keys, sizes or ETags.

    A cached step looks at its request alone ("Default cache key attributes by pipeline step type" in the SageMaker
    developer guide), so what lies behind a URI has to be said in it.
    """
    entries = {key: tag for files in folders for key, tag in files.items()}
    return sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:16]


def windows(aws: Aws, places: Places) -> list[str]:
    """Every window that anything lies in, old to new."""
    bucket, key = split(f"{places.storage}/data/")
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key, Delimiter="/")
    names = [entry["Prefix"].removeprefix(key).strip("/") for page in pages for entry in page.get("CommonPrefixes", [])]
    return sorted((name for name in names if places.window(places.data(name, "train"), "train")), key=order)


def newest_window(aws: Aws, places: Places, part: str = "production") -> str:
    """The newest window with something to score, or with another part; "" where there is none."""
    return next((name for name in windows(aws, places)[::-1] if exists(aws, places.data(name, part))), "")


def read_json(aws: Aws, uri: str, inside: str = "") -> dict[str, Any] | None:
    """The object in a JSON file, or in the file `inside` a .tar.gz; None where there is none, or something else."""
    bucket, key = split(uri)
    try:
        body: Any = aws.s3.get_object(Bucket=bucket, Key=key)["Body"]
        if not inside:
            found = json.load(body)
        else:
            with tarfile.open(fileobj=body, mode="r|gz") as archive:  # as a stream: what else is in there may be large
                named = (member for member in archive if member.name.removeprefix("./") == inside)
                member = next((member for member in named if member.size <= LARGEST), None)
                file = archive.extractfile(member) if member else None
                found = json.load(file) if file else None
    except (ValueError, EOFError, OSError, tarfile.TarError):
        return None
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return None
    return found if isinstance(found, dict) else None
