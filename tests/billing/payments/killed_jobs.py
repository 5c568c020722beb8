"""The worker's jobs of payments, dying of SIGKILL after their first statement or request to Stripe, then their second…

Run as a process of its own: `killed_jobs JOB DATABASE_URL VALKEY_URL STRIPE_URL TIME`; prints how often it died.
"""

import asyncio
import sys
from datetime import datetime, timedelta
from typing import Any

import stripe as sdk

from headrace_billing.database import Database
from headrace_billing.invoicing.drafting import Books
from headrace_billing.invoicing.tax import TaxTable
from headrace_billing.payments import jobs
from headrace_billing.payments.access import StripeAccess
from headrace_billing.payments.collecting import dun
from headrace_billing.payments.stripe_api import Stripe
from headrace_billing.payments.tax_filing import file_due
from headrace_billing.payments.till import Till
from headrace_billing.plans.sign_up_jobs import settle_sign_ups
from headrace_billing.valkey import connect
from tests.billing.killed_step import Fuse, die_after, until_through
from tests.support.stripe.server import API_KEY

# What a dead worker had claimed is free again by then.
BETWEEN_DEATHS = timedelta(minutes=2)


def die_after_requests(fuse: Fuse) -> None:
    request = sdk.RequestsClient.request

    def counted(client: sdk.RequestsClient, *arguments: Any, **options: Any) -> Any:
        answer = request(client, *arguments, **options)
        fuse.burn()
        return answer

    sdk.RequestsClient.request = counted  # type: ignore[method-assign, assignment]


async def _file_taxes(till: Till, *, now: datetime) -> int:
    return await file_due(till.database, till.stripe, now=now)


async def _settle_sign_ups(till: Till, *, now: datetime) -> None:
    # A second after the subscription began, so that its charge lies in the period that is closed.
    await settle_sign_ups(Books(till.database, TaxTable()), now=now + timedelta(seconds=1))


JOBS = {
    "top_ups": (jobs.look_at_top_ups,),
    "auto_top_ups": (jobs.start_auto_top_ups, jobs.look_at_top_ups),
    "dunning": (dun, jobs.look_at_top_ups),
    "refunds": (jobs.look_at_refunds,),
    "disputes": (jobs.look_at_disputes,),
    "taxes": (_file_taxes, _file_taxes),
    "sign_ups": (jobs.look_at_top_ups, _settle_sign_ups),
}


async def work(name: str, database_url: str, valkey_url: str, stripe_url: str, now: datetime) -> None:
    till = Till(Database(database_url), connect(valkey_url), stripe_of(stripe_url))
    for job in JOBS[name]:
        await job(till, now=now)
    till.stripe.close()
    await till.valkey.aclose()
    await till.database.close()


def main(name: str, database_url: str, valkey_url: str, stripe_url: str, at: str) -> int:
    def once(deaths: int) -> None:
        die_after_requests(die_after(deaths + 1))
        now = datetime.fromisoformat(at) + deaths * BETWEEN_DEATHS
        asyncio.run(work(name, database_url, valkey_url, stripe_url, now))

    _load(stripe_of(stripe_url))
    return until_through(name, once, database_url=database_url)


def _load(stripe: Stripe) -> None:
    """Makes the SDK's modules load here, and not in each child anew."""
    services = stripe._client.v1
    _ = services.checkout.sessions, services.payment_intents, services.refunds, services.tax.transactions
    services.disputes.list()
    stripe.close()


def stripe_of(url: str) -> Stripe:
    return Stripe(
        StripeAccess(api_key=API_KEY, webhook_secrets=(), api_url=url, return_url="https://a.example.com")
    )


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
