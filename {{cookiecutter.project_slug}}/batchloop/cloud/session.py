"""What one environment needs in AWS, from usecase.toml and environments/<name>.toml: names, tags, keys."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchloop.container import settings
from batchloop.container.job import InputError
from batchloop.control.names import Aws, Places, Settings
from batchloop.environment import Environment
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, Failure, Repository

NO_ACCOUNT = "000000000000"
SHARED = "shared"  # image repositories belong to every environment of the account


@dataclass(frozen=True)
class Wanted:
    """`account` and `kms_key` may be unset: twelve zeros and ""."""

    namespace: str
    usecase: str
    environment: str
    account: str
    region: str
    kms_key: str

    @property
    def repositories(self) -> tuple[str, ...]:
        """The names of the image repositories, which all environments share."""
        return tuple(f"{self.namespace}/{self.usecase}/{component}" for component in COMPONENTS)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of this environment's parameters."""
        prefix = f"/{self.namespace}/{self.usecase}/{self.environment}"
        pairs = [f"components/{component}/{kind}" for component in COMPONENTS for kind in ("image", "artifact")]
        return tuple(f"{prefix}/{name}" for name in (*pairs, "release", "retraining"))

    @property
    def owner(self) -> dict[str, str]:
        """The tags by which something is known to be this use case's."""
        return {"namespace": self.namespace, "usecase": self.usecase}

    def tags(self, environment: str) -> dict[str, str]:
        """Every tag of something that belongs to one environment, or to all of them."""
        return {**self.owner, "environment": environment, "managed-by": "cookiecutter-template"}

    @property
    def account_is_set(self) -> bool:
        return self.account != NO_ACCOUNT

    @property
    def file(self) -> str:
        """The file that says where, as a person would type it."""
        return f"environments/{self.environment}.toml"

    @property
    def command(self) -> str:
        """What creates all that is missing."""
        return f"make bootstrap CREATE=yes ENV={self.environment}"

    def title(self, account: str = "") -> str:
        """The line above the list of what is needed; the account is the file's unless one is given."""
        number = account or (self.account if self.account_is_set else "not set")
        return f"{self.usecase} needs in AWS ({self.environment}, account {number}, region {self.region or 'not set'}):"


def read(root: Path, environment: str) -> Wanted:
    """What the files ask for. Raises Failure where one is missing or no TOML."""
    namespace, name = Repository(root).names()
    values = _environment(root / "environments" / f"{environment}.toml")
    return Wanted(
        namespace=namespace,
        usecase=name,
        environment=environment,
        account=str(values.get("account", NO_ACCOUNT)),
        region=str(values.get("region", "")),
        kms_key=str(values.get("kms_key", "")),
    )


def _environment(file: Path) -> dict[str, Any]:
    try:
        return settings.read(file, f"environments/{file.name}")[0]
    except FileNotFoundError:
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.toml"))) or "none"
        raise Failure(f"there is no environment {file.stem!r}; there are: {known}.") from None
    except InputError as error:
        raise Failure(str(error)) from None


