"""An environment's CloudFormation stacks: their state and events, change sets that are shown first, and what is sent.

That is the templates of infra/, their parameters, and the functions' code as Lambda takes it.
"""

import io
import json
import re
import time
import uuid
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any

from batchloop.cloud.session import CODES, CallFailed, Session, answered, foreign, tag_map
from batchloop.container.job import InputError
from batchloop.environment import Environment
from batchloop.pipelines import definitions
from batchloop.repository import Repository, aligned

STORAGE, STACK = "storage.yaml", "stack.yaml"  # of infra/
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
READABLE = 0o644 << 16
TAKEN = ("window", "prediction", "score", "lower", "upper", "error")  # columns of the table of predictions
Described = Mapping[str, Any]  # a stack, an event or a resource's change, as CloudFormation answers
REVIEW = "REVIEW_IN_PROGRESS"  # there is a change set that would make it, and nothing else
GONE = "DELETE_COMPLETE"
GOOD = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")
# an update that was rolled back leaves a stack that works as it did before
READY = (*GOOD, "UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE")
BEGINNINGS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS")

DELETE = "aws cloudformation delete-stack --stack-name {name} --region {region}"
GO_ON = "aws cloudformation continue-update-rollback --stack-name {name} --region {region}"
ROLL_BACK = "aws cloudformation rollback-stack --stack-name {name} --region {region}"
NOT_MADE = f"could not be made; mend the cause, delete what is left of it with `{DELETE}`, and deploy again"
HALFWAY = f"could be neither changed nor changed back; mend the cause, then `{GO_ON}`, and deploy again"
TO_DO = {
    **dict.fromkeys(("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"), NOT_MADE),
    "UPDATE_ROLLBACK_COMPLETE": "could not be changed and works as it did before; mend the cause, and deploy again",
    "IMPORT_ROLLBACK_COMPLETE": "could not take over what is there; mend the cause, and deploy again",
    **dict.fromkeys(("UPDATE_ROLLBACK_FAILED", "IMPORT_ROLLBACK_FAILED"), HALFWAY),
    "DELETE_FAILED": "could not be deleted whole; mend the cause, and `make teardown ENV={environment}` goes on",
    "UPDATE_FAILED": f"stopped amid an update; undo it with `{ROLL_BACK}`, mend the cause, and deploy again",
}
NOT_KNOWN = "is in a state that a deployment does not know; look at it in the CloudFormation console"

SECONDS, LONGEST = 5, 3600  # between two looks, and until waiting ends
CHANGE_SET = "deploy"  # one at a time: what an interrupted deployment left is found by its name
CHANGE_SET_SECONDS, CHANGE_SET_LOOKS = 2, 300
NO_CHANGE_SET = ("ChangeSetNotFound", "ChangeSetNotFoundException", "ValidationError")
EMPTY = ("didn't contain changes", "no updates are to be performed")
ACTIONS = {"Add": "add", "Modify": "change", "Remove": "remove", "Import": "take over", "Dynamic": "perhaps change"}
REPLACED = {"True": "yes", "Conditional": "perhaps", "False": "no"}
KEPT = ("Retain", "ReplaceAndRetain")


