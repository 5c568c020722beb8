"""Requests at which an engine fails: whose they are decides whom the deployment is taken from."""

from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest
import redis

from headrace_contracts import channels
from headrace_contracts.access import PriceCard
from headrace_gateway.routing import breaker
from headrace_gateway.routing.breaker import FAILURES_IN_A_ROW
from tests.gateway.account import MODEL, ONE_MICRO, another_account
from tests.gateway.http.stack import Stack, chat, served_at
from tests.support.upstream import Behaviour, FakeEngine, running_engine

CHAT = "/v1/chat/completions"
FAILING = Behaviour(status=500)
PAUSE_SECONDS = 30.0
"""Longer than it takes to see that nothing is asked meanwhile."""


@pytest.fixture(autouse=True)
def long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "PAUSE_SECONDS_MIN", PAUSE_SECONDS)


@pytest.fixture
async def second() -> AsyncIterator[FakeEngine]:
    async with running_engine() as engine:
        yield engine


@pytest.fixture
async def neighbour(stack: Stack, client: redis.Redis) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another organisation."""
    async with stack.as_(another_account(client)) as http:
        yield http


async def test_one_organisation_s_failing_requests_take_a_model_from_nobody(
    stack: Stack, neighbour: httpx.AsyncClient
) -> None:
    stack.engine.default = FAILING
    replies = [await stack.post() for _ in range(4 * FAILURES_IN_A_ROW)]
    assert {reply.status_code for reply in replies} == {502}
    stack.engine.default = Behaviour()
    assert (await neighbour.post(CHAT, json=chat())).status_code == 200
    assert (await stack.post()).status_code == 200


async def test_an_engine_that_fails_two_organisations_is_left_alone(
    stack: Stack, neighbour: httpx.AsyncClient
) -> None:
    stack.engine.default = FAILING
    for number in range(FAILURES_IN_A_ROW):
        reply = await (neighbour.post(CHAT, json=chat()) if number % 2 else stack.post())
        assert reply.status_code == 502
    refused = await stack.post()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert len(stack.engine.attempts) == FAILURES_IN_A_ROW


@pytest.mark.parametrize("status", [502, 504])
async def test_what_stands_before_an_engine_speaks_for_it_whoever_asks(stack: Stack, status: int) -> None:
    stack.engine.default = Behaviour(status=status)
    for _ in range(FAILURES_IN_A_ROW):
        await stack.post()
    assert (await stack.post()).json()["error"]["code"] == "upstream_unavailable"


async def test_where_another_deployment_serves_it_a_failing_one_is_passed_over_for_that_organisation_alone(
    stack: Stack, second: FakeEngine, neighbour: httpx.AsyncClient
) -> None:
    stack.engine.default = FAILING
    stack.deploy(served_at(stack.engine.url), served_at(second.url, id="second", weight=0))
    # Many more than could be tried a second time.
    for _ in range(4 * FAILURES_IN_A_ROW):
        assert (await stack.post()).status_code == 200
    assert len(stack.engine.attempts) == FAILURES_IN_A_ROW
    stack.engine.default = Behaviour()
    assert (await neighbour.post(CHAT, json=chat())).status_code == 200
    assert len(stack.engine.attempts) == FAILURES_IN_A_ROW + 1


async def test_requests_that_fail_everywhere_leave_others_their_second_tries(
    stack: Stack, second: FakeEngine, neighbour: httpx.AsyncClient
) -> None:
    stack.engine.default = second.default = FAILING
    stack.deploy(served_at(stack.engine.url), served_at(second.url, id="second", weight=0))
    for _ in range(8 * FAILURES_IN_A_ROW):
        assert (await stack.post()).status_code == 502
    second.default = Behaviour()
    assert (await neighbour.post(CHAT, json=chat())).status_code == 200


async def test_a_request_that_fails_wherever_it_is_sent_counts_at_one_place(
    stack: Stack, second: FakeEngine, neighbour: httpx.AsyncClient
) -> None:
    stack.engine.default = second.default = FAILING
    stack.deploy(served_at(stack.engine.url), served_at(second.url, id="second", weight=0))
    for number in range(FAILURES_IN_A_ROW):
        await (neighbour.post(CHAT, json=chat()) if number % 2 else stack.post())
    assert (len(stack.engine.attempts), len(second.attempts)) == (FAILURES_IN_A_ROW, FAILURES_IN_A_ROW)
    second.default = Behaviour()
    assert (await stack.post()).status_code == 200
    assert len(stack.engine.attempts) == FAILURES_IN_A_ROW, "this one is left alone"


async def test_a_fallback_that_may_not_serve_does_not_stand_before_a_model_that_is_passed_over(
    stack: Stack, second: FakeEngine
) -> None:
    stack.account.push(
        channels.prices("USD"), PriceCard(price_book="b", currency="USD", models={MODEL: ONE_MICRO})
    )
    stack.account.push_key(fallback_models=["glm-other"])  # which has no price
    stack.deploy(
        served_at(stack.engine.url), served_at(second.url, id="other", model="glm-other", aliases=[])
    )
    await stack.post()  # the first that is admitted shows the key's change to the next
    stack.engine.default = FAILING
    for _ in range(FAILURES_IN_A_ROW):
        assert (await stack.post()).status_code == 502
    stack.engine.default = Behaviour()
    reply = await stack.post()
    assert (reply.status_code, reply.json()["model"]) == (200, MODEL)
    assert second.attempts == []
