"""Credit that expires, and everything that touches one wallet at once."""

import asyncio
from datetime import timedelta
from decimal import Decimal

from headrace_billing.database import Database
from headrace_billing.ledger import store
from headrace_billing.ledger.jobs import expire_lots
from headrace_billing.ledger.transaction import AccountKind, business
from tests.billing.ingest.usage import Gateway, take
from tests.billing.seller import NOW, Seller


async def granted_until(seller: Seller, wallet: str, kind: str, days: int) -> None:
    body = {
        "wallet": wallet,
        "amount": "2",
        "currency": "USD",
        "kind": kind,
        "reason": "short",
        "expires_at": (NOW + timedelta(days=days)).isoformat(),
    }
    await seller.post("/v1/credit-grants", body)


async def test_credit_that_expired_leaves_the_wallet_once_and_lasting_credit_stays(
    seller: Seller, database: Database
) -> None:
    customer = await seller.customer(credit="5")
    await granted_until(seller, customer.wallet, "paid", 1)
    await granted_until(seller, customer.wallet, "promo", 1)
    assert await expire_lots(database, now=NOW) == 0
    assert await expire_lots(database, now=NOW + timedelta(days=1)) == 2
    assert await expire_lots(database, now=NOW + timedelta(days=2)) == 0
    assert await seller.balance(customer.wallet) == "5.00"
    async with database.begin() as session:
        assert await store.balance(session, business(AccountKind.BREAKAGE, "USD")) == -2_000_000_000
        # A gift that nobody used has cost nothing after all.
        assert await store.balance(session, business(AccountKind.PROMO_CONTRA, "USD")) == 0


async def test_usage_grants_and_expiry_of_the_same_wallets_at_once_neither_block_nor_lose(
    seller: Seller, database: Database
) -> None:
    price_book = await seller.publish_prices()
    gateways = [Gateway(await seller.customer(credit="1"), price_book, boot=str(n)) for n in range(2)]
    for gateway in gateways:
        await granted_until(seller, gateway.customer.wallet, "promo", 1)
    await asyncio.gather(
        *(take(database, *(g.event() for g in gateways)) for _ in range(6)),
        *(seller.grant("0.5", wallet=g.customer.wallet) for g in gateways for _ in range(3)),
        expire_lots(database, now=NOW + timedelta(days=2)),
    )
    async with database.begin() as session:
        assert await store.rebuild(session) == []
        assert (await store.trial_balance(session)).by_currency == {"USD": 0}
    granted, spent = Decimal("2.5"), 6 * Decimal("0.00075")
    for gateway in gateways:
        # Promotional credit burns first and the rest of it expired, at whatever moment: the customer's own money
        # paid at most for all usage, and at least for none.
        assert granted - spent <= Decimal(await seller.balance(gateway.customer.wallet)) <= granted
