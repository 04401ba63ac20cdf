"""`make upload`: a window's data into the environment's bucket, and then the mark that says that it is complete."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic

from batchloop.cloud.session import opened
from batchloop.container.job import InputError, listed
from batchloop.control import storage
from batchloop.control.names import is_data
from batchloop.local import as_table
from batchloop.repository import Repository

PARTS = ("production", "train", "validation", "labels")
SECONDS = 2.0


@dataclass(frozen=True)
class Upload:
    """`data` is a file or folder of this machine; `replace` puts it in place of what the window's part holds."""

    data: str
    window: str
    part: str = "production"
    replace: bool = False


class Sent:
    """Prints how many bytes of a whole are sent, every two seconds at most."""

    def __init__(self, whole: int) -> None:
        self.whole, self.done, self.due, self.lock = whole, 0, monotonic() + SECONDS, Lock()

    def __call__(self, more: int) -> None:
        with self.lock:  # parts of one file are sent side by side
            self.done += more
            if monotonic() >= self.due:
                print(f"  {self.done:,} of {self.whole:,} bytes", flush=True)
                self.due = monotonic() + SECONDS


def upload(repository: Repository, name: str, request: Upload) -> int:
    """Put the files of a folder, or one file, there; the exit code. Raises InputError.

    What is complete, or holds other files than these, is left as it is unless `replace` says otherwise: then the mark
    goes first, so that nobody reads half of it. An upload that was cut off is repeated as it was.
    """
    session = opened(repository, name, account_is_set=True)
    window, part = request.window, request.part
    if part not in PARTS:
        raise InputError(f"PART={part} is none of {', '.join(PARTS)}.")
    files = local(as_table(repository, request.data, part != "production", part == "labels"))
    uri = session.places.data(window, part)
    if session.places.window(uri, part) != window:
        raise InputError(f"WINDOW={window} can't be a window's name: at most 64 letters, digits, dots, - and _.")
    bucket, folder = storage.split(uri)
    mark, keys = f"{folder}{storage.MARK}", {f"{folder}{file}": path for file, path in files.items()}
    with session.asking(f"looking into {uri}"):
        known = storage.objects(session.aws, uri)
    others = [key.removeprefix(folder) for key in sorted(set(known) - {mark, *keys})]
    if (mark in known or others) and not request.replace:
        what = "is complete" if mark in known else f"holds other files, without {storage.MARK}: {listed(others, 5)}"
        raise InputError(
            f"{uri} {what}. REPLACE=yes puts these files in place of what is there; runs that have read it can't be "
            "repeated then, so a window of its own is better."
        )
    for key in [mark, *(f"{folder}{other}" for other in others)]:
        if key in known:
            session.call("s3", "delete_object", Bucket=bucket, Key=key)
    number, size = len(keys), sum(path.stat().st_size for path in keys.values())
    sent = Sent(size)
    for key, path in keys.items():
        with session.asking(f"putting {path.name} into {uri}"):
            session.aws.s3.upload_file(str(path), bucket, key, Callback=sent)
    session.call("s3", "put_object", Bucket=bucket, Key=mark, Body=b"")
    print(f"s3://{bucket}/{folder} has {number} file{'s' * (number > 1)} ({size:,} bytes) and {storage.MARK}.")
    return 0


def local(data: str) -> dict[str, Path]:
    """The files to put there, by name; names that begin with _ or a dot are no data. Raises InputError."""
    source = Path(data).expanduser()
    if not source.exists():
        raise InputError(f"DATA={data}: no such file or folder.")
    below = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    parent = source.parent if source.is_file() else source
    names = {path.relative_to(parent).as_posix(): path for path in below}
    if not (found := {name: path for name, path in names.items() if is_data(name)}):
        raise InputError(f"DATA={data} holds no files.")
    return found
