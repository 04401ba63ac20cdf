"""What stands for S3: the local engine's storage, seen through the calls that the control plane's functions make."""

import hashlib
import io
import os
from typing import Any

from operations.engine.storage import Storage
from operations.simulating.services import Answer, Pages
from operations.simulating.state import refused


class S3:
    """Objects are the files below `storage`; empty folders do not exist, as in S3."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def list_objects_v2(self, **request: Any) -> Answer:
        """Keys in their order, the first MaxKeys of them; with a Delimiter what begins alike is one prefix."""
        prefix, delimiter = request.get("Prefix", ""), request.get("Delimiter", "")
        keys = self._keys(request["Bucket"], prefix)
        folders: dict[str, None] = {}
        objects = []
        for key in keys:
            head, found, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
            if found:
                folders[prefix + head + found] = None
            else:
                objects.append({"Key": key, "ETag": self._digest(request["Bucket"], key)})
        most = request.get("MaxKeys", 1000)
        return {
            "Contents": objects[:most],
            "CommonPrefixes": [{"Prefix": name} for name in folders],
            "IsTruncated": len(objects) > most,
        }

    def get_paginator(self, name: str) -> Pages:
        call = getattr(self, name)
        return Pages(lambda **request: call(**request, MaxKeys=10**9))

    def get_object(self, **request: Any) -> Answer:
        path = self.storage.root / request["Bucket"] / request["Key"]
        if not path.is_file():
            raise refused("GetObject", "NoSuchKey", request["Key"])
        return {"Body": io.BytesIO(path.read_bytes())}

    def put_object(self, **request: Any) -> Answer:
        path = self.storage.root / request["Bucket"] / request["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(request["Body"])
        partial.replace(path)
        return {}

    def _digest(self, bucket: str, key: str) -> str:
        with (self.storage.root / bucket / key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _keys(self, bucket: str, prefix: str) -> list[str]:
        """The keys that begin with a prefix, from the folder that all of them lie in."""
        root = self.storage.root / bucket
        inside = os.walk(root / prefix.rpartition("/")[0])
        names = [os.path.relpath(os.path.join(folder, name), root) for folder, _, found in inside for name in found]
        return sorted(key for key in (name.replace(os.sep, "/") for name in names) if key.startswith(prefix))
