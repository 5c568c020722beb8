"""The guide to the end of a month, command by command, on an installation whose clock can be moved."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from pypdf import PdfReader

from headrace_billing.database import Database
from headrace_contracts.usage import Disposition, TokenCounts
from tests.billing.ingest.usage import Gateway, take
from tests.billing.reconciliation.engine import tell, yielded
from tests.billing.seller import ADMIN_TOKEN, Customer, Seller
from tests.billing.test_processes import environment, running, until

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "month-end.md"
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS_MAX = 120

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "jq"))), reason="the guide's commands need bash, curl and jq"
)


@pytest.fixture
async def address(database_url: str, valkey_url: str, unused_port: Callable[[], int]) -> AsyncIterator[str]:
    port = unused_port()
    env = {**environment(database_url, valkey_url, port), "HEADRACE_BILLING_TEST_CLOCK": "true"}
    url = f"http://127.0.0.1:{port}"
    with running("headrace_billing", "api", env=env), running("headrace_billing", "worker", env=env):
        async with httpx2.AsyncClient(base_url=url) as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until(ready)
        yield url


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
    script = "set -euo pipefail\n" + "\n".join(COMMANDS.findall(GUIDE.read_text()))
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "BILLING": address,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "MONTH": month,
            "ORG": customer.org,
        },
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaints = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
    assert process.returncode == 0, (printed.decode()[-2000:], complaints.decode()[-2000:])
    seen = list(documents(printed.decode()))
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


def documents(printed: str) -> list[object]:
    """What jq printed, one after the other."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(printed):
        if printed[place].isspace():
            place += 1
            continue
        document, place = decoder.raw_decode(printed, place)
        found.append(document)
    return found
