"""The guide to the end of a month, command by command, on an installation whose clock can be moved."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
from pypdf import PdfReader

from headrace_billing.database import Database
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.guides.commands import NEEDS_A_SHELL, run
from tests.billing.ingest.usage import Gateway, take
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import Customer, Seller

pytestmark = NEEDS_A_SHELL


async def used_something(address: str, database: Database, at: datetime) -> Customer:
    """A customer who pays afterwards, and another who has paid ahead; each with one request of $9.00."""
    async with httpx2.AsyncClient(base_url=address) as http:
        seller = Seller(http)
        price_book = await seller.publish_prices()
        customers = [
            await seller.customer(credit=None, disposition="payg"),
            await seller.customer(credit="20.00"),
        ]
    for customer, disposition in zip(customers, (Disposition.PAYG, Disposition.PREPAID), strict=True):
        event = Gateway(customer, price_book, boot=customer.org).event(
            tokens=TokenCounts(output_visible=100_000), received_at=at, disposition=disposition
        )
        await take(database, event)
        await tell(database, yielded(event))
    return customers[0]


async def test_the_guide_closes_a_month(address: str, database: Database, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    customer = await used_something(address, database, now - timedelta(seconds=5))
    month = f"{now - timedelta(seconds=5):%Y-%m}"
    seen = await run("month-end.md", address, tmp_path, MONTH=month, ORG=customer.org)
    assert {"drafts": 2, "final": 2, "empty": 0, "refused": 0} in seen
    assert {"total": "0.50", "tax": "0.10", "number": "HR-CN-000001", "off_amount_due": "0.60"} in seen
    standing = [one for one in seen if isinstance(one, dict) and "written_off" in one][-1]
    # $9.00 and 19 % of it, less the credit note and the payment.
    assert (standing["status"], standing["written_off"], standing["open"]) == ("written_off", "5.11", "0.00")
    closed = [one for one in seen if isinstance(one, dict) and "closed_at" in one]
    assert [(one["month"], one["approved_by"]) for one in closed] == [(month, "Grace")]
    printed_invoice = PdfReader(tmp_path / "invoice.pdf").pages[0].extract_text()
    assert "for testing only" in printed_invoice
    assert "PO-4711" in printed_invoice
    assert (tmp_path / "focus.csv").read_text().count("Usage-Based") == 2
