"""A limiter on a real Valkey, and what its scripts left there."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis

from headrace_contracts import channels
from headrace_contracts.usage import TokenCounts
from headrace_gateway.keys.directory import Versioned
from headrace_gateway.limits.idempotency import Outcome
from headrace_gateway.limits.limiter import Admitted, Limiter, Short, Stale
from headrace_gateway.limits.state import CheckedLimit
from headrace_gateway.valkey.connection import Valkey
from tests.gateway.conftest import VALKEY_TIMEOUT_SECONDS

WALLET: CheckedLimit = ("wallet", channels.wallet("w"), 0, 0)
GAUGE: CheckedLimit = ("concurrency", "hr:limit:concurrency:key:k", 1000, 1)
BUDGET: CheckedLimit = ("spend_total", "hr:limit:spend_total:key:k", 10**9, 0)

ONE_TOKEN = TokenCounts(output_visible=1)

FRAGMENT = (
    b'"org":"o","project":"p","key":"k","wallet":"w","currency":"USD","deployment":"d","model_requested":"m",'
    b'"model_served":"m","dialect":"openai.chat","price_book":"b","disposition":"prepaid"'
)


@asynccontextmanager
async def opened_limiter(
    url: str, *, gateway: str = "gateway-0", lease_ttl_seconds: float = 60.0
) -> AsyncIterator[Limiter]:
    valkey = Valkey(url, timeout_seconds=VALKEY_TIMEOUT_SECONDS)
    await valkey.start()
    try:
        yield Limiter(valkey, gateway=gateway, lease_ttl_seconds=lease_ttl_seconds)
    finally:
        await valkey.close()


async def try_admit(
    limiter: Limiter,
    hold: int,
    limits: Sequence[CheckedLimit] = (WALLET,),
    records: Sequence[Versioned[None]] = (),
) -> Admitted | Stale | Short:
    return await limiter.admit(records, limits, hold=hold, fragment=FRAGMENT, orphaned=lambda _: None)


async def admit(limiter: Limiter, hold: int, limits: Sequence[CheckedLimit] = (WALLET,)) -> Admitted:
    verdict = await try_admit(limiter, hold, limits)
    assert isinstance(verdict, Admitted), verdict
    return verdict


async def settle(
    limiter: Limiter,
    request_id: str,
    *,
    cost: int,
    event: bytes = b"e",
    tokens: TokenCounts = ONE_TOKEN,
    outcome: Outcome | None = None,
) -> bool:
    """Whether the lease stood."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    limiter.settle(request_id, cost=cost, tokens=tokens, event=event, then=answer.set_result, outcome=outcome)
    stood = await answer
    assert stood in (0, 1), stood
    return bool(stood)


def let_lapse(client: redis.Redis, request_id: str) -> None:
    """As if its gateway had been silent for the lease's whole time, while others kept reaping."""
    client.zadd("hr:leases", {request_id: 0})
    reaping_goes_on(client)


def let_return_lapse(client: redis.Redis, request_id: str) -> None:
    """As if a reaped request's gateway had stayed away for as long as anything is held for it."""
    client.zadd("hr:reaped", {request_id: 0})
    reaping_goes_on(client)


def reaping_goes_on(client: redis.Redis) -> None:
    now: Any = client.time()
    client.hset("hr:reaper", mapping={"at": int(now[0]) * 1000, "from": 0})


def amounts(client: redis.Redis) -> tuple[int, int, int]:
    """Balance, held, pending of the wallet."""
    found: Any = client.hmget(WALLET[1], ["bal", "held", "pend"])
    balance, held, pending = (int(amount or 0) for amount in found)
    return balance, held, pending
