"""The records that billing pushes to Valkey, kept by version so that a request need not read them.

What must stay true: a cached record is only ever used together with the admit script's comparison of its
version, and what is not there is never remembered. Secrets are hashed on entry; nothing here keeps or
shows one.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
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

OF_MANY = (channels.project(""), channels.prices(""))
"""Records that many keys' requests are judged by."""


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
    batch_models: dict[str, UnitPrices]
    """Those whose batches have a price of their own."""

    def of(self, model: str, *, batched: bool) -> UnitPrices:
        """Raises `KeyError` for a model without a price."""
        prices = self.models[model]
        return self.batch_models.get(model, prices) if batched else prices


class Standing(msgspec.Struct, frozen=True):
    """All that a request is judged by, as it stood when last read."""

    key: Versioned[KeyRecord]
    project: Versioned[ProjectRecord]
    task: Versioned[TaskRecord] | None
    prices: Versioned[Prices]
    records: tuple[Versioned[Any], ...]
    """All of them."""
    prepared: dict[Hashable, Any] = msgspec.field(default_factory=dict)
    """What was worked out from these records alone, for the next request that is judged by them."""


class Directory:
    def __init__(self, valkey: Valkey, *, entries_max: int = ENTRIES_MAX) -> None:
        self._valkey = valkey
        self._entries_max = entries_max
        self._entries: OrderedDict[str, Versioned[Any]] = OrderedDict()
        self._standings: dict[str, Standing] = {}
        """Of requests without a task, by key: never of a record that is no longer an entry."""

    async def standing(self, key_hash: str, task: str | None, *, stale: Iterable[str] = ()) -> Standing:
        """The records of a request; those named by `stale` (hash keys) are read anew. `key_hash`: `key_of`.

        Raises `Unauthenticated` for an unknown key only while Valkey is warm.
        """
        for hash_key in stale:
            self._drop(hash_key)
        if task is None and (known := self._known_standing(key_hash)) is not None:
            return known
        key, project = await self.owner(key_hash)
        place = channels.prices(project.record.price_list or project.record.currency)
        prices = self._known(place) or await self._required(place, _decode_prices)
        if task is None:
            standing = Standing(key, project, None, prices, records=(key, project, prices))
            if all(self._entries.get(record.hash_key) is record for record in standing.records):
                self._standings[key_hash] = standing
            return standing
        bundled = await self._find(channels.task(task), decode_task)
        with_task = () if bundled is None else (bundled,)
        return Standing(key, project, bundled, prices, records=(key, project, prices, *with_task))

    async def owner(
        self, key_hash: str, *, stale: Iterable[str] = ()
    ) -> tuple[Versioned[KeyRecord], Versioned[ProjectRecord]]:
        """Whose key it is."""
        for hash_key in stale:
            self._drop(hash_key)
        known = self.known_owner(key_hash)
        if known is not None:
            return known
        key = await self._find(key_hash, decode_key)
        if key is None:
            raise Unauthenticated("The API key is unknown.")
        return key, await self._required(channels.project(key.record.project), decode_project)

    def known_owner(self, key_hash: str) -> tuple[Versioned[KeyRecord], Versioned[ProjectRecord]] | None:
        """The same, where nothing has to be read: what nearly every request needs, at a third of the cost."""
        standing = self._known_standing(key_hash)
        if standing is not None:
            return standing.key, standing.project
        key = self._known(key_hash)
        project = None if key is None else self._known(channels.project(key.record.project))
        return None if key is None or project is None else (key, project)

    def _known_standing(self, key_hash: str) -> Standing | None:
        standing = self._standings.get(key_hash)
        if standing is not None:
            for record in standing.records:
                self._entries.move_to_end(record.hash_key)
        return standing

    def _drop(self, hash_key: str) -> None:
        self._entries.pop(hash_key, None)
        if hash_key.startswith(OF_MANY):
            # Which standings have it is not worth remembering, as these records change seldom.
            self._standings.clear()
        else:
            self._standings.pop(hash_key, None)

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
            self._drop(next(iter(self._entries)))
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
        batch_models={model: parse_prices(price) for model, price in card.batch_models.items()},
    )
