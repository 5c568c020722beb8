"""Tells apart the requests in what one client sends, as the bytes arrive.

What must stay true: a head or a chunk's frame that has no end never makes us hold more than the bounds below; what
can be read in two ways is no request.
"""

from typing import Protocol

import httptools

from headrace_gateway.http.exchange import Exchange, Line
from headrace_gateway.http.heads import LISTS, ONCE_ONLY, Unacceptable, check_head, malformed, path_of

HEAD_BYTES_MAX = 64 * 1024
"""Request line and headers; with trailers and what frames chunks, the same again."""

HEADERS_MAX = 128
"""Clients and the proxies before us send a few dozen."""

_METHODS = {b"POST": "POST", b"GET": "GET"}


class Taker(Line, Protocol):
    """Who serves the requests."""

    def take(self, exchange: Exchange) -> None:
        """One whose head is there, its body still to come. Raises `Unacceptable`."""


class RequestReader:
    __slots__ = (
        "_arriving",
        "_begun",
        "_fed",
        "_head_bytes",
        "_headers",
        "_parser",
        "_reading_on",
        "_taker",
        "_target",
        "_unseen_bytes",
        "in_head",
    )

    def __init__(self, taker: Taker) -> None:
        self._taker = taker
        self._parser = httptools.HttpRequestParser(self)
        self.in_head = False
        """Whether a request has begun whose head is not yet whole."""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._unseen_bytes = 0
        self._arriving: Exchange | None = None  # the one whose body is not yet whole
        self._reading_on = False
        self._fed = b""  # what is being read now, from the line of a request on that was not whole before
        self._begun = b""

    @property
    def idle(self) -> bool:
        return not self.in_head and self._arriving is None

    @property
    def full(self) -> bool:
        """Whether whoever serves has more of a body than it wants at the moment."""
        return self._arriving is not None and self._arriving.full

    def feed(self, data: bytes) -> bool:
        """False when nothing after it can be a request. Raises `Unacceptable`."""
        self._unseen_bytes += len(data)
        self._fed = self._begun + data if self._begun else data
        goes_on = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            goes_on = self._decline(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            raise (cause if isinstance(cause, Unacceptable) else malformed(str(error))) from error
        if self._unseen_bytes > HEAD_BYTES_MAX:
            raise _head_too_large() if self.in_head else malformed("a chunk's line has no end")
        if self.in_head or self._begun:
            self._keep_line()
        self._fed = b""
        return goes_on

    def fail(self, why: str) -> bool:
        """Nothing more will come. Whether a request was left without the whole of its body."""
        self.in_head = False
        if self._arriving is None:
            return False
        self._arriving.fail(why)
        self._arriving = None
        return True

    def let_go(self) -> None:
        """The connection is gone, and asks for nothing more: it, the parser and this would hold each other for ever."""
        del self._parser, self._taker

    def _keep_line(self) -> None:
        """For the look at a request's line when its head is whole, which it may come to be much later."""
        self._begun = b""
        if self.in_head and self._target:
            line = self._target + b" HTTP/"
            if line not in self._fed:
                at = max(self._fed.rfind(self._target), 0)
                line = self._fed[at : at + len(line)]
            self._begun = line

    def _decline(self, rest: bytes) -> bool:
        """An offer to change the protocol: nobody has to take it up, so the request is served, and is the last.

        Java's client makes it with every request that is not encrypted. The parser takes what follows for the
        other protocol; where it is the request's body, a second parser reads it.
        """
        if self._arriving is None:
            return False
        self._parser = httptools.HttpRequestParser(self)
        self._reading_on = True
        framing = self._arriving.framing
        try:
            self._parser.feed_data(b"POST / HTTP/1.1\r\nconnection: close\r\n%b\r\n\r\n%b" % (framing, rest))
        except httptools.HttpParserError as error:
            raise malformed(str(error)) from error
        return True

    # httptools

    def on_message_begin(self) -> None:
        if self._reading_on:
            return
        self.in_head = True
        self._head_bytes = 0
        self._unseen_bytes = 0
        self._target = b""
        self._headers = {}

    def on_url(self, piece: bytes) -> None:
        self._target += piece
        self._count(len(piece))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if not self.in_head:
            return  # a trailer, or a head read on: they say nothing that we want to know
        name = name.lower()
        if name in self._headers:
            if name in ONCE_ONLY:
                raise malformed(f"a second {name.decode()}")
            if name in LISTS:
                self._headers[name] += b", " + value
            return
        self._headers[name] = value
        if len(self._headers) > HEADERS_MAX:
            raise _head_too_large()

    def on_headers_complete(self) -> None:
        if self._reading_on:
            self._reading_on = False
            return
        parser, headers = self._parser, self._headers
        version = parser.get_http_version()
        # The parser knows RTSP too, and does not tell which it was.
        if self._target + b" HTTP/" not in self._fed:
            raise malformed("its line is another protocol's")
        check_head(version, headers)
        method = parser.get_method()
        exchange = Exchange(
            self._taker,
            _METHODS.get(method) or method.decode(),
            path_of(self._target),
            headers,
            # The parser knows this only for the moment.
            keep_alive=version == "1.1" and parser.should_keep_alive() and not parser.should_upgrade(),
            chunked=version == "1.1",
            target=self._target,
        )
        self._taker.take(exchange)
        self.in_head = False
        self._arriving = exchange

    def on_body(self, piece: bytes) -> None:
        assert self._arriving is not None, "a body belongs to a request"
        self._unseen_bytes = 0
        self._arriving.add(piece)

    def on_message_complete(self) -> None:
        assert self._arriving is not None, "an end belongs to a request"
        if self._parser.should_upgrade() and self._arriving.framing:
            return  # its body is still to come
        exchange, self._arriving = self._arriving, None
        self._unseen_bytes = 0
        exchange.arrived()

    def _count(self, size: int) -> None:
        self._unseen_bytes = 0
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            raise _head_too_large()


def _head_too_large() -> Unacceptable:
    return Unacceptable(431, "head_too_large", "The request's headers are too large.")
