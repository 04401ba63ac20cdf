"""One call to AWS, and what it means in a sentence where it fails, in whatever way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from operations.failures import Failure

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
