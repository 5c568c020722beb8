"""Ports on the loopback address: finding free ones, and telling who holds a taken one."""

import secrets
import socket
from contextlib import closing

import psutil

HOST = "127.0.0.1"
PORTS = range(20_000, 30_000)
"""Below the 32768 where Linux begins with ports for outgoing connections, and the 30000 of Kubernetes' node ports."""


def unused_port() -> int:
    """A port that nobody listens on now. Another program may still take it before you do.

    Not one that the system gives to connections that go out, nor to node ports: any program's next call would take it.
    """
    while not is_free(port := secrets.choice(PORTS)):
        pass
    return port


def is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        # As servers do: a port that merely lingers in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def holder(port: int) -> str:
    """Who listens on `port`, as far as this user may see."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # the process went away, or is another user's
    return "a process of another user"
