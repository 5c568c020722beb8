"""The guide to a contract, command by command; and the reference's example is one that would be signed."""

import asyncio
import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from headrace_billing.contracts.bodies import NewContract
from headrace_billing.contracts.contract import check_terms
from tests.billing.guides.test_month_end import COMMANDS, SECONDS_MAX, address, documents
from tests.billing.seller import ADMIN_TOKEN, Seller

__all__ = ["address"]

DOCS = Path(__file__).resolve().parents[3] / "docs"
EXAMPLE = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "jq"))), reason="the guide's commands need bash, curl and jq"
)
async def test_the_guide_signs_amends_bills_and_ends_a_contract(address: str) -> None:
    async with httpx2.AsyncClient(base_url=address) as http:
        seller = Seller(http)
        await seller.publish_prices()
        customer = await seller.customer(credit=None, disposition="payg")
    script = "set -euo pipefail\n" + "\n".join(
        COMMANDS.findall((DOCS / "guides" / "contracts.md").read_text())
    )
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "BILLING": address,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "ORG": customer.org,
            "PROJECT": customer.project,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaints = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
    assert process.returncode == 0, (printed.decode()[-2000:], complaints.decode()[-2000:])
    seen = list(documents(printed.decode()))
    assert {"status": "active", "version": 1, "committed": "900.00"} in seen
    assert {"used": "0.00", "left": "900.00", "projected": "0.00"} in seen
    assert {"attained_percent": "100", "credit": "0.00"} in seen
    assert {"version": 2} in seen
    assert [{"description": "Framework: commitment, period 1 of 12", "amount": "900.00"}] in seen
    assert seen[-1] == {"status": "active", "months": 1}


def test_the_reference_s_example_is_a_contract() -> None:
    (example,) = EXAMPLE.findall((DOCS / "reference" / "contracts.md").read_text())
    written = json.loads(example)
    contract = NewContract.model_validate({**written, "organization": "org_1", "projects": ["prj_1"]})
    contract.term.check()
    check_terms(contract.terms.terms(), contract.term)
    assert contract.starts_on > datetime(2026, 1, 1, tzinfo=UTC).date()
