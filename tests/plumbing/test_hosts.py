"""Hosts of a training job meet before they learn, and whoever waits in vain ends with the names of who did not come."""

import socket
import threading
from functools import partial

import pytest

from batchloop.container import hosts, job
from batchloop.container.job import Hosts, InputError


@pytest.fixture
def names() -> tuple[str, ...]:
    """Four hosts of one machine, with ports of which the next one is free too."""
    found: list[str] = []
    while len(found) < 4:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            found.append(f"localhost:{probe.getsockname()[1] - 1}")
    return tuple(found)


def meeting(names: tuple[str, ...], present: tuple[str, ...], patience: float = 10.0) -> dict[str, object]:
    """What each of the hosts that are there learns: the machines, or the reason why there are none."""
    said: dict[str, object] = {}

    def come(name: str) -> None:
        try:
            said[name] = hosts.meet(Hosts(name, names, ("train",)), patience)
        except InputError as error:
            said[name] = str(error)

    threads = [threading.Thread(target=come, args=(name,)) for name in present]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return said


def test_one_host_meets_nobody() -> None:
    assert hosts.meet(Hosts()) == ()
    assert hosts.meet(Hosts("algo-1", ("algo-1",))) == ()


@pytest.mark.parametrize("count", [2, 4])
def test_all_know_each_other_and_themselves_first(names: tuple[str, ...], count: int) -> None:
    places = [name.replace("localhost", "127.0.0.1") for name in names[:count]]
    for name, machines in meeting(names[:count], names[:count]).items():
        assert isinstance(machines, tuple)
        assert machines[0] == name.replace("localhost", "127.0.0.1")
        assert sorted(machines) == sorted(places)


def test_who_does_not_come_is_named_on_every_host(names: tuple[str, ...]) -> None:
    first, *others = sorted(names)
    said = meeting(names, (first, others[0]), patience=1.0)
    assert said[first] == f"{', '.join(others[1:])} of 4 hosts did not come: no model."
    assert "no model" in str(said[others[0]])
    assert "did not answer" in str(meeting(names, (others[0],), patience=0.5)[others[0]])


def test_only_inputs_that_may_be_spread_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("algo-1", "algo-2")
    for host, shards, works in (("algo-2", ("train",), True), ("algo-2", (), False), ("algo-1", (), True)):
        monkeypatch.setattr(job, "current", partial(Hosts, host, both, shards))
        done: list[object] = []
        assert job.run("algorithm train", done.append, spread=lambda: ("train",)) == 0
        assert bool(done) is works
