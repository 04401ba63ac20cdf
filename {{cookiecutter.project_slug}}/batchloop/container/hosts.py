"""The hosts of a training job that learn together: they meet before any of them begins, so that none waits for ever.

Sources in the SageMaker developer guide: "Distributed training configuration" (resourceconfig.json), and that hosts
reach each other by name with network isolation too ("Run training and inference containers in internet-free mode").
"""

import logging
import socket
import time
from contextlib import ExitStack

from batchloop.container.job import Hosts, InputError, listed

log = logging.getLogger(__name__)
PORT = 12400  # of what they learn by; they meet at the next one
PATIENCE = 600.0  # seconds: instances of one job don't start at the same moment
PAUSE = 0.2


def meet(hosts: Hosts, patience: float = PATIENCE) -> tuple[str, ...]:
    """Address and port of each host, this one's first; () for one alone. Raises InputError with who did not come."""
    if not hosts.several:
        return ()
    first, *others = sorted(hosts.names)
    deadline = time.monotonic() + patience
    with ExitStack() as stack:
        if hosts.name == first:
            _gather(stack, hosts, set(others), deadline)
        else:
            _join(stack, hosts, first, deadline)
    log.info("%s of %s hosts are there", len(hosts.names), len(hosts.names))
    names = [hosts.name, *(name for name in sorted(hosts.names) if name != hosts.name)]
    return tuple(f"{address}:{port}" for address, port in map(_place, names))


def _place(name: str) -> tuple[str, int]:
    """Where a host is reached; a name may bring its own port."""
    host, _, port = name.partition(":")
    return socket.gethostbyname(host), int(port or PORT)


def _gather(stack: ExitStack, hosts: Hosts, missing: set[str], deadline: float) -> None:
    """Let the others come, and tell them when all have."""
    address, port = _place(hosts.name)
    server = stack.enter_context(socket.create_server((address, port + 1), backlog=len(hosts.names)))
    come = []
    while missing:
        server.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            connection = stack.enter_context(server.accept()[0])
        except TimeoutError:
            raise InputError(f"{listed(sorted(missing))} of {len(hosts.names)} hosts did not come: no model.") from None
        connection.settimeout(PATIENCE)
        missing.discard(connection.makefile().readline().strip())
        come.append(connection)
    for connection in come:
        connection.sendall(b"all\n")


def _join(stack: ExitStack, hosts: Hosts, first: str, deadline: float) -> None:
    while True:
        try:
            address, port = _place(first)
            connection = stack.enter_context(socket.create_connection((address, port + 1), timeout=10))
            connection.sendall(f"{hosts.name}\n".encode())
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            if connection.makefile().readline().strip() == "all":
                return
            raise InputError(f"the host {first} ended before all of {len(hosts.names)} hosts were there: no model.")
        except OSError as error:
            if time.monotonic() > deadline:
                raise InputError(f"the host {first} did not answer ({error}): no model.") from None
            time.sleep(PAUSE)
