"""Signing in to an environment's AWS account, and calls whose failures are sentences."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeVar

from batchloop import environment as environments
from batchloop.container import settings
from batchloop.container.job import InputError
from batchloop.control.names import Aws, Places
from batchloop.environment import Environment
from batchloop.pipelines import definitions
from batchloop.repository import Repository

CONNECT_SECONDS, READ_SECONDS = 5, 15
PATIENCE = 20  # looks in a row that may fail, of a network that may come back
PASSING = {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"}
MANAGED = {"managed-by": "cookiecutter-template"}  # a tag of everything that is made from here
# why a call failed; codes as in "Common error types" in the API references of ECR, Systems Manager and STS
DENIED, THROTTLED, EXPIRED, NOT_ACCEPTED = "denied", "throttled", "expired", "not accepted"
BROKEN, NO_ANSWER, NOT_SIGNED_IN = "broken", "no answer", "not signed in"
CODES = {
    DENIED: r"AccessDenied(Exception)?|403",  # "403" is moto's for JSON services
    THROTTLED: r"Throttling(Exception)?|TooManyRequestsException|RequestLimitExceeded|TooManyUpdates",
    EXPIRED: r"ExpiredToken(Exception)?|RequestExpired",
    NOT_ACCEPTED: r"(Incomplete|Invalid)Signature(Exception)?|SignatureDoesNotMatch|InvalidClientTokenId|"
    r"MissingAuthenticationToken(Exception)?|UnrecognizedClientException",
}
Found = TypeVar("Found")


class CallFailed(InputError):
    """A call that was refused or got no answer; `cause` is one of the words above, or ""."""

    def __init__(self, sentence: str, code: str, cause: str = "") -> None:
        super().__init__(sentence)
        self.code, self.cause = code, cause

    @property
    def hopeless(self) -> bool:
        return self.cause in (EXPIRED, NOT_ACCEPTED, NO_ANSWER)


def looks(look: Callable[[], Found], seconds: float, longest: float) -> Iterator[Found]:
    """What is found every few seconds; ends after `longest`. A network may be away for a while: else CallFailed."""
    failures, deadline = 0, time.monotonic() + longest
    while time.monotonic() < deadline:
        try:
            found = look()
        except CallFailed as failed:
            failures += 1
            if failures >= PATIENCE or not (failed.code in PASSING or failed.cause in (BROKEN, THROTTLED)):
                raise
        else:
            failures = 0
            yield found
        time.sleep(seconds)


@contextmanager
def answered(what: str, region: str) -> Iterator[None]:
    """Turn what boto3 raises into CallFailed, whose sentence begins with `what`."""
    from botocore import exceptions, parsers  # noqa: PLC0415 - names are planned without it

    try:
        yield
    except exceptions.ClientError as error:
        raise _refused(what, region, error.response) from None
    except exceptions.ParamValidationError as error:
        raise CallFailed(f"{what} was not sent: {_line(error)}", type(error).__name__) from None
    except exceptions.WaiterError as error:
        raise _refused(what, region, error.last_response) from None
    except (exceptions.BotoCoreError, parsers.ResponseParserError, LookupError) as error:
        if isinstance(error, exceptions.EndpointConnectionError | exceptions.ConnectTimeoutError):
            why = f"could not reach AWS in {region}; check the network, and whether that region exists"
        elif isinstance(error, exceptions.ReadTimeoutError | exceptions.ConnectionClosedError):
            why = "got no answer; it may have been carried out all the same"
        elif isinstance(error, exceptions.BotoCoreError):
            why = f"failed: {_line(error)}"
        else:  # a proxy's or a hotel's
            why = "got an answer that is not AWS's; does something stand between here and AWS?"
        raise CallFailed(f"{what} {why}", type(error).__name__, NO_ANSWER) from None


def _refused(what: str, region: str, answer: Any) -> CallFailed:
    error, status = answer.get("Error", {}), answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code, message = str(error.get("Code", "")), _line(error.get("Message", ""))
    known = (cause for cause, codes in CODES.items() if re.fullmatch(codes, code))
    cause = next(known, BROKEN if status >= 500 else "")
    sentence = {
        DENIED: f"{what} was denied: {message or code}",
        THROTTLED: f"{what} was throttled ({code}); wait a minute",
        EXPIRED: "your AWS credentials have expired; sign in again",
        NOT_ACCEPTED: f"AWS does not accept your credentials in {region} ({code}); "
        "is the region enabled in your account?",
        BROKEN: f"{what} failed inside AWS ({f'{status} {message}'.strip()})",
        "": f"{what} failed ({code}): {message}",
    }
    return CallFailed(sentence[cause], code, cause)


def _line(text: object) -> str:
    return " ".join(str(text).split())


Clients = Callable[[str], Any]  # a service's name → its boto3 client
Connect = Callable[[str, str], Clients]


def connect(region: str, profile: str = "") -> Clients:
    """Clients with the credentials of a profile, "" is those that boto3 finds; AWS_MAX_ATTEMPTS is 3 by default."""
    import boto3  # noqa: PLC0415 - takes a while, and names can be planned without it
    from botocore.config import Config  # noqa: PLC0415

    session = boto3.Session(region_name=region, profile_name=profile or None)
    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"mode": "standard"})
    return cache(lambda service: session.client(service, config=config))


@dataclass(frozen=True)
class Session:
    """Signed in for an environment; `account` is the number that the credentials belong to."""

    repository: Repository
    environment: Environment
    account: str
    client: Clients

    @property
    def name(self) -> str:
        return self.environment.environment

    def call(self, service: str, operation: str, key: str = "", **request: Any) -> Any:
        """The answer to one API call, or what stands in it under a key. Raises CallFailed."""
        client = self.client(service)
        with answered(_called(client, operation), client.meta.region_name):
            answer = getattr(client, operation)(**request)
            return answer[key] if key else answer

    def find(self, service: str, operation: str, missing: tuple[str, ...], key: str = "", **request: Any) -> Any:
        """As `call`; None where the code of its failure is one that means that there is nothing. Raises CallFailed."""
        try:
            return self.call(service, operation, key, **request)
        except CallFailed as failed:
            # CloudFormation has one code for what is not there and for what is wrong
            if failed.code not in missing or (failed.code == "ValidationError" and "not exist" not in str(failed)):
                raise
            return None

    def pages(self, service: str, operation: str, key: str, **request: Any) -> Iterator[Any]:
        """What stands under a key in every page of a list. Raises CallFailed."""
        client = self.client(service)
        with answered(_called(client, operation), client.meta.region_name):
            for page in client.get_paginator(operation).paginate(**request):
                yield from page.get(key, [])

    def parameter(self, name: str) -> Mapping[str, Any]:
        """A parameter of the environment, as GetParameter gives it. Raises InputError where bootstrap has not been."""
        name = self.environment.parameter(name)
        found = self.find("ssm", "get_parameter", ("ParameterNotFound",), "Parameter", Name=name)
        if found is None:
            raise InputError(f"there is no parameter {name}; `{self.environment.bootstrap}` makes it.")
        return dict(found)

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Turn what the functions' code raises into InputError, for a call CallFailed, which begins with `what`."""
        from batchloop.control.artifacts import NotReleased  # noqa: PLC0415 - needs botocore

        try:
            with answered(f"{what} of {self.name}", self.environment.region):
                yield
        except NotReleased as why:
            raise InputError(f"{what} of {self.name} is not possible: {why}") from None

    @cached_property
    def aws(self) -> Aws:
        """The control plane's clients, without CloudWatch and SNS."""
        clients = {service: self.client(service) for service in ("ecr", "s3", "sagemaker", "ssm")}
        return Aws(cloudwatch=None, sns=None, **clients)

    @cached_property
    def places(self) -> Places:
        """The control plane's names and settings, without the topic."""
        return Places.of(self.environment, self.repository.tables())

    @property
    def own_bucket(self) -> dict[str, str]:
        """A request's members for the environment's bucket, which has to be the account's own."""
        return {"Bucket": self.environment.bucket, "ExpectedBucketOwner": self.account}


