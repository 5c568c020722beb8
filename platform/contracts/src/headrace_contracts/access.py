"""What the control API pushes to Valkey, and a gateway admits by: keys, projects, tasks, prices.

Each record stands in a Valkey hash with two fields: `v`, its version (an integer that only grows), and
`r`, the record as JSON. A gateway caches records by version; the admit script compares the versions that
the gateway used with those that stand, so that a change holds from the next request on.
"""

from enum import StrEnum

import msgspec

from headrace_contracts.usage import Disposition


class LimitKind(StrEnum):
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    CONCURRENCY = "concurrency"
    SPEND_TOTAL = "spend_total"  # ceiling in micro-units of the wallet's currency, never reset


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    kind: LimitKind
    ceiling: int


class KeyStatus(StrEnum):
    ACTIVE = "active"
    REVOKED = "revoked"


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """At `channels.key(sha256 of the secret)`."""

    id: str
    project: str
    status: KeyStatus
    expires_at_us: int | None = None
    models: list[str] | None = None
    """Models that the key may name; null means all of its project's."""
    limits: list[Limit] = []


class ProjectRecord(msgspec.Struct, frozen=True, kw_only=True):
    """At `channels.project(id)`."""

    id: str
    org: str
    wallet: str
    currency: str
    disposition: Disposition
    status: KeyStatus = KeyStatus.ACTIVE
    models: list[str] | None = None
    limits: list[Limit] = []


class TaskStatus(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """At `channels.task(id)`. Requests that name an open task of their project are `outcome_bundled`."""

    id: str
    project: str
    status: TaskStatus
    cost_guard_micros: int
    """List price that the requests of the task may reach together, in micro-units of its currency."""


class ModelPrice(msgspec.Struct, frozen=True, kw_only=True):
    """Prices per 1,000,000 tokens as decimal strings of at most 12 places, as in the price book."""

    input_uncached: str
    cache_read: str
    cache_write: str
    output: str
    """For visible output and reasoning alike."""


class PriceCard(msgspec.Struct, frozen=True, kw_only=True):
    """At `channels.prices(currency)`: the price-book version in force, by model served."""

    price_book: str
    currency: str
    models: dict[str, ModelPrice]


decode_key = msgspec.json.Decoder(KeyRecord).decode
decode_project = msgspec.json.Decoder(ProjectRecord).decode
decode_task = msgspec.json.Decoder(TaskRecord).decode
decode_prices = msgspec.json.Decoder(PriceCard).decode
encode_record = msgspec.json.Encoder().encode
