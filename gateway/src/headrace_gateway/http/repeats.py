"""Requests with an `Idempotency-Key`: known again when they are repeated, and answered with what the first one got.

What must stay true: without the header nothing of this costs anything; what is recorded of an answer is bounded.
"""

import re
from hashlib import sha256

from headrace_gateway.call import Idempotency, KeptAnswer
from headrace_gateway.errors import AnswerNotKept, InvalidRequest
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.http.shapes import Shape
from headrace_gateway.limits.idempotency import ANSWER_BYTES_MAX

HEADER = "idempotency-key"

_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?", re.ASCII)


def idempotency_of(exchange: Exchange, body: bytes) -> Idempotency | None:
    """Null where the client sent no key. The same key at another path is another request."""
    key = exchange.header(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            "Idempotency-Key must be 1 to 255 printable ASCII characters.", param="Idempotency-Key"
        )
    asked = sha256(exchange.path.encode() + b"\n")
    asked.update(body)
    return Idempotency(key=sha256(key.encode()).hexdigest(), request=asked.hexdigest())


def answer_again(exchange: Exchange, shape: Shape, kept: KeptAnswer) -> None:
    """Raises `AnswerNotKept`."""
    if kept.body is None:
        raise AnswerNotKept(request_id=kept.id, ending=kept.ending, output_tokens=kept.tokens.output)
    headers = [
        ("content-type", kept.content_type),
        ("cache-control", "no-cache"),
        *shape.identity(kept.id),
        ("x-headrace-revision", kept.revision),
        ("idempotent-replayed", "true"),
    ]
    exchange.answer(200, headers, kept.body)


class Recording:
    """What a client was given of a stream, as long as it is short enough to be given again."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._room_bytes = ANSWER_BYTES_MAX

    def add(self, piece: bytes) -> None:
        self._room_bytes -= len(piece)
        if self._room_bytes < 0:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def with_rest(self, rest: bytes) -> bytes | None:
        """The whole answer, of which `rest` is still to be given; null if it is too long."""
        self.add(rest)
        return None if self._room_bytes < 0 else b"".join(self._pieces)
