"""How many usage events a second one worker takes from the stream into the books, and what each costs in CPU time.

The path is the real one: entries as `settle` appends them, the worker's process as it is deployed, Postgres with
fsync, rollups, ratings, ledger and acknowledgements. The stream is filled before the worker starts, so nobody
competes for the cores but the worker, Postgres and Valkey themselves (and whoever else is on the machine).
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import psutil
import psycopg
import redis
from benchmarks.billing.parts import Market, Servers, cpu_seconds, log, open_market, servers
from tests.support.processes import end

from headrace_contracts import channels
from headrace_contracts.usage import (
    Dialect,
    Disposition,
    Ending,
    Grade,
    TokenCounts,
    UsageEvent,
    attempt_id,
    encode_event,
)

CUSTOMERS = 60
GATEWAYS = 4
# An agent asks some 20 times in a session, and this many sessions are under way at once.
SESSIONS_LIVE = 4000
REQUESTS_OF_A_SESSION = 20
PIPELINED = 1000
# Taken before the clock runs: caches are warm and the first connections made.
WARM_UP_EVENTS = 5000
SECONDS_MAX = 600

ENGINE_USAGE = b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}'


@dataclass(slots=True)
class Traffic:
    """Events of many customers' sessions, by several gateways, as they would come in one after the other."""

    market: Market
    random: random.Random
    sessions: list[tuple[int, str, int]]
    sequences: list[int]

    @classmethod
    def of(cls, market: Market) -> "Traffic":
        chance = random.Random(1)
        traffic = cls(market, chance, [], [0] * GATEWAYS)
        traffic.sessions = [
            traffic.session(chance.randrange(REQUESTS_OF_A_SESSION)) for _ in range(SESSIONS_LIVE)
        ]
        return traffic

    def session(self, asked: int) -> tuple[int, str, int]:
        """(customer, name, requests so far)"""
        # A few customers have most of the traffic.
        customer = min(int(self.random.paretovariate(1.0)) - 1, CUSTOMERS - 1)
        return customer, f"ses_{self.random.getrandbits(64):016x}", asked

    def event(self) -> UsageEvent:
        place = self.random.randrange(SESSIONS_LIVE)
        number, session, asked = self.sessions[place]
        self.sessions[place] = (
            self.session(0) if asked + 1 >= REQUESTS_OF_A_SESSION else (number, session, asked + 1)
        )
        customer = self.market.customers[number]
        gateway = self.random.randrange(GATEWAYS)
        self.sequences[gateway] += 1
        now_us = time.time_ns() // 1000
        cached, fresh, visible, thought = (
            self.random.randrange(1, limit) for limit in (30000, 2000, 600, 400)
        )
        model = ("glm-tiny", "glm-small", "glm-large")[number % 3]
        milliseconds = now_us // 1000
        return UsageEvent(
            id=f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{self.random.getrandbits(12):03x}"
            f"-{0x8000 | self.random.getrandbits(14):04x}-{self.random.getrandbits(48):012x}",
            grade=Grade.FINAL,
            producer=f"gateway-{gateway}.0",
            boot="1f0c6a52",
            sequence=self.sequences[gateway],
            org=customer.org,
            project=customer.project,
            key=customer.key,
            wallet=customer.wallet,
            currency="USD",
            deployment=f"dep-{number % 3}",
            model_requested=model,
            model_served=model,
            dialect=Dialect.OPENAI_CHAT,
            session=session,
            received_at_us=now_us - 3_000_000,
            first_token_at_us=now_us - 2_000_000,
            finished_at_us=now_us,
            ending=Ending.COMPLETED,
            tokens=TokenCounts(
                input_uncached=fresh, cache_read=cached, output_visible=visible, reasoning=thought
            ),
            engine_usage=msgspec.Raw(
                ENGINE_USAGE % (cached + fresh, cached + fresh + visible + thought, visible + thought, cached)
            ),
            price_book=self.market.price_book,
            disposition=Disposition.PREPAID,
            revision="main",
        )


def fill(valkey: redis.Redis, books: psycopg.Connection[Any], traffic: Traffic, events: int) -> None:
    """As `settle` and the engine leave them: an entry in the stream, what it cost in pending, an engine record."""
    for begun in range(0, events, PIPELINED):
        made = [traffic.event() for _ in range(min(PIPELINED, events - begun))]
        with books.cursor() as cursor, cursor.copy(COPY_RECORDS) as copy:
            for event in made:
                copy.write_row(_record_row(event))
        with valkey.pipeline(transaction=False) as pipeline:
            for event in made:
                pipeline.hset(channels.pending(event.wallet), event.id, 1000)
                pipeline.hincrby(channels.wallet(event.wallet), "pend", 1000)
                pipeline.xadd(channels.USAGE, {channels.USAGE_FIELD: encode_event(event)})
            pipeline.execute()


