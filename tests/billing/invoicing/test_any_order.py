"""An invoice is of what was used, however that was told: in any order, twice, in any batches, at any place on Earth."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_contracts.usage import Disposition, Ending, TokenCounts, UsageEvent
from tests.billing.ingest.usage import Gateway, take
from tests.billing.invoicing.shop import Shop
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Document

TOLD = 7
"""Events that `_used` makes; some of them are told twice."""

PREPAID, PAYG = Disposition.PREPAID, Disposition.PAYG


def _used(gateway: Gateway, at: datetime) -> list[UsageEvent]:
    corrected = str(uuid4())
    return [
        gateway.event(
            tokens=TokenCounts(input_uncached=1_234_567, cache_read=765_432, output_visible=300_001),
            received_at=at,
        ),
        gateway.event(tokens=TokenCounts(output_visible=1, reasoning=41), received_at=at),
        # Each alone would be a cent; together they are two.
        *(
            gateway.event(tokens=TokenCounts(input_uncached=333), received_at=at, disposition=PAYG)
            for _ in range(3)
        ),
        gateway.estimate(corrected, tokens=TokenCounts(output_visible=100_000), received_at=at),
        gateway.event(
            request=corrected,
            tokens=TokenCounts(input_uncached=7, output_visible=60_000),
            received_at=at,
            ending=Ending.GATEWAY_LOST,
        ),
    ]


LINES = [
    ("input_uncached", False, 999, "0.03", "0.02997"),
    ("input_uncached", True, 1_234_574, "37.04", "37.03722"),
    ("cache_read", True, 765_432, "4.59", "4.592592"),
    ("output", True, 360_043, "32.40", "32.40387"),
]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations([*range(TOLD), 0, 5, 6]),
    cuts=st.sets(st.integers(1, TOLD + 2), max_size=4),
)
async def test_the_same_events_in_any_order_and_batches_make_the_same_invoice(
    shop: Shop, order: list[int], cuts: set[int]
) -> None:
    customer = await shop.seller.customer(credit="500.00")
    gateway = Gateway(customer, shop.gateway.price_book, boot=customer.org)
    events = _used(gateway, shop.clock.now)
    places = [0, *sorted(cuts), len(order)]
    for start, end in pairwise(places):
        await take(shop.database, *(events[number] for number in order[start:end]))
    await tell(shop.database, *(yielded(event) for event in events if event is not events[5]))
    shop.clock.passes(hours=1)
    invoice = await shop.close(organization=customer.org)
    assert [
        (line["token_class"], line["prepaid"], line["quantity"], line["amount"], line["exact_amount"])
        for line in invoice["lines"]
    ] == LINES
    assert (invoice["total"], invoice["amount_due"]) == ("74.06", "0.03")


def _quantities(*invoices: Document) -> list[list[int]]:
    return [[line["quantity"] for line in invoice["lines"]] for invoice in invoices]


async def test_the_leap_day_is_in_the_february_that_has_it(shop: Shop) -> None:
    march = datetime(2028, 3, 1, tzinfo=UTC)
    shop.clock.now = march + timedelta(days=1)
    for tokens, at in ((2900, datetime(2028, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)), (100, march)):
        await shop.sell(TokenCounts(output_visible=tokens), at=at)
    february = await shop.close(end=march.isoformat())
    assert february["period"]["end"] == "2028-03-01T00:00:00+00:00"
    assert _quantities(february, await shop.close()) == [[2900], [100]]
    (row,) = (await shop.seller.get("/v1/revenue/schedule?start=2028-02&end=2028-02"))["items"]
    assert row["recognised"]["revenue_tokens"] == "0.261"


@pytest.mark.parametrize(
    ("midnight", "utc"),
    [
        # Nepal is not off by whole hours; in Berlin a day of March has 23 hours; Kiribati is a day ahead.
        ("2026-12-01T00:00:00+05:45", "2026-11-30T18:15:00+00:00"),
        ("2026-03-30T00:00:00+02:00", "2026-03-29T22:00:00+00:00"),
        ("2027-01-01T00:00:00+14:00", "2026-12-31T10:00:00+00:00"),
    ],
)
async def test_a_period_ends_at_the_instant_that_is_told_wherever_that_is_midnight(
    shop: Shop, midnight: str, utc: str
) -> None:
    end = datetime.fromisoformat(utc)
    shop.clock.now = end + timedelta(days=1)
    await shop.sell(TokenCounts(output_visible=1000), at=end - timedelta(microseconds=1))
    await shop.sell(TokenCounts(output_visible=7000), at=end)
    first = await shop.close(end=midnight)
    assert first["period"]["end"] == utc
    assert _quantities(first, await shop.close()) == [[1000], [7000]]
