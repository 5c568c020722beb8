"""Whom a client works for stands in the event, and nobody can read there who it is."""

from hashlib import sha256
from typing import Any

import pytest

from headrace_contracts.usage import end_user_of
from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack, served_at

MESSAGES = {"max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]}
NAMED = "jane@example.org"
CODING_AGENT = f"user_{'f' * 64}_account_{'a' * 36}_session_{'b' * 36}"  # longer than any column should be


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"user": NAMED}),
        ("/v1/chat/completions", {"safety_identifier": NAMED}),
        ("/v1/chat/completions", {"user": NAMED, "safety_identifier": "another"}),
        ("/v1/completions", {"prompt": "hello", "user": NAMED}),
        ("/v1/messages", MESSAGES | {"metadata": {"user_id": NAMED}}),
    ],
)
async def test_the_user_s_id_is_hashed_for_its_organisation(
    stack: Stack, path: str, body: dict[str, Any]
) -> None:
    reply = await stack.post(path, **{"model": MODEL} | body)
    assert reply.status_code == 200, reply.text
    [event] = await stack.settled()
    assert event.end_user == sha256(b"org_1:jane@example.org").hexdigest()[:32]
    assert event.end_user != end_user_of("org_2", NAMED)
    assert NAMED not in str(event)


async def test_an_id_of_any_length_has_one_length_in_the_event_and_none_is_none(stack: Stack) -> None:
    await stack.post()
    await stack.post(user="")
    await stack.post(user=CODING_AGENT)
    await stack.post(user="\N{GRINNING FACE}" * 1000)
    events = await stack.settled(4)
    assert [event.end_user and len(event.end_user) for event in events] == [None, None, 32, 32]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"user": 7}, "user"),
        ("/v1/chat/completions", {"safety_identifier": 7}, "safety_identifier"),
        ("/v1/messages", MESSAGES | {"metadata": {"user_id": 7}}, "metadata"),
    ],
)
async def test_what_can_be_no_id_is_refused(
    stack: Stack, path: str, body: dict[str, Any], param: str
) -> None:
    reply = await stack.post(path, **{"model": MODEL} | body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert stack.engine.attempts == []


async def test_the_revision_that_served_a_request_stands_in_its_event(stack: Stack) -> None:
    await stack.post()
    [event] = await stack.settled()
    assert (event.revision, event.witnessed) == ("r1", True)


async def test_a_request_to_an_engine_that_tells_nothing_says_so(stack: Stack) -> None:
    stack.deploy(served_at(stack.engine.url, witnessed=False))
    await stack.post()
    [event] = await stack.settled()
    assert not event.witnessed
