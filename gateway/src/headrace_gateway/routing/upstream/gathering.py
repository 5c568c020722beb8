"""Streams that are read together while several of them have something to say.

To be woken for a token costs about as much as to relay it. So streams are watched by an epoll of their own: the loop
watches that, and where several are found to be ready, it is looked at after each rest, until there is one at most.

What must stay true: a stream that is alone is read as soon as something comes, and none waits longer than a rest; and
whoever reads leaves before its descriptor is closed, as the number may be another's a moment later.
"""

import asyncio
import select
from collections.abc import Callable

REST_SECONDS = 0.004
"""Nobody sees a token that much later, and an answer ends no later than that. Of two, more would be spent on waking."""

CROWD = 2

READY_MAX = 8
"""Read at one look. Where there are more the next one follows, after whatever else there is to do."""


class Gathering:
    def __init__(self, loop: asyncio.AbstractEventLoop, *, rest_seconds: float = REST_SECONDS) -> None:
        self._loop = loop
        self._rest_seconds = rest_seconds
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._next: asyncio.Handle | None = None
        """The next look; null while the loop watches."""
        loop.add_reader(self._epoll.fileno(), self._look)

    def join(self, descriptor: int, read: Callable[[], None]) -> None:
        """`read` is called while there is something, or the end. It must not wait and not raise."""
        self._readers[descriptor] = read
        self._epoll.register(descriptor, select.EPOLLIN)

    def leave(self, descriptor: int) -> None:
        del self._readers[descriptor]
        self._epoll.unregister(descriptor)

    def close(self) -> None:
        """When all have left."""
        if self._next is not None:
            self._next.cancel()
        else:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _look(self) -> None:
        ready = self._epoll.poll(0, READY_MAX)
        if len(ready) >= CROWD:
            if self._next is None:
                self._loop.remove_reader(self._epoll.fileno())
            wait = 0 if len(ready) == READY_MAX else self._rest_seconds
            self._next = self._loop.call_later(wait, self._look)
        elif self._next is not None:
            self._next = None
            self._loop.add_reader(self._epoll.fileno(), self._look)
        for descriptor, _ in ready:
            # One that was read before it may have made it leave.
            if (read := self._readers.get(descriptor)) is not None:
                read()
