"""What no model answered has an id too, by which its client may ask about it."""

from uuid import UUID

import pytest

from tests.gateway.account import MODEL
from tests.gateway.http.stack import Stack, chat

ANTHROPIC = {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/v1/models", {}),
        ("GET", "/v1/models", ANTHROPIC),
        ("GET", f"/v1/models/{MODEL}", {}),
        ("GET", f"/api/anthropic/v1/models/{MODEL}", {}),
        ("GET", f"/api/paas/v4/models/{MODEL}", {}),
        ("POST", "/v1/messages/count_tokens", {}),
        ("POST", "/api/paas/v4/tokenizer", {}),
        ("GET", "/v1/responses/{id}", {}),
        ("DELETE", "/v1/responses/{id}", {}),
    ],
)
async def test_an_answer_has_an_id_where_its_client_looks_for_it(
    stack: Stack, method: str, path: str, headers: dict[str, str]
) -> None:
    response = await stack.openai.responses.create(model=MODEL, input="hello")
    body = chat() if method == "POST" else None
    reply = await stack.http.request(method, path.format(id=response.id), json=body, headers=headers)

    assert reply.status_code == 200, reply.text
    assert UUID(reply.headers["x-request-id"]).version == 7
    is_anthropic = bool(headers) or "messages" in path or "anthropic" in path
    assert reply.headers.get("request-id") == (reply.headers["x-request-id"] if is_anthropic else None)
    await stack.settled()
