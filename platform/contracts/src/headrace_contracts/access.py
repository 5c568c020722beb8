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
    INPUT_TOKENS_PER_MINUTE = "input_tokens_per_minute"  # those that no cache had
    CACHED_TOKENS_PER_MINUTE = "cached_tokens_per_minute"
    OUTPUT_TOKENS_PER_MINUTE = "output_tokens_per_minute"
    CONCURRENCY = "concurrency"
    WINDOW = "window"  # what a plan allows in a span of time, as `Limit.window` says
    # Ceilings in micro-units of the project's currency.
    SPEND_DAY = "spend_day"  # by UTC's day of the admission
    SPEND_MONTH = "spend_month"  # by UTC's month of the admission
    SPEND_TOTAL = "spend_total"  # never reset


BUDGETS = frozenset({LimitKind.SPEND_DAY, LimitKind.SPEND_MONTH, LimitKind.SPEND_TOTAL})


class WindowShape(StrEnum):
    FIXED = "fixed"  # empties at once, every `seconds` after the anchor
    SLIDING = "sliding"  # what was used comes back `seconds` later


class WindowUnit(StrEnum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    CREDITS = "credits"  # ceiling in micro-credits


class CreditWeights(msgspec.Struct, frozen=True, kw_only=True):
    """Credits per 1,000,000 tokens, as decimal strings."""

    input: str
    cached: str
    output: str


class HourRate(msgspec.Struct, frozen=True, kw_only=True):
    """What credits are multiplied by in some hours of a week, at a fixed distance from UTC."""

    weekdays: list[int]
    """0 is Monday."""
    begins_minute: int
    ends_minute: int
    """Exclusive."""
    utc_offset_minutes: int
    rate: str


ANY_MODEL = "*"


class Window(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    seconds: int
    shape: WindowShape
    unit: WindowUnit
    anchor_us: int = 0
    """When a fixed window began, once; the others follow from it."""
    weights: dict[str, CreditWeights] = {}
    """For credits, by the model served; `ANY_MODEL` is there for those not named."""
    rate: str = "1"
    rates: list[HourRate] = []
    """The first that holds an instant replaces `rate` there."""


class Limit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    kind: LimitKind
    ceiling: int
    model: str | None = None
    """Counts requests to this model served alone; null counts all."""
    window: Window | None = None
    pays: bool = False
    """A plan's window: it counts what it pays for, and no request that something else pays for."""
    stop: bool = False
    """Of a window of tokens or credits: once it is used up streams that run end too, and not only new requests are refused."""


class KeyStatus(StrEnum):
    ACTIVE = "active"
    REVOKED = "revoked"


class KeyScope(StrEnum):
    INFERENCE = "inference"  # whatever makes an engine work: generation, counting of tokens
    MODELS_READ = "models:read"
    USAGE_READ = "usage:read"  # what was used and what it cost, in the key's project
    TASKS = "tasks"  # opening tasks, reporting their outcomes, reading both


class Priority(StrEnum):
    """Whose turn comes first where requests wait for a deployment."""

    INTERACTIVE = "interactive"
    BATCH = "batch"  # after everything interactive, whoever's it is


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """At `channels.key(sha256 of the secret)`."""

    id: str
    project: str
    status: KeyStatus
    expires_at_us: int | None = None
    models: list[str] | None = None
    """Models that the key may name; null means all of its project's."""
    limits: list[Limit] = []
    scopes: list[KeyScope] | None = None
    """What it may be used for; null means everything that keys may."""
    allowed_cidrs: list[str] | None = None
    """Networks that it may be used from; null means all of its project's."""
    priority: Priority = Priority.INTERACTIVE
    fallback_models: list[str] | None = None
    """Models, in order, that may answer when the one asked for can't; null means its project's."""


class ProjectRecord(msgspec.Struct, frozen=True, kw_only=True):
    """At `channels.project(id)`. A plan that is in force stands in it: its limits among the others, its windows as who pays."""

    id: str
    org: str
    wallet: str
    currency: str
    disposition: Disposition
    status: KeyStatus = KeyStatus.ACTIVE
    models: list[str] | None = None
    allowed_cidrs: list[str] | None = None
    """Networks that its keys may be used from; null means everywhere."""
    org_models: list[str] | None = None
    """Those of its organisation, for all of its projects."""
    plan_models: list[str] | None = None
    """Those of the plan that is in force for it; null means all, or that there is none."""
    limits: list[Limit] = []
    org_limits: list[Limit] = []
    """Those of its organisation, counted over all of its projects."""
    paused: bool = False
    """Its organisation owes too much for too long: no request is taken until it has paid; what runs goes on."""
    price_list: str | None = None
    """Whose prices it pays, for `channels.prices`; null means those of its currency."""
    org_weight: int = 1
    """Its organisation's share of a deployment for which requests wait, beside the others' shares."""
    fallback_models: list[str] = []
    overage: bool = False
    """Of a project that draws from a commitment: once it is used up, requests are `payg`; else they are refused."""


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
    """The most that 1,000,000 tokens can cost by the price book, as decimal strings of at most 12 places.

    An upper bound over its tiers, time windows and service tiers: good for holds and budgets, never for a bill.
    """

    input_uncached: str
    cache_read: str
    cache_write: str
    output: str
    """For visible output and reasoning alike."""


class PriceCard(msgspec.Struct, frozen=True, kw_only=True):
    """At `channels.prices(price list)`: the price-book version in force, by model served."""

    price_book: str
    currency: str
    models: dict[str, ModelPrice]
    batch_models: dict[str, ModelPrice] = {}
    """The most that a request of a batch can cost, where batches have a price of their own."""


decode_key = msgspec.json.Decoder(KeyRecord).decode
decode_project = msgspec.json.Decoder(ProjectRecord).decode
decode_task = msgspec.json.Decoder(TaskRecord).decode
decode_prices = msgspec.json.Decoder(PriceCard).decode
encode_record = msgspec.json.Encoder().encode
