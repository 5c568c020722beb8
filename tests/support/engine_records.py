"""Billing's route for engine records, with billing's rules and a memory, for tests without a database."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from headrace_contracts.engine import EngineEnding, EngineRecord, decode_records

PATH = "/internal/v1/engine-records"
TOKEN = "ingest-token-of-a-test"


@dataclass
class EngineRecords:
    """What billing would have. `away` makes it answer with that status instead of taking anything."""

    port: int
    away: HTTPStatus | None = None
    refused: set[str] = field(default_factory=set)
    """Attempts that it takes for wrong, with the whole batch that holds one."""
    batches: list[int] = field(default_factory=list)
    turned_away: int = 0
    _records: dict[tuple[str, str], EngineRecord] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    def records(self) -> dict[str, EngineRecord]:
        """The last record of each attempt."""
        with self._lock:
            return {attempt: record for (_, attempt), record in self._records.items()}

    def ended(self, attempt: str) -> EngineRecord | None:
        record = self.records().get(attempt)
        return record if record is not None and record.ending is not EngineEnding.STARTED else None

    def take(self, path: str, authorization: str | None, body: bytes) -> HTTPStatus:
        if self.away is not None:
            self.turned_away += 1
            return self.away
        if path != PATH:
            return HTTPStatus.NOT_FOUND
        if authorization != f"Bearer {TOKEN}":
            return HTTPStatus.UNAUTHORIZED
        try:
            batch = decode_records(body).records
        except msgspec.MsgspecError:
            return HTTPStatus.UNPROCESSABLE_ENTITY
        if any(record.attempt in self.refused for record in batch):
            return HTTPStatus.UNPROCESSABLE_ENTITY
        with self._lock:
            self.batches.append(len(batch))
            for record in batch:
                identity = (record.replica, record.attempt)
                if record.ending is not EngineEnding.STARTED or identity not in self._records:
                    self._records[identity] = record
        return HTTPStatus.OK


@contextmanager
def receiving(port: int = 0) -> Iterator[EngineRecords]:
    class Route(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = records.take(self.path, self.headers["Authorization"], body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Route) as server:
        records = EngineRecords(port=server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield records
        finally:
            server.shutdown()
            thread.join()
