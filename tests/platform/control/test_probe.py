"""Only a token is an answer; whatever else comes back is told and never raised."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from headrace_platform.control.probe import ANSWER_BYTES_MAX, Answered, Prober
from tests.support.http_server import serving_app

GOOD = {"choices": [{"index": 0}], "usage": {"completion_tokens": 1}}


@asynccontextmanager
async def engine(answer: web.Response | None) -> AsyncIterator[str]:
    """Answers so, or never."""

    async def complete(request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        assert (body["model"], body["max_tokens"]) == ("glm-tiny", 1)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    async with serving_app(app) as url:
        yield url


async def ask(answer: web.Response | None) -> Answered:
    async with engine(answer) as url, aiohttp.ClientSession() as session:
        return await Prober(session).probe(url, "glm-tiny")


async def test_a_token_is_an_answer() -> None:
    assert (await ask(web.json_response(GOOD))).is_good


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (web.json_response({"error": "not yet"}, status=503), 'answered 503: {"error": "not yet"}'),
        (web.Response(text="<html>"), "no completion"),
        (web.json_response({**GOOD, "choices": []}), "without a token"),
        (web.json_response({**GOOD, "usage": {"completion_tokens": 0}}), "without a token"),
        (web.Response(body=b"{" * (4 * ANSWER_BYTES_MAX)), "no completion"),
        (None, "Disconnected"),
    ],
)
async def test_anything_else_is_told(answer: web.Response | None, why: str) -> None:
    answered = await ask(answer)
    assert not answered.is_good
    assert why in str(answered.problem)


async def test_nobody_there_is_told_and_so_is_one_who_is_too_slow() -> None:
    async with aiohttp.ClientSession() as session:
        nobody = await Prober(session).probe("http://127.0.0.1:9", "glm-tiny")
        async with engine(web.json_response(GOOD)) as url:
            slow = await Prober(session, timeout_seconds=0.000001).probe(url, "glm-tiny")
    assert "Cannot connect" in str(nobody.problem)
    assert "no answer" in str(slow.problem)
