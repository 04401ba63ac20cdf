"""The functions' code as one zip whose bytes, and so whose name, depend on nothing but its content."""

import io
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from operations.bootstrap.calls import CallFailed, ask
from operations.failures import Failure

EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
READABLE = 0o644 << 16
ABSENT = ("404", "NoSuchKey", "NotFound")


@dataclass(frozen=True)
class Package:
    """The zip; `digest` is its SHA-256."""

    body: bytes

    @property
    def digest(self) -> str:
        return sha256(self.body).hexdigest()

    def key(self, prefix: str) -> str:
        """Where it lies in the bucket; the prefix is <namespace>/<usecase>/<environment>."""
        return f"{prefix}/functions/{self.digest}.zip"


def package(root: Path) -> Package:
    """infra/functions/*.py, and usecase.toml beside them, where `functions.places` reads it. Raises Failure.

    Nothing is compressed: what zlib makes of the same bytes differs between its versions, and this is small.
    """
    modules = sorted((root / "infra" / "functions").glob("*.py"))
    if not modules:
        raise Failure("infra/functions holds no code; is this the whole repository?")
    files = {f"functions/{file.name}": file for file in modules} | {"usecase.toml": root / "usecase.toml"}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, file in files.items():
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.create_system, entry.external_attr = 3, READABLE  # else Windows writes other bytes
            archive.writestr(entry, file.read_bytes())
    return Package(out.getvalue())


@dataclass(frozen=True)
class Shelf:
    """A bucket that has to be the account's own."""

    s3: Any
    bucket: str
    account: str

    def has(self, key: str) -> bool:
        """Raises CallFailed."""
        try:
            ask(self.s3, "head_object", **self._place(key))
        except CallFailed as failed:
            if failed.code not in ABSENT:
                raise
            return False
        return True

    def put(self, key: str, body: bytes) -> None:
        """Raises CallFailed."""
        ask(self.s3, "put_object", **self._place(key), Body=body)

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": key, "ExpectedBucketOwner": self.account}
