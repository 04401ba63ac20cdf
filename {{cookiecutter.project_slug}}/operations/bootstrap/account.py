"""The account that is worked in: whose credentials these are, and whether it is the one the environment names."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from operations.bootstrap.wanted import Wanted
from operations.failures import Failure

CONNECT_SECONDS, READ_SECONDS = 5, 15


class NotSignedIn(Failure):
    """There is no boto3, or there are no credentials: nothing can be said about an account."""


@dataclass(frozen=True)
class Clients:
    """boto3 clients of one region."""

    sts: Any
    ecr: Any
    ssm: Any


Connect = Callable[[str], Clients]


@dataclass(frozen=True)
class Account:
    """An account's number, and the clients that reach it."""

    number: str
    ecr: Any
    ssm: Any


def connect(region: str) -> Clients:
    """Clients for the credentials that boto3 finds; AWS_MAX_ATTEMPTS changes how often they try (3 times)."""
    import boto3  # noqa: PLC0415 - names can be planned without it
    from botocore.config import Config  # noqa: PLC0415

    retries = {"mode": "standard"}
    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries=retries)
    session = boto3.Session(region_name=region)
    return Clients(*(session.client(service, config=config) for service in ("sts", "ecr", "ssm")))


def sign_in(wanted: Wanted, connecting: Connect = connect) -> Account:
    """Whose credentials these are. Raises NotSignedIn, or Failure where they fit neither AWS nor the environment."""
    try:
        import boto3  # noqa: F401, PLC0415

        from operations.bootstrap import calls  # noqa: PLC0415
    except ImportError:
        raise NotSignedIn("boto3 is not installed for this Python") from None
    _check(wanted)
    try:
        with calls.answered("signing in", wanted.region):
            clients = connecting(wanted.region)
        number = str(calls.ask(clients.sts, "get_caller_identity", "Account"))
    except calls.CallFailed as failed:
        if failed.code == "NoCredentialsError":
            raise NotSignedIn("there are no AWS credentials here") from None
        raise Failure(str(failed)) from None
    if wanted.account_is_set and number != wanted.account:
        raise Failure(
            f"{wanted.file} names account {wanted.account}, your credentials are of {number}; "
            "take the credentials of the first, or correct the file"
        )
    return Account(number, clients.ecr, clients.ssm)


def _check(wanted: Wanted) -> None:
    if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}", wanted.region):
        raise Failure(f"{wanted.file}: region {wanted.region!r} is not one like 'eu-central-1'")
    if not re.fullmatch(r"\d{12}", wanted.account):
        raise Failure(f"{wanted.file}: account {wanted.account!r} is not twelve digits in quotes")
