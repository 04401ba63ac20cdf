"""Tables as a request's body and as an answer, in every content type."""

import io

import polars as pl

from plumbing.contract.containers import PARQUET

CSV, LINES = "text/csv", "application/jsonlines"


def body(frame: pl.DataFrame, kind: str) -> bytes:
    """A table as a request's body."""
    target = io.BytesIO()
    if kind == PARQUET:
        frame.write_parquet(target)
    else:
        frame.write_csv(target) if kind == CSV else frame.write_ndjson(target)
    return target.getvalue()


def read(answer: bytes, kind: str = PARQUET) -> pl.DataFrame:
    """An answer as a table."""
    source = io.BytesIO(answer)
    if kind == PARQUET:
        return pl.read_parquet(source)
    return pl.read_csv(source) if kind == CSV else pl.read_ndjson(source)
