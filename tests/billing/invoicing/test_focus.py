"""The FOCUS file: columns by the standard, figures by the invoice."""

import csv
import io
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.billing.invoicing.abroad import invoice_abroad
from tests.billing.invoicing.shop import Shop
from tests.billing.seller import NOW, Document

WHY = {"reason": "agreed"}


async def exported(shop: Shop) -> list[dict[str, str]]:
    start, end = ((NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") for days in (-30, 30))
    path = f"/v1/organizations/{shop.customer.org}/focus.csv?start={start}&end={end}"
    answer = await shop.seller.ask("GET", path)
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


def total(rows: list[dict[str, str]], column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


@pytest.mark.parametrize("currency", ["JPY", "USD", "KWD"])
async def test_the_file_adds_up_to_the_invoice_in_every_currency(shop: Shop, currency: str) -> None:
    invoice = await invoice_abroad(shop, currency)
    rows = await exported(shop)
    assert total(rows, "BilledCost") == Decimal(invoice["amount_due"])
    assert total(rows, "EffectiveCost") == Decimal(invoice["total"]) + Decimal(invoice["tax"]["amount"])
    assert [row["ConsumedQuantity"] for row in rows[:-1]] == [
        str(one["quantity"]) for one in invoice["lines"]
    ]
    tax = rows[-1]
    assert (tax["ChargeCategory"], tax["BilledCost"]) == ("Tax", invoice["tax"]["amount"])
    assert {(row["InvoiceId"], row["BillingCurrency"]) for row in rows} == {("HR-000001", currency)}


async def test_tax_that_prices_include_is_in_the_lines_and_not_told_twice(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "USD", prices_include_tax=True)
    rows = await exported(shop)
    assert total(rows, "BilledCost") == Decimal(invoice["amount_due"])
    assert {row["ChargeCategory"] for row in rows} == {"Usage"}
    await shop.seller.post(f"/v1/invoices/{invoice['id']}/void", WHY)
    assert total(await exported(shop), "BilledCost") == Decimal(0)


async def test_a_row_says_who_used_what_at_which_price(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "USD")
    row = (await exported(shop))[3]
    period: Document = invoice["period"]
    assert row["BillingPeriodStart"] == period["start"].replace("+00:00", "Z")
    assert {name: value for name, value in row.items() if value} | {"SubAccountId": "x"} == {
        "BilledCost": "37.04",
        "BillingAccountId": shop.customer.org,
        "BillingAccountName": "Mühlgraben Analytik GmbH",
        "BillingCurrency": "USD",
        "BillingPeriodStart": "2026-11-23T12:00:00Z",
        "BillingPeriodEnd": "2026-11-23T13:01:00Z",
        "ChargeCategory": "Usage",
        "ChargeDescription": "glm-tiny, input tokens",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": "2026-11-23T12:00:00Z",
        "ChargePeriodEnd": "2026-11-23T13:01:00Z",
        "ConsumedQuantity": "1234567",
        "ConsumedUnit": "Tokens",
        "ContractedCost": "37.04",
        "ContractedUnitPrice": "30",
        "EffectiveCost": "37.04",
        "InvoiceId": "HR-000001",
        "InvoiceIssuerName": "Headrace Mills Ltd",
        "ListCost": "37.04",
        "ListUnitPrice": "30",
        "PricingCategory": "Standard",
        "PricingQuantity": "1.234567",
        "PricingUnit": "1000000 Tokens",
        "ProviderName": "Headrace Mills Ltd",
        "PublisherName": "Headrace Mills Ltd",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Model inference",
        "ServiceSubcategory": "Generative AI",
        "SkuId": "glm-tiny/input_uncached",
        "SkuPriceId": "pb_usd_2",
        "SubAccountId": "x",
        "SubAccountName": "batch",
        "Tags": "{}",
        "x_CostCenter": "4200",
    }


async def test_a_void_invoice_adds_up_to_nothing_with_its_corrections(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "USD")
    await shop.seller.post(f"/v1/invoices/{invoice['id']}/void", WHY)
    rows = await exported(shop)
    assert [total(rows, column) for column in ("BilledCost", "EffectiveCost")] == [Decimal(0), Decimal(0)]
    corrections = [row for row in rows if row["ChargeClass"] == "Correction"]
    assert {row["InvoiceId"] for row in corrections} == {"HR-CN-000001"}
    assert {row["BillingPeriodStart"] for row in corrections} == {"2026-11-01T00:00:00Z"}


async def test_an_export_of_nobody_or_of_no_time_is_refused(shop: Shop) -> None:
    query = "start=2026-11-01T00:00:00Z&end=2026-11-01T00:00:00Z"
    found = await shop.seller.refused(
        f"/v1/organizations/{shop.customer.org}/focus.csv?{query}", None, method="GET"
    )
    assert found == (400, "invalid_request")
    query = "start=2026-11-01T00:00:00Z&end=2026-12-01T00:00:00Z"
    found = await shop.seller.refused(f"/v1/organizations/org_none/focus.csv?{query}", None, method="GET")
    assert found == (404, "not_found")
