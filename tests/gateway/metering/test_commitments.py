"""A commitment at admission, against a real Valkey: held live, and what follows it is what its contract says."""

from collections.abc import AsyncIterator

import pytest

from headrace_contracts.access import Limit, LimitKind
from headrace_contracts.usage import Disposition, Ending
from headrace_gateway.errors import BudgetExhausted, CommitmentUsedUp
from headrace_gateway.metering.meter import GatewayMeter, open_meter
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account, call, usage


@pytest.fixture
async def meter(account: Account, settings: MeterSettings) -> AsyncIterator[GatewayMeter]:
    async with open_meter(settings) as opened:
        yield opened


def commit(account: Account, micros: int, *, overage: bool) -> None:
    account.push_project(disposition=Disposition.COMMITMENT, overage=overage)
    account.fund(micros)


async def test_a_commitment_that_stops_refuses_by_its_own_name_and_clamps_like_credit(
    account: Account, meter: GatewayMeter
) -> None:
    commit(account, 25, overage=False)
    lease = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=None))
    assert lease.output_tokens_max == 15
    with pytest.raises(CommitmentUsedUp) as refused:
        await meter.admit(call(account, prompt_tokens_max=1, output_tokens_max=1))
    assert (refused.value.code, refused.value.limit, refused.value.used) == (
        "commitment_used_up",
        "commitment",
        25,
    )
    await lease.settle(Ending.COMPLETED, usage=usage(10, 15))
    assert account.money() == (25, 0, 25)
    assert [event.disposition for event in account.events()] == [Disposition.COMMITMENT]


async def test_with_overage_the_next_request_after_the_last_of_the_commitment_is_paid_afterwards(
    account: Account, meter: GatewayMeter
) -> None:
    commit(account, 25, overage=True)
    # Whatever is left admits a request, and that one is never cut short.
    last = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=40))
    assert last.output_tokens_max == 40
    beyond = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=40))
    await beyond.settle(Ending.COMPLETED, usage=usage(10, 40))
    await last.settle(Ending.COMPLETED, usage=usage(10, 30))
    assert account.money() == (25, 0, 40)
    assert [event.disposition for event in account.events()] == [Disposition.PAYG, Disposition.COMMITMENT]


async def test_a_stream_that_draws_from_a_commitment_with_overage_goes_on_to_its_end(
    account: Account, meter: GatewayMeter
) -> None:
    commit(account, 15, overage=True)
    lease = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=None, streamed=True))
    assert await lease.extend(output_tokens=5_000)
    await lease.settle(Ending.COMPLETED, usage=usage(10, 5_000))
    assert [event.disposition for event in account.events()] == [Disposition.COMMITMENT]


async def test_a_stream_of_a_commitment_that_stops_ends_where_the_money_does(
    account: Account, meter: GatewayMeter
) -> None:
    account.fund(1_000)
    commit(account, 1_000, overage=False)
    lease = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=None, streamed=True))
    assert await lease.extend(output_tokens=900)
    assert not await lease.extend(output_tokens=1_100)
    await lease.settle(Ending.BUDGET_STOPPED, usage=usage(10, 990))
    assert account.money() == (1_000, 0, 1_000)


async def test_a_budget_still_holds_for_what_goes_beyond_the_commitment(
    account: Account, meter: GatewayMeter
) -> None:
    commit(account, 0, overage=True)
    account.push_key(limits=[Limit(kind=LimitKind.SPEND_TOTAL, ceiling=5)])
    with pytest.raises(BudgetExhausted):
        await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=20))
    assert account.money() == (0, 0, 0)
