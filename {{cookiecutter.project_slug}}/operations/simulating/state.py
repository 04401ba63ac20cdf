"""Everything of the simulated account that is not a file in its storage: one JSON file, replaced in one rename.

A simulation that is killed goes on from it. What was under way is done again, and what was being told is told again:
events may come twice in AWS too, and the functions are made for that.
"""

import json
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from operations.engine.storage import write_json
from operations.failures import Failure

EMPTY: dict[str, Any] = {"now": "", "parameters": {}, "executions": {}, "approvals": {}, "told": [], "ticks": []}


class State:
    """`value` may be changed at will; only `save` makes it last."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.value = json.loads(json.dumps(EMPTY))
        except ValueError:
            raise Failure(f"{file.name} is damaged; FRESH=yes begins the simulation anew.") from None

    def __getitem__(self, name: str) -> Any:
        return self.value[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.value[name] = value

    def save(self) -> None:
        """Make it last."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, self.value)


def refused(call: str, code: str, why: str) -> ClientError:
    """How a client says no."""
    return ClientError({"Error": {"Code": code, "Message": why}}, call)
