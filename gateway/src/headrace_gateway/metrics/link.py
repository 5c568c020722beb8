"""Between worker processes and the one that started them, which alone has the port that is scraped: a pair of sockets
for each worker. It asks by a number, the worker answers with that number and its samples.

What must stay true: what a worker counted is never taken back when it dies, or rates over all would leap; and one that
does not answer in time holds up a scrape for no longer than that.
"""

import socket
import struct
import threading
from collections.abc import Callable

import msgspec
import structlog

from headrace_gateway.metrics.catalogue import CATALOGUE
from headrace_telemetry.metrics import Kind, Sample, merged

log = structlog.get_logger()

ANSWER_SECONDS_MAX = 3.0
ANSWER_BYTES_MAX = 64 * 2**20
PIECE_BYTES = 2**20

_HEAD = struct.Struct("<QI")  # the number asked by, and the answer's length
_QUESTION = struct.Struct("<Q")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Sample]).decode


def answer_forever(
    connection: socket.socket, read: Callable[[], list[Sample]], *, parent_gone: Callable[[], object]
) -> threading.Thread:
    """In a worker: a thread that answers until the other end is closed, which is when its parent has ended."""

    def run() -> None:
        with connection:
            while question := connection.recv(_QUESTION.size, socket.MSG_WAITALL):
                try:
                    body = _encode(read())
                except (TimeoutError, RuntimeError) as error:
                    log.warning("metrics_unread", error=repr(error))
                    continue
                connection.sendall(_HEAD.pack(*_QUESTION.unpack(question), len(body)) + body)
        parent_gone()

    thread = threading.Thread(target=run, name="metrics", daemon=True)
    thread.start()
    return thread


class WorkerLink:
    """In the parent: one worker, as it answered last."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(ANSWER_SECONDS_MAX)
        self._connection = connection
        self._asked = 0
        self._received = b""
        self.last: list[Sample] = []

    def ask(self) -> bool:
        """Whether `last` is of now."""
        self._asked += 1
        try:
            self._connection.sendall(_QUESTION.pack(self._asked))
            while (number := self._take_answer()) != self._asked:
                if number is None:
                    piece = self._connection.recv(PIECE_BYTES)
                    if not piece:
                        return False  # it has ended
                    self._received += piece
        except OSError as error:
            log.warning("worker_did_not_tell_metrics", error=str(error) or type(error).__name__)
            return False
        return True

    def _take_answer(self) -> int | None:
        """The number of the next whole answer, which is `last` then; one may be to an earlier question."""
        if len(self._received) < _HEAD.size:
            return None
        number, size = _HEAD.unpack_from(self._received)
        assert size <= ANSWER_BYTES_MAX, size
        end = _HEAD.size + size
        if len(self._received) < end:
            return None
        self.last, self._received = _decode(self._received[_HEAD.size : end]), self._received[end:]
        return int(number)

    def close(self) -> None:
        self._connection.close()


class Workers:
    """All workers' samples as one, those of the dead included as far as they count."""

    def __init__(self) -> None:
        self._links: dict[int, WorkerLink] = {}
        self._dead: list[Sample] = []
        # The thread that scrapes and the one that waits for workers to end.
        self._lock = threading.Lock()

    def joined(self, pid: int, connection: socket.socket) -> None:
        with self._lock:
            self._links[pid] = WorkerLink(connection)

    def died(self, pid: int) -> None:
        with self._lock:
            link = self._links.pop(pid)
            counted = [one for one in link.last if CATALOGUE[one.metric].kind is not Kind.GAUGE]
            self._dead = merged(CATALOGUE, (self._dead, counted))
            link.close()

    def read(self) -> list[Sample]:
        with self._lock:
            told = []
            for link in self._links.values():
                now = link.ask()
                told.append([one for one in link.last if now or CATALOGUE[one.metric].kind is not Kind.GAUGE])
            return merged(CATALOGUE, (self._dead, *told))
