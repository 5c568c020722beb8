"""Ports for tests, and the fence around them: a test talks to this machine only."""

import ipaddress
import sys
from collections.abc import Iterator

from headrace_platform.local.ports import unused_port

LOCAL_NAMES = {"localhost", "localhost.localdomain", "", None}


class OutsideWorld(AssertionError):
    """A test tried to reach another machine."""


def unused_ports() -> Iterator[int]:
    """Ports that were free when asked for, none of them twice: two servers of one test must not meet."""
    seen: set[int] = set()
    while True:
        port = unused_port()
        if port not in seen:
            seen.add(port)
            yield port


def forbid_the_outside_world() -> None:
    """Makes any connection of this process to another machine an error; it can't be undone."""
    sys.addaudithook(_guard)


def _guard(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        # An address of a Unix socket is a string.
        if isinstance(address, tuple) and address and not is_local(address[0]):
            raise OutsideWorld(f"{event} to {address[0]}")
    elif event == "socket.getaddrinfo" and not is_local(arguments[0]):
        raise OutsideWorld(f"look-up of {arguments[0]!r}")


def is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