class Stack:
    """Looking needs cloudformation:DescribeStacks and DescribeStackEvents."""

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name = session, name
        self.call = partial(session.call, "cloudformation")
        self._named = {"StackName": self.name, "ChangeSetName": CHANGE_SET}
        self._delete_change_set = partial(
            session.find, "cloudformation", "delete_change_set", NO_CHANGE_SET, **self._named
        )
        self._last, self._arn, self._executed = "", "", False  # the event shown last; the change set, and its fate

    def describe(self, name: str = "") -> Described | None:
        """None where it is not there; by its id a deleted stack is still described, by its name it is not there."""
        request = {"StackName": name or self.name}
        found = self.session.find("cloudformation", "describe_stacks", ("ValidationError",), "Stacks", **request)
        return found[0] if found else None

    def foreign(self, found: Described) -> str:
        return foreign(tag_map(found.get("Tags", [])), self.session.environment.tags)

    def settled(self) -> Described | None:
        """What is there once nothing is done to it any more. Raises InputError for somebody else's stack."""
        found = self.describe()
        if found and (other := self.foreign(found)):
            raise InputError(f"the stack {self.name}: {other}.")
        if found and moving(found["StackStatus"]):
            print(f"{self.name} is {found['StackStatus']}: waiting for it", flush=True)
            self.ignore_past_events(found["StackId"])
            found = self.wait(found["StackId"])
        return None if found and found["StackStatus"] == GONE else found

    def usable(self) -> Described | None:
        """As `settled`; raises InputError where no change set can be made for it."""
        found = self.settled()
        if found and found["StackStatus"] not in (*READY, REVIEW):
            raise self.trouble(found)
        return found

    def ignore_past_events(self, identity: str) -> None:
        self._last = next((event["EventId"] for event in self._events(identity)), "")

    def wait(self, identity: str) -> Described:
        """What is there when CloudFormation has begun and ended; prints events. Raises InputError after an hour.

        It has begun when there is an event: until then the status may still be the one from before.
        """
        goes_on = f"CloudFormation goes on with {self.name} meanwhile, and the same command from there"
        begun, deadline = False, time.monotonic() + LONGEST
        try:
            while True:
                found = self.describe(identity) or {"StackStatus": GONE, "StackId": identity}
                for line in (news := self.news(identity)):
                    print(line, flush=True)
                begun = begun or moving(found["StackStatus"]) or bool(news) or found["StackStatus"] == GONE
                if begun and not moving(found["StackStatus"]):
                    return found
                if time.monotonic() > deadline:
                    raise InputError(f"after {LONGEST // 60} minutes nobody waits any longer")
                time.sleep(SECONDS)
        except InputError as failure:
            raise InputError(f"{failure}. {goes_on}.") from None
        except KeyboardInterrupt:
            raise InputError(f"stopped waiting. {goes_on}.") from None

    def news(self, identity: str) -> list[str]:
        """The events since the last look, oldest first: time, status, resource and, for a failure, why."""
        new = list(takewhile(lambda event: event["EventId"] != self._last, self._events(identity)))
        self._last = new[0]["EventId"] if new else self._last
        return [_line(event) for event in reversed(new)]

    def _events(self, identity: str) -> Iterator[Described]:
        return self.session.pages("cloudformation", "describe_stack_events", "StackEvents", StackName=identity)

    def trouble(self, found: Described) -> InputError:
        """Why the stack can't be worked with, what failed first the last time, and what to do."""
        cause = ""
        for event in self._events(found["StackId"]):
            itself = event.get("PhysicalResourceId") == event["StackId"]
            why = event.get("ResourceStatusReason", "no reason was given")
            if _failed(event) and not itself and "cancelled" not in why.lower():  # those fail because of the first
                cause = f"{event['LogicalResourceId']} ({event['ResourceType']}) failed: {why}\n"
            if itself and event.get("ResourceStatus") in BEGINNINGS:
                break
        environment = self.session.environment
        names = {"name": self.name, "region": environment.region, "environment": environment.environment}
        todo = TO_DO.get(found["StackStatus"], NOT_KNOWN).format(**names)
        return InputError(f"{cause}the stack {self.name} is {found['StackStatus']}: it {todo}.")

    def protect(self, wanted: bool) -> None:
        """Whether nobody deletes it by mistake: termination protection."""
        found = self.describe()
        if found and found.get("EnableTerminationProtection", False) != wanted:
            request = {"StackName": found["StackId"], "EnableTerminationProtection": wanted}
            self.call("update_termination_protection", **request)

    def delete(self) -> None:
        """Delete it, protected or not, and again where it failed. Raises InputError with what stops it."""
        if (found := self.settled()) is None:
            return
        self.protect(False)
        self.ignore_past_events(found["StackId"])
        self.call("delete_stack", StackName=found["StackId"])
        done = self.wait(found["StackId"])
        if done["StackStatus"] != GONE:
            raise self.trouble(done)

    @contextmanager
    def change_set(self, existing: Described | None, request: Mapping[str, Any]) -> Iterator[list[Described]]:
        """The changes that it would make; `execute` carries them out, or the change set does not outlive the block."""
        self._executed = False
        if existing:
            self._delete_change_set()
        new = existing is None or existing["StackStatus"] == REVIEW
        kind = "IMPORT" if "ResourcesToImport" in request else "CREATE" if new else "UPDATE"
        try:
            yield self._changes({**request, "ChangeSetType": kind})
        finally:
            if not self._executed:
                self._take_away()

    def _changes(self, request: Mapping[str, Any]) -> list[Described]:
        """Let CloudFormation compare. Raises InputError where it can't."""
        from botocore.exceptions import WaiterError  # noqa: PLC0415 - templates are written without it

        # by its id: the name may be somebody else's a moment later
        token = uuid.uuid4().hex
        self._arn = self.call("create_change_set", **self._named, **request, ClientToken=token)["Id"]
        waiter = self.session.client("cloudformation").get_waiter("change_set_create_complete")
        how = {"Delay": CHANGE_SET_SECONDS, "MaxAttempts": CHANGE_SET_LOOKS}
        with answered("cloudformation:DescribeChangeSet", self.session.environment.region):
            try:
                waiter.wait(ChangeSetName=self._arn, WaiterConfig=how)
            except WaiterError as error:
                if "Error" in error.last_response:
                    raise
                if error.last_response["Status"] != "FAILED":
                    minutes = CHANGE_SET_LOOKS * CHANGE_SET_SECONDS // 60
                    raise InputError(f"CloudFormation still compares after {minutes} minutes; try later.") from None
                why = error.last_response.get("StatusReason", "it gives no reason")
                if not any(words in why.lower() for words in EMPTY):
                    raise InputError(f"CloudFormation can't change {self.name}: {why}") from None
                return []
        pages = self.session.pages("cloudformation", "describe_change_set", "Changes", ChangeSetName=self._arn)
        return [entry["ResourceChange"] for entry in pages if "ResourceChange" in entry]

    def execute(self) -> Described:
        """Make the changes, and wait; the stack as it is then. Raises InputError with what failed first."""
        identity = (self.describe() or {"StackId": self.name})["StackId"]
        self.ignore_past_events(identity)
        self._executed = True
        try:
            self.call("execute_change_set", ChangeSetName=self._arn, ClientRequestToken=uuid.uuid4().hex)
        except CallFailed as failed:
            self._executed = failed.cause not in CODES  # without an answer it may have begun
            raise
        done = self.wait(identity)
        if done["StackStatus"] not in GOOD:
            raise self.trouble(done)
        return done

    def _take_away(self) -> None:
        """Delete it, and a stack that was only to be. Never raises: what remains does nothing, and is said."""
        try:
            self._delete_change_set()
            found = self.describe()
            if found and found["StackStatus"] == REVIEW:
                name = {"StackName": found["StackId"]}
                if not self.call("list_change_sets", **name)["Summaries"]:  # nobody else prepares it
                    self.call("delete_stack", **name)
        except CallFailed as failed:
            print(
                f"the change set {CHANGE_SET} of {self.name} could not be deleted: {failed}.\n"
                "It does nothing, costs nothing, and the next deployment takes it away.",
                flush=True,
            )


