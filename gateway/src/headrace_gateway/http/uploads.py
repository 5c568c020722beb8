"""Bodies with a recording in them: how much of memory all of one worker may take together.

What must stay true: room is given back however the request ends; who gets none is told to come back, and was not asked
for the body yet.
"""

from collections.abc import Awaitable, Callable

from headrace_gateway.errors import Overloaded
from headrace_gateway.http.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[None]]


class Uploads:
    def __init__(self, *, body_bytes_max: int, bytes_max: int) -> None:
        """`body_bytes_max`: of one, which is what a body takes that does not say how long it is."""
        assert body_bytes_max <= bytes_max, "one must have room"
        self._body_bytes_max = body_bytes_max
        self._room_bytes = bytes_max

    def bounded(self, handler: Handler) -> Handler:
        """The handler, for as many requests at once as there is room."""

        async def handle(exchange: Exchange) -> None:
            told = exchange.header("content-length")
            size = self._body_bytes_max if told is None else min(int(told), self._body_bytes_max)
            if size > self._room_bytes:
                raise Overloaded("This gateway holds as many recordings as it can.")
            self._room_bytes -= size
            try:
                await handler(exchange)
            finally:
                self._room_bytes += size

        return handle
