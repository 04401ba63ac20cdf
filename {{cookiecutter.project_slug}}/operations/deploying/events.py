"""What happened to a stack's resources, as CloudFormation's events tell it."""

from collections.abc import Iterator, Mapping
from typing import Any

from operations.bootstrap.calls import ask

Event = Mapping[str, Any]
BEGINNINGS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS")


class Events:
    """Those that come after this was made."""

    def __init__(self, client: Any, stack: str) -> None:
        self._client, self._stack = client, stack
        self._last = next((event["EventId"] for event in _newest(client, stack)), "")

    def news(self) -> list[str]:
        """A line each, oldest first."""
        found: list[Event] = []
        for event in _newest(self._client, self._stack):
            if event["EventId"] == self._last:
                break
            found.append(event)
        if found:
            self._last = found[0]["EventId"]
        return [line(event) for event in reversed(found)]


def line(event: Event) -> str:
    """Time, status, resource and, for a failure, why."""
    why = f": {event['ResourceStatusReason']}" if failed(event) and "ResourceStatusReason" in event else ""
    time = event["Timestamp"].astimezone().strftime("%H:%M:%S")
    return f"  {time}  {event.get('ResourceStatus', ''):<28}  {event.get('LogicalResourceId', '')}{why}"


def failed(event: Event) -> bool:
    return str(event.get("ResourceStatus", "")).endswith("_FAILED")


def cause(client: Any, stack: str) -> str:
    """Of the last thing done to the stack, the first resource that failed, and why; "" where none did.

    The others fail because of it: theirs are "cancelled".
    """
    found = ""
    for event in _newest(client, stack):
        itself = event.get("PhysicalResourceId") == event["StackId"]
        why = event.get("ResourceStatusReason", "no reason was given")
        if failed(event) and not itself and "cancelled" not in why.lower():
            found = f"{event['LogicalResourceId']} ({event['ResourceType']}) failed: {why}"
        if itself and event.get("ResourceStatus") in BEGINNINGS:
            break
    return found


def _newest(client: Any, stack: str) -> Iterator[Event]:
    """The newest first, page by page."""
    more: dict[str, str] = {}
    while True:
        answer = ask(client, "describe_stack_events", StackName=stack, **more)
        yield from answer["StackEvents"]
        if not answer.get("NextToken"):
            return
        more = {"NextToken": answer["NextToken"]}
