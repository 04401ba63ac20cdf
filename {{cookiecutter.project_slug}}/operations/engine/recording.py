"""run.json: what a run was given, how each step went, and where its outputs are."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from operations.engine.execution import now
from operations.engine.scheduler import Progress, State
from operations.engine.storage import write_json


class Record:
    """Written anew with every change, so that a killed run tells how far it came."""

    def __init__(self, file: Path, identity: str, pipeline: str, parameters: Mapping[str, Any]) -> None:
        self.file = file
        self.value: dict[str, Any] = {
            "execution": identity,
            "pipeline": pipeline,
            "state": "running",
            "started": now(),
            "parameters": dict(parameters),
            "steps": {},
        }
        write_json(self.file, self.value)

    def change(self, name: str, progress: Progress) -> None:
        """A step's new state."""
        self.value["steps"][name] = {
            "state": str(progress.state),
            "seconds": round(progress.seconds, 3),
            "message": progress.message,
            "properties": dict(progress.properties),
        }
        write_json(self.file, self.value)

    def end(self, state: str) -> None:
        """How it all ended: done, failed or stopped."""
        for step in self.value["steps"].values():
            if step["state"] == State.RUNNING:
                step["state"] = str(State.STOPPED)
        self.value |= {"state": state, "ended": now()}
        write_json(self.file, self.value)


def close_interrupted(runs: Path) -> None:
    """Mark runs that were killed, and remove their half-done job folders; finished steps lie in the storage."""
    for file in runs.glob("*/run.json"):
        value = json.loads(file.read_text(encoding="utf-8"))
        if value["state"] != "running":
            continue
        for folder in file.parent.iterdir():
            if folder.is_dir() and folder.name != "logs":
                shutil.rmtree(folder, ignore_errors=True)
        value["state"] = "interrupted"
        write_json(file, value)
