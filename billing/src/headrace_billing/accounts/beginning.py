"""A limit that begins counts what was used before: its counter is filled before gateways hear of it.

Which limits begin is told by the record that stands in Valkey, so it does not matter who pushes the next one, when, or
how often. One that stands there has been counted by gateways all along and is left alone, whatever its ceiling.

Requests that were admitted before the record came do not count in the new counter as they end, and billing hears of them
afterwards: what runs at that moment, and what has ended but is not posted yet, is all that such a limit misses. The next
load of a cold Valkey finds it. Nothing counts twice (spent.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from redis.asyncio import Redis

from headrace_billing.accounts import spent
from headrace_billing.database import Database
from headrace_contracts import channels, counters
from headrace_contracts.access import BUDGETS, Limit, decode_key, decode_project

Subject = tuple[str, str]
"""A scope and an id in it."""


async def count_the_past(database: Database, valkey: Redis, records: Mapping[str, str]) -> None:
    """`records` are about to be pushed, each to its Valkey key."""
    counting = {place: record for place, record in records.items() if any(_remembering(place, record))}
    if not counting:
        return
    async with valkey.pipeline(transaction=False) as pipeline:
        for place in counting:
            pipeline.hget(place, "r")
        standing = await pipeline.execute()
    # By name: many projects' records bring the same limit of their organisation.
    begin: dict[Subject, dict[str, Limit]] = {}
    for (place, record), before in zip(counting.items(), standing, strict=True):
        known = set() if before is None else {found[:2] for found in _remembering(place, before)}
        for subject, name, limit in _remembering(place, record):
            if (subject, name) not in known:
                begin.setdefault(subject, {})[name] = limit
    if not begin:
        return
    seconds, _ = await valkey.time()
    at = datetime.fromtimestamp(seconds, UTC)
    async with database.begin() as session:
        for (scope, one), limits in begin.items():
            await spent.push(session, valkey, limits.values(), scope=scope, subject=one, at=at)


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
