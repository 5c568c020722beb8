"""What arrives: an event with everything known of it before a database is asked, or the reason why it is none.

An event that can't be stored still counts as received in its journal, or the gateway would send it forever.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import msgspec

from headrace_contracts.usage import Disposition, Grade, UsageEvent, decode_event

# Far beyond any engine, and far from where sums of a month could overflow.
TOKENS_MAX = 10**12
ATTEMPTS_MAX = 10**6
SEQUENCE_MAX = 2**62
# Twice what gateways accept, and well below what an index can hold: rollups are found by session and task.
LABEL_BYTES_MAX = 256
EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)

CHARGED = frozenset({Disposition.PREPAID, Disposition.PAYG})
UNCHARGED = frozenset({Disposition.OUTCOME_BUNDLED, Disposition.INTERNAL, Disposition.FREE})
"""Rolled up at list price, so that margin is visible, and never posted."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which journal an event stands."""

    producer: str
    boot: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Usage:
    """An event whose fields make sense by themselves."""

    event: UsageEvent
    id: UUID
    received_at: datetime
    payload_hash: bytes

    @property
    def identity(self) -> tuple[UUID, Grade]:
        return self.id, self.event.grade


@dataclass(frozen=True, slots=True)
class Arrival:
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
    usage = Usage(event, UUID(event.id), instant(event.received_at_us), fingerprint(event))
    return Arrival(raw, usage, None, place, entry)


def fingerprint(event: msgspec.Struct) -> bytes:
    """Equal for equal events, also when one came before a field was added: defaults are left out."""
    return hashlib.sha256(msgspec.json.encode(_without_defaults(event), order="deterministic")).digest()


def instant(microseconds: int) -> datetime:
    """Exact; the plain constructor would go through a float."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def _refusal(event: UsageEvent) -> str | None:
    try:
        canonical = str(UUID(event.id)) == event.id
    except ValueError:
        canonical = False
    if not canonical:
        return "id_is_no_uuid"
    if event.grade is Grade.FINAL and not 1 <= event.sequence <= SEQUENCE_MAX:
        return "sequence_out_of_range"
    times = (event.received_at_us, event.first_token_at_us, event.finished_at_us)
    if not all(plausible(time) for time in times if time is not None):
        return "time_out_of_range"
    counts = msgspec.structs.astuple(event.tokens)
    if not all(0 <= count <= TOKENS_MAX for count in counts) or not 0 <= event.attempts <= ATTEMPTS_MAX:
        return "count_out_of_range"
    if any(len((label or "").encode()) > LABEL_BYTES_MAX for label in (event.session, event.task)):
        return "label_too_long"
    if event.disposition not in CHARGED | UNCHARGED:
        return f"disposition_not_sold: {event.disposition}"
    return None


def plausible(microseconds: int) -> bool:
    return EARLIEST.timestamp() <= microseconds // 1_000_000 < LATEST.timestamp()


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


def _without_defaults(value: msgspec.Struct) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, encoded, default in _fields(type(value)):
        member = getattr(value, name)
        if isinstance(member, msgspec.Raw):
            member = bytes(member).decode()
        if isinstance(member, msgspec.Struct):
            content[encoded] = _without_defaults(member)
        elif member != default:
            content[encoded] = member
    return content


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, object], ...]:
    """Name, name on the wire, and default; asked once a type, for it takes longer than all the rest."""
    return tuple((field.name, field.encode_name, _default(field)) for field in msgspec.structs.fields(kind))


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    default: object = field.default
    return bytes(default).decode() if isinstance(default, msgspec.Raw) else default
