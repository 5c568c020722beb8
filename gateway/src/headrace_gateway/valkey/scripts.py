"""Lua scripts by their hash: sent in full only when Valkey does not know them (again)."""

import hashlib
from typing import Any

import hiredis

from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyError, ValkeyRefused
from headrace_gateway.valkey.wire import Then

ARGUMENTS_MAX = 16
"""Of a call that is sent by `send`; an admission has four, a settlement eleven."""


class Script:
    """One script with the keys that it always gets."""

    def __init__(self, source: str, *, keys: tuple[str, ...]) -> None:
        self._keys = (b"%d" % len(keys), *(key.encode() for key in keys))
        self._by_hash = (
            b"EVALSHA",
            hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest().encode(),
        )
        self._whole = (b"EVAL", source.encode())
        # All but the arguments is the same in every call.
        same = b"".join([_bulk(each) for each in (*self._by_hash, *self._keys)])
        count = len(self._by_hash) + len(self._keys)
        self._heads = [b"*%d\r\n%b" % (count + arguments, same) for arguments in range(ARGUMENTS_MAX + 1)]

    async def run(self, valkey: Valkey, *arguments: str | bytes | int) -> Any:
        """Runs it at most once for sure: a lost connection raises, and nothing is sent again."""
        try:
            return await valkey.call(*self._by_hash, *self._keys, *arguments)
        except ValkeyRefused as error:
            if error.code != "NOSCRIPT":
                raise
        return await valkey.call(*self._whole, *self._keys, *arguments)

    def send(self, valkey: Valkey, then: Then, *arguments: bytes) -> None:
        """The same for what every request needs. Raises `ValkeyUnavailable`, and then nothing was sent."""

        def when_known(reply: Any) -> None:
            if not isinstance(reply, ValkeyRefused) or reply.code != "NOSCRIPT":
                then(reply)
                return
            try:
                valkey.send(hiredis.pack_command((*self._whole, *self._keys, *arguments)), then)
            except ValkeyError as error:
                then(error)

        valkey.send(self._heads[len(arguments)] + b"".join([_bulk(each) for each in arguments]), when_known)


def _bulk(argument: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(argument), argument)
