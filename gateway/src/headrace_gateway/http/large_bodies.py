"""Large bodies: how much of memory all of one worker may take together, and those of one organisation.

What must stay true: only who has a key takes room, and no more than its organisation's share of it; who gets none is
told to come back; and whatever a body holds, what runs goes on while it is read.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from headrace_gateway.errors import Overloaded

SHARES = 2
"""That there are of the room: half of it is left whatever one organisation sends."""

Read = TypeVar("Read")


@dataclass(slots=True)
class Share:
    """What one organisation has of it."""

    taken_bytes: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class LargeBodies:
    def __init__(self, *, bytes_max: int) -> None:
        self._room_bytes = bytes_max
        self._share_bytes = bytes_max // SHARES
        self._shares: dict[str, Share] = {}
        """Of those that have any."""

    @property
    def taken_bytes(self) -> int:
        return sum(share.taken_bytes for share in self._shares.values())

    def take(self, org: str, count: int) -> None:
        """Raises `Overloaded`."""
        if count > self._room_bytes:
            raise Overloaded("This gateway holds as many large bodies as it can.")
        share = self._shares.get(org) or Share()
        if share.taken_bytes + count > self._share_bytes:
            raise Overloaded("This gateway holds as many large bodies of your organisation as it can.")
        self._room_bytes -= count
        share.taken_bytes += count
        self._shares[org] = share

    def give_back(self, org: str, count: int) -> None:
        self._room_bytes += count
        share = self._shares[org]
        share.taken_bytes -= count
        assert share.taken_bytes >= 0, f"{org} gives back more than it took"
        if not share.taken_bytes:
            del self._shares[org]

    async def read(self, org: str, body: bytes, decode: Callable[[bytes], Read]) -> Read:
        """It may take some tenths of a second, and others' tokens wait for no more of them than they must: so a thread does it.

        Of one organisation one at a time, so that whoever sends many does not take all threads.
        """
        share = self._shares.get(org) or Share()
        async with share.turn:
            return await asyncio.to_thread(decode, body)
