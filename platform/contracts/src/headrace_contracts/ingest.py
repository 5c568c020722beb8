"""Billing's HTTP side door for usage: what the stream lost comes again from the gateways' journals."""

from enum import StrEnum

import msgspec

from headrace_contracts.usage import UsageEvent


class UsageEventBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /internal/v1/usage-events`; at most `EVENTS_MAX` events."""

    events: list[UsageEvent]


EVENTS_MAX = 1000


class EventOutcome(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # the same (id, grade) with the same payload is stored already
    CONFLICT = "conflict"  # the same (id, grade) with another payload: kept aside, nothing posted
    QUARANTINED = "quarantined"  # could not be stored; kept aside with its reason


class EventResult(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    grade: int
    outcome: EventOutcome
    reason: str | None = None


class UsageEventReply(msgspec.Struct, frozen=True, kw_only=True):
    """One result an event, in the order sent; and how far each journal named in the batch is safe."""

    results: list[EventResult]
    acknowledged: dict[str, int]
    """`<producer>:<boot>` → the highest sequence below which nothing is missing."""
