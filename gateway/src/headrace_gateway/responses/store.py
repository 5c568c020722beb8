"""Responses that clients refer to later: in Valkey, so that any gateway finds them, and within bounds.

What must stay true: a response is found by its own project alone; what is kept never grows past its bounds,
because the same Valkey holds the limits; and losing any of it costs a client no more than sending its
conversation again.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec
import structlog

from headrace_gateway.errors import LimitsUnavailable
from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyError
from headrace_gateway.valkey.functions import Library

log = structlog.get_logger()

LIFE_SECONDS = 24 * 3600
DOCUMENT_BYTES_MAX = 1024 * 1024
"""A conversation of a quarter of a million tokens; a longer one is better kept by its client."""
WAIT_SECONDS = 0.25
"""How long the end of an answer waits until it is kept: Valkey takes a millisecond, or is not well."""
ITEMS_MAX = 256
"""Of one response that are found by their ids. Each is a key; an answer has a few."""

ITEM_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)


class Owner(msgspec.Struct, frozen=True):
    """Within whose project a response is found, and within whose organisation's bounds it is kept."""

    org: str
    project: str


class Stored(msgspec.Struct, frozen=True):
    response: msgspec.Raw
    """As the client got it."""
    items: list[msgspec.Raw]
    """The whole conversation up to and with it, as a later request's input begins."""


class Item(msgspec.Struct):
    id: Any = None


@dataclass(frozen=True, slots=True)
class StoreBounds:
    org_bytes_max: int
    all_bytes_max: int


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Stored).decode
_item = msgspec.json.Decoder(Item).decode


class ResponseStore:
    def __init__(
        self,
        valkey: Valkey,
        *,
        bounds: StoreBounds,
        life_seconds: float = LIFE_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._valkey = valkey
        self._wait_seconds = wait_seconds
        self._bounds = (bounds.org_bytes_max, bounds.all_bytes_max)
        self.lost = 0
        """Of all that were kept: how many made room for others before their time, and no later one has all they had."""
        self._life_ms = round(life_seconds * 1000)
        body = (files("headrace_gateway.responses") / "store.lua").read_text()
        self._keep_or_forget = Library("responses", {"store": body})["store"]

    async def keep(
        self,
        owner: Owner,
        response_id: str,
        stored: Stored,
        *,
        previous: str | None = None,
        output: Sequence[msgspec.Raw] = (),
    ) -> None:
        """`previous`: the response that it goes on from, and has all of. `output`: those of its items that are new with
        it, and found by their ids from now on.

        Fails silently but for the log: the client has its answer either way.
        """
        document = _encode(stored)
        if len(document) > DOCUMENT_BYTES_MAX:
            log.info("response_too_large_to_keep", response=response_id, size_bytes=len(document))
            return
        try:
            before = "" if previous is None else _key(owner.project, previous)
            async with asyncio.timeout(self._wait_seconds):
                self.lost += await self._run(owner, response_id, document, before, *_ids_of(output))
        except TimeoutError:
            # It is sent: where Valkey only was slow, it is kept a moment later.
            log.warning("response_kept_late", response=response_id)
        except ValkeyError as error:
            log.warning("response_not_kept", response=response_id, error=str(error))

    async def find(self, project: str, response_id: str) -> Stored | None:
        try:
            document = await self._valkey.call("GET", _key(project, response_id))
        except ValkeyError as error:
            raise LimitsUnavailable("Stored responses can't be read at the moment.") from error
        return None if document is None else _decode(document)

    async def items(self, project: str, item_ids: Sequence[str]) -> dict[str, msgspec.Raw]:
        """Those of them that kept responses have, by their ids.

        The last is looked for first: a conversation's last response nearly always has all of them.
        """
        wanted = [each for each in item_ids if ITEM_ID.fullmatch(each)]
        if not wanted:
            return {}
        try:
            holders = await self._valkey.call("MGET", *[_item_key(project, each) for each in wanted])
        except ValkeyError as error:
            raise LimitsUnavailable("Stored responses can't be read at the moment.") from error
        held = {each: holder.decode() for each, holder in zip(wanted, holders, strict=True) if holder}
        found: dict[str, msgspec.Raw] = {}
        seen: set[str] = set()
        for item_id, holder in reversed(held.items()):
            if item_id in found or holder in seen:
                continue
            seen.add(holder)
            stored = await self.find(project, holder)
            for raw in () if stored is None else stored.items:
                if (name := _item(raw).id) in held:
                    found.setdefault(name, raw)
        return found

    async def forget(self, owner: Owner, response_id: str) -> bool:
        """Whether there was one."""
        try:
            return bool(await self._run(owner, response_id, b""))
        except ValkeyError as error:
            raise LimitsUnavailable("Stored responses can't be reached at the moment.") from error

    async def _run(
        self, owner: Owner, response_id: str, document: bytes, previous: str = "", *item_ids: str
    ) -> int:
        answer: int = await self._keep_or_forget.run(
            self._valkey,
            _key(owner.project, response_id),
            document,
            self._life_ms,
            owner.org,
            *self._bounds,
            previous,
            *item_ids,
        )
        return answer


def _key(project: str, response_id: str) -> str:
    return f"hr:response:{project}:{response_id}"


def _item_key(project: str, item_id: str) -> str:
    return f"hr:responses:item:{project}:{item_id}"


def _ids_of(output: Sequence[msgspec.Raw]) -> list[str]:
    names = [_item(raw).id for raw in output[:ITEMS_MAX]]
    return [name for name in names if isinstance(name, str) and ITEM_ID.fullmatch(name)]
