"""Loading a cold Valkey: everything that admission goes by, from Postgres; last of all the epoch that opens it.

And repairing one that was started again, or whose replica took over: it may lack its last second.
"""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.accounts import outbox, spent
from headrace_billing.database import Database
from headrace_billing.ingest import journal_store
from headrace_billing.ledger import spendable
from headrace_contracts import channels

log = structlog.get_logger()

# Gateways beat once a second. One that is silent for longer has its leases back, and is over its limits, when it returns.
TAKE_BACK_SECONDS_MAX = 5.0
POLL_SECONDS = 0.1

LOADING = "hr:loading"
"""Billing's own: which load it is that fills this memory."""


async def load_if_cold(database: Database, valkey: Redis, *, drain_wait_seconds: float) -> bool:
    """Whether Valkey was cold and is open now. Only one worker loads at a time.

    Usage that was settled but not ingested when Valkey was lost is in no balance yet: gateways send it again
    within `drain_wait_seconds`, and admission stays closed for so long, unless no gateway ever metered anything. Before it
    opens, gateways take back the holds of what runs.
    """
    if await valkey.exists(channels.EPOCH):
        return False
    # The session is held open for its lock alone, and its connection with it.
    async with database.begin() as session:
        if not (await session.execute(TRY_LOCK)).scalar_one() or await valkey.exists(channels.EPOCH):
            return False
        log.info("valkey_cold")
        # What is loaded must be in one and the same memory at the end: it may be lost again while we wait.
        ours = secrets.token_hex(8)
        await valkey.set(LOADING, ours)
        await _read_the_stream_anew(database)
        drains = (await session.execute(ANY_JOURNAL)).scalar_one()
        await outbox.push_everything(database, valkey, counted=True)
        await journal_store.publish_everything(database, valkey)
        if drains:
            await asyncio.sleep(drain_wait_seconds)
        seconds, _ = await valkey.time()
        await spent.push_everything(database, valkey, at=datetime.fromtimestamp(seconds, UTC))
        # Balances last: they hold what came in while we waited.
        await spendable.push_everything(database, valkey)
        if not await _set_in_ours(valkey, ours, channels.OPENING):
            return False
        await _until_what_runs_is_held(valkey)
        if not await _set_in_ours(valkey, ours, channels.EPOCH):
            return False
        await valkey.delete(LOADING, channels.OPENING)
        log.info("valkey_loaded")
        return True


@dataclass(slots=True)
class RestartWatch:
    """Knows a Valkey by its run, which a restart ends and a replica does not share."""

    run_id: str | None = None

    async def repair(self, database: Database, valkey: Redis) -> bool:
        """Whether this is another run than the last time, and everything was pushed again.

        What was pushed in the second before may be gone, a revocation above all, and is marked as pushed all the same.
        Pushing again never replaces what is newer.
        """
        run_id = str((await valkey.info("server"))["run_id"])
        if run_id == self.run_id or not await valkey.exists(channels.EPOCH):
            return False
        await outbox.push_everything(database, valkey)
        await spendable.push_everything(database, valkey)
        await journal_store.publish_everything(database, valkey)
        self.run_id = run_id
        return True


async def _set_in_ours(valkey: Redis, ours: str, key: str) -> bool:
    """False: Valkey was emptied since the load began, so it begins anew."""
    stands = bool(await valkey.register_script(SET_IN_OURS)(keys=[LOADING, key], args=[ours]))
    if not stands:
        log.warning("valkey_lost_while_loading")
    return stands


async def _until_what_runs_is_held(valkey: Redis) -> None:
    """Two beats of every gateway: it hears at the first that it may take back its holds, and has done so at the second.

    Otherwise whoever is admitted first could have the money of what runs already.
    """
    loop = asyncio.get_running_loop()
    until, beats = loop.time() + TAKE_BACK_SECONDS_MAX, await _beats(valkey)
    seen = {gateway: {beat} for gateway, beat in beats.items()}
    while any(len(seen[gateway]) < 3 for gateway in beats) and loop.time() < until:
        await asyncio.sleep(POLL_SECONDS)
        beats = await _beats(valkey)
        for gateway, beat in beats.items():
            seen.setdefault(gateway, set()).add(beat)


async def _beats(valkey: Redis) -> dict[bytes, float]:
    found: Any = await valkey.zrange(channels.GATEWAYS, 0, -1, withscores=True)
    return dict(found)


async def _read_the_stream_anew(database: Database) -> None:
    async with database.begin() as session:
        since = await journal_store.cursor(session)
        await journal_store.move_cursor(session, since=since, to=journal_store.BEGINNING)


SET_IN_OURS = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
return 1
"""

TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('headrace.cold_load'))")

ANY_JOURNAL = text("SELECT EXISTS (SELECT FROM journals)")
