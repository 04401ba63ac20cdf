"""An environment that one is signed in to: its names, and the clients that reach it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from functions.clients import Aws
from functions.memory import Settings
from functions.places import Places
from operations import settings
from operations.bootstrap import account, wanted
from operations.bootstrap.calls import answered, ask
from operations.repository import Repository


@dataclass(frozen=True)
class Clients:
    """boto3 clients of one region; `aws` is what the functions' code works with, without the two that tell people."""

    sts: Any
    aws: Aws


@dataclass(frozen=True)
class SignedIn:
    """`account` is the number that the credentials belong to."""

    needs: wanted.Wanted
    account: str
    clients: Clients
    places: Places

    @property
    def name(self) -> str:
        return self.needs.environment

    @property
    def aws(self) -> Aws:
        return self.clients.aws

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Turn what boto3 raises into CallFailed, which begins with `what`."""
        with answered(f"{what} of {self.name}", self.needs.region):
            yield

    def caller(self) -> str:
        """The ARN of whose credentials these are. Raises CallFailed."""
        return str(ask(self.clients.sts, "get_caller_identity", "Arn"))


def connect(region: str, profile: str) -> Clients:
    """Clients with the credentials of a profile, "" is those that boto3 finds."""
    import boto3  # noqa: PLC0415 - takes a while
    from botocore.config import Config  # noqa: PLC0415

    timeouts = {"connect_timeout": account.CONNECT_SECONDS, "read_timeout": account.READ_SECONDS}
    config = Config(retries={"mode": "standard"}, **timeouts)
    session = boto3.Session(region_name=region, profile_name=profile or None)
    sts, ecr, s3, sagemaker, ssm = (
        session.client(service, config=config) for service in ("sts", "ecr", "s3", "sagemaker", "ssm")
    )
    return Clients(sts, Aws(cloudwatch=None, ecr=ecr, s3=s3, sagemaker=sagemaker, sns=None, ssm=ssm))


def sign_in(repository: Repository, environment: str, profile: str = "") -> SignedIn:
    """Raises Failure where the files or the credentials are not those of this environment."""
    needs = wanted.read(repository.root, environment)
    made = list[Clients]()

    def connected(region: str) -> account.Clients:
        made.append(connect(region, profile))
        return account.Clients(made[0].sts, made[0].aws.ecr, made[0].aws.ssm)

    number = account.sign_in(needs, connected).number
    return SignedIn(needs, number, made[0], _places(repository, needs))


def _places(repository: Repository, needs: wanted.Wanted) -> Places:
    """As the functions have them, without what these commands have no use for: the topic and the loop's settings."""
    bucket = settings.read(repository, needs.environment)[1].bucket
    return Places(needs.namespace, needs.usecase, needs.environment, bucket, topic="", settings=Settings())
