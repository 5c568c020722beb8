"""Ports on the loopback address: finding free ones, and telling who holds a taken one."""

import socket
from contextlib import closing

import psutil

HOST = "127.0.0.1"


def unused_port() -> int:
    """A port that nobody listens on now. Another program may still take it before you do."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
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
