"""One request's life against a real Valkey: admitted, relayed, extended, settled."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest

from headrace_contracts import channels
from headrace_contracts.access import KeyScope, KeyStatus, Limit, LimitKind, ModelPrice, TaskStatus
from headrace_contracts.usage import Disposition, Ending, Grade, ServiceTier, TokenCounts
from headrace_gateway.call import Credentials
from headrace_gateway.errors import (
    BudgetExhausted,
    InsufficientBalance,
    KeyExpired,
    KeyRevoked,
    LimitReached,
    LimitsRebuilding,
    LimitsUnavailable,
    ModelNotAllowed,
    ModelNotFound,
    Overloaded,
    TaskNotOpen,
    Unauthenticated,
)
from headrace_gateway.keys.directory import key_of
from headrace_gateway.metering.meter import GatewayMeter, open_meter
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import DEPLOYMENT, MODEL, Account, call, credentials, everything, usage
from tests.gateway.limits.ground import let_lapse
from tests.gateway.waiting import eventually


@pytest.fixture
async def meter(account: Account, settings: MeterSettings) -> AsyncIterator[GatewayMeter]:
    async with open_meter(settings) as opened:
        yield opened


def kept(account: Account) -> dict[str, bytes]:
    """All of Valkey but what beats once a second."""
    beating = {channels.GATEWAYS, "hr:reaper"}
    return {name: content for name, content in everything(account.client).items() if name not in beating}


async def test_a_plain_request_holds_its_worst_case_and_pays_what_it_used(
    account: Account, meter: GatewayMeter
) -> None:
    lease = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=20))
    assert account.money() == (1_000_000, 30, 0)
    assert lease.attempt() == f"{lease.id}.1"

    await lease.settle(Ending.COMPLETED, usage=usage(7, 5, cached=3))

    assert account.money() == (1_000_000, 0, 12)
    assert account.pending() == {lease.id: 12}
    [event] = account.events()
    assert (event.id, event.grade, event.sequence, event.attempts) == (lease.id, Grade.FINAL, 1, 1)
    assert event.tokens == TokenCounts(input_uncached=4, cache_read=3, output_visible=5)
    assert bytes(event.engine_usage) == usage(7, 5, cached=3)
    assert (event.producer, event.disposition, event.price_book) == (
        "gateway-0",
        Disposition.PREPAID,
        "book_1",
    )
    assert event.received_at_us <= event.finished_at_us


async def test_what_a_request_tells_of_itself_is_not_told_of_the_next_of_its_key(
    account: Account, meter: GatewayMeter
) -> None:
    moved = msgspec.structs.replace(DEPLOYMENT, revision="r2")
    batched = msgspec.structs.replace(credentials(account), batched=True)
    for asked in (
        call(account, session="s", end_user="u", trace="0" * 32),
        call(account),
        call(account, credentials=batched),
        call(account, deployment=moved, model_requested="glm-alias"),
        call(account),
    ):
        await (await meter.admit(asked)).settle(Ending.COMPLETED, usage=usage(1, 1))

    told = [
        (event.session, event.end_user is None, event.trace, event.service_tier, event.revision)
        for event in account.events()
    ]
    plain = (None, True, None, ServiceTier.STANDARD, "r1")
    assert told == [
        ("s", False, "0" * 32, ServiceTier.STANDARD, "r1"),
        plain,
        (None, True, None, ServiceTier.BATCH, "r1"),
        (None, True, None, ServiceTier.STANDARD, "r2"),
        plain,
    ]
    assert [event.model_requested for event in account.events()] == [MODEL] * 3 + ["glm-alias", MODEL]


async def test_a_batch_s_request_is_held_for_and_settled_at_the_price_of_batches(
    account: Account, meter: GatewayMeter
) -> None:
    half = ModelPrice(input_uncached="0.5", cache_read="0.5", cache_write="0.5", output="0.5")
    account.push_prices(batch=half)
    batched = msgspec.structs.replace(credentials(account), batched=True)
    asked = {"prompt_tokens_max": 40, "output_tokens_max": 60}
    held = []
    for lease in (
        await meter.admit(call(account, **asked)),
        await meter.admit(call(account, credentials=batched, **asked)),
        await meter.admit(call(account, **asked)),
    ):
        held.append(account.money()[1])
        await lease.settle(Ending.COMPLETED, usage=usage(10, 10))
    assert held == [250, 150, 100]
    assert sorted(account.pending().values()) == [10, 20, 20]


async def test_a_refused_request_leaves_nothing_behind(account: Account, meter: GatewayMeter) -> None:
    account.fund(10)
    account.push_key(
        limits=[
            Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=5),
            Limit(kind=LimitKind.TOKENS_PER_MINUTE, ceiling=5),
            Limit(kind=LimitKind.CONCURRENCY, ceiling=5),
            Limit(kind=LimitKind.SPEND_TOTAL, ceiling=10**9),
        ]
    )
    before = kept(account)
    with pytest.raises(InsufficientBalance) as refused:
        await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=20))
    assert kept(account) == before
    assert (refused.value.used, refused.value.ceiling, refused.value.weight) == (0, 10, 11)
    assert refused.value.scope == "wallet wallet_1"
    assert meter.table.running == 0


async def test_a_plain_request_is_clamped_to_what_money_can_pay(
    account: Account, meter: GatewayMeter
) -> None:
    account.fund(25)
    lease = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=None))
    assert lease.output_tokens_max == 15
    assert account.money() == (25, 25, 0)
    with pytest.raises(InsufficientBalance):
        await meter.admit(call(account, prompt_tokens_max=1, output_tokens_max=1))
    await lease.settle(Ending.COMPLETED, usage=usage(10, 15))
    assert account.money() == (25, 0, 25)


async def test_every_choice_may_generate_and_is_held_for(account: Account, meter: GatewayMeter) -> None:
    account.fund(100)
    lease = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=40, choices=3))
    assert lease.output_tokens_max == 30
    assert lease.output_tokens_granted == 90
    assert account.money() == (100, 100, 0)
    await lease.settle(Ending.COMPLETED, usage=usage(10, 90))


async def test_an_unclamped_request_keeps_the_clients_own_bound(
    account: Account, meter: GatewayMeter
) -> None:
    lease = await meter.admit(call(account, output_tokens_max=None))
    assert lease.output_tokens_max is None
    await lease.settle(Ending.COMPLETED, usage=usage(1, 1))


async def test_a_stream_holds_a_slice_and_extends_until_the_money_ends(
    account: Account, meter: GatewayMeter
) -> None:
    account.fund(1000)
    lease = await meter.admit(call(account, prompt_tokens_max=100, output_tokens_max=5000, streamed=True))
    assert lease.output_tokens_granted == 256
    assert account.money() == (1000, 356, 0)

    relayed = 0
    while True:
        if relayed == lease.output_tokens_granted and not await lease.extend(output_tokens=relayed + 1):
            break
        relayed += 1
        lease.relayed(usage(40, relayed), output_tokens=relayed, first=relayed == 1)
    # The prompt turned out to be 40 of the 100 held for it, and the rest went into output, to the last micro.
    assert relayed == 960
    assert account.money() == (1000, 1000, 0)

    await lease.settle(Ending.BUDGET_STOPPED)
    assert account.money() == (1000, 0, 1000)
    [event] = account.events()
    assert event.tokens.output == 960
    assert event.first_token_at_us is not None
    assert event.received_at_us <= event.first_token_at_us <= event.finished_at_us


async def test_a_heartbeat_gives_back_what_the_prompt_turned_out_not_to_need(
    account: Account, meter: GatewayMeter
) -> None:
    lease = await meter.admit(call(account, prompt_tokens_max=5000, output_tokens_max=5000, streamed=True))
    assert account.money()[1] == 5256
    lease.relayed(usage(40, 1), output_tokens=1)
    await eventually(lambda: account.money()[1] == 296)
    await lease.settle(Ending.COMPLETED)
    assert account.money()[1:] == (0, 41)


async def test_settling_twice_counts_once(account: Account, meter: GatewayMeter) -> None:
    lease = await meter.admit(call(account))
    await lease.settle(Ending.COMPLETED, usage=usage(5, 5))
    await lease.settle(Ending.CLIENT_GONE, usage=usage(9, 9))
    assert account.money() == (1_000_000, 0, 10)
    assert len(account.events()) == 1
    lease.relayed(usage(50, 50), output_tokens=50)  # a straggler must not write into another's slot
    assert meter.table.running == 0


async def test_work_on_a_task_is_held_by_its_guard_and_not_by_the_wallet(
    account: Account, meter: GatewayMeter
) -> None:
    account.push_task(cost_guard_micros=100)
    account.push_project(limits=[Limit(kind=LimitKind.SPEND_TOTAL, ceiling=1)])
    lease = await meter.admit(
        call(account, prompt_tokens_max=10, output_tokens_max=50, task="task_1", task_attempt="a1")
    )
    assert account.money() == (1_000_000, 0, 0)
    with pytest.raises(BudgetExhausted) as refused:
        await meter.admit(call(account, prompt_tokens_max=40, output_tokens_max=50, task="task_1"))
    assert (refused.value.scope, refused.value.used, refused.value.ceiling) == ("task task_1", 60, 100)
    await lease.settle(Ending.COMPLETED, usage=usage(10, 10))
    assert account.money() == (1_000_000, 0, 0)
    assert account.client.get("hr:limit:spend_total:task:task_1") == b"20"
    [event] = account.events()
    assert (event.disposition, event.task, event.task_attempt) == (
        Disposition.OUTCOME_BUNDLED,
        "task_1",
        "a1",
    )


async def test_a_task_that_is_closed_or_anothers_is_refused_from_the_next_request_on(
    account: Account, meter: GatewayMeter
) -> None:
    account.push_task("mine")
    account.push_task("theirs", project="project_2")
    await (await meter.admit(call(account, task="mine"))).settle(Ending.COMPLETED, usage=usage(1, 1))
    account.push_task("mine", status=TaskStatus.CLOSED)
    for task in ("mine", "theirs", "unknown"):
        with pytest.raises(TaskNotOpen):
            await meter.admit(call(account, task=task))
    account.push_task("mine", status=TaskStatus.OPEN)
    await (await meter.admit(call(account, task="mine"))).settle(Ending.COMPLETED, usage=usage(1, 1))


async def test_post_paid_use_touches_no_wallet(account: Account, meter: GatewayMeter) -> None:
    account.fund(0)
    account.push_project(disposition=Disposition.PAYG)
    lease = await meter.admit(call(account))
    await lease.settle(Ending.COMPLETED, usage=usage(5, 5))
    assert account.money() == (0, 0, 0)
    assert account.events()[0].disposition is Disposition.PAYG


async def test_a_revoked_key_holds_from_the_next_request_on(account: Account, meter: GatewayMeter) -> None:
    await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))
    account.push_key(status=KeyStatus.REVOKED)
    with pytest.raises(KeyRevoked):
        await meter.admit(call(account))
    with pytest.raises(KeyRevoked):
        await meter.authenticate(credentials(account), KeyScope.INFERENCE, anew=True)


async def test_a_request_ends_with_its_key_and_with_no_other_change_of_it(
    account: Account, meter: GatewayMeter
) -> None:
    lease = await meter.admit(call(account, streamed=True, output_tokens_max=5000))
    granted = lease.output_tokens_granted
    before = lease.records
    account.push_key(models=[MODEL])  # a change that does not touch it
    await eventually(lambda: lease.records != before)
    assert not lease.revoked.is_set()
    assert lease.output_tokens_granted == granted
    account.push_key(status=KeyStatus.REVOKED)
    await eventually(lease.revoked.is_set)
    assert lease.output_tokens_granted == 0
    assert lease.hold() == 10 + granted  # until it is settled
    assert not await lease.extend(output_tokens=2)
    await lease.settle(Ending.BUDGET_STOPPED, usage=usage(1, 1))
    assert account.money() == (1_000_000, 0, 2)


async def test_a_request_ends_when_its_key_expires(account: Account, meter: GatewayMeter) -> None:
    lease = await meter.admit(call(account))
    soon_us = time.time_ns() // 1000 + 1_200_000  # it is looked at twice a second, so a change is read before
    account.push_key(expires_at_us=soon_us)
    await eventually(lease.revoked.is_set)
    assert time.time_ns() // 1000 > soon_us
    await lease.settle(Ending.BUDGET_STOPPED)


async def test_a_revoked_key_ends_its_running_stream_at_the_next_slice(
    account: Account, meter: GatewayMeter
) -> None:
    lease = await meter.admit(call(account, streamed=True, output_tokens_max=5000))
    account.push_key(models=[MODEL])  # a change that does not concern it
    assert await lease.extend(output_tokens=300)
    account.push_key(status=KeyStatus.REVOKED)
    assert not await lease.extend(output_tokens=600)
    assert lease.revoked.is_set()
    await lease.settle(Ending.BUDGET_STOPPED, usage=usage(5, 300))
    assert account.money() == (1_000_000, 0, 305)


async def test_an_expired_key_works_again_once_it_is_extended(account: Account, meter: GatewayMeter) -> None:
    account.push_key(expires_at_us=1)
    with pytest.raises(KeyExpired):
        await meter.admit(call(account))
    account.push_key(expires_at_us=None)
    await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))


async def test_key_and_project_must_both_allow_a_model_by_whichever_name(
    account: Account, meter: GatewayMeter
) -> None:
    for key, project, allowed in (
        (None, None, True),
        (["glm-other", "glm-third"], ["glm-other", MODEL], False),
        (["glm-alias"], [MODEL], True),
        ([], None, False),
    ):
        account.push_key(models=key)
        account.push_project(models=project)
        caller = await meter.authenticate(credentials(account), KeyScope.INFERENCE, anew=True)
        assert caller.may_name(DEPLOYMENT) is allowed
        if allowed:
            await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))
        else:
            with pytest.raises(ModelNotAllowed):
                await meter.admit(call(account))


async def test_unknown_keys_are_refused_and_not_remembered(account: Account, meter: GatewayMeter) -> None:
    stranger = Account(account.client, secret="hr-" + "b" * 43)
    for secret in (stranger.secret, "", "x" * 1000, "\ud800"):
        with pytest.raises(Unauthenticated) as refused:
            await meter.admit(call(account, credentials=Credentials(key_of(secret), lambda: None)))
        assert not secret or secret not in str(refused.value)
    stranger.push_key()
    await (await meter.admit(call(stranger))).settle(Ending.COMPLETED, usage=usage(1, 1))


async def test_a_model_without_a_price_can_not_be_sold(account: Account, meter: GatewayMeter) -> None:
    account.client.delete(channels.prices("USD"))
    with pytest.raises(LimitsUnavailable):
        await meter.admit(call(account))
    account.push_prices()
    deployment = call(account).deployment
    unpriced = type(deployment)(
        id="d",
        model="glm-new",
        url="http://127.0.0.1:9",
        engine_model="",
        revision="",
        context_tokens=9,
        prompt_overhead_tokens=0,
    )
    with pytest.raises(ModelNotFound):
        await meter.admit(call(account, deployment=unpriced, model_requested="glm-new"))


async def test_a_new_price_holds_from_the_next_request_on_and_not_for_running_ones(
    account: Account, meter: GatewayMeter
) -> None:
    running = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=10))
    dear = ModelPrice(input_uncached="2.5", cache_read="0", cache_write="0", output="4.000000000001")
    account.push_prices(dear, price_book="book_2")
    later = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=10))
    assert account.money()[1] == 20 + 66  # 25 + 40.00000000001, rounded up
    await running.settle(Ending.COMPLETED, usage=usage(10, 10))
    await later.settle(Ending.COMPLETED, usage=usage(10, 10))
    assert account.money()[2] == 20 + 66
    assert [event.price_book for event in account.events()] == ["book_1", "book_2"]


async def test_cold_is_told_from_unknown(account: Account, meter: GatewayMeter) -> None:
    unknown = Credentials(key_of("hr-" + "c" * 43), lambda: None)
    await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))
    account.client.flushall()
    with pytest.raises(LimitsRebuilding):  # its records are remembered
        await meter.admit(call(account))
    with pytest.raises(LimitsRebuilding):  # its are not
        await meter.admit(call(account, credentials=unknown))
    with pytest.raises(LimitsRebuilding):
        await meter.authenticate(credentials(account), KeyScope.INFERENCE, anew=True)
    await eventually(lambda: meter.not_ready == "limits_rebuilding")
    assert meter.table.running == 0


async def test_a_running_stream_survives_the_loss_of_all_of_valkeys_memory(
    account: Account, meter: GatewayMeter
) -> None:
    account.push_key(limits=[Limit(kind=LimitKind.CONCURRENCY, ceiling=5)])
    lease = await meter.admit(call(account, streamed=True, output_tokens_max=5000))
    lease.relayed(usage(10, 200), output_tokens=200)
    account.client.flushall()
    # It stands still: beyond its hold it would spend what may be another's.
    extending = asyncio.ensure_future(lease.extend(output_tokens=257))
    await asyncio.sleep(0.3)
    assert account.client.keys("hr:lease:*") == []

    account.push_prices()
    account.push_project()
    account.push_key(limits=[Limit(kind=LimitKind.CONCURRENCY, ceiling=5)])
    account.fund(1000)
    account.client.set(channels.OPENING, "1")
    # Before anybody else is admitted it has back what it held, and goes on.
    assert await extending
    assert account.money()[1] == 522
    assert account.client.get("hr:limit:concurrency:key:key_1") == b"1"
    with pytest.raises(LimitsRebuilding):
        await meter.admit(call(account))
    account.warm("epoch_2")
    assert not lease.revoked.is_set()
    await lease.settle(Ending.COMPLETED, usage=usage(10, 300))
    assert account.money() == (1000, 0, 310)
    assert account.client.keys("hr:limit:*") == []


async def test_a_lease_that_valkey_lost_with_its_last_second_is_put_back(
    account: Account, meter: GatewayMeter
) -> None:
    lease = await meter.admit(call(account, streamed=True))
    account.client.delete(f"hr:lease:{lease.id}", "hr:leases")
    account.client.hset(account.wallet, "held", 0)
    await eventually(lambda: account.money()[1] == 30)
    assert not lease.revoked.is_set()
    await lease.settle(Ending.COMPLETED, usage=usage(1, 1))
    assert account.money() == (1_000_000, 0, 2)


async def test_a_reaped_lease_ends_its_stream_and_still_journals_what_it_used(
    account: Account, meter: GatewayMeter
) -> None:
    lease = await meter.admit(call(account, streamed=True))
    lease.relayed(usage(5, 5), output_tokens=5)
    let_lapse(account.client, lease.id)
    assert await meter.limiter.reap() == [lease.id]
    await asyncio.wait_for(lease.revoked.wait(), 30)
    assert not await lease.extend(output_tokens=5000)
    await lease.settle(Ending.TIMED_OUT)
    estimate, final = account.events()
    assert (estimate.grade, final.grade, final.tokens.total) == (Grade.ESTIMATED, Grade.FINAL, 10)
    assert account.money()[1] == 0


async def test_a_stream_that_its_wallet_bounds_ends_when_valkey_stays_away(
    account: Account, settings: MeterSettings
) -> None:
    async with open_meter(replace(settings, stand_still_seconds=0.3)) as meter:
        lease = await meter.admit(call(account, streamed=True, output_tokens_max=8000))
        account.client.flushall()
        assert not await lease.extend(output_tokens=lease.output_tokens_granted + 1)
        assert not lease.revoked.is_set()
        await lease.settle(Ending.BUDGET_STOPPED)


async def test_without_valkey_trust_ends(account: Account, settings: MeterSettings) -> None:
    account.push_project(disposition=Disposition.PAYG)
    async with open_meter(settings) as meter:
        lease = await meter.admit(call(account, streamed=True, output_tokens_max=8000))
        account.client.flushall()
        granted = lease.output_tokens_granted
        while await lease.extend(output_tokens=lease.output_tokens_granted + 1):
            assert lease.output_tokens_granted <= granted + settings.trust_tokens
        assert lease.output_tokens_granted == granted + settings.trust_tokens
        await lease.settle(Ending.BUDGET_STOPPED)


async def test_a_cancelled_admission_is_settled_all_the_same(account: Account, meter: GatewayMeter) -> None:
    finished = 0
    for ticks in range(12):
        task = asyncio.create_task(meter.admit(call(account)))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        try:
            lease = await task
        except asyncio.CancelledError:
            continue
        finished += 1
        await lease.settle(Ending.CLIENT_GONE)
    assert finished < 10
    await eventually(lambda: not (meter.table.running or account.client.zcard("hr:leases")))
    assert account.money() == (1_000_000, 0, 0)
    assert {event.ending for event in account.events()} <= {Ending.CLIENT_GONE}


async def test_admission_sheds_when_the_stream_is_nearly_full(
    account: Account, meter: GatewayMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_gateway.limits.limiter.STREAM_ENTRIES_ADMITTING_MAX", 2)
    running = [await meter.admit(call(account)) for _ in range(3)]
    for lease in running[:2]:
        await lease.settle(Ending.COMPLETED, usage=usage(1, 1))
    with pytest.raises(Overloaded):
        await meter.admit(call(account))
    await running[2].settle(Ending.COMPLETED, usage=usage(1, 1))
    assert len(account.events()) == 3  # what runs may always append


async def test_no_more_run_than_there_are_slots(account: Account, settings: MeterSettings) -> None:
    async with open_meter(settings) as meter:
        running = [await meter.admit(call(account)) for _ in range(settings.inflight_slots)]
        with pytest.raises(Overloaded):
            await meter.admit(call(account))
        for lease in running:
            await lease.settle(Ending.COMPLETED, usage=usage(1, 1))
        await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))


@pytest.mark.parametrize(
    ("kind", "ceiling"), [(LimitKind.CONCURRENCY, 7), (LimitKind.REQUESTS_PER_MINUTE, 7)]
)
async def test_of_many_at_once_exactly_as_many_pass_as_the_limit_says(
    account: Account, meter: GatewayMeter, kind: LimitKind, ceiling: int
) -> None:
    account.push_key(limits=[Limit(kind=kind, ceiling=ceiling)])
    results = await asyncio.gather(*(meter.admit(call(account)) for _ in range(40)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, LimitReached)]
    running = [result for result in results if not isinstance(result, BaseException)]
    assert (len(running), len(refused)) == (ceiling, 40 - ceiling)
    assert refused[0].limit == kind.value
    assert (refused[0].used, refused[0].ceiling, refused[0].scope) == (ceiling, ceiling, "key key_1")
    for lease in running:
        await lease.settle(Ending.COMPLETED, usage=usage(1, 1))
    if kind is LimitKind.CONCURRENCY:
        assert refused[0].retry_after_seconds is None
        await (await meter.admit(call(account))).settle(Ending.COMPLETED, usage=usage(1, 1))
    else:
        wait = refused[0].retry_after_seconds
        assert wait is not None
        # To the millisecond, upwards; less by what the forty took.
        assert 3 < wait <= 60 / ceiling + 0.001
        with pytest.raises(LimitReached):
            await meter.admit(call(account))


async def test_many_at_once_never_hold_more_than_the_wallet_has(
    account: Account, meter: GatewayMeter
) -> None:
    account.fund(1000)
    results = await asyncio.gather(
        *(meter.admit(call(account, prompt_tokens_max=13, output_tokens_max=50)) for _ in range(40)),
        return_exceptions=True,
    )
    running = [result for result in results if not isinstance(result, BaseException)]
    balance, held, _ = account.money()
    assert balance - held >= 0
    assert held == sum(13 + (lease.output_tokens_max or 0) for lease in running)
    assert balance - held < 13 + 1  # the last ones were clamped to what was left
    for lease in running:
        await lease.settle(Ending.COMPLETED, usage=usage(13, lease.output_tokens_max or 0))
    assert account.money() == (1000, 0, held)


async def test_tokens_a_minute_go_into_debt_and_are_trued_up(account: Account, meter: GatewayMeter) -> None:
    account.push_key(limits=[Limit(kind=LimitKind.TOKENS_PER_MINUTE, ceiling=600)])
    lease = await meter.admit(call(account, prompt_tokens_max=500, output_tokens_max=5000))
    await lease.settle(Ending.COMPLETED, usage=usage(100, 200))
    second = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=5000))
    await second.settle(Ending.COMPLETED, usage=usage(10, 2290))
    with pytest.raises(LimitReached) as refused:
        await meter.admit(call(account, prompt_tokens_max=1))
    # 2,600 used of 600: 2,000 in debt, at ten a second.
    assert refused.value.limit == "tokens_per_minute"
    assert refused.value.retry_after_seconds == pytest.approx(200, abs=20)
    assert refused.value.used == pytest.approx(2600, abs=200)


async def test_a_budget_without_reset_counts_what_was_spent(account: Account, meter: GatewayMeter) -> None:
    account.push_key(limits=[Limit(kind=LimitKind.SPEND_TOTAL, ceiling=50)])
    lease = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=100))
    assert lease.output_tokens_max == 40
    await lease.settle(Ending.COMPLETED, usage=usage(10, 20))
    again = await meter.admit(call(account, prompt_tokens_max=10, output_tokens_max=100))
    assert again.output_tokens_max == 10
    await again.settle(Ending.COMPLETED, usage=usage(10, 10))
    with pytest.raises(BudgetExhausted) as refused:
        await meter.admit(call(account, prompt_tokens_max=1, output_tokens_max=1))
    assert (refused.value.used, refused.value.ceiling, refused.value.scope) == (50, 50, "key key_1")
