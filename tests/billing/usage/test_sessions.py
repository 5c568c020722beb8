"""What each session used and cost, and how long its actions took."""

from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode

import pytest

from headrace_billing.accounts.key import microseconds
from headrace_billing.database import Database
from headrace_contracts.usage import Disposition, Ending, TokenCounts
from tests.billing.ingest.usage import RECEIVED, Gateway, take
from tests.billing.seller import Document, Seller

SPAN = {"start": "2026-11-23T00:00:00Z", "end": "2026-11-24T00:00:00Z"}


@pytest.fixture
async def gateway(seller: Seller) -> Gateway:
    published = await seller.publish_prices()
    return Gateway(await seller.customer(credit=None, disposition="payg"), published)


async def use(database: Database, gateway: Gateway, session: str, *, seconds: list[float]) -> None:
    """A streamed request of each length, whose first token came after a tenth of it."""
    for n, length in enumerate(seconds):
        at = RECEIVED + timedelta(seconds=n)
        began = microseconds(at)
        await take(
            database,
            gateway.event(
                received_at=at,
                session=session,
                first_token_at_us=began + round(length * 100_000),
                finished_at_us=began + round(length * 1_000_000),
                tokens=TokenCounts(input_uncached=1000, output_visible=100),
                disposition=Disposition.PAYG,
            ),
        )


async def ask(asker: Seller, **query: object) -> Document:
    return await asker.get(f"/v1/usage/sessions?{urlencode({**SPAN, **query})}")


async def test_percentiles_are_of_the_actions_of_a_session_and_the_cost_is_the_ledgers(
    database: Database, seller: Seller, gateway: Gateway
) -> None:
    await use(database, gateway, "ses_a", seconds=[1, 2, 3, 4, 5])
    broken = gateway.event(
        session="ses_a",
        ending=Ending.UPSTREAM_FAILED,
        finished_at_us=microseconds(RECEIVED) + 60_000_000,
        tokens=TokenCounts(),
        disposition=Disposition.PAYG,
    )
    await take(database, broken)

    (item,) = (await ask(seller, organization=gateway.customer.org))["items"]

    assert (item["session"], item["requests"], item["completed"]) == ("ses_a", 6, 5)
    assert item["action_seconds"] == {"p50": 3.0, "p95": 4.8, "p99": 4.96}, "what failed is no action"
    assert item["time_to_first_token_seconds"] == {"p50": 0.3, "p95": 0.48, "p99": 0.496}
    assert item["tokens"]["total"] == 5500
    (cost,) = item["costs"]
    (charged,) = (await seller.get(f"/v1/costs?{urlencode({**SPAN, 'session': 'ses_a'})}"))["items"]
    assert (cost["amount"], cost["list_price"]) == (charged["amount"], charged["list_price"])


async def test_sessions_come_a_page_at_a_time_the_last_used_first(
    database: Database, seller: Seller, gateway: Gateway
) -> None:
    for n, name in enumerate(["ses_a", "ses_b", "ses_c"]):
        await use(database, gateway, name, seconds=[1.0] * (n + 1))
    mine = replace(seller, token=gateway.customer.secret)

    seen, cursor = [], None
    while True:
        page = await ask(mine, limit=1, **({} if cursor is None else {"cursor": cursor}))
        seen += [item["session"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ["ses_c", "ses_b", "ses_a"]


async def test_a_key_sees_the_sessions_of_its_project_alone(
    database: Database, seller: Seller, gateway: Gateway
) -> None:
    await use(database, gateway, "ses_a", seconds=[1.0])
    other = await seller.customer()
    another = replace(seller, token=other.secret)
    assert (await ask(another))["items"] == []
    path = f"/v1/usage/sessions?{urlencode({**SPAN, 'project': gateway.customer.project})}"
    assert await another.refused(path, None, method="GET") == (404, "not_found")


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ({}, (422, "query_too_wide")),
        ({"start": "2026-09-01T00:00:00Z", "organization": "org_x"}, (422, "interval_invalid")),
        ({"organization": "org_x", "cursor": "bm8"}, (400, "cursor_invalid")),
    ],
)
async def test_what_is_too_much_to_ask_is_refused(
    seller: Seller, query: dict[str, str], refusal: tuple[int, str]
) -> None:
    path = f"/v1/usage/sessions?{urlencode({**SPAN, **query})}"
    assert await seller.refused(path, None, method="GET") == refusal
