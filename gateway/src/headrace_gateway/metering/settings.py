"""What metering can be told, each with its unit and the reason for its default."""

from dataclasses import dataclass
from pathlib import Path

from headrace_gateway.limits.idempotency import ANSWER_BOUNDS, AnswerBounds
from headrace_gateway.metering.segments import RECORD_BYTES_MAX

# The journal remembers for two minutes when what was appended (`journal.MARKS_MAX`).
RESEND_AFTER_SECONDS_MAX = 60.0


@dataclass(frozen=True, kw_only=True)
class MeterSettings:
    name: str
    """The gateway's (a pod's) name; its workers are the producers `<name>-<n>`."""
    state_dir: Path
    """Journals and in-flight tables. Must outlive the process, and be of one gateway alone."""
    valkey_url: str
    billing_url: str
    ingest_token: str

    valkey_timeout_seconds: float = 2.0
    """A script takes well under a millisecond; longer is an outage, and the client should hear of it."""
    lease_ttl_seconds: float = 5.0
    """Four heartbeats may be missed before a gateway counts as lost."""
    heartbeat_seconds: float = 1.0
    """Bounds what an estimate can miss of a lost gateway's streams."""
    slice_tokens: int = 256
    """Output that one hold covers: a few seconds of a stream, so that little money is pinned and calls are rare."""
    trust_tokens: int = 4096
    """What a running stream that no wallet or budget bounds may generate while Valkey is away: half a minute of a fast
    one."""
    stand_still_seconds: float = 20.0
    """How long one that a wallet or budget does bound waits for Valkey at the end of its slice: as long as an emptied one
    takes to be loaded. Beyond its hold it would spend what another may hold."""
    settle_wait_seconds: float = 0.25
    """How long a client waits for its settlement before that is finished behind it."""
    inflight_slots: int = 1024
    """Requests at once in one worker; one core relays far fewer streams."""
    segment_bytes: int = 16 * 2**20
    """Space allocated at a time; also how much must be acknowledged before any is freed."""
    journal_bytes_max: int = 256 * 2**20
    """Some 300,000 events: how long billing may be away under load before requests are refused."""
    resend_after_seconds: float = 10.0
    """Unacknowledged for so long means that the stream lost it."""
    answers: AnswerBounds = ANSWER_BOUNDS
    """What is kept in Valkey of answers to be given again."""

    def __post_init__(self) -> None:
        # Each of these would show only under load, or never until a crash.
        check_journal(self.inflight_slots, self.segment_bytes, self.journal_bytes_max)
        if self.heartbeat_seconds * 2 > self.lease_ttl_seconds:
            raise ValueError("lease_ttl_seconds: at least two heartbeats")
        if self.resend_after_seconds > RESEND_AFTER_SECONDS_MAX:
            raise ValueError(f"resend_after_seconds: at most {RESEND_AFTER_SECONDS_MAX}")
        if self.slice_tokens < 1:
            raise ValueError("slice_tokens: at least 1")

    def __repr__(self) -> str:
        return f"MeterSettings(name={self.name!r}, state_dir={str(self.state_dir)!r})"  # never token or URLs


def check_journal(inflight_slots: int, segment_bytes: int, journal_bytes_max: int) -> None:
    """Raises `ValueError` where the requests that may run at once could not all be journalled."""
    if inflight_slots * RECORD_BYTES_MAX > 2 * (segment_bytes - RECORD_BYTES_MAX):
        raise ValueError("segment_bytes: two segments must take an event of every slot")
    if journal_bytes_max < 2 * segment_bytes:
        raise ValueError("journal_bytes_max: at least two segments")
