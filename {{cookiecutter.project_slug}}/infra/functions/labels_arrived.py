"""Labels: have what was predicted measured by them, and start the retraining that waits for them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from functions import events, measuring, retraining
from functions.clients import Aws, connect
from functions.memory import WAITING
from functions.places import Places, here


def handler(event: Mapping[str, Any], _context: Any) -> str:
    """An object below data/<window>/labels/ or train/ was created."""
    said = run(event, connect(), here(), datetime.now(UTC))
    print(said)
    return said


def run(event: Mapping[str, Any], aws: Aws, places: Places, now: datetime) -> str:
    """What was done, in a sentence. Every file of a window is an event; the first to find the loop waiting counts."""
    window = places.window(events.object_created(event), *measuring.PARTS, *places.labelled)
    if not window:
        return "Nothing waits for this."
    arn = measuring.start(aws, places, window)
    said = f"Window {window} is measured by its labels in {arn}." if arn else "Nothing waits for this."
    waiting = retraining.recall(aws, places)[1].state == WAITING
    return retraining.go_on(aws, places, now).reason if waiting else said
