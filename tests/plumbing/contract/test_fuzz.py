"""Whatever is sent: no answer of the 5xx kind, and memory that does not grow with the number of requests."""

import json
from concurrent.futures import ThreadPoolExecutor

import polars as pl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from plumbing.contract.bodies import CSV, LINES, body
from plumbing.contract.containers import PARQUET, Server
from plumbing.contract.processes import memory

KINDS = (PARQUET, CSV, LINES)
REQUESTS, EXAMPLES = 10_000, 1_500
MEGABYTE = 2**20
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3),
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A body with some bytes changed, taken out or put in."""
    found = bytearray(whole)
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(0, len(found) - 1)))
        width = draw(st.integers(0, 30))
        found[place : place + width] = draw(st.binary(max_size=30))
    return bytes(found)


@st.composite
def lines(draw: st.DrawFn, columns: list[str]) -> bytes:
    """JSON lines with the model's columns and values of any kind."""
    row = st.fixed_dictionaries({}, optional=dict.fromkeys(columns, JSON))
    return "\n".join(json.dumps(one) for one in draw(st.lists(row, max_size=4))).encode()


def test_no_body_whatever_gets_a_server_error(server: Server, features: pl.DataFrame) -> None:
    whole = {kind: body(features[:20], kind) for kind in KINDS}
    bodies = st.one_of(
        *(st.tuples(st.just(kind), damaged(sent)) for kind, sent in whole.items()),
        st.tuples(st.just(KINDS[2]), lines(features.columns)),
        st.tuples(st.sampled_from([*KINDS, "", "text/plain", "a/b; c=d"]), st.binary(max_size=200)),
    )

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(bodies, st.sampled_from(["", "*/*", "text/html", *KINDS]))
    def check(request: tuple[str, bytes], accept: str) -> None:
        kind, sent = request
        status, answer = server.invoke(sent, kind, accept)
        assert status in (200, 400, 406, 415), (status, answer)
        assert status == 200 or answer.strip(), "a refusal says why"

    check()


def test_methods_paths_and_headers_of_any_kind_are_answered(server: Server) -> None:
    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
        st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=30),
        st.sampled_from(["", "?x=1", "%00", "%ff", "/../ping"]),
    )
    def check(method: str, path: str, end: str) -> None:
        status, _ = server.ask(method, f"/{path}{end}")
        assert status in (200, 400, 404, 405)

    check()


def test_memory_does_not_grow_with_requests(server: Server, features: pl.DataFrame) -> None:
    sent = [(kind, body(features[:20], kind)) for kind in KINDS]
    sent += [(kind, body[: len(body) // 2]) for kind, body in sent]

    def some(number: int) -> int:
        kind, body = sent[number % len(sent)]
        return server.invoke(body, kind)[0]

    with ThreadPoolExecutor(4) as pool:
        statuses = set(pool.map(some, range(REQUESTS // 4)))
        before = memory(server)
        statuses |= set(pool.map(some, range(REQUESTS * 3 // 4)))
    grown = memory(server) - before
    assert statuses == {200, 400}
    assert grown < 20 * MEGABYTE, f"{grown / MEGABYTE:.0f} MB more after {REQUESTS} requests"
    print(f"{before / MEGABYTE:.0f} MB, {grown / MEGABYTE:+.1f} MB after {REQUESTS} requests")
