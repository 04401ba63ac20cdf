"""The environment's stack: what is there, whose it is, and waiting until CloudFormation has done with it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operations.bootstrap.calls import CallFailed, ask
from operations.bootstrap.findings import stranger
from operations.deploying import events, states
from operations.deploying.events import Events
from operations.deploying.target import Target, tag_map
from operations.failures import Failure

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
        if found and states.moving(found["StackStatus"]):
            print(f"{self.target.name} is {found['StackStatus']}: waiting for it", flush=True)
            found = self.waited(found["StackId"], Events(self.client, found["StackId"]))
        return None if found and found["StackStatus"] == states.GONE else found

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
            found = self.found(identity) or {"StackStatus": states.GONE, "StackId": identity}
            moving, news = states.moving(found["StackStatus"]), seen.news()
            if news:
                print(*news, sep="\n", flush=True)
            begun = begun or moving or bool(news) or found["StackStatus"] == states.GONE
            if begun and not moving:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(SECONDS)

    def trouble(self, found: Found) -> Failure:
        """Why the stack can't be worked with, what failed first, and what to do."""
        where = self.target.where
        first = events.cause(self.client, found["StackId"])
        said = states.sentence(found["StackStatus"], name=self.target.name, region=where.region, environment=where.name)
        return Failure(f"{first}\n{said}" if first else said)
