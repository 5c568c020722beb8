"""What connects billing to a Stripe account: all of it or nothing, and no secret of it in any message."""

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from headrace_billing.payments.access import PaymentsUnavailable, StripeAccess
from headrace_billing.payments.stripe_api import Stripe, connected
from headrace_billing.settings import WorkerSettings
from tests.support.stripe.server import FakeStripe

KEY = "sk_test_never_to_be_seen"
SECRET = "whsec_never_to_be_seen"
STRIPE = {
    "STRIPE_API_KEY": KEY,
    "STRIPE_WEBHOOK_SECRETS": f"{SECRET}, whsec_of_yesterday",
    "PAYMENTS_RETURN_URL": "https://console.example.com/billing",
}
LEAST = {"DATABASE_URL": "postgresql://a", "VALKEY_URL": "redis://a", "SIGNING_KEY": "ab" * 32}


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEAST.items():
        monkeypatch.setenv(f"HEADRACE_BILLING_{name}", value)


def test_without_any_of_it_nobody_pays() -> None:
    assert connected(WorkerSettings().stripe_access) is None  # type: ignore[call-arg]


def test_all_of_it_connects_and_takes_more_than_one_webhook_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in STRIPE.items():
        monkeypatch.setenv(f"HEADRACE_BILLING_{name}", value)
    access = WorkerSettings().stripe_access  # type: ignore[call-arg]
    assert access is not None
    assert access.webhook_secrets == (SECRET, "whsec_of_yesterday")
    assert access.api_url == "https://api.stripe.com"
    assert "never_to_be_seen" not in repr(access)


@pytest.mark.parametrize("missing", STRIPE)
def test_a_part_of_it_is_refused_by_the_name_of_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name, value in STRIPE.items():
        if name != missing:
            monkeypatch.setenv(f"HEADRACE_BILLING_{name}", value)
    with pytest.raises(ValidationError, match=f"missing: {missing.lower()}") as refused:
        WorkerSettings()  # type: ignore[call-arg]
    assert "never_to_be_seen" not in str(refused.value)


async def test_a_key_that_stripe_does_not_know_is_logged_without_the_key(fake: FakeStripe) -> None:
    stripe = Stripe(
        StripeAccess(api_key=KEY, webhook_secrets=(SECRET,), api_url=fake.url, return_url="https://a.example")
    )
    with capture_logs() as logs, pytest.raises(PaymentsUnavailable) as failed:
        await stripe.disputes(since=0)
    stripe.close()
    (entry,) = logs
    assert (entry["error"], entry["status"]) == ("AuthenticationError", 401)
    assert "never_to_be_seen" not in f"{logs} {failed.value!r}"
