"""An AWS account on loopback: moto answers, and between it and the caller single calls can be made to fail."""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

REGION = "eu-central-1"
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
READING = ("Get", "Describe", "List")
Answer = Iterable[bytes]
Fault = Callable[["Account", dict[str, Any], Any], Answer]


def refused(status: str, code: str) -> Fault:
    """AWS answers, and the answer is no."""

    def fault(_account: "Account", _environ: dict[str, Any], start: Any) -> Answer:
        start(status, [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps({"__type": code, "message": code}).encode()]

    return fault


def lost(account: "Account", environ: dict[str, Any], _start: Any) -> Answer:
    """The call is carried out, and the connection breaks before the answer."""
    list(account.moto(environ, lambda *_: None))
    return unreached(account, environ, _start)


def unreached(_account: "Account", environ: dict[str, Any], _start: Any) -> Answer:
    """The connection breaks before anything is done."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


FAULTS: dict[str, Fault] = {
    "denied": refused("400 Bad Request", "AccessDeniedException"),
    "throttled": refused("400 Bad Request", "ThrottlingException"),
    "broken": refused("500 Internal Server Error", "InternalFailure"),
    "lost": lost,
    "unreached": unreached,
}


@dataclass
class Account:
    """`faults` are what happens to the next call of an operation, by its name; `calls` what has been called."""

    moto: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))
    faults: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    url: str = ""

    def __call__(self, environ: dict[str, Any], start: Any) -> Answer:
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        self.calls.append(operation)
        if fault := self.faults.pop(operation, ""):
            return FAULTS[fault](self, environ, start)
        answer: Answer = self.moto(environ, start)
        return answer

    @property
    def writes(self) -> list[str]:
        """The calls that changed something; signing in has no name here."""
        return [name for name in self.calls if name and not name.startswith(READING)]

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION, endpoint_url=self.url, **KEYS)

    def repositories(self) -> set[str]:
        return {found["repositoryName"] for found in self.client("ecr").describe_repositories()["repositories"]}

    def parameters(self) -> dict[str, tuple[str, int]]:
        """Value and version by name."""
        pages = self.client("ssm").get_paginator("describe_parameters").paginate()
        names = [found["Name"] for page in pages for found in page["Parameters"]]
        found = [self.client("ssm").get_parameter(Name=name)["Parameter"] for name in names]
        return {parameter["Name"]: (parameter["Value"], parameter["Version"]) for parameter in found}

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",  # a fault that is not tried again is the worse one
        }


@contextmanager
def account() -> Iterator[Account]:
    """An empty account on a free port; it is gone afterwards."""
    found = Account()
    server = make_server("127.0.0.1", 0, found, threaded=True)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        found.client("ssm").meta.events  # noqa: B018 - botocore's data is loaded once, before anything is timed
        reset(found)
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reset(found: Account) -> None:
    """moto keeps its state in the process: whoever was here before leaves nothing."""
    import urllib.request  # noqa: PLC0415

    request = urllib.request.Request(f"{found.url}/moto-api/reset", method="POST")
    urllib.request.urlopen(request, timeout=10).close()
    found.calls.clear()
