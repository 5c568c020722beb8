"""What goes on for long by a key without having been admitted: it waits for a slot, sends a long body, loads a file."""

import asyncio
from collections.abc import Sequence
from typing import Any

from headrace_gateway.keys.directory import Versioned


class Watch:
    """Ended with its key, as running requests are. Implements `call.Watch`."""

    __slots__ = ("records", "revoked")

    def __init__(self, records: Sequence[Versioned[Any]]) -> None:
        self.records = records
        """Those whose change may end it: its key and its project."""
        self.revoked = asyncio.Event()

    def expired(self, now_us: int) -> bool:
        return key_expired(self.records, now_us)

    def end(self) -> None:
        self.revoked.set()


def key_expired(records: Sequence[Versioned[Any]], now_us: int) -> bool:
    """Whether the key has that is the first of them."""
    expires_at_us: int | None = records[0].record.expires_at_us
    return expires_at_us is not None and expires_at_us <= now_us
