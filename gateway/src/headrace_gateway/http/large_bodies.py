"""Large bodies: how much of memory all of one worker may take together, and those of one organisation.

What must stay true: only who has a key takes room, and no more than its organisation's share of it; who gets none is
told to come back.
"""

from headrace_gateway.errors import Overloaded

SHARES = 2
"""That there are of the room: half of it is left whatever one organisation sends."""


class LargeBodies:
    def __init__(self, *, bytes_max: int) -> None:
        self._room_bytes = bytes_max
        self._share_bytes = bytes_max // SHARES
        self._taken_bytes: dict[str, int] = {}

    @property
    def taken_bytes(self) -> int:
        return sum(self._taken_bytes.values())

    def take(self, org: str, count: int) -> None:
        """Raises `Overloaded`."""
        if count > self._room_bytes:
            raise Overloaded("This gateway holds as many large bodies as it can.")
        taken = self._taken_bytes.get(org, 0) + count
        if taken > self._share_bytes:
            raise Overloaded("This gateway holds as many large bodies of your organisation as it can.")
        self._room_bytes -= count
        self._taken_bytes[org] = taken

    def give_back(self, org: str, count: int) -> None:
        self._room_bytes += count
        left = self._taken_bytes.pop(org) - count
        assert left >= 0, f"{org} gives back more than it took"
        if left:
            self._taken_bytes[org] = left
