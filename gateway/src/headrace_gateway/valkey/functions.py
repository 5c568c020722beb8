"""Lua functions in Valkey: a library is sent when Valkey does not know it (again), and then called by name.

A script would do anew before each call what all its functions share, and that was a third of its cost.
"""

import hashlib
from collections.abc import Collection, Mapping
from itertools import chain
from typing import Any

import hiredis
import structlog

from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyError, ValkeyRefused
from headrace_gateway.valkey.wire import Then

log = structlog.get_logger()

ARGUMENTS_MAX = 16
"""Of a call that is sent by `send`; an admission has four, a settlement thirteen."""


class Library:
    """Functions of one noun and what stands before them all, which is run once, as Valkey loads them.

    Its name has a digest of its text: gateways of two versions call each their own.
    """

    def __init__(
        self,
        noun: str,
        functions: Mapping[str, str],
        *,
        beginning: str = "",
        even_when_full: Collection[str] = (),
    ) -> None:
        """`functions`: name → body, which finds its arguments in ARGV. No name of a key goes by itself.

        `even_when_full`: those that Valkey also runs when it has no memory left for others.
        """
        text = "\n".join([beginning, *sorted(even_when_full), *chain.from_iterable(functions.items())])
        name = f"headrace_{noun}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        registered = "".join(
            _registered(f"{name}_{function}", body, even_when_full=function in even_when_full)
            for function, body in functions.items()
        )
        load = (b"FUNCTION", b"LOAD", b"REPLACE", f"#!lua name={name}\n{beginning}\n{registered}".encode())
        self._functions = {function: Function(f"{name}_{function}", load=load) for function in functions}

    def __getitem__(self, function: str) -> "Function":
        return self._functions[function]


class Function:
    def __init__(self, name: str, *, load: tuple[bytes, ...]) -> None:
        self._load = load
        self._call = (b"FCALL", name.encode(), b"0")
        # All but the arguments is the same in every call.
        same = b"".join([_bulk(each) for each in self._call])
        self._heads = [b"*%d\r\n%b" % (len(self._call) + count, same) for count in range(ARGUMENTS_MAX + 1)]

    async def run(self, valkey: Valkey, *arguments: str | bytes | int) -> Any:
        """Runs it at most once for sure: a lost connection raises, and nothing is sent again."""
        try:
            return await valkey.call(*self._call, *arguments)
        except ValkeyRefused as error:
            if not error.function_unknown:
                raise
        await valkey.call(*self._load)
        return await valkey.call(*self._call, *arguments)

    def send(self, valkey: Valkey, then: Then, *arguments: bytes) -> None:
        """The same for what every request needs. Raises `ValkeyUnavailable`, and then nothing was sent."""
        packed = self._heads[len(arguments)] + b"".join([_bulk(each) for each in arguments])

        def when_known(reply: Any) -> None:
            if not isinstance(reply, ValkeyRefused) or not reply.function_unknown:
                then(reply)
                return
            try:
                # Where it can't be loaded the call behind it is refused once more.
                valkey.send(hiredis.pack_command(self._load), _note_refusal)
                valkey.send(packed, then)
            except ValkeyError as error:
                then(error)

        valkey.send(packed, when_known)


def _note_refusal(reply: Any) -> None:
    if isinstance(reply, ValkeyRefused):
        log.error("functions_not_loaded", error=str(reply))


def _registered(name: str, body: str, *, even_when_full: bool) -> str:
    flags = "flags = {'allow-oom'}, " if even_when_full else ""
    called = f"function(_, ARGV)\n{body}\nend"
    return f"redis.register_function{{function_name = '{name}', {flags}callback = {called}}}\n"


def _bulk(argument: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(argument), argument)
