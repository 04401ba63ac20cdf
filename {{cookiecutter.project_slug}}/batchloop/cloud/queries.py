"""The query of `make upload FROM=`: Athena or Redshift writes its rows as Parquet, and nothing of them comes by here.

Sources: "UNLOAD" in the user guides of Athena (the place must be empty; its files have no ending) and of Redshift (no
LIMIT of the outer SELECT; quotes and backslashes are escaped; a bucket's key counts with ENCRYPTED AUTO alone); the API
references of both.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

from batchloop.cloud.session import CallFailed, Session, looks
from batchloop.container.job import InputError
from batchloop.control import storage

COMMENT = r"--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*\*/"
QUERY = re.compile(rf"(?:\s|\(|{COMMENT})*(?:select|with)\b.*", re.IGNORECASE | re.DOTALL)
ENDED = re.compile(  # one query, and what may come after its semicolon
    rf"""((?:{COMMENT}|'[^']*'|"[^"]*"|[^;'"/-]|-(?!-)|/(?!\*))*)(?:;|\s|{COMMENT})*"""
)
SECONDS, TOLD = 1.0, 10.0
LEFT = timedelta(days=1)  # longer than any query: rows of a part that are older nobody copies any more
SUCCEEDED, FAILED = ("SUCCEEDED", "FINISHED"), ("FAILED", "CANCELLED", "ABORTED")


@dataclass(frozen=True)
class State:
    """Of a query: the service's word for it, why it failed, and what it took."""

    word: str
    why: str
    took: str


class Athena:
    """`place` is a workgroup with a place for results; after a slash the database of tables that are named alone."""

    def __init__(self, session: Session, place: str) -> None:
        self.session = session
        self.workgroup, _, self.database = place.partition("/")

    def start(self, query: str, uri: str) -> str:
        request: dict[str, Any] = {"WorkGroup": self.workgroup}
        request |= {"QueryExecutionContext": {"Database": self.database}} if self.database else {}
        request |= {"QueryString": f"UNLOAD (\n{query}\n) TO '{uri}' WITH (format = 'PARQUET')"}
        return str(self.session.call("athena", "start_query_execution", "QueryExecutionId", **request))

    def look(self, number: str) -> State:
        found = self.session.call("athena", "get_query_execution", "QueryExecution", QueryExecutionId=number)
        scanned = found.get("Statistics", {}).get("DataScannedInBytes", 0)
        status = found["Status"]
        took = f"Athena scanned {scanned:,} bytes, and bills them."
        return State(status["State"], status.get("StateChangeReason", ""), took)

    def stop(self, number: str) -> object:
        return self.session.call("athena", "stop_query_execution", QueryExecutionId=number)


class Redshift:
    """`place` is a cluster or a workgroup of Redshift Serverless, a slash and a database."""

    def __init__(self, session: Session, kind: str, place: str) -> None:
        name, _, database = place.partition("/")
        self.session, member = session, "ClusterIdentifier" if kind == "redshift" else "WorkgroupName"
        self.where = {member: name, "Database": database}

    def start(self, query: str, uri: str) -> str:
        escaped = query.replace("\\", "\\\\").replace("'", "''")
        whole = f"SELECT * FROM (\n{escaped}\n) AS selected"  # noqa: S608 - with the rights of whoever asks
        encrypted = " ENCRYPTED AUTO" if self.session.environment.key else ""  # by the bucket's key
        text = f"UNLOAD ('{whole}') TO '{uri}' IAM_ROLE default FORMAT PARQUET{encrypted}"
        return str(self.session.call("redshift-data", "execute_statement", "Id", Sql=text, **self.where))

    def look(self, number: str) -> State:
        found = self.session.call("redshift-data", "describe_statement", Id=number)
        took = f"Redshift took {found.get('Duration', 0) / 1e9:.0f} seconds."
        return State(found["Status"], found.get("Error", ""), took)

    def stop(self, number: str) -> object:
        return self.session.call("redshift-data", "cancel_statement", Id=number)


def read(session: Session, given: str) -> str:
    """The query that is given, or that stands in a file whose name ends in .sql. Raises InputError."""
    if not session.environment.warehouse:
        raise InputError(
            f'{session.environment.file} names nothing that runs queries: warehouse = "athena:<workgroup>", '
            '"redshift-serverless:<workgroup>/<database>" or "redshift:<cluster>/<database>".'
        )
    text = given
    if given.lower().endswith(".sql"):
        try:
            text = Path(given).expanduser().read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"FROM={given} can't be read: {getattr(error, 'strerror', 'it is not UTF-8')}.") from None
    ended = ENDED.fullmatch(text)
    if not QUERY.fullmatch(query := (ended[1] if ended else text).strip()):
        raise InputError("FROM= takes one query, which begins with SELECT or WITH, or a file whose name ends in .sql.")
    return query


@contextmanager
def staged(session: Session, query: str, uri: str) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """The objects with a query's rows, as S3 lists them, and what it took; below a folder of its own, empty at the end.

    Raises InputError, also for a query without rows.
    """
    _empty(session, uri, datetime.now(UTC) - LEFT)  # what one that was killed has left; another may be under way
    place = f"{uri}{uuid4().hex}/"
    try:
        took = _unload(session, query, place)
        with session.asking(f"looking into {place}"):
            found = [entry for _, entry in sorted(storage.objects(session.aws, place).items()) if entry["Size"]]
        if not found:
            raise InputError(f"the query gave no rows, and nothing was put there. {took}")
        yield found, took
    finally:
        try:
            _empty(session, place, datetime.max.replace(tzinfo=UTC))
        except CallFailed as failed:
            print(f"{place} holds rows that nobody needs; an upload of the part tomorrow removes them: {failed}")


def _empty(session: Session, uri: str, before: datetime) -> None:
    """Delete every version of what was written there before: none is to stay as a noncurrent one."""
    bucket, folder = storage.split(uri)
    for left in list(session.pages("s3", "list_object_versions", "Versions", Bucket=bucket, Prefix=folder)):
        if left["LastModified"] < before:
            session.call("s3", "delete_object", Bucket=bucket, Key=left["Key"], VersionId=left["VersionId"])


def _unload(session: Session, query: str, uri: str) -> str:
    """Have a query's rows written below a URI; what that took. Ctrl-C, or whatever ends this, stops the query too."""
    kind, _, place = session.environment.warehouse.partition(":")
    engine = Athena(session, place) if kind == "athena" else Redshift(session, kind, place)
    number = engine.start(query, uri)
    try:
        print(f"the query {number} runs in {session.environment.warehouse}", flush=True)
        state = _ended(engine, number, session.environment.max_runtime_seconds)
    except BaseException:
        with suppress(CallFailed):
            engine.stop(number)
        raise
    if state.word not in SUCCEEDED:
        raise InputError(f"the query {number} {state.word.lower()}: {' '.join(state.why.split()) or 'no reason given'}")
    return state.took


def _ended(engine: Athena | Redshift, number: str, longest: float) -> State:
    """How a query ended, looked at until then. Raises InputError for one that takes too long."""
    due = monotonic()
    for state in looks(partial(engine.look, number), SECONDS, longest):
        if state.word in (*SUCCEEDED, *FAILED):
            return state
        if monotonic() >= due:
            print(f"  {state.word.lower()}", flush=True)
            due = monotonic() + TOLD
    raise InputError(f"the query {number} was stopped: it takes longer than max_runtime_seconds allows.")
