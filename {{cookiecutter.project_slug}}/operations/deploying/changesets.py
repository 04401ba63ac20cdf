"""A change set: made, looked at, and either executed or taken away again, with the stack that it alone would make."""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from operations.bootstrap.calls import DENIED, EXPIRED, NOT_ACCEPTED, THROTTLED, CallFailed, ask
from operations.deploying import changes, states
from operations.deploying.changes import Change
from operations.deploying.events import Events
from operations.deploying.stack import Found, Stack
from operations.failures import Failure

NAME = "deploy"  # one at a time: what an interrupted deployment left is found by its name
SECONDS, LONGEST = 2, 600
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
        self.changes = changes.read(list(self._pages(first)))

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
        if done["StackStatus"] not in states.GOOD:
            raise self._stack.trouble(done)
        return done

    def take_away(self) -> None:
        """Delete it, and a stack that was only to be. Never raises: what remains does nothing, and is said."""
        try:
            self.delete()
            found = self._stack.found()
            if not found or found["StackStatus"] != states.REVIEW:
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
        deadline = time.monotonic() + LONGEST
        while True:
            answer: Mapping[str, Any] = ask(self._client, "describe_change_set", ChangeSetName=self._identity)
            if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
                return answer
            if time.monotonic() > deadline:
                raise Failure(f"CloudFormation still compares after {LONGEST // 60} minutes; try again later.")
            time.sleep(SECONDS)

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
        new = there is None or there["StackStatus"] == states.REVIEW
        pending.make({**request, "ChangeSetType": "CREATE" if new else "UPDATE"})
        yield pending
    finally:
        if not pending.attempted:
            pending.take_away()
