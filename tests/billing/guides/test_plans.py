"""The guide to plans, command by command, on an installation with a Stripe and a clock that can be moved."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from headrace_billing.plans.definition import PlanBody, plan_of
from tests.billing.guides.commands import GUIDES, NEEDS_A_SHELL, run
from tests.billing.payments.conftest import RETURN_URL
from tests.billing.seller import ADMIN_TOKEN, Seller
from tests.support.stripe.account import Account
from tests.support.stripe.server import API_KEY, WEBHOOK_SECRET, FakeStripe, running_stripe

PLANS = GUIDES.parent / "examples" / "plans"


@pytest.fixture
def stripe() -> Iterator[FakeStripe]:
    with running_stripe(Account(now=lambda: datetime.now(UTC))) as fake:
        yield fake


@pytest.fixture
def env(env: dict[str, str], stripe: FakeStripe) -> dict[str, str]:
    return {
        **env,
        "HEADRACE_BILLING_STRIPE_API_KEY": API_KEY,
        "HEADRACE_BILLING_STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "HEADRACE_BILLING_STRIPE_API_URL": stripe.url,
        "HEADRACE_BILLING_PAYMENTS_RETURN_URL": RETURN_URL,
    }


@pytest.fixture
def address(address: str, stripe: FakeStripe) -> str:
    """The time of Stripe's pages is bounded by the installation's clock, which the guide moves."""
    stripe.account.now = lambda: time_at(address)
    return address


def time_at(url: str) -> datetime:
    answer = httpx2.get(f"{url}/v1/test-clock", headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
    return datetime.fromisoformat(answer.json()["now"])


@NEEDS_A_SHELL
async def test_the_guide_sells_plans(address: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(base_url=address) as http:
        customer = await Seller(http).customer(credit=None)
    seen = await run("plans.md", address, tmp_path, PLANS=str(PLANS), ORG=customer.org)
    refused = [one["refused"] for one in seen if isinstance(one, dict) and "refused" in one]
    assert refused == ["plan_version_published"]
    assert {"plan": "plan_coding-lite_1", "state": "active", "pays_for_requests": True} in seen
    renewed = [one for one in seen if isinstance(one, dict) and "last" in one]
    assert [(one["plan"], one["last"]["lines"]) for one in renewed] == [
        ("plan_coding-lite_2", [{"description": "Coding Lite", "amount": "20.00"}])
    ]
    assert seen[-1] == "expired"


@pytest.mark.parametrize("name", ["coding-lite", "coding-pro", "coding-max"])
def test_an_example_plan_is_a_plan(name: str) -> None:
    written = json.loads((PLANS / f"{name}.json").read_text())
    assert plan_of(PlanBody.model_validate(written)).id == f"plan_{name}_1"
