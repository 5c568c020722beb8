"""Lua scripts by their hash: sent in full only when Valkey does not know them (again)."""

import asyncio
import hashlib
from typing import Any

from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyRefused


class Script:
    """One script with the keys that it always gets."""

    def __init__(self, source: str, *, keys: tuple[str, ...]) -> None:
        self._source = source.encode()
        self._sha = hashlib.sha1(self._source, usedforsecurity=False).hexdigest().encode()
        self._keys = (b"%d" % len(keys), *(key.encode() for key in keys))

    async def run(self, valkey: Valkey, *arguments: str | bytes | int) -> Any:
        """Runs it at most once for sure: a lost connection raises, and nothing is sent again."""
        try:
            return await self.send(valkey, *arguments)
        except ValkeyRefused as error:
            if error.code != "NOSCRIPT":
                raise
        return await self.send_whole(valkey, *arguments)

    def send(self, valkey: Valkey, *arguments: str | bytes | int) -> asyncio.Future[Any]:
        """For callers that can't await; they see `NOSCRIPT` and then `send_whole`."""
        return valkey.call(b"EVALSHA", self._sha, *self._keys, *arguments)

    def send_whole(self, valkey: Valkey, *arguments: str | bytes | int) -> asyncio.Future[Any]:
        return valkey.call(b"EVAL", self._source, *self._keys, *arguments)
