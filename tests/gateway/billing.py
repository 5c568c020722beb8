"""Billing's side door for usage over real HTTP: it keeps what it gets, as far as these tests need."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from headrace_contracts import channels
from headrace_contracts.ingest import EventOutcome, EventResult, UsageEventBatch, UsageEventReply
from headrace_contracts.usage import UsageEvent


class Billing:
    def __init__(self, token: str) -> None:
        self.token = token
        self.events: dict[tuple[str, int], UsageEvent] = {}
        self.conflicts: list[UsageEvent] = []
        self.sequences: dict[str, set[int]] = defaultdict(set)
        self.batches = 0
        self.failing = False
        self.misses_the_first = False
        self.url = ""

    def take(self, batch: UsageEventBatch) -> UsageEventReply:
        self.batches += 1
        results = [self._take(event) for event in batch.events]
        named = {channels.journal(event.producer, event.boot) for event in batch.events}
        return UsageEventReply(results=results, acknowledged={name: self.contiguous(name) for name in named})

    def _take(self, event: UsageEvent) -> EventResult:
        key = (event.id, int(event.grade))
        known = self.events.setdefault(key, event)
        outcome = EventOutcome.ACCEPTED
        if known != event:
            self.conflicts.append(event)
            outcome = EventOutcome.CONFLICT
        self.sequences[channels.journal(event.producer, event.boot)].add(event.sequence)
        return EventResult(id=event.id, grade=int(event.grade), outcome=outcome)

    def contiguous(self, journal: str) -> int:
        sequence = 0
        while not self.misses_the_first and sequence + 1 in self.sequences[journal]:
            sequence += 1
        return sequence


@contextmanager
def running_billing(token: str) -> Iterator[Billing]:
    billing = Billing(token)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != "/internal/v1/usage-events" or billing.failing:
                self.send_error(503)
            elif self.headers["Authorization"] != f"Bearer {billing.token}":
                self.send_error(401)
            else:
                reply = msgspec.json.encode(billing.take(msgspec.json.decode(body, type=UsageEventBatch)))
                self.send_response(200)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    billing.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield billing
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
