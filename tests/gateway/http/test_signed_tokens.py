"""Tokens that Z.ai's older clients sign with their key instead of sending it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
import zai
from pydantic import ValidationError

from headrace_contracts.access import KeyStatus
from headrace_contracts.signing_keys import LOOKUP_PREFIX, is_signing_secret, secret_of
from headrace_gateway.errors import KeyExpired, Unauthenticated
from headrace_gateway.http.signed_tokens import SignedTokens
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.settings import GatewaySettings
from tests.gateway.account import MODEL, Account
from tests.gateway.http.stack import Stack, running_stack

SIGNING_SECRET = bytes(range(32))
LOOKUP = LOOKUP_PREFIX + "a" * 22
SECRET = secret_of(LOOKUP, SIGNING_SECRET)
HELLO = [{"role": "user", "content": "hello"}]
NOW_MS = 1_790_000_000_000


@pytest.fixture
async def stack(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    account.secret = SECRET
    account.push_key()
    async with running_stack(account, settings, unused_port(), signing_secret=SIGNING_SECRET) as running:
        yield running


def token(*, secret: str = SECRET, header: dict[str, Any] | None = None, **claims: Any) -> str:
    lookup, _, seal = secret.partition(".")
    payload = {"api_key": lookup, "exp": NOW_MS + 1000, "timestamp": NOW_MS} | claims
    return jwt.encode(payload, seal, algorithm="HS256", headers={"sign_type": "SIGN"} | (header or {}))


async def test_z_ai_s_client_signs_and_is_served(stack: Stack) -> None:
    def ask() -> Any:
        client = zai.ZaiClient(
            base_url=f"{stack.url}/api/paas/v4", api_key=SECRET, max_retries=0, disable_token_cache=False
        )
        try:
            return client.chat.completions.create(model=MODEL, messages=HELLO)
        finally:
            client.close()  # type: ignore[no-untyped-call]

    completion = await asyncio.to_thread(ask)

    assert completion.choices[0].finish_reason == "stop"
    [event] = await stack.settled()
    assert event.key == "key_1"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "tokenizer"), ("GET", "models"), ("GET", f"models/{MODEL}")]
)
async def test_the_dialect_s_other_paths_take_it_too_until_the_key_is_revoked(
    stack: Stack, method: str, path: str
) -> None:
    signed = token(exp=(time.time_ns() // 1_000_000) + 60_000)

    async def status() -> tuple[int, str | None]:
        reply = await stack.http.request(
            method,
            f"/api/coding/paas/v4/{path}",
            json={"model": MODEL, "messages": HELLO},
            headers={"authorization": f"Bearer {signed}"},
        )
        return reply.status_code, reply.json().get("error", {}).get("code")

    assert await status() == (200, None)
    stack.account.push_key(status=KeyStatus.REVOKED)
    assert await status() == (401, "1004")


async def test_another_dialect_takes_no_signed_tokens(stack: Stack) -> None:
    signed = token(exp=(time.time_ns() // 1_000_000) + 60_000)
    reply = await stack.http.get("/v1/models", headers={"authorization": f"Bearer {signed}"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_signed_token_becomes_the_key_that_signed_it() -> None:
    assert SignedTokens(SIGNING_SECRET).secret_behind(token(), now_ms=NOW_MS) == SECRET


def test_a_token_ends_to_the_millisecond() -> None:
    tokens = SignedTokens(SIGNING_SECRET)
    assert tokens.secret_behind(token(exp=NOW_MS + 1), now_ms=NOW_MS) == SECRET
    with pytest.raises(KeyExpired):
        tokens.secret_behind(token(exp=NOW_MS), now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (token(secret=f"{LOOKUP}.{'x' * 43}"), "signature is wrong"),
        (token(secret=secret_of(LOOKUP, bytes(32))), "signature is wrong"),
        (token()[:-1], "signature is wrong"),
        (token()[:-2] + "AA", "signature is wrong"),
        (token(api_key=LOOKUP + "b"), "signature is wrong"),
        (token(api_key="hr-" + "a" * 43), "can't sign"),
        (token(api_key=LOOKUP * 9), "can't sign"),
        (token(header={"sign_type": "OTHER"}), "HS256"),
        (jwt.encode({"api_key": LOOKUP, "exp": NOW_MS + 1}, None, "none", {"sign_type": "SIGN"}), "HS256"),
        (token(exp="soon"), "neither"),
        ("ey.ey.ey", "neither"),
        ("eyJ" + "é", "neither"),
    ],
)
def test_a_token_that_the_key_did_not_sign_is_none(bad: str, says: str) -> None:
    with pytest.raises(Unauthenticated, match=says):
        SignedTokens(SIGNING_SECRET).secret_behind(bad, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("text", "good"), [("ab" * 32, True), ("ab" * 31, False), ("x" * 64, False), ("", False)]
)
def test_the_secret_behind_it_all_is_long_enough_or_refused_at_the_start(text: str, good: bool) -> None:
    assert is_signing_secret(text) is good


def test_a_secret_that_is_refused_at_the_start_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_GATEWAY_TOKEN_SIGNING_SECRET", "ab" * 31)
    with pytest.raises(ValidationError) as refused:
        GatewaySettings.from_environment()

    assert "at least 32 bytes" in str(refused.value)
    assert "abab" not in str(refused.value)


def test_where_no_such_keys_are_made_the_client_is_told_to_send_its_key() -> None:
    with pytest.raises(Unauthenticated, match="Send the API key itself"):
        SignedTokens(None).secret_behind(token(), now_ms=NOW_MS)
