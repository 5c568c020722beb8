"""What is asked of Stripe Tax; by `stripe_api`, which speaks to Stripe, in the same way as all the rest."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import stripe

from headrace_billing.payments.stripe_calls import ask


@dataclass(frozen=True, slots=True)
class TaxPart:
    """One rate of a calculation, as a country, a state or a city has it."""

    reason: str
    """Stripe's `taxability_reason`."""
    tax_minor: int
    percent: Decimal
    country: str
    kind: str
    """Such as `vat` or `sales_tax`."""


@dataclass(frozen=True, slots=True)
class Calculated:
    id: str
    exclusive_minor: int
    """Tax on top of the amount."""
    inclusive_minor: int
    """Tax that the amount holds."""
    parts: tuple[TaxPart, ...]


@dataclass(frozen=True, slots=True)
class Filed:
    id: str
    line_item: str
    """Of the only line of a sale."""


class TaxCalls:
    def __init__(self, client: stripe.StripeClient) -> None:
        self._client = client

    async def calculate(self, asked: dict[str, Any]) -> Calculated:
        """Raises `PaymentsUnavailable`, `PaymentRefused`. A calculation that is not used is forgotten by itself."""
        params: Any = asked
        found: Any = await ask(lambda: self._client.v1.tax.calculations.create(params))
        return Calculated(
            id=str(found.id),
            exclusive_minor=int(found.tax_amount_exclusive),
            inclusive_minor=int(found.tax_amount_inclusive),
            parts=tuple(_part(one) for one in found.tax_breakdown),
        )

    async def file_sale(self, *, reference: str, calculation: str) -> Filed:
        """The same reference is the same transaction, however often it is asked for within Stripe's 24 hours."""
        params: Any = {"calculation": calculation, "reference": reference, "expand": ["line_items"]}
        options: Any = {"idempotency_key": f"{reference}:tax"}
        transactions = self._client.v1.tax.transactions
        found: Any = await ask(lambda: transactions.create_from_calculation(params, options))
        return Filed(str(found.id), str(found.line_items.data[0].id))

    async def file_reversal(
        self, *, reference: str, sale: str, line_item: str, net_minor: int, tax_minor: int
    ) -> Filed:
        """Of a part or all of a sale, to the very cents that the credit note says."""
        line = {
            "original_line_item": line_item,
            "reference": reference,
            "amount": -net_minor,
            "amount_tax": -tax_minor,
        }
        params: Any = {
            "mode": "partial",
            "original_transaction": sale,
            "reference": reference,
            "line_items": [line],
            "expand": ["line_items"],
        }
        options: Any = {"idempotency_key": f"{reference}:tax"}
        transactions = self._client.v1.tax.transactions
        found: Any = await ask(lambda: transactions.create_reversal(params, options))
        return Filed(str(found.id), str(found.line_items.data[0].id))


def _part(one: Any) -> TaxPart:
    rate = one.tax_rate_details
    return TaxPart(
        reason=str(one.taxability_reason),
        tax_minor=int(one.amount),
        percent=Decimal(rate.percentage_decimal or "0"),
        country=str(rate.country or ""),
        kind=str(rate.tax_type or ""),
    )
