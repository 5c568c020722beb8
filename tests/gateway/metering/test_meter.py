"""One request's life against a real Valkey: admitted, relayed, extended, settled."""

import asyncio

import pytest

from headrace_contracts.usage import Ending, Grade, TokenCounts
from headrace_gateway.errors import InsufficientBalance
from headrace_gateway.metering.meter import open_meter
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account, call, everything, usage


async def test_a_plain_request_holds_its_worst_case_and_pays_what_it_used(
    account: Account, settings: MeterSettings
) -> None:
    async with open_meter(settings) as meter:
        lease = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=20))
        assert account.money() == (1_000_000, 30, 0)
        assert lease.attempt() == f"{lease.id}.1"

        await lease.settle(Ending.COMPLETED, usage=usage(7, 5, cached=3))

        assert account.money() == (1_000_000, 0, 12)
        assert account.pending() == {lease.id: 12}
        [event] = account.events()
        assert (event.id, event.grade, event.sequence, event.attempts) == (lease.id, Grade.FINAL, 1, 1)
        assert event.tokens == TokenCounts(input_uncached=4, cache_read=3, output_visible=5)
        assert event.producer == "gateway-0"
        assert event.received_at_us <= event.finished_at_us


async def test_a_refused_request_leaves_nothing_behind(account: Account, settings: MeterSettings) -> None:
    account.fund(10)
    async with open_meter(settings) as meter:
        await asyncio.sleep(0.05)
        before = everything(account.client)
        with pytest.raises(InsufficientBalance) as refused:
            await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=20))
        after = everything(account.client)
        for beating in ("hr:gateways", "hr:reaper"):
            before.pop(beating, None)
            after.pop(beating, None)
        assert before == after
        assert (refused.value.used, refused.value.ceiling, refused.value.weight) == (0, 10, 11)
        assert meter.table.running == 0
