"""What gateways hear after a commit. All of it is in Postgres, so whoever dies before this loses nothing."""

from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_billing.ingest import journal_store
from headrace_billing.ingest.batch import Ingested
from headrace_billing.ledger import spendable


async def publish(database: Database, valkey: Redis, result: Ingested) -> None:
    """Pushes balances without what they now account for, and how far journals are safe. Raises `ValkeyError`."""
    await spendable.push(database, valkey, result.posted, posted=result.posted)
    await journal_store.publish_waiting(database, valkey)