def parameter(stack: Described, name: str) -> str:
    """The value of one of its parameters, "" where it has none of that name."""
    return next((str(its["ParameterValue"]) for its in stack["Parameters"] if its["ParameterKey"] == name), "")


def moving(status: str) -> bool:
    """Whether CloudFormation is at work on it."""
    return status.endswith("_IN_PROGRESS") and status != REVIEW


def _failed(event: Described) -> bool:
    return str(event.get("ResourceStatus", "")).endswith("_FAILED")


def _line(event: Described) -> str:
    why = f": {event['ResourceStatusReason']}" if _failed(event) and "ResourceStatusReason" in event else ""
    when = event["Timestamp"].astimezone().strftime("%H:%M:%S")
    return f"  {when}  {event.get('ResourceStatus', ''):<28}  {event.get('LogicalResourceId', '')}{why}"


def table(changes: Sequence[Described]) -> Iterator[str]:
    """Action, logical id, type, replacement; then whatever would be lost."""
    rows: list[tuple[Any, ...]] = [("action", "resource", "type", "replaced")]
    losses = []
    for its in changes:
        name, kind, kept = its["LogicalResourceId"], its["ResourceType"], its.get("PolicyAction") in KEPT
        replaced = REPLACED.get(its.get("Replacement", "") if its["Action"] in ("Modify", "Dynamic") else "", "")
        rows.append((ACTIONS.get(its["Action"], its["Action"]), name, kind, replaced))
        if its["Action"] == "Remove":
            losses.append(f"{name} ({kind}) {'leaves the stack, and is kept' if kept else 'is deleted'}")
        if replaced in ("yes", "perhaps"):
            how, old = "perhaps " if replaced == "perhaps" else "", "is kept" if kept else "deleted"
            losses.append(f"{name} ({kind}) is {how}replaced: a new one is made, and this one {old}")
    yield from (f"  {row}" for row in aligned(rows))
    yield from (f"  ATTENTION: {loss}" for loss in losses)


