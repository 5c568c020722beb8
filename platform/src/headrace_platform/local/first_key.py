"""The first API key of a fresh stack, so that `headrace up` is enough to send a request.

It is made the way any seller makes one, through billing's interface: a price, an organisation, a project with
some promotional credit, and its key.
"""

import secrets
from typing import Any

import httpx2

from headrace_contracts.endpoints import Endpoints
from headrace_platform.local.problems import StackProblem

CURRENCY = "USD"
# Of the order that hosted models of a few billion parameters cost, in dollars per 1,000,000 tokens.
# A batch costs half of it.
PRICES = {
    "input_uncached": "0.10",
    "cache_read": "0.02",
    "cache_write": "0.10",
    "output": "0.40",
    "batch": "0.5",
}
# Twelve million tokens out: more than anyone tries by hand.
CREDIT = "5.00"

TIMEOUT_SECONDS = 15.0


class FirstKeyRefused(StackProblem):
    """The stack runs, but billing would not make the key."""

    code = "first_key_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Billing made no first API key: {reason}.",
            next_step="The stack is up. Make one through billing, or run `headrace up` again.",
        )


def first_key(endpoints: Endpoints) -> str:
    """The secret of a new key. Raises `FirstKeyRefused`."""
    with httpx2.Client(
        base_url=endpoints.billing_url,
        headers={"authorization": f"Bearer {endpoints.admin_token}"},
        timeout=TIMEOUT_SECONDS,
        trust_env=False,  # a proxy has no business between two programs of one machine
    ) as billing:
        post(billing, "/v1/price-books", {"currency": CURRENCY, "models": {endpoints.model: PRICES}})
        organization = post(billing, "/v1/organizations", {"name": "Local"})["id"]
        project = post(
            billing,
            "/v1/projects",
            {"organization": organization, "name": "first", "currency": CURRENCY, "disposition": "prepaid"},
        )["id"]
        post(
            billing,
            "/v1/credit-grants",
            {
                "project": project,
                "amount": CREDIT,
                "currency": CURRENCY,
                "kind": "promo",
                "reason": "to try Headrace with",
            },
        )
        return str(post(billing, "/v1/keys", {"project": project, "name": "first key"})["secret"])


def post(billing: httpx2.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = billing.post(path, json=body, headers={"idempotency-key": secrets.token_hex(16)})
    except httpx2.HTTPError as error:
        raise FirstKeyRefused(f"{path}: {type(error).__name__}") from error
    if answer.is_error:
        raise FirstKeyRefused(f"{path} answered {answer.status_code} {answer.text[:200]}")
    document: dict[str, Any] = answer.json()
    return document
