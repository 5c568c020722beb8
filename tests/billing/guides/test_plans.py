"""The guide to plans, command by command, on an installation with a Stripe and a clock that can be moved."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from headrace_billing.plans.definition import PlanBody, plan_of
from tests.billing.guides.test_month_end import COMMANDS, SECONDS_MAX, documents
from tests.billing.payments.conftest import RETURN_URL
from tests.billing.seller import ADMIN_TOKEN, Seller
from tests.billing.test_processes import environment, running, until
from tests.support.stripe.account import Account
from tests.support.stripe.server import API_KEY, WEBHOOK_SECRET, running_stripe

DOCS = Path(__file__).resolve().parents[3] / "docs"
GUIDE = DOCS / "guides" / "plans.md"
PLANS = DOCS / "examples" / "plans"


@pytest.fixture
async def address(database_url: str, valkey_url: str, unused_port: Callable[[], int]) -> AsyncIterator[str]:
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    with running_stripe(Account(now=lambda: datetime.now(UTC))) as stripe:
        env = {
            **environment(database_url, valkey_url, port),
            "HEADRACE_BILLING_TEST_CLOCK": "true",
            "HEADRACE_BILLING_STRIPE_API_KEY": API_KEY,
            "HEADRACE_BILLING_STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
            "HEADRACE_BILLING_STRIPE_API_URL": stripe.url,
            "HEADRACE_BILLING_PAYMENTS_RETURN_URL": RETURN_URL,
        }
        with running("headrace_billing", "api", env=env), running("headrace_billing", "worker", env=env):
            async with httpx2.AsyncClient(base_url=url) as http:

                async def ready() -> bool:
                    try:
                        return (await http.get("/readyz")).status_code == 200
                    except httpx2.TransportError:
                        return False

                await until(ready)
                # What Stripe's page takes is bounded by the clock of the installation, which the guide moves.
                stripe.account.now = lambda: datetime.fromisoformat(
                    httpx2.get(
                        f"{url}/v1/test-clock", headers={"authorization": f"Bearer {ADMIN_TOKEN}"}
                    ).json()["now"]
                )
                yield url


@pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "jq"))), reason="the guide's commands need bash, curl and jq"
)
async def test_the_guide_sells_plans(address: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(base_url=address) as http:
        customer = await Seller(http).customer(credit=None)
    script = "set -euo pipefail\n" + "\n".join(COMMANDS.findall(GUIDE.read_text()))
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "BILLING": address,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "PLANS": str(PLANS),
            "ORG": customer.org,
        },
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaints = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
    assert process.returncode == 0, (printed.decode()[-2000:], complaints.decode()[-2000:])
    seen = list(documents(printed.decode()))
    assert [one["refused"] for one in seen if isinstance(one, dict) and "refused" in one] == [
        "plan_version_published"
    ]
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
