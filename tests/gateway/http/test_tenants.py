"""A dedicated deployment serves its organisation's keys first, and nobody else's at all."""

import redis

from tests.gateway.account import MODEL, another_account
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
    claim = {"x-headrace-org": "org_2", "openai-organization": "org_2", "x-tenant": "org_2"}
    for name in (PRIVATE, "glm-nowhere"):
        answers = [
            await stack.post(model=name),
            await stack.http.get(f"/v1/models/{name}", headers=claim),
            await stack.http.post(CHAT, json=chat(model=name), headers=claim),
            await stack.post("/v1/messages/count_tokens", model=name, messages=[]),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert [answer.text.replace(name, "…") for answer in answers] == [
            (await stack.post(model="glm-gone")).text.replace("glm-gone", "…"),
            (await stack.http.get("/v1/models/glm-gone")).text.replace("glm-gone", "…"),
            (await stack.post(model="glm-gone")).text.replace("glm-gone", "…"),
            (await stack.post("/v1/messages/count_tokens", model="glm-gone", messages=[])).text.replace(
                "glm-gone", "…"
            ),
        ]
    assert [model["id"] for model in (await stack.http.get("/v1/models")).json()["data"]] == [MODEL]
    async with stack.as_(owner) as http:
        models = (await http.get("/v1/models")).json()["data"]
        assert [model["id"] for model in models] == [PRIVATE, MODEL]
        assert (await http.get(f"/v1/models/{PRIVATE}")).status_code == 200
    assert stack.engine.attempts == []


async def test_a_key_that_is_moved_to_another_organisation_loses_what_was_the_first_one_s(
    stack: Stack,
) -> None:
    stack.deploy(served_at(stack.engine.url, tenant="org_1"))
    assert (await stack.post()).status_code == 200
    stack.account.push_project(org="org_2")
    assert (await stack.post()).status_code == 404
    assert (await stack.http.get("/v1/models")).json()["data"] == []
    await stack.settled(1)
