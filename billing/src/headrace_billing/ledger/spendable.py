"""What gateways may let a wallet spend: its balance, pushed to Valkey with the ids that it now accounts for.

What can be spent there is the balance less what is pending and held; credit of a narrow scope is left out of it. The balance falls and an id leaves pending in one script, so a request
is never counted twice nor forgotten for a moment. An older version never replaces a newer one, and pushing again
does no harm; so a process that dies between its commit and this push has lost nothing that the next can't do.
"""

from collections.abc import Iterable, Mapping, Sequence

import structlog
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_billing.errors import BillingError
from headrace_billing.ledger.wallets import WalletBalance, balances
from headrace_billing.money import micros_floor
from headrace_billing.valkey import ValkeyError
from headrace_contracts import channels

PUSH_BATCH_MAX = 500

log = structlog.get_logger()


class HoldsUnknown(BillingError):
    """Valkey doesn't say what running requests hold, so what is free is not known either."""

    code = "holds_unknown"

    def __init__(self) -> None:
        super().__init__("What running requests hold can't be read at this moment; try again.")


NOTHING_POSTED: Mapping[str, Sequence[str]] = {}


async def push(
    database: Database,
    valkey: Redis,
    wallets: Iterable[str],
    *,
    posted: Mapping[str, Sequence[str]] = NOTHING_POSTED,
) -> None:
    """Pushes the committed balances; the request ids in `posted` (by wallet) leave pending. Raises `ValkeyError`."""
    async with database.begin() as session:
        standing = await balances(session, {*wallets, *posted})
    await _push(database, valkey, standing, posted)


async def push_soon(database: Database, valkey: Redis, wallet: str) -> None:
    """Pushes at once where Valkey answers; else the worker does it in its time."""
    try:
        await push(database, valkey, [wallet])
    except ValkeyError as error:
        log.warning("push_left_to_the_worker", wallet=wallet, error=type(error).__name__)


async def held_micros(valkey: Redis, wallet: str) -> int:
    """What running requests hold and what is not posted yet, in micro-units. Raises `HoldsUnknown`."""
    try:
        amounts = await valkey.hmget(channels.wallet(wallet), ["held", "pend"])
    except ValkeyError as error:
        raise HoldsUnknown from error
    return sum(int(amount or 0) for amount in amounts)


async def push_waiting(database: Database, valkey: Redis) -> int:
    """Pushes a batch of wallets whose newest version was never pushed; how many."""
    async with database.begin() as session:
        ids = (await session.execute(SELECT_WAITING, {"limit": PUSH_BATCH_MAX})).scalars().all()
        standing = await balances(session, ids)
    await _push(database, valkey, standing, NOTHING_POSTED)
    return len(standing)


async def push_everything(database: Database, valkey: Redis) -> int:
    """Gives a cold Valkey every balance; how many."""
    after, count = "", 0
    while True:
        async with database.begin() as session:
            ids = (
                (await session.execute(SELECT_AFTER, {"after": after, "limit": PUSH_BATCH_MAX}))
                .scalars()
                .all()
            )
            standing = await balances(session, ids)
        await _push(database, valkey, standing, NOTHING_POSTED)
        count += len(standing)
        if len(standing) < PUSH_BATCH_MAX:
            return count
        after = standing[-1].wallet


async def _push(
    database: Database,
    valkey: Redis,
    standing: Sequence[WalletBalance],
    posted: Mapping[str, Sequence[str]],
) -> None:
    if not standing:
        return
    script = valkey.register_script(PUSH_SCRIPT)
    async with valkey.pipeline(transaction=False) as pipeline:
        for wallet in standing:
            await script(
                keys=[channels.wallet(wallet.wallet), channels.pending(wallet.wallet)],
                args=[micros_floor(wallet.spendable_nanos), wallet.version, *posted.get(wallet.wallet, ())],
                client=pipeline,
            )
        await pipeline.execute()
    async with database.begin() as session:
        await session.execute(
            MARK_PUSHED, {"ids": [w.wallet for w in standing], "versions": [w.version for w in standing]}
        )


# An id that is pending here and posted there is counted twice until it leaves: never the other way round.
PUSH_SCRIPT = """
local standing = redis.call('HGET', KEYS[1], 'ver')
if not standing or tonumber(ARGV[2]) > tonumber(standing) then
  redis.call('HSET', KEYS[1], 'bal', ARGV[1], 'ver', ARGV[2])
end
local released = 0
for i = 3, #ARGV do
  local amount = redis.call('HGET', KEYS[2], ARGV[i])
  if amount then
    redis.call('HDEL', KEYS[2], ARGV[i])
    released = released + tonumber(amount)
  end
end
if released ~= 0 then
  redis.call('HINCRBY', KEYS[1], 'pend', string.format('%.0f', -released))
end
return released
"""

SELECT_WAITING = text("SELECT id FROM wallets WHERE pushed_version < version ORDER BY id LIMIT :limit")
SELECT_AFTER = text("SELECT id FROM wallets WHERE id > :after ORDER BY id LIMIT :limit")

# The index of what waits is partial, so a wallet that was pushed costs nothing to pass over.
MARK_PUSHED = text("""
    UPDATE wallets w SET pushed_version = p.version
    FROM unnest(CAST(:ids AS text[]), CAST(:versions AS bigint[])) AS p (id, version)
    WHERE w.id = p.id AND w.pushed_version < p.version
""")