# "Common error types" in the API references of ECR, Systems Manager and STS; "403" is moto's for JSON services
DENIED = {"AccessDenied", "AccessDeniedException", "403"}
THROTTLED = {"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "TooManyUpdates"}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
NOT_ACCEPTED = {
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}


class CallFailed(Failure):
    """A call that was refused or got no answer; `hopeless` means that every other call will fail in the same way."""

    def __init__(self, sentence: str, code: str, hopeless: bool = False) -> None:
        super().__init__(sentence)
        self.code = code
        self.hopeless = hopeless


def ask(client: Any, operation: str, key: str = "", **request: Any) -> Any:
    """The answer to one API call, or what stands in it under a key. Raises CallFailed."""
    meta = client.meta
    what = f"{meta.service_model.signing_name}:{meta.method_to_api_mapping[operation]}"
    with answered(what, meta.region_name):
        answer = getattr(client, operation)(**request)
        return answer[key] if key else answer


@contextmanager
def answered(what: str, region: str) -> Iterator[None]:
    """Turn what boto3 raises into CallFailed."""
    from botocore import exceptions, parsers  # noqa: PLC0415 - names are planned without it

    try:
        yield
    except exceptions.ClientError as error:
        raise _refused(what, region, error) from None
    except exceptions.ParamValidationError as error:
        raise CallFailed(f"{what} was not sent: {_line(error)}", type(error).__name__) from None
    except (exceptions.BotoCoreError, parsers.ResponseParserError, LookupError) as error:
        raise CallFailed(_unanswered(what, region, error), type(error).__name__, hopeless=True) from None


def _refused(what: str, region: str, error: Any) -> CallFailed:
    details = error.response.get("Error", {})
    code, message = str(details.get("Code", "")), _line(details.get("Message", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in EXPIRED:
        return CallFailed("your AWS credentials have expired; sign in again", code, hopeless=True)
    if code in NOT_ACCEPTED:
        sentence = f"AWS does not accept your credentials in {region} ({code}); is the region enabled in your account?"
        return CallFailed(sentence, code, hopeless=True)
    if code in DENIED:
        return CallFailed(f"{what} was denied: {message or code}", code)
    if code in THROTTLED:
        return CallFailed(f"{what} was throttled ({code}); wait a minute", code)
    if status >= 500:
        return CallFailed(f"{what} failed inside AWS ({status} {message})".replace(" )", ")"), code)
    return CallFailed(f"{what} failed ({code}): {message}", code)


def _unanswered(what: str, region: str, error: Exception) -> str:
    from botocore import exceptions  # noqa: PLC0415 - as above

    if isinstance(error, exceptions.EndpointConnectionError | exceptions.ConnectTimeoutError):
        return f"{what} could not reach AWS in {region}; check the network, and whether that region exists"
    if isinstance(error, exceptions.ReadTimeoutError | exceptions.ConnectionClosedError):
        return f"{what} got no answer; it may have been carried out all the same"
    if isinstance(error, exceptions.BotoCoreError):
        return f"{what} failed: {_line(error)}"
    return f"{what} got an answer that is not AWS's; does something stand between here and AWS?"  # a proxy's or hotel's


def _line(text: object) -> str:
    return " ".join(str(text).split())


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

    session, config = boto3.Session(region_name=region), _config()
    return Clients(*(session.client(service, config=config) for service in ("sts", "ecr", "ssm")))


def _config() -> Any:
    """How long every client waits for AWS, and that it tries again."""
    from botocore.config import Config  # noqa: PLC0415 - names can be planned without it

    return Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"mode": "standard"})


def sign_in(wanted: Wanted, connecting: Connect = connect) -> Account:
    """Whose credentials these are. Raises NotSignedIn, or Failure where they fit neither AWS nor the environment."""
    try:
        import boto3  # noqa: F401, PLC0415

    except ImportError:
        raise NotSignedIn("boto3 is not installed for this Python") from None
    _check(wanted)
    try:
        with answered("signing in", wanted.region):
            clients = connecting(wanted.region)
        number = str(ask(clients.sts, "get_caller_identity", "Account"))
    except CallFailed as failed:
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


def client(service: str, region: str) -> Any:
    """A client with the credentials that boto3 finds."""
    import boto3  # noqa: PLC0415 - takes a while, and most commands do without

    return boto3.client(service, region_name=region, config=_config())


@dataclass(frozen=True)
class ProfileClients:
    """boto3 clients of one region; `aws` is what the functions' code works with, without the two that tell people."""

    sts: Any
    aws: Aws


@dataclass(frozen=True)
class SignedIn:
    """`account` is the number that the credentials belong to."""

    needs: Wanted
    account: str
    clients: ProfileClients
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


def connect_profile(region: str, profile: str) -> ProfileClients:
    """Clients with the credentials of a profile, "" is those that boto3 finds."""
    import boto3  # noqa: PLC0415 - takes a while

    session, config = boto3.Session(region_name=region, profile_name=profile or None), _config()
    sts, ecr, s3, sagemaker, ssm = (
        session.client(service, config=config) for service in ("sts", "ecr", "s3", "sagemaker", "ssm")
    )
    return ProfileClients(sts, Aws(cloudwatch=None, ecr=ecr, s3=s3, sagemaker=sagemaker, sns=None, ssm=ssm))


def sign_in_profile(repository: Repository, environment: str, profile: str = "") -> SignedIn:
    """Raises Failure where the files or the credentials are not those of this environment."""
    needs = read(repository.root, environment)
    made = list[ProfileClients]()

    def connected(region: str) -> Clients:
        made.append(connect_profile(region, profile))
        return Clients(made[0].sts, made[0].aws.ecr, made[0].aws.ssm)

    number = sign_in(needs, connected).number
    return SignedIn(needs, number, made[0], _places(repository, needs))


def _places(repository: Repository, needs: Wanted) -> Places:
    """As the functions have them, without what these commands have no use for: the topic and the loop's settings."""
    bucket = definitions.read(repository, needs.environment)[1].bucket
    return Places(needs.namespace, needs.usecase, needs.environment, bucket, topic="", settings=Settings())


@dataclass(frozen=True)
class Target:
    """`where` is the environment's file, `needs` what `make bootstrap` makes for it."""

    repository: Repository
    where: Environment
    needs: Wanted
    account: Account

    @property
    def name(self) -> str:
        """The stack's name, and what begins every other one."""
        return self.where.prefix

    @property
    def storage(self) -> str:
        """Begins the keys of everything of the use case in the bucket."""
        return f"{self.where.namespace}/{self.where.slug}"

    @property
    def tags(self) -> dict[str, str]:
        return self.needs.tags(self.where.name)

    @property
    def owner(self) -> dict[str, str]:
        """The tags by which something is known to be this environment's."""
        return {**self.needs.owner, "environment": self.where.name}

    def client(self, service: str) -> Any:
        return client(service, self.where.region)


def opened(repository: Repository, environment: str) -> Target:
    """Read the environment's file and sign in. Raises Failure where either is wrong, or they name two accounts."""
    needs = read(repository.root, environment)
    where = definitions.read(repository, environment)[1]
    if not needs.account_is_set:
        raise Failure(f'write the number of your AWS account into {needs.file} first: account = "…".')
    return Target(repository, where, needs, sign_in(needs, connect))


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """As most of AWS's requests take them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_map(tags: list[dict[str, str]]) -> dict[str, str]:
    """The other way round."""
    return {tag["Key"]: tag["Value"] for tag in tags}
