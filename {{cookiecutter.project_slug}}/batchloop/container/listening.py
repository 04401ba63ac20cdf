"""Listening for requests, and an end that answers those in flight: waitress, as batch transform needs it."""

import logging
import os
import signal
import time
from types import FrameType
from typing import Any

import waitress

from batchloop.container.job import InputError
from batchloop.container.server import Application

log = logging.getLogger(__name__)
GRACE = 4.5  # seconds for requests in flight after SIGTERM
LARGEST = 2**27  # bytes of a body: above the 100 MB a transform request may have
IN_MEMORY = 2**24  # bytes of a body; a larger one waits in a file until it is scored
CONNECTIONS = 100  # kept open; beyond these the ones that have been silent for longest are closed


def run(application: Application, workers: int) -> None:
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
            threads=workers,
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
    log.info("listening on %s:%s with %s threads", server.effective_host, server.effective_port, workers)
    Draining(server).run()


class Draining:
    """Runs a server until SIGTERM, then until what it holds is answered (waitress drops it), or the grace is over."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.deadline: float | None = None

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self.on_signal)
        listening = True
        while self.deadline is None or (self.busy() and time.monotonic() < self.deadline):
            if self.deadline is not None and listening:
                self.server.asyncore.dispatcher.close(self.server)  # no new connections
                listening = False
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
