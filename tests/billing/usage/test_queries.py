"""What was used and what it cost: the ledger's figures, however they are grouped, for whom they concern."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from headrace_billing.database import Database
from headrace_billing.members.permission import Role
from headrace_billing.money import nanos_of
from headrace_billing.usage.query import Dimension, Granularity, Query, cursor_after
from headrace_contracts.usage import Disposition, TokenCounts, end_user_of
from tests.billing.ingest.usage import Gateway, take
from tests.billing.members.team import joined
from tests.billing.seller import MODEL, PRICES, Document, Seller

START = datetime(2026, 10, 31, tzinfo=UTC)
SPAN = {"start": "2026-10-31T00:00:00Z", "end": "2026-11-03T00:00:00Z"}
ODD = {
    "input_uncached": {
        "kind": "graduated",
        "tiers": [{"up_to": 500, "price": "0.1639"}, {"price": "0.0300007"}],
    },
    "cache_read": "0.0700001",
    "cache_write": "1.1",
    "output": {"kind": "volume", "tiers": [{"up_to": 40, "price": "2.200001"}, {"price": "1.1"}]},
}


@pytest.fixture
async def gateway(seller: Seller) -> Gateway:
    models = {MODEL: ODD, "glm-other": PRICES}
    published = await seller.post("/v1/price-books", {"currency": "USD", "models": models})
    return Gateway(await seller.customer(credit=None, disposition="payg"), published["id"])


async def use(database: Database, gateway: Gateway) -> None:
    """Over three days and two months, by two models, in sessions and tasks and outside of both."""
    for n in range(24):
        event = gateway.event(
            tokens=TokenCounts(
                input_uncached=37 * n, cache_read=n, cache_write=2, output_visible=5, reasoning=1
            ),
            received_at=START + timedelta(hours=2 * n, minutes=7 * (n % 8)),
            session=[None, "ses_a", "ses_b"][n % 3],
            task=[None, "tsk_a"][n % 2],
            end_user=[None, "1" * 32, "2" * 32][n % 7 % 3],
            model_served=[MODEL, "glm-other"][n % 5 == 0],
            disposition=Disposition.PAYG,
        )
        await take(database, event)


async def ask(asker: Seller, path: str, **query: Any) -> Document:
    return await asker.get(f"{path}?{urlencode({**SPAN, **query}, doseq=True)}")


async def ledger(database: Database) -> int:
    async with database.begin() as session:
        found = await session.execute(
            text("SELECT amount_nanos FROM ledger_balances WHERE kind = 'revenue_tokens'")
        )
        return -int(found.scalar_one())


def nanos(amount: str) -> int:
    return 0 if amount == "0.00" else -nanos(amount[1:]) if amount.startswith("-") else nanos_of(amount)


def total(found: Document) -> int:
    return sum(nanos(item["amount"]) for item in found["items"])


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    group_by=st.lists(
        st.sampled_from([d for d in Dimension if d is not Dimension.ORGANIZATION]), unique=True
    ),
    granularity=st.sampled_from([None, *Granularity]),
    limit=st.integers(3, 50),
    begins=st.integers(0, 30),
    ends=st.integers(31, 71),
)
async def test_however_costs_are_grouped_and_paged_they_add_up_to_the_ledger(
    *,
    seller: Seller,
    database: Database,
    gateway: Gateway,
    group_by: list[Dimension],
    granularity: Granularity | None,
    limit: int,
    begins: int,
    ends: int,
) -> None:
    async with database.begin() as session:
        used = (await session.execute(text("SELECT count(*) FROM usage_events"))).scalar_one()
    if not used:
        await use(database, gateway)
    query: dict[str, Any] = {
        "group_by": [one.value for one in group_by],
        "limit": limit,
        "project": gateway.customer.project,
    }
    if granularity is not None:
        query["granularity"] = granularity.value
    # The whole time, in three that meet at any hours.
    borders = [START + timedelta(hours=hours) for hours in (0, begins, ends, 72)]
    found = 0
    for start, end in pairwise(borders):
        if start < end:
            found += await added_up(seller, query, start=f"{start:{ISO}}", end=f"{end:{ISO}}")
    assert found == await ledger(database)


ISO = "%Y-%m-%dT%H:%M:%SZ"


async def added_up(seller: Seller, query: Document, **span: str) -> int:
    """All pages, none of whose items comes twice."""
    found, seen = 0, list[str]()
    cursor: str | None = None
    while True:
        page = await ask(
            seller, "/v1/costs", **query, **span, **({} if cursor is None else {"cursor": cursor})
        )
        found += total(page)
        seen += [
            str([item.get(name) for name in ("starts_at", *query["group_by"])]) for item in page["items"]
        ]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    return found


async def test_usage_is_there_as_soon_as_it_is_ingested(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    await take(database, gateway.event(received_at=START, disposition=Disposition.PAYG, session="ses_a"))
    (item,) = (
        await ask(
            seller,
            "/v1/usage",
            group_by=["key", "session"],
            granularity="hour",
            project=gateway.customer.project,
        )
    )["items"]
    assert item == {
        "starts_at": "2026-10-31T00:00:00+00:00",
        "key": gateway.customer.key,
        "session": "ses_a",
        "requests": 1,
        "tokens": {
            "input_uncached": 10,
            "cache_read": 0,
            "cache_write": 0,
            "output_visible": 5,
            "reasoning": 0,
            "total": 15,
        },
    }


async def test_the_end_is_exclusive_and_days_and_months_are_those_of_utc(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    november = datetime(2026, 11, 1, tzinfo=UTC)
    for at in (november - timedelta(microseconds=1), november, november + timedelta(days=1)):
        await take(database, gateway.event(received_at=at, disposition=Disposition.PAYG))
    october = {"start": "2026-10-31T00:00:00Z", "end": "2026-11-01T00:00:00Z"}
    assert (await ask(seller, "/v1/usage", **october))["items"][0]["requests"] == 1
    by_month = (await ask(seller, "/v1/usage", granularity="month"))["items"]
    assert [(item["starts_at"][:10], item["requests"]) for item in by_month] == [
        ("2026-10-01", 1),
        ("2026-11-01", 2),
    ]
    # The same instants in another zone's clothes.
    zoned = {"start": "2026-10-31T08:00:00+08:00", "end": "2026-11-01T08:00:00+08:00"}
    assert (await ask(seller, "/v1/usage", **zoned))["items"][0]["requests"] == 1


async def test_a_key_sees_its_project_and_no_other(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    other = Gateway(await seller.customer(credit=None, disposition="payg"), gateway.price_book, boot="boot-2")
    for one in (gateway, other):
        await take(database, one.event(received_at=START, disposition=Disposition.PAYG))
    buyer = Seller(seller.http, gateway.customer.secret)
    seen = (await ask(buyer, "/v1/usage", group_by=["organization", "project", "key"]))["items"]
    assert [item["project"] for item in seen] == [gateway.customer.project]
    assert (await ask(buyer, "/v1/usage", key=other.customer.key))["items"][0]["requests"] == 0
    for foreign in ({"project": other.customer.project}, {"organization": other.customer.org}):
        answer = await buyer.ask("GET", f"/v1/costs?{urlencode({**SPAN, **foreign})}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    everybody = (await ask(seller, "/v1/usage", group_by=["organization"]))["items"]
    assert len(everybody) == 2


JANE, JOE = "jane@example.org", "\N{GRINNING FACE}" * 100


async def use_of_end_users(database: Database, gateway: Gateway) -> None:
    """Two requests of Jane's, one of Joe's and one of nobody's, as a gateway tells of them."""
    for named in (JANE, JANE, JOE, None):
        event = gateway.event(
            received_at=START,
            disposition=Disposition.PAYG,
            end_user=None if named is None else end_user_of(gateway.customer.org, named),
        )
        await take(database, event)


