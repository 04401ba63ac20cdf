"""The states of a stack, and what to do about each that can't be deployed to."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from batchloop.cloud.bootstrap import stranger
from batchloop.cloud.session import DENIED, EXPIRED, NOT_ACCEPTED, THROTTLED, CallFailed, Target, ask, tag_map
from batchloop.repository import Failure

REVIEW = "REVIEW_IN_PROGRESS"  # there is a change set that would make it, and nothing else
GONE = "DELETE_COMPLETE"
GOOD = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")
# an update that was rolled back leaves a stack that works as it did before
READY = (*GOOD, "UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE")

DELETE = "aws cloudformation delete-stack --stack-name {name} --region {region}"
GO_ON = "aws cloudformation continue-update-rollback --stack-name {name} --region {region}"
ROLL_BACK = "aws cloudformation rollback-stack --stack-name {name} --region {region}"
NOT_MADE = f"mend the cause, delete what is left of it with `{DELETE}`, and deploy again"
HALFWAY = f"mend the cause, then `{GO_ON}`, and deploy again"
TO_DO = {
    "CREATE_FAILED": f"could not be made; {NOT_MADE}",
    "ROLLBACK_COMPLETE": f"could not be made and was rolled back; {NOT_MADE}",
    "ROLLBACK_FAILED": f"could be neither made nor rolled back; {NOT_MADE}",
    "DELETE_FAILED": "could not be deleted whole; mend the cause, and `make teardown ENV={environment}` goes on",
    "UPDATE_FAILED": f"stopped amid an update; undo it with `{ROLL_BACK}`, mend the cause, and deploy again",
    "UPDATE_ROLLBACK_COMPLETE": "could not be changed and works as it did before; mend the cause, and deploy again",
    "UPDATE_ROLLBACK_FAILED": f"could be neither changed nor changed back; {HALFWAY}",
    "IMPORT_ROLLBACK_COMPLETE": "could not take over what is there; mend the cause, and deploy again",
    "IMPORT_ROLLBACK_FAILED": f"could not give back what it took over; {HALFWAY}",
}


def moving(status: str) -> bool:
    """Whether CloudFormation is at work on it."""
    return status.endswith("_IN_PROGRESS") and status != REVIEW


def sentence(status: str, **places: str) -> str:
    """What a stack in this state needs; `places` are name, region and environment."""
    todo = TO_DO.get(status, "is in a state that a deployment does not know; look at it in the CloudFormation console")
    return f"the stack {places['name']} is {status}: it {todo.format(**places)}."


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


SECONDS, LONGEST = 5, 3600  # between two looks, and until waiting ends
Found = Mapping[str, Any]


@dataclass(frozen=True)
class Stack:
    """Looking needs cloudformation:DescribeStacks and DescribeStackEvents."""

    target: Target
    client: Any

    def found(self, name: str = "") -> Found | None:
        """What DescribeStacks answers; by its id a deleted stack is still described, by its name it is not there."""
        try:
            [found] = ask(self.client, "describe_stacks", "Stacks", StackName=name or self.target.name)
        except CallFailed as failed:
            if failed.code != "ValidationError" or "does not exist" not in str(failed):
                raise
            return None
        return dict(found)

    def settled(self) -> Found | None:
        """What is there once nothing is done to it any more. Raises Failure for somebody else's stack."""
        found = self.found()
        if found and (other := stranger(tag_map(found.get("Tags", [])), self.target.owner)):
            raise Failure(f"the stack {self.target.name}: {other}.")
        if found and moving(found["StackStatus"]):
            print(f"{self.target.name} is {found['StackStatus']}: waiting for it", flush=True)
            found = self.waited(found["StackId"], Events(self.client, found["StackId"]))
        return None if found and found["StackStatus"] == GONE else found

    def waited(self, identity: str, seen: Events) -> Found:
        """What is there when CloudFormation has begun and ended; prints events. Raises Failure after an hour.

        It has begun when there is an event: until then the status may still be the one from before.
        """
        goes_on = f"CloudFormation goes on with {self.target.name} meanwhile, and the same command from there"
        try:
            return self._waited(identity, seen)
        except CallFailed as failed:
            raise Failure(f"{failed}. {goes_on}.") from None
        except TimeoutError:
            raise Failure(f"after {LONGEST // 60} minutes nobody waits any longer. {goes_on}.") from None
        except KeyboardInterrupt:
            raise Failure(f"stopped waiting. {goes_on}.") from None

    def _waited(self, identity: str, seen: Events) -> Found:
        begun, deadline = False, time.monotonic() + LONGEST
        while True:
            found = self.found(identity) or {"StackStatus": GONE, "StackId": identity}
            moving_, news = moving(found["StackStatus"]), seen.news()
            if news:
                print(*news, sep="\n", flush=True)
            begun = begun or moving_ or bool(news) or found["StackStatus"] == GONE
            if begun and not moving_:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(SECONDS)

    def trouble(self, found: Found) -> Failure:
        """Why the stack can't be worked with, what failed first, and what to do."""
        where = self.target.where
        first = cause(self.client, found["StackId"])
        said = sentence(found["StackStatus"], name=self.target.name, region=where.region, environment=where.name)
        return Failure(f"{first}\n{said}" if first else said)


ACTIONS = {"Add": "add", "Modify": "change", "Remove": "remove", "Import": "take over", "Dynamic": "perhaps change"}
REPLACED = {"True": "yes", "Conditional": "perhaps", "False": "no"}
KEPT = ("Retain", "ReplaceAndRetain")