# The reconciliation, which goes on meanwhile, finds them to match.
COPY_RECORDS = """
    COPY engine_records (replica, attempt, request_id, deployment, model, ending, prompt, cached, output,
                         started_at, finished_at, probe) FROM STDIN
"""


def _record_row(event: UsageEvent) -> tuple[Any, ...]:
    begun, ended = (
        datetime.fromtimestamp(at / 1e6, UTC) for at in (event.received_at_us, event.finished_at_us)
    )
    tokens = event.tokens
    return (
        "replica-1",
        attempt_id(event.id, 1),
        event.id,
        event.deployment,
        event.model_served,
        "finished",
        tokens.input,
        tokens.cache_read,
        tokens.output,
        begun,
        ended,
        False,
    )


@dataclass(frozen=True, slots=True)
class Moment:
    at_seconds: float
    events: int
    cpu_seconds: dict[str, float]


def measure(running: Servers, *, events: int) -> dict[str, Any]:
    market = asyncio.run(open_market(running, customers=CUSTOMERS))
    load_before = os.getloadavg()[0]
    with (
        redis.Redis.from_url(running.valkey_url) as valkey,
        psycopg.connect(running.database_url, autocommit=True) as books,
    ):
        valkey.set(channels.EPOCH, "bench")
        fill(valkey, books, Traffic.of(market), WARM_UP_EVENTS + events)
        stream_bytes = int(valkey.memory_usage(channels.USAGE) or 0)
    log(f"{WARM_UP_EVENTS + events} events are in the stream")
    worker = subprocess.Popen([sys.executable, "-m", "headrace_billing", "worker"], env=running.environment())
    try:
        with psycopg.connect(running.database_url, autocommit=True) as books:
            begun = _reached(running, psutil.Process(worker.pid), books, WARM_UP_EVENTS)
            done = _reached(running, psutil.Process(worker.pid), books, WARM_UP_EVENTS + events)
            _check(books, WARM_UP_EVENTS + events)
            sizes = _sizes(books)
    finally:
        end(worker)
    seconds, taken = done.at_seconds - begun.at_seconds, done.events - begun.events
    spent = {name: done.cpu_seconds[name] - begun.cpu_seconds[name] for name in begun.cpu_seconds}
    return {
        "ingest_events_per_second": round(taken / seconds),
        "ingest_seconds": round(seconds, 2),
        "ingest_events": taken,
        "ingest_cpu_ms_per_event": {
            **{name: round(value / taken * 1000, 4) for name, value in spent.items()},
            "total": round(sum(spent.values()) / taken * 1000, 4),
        },
        "ingest_cores_used": round(sum(spent.values()) / seconds, 2),
        "load_before": round(load_before, 2),
        "sizes": {"stream_bytes_per_event": round(stream_bytes / (WARM_UP_EVENTS + events)), **sizes},
    }


def _reached(running: Servers, worker: psutil.Process, books: psycopg.Connection[Any], events: int) -> Moment:
    """The moment at which so many events were committed, as soon as that is seen."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        (taken,) = books.execute(
            "SELECT coalesce(sum(events), 0)::bigint FROM ingest_batches"
        ).fetchone() or (0,)
        if taken >= events:
            return Moment(
                time.monotonic(),
                taken,
                {
                    "worker": cpu_seconds(worker),
                    "postgres": cpu_seconds(running.postgres),
                    "valkey": cpu_seconds(running.valkey),
                },
            )
        assert time.monotonic() < deadline, f"only {taken} of {events} events in {SECONDS_MAX} s"
        time.sleep(0.02)


def _check(books: psycopg.Connection[Any], events: int) -> None:
    """A benchmark of wrong books would be worth nothing."""
    (stored, rolled, off, kept_aside) = books.execute("""
        SELECT (SELECT count(*) FROM usage_events),
               (SELECT sum(requests) FROM usage_rollups),
               (SELECT coalesce(sum(charge_nanos), 0) FROM rated_usage)
                 - (SELECT coalesce(sum(amount_nanos), 0) FROM ledger_balances WHERE kind = 'unbilled'),
               (SELECT count(*) FROM usage_quarantine) + (SELECT count(*) FROM usage_conflicts)
    """).fetchone() or (0, 0, 0, 0)
    assert (stored, rolled, off, kept_aside) == (events, events, 0, 0), (stored, rolled, off, kept_aside)


def _sizes(books: psycopg.Connection[Any]) -> dict[str, int]:
    (events, event_bytes, by_session, by_session_bytes) = books.execute("""
        SELECT (SELECT count(*) FROM usage_events), pg_total_relation_size('usage_events'),
               (SELECT count(*) FROM usage_rollups_by_session), pg_total_relation_size('usage_rollups_by_session')
    """).fetchone() or (1, 0, 1, 0)
    return {
        "event_bytes_in_postgres": round(event_bytes / events),
        "rollup_by_session_bytes_in_postgres": round(by_session_bytes / max(by_session, 1)),
    }


def run(*, events: int) -> dict[str, Any]:
    with servers() as running:
        return measure(running, events=events)