async def test_usage_and_costs_of_an_end_user_are_found_by_the_id_that_clients_send(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    other = Gateway(await seller.customer(credit=None, disposition="payg"), gateway.price_book, boot="boot-2")
    for one in (gateway, other):
        await use_of_end_users(database, one)
    customer = gateway.customer
    key, member = (
        Seller(seller.http, customer.secret),
        await joined(seller, Role.READ_ONLY, org=customer.org),
    )
    for asker, place in (
        (key, {}),
        (member, {}),
        (seller, {"organization": customer.org}),
        (seller, {"project": customer.project}),
    ):
        for named, requests in ((JANE, 2), (JOE, 1), ("jack", 0)):
            (used,) = (await ask(asker, "/v1/usage", end_user=named, **place))["items"]
            assert used["requests"] == requests
            charged = (await ask(asker, "/v1/costs", end_user=named, **place))["items"]
            assert sum(item["requests"] for item in charged) == requests


async def test_end_users_are_told_apart_by_their_hashes_a_page_at_a_time(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    await use_of_end_users(database, gateway)
    org = gateway.customer.org
    found: list[tuple[str | None, int]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ask(seller, "/v1/usage", organization=org, group_by=["end_user"], limit=1, **cursor)
        found += [(item["end_user"], item["requests"]) for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == [(None, 1), *sorted([(end_user_of(org, JANE), 2), (end_user_of(org, JOE), 1)])]


async def test_an_end_user_s_id_is_kept_nowhere(seller: Seller, database: Database, gateway: Gateway) -> None:
    await use_of_end_users(database, gateway)
    page = await ask(
        seller,
        "/v1/usage",
        project=gateway.customer.project,
        end_user=JANE,
        group_by=["end_user", "model"],
        limit=1,
    )
    assert JANE not in str(page)


async def test_a_key_of_other_scopes_sees_no_usage(seller: Seller, gateway: Gateway) -> None:
    for scopes, status in ((["inference"], 403), (["usage:read"], 200)):
        body = {"project": gateway.customer.project, "name": "scoped", "scopes": scopes}
        key = await seller.post("/v1/keys", body)
        answer = await Seller(seller.http, key["secret"]).ask("GET", f"/v1/usage?{urlencode(SPAN)}")
        assert answer.status_code == status


async def test_what_is_not_charged_has_a_list_price_and_no_amount(
    seller: Seller, database: Database, gateway: Gateway
) -> None:
    await take(
        database,
        gateway.event(
            received_at=START,
            disposition=Disposition.OUTCOME_BUNDLED,
            task="tsk_a",
            model_served="glm-other",
            tokens=TokenCounts(output_visible=1_000_000),
        ),
    )
    (item,) = (await ask(seller, "/v1/costs", task="tsk_a"))["items"]
    assert (item["currency"], item["amount"], item["list_price"]) == ("USD", "0.00", "90.00")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"end": SPAN["start"]}, 422, "interval_invalid"),
        ({"end": "2026-11-01T00:30:00Z"}, 422, "interval_invalid"),
        ({"start": "2025-10-01T00:00:00Z"}, 422, "interval_invalid"),
        ({"start": "0001-01-01T00:00:00+14:00"}, 422, "interval_invalid"),
        ({"end": "9999-12-31T23:00:00-14:00"}, 422, "interval_invalid"),
        ({"start": "2026-10-31T00:00:00"}, 400, "invalid_request"),
        ({"group_by": ["colour"]}, 400, "invalid_request"),
        ({"limit": 0}, 400, "invalid_request"),
        ({"group_by": ["session"]}, 422, "query_too_wide"),
        ({"group_by": ["end_user"]}, 422, "query_too_wide"),
        ({"end_user": JANE}, 400, "invalid_request"),
        ({"end_user": "", "organization": "org_x"}, 400, "invalid_request"),
        ({"end_user": JANE, "project": "prj_none"}, 404, "not_found"),
        ({"cursor": "bm90IG91cnM"}, 400, "cursor_invalid"),
        ({"cursor": "!"}, 400, "cursor_invalid"),
        ({"cursor": "W10"}, 400, "cursor_invalid"),
    ],
)
async def test_a_query_that_can_not_be_answered_says_why(
    seller: Seller, query: Document, status: int, code: str
) -> None:
    answer = await seller.ask("GET", f"/v1/usage?{urlencode({**SPAN, **query}, doseq=True)}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "starts_at", ["9999-12-31T23:59:59+00:00", "2026-11-01T00:00:00", "yesterday", "\x00"]
)
async def test_a_cursor_that_was_tampered_with_is_refused(seller: Seller, starts_at: str) -> None:
    query = Query(
        start=START,
        end=START + timedelta(days=3),
        granularity=Granularity.HOUR,
    )
    forged = urlencode(
        {**SPAN, "granularity": "hour", "cursor": cursor_after(query.fingerprint, [starts_at])}
    )
    answer = await seller.ask("GET", f"/v1/usage?{forged}")
    assert (answer.status_code, answer.json()["code"]) == (400, "cursor_invalid")


async def test_a_cursor_belongs_to_its_query(seller: Seller, database: Database, gateway: Gateway) -> None:
    await use(database, gateway)
    page = await ask(seller, "/v1/usage", granularity="hour", limit=2)
    query = urlencode({**SPAN, "granularity": "day", "cursor": page["next"]})
    answer = await seller.ask("GET", f"/v1/usage?{query}")
    assert answer.json()["code"] == "cursor_invalid"


def test_a_page_is_looked_for_where_it_must_be_found_and_then_further_on_until_the_end() -> None:
    start, end = datetime(2026, 11, 1, 5, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    by_session = Query(start=start, end=end, granularity=Granularity.DAY, group_by=(Dimension.SESSION,))
    days = [horizon.day for horizon in by_session.horizons(start, limit=100)]
    assert days == [2, 5, 17, 1]
    by_hour = Query(start=start, end=end, granularity=Granularity.HOUR)
    looked = list(by_hour.horizons(start, limit=9))
    assert looked[0] == start + timedelta(hours=10)
    assert looked[-1] == end
    assert list(Query(start=start, end=end).horizons(start, limit=9)) == [end]
