"""One request of a batch, as its line says it, and what its answer means."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages")

LINE_BYTES_MAX = 4 * 2**20
CUSTOM_ID_CHARACTERS_MAX = 512

TRIES_MAX = 8
"""Of a request that fails for a reason of ours; what only waits for room is asked as long as its batch stands."""

PAUSE_SECONDS_FIRST = 2.0
PAUSE_SECONDS_MAX = 120.0


class LineState(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    ANSWERED = "answered"
    FAILED = "failed"


class LineInvalid(ValueError):
    """A line that can be no request; `str()` is what its owner is told."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Written(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    custom_id: str
    body: bytes


_written = msgspec.json.Decoder(Written).decode
_body = msgspec.json.Decoder(dict[str, Any]).decode


def read_line(number: int, text: bytes, *, endpoint: str) -> Line:
    """Raises `LineInvalid`."""
    if len(text) > LINE_BYTES_MAX:
        raise LineInvalid("line_too_long", f"A line has at most {LINE_BYTES_MAX} bytes.")
    try:
        text.decode()
        written = _written(text)
        body = _body(written.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LineInvalid("invalid_json_line", f"This is no request: {error}") from error
    if not 1 <= len(written.custom_id) <= CUSTOM_ID_CHARACTERS_MAX or not written.custom_id.isprintable():
        raise LineInvalid(
            "invalid_custom_id",
            f"custom_id must be 1 to {CUSTOM_ID_CHARACTERS_MAX} printable characters.",
        )
    if written.method != "POST":
        raise LineInvalid("invalid_method", "method must be POST.")
    if written.url != endpoint:
        raise LineInvalid(
            "mismatched_endpoint", f"url must be the batch's endpoint, {endpoint}, on every line."
        )
    if body.get("stream"):
        raise LineInvalid("stream_unsupported", "Answers of a batch are not streamed. Leave `stream` out.")
    return Line(number, written.custom_id, bytes(written.body))


@dataclass(frozen=True, slots=True)
class Reply:
    """What a gateway answered."""

    status: int
    body: bytes
    request: str | None = None
    retry_after_seconds: float | None = None


class Verdict(StrEnum):
    ANSWERED = "answered"
    FAILED = "failed"
    """It will not be otherwise."""
    NO_ROOM = "no_room"
    """Nobody's fault: to be asked again, however often."""
    AGAIN = "again"


# Others are served first, the first try still runs, or a limit of the key's fills up again.
NO_ROOM = frozenset((409, 429, 503))


def verdict_of(reply: Reply | None) -> Verdict:
    """Null: no answer came."""
    if reply is None:
        return Verdict.AGAIN
    if reply.status == 200:
        return Verdict.ANSWERED
    if reply.status in NO_ROOM:
        return Verdict.NO_ROOM
    return Verdict.AGAIN if reply.status >= 500 or reply.status == 408 else Verdict.FAILED


def pause(tries: int, reply: Reply | None) -> timedelta:
    """Until a request that was tried so often may be tried again."""
    asked = 0.0 if reply is None or reply.retry_after_seconds is None else reply.retry_after_seconds
    grown = PAUSE_SECONDS_FIRST * 2.0 ** min(tries, 10)
    return timedelta(seconds=min(PAUSE_SECONDS_MAX, max(asked, grown)))


def result_line(row: Mapping[str, Any]) -> bytes:
    """A line of an output or error file. `row`: a line of `batch_lines`."""
    answered = row["status"] is not None
    error = None if answered else {"code": "batch_expired", "message": "The batch ended before its turn came."}
    response = (
        {
            "status_code": row["status"],
            "request_id": row["request"] or "",
            "body": msgspec.Raw(row["answer"] or b"{}"),
        }
        if answered
        else None
    )
    return (
        msgspec.json.encode(
            {
                "id": f"batch_req_{row['batch'].removeprefix('batch_')}_{row['number']}",
                "custom_id": row["custom_id"],
                "response": response,
                "error": error,
            }
        )
        + b"\n"
    )
