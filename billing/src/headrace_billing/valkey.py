"""The way to Valkey: one client a process. What stands there can be lost at any time; Postgres is the truth."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

# Our own loops retry with their own patience; a request would rather hear now than wait.
CONNECT_TIMEOUT_SECONDS = 2
# Longer than a blocking read (`ingest.jobs`), shorter than anyone's patience.
REPLY_TIMEOUT_SECONDS = 5
CONNECTIONS_MAX = 32

ValkeyError = RedisError


def connect(url: str) -> Redis:
    """A client that connects at the first command; keys and values are bytes."""
    return Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_timeout=REPLY_TIMEOUT_SECONDS,
        max_connections=CONNECTIONS_MAX,
        # One new try covers a connection that died while it idled in the pool.
        retry=Retry(NoBackoff(), 1),
    )
