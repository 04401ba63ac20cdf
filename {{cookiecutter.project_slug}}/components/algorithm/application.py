"""The HTTP interface of batch transform, as a WSGI application.

Source: "Use Your Own Inference Code with Batch Transform" in the SageMaker developer guide.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from algorithm import bodies, scoring
from runtime.models import Model

log = logging.getLogger(__name__)
ROUTES = {"/ping": "GET", "/execution-parameters": "GET", "/invocations": "POST"}
SAID = 1000  # letters of a refusal at most: what is wrong may hold a piece of the body
IN_FLIGHT = 100  # MB: the service's limit on payload × concurrency
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
StartResponse = Callable[[str, list[tuple[str, str]]], object]


@dataclass(frozen=True)
class Response:
    """What goes back; every refusal is one line of text."""

    status: HTTPStatus
    body: bytes = b""
    type: str = TEXT
    allow: str = ""


@dataclass(frozen=True)
class Application:
    """Answers /ping, /execution-parameters and /invocations with one model.

    `missing` are the texts that mean "no value"; `workers` is how many requests are worth sending at once. Where
    `escape_formulas` is set, texts that a spreadsheet would run are marked in CSV answers.
    """

    model: Model
    missing: tuple[str, ...]
    workers: int
    escape_formulas: bool = True

    def __call__(self, environ: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            response = self.answer(environ)
        except Exception:  # one request must not take the server down, and its reason is in the log
            log.exception("unexpected error while answering %s", environ.get("PATH_INFO"))
            response = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected error; the log of the container has it")
        headers = [("Content-Type", response.type), ("Content-Length", str(len(response.body)))]
        headers += [("Allow", response.allow)] if response.allow else []
        start_response(f"{response.status.value} {response.status.phrase}", headers)
        return [response.body]

    def answer(self, environ: Mapping[str, Any]) -> Response:
        """The response to one request."""
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path not in ROUTES:
            return refusal(HTTPStatus.NOT_FOUND, f"there is no {path}; there are {', '.join(ROUTES)}")
        if method != ROUTES[path]:
            message = f"{path} takes {ROUTES[path]}, not {method}"
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, message, allow=ROUTES[path])
        if path == "/ping":
            return Response(HTTPStatus.OK)
        if path == "/execution-parameters":
            return Response(HTTPStatus.OK, json.dumps(parameters(self.workers)).encode(), JSON)
        return self.invoke(environ)

    def invoke(self, environ: Mapping[str, Any]) -> Response:
        """Predictions for the table in the body."""
        content_type = bodies.media_type(environ.get("CONTENT_TYPE", ""))
        if content_type not in bodies.TYPES:
            message = f"Content-Type {content_type!r} is none of {', '.join(bodies.TYPES)}"
            return refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
        said = bodies.encoded(environ.get("CONTENT_TYPE", ""), environ.get("HTTP_CONTENT_ENCODING", ""))
        if said:
            return refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{said} is not read; send plain UTF-8")
        accept = bodies.accepted(environ.get("HTTP_ACCEPT", ""), content_type)
        if accept is None:
            message = f"Accept {environ['HTTP_ACCEPT']!r} is none of {', '.join(bodies.TYPES)}"
            return refusal(HTTPStatus.NOT_ACCEPTABLE, message)
        try:
            frame = bodies.read(environ["wsgi.input"].read(), content_type, scoring.columns(self.model))
            scored = scoring.score(self.model, frame, self.missing)
        except (bodies.BodyError, scoring.ColumnError) as error:
            return refusal(HTTPStatus.BAD_REQUEST, str(error))
        if self.escape_formulas and accept == bodies.CSV:
            scored = bodies.without_formulas(scored)
        return Response(HTTPStatus.OK, bodies.write(scored, accept), accept)


def refusal(status: HTTPStatus, message: str, allow: str = "") -> Response:
    """A response of one line that says what is wrong."""
    said = message if len(message) <= SAID else f"{message[:SAID]} …"
    return Response(status, f"{' '.join(said.split())}\n".encode(), allow=allow)


def parameters(workers: int) -> dict[str, Any]:
    """What to send at once: whole files, one a request; the transform job's own settings win where it has any."""
    largest = int(os.environ.get("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6"))
    at_once = max(1, min(workers, IN_FLIGHT // max(1, largest)))
    return {
        "MaxConcurrentTransforms": int(os.environ.get("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", at_once)),
        "BatchStrategy": os.environ.get("SAGEMAKER_BATCH_STRATEGY", "SINGLE_RECORD"),
        "MaxPayloadInMB": largest,
    }
