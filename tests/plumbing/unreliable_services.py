"""ECR, Parameter Store and STS as moto has them, behind a wire on which calls fail, are slow or lose their answers."""

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

ACCOUNT, REGION = "123456789012", "eu-central-1"
READING = ("Describe", "Get", "List")
State = dict[str, dict[str, Any]]


class Body(io.BytesIO):
    """What botocore reads an answer from."""

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


def refusal(status: int, code: str, request: Any, event_name: str) -> AWSResponse:
    """An error as AWS words it: STS in XML, the others in JSON."""
    text = json.dumps({"__type": code, "message": "because"})
    if ".sts." in event_name:
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>because</Message></Error></ErrorResponse>"
    return AWSResponse(request.url, status, {}, Body(text.encode()))


def silence(request: Any, **_: object) -> AWSResponse:
    raise ReadTimeoutError(endpoint_url=request.url)


def garbage(request: Any, **_: object) -> AWSResponse:
    return AWSResponse(request.url, 200, {}, Body(b"<html>Welcome to our hotel</html>"))


def delivered(request: Any, **_: object) -> AWSResponse:
    assert request.url.startswith("http://127.0.0.1:")
    return URLLib3Session().send(request)


def only(call: str, act: Callable[..., Any], _number: int, made: str) -> Callable[..., Any] | None:
    """To be used with `partial`: this call is answered so, every other one goes through."""
    return act if made == call else None


class Wire:
    """Between boto3 and moto: writes down every attempt of a call, and answers some of them itself."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.losing = False
        self.answers: Callable[[int, str], Callable[..., AWSResponse | None] | None] = lambda number, call: None

    def fail(self, number: int, kind: str) -> None:
        """Let the call with this number fail in this way, counted from now; -1 is none."""
        self.calls.clear()
        faults = {**FAULTS, "lost": self.lose}
        self.answers = lambda at, _: faults[kind] if at == number else None

    def lose(self, **_: object) -> None:
        """Let this call through, and keep its answer."""
        self.losing = True

    def before_send(self, request: Any, event_name: str, **_: object) -> AWSResponse | None:
        self.calls.append(event_name.rpartition(".")[2])
        act = self.answers(len(self.calls) - 1, self.calls[-1])
        return act(request=request, event_name=event_name) if act else None

    def after_call(self, **_: object) -> None:
        if self.losing:
            self.losing = False
            raise ReadTimeoutError(endpoint_url="AWS")

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith(READING)]


FAULTS: dict[str, Callable[..., AWSResponse | None]] = {
    "denied": partial(refusal, 400, "AccessDeniedException"),
    "throttled": partial(refusal, 400, "ThrottlingException"),
    "broken": partial(refusal, 500, "InternalServerError"),
    "timeout": silence,
}


class Clients:
    """boto3 clients by service, made beforehand: making one is not safe beside another thread."""

    def __init__(self, session: Any, endpoint: str | None, attempts: int = 1) -> None:
        config = Config(retries={"mode": "standard", "total_max_attempts": attempts})
        made = (session.client(name, endpoint_url=endpoint, config=config) for name in ("sts", "ecr", "ssm"))
        self.sts, self.ecr, self.ssm = made

    def __call__(self, service: str) -> Any:
        return getattr(self, service)


class Aws:
    """What stands for AWS, our wire to it, and clients past the wire; without an endpoint it is in this process."""

    def __init__(self, endpoint: str | None = None) -> None:
        self.endpoint = endpoint
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": REGION}
        session = boto3.Session(**keys)
        self.past = Clients(session, endpoint)
        self.wire = Wire()
        wired = boto3.Session(**keys)
        # looked up at each call, because every test has a wire of its own
        wired.events.register_first("before-send", lambda **given: self.wire.before_send(**given))  # noqa: PLW0108
        wired.events.register("after-call", lambda **given: self.wire.after_call(**given))  # noqa: PLW0108
        self.once, self.patient = (Clients(wired, endpoint, attempts) for attempts in (1, 3))

    def exist(self) -> set[str]:
        """The names of what is there."""
        names = [entry["repositoryName"] for entry in self._repositories()]
        return {*names, *(entry["Name"] for entry in self._parameters())}

    def state(self) -> State:
        """Everything that matters of what is there."""
        repositories = {entry["repositoryName"]: self._repository(entry) for entry in self._repositories()}
        return repositories | {entry["Name"]: self._parameter(entry) for entry in self._parameters()}

    def _repositories(self) -> list[dict[str, Any]]:
        return list(self.past.ecr.describe_repositories()["repositories"])

    def _parameters(self) -> list[dict[str, Any]]:
        pages = self.past.ssm.get_paginator("get_parameters_by_path").paginate(Path="/team", Recursive=True)
        return [entry for page in pages for entry in page["Parameters"]]

    def _repository(self, entry: dict[str, Any]) -> dict[str, Any]:
        name, ecr = entry["repositoryName"], self.past.ecr
        try:
            rules = json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"])["rules"]
        except ecr.exceptions.LifecyclePolicyNotFoundException:
            rules = []
        return {
            "mutability": entry["imageTagMutability"],
            "scanned": entry["imageScanningConfiguration"]["scanOnPush"],
            "encryption": entry["encryptionConfiguration"],
            "expired": [(rule["selection"], rule["action"]) for rule in rules],
            "tags": plain(ecr.list_tags_for_resource(resourceArn=entry["repositoryArn"])["tags"]),
        }

    def _parameter(self, entry: dict[str, Any]) -> dict[str, Any]:
        listed = self.past.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=entry["Name"])
        own = {key.lower(): entry[key] for key in ("Value", "Type", "Version")}
        return own | {"tags": plain(listed["TagList"])}


def plain(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
