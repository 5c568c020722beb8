"""An invoice with everything that a contract brings, as the customer gets it."""

import json
import re
from datetime import timedelta
from io import BytesIO
from pathlib import Path

from pypdf import PdfReader

from headrace_billing.invoicing.pdf import print_pdf
from headrace_contracts.usage import Ending
from tests.billing.contracts.desk import DECEMBER, FEBRUARY, JANUARY, PREPAID, Desk
from tests.billing.contracts.test_gpu_time import DEPLOYMENT, RATES, ran
from tests.billing.contracts.test_service_levels import AVAILABLE, ask
from tests.billing.seller import Document

GOLDEN = Path(__file__).parent / "golden" / "invoice.json"
RANDOM = re.compile(r"\b(org|prj|inv|chg|ctr|wal)_[0-9a-f]{32}\b")
HOURS = timedelta(hours=1)


async def invoiced(desk: Desk) -> Document:
    """January's: a commitment used up and gone beyond, accelerators above a reservation, and a month below its level."""
    contract = await desk.sign(
        terms={
            "commitment": {**PREPAID, "overage_times": "1.25"},
            "minimum_monthly": "100.00",
            "gpu_rates": [RATES],
            "service_levels": [AVAILABLE],
        }
    )
    await desk.passes_to(DECEMBER)
    await desk.shop.close(end=DECEMBER.isoformat())
    await desk.passes_to(JANUARY + 6 * HOURS)
    await desk.shop.close(end=JANUARY.isoformat())
    await desk.draw(contract, 90, at=JANUARY + 10 * HOURS)
    await desk.use(36, wallet=contract["wallet"], at=JANUARY + 20 * HOURS)
    await ran(desk, JANUARY + 30 * HOURS, 4)
    await ask(desk, JANUARY + 40 * HOURS)
    await ask(desk, JANUARY + 41 * HOURS, ending=Ending.UPSTREAM_FAILED)
    await desk.passes_to(FEBRUARY + 6 * HOURS)
    return await desk.shop.close(end=FEBRUARY.isoformat())


async def test_the_invoice_of_a_contract_s_month_is_the_golden_one(desk: Desk) -> None:
    invoice = await invoiced(desk)
    seen = RANDOM.sub(r"\1_x", json.dumps(invoice, indent=2, ensure_ascii=False)) + "\n"
    assert seen == GOLDEN.read_text()
    paper = "".join(page.extract_text() for page in PdfReader(BytesIO(print_pdf(invoice))).pages)
    assert "1,488 GPU h $1.00 / GPU h $1,488.00" in " ".join(paper.replace("\u00a0", " ").split())
    assert DEPLOYMENT in seen
    await desk.books_hold()
