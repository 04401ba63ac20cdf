"""The HTTP server of batch transform: bodies are Parquet, CSV with a header or JSON lines; refusals are one line.

It is waitress, with an end that answers the requests in flight.
"""

import codecs
import io
import json
import logging
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import FrameType
from typing import Any

import polars as pl
import waitress

from batchloop.container import files, lines, matrices, raw, tables
from batchloop.container.job import InputError
from batchloop.container.models import Model

log = logging.getLogger(__name__)
PARQUET, CSV = "application/x-parquet", "text/csv"
JSON_LINES = ("application/jsonlines", "application/x-jsonlines")
TYPES = (PARQUET, CSV, *JSON_LINES)
LINE, LINE_A_COLUMN = 2**20, 2**10  # bytes: a line may have the first, and the second for each column of the model
WIDER = 1000  # columns that a table may have beside those of the model
BATCH = 10_000  # lines of JSON that are held as objects
SEEN = 10  # lines that are looked at to say what is there where a column is not
CELLS = 50_000_000  # rows × the model's columns in one request: 100 MB of CSV with two bytes a cell
FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"  # what a spreadsheet takes for a formula (OWASP, "CSV Injection")
# how a body begins that is no text, whatever its Content-Type says
MARKS = {files.PARQUET: "a Parquet file", files.GZIP: "packed with gzip", files.ZIP: "a zip archive"}
MARKS |= dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "UTF-16 text")
CHARSET = re.compile(r"charset\s*=\s*[\"']?(?!(?:utf-?8|(?:us-)?ascii)\b)([^\s;\"']+)", re.IGNORECASE)
NUMBER = r"^[+-]?\d[\d.,]*([eE][+-]?\d+)?$"
# a damaged Parquet file makes Polars panic
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError)

ROUTES = {"/ping": "GET", "/execution-parameters": "GET", "/invocations": "POST"}
SHOWN = 1000  # letters of a refusal at most: what is wrong may hold a piece of the body
IN_FLIGHT = 100  # MB: the service's limit on payload × concurrency
GRACE = 4.5  # seconds for requests in flight after SIGTERM
LARGEST = 2**27  # bytes of a body: above the 100 MB a transform request may have
IN_MEMORY = 2**24  # bytes of a body; a larger one waits in a file until it is scored
CONNECTIONS = 100  # kept open; beyond these the ones that have been silent for longest are closed
StartResponse = Callable[[str, list[tuple[str, str]]], object]


def read(body: bytes, content_type: str, columns: Sequence[str], cells: int = 0) -> pl.DataFrame:
    """The table in a body, all of it text for CSV; `columns` are the model's, the id first, and take so many `cells`.

    What is wrong with a line stands in `__error`. Raises InputError, also for a body that is too large for this model.
    """
    if not body:
        raise InputError("the body is empty (0 bytes)")
    try:
        if content_type == PARQUET:
            return _parquet(body, columns, cells or len(columns))
        _check_text(body, content_type, len(columns))
        return _csv(body, len(columns)) if content_type == CSV else _json_lines(body, columns)
    except UNREADABLE as error:
        wanted = "a readable Parquet file" if content_type == PARQUET else f"readable as {content_type}"
        raise InputError(f"the body is not {wanted}: {files.first_line(error)}") from None


def write(frame: pl.DataFrame, content_type: str) -> bytes:
    target = io.BytesIO()
    if content_type == PARQUET:
        frame.write_parquet(target, compression="snappy")  # which Athena reads; Polars' LZ4 is one that Trino did not
    elif content_type == CSV:
        frame.write_csv(target)
    else:
        frame.write_ndjson(target)
    return target.getvalue()


def _without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """With a ' before each text and name that a spreadsheet would run as a formula; numbers stay as they are."""
    text = pl.col(pl.String)
    formula = text.str.contains(FORMULA) & ~text.str.contains(NUMBER)
    marked = frame.with_columns(pl.when(formula).then("'" + text).otherwise(text).name.keep())
    return marked.rename(lambda name: f"'{name}" if re.match(FORMULA, name) else name)


