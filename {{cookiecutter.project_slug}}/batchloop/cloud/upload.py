"""`make upload`: a window's data into the environment's bucket, and then the mark that says that it is complete."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from batchloop.cloud import queries
from batchloop.cloud.session import Session, opened
from batchloop.container.job import InputError, listed
from batchloop.control import artifacts, storage
from batchloop.control.names import is_data
from batchloop.local import as_table
from batchloop.repository import Repository

PARTS = ("production", "train", "validation", "labels")
ROWS = re.compile(r"rows-\d{5}\.parquet")  # a query's files, whatever the service has called them


@dataclass(frozen=True)
class Upload:
    """`data` is a file or folder of this machine, or `query` gives the rows; `replace`: in place of what is there."""

    data: str
    window: str
    part: str = "production"
    replace: bool = False
    query: str = ""


class File(NamedTuple):
    """A file to be; `put` brings it to a key of the bucket."""

    size: int
    put: Callable[[str], object]


def upload(repository: Repository, name: str, request: Upload) -> int:
    """Put the files of a folder, one file, or the rows of a query there; the exit code. Raises InputError.

    What is complete, or holds other files than these, is left as it is unless `replace` says otherwise: then the mark
    goes first, so that nobody reads half of it. An upload that was cut off is repeated as it was.
    """
    if bool(request.data) == bool(request.query):
        raise InputError('make upload takes DATA=folder or file, or FROM="SELECT …": one of the two.')
    session = opened(repository, name, account_is_set=True)
    query = queries.read(session, request.query) if request.query else ""
    uri, part = _uri(session, request.window, request.part), request.part
    labels = () if part == "labels" else None
    files = {} if query else local(session, as_table(repository, request.data, part != "production", labels))
    known = _known(session, uri, request, files)
    with ExitStack() as stack:
        took = ""
        if query:
            place = f"{uri.removesuffix(f'{part}/')}_{part}/"  # beside the part: no run reads it
            found, took = stack.enter_context(queries.staged(session, query, place))
            files = {f"rows-{number:05}.parquet": _copied(session, entry) for number, entry in enumerate(found)}
            known = _known(session, uri, request, files)  # once more: a query takes its time
        _bring(session, uri, files, [file for file in known if file not in files])
    number, size = len(files), sum(file.size for file in files.values())
    print(f"{uri} has {number} file{'s' * (number > 1)} ({size:,} bytes) and {storage.MARK}. {took}".rstrip())
    return 0


def _uri(session: Session, window: str, part: str) -> str:
    if part not in PARTS:
        raise InputError(f"PART={part} is none of {', '.join(PARTS)}.")
    uri = session.places.data(window, part)
    if session.places.window(uri, part) != window:
        raise InputError(f"WINDOW={window} can't be a window's name: at most 64 letters, digits, dots, - and _.")
    return uri


def _known(session: Session, uri: str, request: Upload, files: dict[str, File]) -> list[str]:
    """What a part holds. Raises InputError where that is the mark, or files that the upload would not write."""
    with session.asking(f"looking into {uri}"):
        known = [key.removeprefix(storage.split(uri)[1]) for key in sorted(storage.objects(session.aws, uri))]
    others = [file for file in known if file not in files and not (request.query and ROWS.fullmatch(file))]
    if request.replace or not others:
        return known
    what = f"holds other files, without {storage.MARK}: {listed(others, 5)}"
    raise InputError(
        f"{uri} {'is complete' if storage.MARK in others else what}. REPLACE=yes puts these files in place of what is "
        "there; runs that have read it can't be repeated then, so a window of its own is better."
    )


def _bring(session: Session, uri: str, files: dict[str, File], gone: list[str]) -> None:
    """Delete what is to go, the mark before anything else, then bring the files, and the mark after all else."""
    bucket, folder = storage.split(uri)
    for file in sorted(gone, key=storage.MARK.__ne__):
        session.call("s3", "delete_object", Bucket=bucket, Key=f"{folder}{file}")
    for name, wanted in files.items():
        print(f"  {name} ({wanted.size:,} bytes)", flush=True)
        with session.asking(f"putting {name} into {uri}"):
            wanted.put(f"{folder}{name}")
    session.call("s3", "put_object", Bucket=bucket, Key=f"{folder}{storage.MARK}", Body=b"")


def local(session: Session, data: str) -> dict[str, File]:
    """The files to put there, by name; names that begin with _ or a dot are no data. Raises InputError."""
    source = Path(data).expanduser()
    if not source.exists():
        raise InputError(f"DATA={data}: no such file or folder.")
    below = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    parent = source.parent if source.is_file() else source
    names = {path.relative_to(parent).as_posix(): path for path in below}
    if not (found := {name: path for name, path in names.items() if is_data(name)}):
        raise InputError(f"DATA={data} holds no files.")
    put, bucket = session.aws.s3.upload_file, session.environment.bucket
    return {name: File(path.stat().st_size, partial(put, str(path), bucket)) for name, path in found.items()}


def _copied(session: Session, entry: dict[str, Any]) -> File:
    """S3 copies an object by itself."""
    bucket = session.environment.bucket
    source = artifacts.Source(bucket, entry["Key"], entry["ETag"])
    return File(entry["Size"], partial(artifacts.copying(session.aws), source, bucket))
