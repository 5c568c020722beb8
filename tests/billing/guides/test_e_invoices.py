"""The guide to e-invoices, command by command, and what it promises of the files."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

from pypdf import PdfReader

from headrace_billing.database import Database
from tests.billing.guides.commands import NEEDS_A_SHELL, run
from tests.billing.guides.test_month_end import used_something
from tests.billing.invoicing.einvoice.test_hybrid import attached
from tests.support.schematron import broken_rules

pytestmark = NEEDS_A_SHELL


async def test_the_guide_makes_e_invoices_that_keep_the_rules(
    address: str, database: Database, tmp_path: Path
) -> None:
    customer = await used_something(address, database, datetime.now(UTC) - timedelta(seconds=5))
    seen = await run("e-invoices.md", address, tmp_path, ORG=customer.org)
    assert {"buyer_reference": "04011000-12345-34"}.items() <= dict(seen[2]).items()  # type: ignore[call-overload]
    xmls = [(tmp_path / f"{name}.xml").read_bytes() for name in ("invoice", "credit-note")]
    assert broken_rules(xmls) == [set(), set()]
    for name, xml in zip(("invoice", "credit-note"), xmls, strict=True):
        assert attached(PdfReader(BytesIO((tmp_path / f"{name}.pdf").read_bytes())))[1] == xml
    assert b"<ram:DuePayableAmount>10.71</ram:DuePayableAmount>" in xmls[0]
    assert b"For testing only" in xmls[0]