def _check_text(body: bytes, content_type: str, columns: int) -> None:
    """Raises InputError for what is no text, and for a line or a number of rows that no table for the model has."""
    kinds = [kind for mark, kind in MARKS.items() if body.startswith(mark)] or ["UTF-16 text"] * (0 in body[:2])
    if kinds:
        raise InputError(f"the body is {kinds[0]}, and {content_type} is read as plain UTF-8 text")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line, end = body.count(b"\n", 0, error.start) + 1, body.rfind(b"\n", 0, error.start)
        raise InputError(f"line {line}, byte {error.start - end} is not UTF-8") from None
    limit, start = LINE + LINE_A_COLUMN * columns, 0
    while start + limit < len(body):
        end = body.rfind(b"\n", start, start + limit + 1)
        if end < 0:
            number = body.count(b"\n", 0, start) + 1
            raise InputError(f"line {number} has more than {limit:,} bytes, and no row for this model has")
        start = end + 1
    _check_cells(body.count(b"\n"), columns)


def _check_cells(rows: int, columns: int) -> None:
    if rows * columns > CELLS:
        most = CELLS // columns
        raise InputError(f"the body has {rows:,} rows; a request may have {most:,}: send it in parts")


def _parquet(body: bytes, columns: Sequence[str], cells: int) -> pl.DataFrame:
    """Only the columns that are needed; all of them, without rows, where one is not there."""
    frame = pl.scan_parquet(io.BytesIO(body))
    names = frame.collect_schema().names()
    if not set(columns) <= set(names):
        return frame.head(0).collect()
    _check_cells(frame.select(pl.len()).collect().item(), cells)
    return frame.select(name for name in names if name in columns or name == raw.ERROR).collect()


def _csv(body: bytes, columns: int) -> pl.DataFrame:
    width = body.partition(b"\n")[0].count(b",") + 1
    if width > columns + WIDER:
        raise InputError(f"line 1 has {width:,} cells, the model {columns:,} columns; send those that it needs")
    frame = lines.rows(lines.named(lines.Text(body, "the body", ","))).frame.collect().drop(raw.ROW)
    if raw.RAGGED not in frame.columns:
        return frame
    known = [pl.col(raw.ERROR)] if raw.ERROR in frame.columns else []
    return frame.with_columns(pl.coalesce(raw.RAGGED, *known).alias(raw.ERROR)).drop(raw.RAGGED)


def _json_lines(body: bytes, columns: Sequence[str]) -> pl.DataFrame:
    """The `columns` as text, so that a wrong value spoils its own row alone; ids that are whole numbers stay so."""
    schema = dict.fromkeys((*columns, raw.ERROR), pl.String)
    identity, features = columns[0], set(columns[1:])
    absent, present, numbers = set(columns), dict[str, None](), False
    parts, rows = list[pl.DataFrame](), list[list[str | None]]()
    for line, record in _records(body):
        present |= dict.fromkeys(record if line <= SEEN else ())
        absent.difference_update(record if absent else ())
        numbers = numbers or type(record.get(identity)) is int
        if not features <= record.keys():
            name = next(name for name in columns if name in features and name not in record)
            record[raw.ERROR] = f"line {line} has no {name!r}; write null where there is no value"
        cells = map(record.get, schema)
        rows.append([cell if cell is None or type(cell) is str else json.dumps(cell) for cell in cells])
        if len(rows) == BATCH:
            parts.append(pl.DataFrame(rows, schema, orient="row"))
            rows.clear()
    if not parts and not rows:
        raise InputError("the body holds nothing but empty lines")
    if absent:
        return pl.DataFrame(schema=list(present))
    frame = pl.concat([*parts, pl.DataFrame(rows, schema, orient="row")])
    whole = frame[identity].cast(pl.Int64, strict=False)
    same = numbers and whole.cast(pl.String).equals(frame[identity], null_equal=True)
    return frame.with_columns(whole) if same else frame


