"""What lies in S3: whether there is data, which window is the newest, and a file's JSON."""

import json
import tarfile
from hashlib import sha256
from typing import Any

from botocore.exceptions import ClientError

from functions.clients import Aws
from functions.memory import order
from functions.places import Places

LARGEST = 16 * 2**20  # bytes of a JSON file inside an archive: a function has little memory


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def exists(aws: Aws, uri: str) -> bool:
    """Whether the URI is an object, or a folder with one in it; a console's "folder" object alone is none."""
    bucket, key = split(uri)
    exact, below = (aws.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=2) for prefix in (key, f"{key}/"))
    found = [entry["Key"] for answer in (exact, below) for entry in answer.get("Contents", [])]
    return any(name == key or (name.startswith(f"{key}/") and not name.endswith("/")) for name in found)


def version(aws: Aws, uri: str) -> str:
    """A hash of the names and ETags of the objects in a folder; "" where there is none."""
    bucket, key = split(f"{uri}/")
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    found = [f"{entry['Key']} {entry['ETag']}" for page in pages for entry in page.get("Contents", [])]
    objects = [line for line in found if not line.partition(" ")[0].endswith("/")]
    return sha256("\n".join(objects).encode()).hexdigest()[:16] if objects else ""


def newest_window(aws: Aws, places: Places, part: str = "production") -> str:
    """The newest window with something to score, or with another part; "" where there is none."""
    found = reversed(windows(aws, places))
    return next((name for name in found if exists(aws, places.data(name, part))), "")


def windows(aws: Aws, places: Places) -> list[str]:
    """Every window that anything lies in, old to new."""
    bucket, key = split(f"{places.storage}/data/")
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key, Delimiter="/")
    names = [entry["Prefix"].removeprefix(key).strip("/") for page in pages for entry in page.get("CommonPrefixes", [])]
    return sorted((name for name in names if places.window(places.data(name, "train"), "train")), key=order)


def files(aws: Aws, uri: str) -> dict[str, str]:
    """Every object in a folder, a console's "folder" objects left out: key → what changes with its content."""
    bucket, key = split(f"{uri}/")
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    entries = [entry for page in pages for entry in page.get("Contents", [])]
    return {entry["Key"]: entry.get("ETag", "") for entry in entries if not entry["Key"].endswith("/")}


def read_json(aws: Aws, uri: str, inside: str = "") -> dict[str, Any] | None:
    """The object in a JSON file, or in the file `inside` a .tar.gz; None where there is none, or something else."""
    bucket, key = split(uri)
    try:
        body = aws.s3.get_object(Bucket=bucket, Key=key)["Body"]
        found = _unpacked(body, inside) if inside else json.load(body)
    except (ValueError, EOFError, OSError, tarfile.TarError):
        return None
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return None
    return found if isinstance(found, dict) else None


def _unpacked(body: Any, name: str) -> Any:
    """Read as a stream: what else is in there may be large."""
    with tarfile.open(fileobj=body, mode="r|gz") as archive:
        for member in archive:
            if member.name.removeprefix("./") != name or member.size > LARGEST:
                continue
            if file := archive.extractfile(member):
                return json.load(file)
    return None
