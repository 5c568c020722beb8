"""The gateway does as its OpenAPI document says: whatever is sent is answered or refused, and never fails here."""

import asyncio
from typing import Any

from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack
from tests.support.openapi import ask_everything


async def described(stack: Stack) -> dict[str, Any]:
    answer = await stack.http.get("/v1/openapi.json", headers={"authorization": ""})
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


async def test_every_path_is_described(stack: Stack) -> None:
    described_paths = {
        path: method.upper()
        for path, operations in (await described(stack))["paths"].items()
        for method in operations
        if "{" not in path
    }
    served = {path: method for path, (method, _) in stack.gateway._routes.items()}
    served.pop("/v1/openapi.json")
    assert described_paths == served


async def test_no_request_makes_the_gateway_fail(stack: Stack) -> None:
    document = await described(stack)
    headers = {"authorization": f"Bearer {stack.account.secret}"}
    await asyncio.to_thread(ask_everything, document, stack.url, {"model": MODEL}, lambda _: headers)
    await stack.settled(len(stack.account.events()))
