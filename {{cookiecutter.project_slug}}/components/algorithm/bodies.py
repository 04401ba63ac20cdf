"""Request and response bodies: Parquet, CSV with a header, JSON lines."""

import csv
import io
import json
from collections.abc import Collection

import polars as pl

PARQUET, CSV = "application/x-parquet", "text/csv"
JSON_LINES = ("application/jsonlines", "application/x-jsonlines")
TYPES = (PARQUET, CSV, *JSON_LINES)
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)  # a damaged Parquet file makes Polars panic


class BodyError(Exception):
    """A body that can't be read; the message says where it breaks."""


def media_type(header: str) -> str:
    """A header's type without parameters, in lower case."""
    return header.partition(";")[0].strip().lower()


def accepted(header: str, content_type: str) -> str | None:
    """The type to answer in: the first one the Accept header names, the request's own where it has no wish."""
    wishes = [media_type(part) for part in header.split(",") if part.strip()]
    for wish in wishes or ["*/*"]:
        if wish in TYPES:
            return wish
        if wish == "*/*" or (wish.endswith("/*") and content_type.startswith(wish[:-1])):
            return content_type
    return None


def read(body: bytes, content_type: str, columns: Collection[str]) -> pl.DataFrame:
    """The table in a body, all of it text for CSV; JSON values of `columns` are text too. Raises BodyError."""
    if not body:
        raise BodyError("the body is empty (0 bytes)")
    try:
        if content_type == PARQUET:
            return pl.read_parquet(io.BytesIO(body))
        return _csv(body) if content_type == CSV else _json_lines(body, columns)
    except UNREADABLE as error:
        raise BodyError(_explain(body, content_type, error)) from None


def write(frame: pl.DataFrame, content_type: str) -> bytes:
    """The table as a body."""
    target = io.BytesIO()
    if content_type == PARQUET:
        frame.write_parquet(target, compression="lz4")
    elif content_type == CSV:
        frame.write_csv(target)
    else:
        frame.write_ndjson(target)
    return target.getvalue()


def _csv(body: bytes) -> pl.DataFrame:
    frame = pl.read_csv(io.BytesIO(body), infer_schema=False)
    last = body.rstrip(b"\r\n").rpartition(b"\n")[2]
    cells = _cells(last.decode("utf-8", errors="replace"))
    if last.count(b'"') % 2 == 0 and cells < frame.width:
        raise BodyError(f"line {len(_lines(body))} has {cells} of {frame.width} cells; was the body cut off?")
    return frame


def _json_lines(body: bytes, columns: Collection[str]) -> pl.DataFrame:
    """Texts, so that a wrong value spoils its own row and not the type of its column."""
    found = pl.read_ndjson(io.BytesIO(body), infer_schema_length=None).schema
    texts = {name: pl.String for name in found if name in columns}
    return pl.read_ndjson(io.BytesIO(body), schema={**found, **texts})


def _explain(body: bytes, content_type: str, error: BaseException) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if content_type == PARQUET:
        return f"the body is not a readable Parquet file: {reason}"
    broken = _broken_line(body, content_type)
    return broken or f"the body is not readable as {content_type}: {reason}"


def _broken_line(body: bytes, content_type: str) -> str | None:
    """What is wrong with the first line that is, counted from 1."""
    width = 0
    for number, line in enumerate(_lines(body), start=1):
        try:
            text = line.decode("utf-8")
            if content_type in JSON_LINES and text.strip() and not isinstance(json.loads(text), dict):
                return f"line {number} is not a JSON object"
        except UnicodeDecodeError as error:
            return f"line {number}, byte {error.start + 1} is not UTF-8"
        except json.JSONDecodeError as error:
            return f"line {number}, column {error.colno} is not JSON: {error.msg}"
        if content_type == CSV:
            cells = _cells(text)
            width = width or cells
            if cells > width and text.count('"') % 2 == 0:
                return f"line {number} has {cells} cells, the header {width}"
    return None


def _cells(line: str) -> int:
    """How many cells a line has. A carriage return inside it ends no line for Polars, but would for the module."""
    try:
        return len(next(csv.reader([line.replace("\r", " ")]), []))
    except csv.Error:  # a cell that is larger than the module takes
        return line.count(",") + 1


def _lines(body: bytes) -> list[bytes]:
    return body.rstrip(b"\r\n").split(b"\n")
