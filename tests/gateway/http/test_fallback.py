"""Where a request goes when a deployment fails, and where it goes again and again while none does."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from headrace_contracts import channels
from headrace_contracts.access import Limit, LimitKind, ModelPrice, PriceCard
from headrace_contracts.usage import Ending
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.routing import breaker
from headrace_gateway.routing.breaker import FAILURES_IN_A_ROW, RetryBudget
from tests.gateway.account import MODEL, ONE_MICRO, Account, another_account
from tests.gateway.http.stack import Stack, chat, running_stack, served_at
from tests.support.upstream import Behaviour, FakeEngine, running_engine

NOBODY = "http://127.0.0.1:1"
CHAT = "/v1/chat/completions"
OTHER = "glm-other"
TWO_MICROS = ModelPrice(input_uncached="2", cache_read="2", cache_write="2", output="2")
FAILING = Behaviour(status=500)
PAUSE_SECONDS = 30.0
"""Longer than it takes to see that nothing is asked meanwhile."""


@pytest.fixture
async def other() -> AsyncIterator[FakeEngine]:
    async with running_engine() as engine:
        yield engine


@pytest.fixture
async def second(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int], tmp_path: Path
) -> AsyncIterator[Stack]:
    """Another gateway on the same Valkey."""
    state_dir = tmp_path / "second"
    state_dir.mkdir()
    own = replace(settings, name="g2", state_dir=state_dir)
    async with running_stack(account, own, unused_port()) as stack:
        yield stack


def price_both(account: Account) -> None:
    card = PriceCard(price_book="book_2", currency="USD", models={MODEL: ONE_MICRO, OTHER: TWO_MICROS})
    account.push(channels.prices("USD"), card)


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_one_deployment_can_not_begin_another_of_the_model_does(
    stack: Stack, streamed: bool
) -> None:
    stack.deploy(served_at(NOBODY), served_at(stack.engine.url, id="second", weight=0))
    reply = await stack.post(stream=streamed)
    assert reply.status_code == 200
    failed, served = sorted(await stack.settled(2), key=lambda event: event.received_at_us)
    assert (failed.ending, failed.tokens.total, failed.deployment) == (
        Ending.UPSTREAM_FAILED,
        0,
        "deployment_1",
    )
    assert (served.ending, served.deployment) == (Ending.COMPLETED, "second")
    assert reply.headers["x-request-id"] == served.id
    assert stack.engine.last.id == f"{served.id}.1"
    assert stack.account.pending() == {served.id: served.tokens.total}


async def test_with_an_idempotency_key_it_is_the_try_that_answered_which_is_given_again(stack: Stack) -> None:
    stack.deploy(served_at(NOBODY), served_at(stack.engine.url, id="second", weight=0))
    first, again = [
        await stack.http.post(CHAT, json=chat(), headers={"idempotency-key": "order 4711"}) for _ in range(2)
    ]
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert len(stack.engine.attempts) == 1
    await stack.settled(2)


async def test_it_counts_as_one_request_however_often_it_is_tried(stack: Stack) -> None:
    stack.account.push_key(limits=[Limit(kind=LimitKind.REQUESTS_PER_MINUTE, ceiling=1)])
    stack.deploy(served_at(NOBODY), served_at(stack.engine.url, id="second", weight=0))
    assert (await stack.post()).status_code == 200
    assert (await stack.post()).status_code == 429


@pytest.mark.parametrize("behaviour", [FAILING, Behaviour(status=503), Behaviour(status=429)])
async def test_an_engine_s_refusal_to_serve_is_tried_elsewhere(
    stack: Stack, other: FakeEngine, behaviour: Behaviour
) -> None:
    stack.engine.default = behaviour
    stack.deploy(served_at(stack.engine.url), served_at(other.url, id="second", weight=0))
    assert (await stack.post()).status_code == 200
    assert len(other.attempts) == 1


@pytest.mark.parametrize(
    "behaviour", [Behaviour(status=400), Behaviour(break_after=1), Behaviour(before_first_seconds=3600)]
)
async def test_what_has_begun_or_is_the_request_s_own_fault_is_tried_nowhere_else(
    impatient: Stack, other: FakeEngine, behaviour: Behaviour
) -> None:
    impatient.engine.behave(behaviour)
    impatient.deploy(served_at(impatient.engine.url), served_at(other.url, id="second", weight=0))
    reply = await impatient.post(stream=True)
    assert reply.status_code in {200, 400, 504}
    assert other.attempts == []


@pytest.mark.parametrize("listed_by", ["key", "project"])
async def test_another_model_answers_where_the_key_or_its_project_lists_it_and_at_its_own_price(
    stack: Stack, other: FakeEngine, listed_by: str
) -> None:
    price_both(stack.account)
    stack.deploy(served_at(NOBODY), served_at(other.url, id="other", model=OTHER, aliases=[]))
    assert (await stack.post()).status_code == 502
    push: Any = stack.account.push_key if listed_by == "key" else stack.account.push_project
    push(fallback_models=[OTHER])
    # The records are compared when a request is admitted, so the first that is shows the change to the next.
    replies = [await stack.post() for _ in range(2)]
    assert replies[-1].status_code == 200
    assert replies[-1].json()["model"] == OTHER
    [served] = [event for event in stack.account.events() if event.ending is Ending.COMPLETED][-1:]
    assert (served.model_requested, served.model_served, served.deployment) == (MODEL, OTHER, "other")
    assert stack.account.pending()[served.id] == 2 * served.tokens.total


async def test_a_model_that_the_key_may_not_name_does_not_answer_though_it_is_listed(
    stack: Stack, other: FakeEngine
) -> None:
    price_both(stack.account)
    stack.account.push_key(fallback_models=[OTHER], models=[MODEL])
    stack.deploy(served_at(NOBODY), served_at(other.url, id="other", model=OTHER, aliases=[]))
    assert (await stack.post()).status_code == 502
    assert other.attempts == []


async def test_what_keeps_failing_is_left_alone_and_says_when_it_is_tried_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "PAUSE_SECONDS_MIN", PAUSE_SECONDS)
    stack.engine.default = Behaviour(reset=True)
    for _ in range(FAILURES_IN_A_ROW):
        assert (await stack.post()).status_code == 502
    refused = await stack.post()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert len(stack.engine.attempts) == FAILURES_IN_A_ROW
    await stack.settled(FAILURES_IN_A_ROW)


async def test_an_engine_that_is_only_busy_is_not_left_alone(stack: Stack) -> None:
    busy = FAILURES_IN_A_ROW + 3
    stack.engine.default = Behaviour(status=503)
    for _ in range(busy):
        assert (await stack.post()).json()["error"]["code"] == "upstream_busy"
    stack.engine.default = Behaviour()
    assert (await stack.post()).status_code == 200


async def test_while_one_is_left_alone_the_other_is_asked_at_once(
    stack: Stack, other: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "PAUSE_SECONDS_MIN", PAUSE_SECONDS)
    stack.engine.default = FAILING
    stack.deploy(served_at(stack.engine.url), served_at(other.url, id="second", weight=0))
    for _ in range(FAILURES_IN_A_ROW + 3):
        assert (await stack.post()).status_code == 200
    assert len(stack.engine.attempts) == FAILURES_IN_A_ROW


async def test_a_failing_engine_is_not_sent_many_times_its_load(stack: Stack) -> None:
    # A success between keeps the breaker out of this.
    requests = 60
    stack.engine.behave(*[Behaviour(status=503), Behaviour()] * requests)
    for _ in range(requests):
        await stack.post()
    assert len(stack.engine.attempts) <= requests * (1 + RetryBudget.SHARE) + RetryBudget.SAVED_MAX


async def test_what_can_be_served_elsewhere_is_though_many_were_refused_before(
    stack: Stack, other: FakeEngine
) -> None:
    requests = 2 * int(RetryBudget.SAVED_MAX)
    stack.engine.default = Behaviour(status=503)
    for _ in range(requests):
        assert (await stack.post()).status_code == 503
    stack.deploy(served_at(stack.engine.url), served_at(other.url, id="second", weight=0))
    assert (await stack.post()).status_code == 200
    await stack.settled(requests + 2)


async def test_a_session_stays_at_its_deployment_and_so_does_a_conversation(
    stack: Stack, other: FakeEngine
) -> None:
    stack.deploy(served_at(stack.engine.url), served_at(other.url, id="second"))
    used = set()
    for number in range(12):
        before = [len(stack.engine.attempts), len(other.attempts)]
        turns = [{"role": "user", "content": f"hello {number}"}]
        if number % 2:
            for _ in range(3):
                await stack.post(messages=turns)
                turns += [{"role": "assistant", "content": "hi"}, {"role": "user", "content": "and?"}]
        else:
            for turn in range(3):
                headers = {"x-session-id": f"session-{number}"}
                body = chat(messages=[{"role": "user", "content": str(turn)}])
                await stack.http.post("/v1/chat/completions", json=body, headers=headers)
        served = (len(stack.engine.attempts) - before[0], len(other.attempts) - before[1])
        assert sorted(served) == [0, 3]
        used.add(served)
    assert len(used) == 2


async def test_a_session_is_told_to_the_engine_and_stays_at_its_deployment_through_whichever_gateway(
    stack: Stack, second: Stack, other: FakeEngine
) -> None:
    used = set()
    table = served_at(stack.engine.url), served_at(other.url, id="second")
    for gateway in (stack, second):
        gateway.deploy(*table)
    for number in range(8):
        before = len(stack.engine.attempts), len(other.attempts)
        session = f"session-{number}"
        for gateway in (stack, second):
            for path, body in (CHAT, chat()), ("/v1/messages", chat(max_tokens=5)):
                await gateway.http.post(path, json=body, headers={"x-session-id": session})
        served = len(stack.engine.attempts) - before[0], len(other.attempts) - before[1]
        assert sorted(served) == [0, 4]
        used.add(served)
        told = (stack.engine if served[0] else other).attempts[-4:]
        assert [attempt.headers["x-session-id"] for attempt in told] == [session] * 4
    assert len(used) == 2
    await stack.settled(32)


async def test_where_the_other_model_refuses_the_client_is_told_what_is_wrong_with_its_own(
    stack: Stack, other: FakeEngine
) -> None:
    stack.account.push_key(fallback_models=[OTHER])  # which has no price
    stack.deploy(served_at(NOBODY), served_at(other.url, id="other", model=OTHER, aliases=[]))
    replies = [await stack.post() for _ in range(2)]
    assert [reply.json()["error"]["code"] for reply in replies] == ["upstream_failed"] * 2
    assert other.attempts == []
    await stack.settled(2)


async def test_what_another_model_can_not_do_it_is_not_asked(stack: Stack, other: FakeEngine) -> None:
    price_both(stack.account)
    stack.account.push_key(fallback_models=[OTHER])
    seeing = served_at(NOBODY, image_tokens_max=10)
    stack.deploy(seeing, served_at(other.url, id="other", model=OTHER, aliases=[]))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    for _ in range(2):
        reply = await stack.post(messages=[{"role": "user", "content": [image]}])
        assert reply.json()["error"]["code"] == "upstream_failed"
    assert other.attempts == []


async def test_a_model_that_is_open_to_other_projects_alone_is_no_model(stack: Stack) -> None:
    everybody_s, theirs = served_at(stack.engine.url), served_at(stack.engine.url, id="p", projects=["them"])
    stack.deploy(theirs)
    assert (await stack.post()).status_code == 404
    assert (await stack.http.get("/v1/models")).json()["data"] == []
    assert (await stack.http.get(f"/v1/models/{MODEL}")).status_code == 404
    stack.deploy(theirs, everybody_s)
    assert [model["id"] for model in (await stack.http.get("/v1/models")).json()["data"]] == [MODEL]
    assert (await stack.post()).status_code == 200


async def test_a_key_of_one_revision_alone_is_served_by_that_whichever_else_has_the_name(
    stack: Stack, other: FakeEngine
) -> None:
    stack.account.push_key(models=[f"{MODEL}@r2"])
    stack.deploy(
        served_at(stack.engine.url, weight=1000), served_at(other.url, id="second", revision="r2", weight=0)
    )
    assert [(await stack.post()).headers["x-headrace-revision"] for _ in range(3)] == ["r2"] * 3


async def test_an_engine_that_salts_its_cache_gets_another_salt_for_each_organisation(
    stack: Stack, client: redis.Redis
) -> None:
    stack.deploy(served_at(stack.engine.url, salts_cache=True))
    await stack.post(cache_salt="guessed")
    await stack.http.post("/v1/messages", json=chat(max_tokens=5))
    salts = [attempt.body["cache_salt"] for attempt in stack.engine.attempts]
    async with stack.as_(another_account(client)) as other:
        await other.post("/v1/chat/completions", json=chat(cache_salt="guessed"))
    assert len({*salts, stack.engine.last.body["cache_salt"], "guessed"}) == 4
