"""How fairly slots are shared when far more is asked than there is, and how far off the times are that refusals tell.

    python -m benchmarks.overload [--served 600] [--service-ms 100]

Prints JSON. Three gateways in this process (their meters, lines and admission, without HTTP) share the slots of one
deployment on a real Valkey; the engine holds each request for a time drawn from an exponential distribution.
"""

import argparse
import asyncio
import json
import random
import secrets
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis
from tests.gateway.account import Account
from tests.gateway.routing.crowd import Engine, Gateway, crowd, customer, gateways, slotted
from tests.gateway.waiting import eventually

from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.routing.line import Waiter
from headrace_platform.local.ports import unused_port
from headrace_platform.local.valkey import Valkey

SLOTS = 8
DEPLOYMENT = slotted(SLOTS)
SENDERS = 200
"""Requests that the greedy customer has under way at each gateway; the others have 2 * SLOTS at one."""


class Drawn(Engine):
    """Each request takes another time."""

    def __init__(self, mean_seconds: float) -> None:
        super().__init__(SLOTS, default_seconds=mean_seconds)
        self._draw = random.Random(1)

    async def serve(self, account: Account) -> None:
        self.seconds[account.id] = self._draw.expovariate(1 / self.default_seconds)
        await super().serve(account)


@asynccontextmanager
async def three_gateways(folder: Path, url: str) -> AsyncIterator[list[Gateway]]:
    state_dir = folder / secrets.token_hex(4)
    state_dir.mkdir()
    token = secrets.token_hex(16)
    settings = MeterSettings(
        name="bench",
        state_dir=state_dir,
        valkey_url=url,
        billing_url="http://127.0.0.1:9",
        ingest_token=token,
    )
    async with gateways(settings, 3) as opened:
        yield opened


async def shares(
    opened: list[Gateway], client: redis.Redis, mean_seconds: float, served: int
) -> dict[str, Any]:
    """What a customer that asks for a hundred times its share gets, beside two that ask for theirs, one of weight 2."""
    greedy, modest, heavy = customer(client, 1), customer(client, 2), customer(client, 3, weight=2)
    engine = Drawn(mean_seconds)
    many = [each.keep_asking(greedy, DEPLOYMENT, engine) for each in opened for _ in range(SENDERS)]
    few = [opened[1].keep_asking(modest, DEPLOYMENT, engine) for _ in range(2 * SLOTS)]
    others = [opened[2].keep_asking(heavy, DEPLOYMENT, engine) for _ in range(2 * SLOTS)]
    async with crowd(*many):
        await eventually(lambda: opened[0].lines.waiting > SENDERS / 2)
        async with crowd(*few, *others):
            await eventually(lambda: engine.served.total() > served / 4, seconds=600)
            requests, held = engine.served.copy(), engine.slot_seconds.copy()
            began = asyncio.get_running_loop().time()
            await eventually(lambda: engine.served.total() - requests.total() >= served, seconds=600)
            seconds = asyncio.get_running_loop().time() - began
    requests, held = engine.served - requests, engine.slot_seconds - held
    fair = {"1": 0.25, "2": 0.25, "3": 0.5}
    return {
        "requests_over_fair_share": {
            each: round(requests[each] / requests.total() / fair[each], 3) for each in fair
        },
        "slot_time_over_fair_share": {
            each: round(held[each] / held.total() / fair[each], 3) for each in fair
        },
        "slots_in_use": round(held.total() / seconds / SLOTS, 3),
        "most_at_once": engine.most,
    }


async def told_waits(opened: list[Gateway], client: redis.Redis, mean_seconds: float) -> dict[str, Any]:
    """Real waits over those that were told at the beginning, of requests that nobody overtakes any more."""
    accounts = [customer(client, number) for number in (1, 2, 3)]
    engine = Drawn(mean_seconds)
    async with crowd(*[opened[0].keep_asking(accounts[0], DEPLOYMENT, engine) for _ in range(2 * SLOTS)]):
        await eventually(lambda: engine.served.total() > 6 * SLOTS, seconds=600)
    ratios: list[float] = []
    loop = asyncio.get_running_loop()

    async def one(gateway: Gateway, account: Account) -> None:
        told = None
        if gateway.lines.waits_for(DEPLOYMENT):
            line = gateway.lines._line(DEPLOYMENT)  # noqa: SLF001 - what a refusal would tell now
            told = line.seconds_to_turn(Waiter([DEPLOYMENT], rank=0, org=f"org_{account.id}", weight=1))
        began = loop.time()
        lease, deployment = await gateway.admit(account, DEPLOYMENT)
        if told and told > mean_seconds:
            ratios.append((loop.time() - began) / told)
        await engine.serve(account)
        await gateway.settle(lease, deployment)

    under_way = []
    for number in range(20 * SLOTS):
        under_way.append(asyncio.create_task(one(opened[number % 3], accounts[number % 3])))
        await asyncio.sleep(mean_seconds / SLOTS / 3)  # three times what the slots can take
    await asyncio.gather(*under_way)
    deciles = statistics.quantiles(ratios, n=10)
    return {
        "real_over_told": {
            "p10": round(deciles[0], 2),
            "p50": round(deciles[4], 2),
            "p90": round(deciles[8], 2),
        },
        "requests": len(ratios),
    }


async def measure(folder: Path, url: str, options: argparse.Namespace) -> dict[str, Any]:
    mean_seconds = options.service_ms / 1000
    with redis.Redis.from_url(url) as client:
        async with three_gateways(folder, url) as opened:
            results = await shares(opened, client, mean_seconds, options.served)
        client.flushall()
        async with three_gateways(folder, url) as opened:
            results |= await told_waits(opened, client, mean_seconds)
    return results | {"slots": SLOTS, "options": vars(options)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--served", type=int, default=600)
    parser.add_argument("--service-ms", type=float, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        server = Valkey(folder=folder / "valkey", port=unused_port(), password=secrets.token_hex(16))
        with (folder / "valkey.log").open("wb") as log:
            process = server.start(log)
        try:
            server.wait_until_ready(process)
            print(json.dumps(asyncio.run(measure(folder, server.url, options)), indent=2))
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
