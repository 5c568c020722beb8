"""A receiver of webhooks as a customer runs it: it verifies with the specification's library, or misbehaves."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

Behaviour = Callable[["Handler"], None]


def answer(status: int, **headers: str) -> Behaviour:
    def behave(handler: "Handler") -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", "0")
        handler.end_headers()

    return behave


def hang(handler: "Handler") -> None:
    """Takes the request and says nothing, until the test is over."""
    handler.close_connection = True
    handler.receiver.over.wait(30)


def drip(handler: "Handler") -> None:
    """Says a little at a time, and never all."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.receiver.over.wait(0.02):
        handler.wfile.write(b"x-a: b\r\n")
        handler.wfile.flush()


def flood(handler: "Handler") -> None:
    """Takes it, and answers with more than anybody wants to read."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
    try:
        while not handler.receiver.over.is_set():
            handler.wfile.write(b"x" * 65536)
    except OSError:
        return


@dataclass
class Receiver:
    port: int
    behaviours: list[Behaviour] = field(default_factory=list)
    """Of the next requests, in turn; whoever comes after them is taken."""
    arrived: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?tenant=7"

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.arrived]

    def verified(self, secret: str) -> list[dict[str, Any]]:
        """Everything that arrived; raises for what the secret did not sign."""
        return [Webhook(secret).verify(body, headers) for headers, body in self.arrived]

    def wait_for(self, number: int) -> None:
        deadline = time.monotonic() + 20
        while len(self.arrived) < number:
            assert time.monotonic() < deadline, "nothing more arrived"
            time.sleep(0.01)


class Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.receiver.arrived.append(({name.lower(): value for name, value in self.headers.items()}, body))
        behaviour = (
            self.receiver.behaviours.pop(0) if self.receiver.behaviours else answer(HTTPStatus.NO_CONTENT)
        )
        behaviour(self)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_address[1])
    server.RequestHandlerClass = type("Bound", (Handler,), {"receiver": receiver})
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