def _records(body: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line (from 1) and the object in it. Raises InputError for one that is none, or for no line."""
    decoder = json.JSONDecoder(parse_float=_number, parse_constant=_number)
    for line, text in enumerate(io.BytesIO(body.removeprefix(codecs.BOM_UTF8)), start=1):
        if not text.strip():
            continue
        try:
            record = decoder.decode(text.decode())
            if line == 1:
                json.loads(text, object_pairs_hook=lambda pairs: lines.check_twice("line 1", [key for key, _ in pairs]))
        except json.JSONDecodeError as error:
            raise InputError(f"line {line}, column {error.colno} is not JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {line} is not readable: {error}") from None
        if not isinstance(record, dict):
            raise InputError(f"line {line} is not a JSON object")
        yield line, record


def _number(word: str) -> str:
    """A number's shortest text. Raises ValueError for those that are none of JSON, which Python alone would take."""
    if not math.isfinite(value := float(word)):
        raise ValueError(f"{word} is no number of JSON; write null where there is no value")
    return repr(value)


class RequestError(InputError):
    """A request that is refused with another status than 400."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Application:
    """Answers /ping, /execution-parameters and /invocations with one model.

    `missing` are the texts that mean "no value"; `workers` is how many requests are scored at once.
    """

    model: Model
    missing: tuple[str, ...]
    workers: int
    escape_formulas: bool = True

    def __call__(self, environ: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path, status, media_type = environ.get("PATH_INFO", ""), HTTPStatus.OK, "text/plain; charset=utf-8"
        try:
            body, media_type = self.answer(path, environ)
        except InputError as error:
            status = error.status if isinstance(error, RequestError) else HTTPStatus.BAD_REQUEST
            reason = str(error) if len(str(error)) <= SHOWN else f"{str(error)[:SHOWN]} …"
            body = f"{' '.join(reason.split())}\n".encode()
        except Exception:  # one request must not take the server down, and its reason is in the log
            log.exception("unexpected error while answering %s", path)
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, b"unexpected error; the log of the container has it\n"
        headers = [("Content-Type", media_type), ("Content-Length", str(len(body)))]
        headers += [("Allow", ROUTES[path])] if status is HTTPStatus.METHOD_NOT_ALLOWED else []
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    def answer(self, path: str, environ: Mapping[str, Any]) -> tuple[bytes, str]:
        """Body and media type of the response to one request. Raises InputError for one that is refused."""
        method = environ["REQUEST_METHOD"]
        if path not in ROUTES:
            raise RequestError(HTTPStatus.NOT_FOUND, f"there is no {path}; there are {', '.join(ROUTES)}")
        if method != ROUTES[path]:
            raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {ROUTES[path]}, not {method}")
        if path == "/ping":
            return b"", "text/plain; charset=utf-8"
        if path == "/execution-parameters":
            return json.dumps(_parameters(self.workers)).encode(), "application/json"
        content_type, answer_type = _media_types(environ)
        cells = 1 + matrices.cells(self.model.metadata["features"])
        frame = read(environ["wsgi.input"].read(), content_type, tables.needed(self.model), cells)
        scored = tables.score(self.model, frame, self.missing)
        if self.escape_formulas and answer_type == CSV:
            scored = _without_formulas(scored)
        return write(scored, answer_type), answer_type


def _media_types(environ: Mapping[str, Any]) -> tuple[str, str]:
    """The type of the body, and the one to answer in. Raises RequestError for others than TYPES, or packed bodies."""
    header, accept = environ.get("CONTENT_TYPE", ""), environ.get("HTTP_ACCEPT", "")
    content_type, packing = _media_type(header), environ.get("HTTP_CONTENT_ENCODING", "")
    if content_type not in TYPES:
        reason = f"Content-Type {content_type!r} is none of {', '.join(TYPES)}"
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)
    charset, packed = CHARSET.search(header), packing.strip().lower() not in ("", "identity")
    if packed or charset:
        encoding = f"Content-Encoding {packing}" if packed else f"charset {charset and charset[1]}"
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{encoding} is not read; send plain UTF-8")
    answer_type = _accepted(accept, content_type)
    if answer_type is None:
        raise RequestError(HTTPStatus.NOT_ACCEPTABLE, f"Accept {accept!r} is none of {', '.join(TYPES)}")
    return content_type, answer_type


def _media_type(header: str) -> str:
    """A header's type without parameters, in lower case."""
    return header.partition(";")[0].strip().lower()


def _accepted(header: str, content_type: str) -> str | None:
    """The type to answer in: the first one the Accept header names, the request's own where it names none."""
    for wanted in [_media_type(part) for part in header.split(",") if part.strip()] or ["*/*"]:
        if wanted in TYPES:
            return wanted
        if wanted == "*/*" or (wanted.endswith("/*") and content_type.startswith(wanted[:-1])):
            return content_type
    return None


def _parameters(workers: int) -> dict[str, Any]:
    """What to send at once: whole files, one a request; the transform job's own settings win where it has any."""
    largest = int(os.environ.get("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6"))
    at_once = max(1, min(workers, IN_FLIGHT // max(1, largest)))
    return {
        "MaxConcurrentTransforms": int(os.environ.get("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", at_once)),
        "BatchStrategy": os.environ.get("SAGEMAKER_BATCH_STRATEGY", "SINGLE_RECORD"),
        "MaxPayloadInMB": largest,
    }


def run(application: Application) -> None:
    """Listen until SIGTERM; requests in flight are answered before the end. Raises InputError where it can't listen.

    Environment: SAGEMAKER_BIND_TO_PORT (8080), SERVE_HOST (0.0.0.0: a container is reached from outside).
    """
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is what a batch is
    host, port = os.environ.get("SERVE_HOST", "0.0.0.0"), os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")  # noqa: S104
    try:
        server = waitress.create_server(
            application,
            host=host,
            port=int(port),
            threads=application.workers,
            recv_bytes=2**18,
            inbuf_overflow=IN_MEMORY,
            outbuf_overflow=LARGEST,
            max_request_body_size=LARGEST,
            max_request_header_size=2**16,
            connection_limit=10 * CONNECTIONS,
            ident=None,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"can't listen on {host}:{port} ({error}); set SAGEMAKER_BIND_TO_PORT.") from None
    where = server.effective_host, server.effective_port
    log.info("listening on %s:%s with %s threads", *where, application.workers)
    Draining(server).run()


class Draining:
    """Runs a server until SIGTERM, then until what it holds is answered (waitress drops it), or the grace is over."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.deadline: float | None = None

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self.on_signal)
        while self.deadline is None or (self.busy() and time.monotonic() < self.deadline):
            if self.deadline is not None:
                self.server.asyncore.dispatcher.close(self.server)  # no new connections
            self.close_silent()
            self.server.asyncore.loop(timeout=1.0, map=self.server._map, use_poll=True, count=1)
        self.server.task_dispatcher.shutdown(timeout=0.1)

    def close_silent(self) -> None:
        """Close silent connections beyond CONNECTIONS, longest first: half-open ones keep /ping from being heard."""
        channels = [channel for channel in self.server.active_channels.values() if not channel.will_close]
        waiting = [channel for channel in channels if not channel.requests and not channel.total_outbufs_len]
        excess = min(len(channels) - CONNECTIONS, len(waiting))
        for channel in sorted(waiting, key=lambda channel: channel.last_activity)[: max(0, excess)]:
            channel.will_close = True

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Start to drain, and wake the loop."""
        self.deadline = self.deadline or time.monotonic() + GRACE
        self.server.pull_trigger()

    def busy(self) -> bool:
        """Whether a request is being received, scored or answered."""
        channels = list(self.server.active_channels.values())
        return any(channel.requests or channel.request or channel.total_outbufs_len for channel in channels)
