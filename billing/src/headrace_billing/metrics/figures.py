"""What a worker tells of the books: read every now and then, so that a scrape costs the database nothing.

Each look is a few indexed reads. Of the reconciliation it reads what the last look at each stage saw, whichever worker looked.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.batches.batch import OPEN
from headrace_billing.database import Database
from headrace_billing.ingest import journal_store
from headrace_billing.metrics import catalogue
from headrace_billing.money import NANOS_PER_MAJOR
from headrace_billing.reconciliation import looks_store
from headrace_billing.reconciliation.books import REQUESTS
from headrace_billing.reconciliation.jobs import TOKENS
from headrace_billing.reconciliation.request import Reason, Status
from headrace_billing.reconciliation.stage import Look, Stage
from headrace_contracts import channels
from headrace_telemetry.metrics import Sample, sample

COUNTED_MAX = 10_000
"""Of what should be none: beyond, the number says no more."""

GAP_AGE = timedelta(minutes=1)
"""A gateway sends again after ten seconds what was not acknowledged."""


class Figures:
    """As of the last look; nothing before the first."""

    def __init__(self) -> None:
        self._looked: list[Sample] = []
        self._ingested: dict[str, int] = {}
        self._last_batch: int | None = None
        self._unpushed_since: float | None = None

    def samples(self) -> Iterator[Sample]:
        yield from self._looked

    async def look(self, database: Database, valkey: Redis) -> None:
        async with database.snapshot() as session:
            await self._note_batches(session)
            samples = [sample(catalogue.INGESTED, count, source) for source, count in self._ingested.items()]
            samples += await self._look(session)
            payments = (await session.execute(SELECT_PAYMENTS, {"most": COUNTED_MAX})).scalar_one()
            samples += _reconciled(await looks_store.looks(session), int(payments))
            committed = await journal_store.cursor(session)
        samples.append(sample(catalogue.STREAM_LAG, await _stream_lag_seconds(valkey, committed)))
        memory = await valkey.info("memory")
        samples.append(sample(catalogue.VALKEY_BYTES, memory["used_memory"]))
        samples.append(sample(catalogue.VALKEY_BYTES_MAX, memory["maxmemory"]))
        self._looked = samples

    async def _note_batches(self, session: AsyncSession) -> None:
        """Batches are committed one at a time and in the order of their ids, so none is missed."""
        if self._last_batch is None:
            self._last_batch = (await session.execute(SELECT_LAST_BATCH)).scalar_one()
            self._ingested = {"stream": 0, "journal": 0, "meter": 0}
            return
        for row in await session.execute(SELECT_BATCHES, {"after": self._last_batch}):
            self._ingested[row.source] += int(row.events)
            self._last_batch = max(self._last_batch, int(row.last))

    async def _look(self, session: AsyncSession) -> list[Sample]:
        row = (await session.execute(SELECT_COUNTS, {"most": COUNTED_MAX, "gap_age": GAP_AGE})).one()
        balances = await session.execute(SELECT_BALANCES)
        batches = {found.status: found for found in await session.execute(SELECT_BATCH_COUNTS)}
        return [
            sample(catalogue.QUARANTINED, row.quarantined),
            sample(catalogue.CONFLICTING, row.conflicting),
            sample(catalogue.JOURNAL_GAPS, row.gaps),
            sample(catalogue.RECORDS_UNPUSHED, row.records_unpushed),
            sample(catalogue.BALANCES_UNPUSHED, row.balances_unpushed),
            sample(catalogue.BALANCE_SYNC_AGE, self._balance_sync_age_seconds(row.balances_unpushed)),
            sample(catalogue.POSTINGS, row.postings),
            *(
                sample(catalogue.BATCHES, batches[status].batches if status in batches else 0, status)
                for status in OPEN
            ),
            sample(catalogue.BATCH_LINES, sum(found.lines for found in batches.values())),
            *(
                sample(
                    catalogue.LEDGER_BALANCE,
                    float(balance.amount_nanos / NANOS_PER_MAJOR),
                    balance.kind,
                    balance.currency,
                )
                for balance in balances
            ),
        ]

    def _balance_sync_age_seconds(self, unpushed: int) -> float:
        now = time.monotonic()
        if not unpushed:
            self._unpushed_since = None
            return 0.0
        if self._unpushed_since is None:
            self._unpushed_since = now
        return now - self._unpushed_since


def _reconciled(looks: Sequence[Look], payments_differing: int) -> Iterator[Sample]:
    """Nothing before the first look. Payments are compared with Stripe apart, and each that differs is red."""
    if not looks:
        return
    reasons = {Reason.PAYMENT_DIFFERS: payments_differing} if payments_differing else {}
    requests = unexplained = 0
    for look in looks:
        for reason, count in look.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
        sides = {side.unit: side for side in look.sides}
        if look.stage is Stage.ENGINE:
            unexplained += sides[TOKENS].left - sides[TOKENS].right
        if look.stage is Stage.ROLLUPS:
            requests += sides[REQUESTS].left
    yield sample(catalogue.RECONCILED, requests)
    red = bool(payments_differing) or any(look.status is Status.RED for look in looks)
    yield sample(catalogue.RECONCILIATION_RED, red)
    yield sample(catalogue.UNEXPLAINED, unexplained)
    yield sample(catalogue.UNWITNESSED, sum(look.unwitnessed_requests for look in looks))
    for reason, count in reasons.items():
        yield sample(catalogue.UNRECONCILED, count, reason)


async def _stream_lag_seconds(valkey: Redis, committed: str) -> float:
    waiting = await valkey.xrange(channels.USAGE, min=f"({committed}", count=1)
    if not waiting:
        return 0.0
    seconds, microseconds = await valkey.time()
    entry = waiting[0][0]
    assert isinstance(entry, bytes), entry
    written_ms = int(entry.partition(b"-")[0])
    return max(0.0, seconds + microseconds / 1e6 - written_ms / 1000)


SELECT_PAYMENTS = text("""
    SELECT count(*) FROM (SELECT 1 FROM payment_differences WHERE resolved_at IS NULL LIMIT :most) AS p
""")

SELECT_LAST_BATCH = text("SELECT coalesce(max(id), 0) FROM ingest_batches")

SELECT_BATCHES = text("""
    SELECT source, sum(events) AS events, max(id) AS last FROM ingest_batches WHERE id > :after GROUP BY source
""")

SELECT_COUNTS = text("""
    SELECT (SELECT count(*) FROM (SELECT 1 FROM usage_quarantine LIMIT :most) AS q) AS quarantined,
           (SELECT count(*) FROM (SELECT 1 FROM usage_conflicts LIMIT :most) AS c) AS conflicting,
           (SELECT count(*) FROM journals WHERE above <> '[]' AND updated_at < now() - CAST(:gap_age AS interval)) AS gaps,
           (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE pushed_version < version LIMIT :most) AS o)
             AS records_unpushed,
           (SELECT count(*) FROM (SELECT 1 FROM wallets WHERE pushed_version < version LIMIT :most) AS w)
             AS balances_unpushed,
           (SELECT coalesce(max(id), 0) FROM ledger_postings) AS postings
""")

# By the counts that batches keep themselves.
SELECT_BATCH_COUNTS = text("""
    SELECT status, count(*) AS batches, coalesce(sum(total - completed - failed), 0) AS lines FROM batches
    WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling') GROUP BY status
""")

SELECT_BALANCES = text("""
    SELECT kind, currency, sum(amount_nanos) AS amount_nanos FROM ledger_balances GROUP BY kind, currency
""")