def _called(client: Any, operation: str) -> str:
    return f"{client.meta.service_model.signing_name}:{client.meta.method_to_api_mapping[operation]}"


def opened(repository: Repository, profile: str = "", account_is_set: bool = False) -> Session:
    """Check the settings and sign in. Raises InputError, also where the file has to name the account and does not."""
    environment = definitions.read(repository)[1]
    if account_is_set and not environment.account_is_set:
        raise InputError(f'write the number of your AWS account into {environment.file} first: account = "…".')
    return sign_in(repository, environment, profile=profile)


def sign_in(
    repository: Repository, environment: Environment, connecting: Connect | None = None, profile: str = ""
) -> Session:
    """Raises InputError where there are no credentials (NOT_SIGNED_IN), or they fit neither AWS nor the environment."""
    try:
        import boto3  # noqa: F401, PLC0415
    except ImportError:
        raise CallFailed("boto3 is not installed for this Python", "", NOT_SIGNED_IN) from None
    file, region, account = environment.file, environment.region, environment.account
    if region not in (known := environments.places()["regions"]):
        raise InputError(f"{file}: region {region!r} is none that is supported; {settings.nearest(region, known)}")
    if not re.fullmatch(r"\d{12}", account):
        raise InputError(f"{file}: account {account!r} is not twelve digits in quotes")
    try:
        with answered("signing in", region):
            client = (connecting or connect)(region, profile)
            client("sts")
        session = Session(repository, environment, "", client)
        number = str(session.call("sts", "get_caller_identity", "Account"))
    except CallFailed as failed:
        if failed.code == "NoCredentialsError":
            raise CallFailed("there are no AWS credentials here", failed.code, NOT_SIGNED_IN) from None
        raise
    if environment.account_is_set and number != account:
        raise InputError(
            f"{file} names account {account}, your credentials are of {number}; "
            "take the credentials of the first, or correct the file"
        )
    return Session(repository, environment, number, client)


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_map(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def foreign(tags: Mapping[str, str], owner: Mapping[str, str]) -> str:
    """Why something with these tags is not the owner's, "" where it is."""
    for key, value in owner.items():
        if tags.get(key) != value:
            has = f"has the tag {key}={tags[key]}" if key in tags else f"has no tag {key}"
            needed = ", ".join(f"{name}={text}" for name, text in owner.items())
            return f"it is there but {has}; if it is this use case's, give it the tags {needed}"
    return ""
