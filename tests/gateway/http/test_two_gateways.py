"""What is changed holds at every gateway from its next request on, though each keeps the records it has read."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from headrace_contracts.access import KeyScope, KeyStatus, Limit, LimitKind
from headrace_contracts.usage import Ending
from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import Account
from tests.gateway.http.stack import Stack, chat, parsed, running_stack
from tests.gateway.waiting import eventually
from tests.support.upstream import Behaviour


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"status": KeyStatus.REVOKED}, 401, "api_key_revoked"),
        ({"expires_at_us": 1}, 401, "api_key_expired"),
        ({"allowed_cidrs": ["203.0.113.0/24"]}, 403, "ip_not_allowed"),
        ({"scopes": [KeyScope.MODELS_READ]}, 403, "scope_missing"),
        ({"models": ["glm-other"]}, 403, "model_not_allowed"),
        ({"limits": [Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=0)]}, 429, "rate_limited"),
    ],
)
async def test_a_changed_key_holds_at_both_from_the_next_request_on(
    gateways: list[Stack], account: Account, change: dict[str, Any], status: int, code: str
) -> None:
    for gateway in gateways:
        assert (await gateway.post()).status_code == 200
    account.push_key(**change)
    for gateway in gateways:
        reply = await gateway.post()
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    account.push_key()
    for gateway in gateways:
        assert (await gateway.post()).status_code == 200


async def test_an_organisation_that_is_paused_gets_nothing_at_both_until_it_has_paid(
    gateways: list[Stack], account: Account
) -> None:
    for gateway in gateways:
        assert (await gateway.post()).status_code == 200
    account.push_project(paused=True)
    for gateway in gateways:
        reply = await gateway.post()
        assert (reply.status_code, reply.json()["error"]["code"]) == (402, "service_paused")
    account.push_project()
    for gateway in gateways:
        assert (await gateway.post()).status_code == 200


async def test_a_paused_organisation_s_streams_run_to_their_end(
    gateways: list[Stack], account: Account
) -> None:
    gateway = gateways[0]
    gateway.engine.behave(Behaviour(tokens=40, before_each_seconds=0.03))
    async with gateway.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        pieces = reply.aiter_text()
        await anext(pieces)
        account.push_project(paused=True)
        text = "".join([piece async for piece in pieces])
    assert text.endswith("data: [DONE]\n\n")
    await eventually(lambda: len(account.events()) == 1)
    assert account.events()[0].ending is Ending.COMPLETED


async def test_a_revoked_key_s_streams_end_at_both(gateways: list[Stack], account: Account) -> None:
    async with contextlib.AsyncExitStack() as stack:
        streams = []
        for gateway in gateways:
            gateway.engine.behave(Behaviour(tokens=2000, before_each_seconds=0.01))
            asked = gateway.http.stream("POST", "/v1/chat/completions", json=chat(stream=True))
            pieces = (await stack.enter_async_context(asked)).aiter_text()
            await anext(pieces)
            streams.append(pieces)
        account.push_key(status=KeyStatus.REVOKED)
        for pieces in streams:
            assert len([piece async for piece in pieces]) < 100
    await eventually(lambda: len(account.events()) == 2)
    assert {event.ending for event in account.events()} == {Ending.BUDGET_STOPPED}


async def test_a_revoked_key_s_stream_ends_long_before_its_slice_does(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> None:
    async with running_stack(account, settings, unused_port(), slice_tokens=100_000) as stack:
        stack.engine.behave(Behaviour(tokens=6000, before_each_seconds=0.005))
        async with stack.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
            pieces = reply.aiter_text()
            text = await anext(pieces)
            account.push_key(status=KeyStatus.REVOKED)
            text += "".join([piece async for piece in pieces])
        *_, last, done = parsed(text)
        assert isinstance(last, dict)
        assert (last["choices"][0]["finish_reason"], done) == ("length", "[DONE]")
        [event] = await stack.settled()
        assert event.ending is Ending.BUDGET_STOPPED
        assert event.tokens.output < 3000
