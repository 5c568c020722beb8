"""What is charged where the engine's word on what was used can't be relied on, and where it is counted."""

from collections.abc import AsyncIterator

import pytest

from headrace_contracts.usage import Dialect, Ending
from headrace_gateway.metering.meter import GatewayMeter, open_meter
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.metrics.requests import Doubt
from tests.gateway.account import DEPLOYMENT, Account, call, usage


@pytest.fixture
async def meter(account: Account, settings: MeterSettings) -> AsyncIterator[GatewayMeter]:
    async with open_meter(settings) as opened:
        yield opened


def doubts(meter: GatewayMeter) -> dict[Doubt, int]:
    return meter.requests.of(DEPLOYMENT, Dialect.OPENAI_CHAT).doubts


async def test_an_invalid_usage_counts_nothing_and_the_last_valid_one_stands(
    account: Account, meter: GatewayMeter
) -> None:
    lease = await meter.admit(call(account, streamed=True))
    await lease.settle(Ending.UPSTREAM_FAILED, usage=b'{"prompt_tokens":-1}')
    other = await meter.admit(call(account, streamed=True))
    other.relayed(usage(3, 2), output_tokens=2)
    await other.settle(Ending.UPSTREAM_FAILED, usage=b"not json")
    assert [event.tokens.total for event in account.events()] == [0, 5]
    assert bytes(account.events()[0].engine_usage) == b"null"


async def test_a_last_count_that_can_not_be_leaves_the_one_before(
    account: Account, meter: GatewayMeter
) -> None:
    lease = await meter.admit(call(account, streamed=True))
    lease.relayed(usage(3, 1), output_tokens=1, first=True)
    lease.relayed(usage(3, 2), output_tokens=2)
    lease.relayed(b'{"prompt_tokens":3,"completion_tokens":-1}', output_tokens=2)
    await lease.settle(Ending.COMPLETED)
    [event] = account.events()
    assert event.tokens.total == 5
    assert bytes(event.engine_usage) == usage(3, 2)
    assert account.money() == (1_000_000, 0, 5)
    assert doubts(meter) == {Doubt.MISSING: 0, Doubt.INVALID: 1, Doubt.BEYOND_BOUND: 0}


async def test_a_completed_request_without_usage_is_free_and_counted(
    account: Account, meter: GatewayMeter
) -> None:
    await (await meter.admit(call(account))).settle(Ending.COMPLETED)
    await (await meter.admit(call(account))).settle(Ending.UPSTREAM_FAILED)
    assert account.money() == (1_000_000, 0, 0)
    assert doubts(meter) == {Doubt.MISSING: 1, Doubt.INVALID: 0, Doubt.BEYOND_BOUND: 0}


async def test_a_prompt_longer_than_was_sent_at_most_is_charged_as_told_and_counted(
    account: Account, meter: GatewayMeter
) -> None:
    for prompt in (10, 11):
        lease = await meter.admit(call(account, prompt_tokens_max=10))
        await lease.settle(Ending.COMPLETED, usage=usage(prompt, 1))
    assert account.money() == (1_000_000, 0, 23)
    assert doubts(meter) == {Doubt.MISSING: 0, Doubt.INVALID: 0, Doubt.BEYOND_BOUND: 1}
