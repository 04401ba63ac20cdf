"""Finished steps by what they depended on, and content hashes that are only computed again for changed files."""

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from operations import fingerprints
from operations.engine.storage import Storage, write_json
from operations.failures import Failure


class Cache:
    """Entries lie in one file a key. An entry counts only while everything it points to is still as it was."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.folder, self.storage = folder, storage
        self.folder.mkdir(parents=True, exist_ok=True)
        self._memory: dict[str, list[Any]] = self._load()
        self._lock = threading.Lock()

    def content(self, uri: str, listed: bool = False) -> str:
        """A hash of the names and bytes of what is at a URI, or `listed` there. Raises Failure where nothing is."""
        files = self.storage.listed(uri) if listed else self.storage.files(uri)
        return fingerprints.of([[name, self._digest(path)] for name, path in files])

    def find(self, key: str) -> dict[str, Any] | None:
        """The properties of the step that finished under this key, if its outputs are still there, unchanged."""
        file = self.folder / f"{key}.json"
        try:
            entry: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            whole = all(self.content(uri) == content for uri, content in entry["outputs"].items())
        except (OSError, ValueError, KeyError, Failure):
            return None
        return dict(entry["properties"]) if whole else None

    def keep(self, key: str, properties: Mapping[str, Any], outputs: Iterable[str]) -> None:
        """Remember a finished step; the last thing that happens to it, so a killed run never leaves half an entry."""
        entry = {"properties": dict(properties), "outputs": {uri: self.content(uri) for uri in outputs}}
        write_json(self.folder / f"{key}.json", entry)
        self.save()

    def save(self) -> None:
        """Keep the hashes for the next run."""
        with self._lock:
            write_json(self.folder / "digests.json", self._memory)

    def _load(self) -> dict[str, list[Any]]:
        try:
            known: dict[str, list[Any]] = json.loads((self.folder / "digests.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {path: entry for path, entry in known.items() if Path(path).exists()}

    def _digest(self, path: Path) -> str:
        try:
            state = path.stat()
        except OSError as error:
            leads = f", a link to {path.readlink()}" if path.is_symlink() else ""
            raise Failure(f"{path}{leads}: {error.strerror}; mend or remove it.") from None
        # the change time too: a file may be replaced by one of the same size and date
        seen = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        name = str(path.absolute())
        known = self._memory.get(name)
        if known is None or known[:3] != seen:
            with path.open("rb") as handle:
                known = [*seen, hashlib.file_digest(handle, "sha256").hexdigest()]
            with self._lock:
                self._memory[name] = known
        return str(known[3])
