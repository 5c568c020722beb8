"""Revenue by month: credit that is sold is recognised, kept or returned, and never twice."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_billing.ledger.jobs import expire_lots
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import NOW, Document

WHY = {"reason": "agreed"}


async def schedule(shop: Shop, start: str = "2026-11", end: str = "2027-03") -> list[Document]:
    found = await shop.seller.get(f"/v1/revenue/schedule?start={start}&end={end}&currency=USD")
    items: list[Document] = found["items"]
    return items


async def sell_credit(shop: Shop, amount: str, *, expires_at: datetime | None = None) -> str:
    body = {
        "wallet": shop.customer.wallet,
        "amount": amount,
        "currency": "USD",
        "kind": "paid",
        "source": "cash",
        "reason": "top-up",
        "expires_at": None if expires_at is None else expires_at.isoformat(),
    }
    return str((await shop.seller.post("/v1/credit-grants", body))["id"])


async def test_each_month_says_what_was_sold_burnt_expired_and_refunded(shop: Shop) -> None:
    short = NOW + timedelta(days=20)
    await sell_credit(shop, "20.00", expires_at=short)
    refundable = await sell_credit(shop, "100.00")
    await shop.sell(TokenCounts(output_visible=100_000))  # $9.00
    shop.clock.now = datetime(2026, 12, 20, tzinfo=UTC)
    await expire_lots(shop.database, now=shop.clock.now)
    await shop.sell(TokenCounts(output_visible=200_000))  # $18.00
    shop.clock.now = datetime(2027, 1, 5, tzinfo=UTC)
    await shop.seller.post(f"/v1/credit-grants/{refundable}/refund", {"amount": "30.00"})
    november, december, january = await schedule(shop, end="2027-01")
    assert (november["deferred"], november["recognised"]["total"]) == (
        {
            "opening": "0.00",
            "sold": "620.00",
            "burnt": "9.00",
            "expired": "0.00",
            "refunded": "0.00",
            "returned": "0.00",
            "closing": "611.00",
        },
        "9.00",
    )
    assert (december["deferred"]["expired"], december["recognised"]["breakage"]) == ("11.00", "11.00")
    assert (december["recognised"]["total"], december["deferred"]["closing"]) == ("29.00", "582.00")
    assert (january["deferred"]["refunded"], january["deferred"]["closing"]) == ("30.00", "552.00")
    assert january["balances"]["refund_liability"] == {"opening": "0.00", "closing": "30.00"}


STEPS = st.one_of(
    st.tuples(st.just("sell_credit"), st.integers(1, 30), st.booleans()),
    st.tuples(st.just("use"), st.integers(1, 500_000), st.booleans()),
    st.tuples(st.just("pass"), st.integers(1, 25)),
    st.tuples(st.just("expire")),
    st.tuples(st.just("refund")),
    st.tuples(st.just("close")),
    st.tuples(st.just("void")),
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=2, max_size=8))
async def test_what_was_sold_is_recognised_deferred_or_refunded(
    shop: Shop, steps: list[tuple[Any, ...]]
) -> None:
    for kind, *rest in steps:
        shop.clock.passes(minutes=7)
        await DO[kind](shop, *rest)
    rows = await schedule(shop, end="2035-12")
    sums = {
        name: sum(_nanos(row["deferred"][name]) for row in rows)
        for name in ("sold", "burnt", "expired", "refunded", "returned")
    }
    deferred = _nanos(rows[-1]["deferred"]["closing"])
    assert sums["sold"] == sums["burnt"] - sums["returned"] + sums["expired"] + sums["refunded"] + deferred
    assert sum(_nanos(row["recognised"]["breakage"]) for row in rows) == sums["expired"]
    balance = await shop.seller.get(f"/v1/wallets/{shop.customer.wallet}")
    assert deferred == sum(_nanos(lot["remaining"]) for lot in balance["lots"])
    for earlier, later in pairwise(rows):
        assert later["deferred"]["opening"] == earlier["deferred"]["closing"]


async def _use(shop: Shop, tokens: int, afterwards: bool) -> None:
    disposition = Disposition.PAYG if afterwards else Disposition.PREPAID
    await shop.sell(TokenCounts(output_visible=tokens), disposition=disposition)


async def _sell(shop: Shop, amount: int, short: bool) -> None:
    expires_at = shop.clock.now + timedelta(days=5) if short else None
    await sell_credit(shop, f"{amount}.00", expires_at=expires_at)


async def _pass(shop: Shop, days: int) -> None:
    shop.clock.passes(days=days)


async def _expire(shop: Shop) -> None:
    await expire_lots(shop.database, now=shop.clock.now)


async def _refund(shop: Shop) -> None:
    grants = (await shop.seller.get(f"/v1/credit-grants?wallet={shop.customer.wallet}"))["items"]
    await shop.seller.ask("POST", f"/v1/credit-grants/{grants[-1]['id']}/refund", {})


async def _close(shop: Shop) -> None:
    await shop.seller.ask("POST", "/v1/periods/close", {"organization": shop.customer.org})


async def _void(shop: Shop) -> None:
    for invoice in (await shop.seller.get("/v1/invoices"))["items"][-1:]:
        await shop.seller.ask("POST", f"/v1/invoices/{invoice['id']}/void", WHY)


DO: dict[str, Callable[..., Awaitable[None]]] = {
    "sell_credit": _sell,
    "use": _use,
    "pass": _pass,
    "expire": _expire,
    "refund": _refund,
    "close": _close,
    "void": _void,
}


def _nanos(amount: str) -> int:
    sign = -1 if amount.startswith("-") else 1
    whole, _, places = amount.lstrip("-").partition(".")
    return sign * (int(whole) * 1_000_000_000 + int(places.ljust(9, "0")))


async def test_a_schedule_names_its_months_or_is_refused(shop: Shop) -> None:
    for query in ("start=2026-11", "start=2026-13&end=2026-12", "start=2026-12&end=2026-11"):
        found = await shop.seller.refused(f"/v1/revenue/schedule?{query}", None, method="GET")
        assert found == (400, "invalid_request")
