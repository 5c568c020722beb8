"""Which revision serves a request: the newest first, or the one that is pinned; and what is told of its end."""

from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack, served_at

MARCH, JUNE = 1_772_323_200, 1_780_272_000  # 2026-03-01 and 2026-06-01, UTC


def deploy_two(stack: Stack) -> None:
    stack.deploy(
        served_at(stack.engine.url, id="new", revision="r2"),
        served_at(stack.engine.url, id="old", deprecated_at=MARCH, sunset_at=JUNE),
    )


@pytest.mark.parametrize(
    ("named", "revision"),
    [
        (MODEL, "r2"),
        ("glm-alias", "r2"),
        (f"{MODEL}@r1", "r1"),
        ("glm-alias@r1", "r1"),
        (f"{MODEL}@r2", "r2"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_pinned_revision_is_served_and_stands_in_answer_and_event(
    stack: Stack, named: str, revision: str, stream: bool
) -> None:
    deploy_two(stack)
    reply = await stack.post(model=named, stream=stream)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-headrace-revision"] == revision
    [event] = await stack.settled()
    assert (event.model_requested, event.model_served, event.revision) == (named, MODEL, revision)


@pytest.mark.parametrize("named", [f"{MODEL}@r3", f"{MODEL}@", "@r1", f"{MODEL}@r1@r1"])
async def test_a_revision_that_is_not_there_is_an_unknown_model(stack: Stack, named: str) -> None:
    deploy_two(stack)
    reply = await stack.post(model=named)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_list_of_models_may_hold_a_model_or_one_revision_of_it(stack: Stack) -> None:
    deploy_two(stack)
    stack.account.push_key(models=[MODEL])
    assert (await stack.post(model=f"{MODEL}@r1")).status_code == 200
    stack.account.push_key(models=[f"{MODEL}@r1"])
    assert (await stack.post(model=f"{MODEL}@r1")).status_code == 200
    assert (await stack.post(model=MODEL)).status_code == 403
    assert (await stack.http.get(f"/v1/models/{MODEL}@r1")).status_code == 200
    assert (await stack.http.get(f"/v1/models/{MODEL}")).status_code == 404
    await stack.settled(2)


async def test_whoever_uses_what_will_end_is_told_when(stack: Stack) -> None:
    deploy_two(stack)
    for reply in (
        await stack.post(model=f"{MODEL}@r1"),
        await stack.post(model=f"{MODEL}@r1", stream=True),
        await stack.post("/v1/messages/count_tokens", model=f"{MODEL}@r1", messages=[]),
    ):
        assert reply.status_code == 200, reply.text
        assert reply.headers["deprecation"] == f"@{MARCH}"
        assert parsedate_to_datetime(reply.headers["sunset"]).timestamp() == JUNE
    lasting = await stack.post()
    assert "deprecation" not in lasting.headers
    assert "sunset" not in lasting.headers
    shown: Any = (await stack.http.get(f"/v1/models/{MODEL}@r1")).json()
    assert (shown["id"], shown["revision"], shown["sunset_at"]) == (MODEL, "r1", JUNE)
    await stack.settled(3)
