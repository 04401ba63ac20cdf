"""The schedule: score the newest window, or the one it names, with what is released."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from functions import executions, measuring, notices, release, storage
from functions.clients import Aws, connect
from functions.places import COMPONENTS, Places, here
from functions.release import Manifest


def handler(event: Mapping[str, Any], _context: Any) -> str:
    """{"window": ""} or {"window": name}; with "again": any text, a window is scored once more by the same release."""
    said = run(event, connect(), here(), datetime.now(UTC))
    print(said)
    return said


def run(event: Mapping[str, Any], aws: Aws, places: Places, now: datetime) -> str:
    """What was done, in a sentence. The same window and release start one execution, however often it is asked."""
    _, released = release.current(aws, places)
    if released is None:
        todo = f"Start {places.pipeline('training')}, and approve the model it registers."
        return _nothing(aws, places, now, "nothing is released yet", todo)
    named = str(event.get("window") or "")
    window = named or storage.newest_window(aws, places)
    data = places.data(window, "production")
    if not window or places.window(data, "production") != window or not storage.exists(aws, data):
        todo = f"Put the rows to score into {places.data(named or '<window>', 'production')}/."
        return _nothing(aws, places, now, f"window {named} has no data" if named else "no window has data", todo)
    values = scoring(places, released, data) | measuring.given(aws, places, window)
    purpose = (window, str(released["version"]), str(event.get("again") or ""))
    said = f"Window {window} is scored with release {released['version']}."
    arn = executions.start(aws, places.pipeline("inference"), values, purpose, said)
    notices.measure(aws, places, now, {"NothingToScore": 0})
    return f"{said} {arn}"


def scoring(places: Places, released: Manifest, data: str) -> dict[str, str]:
    """The inference pipeline's parameters: everything from one release, so that nothing can be mixed."""
    return {
        "ProductionData": data,
        "ArtifactsPrefix": places.runs("inference"),
        **{name.capitalize(): uri for name, uri in released["artifacts"].items()},
        **{f"{name.capitalize()}Image": released["images"][name] for name in COMPONENTS},
    }


def _nothing(aws: Aws, places: Places, now: datetime, why: str, todo: str) -> str:
    notices.tell(aws, places, f"{why}, so nothing is scored", {"Decision": f"{why}.", "To do": todo})
    notices.measure(aws, places, now, {"NothingToScore": 1})
    return f"{why}."
