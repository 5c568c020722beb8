"""A gateway is killed between any two steps of a request: what it used counts once, in every place, and whoever repeats
it with its idempotency key is told so."""

import asyncio
import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace_contracts.access import Limit, LimitKind, Window, WindowShape, WindowUnit
from headrace_contracts.usage import Ending, Grade
from headrace_gateway.call import AlreadyAnswered, Call, Idempotency
from headrace_gateway.metering.meter import open_meter
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.valkey.wire import Wire
from tests.gateway import forking
from tests.gateway.account import Account, call, usage
from tests.gateway.billing import Billing, running_billing
from tests.gateway.conftest import INGEST_TOKEN
from tests.gateway.limits.ground import let_lapse, let_return_lapse
from tests.gateway.line import Line
from tests.gateway.waiting import eventually

STEPS = (
    "admitted",
    "generated",
    "settle_leaves",
    "journalled",
    "acknowledged",
    "settle_sent",
    "settle_answered",
)
"""After which of them the gateway is killed. `settle_leaves`: in the turn of the loop that sends it, behind a call made
before; `acknowledged`: by billing, which had it over HTTP."""

USED = {"admitted": 0, "generated": 130}
USED_BY_ALL = 400


@pytest.fixture
def billing() -> Iterator[Billing]:
    with running_billing(INGEST_TOKEN) as running:
        yield running


@pytest.fixture
def to_billing(settings: MeterSettings, billing: Billing) -> MeterSettings:
    # Nobody waits for a settlement that is cut off.
    return dataclasses.replace(
        settings, billing_url=billing.url, resend_after_seconds=0.2, settle_wait_seconds=0.25
    )


def asked(account: Account) -> Call:
    once = Idempotency(key="a" * 64, request="b" * 64)
    return call(account, prompt_tokens_max=100, output_tokens_max=300, idempotency=once)


async def run_to(step: str, account: Account, settings: MeterSettings, told: Callable[[str], None]) -> None:
    line = Line()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(line.open(settings.valkey_url))
        # Nothing that left must wait for this process to hand it on.
        valkey_url = settings.valkey_url if step == "settle_leaves" else line.url
        meter = await stack.enter_async_context(
            open_meter(dataclasses.replace(settings, valkey_url=valkey_url))
        )
        lease = await meter.admit(asked(account))
        told(lease.id)
        if step == "admitted":
            told("done")
        lease.attempt()
        lease.relayed(usage(100, 30), output_tokens=30, first=True)
        if step == "told_nonsense":
            lease.relayed(b'{"prompt_tokens":-1}', output_tokens=31)
            told("done")
        if step == "generated":
            told("done")
        if step in {"journalled", "acknowledged"}:
            line.cut()
            await eventually(lambda: not meter.limiter.valkey.connected)
        elif step == "settle_sent":
            line.mute = True
        elif step == "settle_leaves":
            flush = Wire._flush

            def flush_and_die(wire: Wire) -> None:
                flush(wire)
                told("done")

            Wire._flush = flush_and_die  # type: ignore[assignment, method-assign]
            meter.limiter.valkey.call("PING")
        await lease.settle(Ending.COMPLETED, usage=usage(100, 300))
        await meter.journal.durable(1)
        if step == "acknowledged":
            await eventually(lambda: meter.journal.acknowledged == 1)
            # Its segment goes with the last event in it, which is the only one.
            [path] = meter.journal.segments
            path.unlink()
        elif step == "settle_sent":
            await eventually(account.events)
        told("done")
        await asyncio.sleep(600)


def killed_after(step: str, account: Account, settings: MeterSettings) -> str:
    reading, writing = os.pipe()

    async def serve() -> None:
        def told(line: str) -> None:
            os.write(writing, line.encode() + b"\n")
            if line == "done":
                os.kill(os.getpid(), signal.SIGKILL)

        await run_to(step, account, settings, told)

    child = forking.start(lambda: asyncio.run(serve()))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        [request, done] = pipe.read().split()
    assert done == "done"
    forking.kill(child)
    return request


def files(state: Path) -> list[str]:
    return sorted(path.name for path in state.rglob("*") if path.is_file() and path.name != "lock")


@pytest.mark.parametrize("fate", ["leased", "reaped", "let_go"])
@pytest.mark.parametrize("step", STEPS)
async def test_what_a_killed_request_used_counts_once_everywhere(
    account: Account, to_billing: MeterSettings, billing: Billing, step: str, fate: str
) -> None:
    window = Window(seconds=10**9, shape=WindowShape.FIXED, unit=WindowUnit.TOKENS)
    account.push_key(
        limits=[
            Limit(kind=LimitKind.SPEND_TOTAL, ceiling=500),
            Limit(kind=LimitKind.CONCURRENCY, ceiling=5),
            Limit(kind=LimitKind.WINDOW, ceiling=1000, window=window),
        ]
    )
    request = await asyncio.to_thread(killed_after, step, account, to_billing)
    used = USED.get(step, USED_BY_ALL)
    if fate != "leased":
        other = dataclasses.replace(to_billing, name="other", state_dir=to_billing.state_dir / "elsewhere")
        if account.client.exists(f"hr:lease:{request}"):
            let_lapse(account.client, request)
        async with open_meter(other):
            await eventually(lambda: account.client.zcard("hr:leases") == 0)
            if fate == "let_go" and account.client.zcard("hr:reaped"):
                let_return_lapse(account.client, request)
                await eventually(lambda: account.client.zcard("hr:reaped") == 0)

    async with open_meter(to_billing) as meter:
        await eventually(lambda: not meter.settler.outstanding)
        await eventually(lambda: (request, int(Grade.FINAL)) in billing.events)
        await eventually(lambda: account.client.get("hr:limit:spend_total:key:key_1") == b"%d" % used)
        if account.client.zcard("hr:reaped"):
            let_return_lapse(account.client, request)
        await eventually(lambda: account.client.zcard("hr:reaped") == 0)
        assert account.client.get("hr:limit:spend_total:key:key_1") == b"%d" % used
        assert account.client.get("hr:limit:concurrency:key:key_1") is None
        assert [account.client.get(key) for key in account.client.keys("hr:limit:window-*")] == [b"%d" % used]
        if fate != "let_go":  # then billing, which has the event, tells what the wallet has
            assert account.money() == (1_000_000, 0, used)
            assert account.pending() == ({request: used} if used else {})

        assert billing.conflicts == []
        finals = {event for event in billing.events if event[1] == Grade.FINAL}
        assert finals == {(request, int(Grade.FINAL))}
        final = billing.events[request, int(Grade.FINAL)]
        assert final.tokens.total == used
        assert final.ending is (Ending.GATEWAY_LOST if step in USED else Ending.COMPLETED)
        for event in account.events():
            assert event.id == request
            assert event.grade is Grade.ESTIMATED or event == final

        if step not in USED:
            with pytest.raises(AlreadyAnswered) as before:
                await meter.admit(asked(account))
            answer = before.value.answer
            assert (answer.id, answer.ending, answer.tokens) == (request, Ending.COMPLETED, final.tokens)
            assert answer.revision == "r1"
        assert await meter.close(20)
    assert files(to_billing.state_dir) == []


async def test_a_last_count_that_can_not_be_leaves_the_one_before_after_a_death_too(
    account: Account, to_billing: MeterSettings
) -> None:
    request = await asyncio.to_thread(killed_after, "told_nonsense", account, to_billing)
    async with open_meter(to_billing):
        await eventually(account.events)
        [event] = account.events()
        assert (event.id, event.tokens.total) == (request, 130)
        assert account.money() == (1_000_000, 0, 130)
