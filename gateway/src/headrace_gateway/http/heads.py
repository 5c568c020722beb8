"""Heads of requests and answers: what is read of the one and how the other is written.

What must stay true: no request is served that two readers of HTTP could frame differently (RFC 9112, 6.3 and
11.2), and no header of an answer can hold a line of its own.
"""

from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

Headers = list[tuple[str, str]]

REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}

ONCE_ONLY = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"expect",
        b"authorization",
        b"x-api-key",
        b"idempotency-key",
    )
)
"""Headers of which a second one would leave it open which one counts."""

LISTS = frozenset((b"x-forwarded-for",))
"""Headers whose lines are one list, in their order: a proxy may add a line of its own below a client's."""


class Unacceptable(Exception):
    """A request that is refused before anybody looks at what it wants."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def answer(self, date_line: bytes) -> bytes:
        error = {"message": str(self), "type": "invalid_request_error", "param": None, "code": self.code}
        body = msgspec.json.encode({"error": error})
        headers = [("content-type", "application/json")]
        framing = b"content-length: %d\r\n" % len(body)
        return answer_head(self.status, headers, framing, date_line, keep_alive=False) + body


def malformed(why: str) -> Unacceptable:
    return Unacceptable(400, "malformed_http", f"The request is no HTTP/1.1: {why}.")


def check_head(version: str, headers: dict[bytes, bytes]) -> None:
    """What the parser lets through and we do not."""
    if version == "1.0":
        if b"transfer-encoding" in headers:
            raise malformed("HTTP/1.0 has no transfer encodings")
    elif version != "1.1":
        raise Unacceptable(505, "http_version_not_supported", "This server speaks HTTP/1.1.")
    elif b"host" not in headers:
        raise malformed("it names no host")
    encoding = headers.get(b"transfer-encoding")
    if encoding is not None and encoding.lower() != b"chunked":
        raise Unacceptable(501, "transfer_encoding_unknown", "The only transfer encoding here is chunked.")
    expectation = headers.get(b"expect")
    if expectation is not None and expectation.lower() != b"100-continue":
        raise Unacceptable(417, "expectation_failed", "The only expectation met here is 100-continue.")


def path_of(target: bytes) -> str:
    """The path that a request's target names, without its query and decoded."""
    path = target.decode("ascii", "replace")
    if not path.startswith("/") and "://" in path:
        # As proxies are asked; RFC 9112 wants it taken everywhere.
        try:
            path = urlsplit(path).path or "/"
        except ValueError:
            raise malformed("its target is no address") from None
    path = path.partition("?")[0]
    return unquote(path) if "%" in path else path


def answer_head(
    status: int, headers: Headers, framing: bytes, date_line: bytes, *, keep_alive: bool
) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")
    assert lines.count(b"\n") == lines.count(b"\r") == len(headers), f"a header breaks its line: {headers}"
    return b"HTTP/1.1 %d %b\r\n%b%b%b%b\r\n" % (
        status,
        REASONS[status],
        lines,
        framing,
        date_line,
        b"" if keep_alive else b"connection: close\r\n",
    )