def show(repository: Repository) -> int:
    """Write the templates as they are sent beside the compiled definitions, and print the region; the exit code."""
    environment, folder = definitions.read(repository)[1], repository.compiled
    for file in (STORAGE, STACK):
        (folder / file).write_text(template(repository.root, file, environment.place["without"]), encoding="utf-8")
    print(environment.region)
    return 0


def template(root: Path, name: str, without: Collection[str] = ()) -> str:
    """A template of infra/ without its lines of comment, and without the resources of these names."""
    kept, section, skipped = [], "", False
    for line in (root / "infra" / name).read_text(encoding="utf-8").splitlines():
        if heading := re.match(r" {0,2}(\w+):", line):  # a section, or a resource of one
            section = section if line.startswith(" ") else heading[1]
            skipped = section == "Resources" and heading[1] in without
        if line.strip() and not line.lstrip().startswith("#") and not skipped:
            kept.append(line)
    return "\n".join(kept)


def parameters(repository: Repository, environment: Environment, body: str, **others: str) -> dict[str, str]:
    """The values of a template's parameters: the environment's settings, and `others`. Raises InputError."""
    build, data = environment.build, repository.tables()["data"]
    name = data.get("id", "").lower() or "row"  # of rows that are numbered; Athena knows names in lower case alone
    if environment.catalog and name in TAKEN:
        raise InputError(
            f"{environment.file}: catalog = true: [data] id may not be called {name}, as a column of its table is."
        )
    values = {
        "Namespace": environment.namespace,
        "Usecase": environment.usecase,
        "Environment": environment.environment,
        "RegionCode": environment.place["code"],
        "BucketName": environment.bucket,
        "Schedule": environment.schedule,
        "HoursBetweenRuns": str(environment.hours_between_runs),
        "NoticeEmail": environment.notice_email,
        "MonthlyBudget": f"{environment.monthly_budget:g}",
        "ConnectionArn": build.connection,
        "RepositoryProvider": build.provider,
        "Repository": build.repository,
        "Branch": build.branch,
        "CreateKey": str(environment.create_key).lower(),
        "KmsKeyArn": environment.kms_key,
        "PermissionsBoundaryArn": environment.permissions_boundary,
        "KeepRunsDays": str(environment.keep_runs_days),
        "KeepTrainingsDays": str(environment.keep_trainings_days),
        "Approval": environment.approval,
        "SubnetIds": ",".join(environment.subnets),
        "SecurityGroupIds": ",".join(environment.security_groups),
        "Catalog": environment.database,
        "IdColumn": name,
        "Task": data["task"],
    }
    declared = re.findall(r"(?m)^  (\w+): \{Type: ", body)
    taken = {name: value for name, value in (values | others).items() if name in declared}
    if "State" in declared:  # of all but the key, which only the storage knows where it makes one
        told = json.dumps([body, taken | {"KmsKeyArn": ""}], sort_keys=True)
        taken["State"] = sha256(told.encode()).hexdigest()[:16]
    return taken


def package(root: Path) -> bytes:
    """A zip of batchloop/control/*.py and of usecase.toml, where batchloop.control.names reads it.

    Nothing is compressed: what zlib makes of the same bytes differs between its versions, and this is small.
    """
    modules, out = sorted((root / "batchloop" / "control").glob("*.py")), io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for file in (root / "batchloop" / "__init__.py", *modules, root / "usecase.toml"):
            entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), EARLIEST)
            entry.create_system, entry.external_attr = 3, READABLE  # else Windows writes other bytes
            archive.writestr(entry, file.read_bytes())
    return out.getvalue()


def functions(environment: Environment, code: bytes) -> str:
    """The S3 key of the functions' code."""
    return f"{environment.folder}/{environment.environment}/functions/{sha256(code).hexdigest()}.zip"
