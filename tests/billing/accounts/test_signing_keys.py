"""Keys that sign tokens: made on request alone, and stored like any other."""

import hashlib
from dataclasses import replace

import httpx2
from redis.asyncio import Redis

from headrace_billing.app import compose
from headrace_billing.parts import Parts
from headrace_contracts import channels
from headrace_contracts.signing_keys import secret_of
from tests.billing.seller import Seller

SIGNING_SECRET = bytes(range(32))


def stands_at(secret: str) -> str:
    return channels.key(hashlib.sha256(secret.encode()).hexdigest())


async def test_a_signing_key_can_be_made_again_from_its_first_half_and_stays_one_when_rotated(
    parts: Parts, valkey: Redis
) -> None:
    app = compose(replace(parts, token_signing_secret=SIGNING_SECRET))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://billing") as http:
        seller = Seller(http)
        customer = await seller.customer()
        made = await seller.post(
            "/v1/keys", {"project": customer.project, "name": "old client", "signs_tokens": True}
        )
        rotated = await seller.post(f"/v1/keys/{made['id']}/rotate", {"grace_seconds": 60})

    assert made["secret"] != rotated["secret"]
    for secret in (made["secret"], rotated["secret"]):
        lookup, _, seal = secret.partition(".")
        assert secret_of(lookup, SIGNING_SECRET) == secret
        assert len(seal) == 43
        assert await valkey.exists(stands_at(secret)) == 1


async def test_without_the_setting_none_is_made_and_the_refusal_names_it(seller: Seller) -> None:
    customer = await seller.customer()
    answer = await seller.ask(
        "POST", "/v1/keys", {"project": customer.project, "name": "old client", "signs_tokens": True}
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "TOKEN_SIGNING_SECRET" in answer.text
    assert len((await seller.get(f"/v1/keys?project={customer.project}"))["items"]) == 1
