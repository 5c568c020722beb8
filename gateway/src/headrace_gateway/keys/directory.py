"""The records that billing pushes to Valkey, kept by version so that a request need not read them.

What must stay true: a cached record is only ever used together with the admit script's comparison of its
version, and what is not there is never remembered. Secrets are hashed on entry; nothing here keeps or
shows one.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from headrace_contracts import channels
from headrace_contracts.access import (
    KeyRecord,
    PriceCard,
    ProjectRecord,
    TaskRecord,
    decode_key,
    decode_prices,
    decode_project,
    decode_task,
)
from headrace_gateway.errors import LimitsRebuilding, LimitsUnavailable, Unauthenticated
from headrace_gateway.limits.pricing import UnitPrices, parse_prices
from headrace_gateway.valkey.connection import Valkey
from headrace_gateway.valkey.errors import ValkeyError

log = structlog.get_logger()

Record = TypeVar("Record")

ENTRIES_MAX = 50_000  # some 1 KiB each: 50 MB when full
SECRET_BYTES_MAX = 256  # ours have 46; nothing longer is worth a hash


@dataclass(frozen=True, slots=True)
class Versioned(Generic[Record]):
    hash_key: str
    version: str
    record: Record


@dataclass(frozen=True, slots=True)
class Prices:
    """A price card, its prices parsed once."""

    price_book: str
    models: dict[str, UnitPrices]


@dataclass(frozen=True, slots=True)
class Standing:
    """All that a request is judged by, as it stood when last read."""

    key: Versioned[KeyRecord]
    project: Versioned[ProjectRecord]
    task: Versioned[TaskRecord] | None
    prices: Versioned[Prices]

    @property
    def records(self) -> tuple[Versioned[Any], ...]:
        with_task = () if self.task is None else (self.task,)
        return (self.key, self.project, self.prices, *with_task)


class Directory:
    def __init__(self, valkey: Valkey, *, entries_max: int = ENTRIES_MAX) -> None:
        self._valkey = valkey
        self._entries_max = entries_max
        self._entries: OrderedDict[str, Versioned[Any]] = OrderedDict()

    async def standing(self, key_hash: str, task: str | None, *, stale: Iterable[str] = ()) -> Standing:
        """The records of a request; those named by `stale` (hash keys) are read anew. `key_hash`: `key_of`.

        Raises `Unauthenticated` for an unknown key only while Valkey is warm.
        """
        key, project = await self.owner(key_hash, stale=stale)
        place = channels.prices(project.record.price_list or project.record.currency)
        prices = self._known(place) or await self._required(place, _decode_prices)
        bundled = None if task is None else await self._find(channels.task(task), decode_task)
        return Standing(key=key, project=project, task=bundled, prices=prices)

    async def owner(
        self, key_hash: str, *, stale: Iterable[str] = ()
    ) -> tuple[Versioned[KeyRecord], Versioned[ProjectRecord]]:
        """Whose key it is."""
        for hash_key in stale:
            self._entries.pop(hash_key, None)
        known = self.known_owner(key_hash)
        if known is not None:
            return known
        key = await self._find(key_hash, decode_key)
        if key is None:
            raise Unauthenticated("The API key is unknown.")
        return key, await self._required(channels.project(key.record.project), decode_project)

    def known_owner(self, key_hash: str) -> tuple[Versioned[KeyRecord], Versioned[ProjectRecord]] | None:
        """The same, where nothing has to be read: what nearly every request needs, at a third of the cost."""
        key = self._known(key_hash)
        project = None if key is None else self._known(channels.project(key.record.project))
        return None if key is None or project is None else (key, project)

    def _known(self, hash_key: str) -> Versioned[Any] | None:
        entry = self._entries.get(hash_key)
        if entry is not None:
            self._entries.move_to_end(hash_key)
        return entry

    async def _required(self, hash_key: str, decode: Callable[[bytes], Record]) -> Versioned[Record]:
        found = await self._find(hash_key, decode)
        if found is None:
            # Billing pushes these before the key that leads to them, so this is our fault, and passes.
            log.error("record_missing", hash_key=hash_key)
            raise LimitsUnavailable("The account's records are not complete yet.")
        return found

    async def _find(self, hash_key: str, decode: Callable[[bytes], Record]) -> Versioned[Record] | None:
        entry = self._known(hash_key)
        if entry is not None:
            return entry
        try:
            # Together, so that a Valkey that is flushed and reloaded in between can't be taken for warm.
            record, epoch = await asyncio.gather(
                self._valkey.call(b"HMGET", hash_key, b"v", b"r"), self._valkey.call(b"GET", channels.EPOCH)
            )
        except ValkeyError as error:
            raise LimitsUnavailable("Limits can't be checked at the moment.") from error
        if record[0] is None or record[1] is None:
            if epoch is None:
                raise LimitsRebuilding("Limits are being rebuilt.")
            return None
        entry = Versioned(hash_key=hash_key, version=record[0].decode(), record=decode(record[1]))
        self._entries[hash_key] = entry
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
        return entry


def key_of(secret: str) -> str:
    """The hash key of a secret's record."""
    encoded = secret.encode("utf-8", "surrogatepass")
    if not secret or len(encoded) > SECRET_BYTES_MAX:
        raise Unauthenticated("The API key is unknown.")
    return channels.key(hashlib.sha256(encoded).hexdigest())


def _decode_prices(record: bytes) -> Prices:
    card: PriceCard = decode_prices(record)
    return Prices(
        price_book=card.price_book,
        models={model: parse_prices(price) for model, price in card.models.items()},
    )
