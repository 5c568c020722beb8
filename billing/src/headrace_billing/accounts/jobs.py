"""Loading a cold Valkey: everything that admission goes by, from Postgres; last of all the epoch that opens it."""

import asyncio
import secrets
from datetime import UTC, datetime

import structlog
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.accounts import outbox, spent
from headrace_billing.database import Database
from headrace_billing.ingest import journal_store
from headrace_billing.ledger import spendable
from headrace_contracts import channels

log = structlog.get_logger()


async def load_if_cold(database: Database, valkey: Redis, *, drain_wait_seconds: float) -> bool:
    """Whether Valkey was cold and is open now. Only one worker loads at a time.

    Usage that was settled but not ingested when Valkey was lost is in no balance yet: gateways send it again
    within `drain_wait_seconds`, and admission stays closed for so long, unless no gateway ever metered anything.
    """
    if await valkey.exists(channels.EPOCH):
        return False
    # The session is held open for its lock alone, and its connection with it.
    async with database.begin() as session:
        if not (await session.execute(TRY_LOCK)).scalar_one() or await valkey.exists(channels.EPOCH):
            return False
        log.info("valkey_cold")
        await _read_the_stream_anew(database)
        drains = (await session.execute(ANY_JOURNAL)).scalar_one()
        await outbox.push_everything(database, valkey)
        await journal_store.publish_everything(database, valkey)
        if drains:
            await asyncio.sleep(drain_wait_seconds)
        seconds, _ = await valkey.time()
        await spent.push_everything(database, valkey, at=datetime.fromtimestamp(seconds, UTC))
        # Balances last: they hold what came in while we waited.
        await spendable.push_everything(database, valkey)
        await valkey.set(channels.EPOCH, secrets.token_hex(8), nx=True)
        log.info("valkey_loaded")
        return True


async def _read_the_stream_anew(database: Database) -> None:
    async with database.begin() as session:
        since = await journal_store.cursor(session)
        await journal_store.move_cursor(session, since=since, to=journal_store.BEGINNING)


TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('headrace.cold_load'))")

ANY_JOURNAL = text("SELECT EXISTS (SELECT FROM journals)")
