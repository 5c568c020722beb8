"""What arrives: an event with everything known of it before a database is asked, or the reason why it is none.

An event that can't be stored still counts as received in its journal, or the gateway would send it forever.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from headrace_billing.ingest.fingerprint import fingerprint
from headrace_contracts.usage import Disposition, Grade, UsageEvent, decode_event

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""A UUID as it is written canonically: one request has one id."""

# Far beyond any engine, and far from where sums of a month could overflow.
TOKENS_MAX = 10**12
ATTEMPTS_MAX = 10**6
SEQUENCE_MAX = 2**62
# Twice what gateways accept, and well below what an index can hold: rollups are found by session, task and end user.
LABEL_BYTES_MAX = 256
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST_US = (datetime(2024, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
LATEST_US = (datetime(2200, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND

PAID_AHEAD = frozenset({Disposition.PREPAID, Disposition.COMMITMENT})
"""Burnt from a wallet as it is used; an invoice shows it and collects nothing for it."""
CHARGED = PAID_AHEAD | {Disposition.PAYG}
UNCHARGED = frozenset(
    {Disposition.OUTCOME_BUNDLED, Disposition.PLAN_WINDOW, Disposition.INTERNAL, Disposition.FREE}
)
"""Rolled up at list price, so that margin is visible, and never posted."""
assert set(Disposition) == CHARGED | UNCHARGED, "who pays decides whether it is posted"


class Place(NamedTuple):
    """Where in which journal an event stands."""

    producer: str
    boot: str
    sequence: int


class Identity(NamedTuple):
    request: str
    grade: Grade


class Usage(NamedTuple):
    """An event whose fields make sense by themselves."""

    event: UsageEvent
    payload_hash: bytes

    @property
    def id(self) -> str:
        """A UUID as it is written canonically."""
        return self.event.id

    @property
    def identity(self) -> Identity:
        return Identity(self.event.id, self.event.grade)


class Arrival(NamedTuple):
    raw: bytes
    usage: Usage | None
    refusal: str | None
    """Why there is no usage in it."""
    place: Place | None
    entry: str | None = None
    """Its id in the stream, if it came that way."""


def read(raw: bytes, *, entry: str | None = None) -> Arrival:
    """Never raises: whatever is wrong is the arrival's `refusal`."""
    try:
        event = decode_event(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Arrival(raw, None, f"undecodable: {error}"[:500], _place_in_the_ruins(raw), entry)
    place = _place(event.producer, event.boot, event.sequence) if event.grade is Grade.FINAL else None
    refusal = _refusal(event)
    if refusal is not None:
        return Arrival(raw, None, refusal, place, entry)
    return Arrival(raw, Usage(event, fingerprint(event)), None, place, entry)


def instant(microseconds: int) -> datetime:
    """Exact; the plain constructor would go through a float."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def _refusal(event: UsageEvent) -> str | None:
    if ID.fullmatch(event.id) is None:
        return "id_is_no_uuid"
    if event.grade is Grade.FINAL and not 1 <= event.sequence <= SEQUENCE_MAX:
        return "sequence_out_of_range"
    if not (
        plausible(event.received_at_us)
        and plausible(event.finished_at_us)
        and (event.first_token_at_us is None or plausible(event.first_token_at_us))
    ):
        return "time_out_of_range"
    counts = msgspec.structs.astuple(event.tokens)
    if min(counts) < 0 or max(counts) > TOKENS_MAX or not 0 <= event.attempts <= ATTEMPTS_MAX:
        return "count_out_of_range"
    if any(_too_long(label) for label in (event.session, event.task, event.end_user)):
        return "label_too_long"
    return None


def _too_long(label: str | None) -> bool:
    return label is not None and len(label.encode()) > LABEL_BYTES_MAX


def plausible(microseconds: int) -> bool:
    return EARLIEST_US <= microseconds < LATEST_US


def _place(producer: object, boot: object, sequence: object) -> Place | None:
    if isinstance(producer, str) and isinstance(boot, str) and isinstance(sequence, int):
        printable = producer.isprintable() and boot.isprintable()
        if printable and not isinstance(sequence, bool) and 1 <= sequence <= SEQUENCE_MAX:
            return Place(producer, boot, sequence)
    return None


def _place_in_the_ruins(raw: bytes) -> Place | None:
    try:
        remains = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if not isinstance(remains, Mapping):
        return None
    return _place(remains.get("producer"), remains.get("boot"), remains.get("sequence"))
