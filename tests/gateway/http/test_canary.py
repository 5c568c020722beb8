"""Two ModelDeployments of one model, as the operator tells a gateway of them: who serves how many sessions."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest

from headrace_contracts import channels
from headrace_contracts.access import PriceCard
from headrace_platform.control.observation import Key
from tests.gateway.account import ONE_MICRO
from tests.gateway.http.stack import Stack
from tests.platform.control.live.ground import Ground, Operator, ground, path_of
from tests.platform.control.live.test_reconcile import ONE_GPU
from tests.support.upstream import Behaviour, FakeEngine, running_engine

TINY = "glm-tiny"
SESSIONS = 240
AT_ONCE = 8
NAMES = ("stable", "canary")


class Rollout:
    """The operator's cluster, and the gateway that reads its table, in which engines have other addresses."""

    def __init__(
        self, cluster: Ground, operator: Operator, stack: Stack, engines: dict[str, FakeEngine]
    ) -> None:
        self.cluster, self.operator, self.stack, self.engines = cluster, operator, stack, engines

    async def weigh(self, stable: int, canary: int) -> None:
        for name, weight in zip(NAMES, (stable, canary), strict=True):
            key = Key("models", name)
            await self.cluster.kube.merge(path_of(key), {"spec": {"routing": {"weight": weight}}})
            await self.cluster.settle(self.operator, key)
        tables = await self.cluster.routes()
        self.stack.deploy(
            *(
                msgspec.structs.replace(line, url=self.engines[name].url)
                for name in NAMES
                for line in tables[f"models.{name}.json"].deployments
            )
        )

    async def served(self, sessions: int = SESSIONS) -> Counter[str]:
        """Requests at each engine, one for each session."""
        before = {name: len(engine.attempts) for name, engine in self.engines.items()}
        bound = asyncio.Semaphore(AT_ONCE)

        async def ask(session: int) -> int:
            async with bound:
                body = {"model": TINY, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
                headers = {"x-session-id": f"session-{session}"}
                return (
                    await self.stack.http.post("/v1/chat/completions", json=body, headers=headers)
                ).status_code

        assert set(await asyncio.gather(*map(ask, range(sessions)))) == {200}
        return Counter({name: len(engine.attempts) - before[name] for name, engine in self.engines.items()})


@pytest.fixture
async def rollout(stack: Stack) -> AsyncIterator[Rollout]:
    card = PriceCard(price_book="book_2", currency="USD", models={TINY: ONE_MICRO})
    stack.account.push(channels.prices("USD"), card)
    async with AsyncExitStack() as opened:
        cluster = await opened.enter_async_context(ground())
        engines = {name: await opened.enter_async_context(running_engine()) for name in NAMES}
        operator = await cluster.operator()
        for name in NAMES:
            await cluster.settle(operator, await cluster.create("small", ONE_GPU, name=name))
        yield Rollout(cluster, operator, stack, engines)


async def test_a_canary_is_sent_its_share_and_then_everything(rollout: Rollout) -> None:
    await rollout.weigh(95, 5)
    served = await rollout.served()
    assert served.total() == SESSIONS
    assert 1 <= served["canary"] <= 30
    await rollout.weigh(0, 100)
    assert await rollout.served() == {"canary": SESSIONS, "stable": 0}
    await rollout.stack.settled(2 * SESSIONS)


async def test_without_weight_it_serves_what_the_other_can_not(rollout: Rollout) -> None:
    await rollout.weigh(0, 100)
    rollout.engines["canary"].default = Behaviour(status=500)
    served = await rollout.served(sessions=4)
    assert served["stable"] == 4
