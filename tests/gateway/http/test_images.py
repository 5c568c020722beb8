"""Images in prompts: what they may cost at most, and from where an engine may be made to fetch one."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from headrace_gateway.metering.settings import MeterSettings
from tests.gateway.account import MODEL, Account
from tests.gateway.http.stack import BOUNDS, Stack, chat, running_stack

PNG = "data:image/png;base64," + "A" * 4000
ALLOWED = "https://images.example.com/cat.png"
EVIL = "http://169.254.169.254/"

OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"
ZAI = "/api/paas/v4/chat/completions"


@pytest.fixture
async def sees(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    """A gateway that lets one host's images be fetched, before a model that sees."""
    bounds = replace(BOUNDS, image_hosts=frozenset(("images.example.com",)))
    async with running_stack(account, settings, unused_port(), bounds=bounds) as stack:
        stack.offer(image_tokens_max=50)
        yield stack


def openai_part(url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def anthropic_part(url: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    media, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}


def messages(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "What is it?"}]}]


@pytest.mark.parametrize("url", [PNG, ALLOWED])
@pytest.mark.parametrize(
    ("path", "part"), [(OPENAI, openai_part), (ZAI, openai_part), (ANTHROPIC, anthropic_part)]
)
async def test_images_reach_a_model_that_sees_as_they_came(
    sees: Stack, path: str, part: Callable[[str], dict[str, Any]], url: str
) -> None:
    asked = messages(part(url))
    reply = await sees.http.post(path, json={"model": MODEL, "messages": asked, "max_tokens": 5})

    assert reply.status_code == 200, reply.text
    assert sees.engine.last.body["messages"] == asked
    await sees.settled()


@pytest.mark.parametrize(("path", "part"), [(OPENAI, openai_part), (ANTHROPIC, anthropic_part)])
async def test_an_image_is_held_by_the_model_s_bound_and_not_by_its_bytes(
    sees: Stack, path: str, part: Callable[[str], dict[str, Any]]
) -> None:
    # An image's bytes would be thousands of tokens; two images are at most a hundred, beside the text.
    body = {"model": MODEL, "messages": messages(part(PNG), part(PNG)), "max_tokens": 5}
    text = len(json.dumps(body["messages"])) - 2 * 4000
    sees.account.fund(100)
    assert (await sees.http.post(path, json=body)).status_code == 402
    sees.account.fund(100 + text + 50)
    assert (await sees.http.post(path, json=body)).status_code == 200
    await sees.settled()


@pytest.mark.parametrize(
    "path", [OPENAI, ZAI, ANTHROPIC, f"{ANTHROPIC}/count_tokens", "/api/paas/v4/tokenizer"]
)
async def test_no_other_address_reaches_an_engine_by_any_endpoint(sees: Stack, path: str) -> None:
    for part in (openai_part(EVIL), {"type": "tool_result", "content": [anthropic_part(EVIL)]}):
        body = {"model": MODEL, "messages": messages(part), "max_tokens": 5}
        reply = await sees.http.post(path, json=body)
        assert reply.status_code == 400, reply.text
        assert "data:image/png;base64," in reply.json()["error"]["message"]
    assert sees.engine.attempts == []
    assert sees.account.events() == []


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, ZAI])
async def test_a_model_that_reads_text_alone_is_asked_for_no_image(stack: Stack, path: str) -> None:
    part = anthropic_part(PNG) if path == ANTHROPIC else openai_part(PNG)
    reply = await stack.http.post(path, json={"model": MODEL, "messages": messages(part), "max_tokens": 5})

    assert reply.status_code == 400
    assert "text alone" in reply.json()["error"]["message"]
    assert stack.engine.attempts == []
    assert stack.account.events() == []


async def test_a_client_can_not_have_an_image_be_more_tokens_than_are_held_for_it(sees: Stack) -> None:
    larger = {"mm_processor_kwargs": {"max_pixels": 10**9}, "media_io_kwargs": {"image": {}}}
    asked = messages(openai_part(PNG))
    reply = await sees.http.post(OPENAI, json={"model": MODEL, "messages": asked, "max_tokens": 5, **larger})

    assert reply.status_code == 200
    assert larger.keys().isdisjoint(sees.engine.last.body)
    await sees.settled()


async def test_text_about_images_is_text(stack: Stack) -> None:
    said = [
        {"role": "user", "content": 'Write {"type": "image_url", "image_url": {"url": "http://a"}}'},
        {"role": "assistant", "content": [{"type": "text", "text": '"image_url" \\u0069'}]},
    ]
    reply = await stack.post(messages=said)

    assert reply.status_code == 200, reply.text
    assert stack.engine.last.body == chat(model="engine-name", messages=said)
    await stack.settled()
