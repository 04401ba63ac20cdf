"""What batch transform does with a running server: every file becomes a request, every answer a file.

Source: "Use Your Own Inference Code with Batch Transform" in the SageMaker developer guide.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from operations.failures import Failure

MEGABYTE = 2**20
DEFAULT_PAYLOAD = 6  # megabytes, the service's


@dataclass(frozen=True)
class Delivery:
    """How the files are sent; `timeout` in seconds."""

    port: int
    headers: Mapping[str, str]
    concurrent: int
    timeout: int


def delivery(port: int, arguments: Mapping[str, Any]) -> Delivery:
    """From a transform job's arguments; the server is asked for what they leave open."""
    source = arguments["TransformInput"]
    headers = {"Content-Type": source.get("ContentType"), "Accept": arguments["TransformOutput"].get("Accept")}
    concurrent = int(arguments.get("MaxConcurrentTransforms") or _suggested(port).get("MaxConcurrentTransforms", 1))
    timeout = int(arguments.get("ModelClientConfig", {}).get("InvocationsTimeoutInSeconds", 600))
    return Delivery(port, {name: value for name, value in headers.items() if value}, concurrent, timeout)


def _suggested(port: int) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/execution-parameters")
        response = connection.getresponse()
        body = response.read()
        return dict(json.loads(body)) if response.status == 200 else {}
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()


def check(files: list[tuple[str, Path]], payload: int) -> None:
    """Refuse what would be too large to send. Raises Failure."""
    if not files:
        raise Failure("there is no file to transform.")
    for name, path in files:
        size = path.stat().st_size
        if payload and size > payload * MEGABYTE:
            raise Failure(f"{name} has {size / MEGABYTE:.1f} MB, a request may have {payload}; raise MaxPayloadInMB.")


def send_all(files: list[tuple[str, Path]], into: Path, how: Delivery) -> None:
    """Write `<name>.out` for each file, several at a time. Raises Failure for the first that is refused."""
    with ThreadPoolExecutor(how.concurrent) as pool:
        sent = [pool.submit(_send, name, path, into / f"{name}.out", how) for name, path in files]
        try:
            for future in sent:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _send(name: str, path: Path, target: Path, how: Delivery) -> None:
    connection = HTTPConnection("127.0.0.1", how.port, timeout=how.timeout)
    try:
        with path.open("rb") as body:
            headers = {**how.headers, "Content-Length": str(path.stat().st_size)}
            connection.request("POST", "/invocations", body, headers)
            _receive(name, connection.getresponse(), target)
    except TimeoutError:
        raise Failure(f"{name}: the server gave no answer within {how.timeout} seconds.") from None
    except (OSError, HTTPException) as error:
        raise Failure(f"{name}: the server broke off ({type(error).__name__}: {error}).") from None
    finally:
        connection.close()


def _receive(name: str, response: HTTPResponse, target: Path) -> None:
    if response.status != 200:
        said = response.read(1024).decode(errors="replace").strip()
        raise Failure(f"{name} was refused with status {response.status}: {said or response.reason}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        while block := response.read(MEGABYTE):
            out.write(block)
