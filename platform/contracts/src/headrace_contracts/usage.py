"""`UsageEvent`, the only thing that billing believes about what a request used."""

from enum import IntEnum, StrEnum
from hashlib import sha256

import msgspec


class Grade(IntEnum):
    """How sure an event is. Together with the request's id it is the event's identity."""

    ESTIMATED = 0
    """Written by the reaper for a lease whose gateway stopped answering."""
    FINAL = 1
    """Written by the gateway that served the request."""


class Ending(StrEnum):
    COMPLETED = "completed"
    CLIENT_GONE = "client_gone"  # still billable: what was relayed was generated
    UPSTREAM_FAILED = "upstream_failed"
    BUDGET_STOPPED = "budget_stopped"
    GATEWAY_LOST = "gateway_lost"
    TIMED_OUT = "timed_out"
    WITHHELD = "withheld"  # by a guardrail: billed is what the client was given before


class Disposition(StrEnum):
    """Who pays for a request. Fixed at admission; it never falls through to another."""

    PAYG = "payg"
    PREPAID = "prepaid"
    PLAN_WINDOW = "plan_window"
    COMMITMENT = "commitment"
    OUTCOME_BUNDLED = "outcome_bundled"
    INTERNAL = "internal"
    FREE = "free"


class Dialect(StrEnum):
    OPENAI_CHAT = "openai.chat"
    OPENAI_COMPLETIONS = "openai.completions"
    OPENAI_RESPONSES = "openai.responses"
    OPENAI_EMBEDDINGS = "openai.embeddings"
    OPENAI_TRANSCRIPTIONS = "openai.transcriptions"
    ANTHROPIC_MESSAGES = "anthropic.messages"
    ZAI_CHAT = "zai.chat"
    ZAI_TRANSCRIPTIONS = "zai.transcriptions"
    OUTSIDE = "outside"  # reported by an outside meter, which was asked in whatever way


class ServiceTier(StrEnum):
    """How urgently a request was to be served; a price book may price each differently."""

    STANDARD = "standard"
    BATCH = "batch"  # whenever there is room, for a lower price


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one request in disjoint classes: their sum is what the engine counted, each token once."""

    input_uncached: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output_visible: int = 0
    reasoning: int = 0

    @property
    def input(self) -> int:
        return self.input_uncached + self.cache_read + self.cache_write

    @property
    def output(self) -> int:
        return self.output_visible + self.reasoning

    @property
    def total(self) -> int:
        return self.input + self.output


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What one request used. Identity: (`id`, `grade`). Times are microseconds since the Unix epoch, UTC.

    `producer`, `boot` and `sequence` are the journal's: sequences of one (producer, boot) are contiguous
    from 1, so a gap is visible. An estimated event is in no journal and carries sequence 0.
    """

    id: str
    grade: Grade
    producer: str
    boot: str
    sequence: int

    org: str
    project: str
    key: str
    wallet: str
    currency: str

    deployment: str
    model_requested: str
    model_served: str
    dialect: Dialect
    session: str | None = None
    task: str | None = None
    task_attempt: str | None = None

    received_at_us: int
    first_token_at_us: int | None = None
    finished_at_us: int
    ending: Ending

    attempts: int = 1
    """Upstream attempts. Attempt n is known to the engine as `<id>.<n>`, n from 1; 0 never reached it."""

    tokens: TokenCounts
    other_units: dict[str, int] = {}
    engine_usage: msgspec.Raw = msgspec.Raw(b"null")
    """The engine's own last usage object, as it was sent; JSON null where it sent none."""

    price_book: str
    disposition: Disposition
    service_tier: ServiceTier = ServiceTier.STANDARD

    revision: str | None = None
    """Of the model served."""
    end_user: str | None = None
    """`end_user_of` the id that the client gave of its own user; null where it gave none."""
    trace: str | None = None
    """W3C's trace id, in hexadecimal; null where the trace began with this request: see `trace_id`."""
    witnessed: bool = True
    """Whether the deployment's engine is one that says what it yielded; see `EngineRecord`."""

    @property
    def trace_id(self) -> str:
        """Under which a collector has the request, if it has it."""
        return self.trace or trace_of(self.id)


END_USER_CHARACTERS = 32


def end_user_of(org: str, named: str) -> str:
    """What stands for a customer's own user: the same for the same id, of one length, and no name or address.

    The customer, who has the ids, can work it out as well: SHA-256 of its organisation's id, a colon and the id.
    """
    return sha256(f"{org}:{named}".encode("utf-8", "surrogatepass")).hexdigest()[:END_USER_CHARACTERS]


def trace_of(request_id: str) -> str:
    """The id of the trace that begins with a request: the same 128 bits."""
    return request_id.replace("-", "")


def attempt_id(request_id: str, attempt: int) -> str:
    """The id under which the engine knows the n-th upstream attempt (n from 1) of a request."""
    assert attempt >= 1, attempt
    return f"{request_id}.{attempt}"


def request_of_attempt(attempt: str) -> str:
    """The request id of an `attempt_id`."""
    return attempt.rpartition(".")[0]


encode_event = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(UsageEvent).decode
