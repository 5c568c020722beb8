"""What is known when a run has come to rest: of the engine, the books, Valkey, the clients. Frozen, for the audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace_contracts.usage import Ending, Grade
from tests.chaos.schedule import Kind, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An attempt as the engine saw it."""

    attempt: str
    visit: int
    prompt: int
    output: int
    ending: str
    began_at_us: int
    ended_at_us: int | None

    @property
    def request(self) -> str:
        return self.attempt.partition(".")[0]

    @property
    def number(self) -> int:
        return int(self.attempt.partition(".")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A usage event as billing stored it."""

    id: str
    grade: Grade
    ending: Ending
    key: str
    wallet: str
    org: str
    attempts: int
    input: int
    output: int
    cost_nanos: int
    """Its tokens at the price book's prices; these come out whole."""
    received_at_us: int
    finished_at_us: int
    batch: int = 0
    """With which others it was ingested."""
    stored_at_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a client got for one request."""

    visit: int
    gateway: int
    sent_at_us: int
    request: str | None = None
    status: int | None = None
    """Null when no answer came."""
    answered_at_us: int | None = None
    code: str | None = None
    frames: int = 0
    tokens: int | None = None
    """Output tokens of an answer that came whole; else null."""
    how: str = ""
    has_key: bool = False
    """Whether it was sent with the visit's idempotency key."""

    @property
    def admitted(self) -> bool:
        return self.status == 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    role: Role
    org: str
    wallet: str
    keys: Sequence[str]
    concurrency: int | None = None
    budget_micros: int | None = None
    requests_per_minute: int | None = None
    window_requests: int | None = None
    window_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Befallen:
    """A fault as it was carried out."""

    number: int
    kind: Kind
    target: str
    began_at_us: int
    lifted_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdraft:
    """Usage that a wallet's credit did not reach for, also where a later top-up repaid it."""

    wallet: str
    nanos: int
    batch: int
    posted_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """One wallet in both places. Micro-units in Valkey, nano-units in the ledger."""

    id: str
    balance_nanos: int
    balance_micros: int
    held_micros: int
    pending_micros: int
    pending_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    served: Sequence[Served] = ()
    events: Sequence[Event] = ()
    replies: Sequence[Reply] = ()
    customers: Sequence[Customer] = ()
    wallets: Sequence[Wallet] = ()
    overdrafts: Sequence[Overdraft] = ()
    befallen: Sequence[Befallen] = ()
    conflicts: Sequence[str] = ()
    quarantined: Sequence[str] = ()
    """Reasons."""
    journal_gaps: Sequence[str] = ()
    posted_nanos: Mapping[str, int] = field(default_factory=dict)
    """Usage in the ledger, by organisation."""
    rollup_requests: int | None = None
    leases: Sequence[str] = ()
    """Requests that Valkey still believes to run."""
    gauges: Mapping[str, int] = field(default_factory=dict)
    """Counters of what runs at once that are not zero."""
    left_in_state: Sequence[str] = ()
    """Journals and in-flight tables that a clean end left behind."""
    revoked_at_us: Mapping[str, int] = field(default_factory=dict)
    """When the revocation of a key was confirmed."""
    reconciliation: str = "green"
    reconciliation_reasons: Sequence[str] = ()
    unrest: Sequence[str] = ()
    """What had not come to rest when the wait for it was over."""
