"""The two parameters that hold state, written only where they differ, and never over somebody else's value unseen.

PutParameter knows no compare-and-set ("PutParameter" in the Systems Manager API reference). A write reads again first,
and its answer's version shows whether another came in between; then it puts the other's value back and raises Conflict,
and its caller starts over from what is there. What remains possible: for the moment until it is back, the other's value
is hidden; whoever reads in that moment may decide once more about a window, and finds the training that already runs.
"""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from functions.memory import NOTHING

LIMIT = 8192  # bytes; beyond 4096 Intelligent-Tiering makes it an advanced parameter, which costs a little


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
    version = _put(ssm, stored.name, text)
    if version != stored.version + 1:
        between = read(ssm, f"{stored.name}:{version - 1}").text
        # boto3 sends a write again whose answer was lost: then this is our own text, twice
        if (version, between) != (stored.version + 2, text):
            _put(ssm, stored.name, between)
            raise Conflict(stored.name)
    return Stored(stored.name, text, version)


def _put(ssm: Any, name: str, text: str) -> int:
    request = {"Name": name, "Value": text, "Type": "String", "Tier": "Intelligent-Tiering", "Overwrite": True}
    return int(ssm.put_parameter(**request)["Version"])
