"""Request and response bodies: Parquet, CSV with a header, JSON lines."""

import io
import json
from collections.abc import Collection

import polars as pl

from runtime import lines, raw
from runtime.failures import InputError

PARQUET, CSV = "application/x-parquet", "text/csv"
JSON_LINES = ("application/jsonlines", "application/x-jsonlines")
TYPES = (PARQUET, CSV, *JSON_LINES)
# a damaged Parquet file makes Polars panic
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeDecodeError)


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
    """The table in a body, all of it text for CSV; JSON values of `columns` are text too. Raises BodyError.

    A line of CSV with too few or too many cells has the reason in `__error`, as has one of JSON without all `columns`.
    """
    if not body:
        raise BodyError("the body is empty (0 bytes)")
    try:
        if content_type == PARQUET:
            return pl.read_parquet(io.BytesIO(body))
        return _csv(body) if content_type == CSV else _json_lines(body, columns)
    except InputError as error:
        raise BodyError(str(error)) from None
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
    frame = lines.read(body, "the body", ",").frame.collect().drop(raw.ROW)
    return _with_errors(frame.drop(raw.RAGGED), frame[raw.RAGGED]) if raw.RAGGED in frame.columns else frame


def _with_errors(frame: pl.DataFrame, errors: pl.Series) -> pl.DataFrame:
    """The table with reasons, before those that it may have brought with it."""
    known = [frame[raw.ERROR].cast(pl.String)] if raw.ERROR in frame.columns else []
    return frame.with_columns(pl.coalesce(errors, *known).alias(raw.ERROR))


def _json_lines(body: bytes, columns: Collection[str]) -> pl.DataFrame:
    """Texts, so that a wrong value spoils its own row and not the type of its column."""
    found = pl.read_ndjson(io.BytesIO(body), infer_schema_length=None).schema
    texts = {name: pl.String for name in found if name in columns}
    frame = pl.read_ndjson(io.BytesIO(body), schema={**found, **texts})
    return _without_keys(frame, body, [name for name in texts if frame[name].null_count()])


def _without_keys(frame: pl.DataFrame, body: bytes, gaps: list[str]) -> pl.DataFrame:
    """A key that is not there is no value, as a cell that is not there is none; `gaps` have rows without a value."""
    found = [(number, line) for number, line in enumerate(_lines(body), start=1) if line.strip()]
    if not gaps or len(found) != frame.height:
        return frame
    reasons: list[str | None] = [None] * frame.height
    for row in frame.select(pl.any_horizontal(pl.col(gaps).is_null())).to_series().arg_true():
        number, line = found[row]
        known = json.loads(line)
        absent = [name for name in gaps if name not in known]
        reasons[row] = f"line {number} has no {absent[0]!r}; write null where there is no value" if absent else None
    return _with_errors(frame, pl.Series(reasons, dtype=pl.String)) if any(reasons) else frame


def _explain(body: bytes, content_type: str, error: BaseException) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if content_type == PARQUET:
        return f"the body is not a readable Parquet file: {reason}"
    broken = _broken_line(body, content_type)
    return broken or f"the body is not readable as {content_type}: {reason}"


def _broken_line(body: bytes, content_type: str) -> str | None:
    """What is wrong with the first line that is, counted from 1."""
    for number, line in enumerate(_lines(body), start=1):
        try:
            text = line.decode("utf-8")
            if content_type in JSON_LINES and text.strip() and not isinstance(json.loads(text), dict):
                return f"line {number} is not a JSON object"
        except UnicodeDecodeError as error:
            return f"line {number}, byte {error.start + 1} is not UTF-8"
        except json.JSONDecodeError as error:
            return f"line {number}, column {error.colno} is not JSON: {error.msg}"
    return None


def _lines(body: bytes) -> list[bytes]:
    return body.rstrip(b"\r\n").split(b"\n")
