"""A dedicated deployment serves its organisation's keys first, and nobody else's at all."""

from collections.abc import Awaitable, Callable

import httpx2 as httpx
import redis

from headrace_contracts import channels
from headrace_contracts.access import PriceCard
from tests.gateway.account import MODEL, ONE_MICRO, another_account
from tests.gateway.http.stack import Stack, chat, served_at
from tests.support.upstream import running_engine

PRIVATE = "glm-private"
CHAT = "/v1/chat/completions"


async def test_its_own_deployment_of_a_model_serves_an_organisation_and_the_shared_one_the_others(
    stack: Stack, client: redis.Redis
) -> None:
    async with running_engine() as dedicated, stack.as_(another_account(client)) as stranger:
        stack.deploy(
            served_at(stack.engine.url),
            served_at(dedicated.url, id="dedicated", revision="r2", tenant="org_1"),
        )
        own, other = await stack.post(), await stranger.post(CHAT, json=chat())
        assert (own.headers["x-headrace-revision"], other.headers["x-headrace-revision"]) == ("r2", "r1")
        assert (len(dedicated.attempts), len(stack.engine.attempts)) == (1, 1)
    assert {event.deployment: event.org for event in await stack.settled(2)} == {
        "dedicated": "org_1",
        "deployment_1": "org_2",
    }


async def test_another_organisation_s_model_is_like_one_that_does_not_exist(
    stack: Stack, client: redis.Redis
) -> None:
    stack.deploy(
        served_at(stack.engine.url), served_at(stack.engine.url, id="2", model=PRIVATE, tenant="org_2")
    )
    owner = another_account(client)
    prices = PriceCard(price_book="book_2", currency="USD", models={MODEL: ONE_MICRO, PRIVATE: ONE_MICRO})
    owner.push(channels.prices("USD"), prices)
    claim = {"x-headrace-org": "org_2", "openai-organization": "org_2", "x-tenant": "org_2"}
    ask: list[Callable[[str], Awaitable[httpx.Response]]] = [
        lambda name: stack.post(model=name),
        lambda name: stack.http.get(f"/v1/models/{name}", headers=claim),
        lambda name: stack.http.post(CHAT, json=chat(model=name), headers=claim),
        lambda name: stack.post("/v1/messages/count_tokens", model=name, messages=[]),
    ]
    for name in (PRIVATE, "glm-nowhere"):
        answers = [await one(named) for named in (name, "glm-gone") for one in ask]
        assert {answer.status_code for answer in answers} == {404}
        texts = [
            answer.text.replace(answer.headers["x-request-id"], "id").replace(named, "…")
            for answer, named in zip(answers, [name] * len(ask) + ["glm-gone"] * len(ask), strict=True)
        ]
        assert texts[: len(ask)] == texts[len(ask) :]
    assert [model["id"] for model in (await stack.http.get("/v1/models")).json()["data"]] == [MODEL]
    async with stack.as_(owner) as http:
        models = (await http.get("/v1/models")).json()["data"]
        assert [model["id"] for model in models] == [PRIVATE, MODEL]
        assert (await http.get(f"/v1/models/{PRIVATE}")).status_code == 200
    assert stack.engine.attempts == []


async def test_a_model_without_a_price_is_not_listed_as_it_could_not_be_asked(stack: Stack) -> None:
    unpriced = served_at(stack.engine.url, id="2", model="glm-unpriced", aliases=[])
    stack.deploy(served_at(stack.engine.url), unpriced)
    assert [model["id"] for model in (await stack.http.get("/v1/models")).json()["data"]] == [MODEL]
    assert (await stack.http.get("/v1/models/glm-unpriced")).status_code == 404
    assert (await stack.post(model="glm-unpriced")).status_code == 404


async def test_a_model_is_listed_as_soon_as_it_has_a_price_and_no_longer(stack: Stack) -> None:
    """Though no request tells the gateway that prices have changed."""

    async def listed() -> list[str]:
        return [model["id"] for model in (await stack.http.get("/v1/models")).json()["data"]]

    stack.deploy(served_at(stack.engine.url, model="glm-new", aliases=[]))
    assert await listed() == []
    for models, seen in (({"glm-new": ONE_MICRO}, ["glm-new"]), ({}, [])):
        card = PriceCard(price_book="book_2", currency="USD", models=models)
        stack.account.push(channels.prices("USD"), card)
        assert await listed() == seen


async def test_a_key_that_is_moved_to_another_organisation_loses_what_was_the_first_one_s(
    stack: Stack,
) -> None:
    stack.deploy(served_at(stack.engine.url, tenant="org_1"))
    assert (await stack.post()).status_code == 200
    stack.account.push_project(org="org_2")
    assert (await stack.post()).status_code == 404
    assert (await stack.http.get("/v1/models")).json()["data"] == []
    await stack.settled(1)
