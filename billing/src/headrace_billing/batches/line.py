"""One request of a batch, as its line says it, and how it ended."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages")

LINE_BYTES_MAX = 4 * 2**20
CUSTOM_ID_CHARACTERS_MAX = 512
MODEL_CHARACTERS_MAX = 300


class LineState(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    ANSWERED = "answered"
    FAILED = "failed"


class LineInvalid(ValueError):
    """A line that can be no request; `str()` is what its owner is told."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class Written(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class Body(msgspec.Struct):
    """What is looked at of it; all else is skipped, and not made."""

    model: Any = None
    stream: Any = None


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    custom_id: str
    model: str
    body: bytes


BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs write before a file's first line, and is none of it."""

_written = msgspec.json.Decoder(Written).decode
_body = msgspec.json.Decoder(Body).decode


async def numbered(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """The lines of a file that are not empty. Of one that is too long so much comes as shows that it is."""
    number, rest = 1, bytearray()
    async for piece in pieces:
        for place, part in enumerate(piece.split(b"\n")):
            if place > 0:
                if rest.strip():
                    yield number, bytes(rest)
                rest.clear()
                number += 1
            if len(rest) <= LINE_BYTES_MAX:
                rest += part
    if rest.strip():
        yield number, bytes(rest)


def read_line(number: int, text: bytes, *, endpoint: str) -> Line:
    """Raises `LineInvalid`."""
    if number == 1:
        text = text.removeprefix(BYTE_ORDER_MARK)
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
            param="custom_id",
        )
    if written.method != "POST":
        raise LineInvalid("invalid_method", "method must be POST.", param="method")
    if written.url != endpoint:
        raise LineInvalid(
            "mismatched_endpoint",
            f"url must be the batch's endpoint, {endpoint}, on every line.",
            param="url",
        )
    if body.stream:
        raise LineInvalid(
            "stream_unsupported",
            "Answers of a batch are not streamed. Leave `stream` out.",
            param="body.stream",
        )
    model = body.model
    if not isinstance(model, str) or not 1 <= len(model) <= MODEL_CHARACTERS_MAX:
        raise LineInvalid("invalid_model", "body.model must name a model.", param="body.model")
    # On one line, as it will be in a log of whoever looks for it.
    return Line(number, written.custom_id, model, msgspec.json.format(bytes(written.body), indent=-1))


class NotAnswered(StrEnum):
    """Why a line has no answer, as its owner is told."""

    EXPIRED = "batch_expired"
    CANCELLED = "batch_cancelled"
    LOST = "answer_lost"
    NONE = "no_answer"


MESSAGES = {
    NotAnswered.EXPIRED: "The batch's time was over before this request could be answered.",
    NotAnswered.CANCELLED: "The batch was cancelled before this request was sent.",
    NotAnswered.LOST: "Whether this request was answered is not known any more. It is not sent again, so that it is "
    "not charged twice; if it was answered, the batch's usage has it.",
    NotAnswered.NONE: "The connection broke off each time before this request was answered.",
}


def result_line(row: Mapping[str, Any], *, undone: NotAnswered) -> bytes:
    """A line of an output or error file. `row`: a line of `batch_lines`. `undone`: why the batch's others were not sent."""
    response, error = None, None
    if row["status"] is not None:
        response = {
            "status_code": row["status"],
            "request_id": row["request"] or "",
            "body": msgspec.Raw(row["answer"]),
        }
    else:
        code = row["error"] or (NotAnswered.LOST if row["doubt_since"] is not None else undone)
        error = {"code": code, "message": MESSAGES[NotAnswered(code)]}
    result = {
        "id": f"batch_req_{row['batch'].removeprefix('batch_')}_{row['number']}",
        "custom_id": row["custom_id"],
        "response": response,
        "error": error,
    }
    return msgspec.json.encode(result) + b"\n"
