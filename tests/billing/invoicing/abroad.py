"""A customer abroad with a profile, and what it bought in a currency of its own."""

from typing import Any

from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import Document

SELLER = {
    "name": "Headrace Mills Ltd",
    "address": "1 Weir Lane\nCromford DE4 3RQ\nUnited Kingdom",
    "tax_id": "VAT GB 980 7806 84",
    "email": "billing@headrace.example",
    "number_prefix": "HR",
    "country": "GB",
}
VAT = {"country": "DE", "name": "MwSt", "rate": "19", "reverse_charge": True}
PROFILE = {
    "legal_name": "Mühlgraben Analytik GmbH",
    "address": "Am Wehr 7\n10115 Berlin\nGermany",
    "country": "DE",
    "purchase_order": "PO-4711",
    "payment_days": 14,
}
# Odd enough to round in every currency.
TOKENS = TokenCounts(input_uncached=1_234_567, cache_read=765_432, output_visible=300_001)
PRICES = {
    "USD": {"input_uncached": "30", "cache_read": "6", "cache_write": "30", "output": "90"},
    "JPY": {"input_uncached": "4500", "cache_read": "900", "cache_write": "4500", "output": "13500"},
    "KWD": {"input_uncached": "9.2105", "cache_read": "1.8421", "cache_write": "9.2105", "output": "27.6315"},
}


async def settle_in(shop: Shop, **profile: Any) -> None:
    """The seller's own address and tax, and the customer's profile."""
    for path, body in (
        ("/v1/sellers/default", SELLER),
        ("/v1/sellers/default/tax-rates", {"rates": [VAT]}),
        (f"/v1/organizations/{shop.customer.org}/billing-profile", {**PROFILE, **profile}),
    ):
        answer = await shop.seller.ask("PUT", path, body)
        assert answer.is_success, answer.text


async def buys(
    shop: Shop, currency: str, *, disposition: str, name: str, tokens: TokenCounts = TOKENS
) -> Document:
    """A project of its own in that currency, with credit for everything if it pays ahead, and one request."""
    project = await shop.seller.post(
        "/v1/projects",
        {"organization": shop.customer.org, "name": name, "currency": currency, "disposition": disposition},
    )
    if disposition == "prepaid":
        grant = {
            "amount": "1000000",
            "currency": currency,
            "kind": "paid",
            "source": "cash",
            "reason": "test",
        }
        await shop.seller.post("/v1/credit-grants", {**grant, "wallet": project["wallet"]})
    key = await shop.seller.post("/v1/keys", {"project": project["id"], "name": name})
    await shop.sell(
        tokens,
        disposition=Disposition(disposition),
        project=project["id"],
        key=key["id"],
        wallet=project["wallet"],
        currency=currency,
    )
    return project


async def invoice_abroad(shop: Shop, currency: str, **profile: Any) -> Document:
    """An hour after both kinds of projects bought the same."""
    await settle_in(shop, **profile)
    shop.gateway.price_book = await shop.seller.publish_prices(PRICES[currency], currency=currency)
    await buys(shop, currency, disposition="prepaid", name="production")
    # Later, so that ids sort alike in every run.
    shop.clock.passes(minutes=1)
    project = await buys(shop, currency, disposition="payg", name="batch")
    await shop.seller.ask(
        "PUT",
        f"/v1/organizations/{shop.customer.org}/billing-profile",
        {**PROFILE, **profile, "cost_centers": {project["id"]: "4200"}},
    )
    shop.clock.passes(hours=1)
    return await shop.close(currency=currency)
