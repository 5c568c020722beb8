"""Running the application in granian, inside our own event loop, from the first request to the last.

What must stay true: after SIGTERM no connection is accepted, what runs may go on for the grace period, what
then still runs ends with an error event and a settlement, and only then does `serve` return.
"""

import asyncio
import signal
import socket
from dataclasses import dataclass

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from headrace_gateway.http.router import Gateway

log = structlog.get_logger()

BACKLOG = 1024
"""Connections that wait to be accepted during a burst."""

HEAD_BYTES_MAX = 64 * 1024
"""Also what granian reads ahead of a body; hyper wants 8 KiB at least."""

LAST_WORDS_SECONDS = 5.0
"""After the grace: for settlements, error events and clients that read slowly."""


@dataclass(frozen=True, slots=True)
class Listening:
    host: str
    port: int
    connections_max: int
    head_timeout_seconds: float
    grace_seconds: float


class PortTaken(Exception):
    """Something else listens there."""


def check_port(host: str, port: int) -> None:
    """Granian shares ports by design, so a second gateway would silently take half of the first one's requests."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(f"{host}:{port}: {error.strerror}") from error


async def serve(gateway: Gateway, listening: Listening, *, stop: asyncio.Event) -> bool:
    """Serves until `stop` is set; True when every request came to its end by then."""
    server = Server(
        gateway,
        address=listening.host,
        port=listening.port,
        interface=Interfaces.RSGI,
        # One request at a time and connection, so that a connection that ends is a client that has gone.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(listening.head_timeout_seconds * 1000), max_buffer_size=HEAD_BYTES_MAX
        ),
        websockets=False,
        backlog=BACKLOG,
        backpressure=listening.connections_max,
        # Its lines say nothing that ours do not, but an error of its own must be seen.
        log_level=LogLevels.error,
        log_access=False,
    )
    serving = asyncio.ensure_future(server.serve())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        stopping.cancel()
        await serving
        raise AssertionError("granian stopped by itself")
    gateway.draining = True
    server.stop()
    done, _ = await asyncio.wait((serving,), timeout=listening.grace_seconds)
    if not done:
        log.warning("grace_over", running=gateway.interrupt())
        done, _ = await asyncio.wait((serving,), timeout=LAST_WORDS_SECONDS)
    return bool(done)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
