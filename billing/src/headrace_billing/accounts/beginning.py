"""A limit that begins counts what was used before: its counter is filled before gateways hear of it.

Which limits begin is told by the record that stands in Valkey, so it does not matter who pushes the next one, when, or
how often. One that stands there has been counted by gateways all along and is left alone, whatever its ceiling.

Requests that were admitted before the record came do not count in the new counter as they end, and billing hears of them
afterwards: what runs at that moment, and what has ended but is not posted yet, is all that such a limit misses. The next
load of a cold Valkey finds it. Nothing counts twice (spent.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError

from headrace_billing.accounts import spent
from headrace_billing.database import Database
from headrace_contracts import channels, counters
from headrace_contracts.access import BUDGETS, Limit, decode_key, decode_project

log = structlog.get_logger()

Subject = tuple[str, str]
"""A scope and an id in it."""


@dataclass(frozen=True, slots=True)
class Beginnings:
    limits: dict[Subject, dict[str, Limit]] = field(default_factory=dict)
    """By name: many projects' records bring the same limit of their organisation."""
    records: dict[str, set[Subject]] = field(default_factory=dict)
    """Whose limits begin, by the Valkey key of each record that brings some."""


async def beginnings(valkey: Redis, records: Mapping[str, str]) -> Beginnings:
    """What begins by `records`, which are about to be pushed, each to its Valkey key."""
    found = Beginnings()
    counting = {place: record for place, record in records.items() if any(_remembering(place, record))}
    if not counting:
        return found
    async with valkey.pipeline(transaction=False) as pipeline:
        for place in counting:
            pipeline.hget(place, "r")
        standing = await pipeline.execute()
    for (place, record), before in zip(counting.items(), standing, strict=True):
        known = set() if before is None else {each[:2] for each in _remembering(place, before)}
        for subject, name, limit in _remembering(place, record):
            if (subject, name) not in known:
                found.limits.setdefault(subject, {})[name] = limit
                found.records.setdefault(place, set()).add(subject)
    return found


async def count_the_past(
    database: Database, valkey: Redis, begin: Beginnings
) -> dict[Subject, SQLAlchemyError]:
    """Fills the counters of what begins. Those of the others must not wait for one that takes too long to add up."""
    failed: dict[Subject, SQLAlchemyError] = {}
    seconds, _ = await valkey.time()
    at = datetime.fromtimestamp(seconds, UTC)
    for (scope, one), limits in begin.limits.items():
        try:
            async with database.begin() as session:
                await spent.push(session, valkey, limits.values(), scope=scope, subject=one, at=at)
        except SQLAlchemyError as error:
            log.warning("past_not_counted", scope=scope, subject=one, error=type(error).__name__)
            failed[scope, one] = error
    return failed


def _remembering(place: str, record: str | bytes) -> Iterator[tuple[Subject, str, Limit]]:
    """Those limits of a record that count more than the latest minute."""
    for subject, limits in _limits(place, record):
        for limit in limits:
            if limit.kind in BUDGETS or limit.window is not None:
                yield subject, counters.name_of(limit), limit


def _limits(place: str, record: str | bytes) -> Iterator[tuple[Subject, Sequence[Limit]]]:
    if place.startswith(channels.key("")):
        key = decode_key(record)
        yield ("key", key.id), key.limits
    elif place.startswith(channels.project("")):
        project = decode_project(record)
        yield ("project", project.id), project.limits
        yield ("org", project.org), project.org_limits