@dataclass(frozen=True)
class Change:
    """Of one resource; `policy` is what CloudFormation would do with the one that is there now."""

    action: str
    name: str
    kind: str
    replacement: str
    policy: str

    @property
    def loss(self) -> str:
        """In words, what becomes of the resource that is there now; "" where it stays."""
        kept = self.policy in KEPT
        if self.action == "Remove":
            return "leaves the stack, and is kept" if kept else "is deleted"
        if self.replacement in ("True", "Conditional"):
            perhaps = "perhaps " if self.replacement == "Conditional" else ""
            return f"is {perhaps}replaced: a new one is made, and {'this one is kept' if kept else 'this one deleted'}"
        return ""


def read(described: Sequence[Mapping[str, Any]]) -> list[Change]:
    """The `Changes` of DescribeChangeSet's answers."""
    return [
        Change(
            action=found["Action"],
            name=found["LogicalResourceId"],
            kind=found["ResourceType"],
            replacement=found.get("Replacement", "") if found["Action"] in ("Modify", "Dynamic") else "",
            policy=found.get("PolicyAction", ""),
        )
        for entry in described
        if (found := entry.get("ResourceChange"))
    ]


def table(changes: Sequence[Change]) -> Iterator[str]:
    """Action, logical id, type, replacement; then whatever would be lost."""
    rows = [("action", "resource", "type", "replaced")]
    rows += [
        (ACTIONS.get(its.action, its.action), its.name, its.kind, REPLACED.get(its.replacement, "")) for its in changes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for its in changes:
        if its.loss:
            yield f"  ATTENTION: {its.name} ({its.kind}) {its.loss}"


NAME = "deploy"  # one at a time: what an interrupted deployment left is found by its name
SECONDS_CHANGESETS, LONGEST_CHANGESETS = 2, 600
EMPTY = ("didn't contain changes", "no updates are to be performed")
REFUSED = DENIED | EXPIRED | NOT_ACCEPTED | THROTTLED
UNKNOWN = ("ChangeSetNotFound", "ChangeSetNotFoundException")


class ChangeSet:
    """The changes it would make, none where the stack is as it is to be."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._client = stack, stack.client
        self._place = {"StackName": stack.target.name, "ChangeSetName": NAME}
        self._identity = ""
        self.attempted = False
        self.changes: list[Change] = []

    def make(self, request: Mapping[str, Any]) -> None:
        """Let CloudFormation compare. Raises Failure where it can't."""
        made = ask(self._client, "create_change_set", **self._place, **request, ClientToken=uuid.uuid4().hex)
        # by its id: the name may be somebody else's a moment later
        self._identity = made["Id"]
        first = self._compared()
        if first["Status"] == "FAILED":
            why = first.get("StatusReason", "it gives no reason")
            if any(words in why.lower() for words in EMPTY):
                return
            raise Failure(f"CloudFormation can't change {self._stack.target.name}: {why}")
        self.changes = read(list(self._pages(first)))

    def execute(self) -> Found:
        """Carry it out, and wait; the stack as it is then. Raises Failure with what failed first and what to do."""
        found = self._stack.found()
        seen = Events(self._client, found["StackId"] if found else self._stack.target.name)
        self.attempted = True
        token = uuid.uuid4().hex
        try:
            ask(self._client, "execute_change_set", ChangeSetName=self._identity, ClientRequestToken=token)
        except CallFailed as failed:
            self.attempted = failed.code not in REFUSED  # without an answer it may have begun
            raise
        done = self._stack.waited(found["StackId"] if found else self._stack.target.name, seen)
        if done["StackStatus"] not in GOOD:
            raise self._stack.trouble(done)
        return done

    def take_away(self) -> None:
        """Delete it, and a stack that was only to be. Never raises: what remains does nothing, and is said."""
        try:
            self.delete()
            found = self._stack.found()
            if not found or found["StackStatus"] != REVIEW:
                return
            place = {"StackName": found["StackId"]}
            if not ask(self._client, "list_change_sets", "Summaries", **place):  # nobody else prepares it
                ask(self._client, "delete_stack", **place)
        except CallFailed as failed:
            print(
                f"the change set {NAME} of {self._stack.target.name} could not be deleted: {failed}.\n"
                "It does nothing, costs nothing, and the next deployment takes it away.",
                flush=True,
            )

    def delete(self) -> None:
        """Also one that an earlier deployment left. Raises CallFailed."""
        try:
            ask(self._client, "delete_change_set", **self._place)
        except CallFailed as failed:
            if failed.code not in UNKNOWN and "does not exist" not in str(failed):
                raise

    def _compared(self) -> Mapping[str, Any]:
        deadline = time.monotonic() + LONGEST_CHANGESETS
        while True:
            answer: Mapping[str, Any] = ask(self._client, "describe_change_set", ChangeSetName=self._identity)
            if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
                return answer
            if time.monotonic() > deadline:
                raise Failure(
                    f"CloudFormation still compares after {LONGEST_CHANGESETS // 60} minutes; try again later."
                )
            time.sleep(SECONDS_CHANGESETS)

    def _pages(self, answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        while True:
            yield from answer["Changes"]
            if not answer.get("NextToken"):
                return
            more = {"ChangeSetName": self._identity, "NextToken": answer["NextToken"]}
            answer = ask(self._client, "describe_change_set", **more)


@contextmanager
def proposed(stack: Stack, there: Found | None, request: Mapping[str, Any]) -> Iterator[ChangeSet]:
    """A change set of the stack as it was found, which does not outlive this block unless it was executed."""
    pending = ChangeSet(stack)
    if there:
        pending.delete()
    try:
        new = there is None or there["StackStatus"] == REVIEW
        pending.make({**request, "ChangeSetType": "CREATE" if new else "UPDATE"})
        yield pending
    finally:
        if not pending.attempted:
            pending.take_away()
