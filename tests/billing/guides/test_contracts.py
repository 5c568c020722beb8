"""The guide to a contract, command by command; and the reference's example is one that would be signed."""

import json
import re
from pathlib import Path

import httpx2

from headrace_billing.contracts.bodies import NewContract
from headrace_billing.contracts.contract import check_terms
from tests.billing.guides.commands import GUIDES, NEEDS_A_SHELL, run
from tests.billing.seller import Seller

REFERENCE = GUIDES.parent / "reference" / "contracts.md"
EXAMPLE = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@NEEDS_A_SHELL
async def test_the_guide_signs_amends_bills_and_ends_a_contract(address: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(base_url=address) as http:
        seller = Seller(http)
        await seller.publish_prices()
        customer = await seller.customer(credit=None, disposition="payg")
    seen = await run("contracts.md", address, tmp_path, ORG=customer.org, PROJECT=customer.project)
    assert {"status": "active", "version": 1, "committed": "900.00"} in seen
    assert {"used": "0.00", "left": "900.00", "projected": "0.00"} in seen
    assert {"attained_percent": "100", "credit": "0.00"} in seen
    assert {"version": 2} in seen
    assert [{"description": "Framework: commitment, period 1 of 12", "amount": "900.00"}] in seen
    assert seen[-1] == {"status": "active", "months": 1}


def test_the_reference_s_example_is_a_contract() -> None:
    (example,) = EXAMPLE.findall(REFERENCE.read_text())
    written = {**json.loads(example), "organization": "org_1", "projects": ["prj_1"]}
    contract = NewContract.model_validate(written)
    contract.term.check()
    check_terms(contract.terms.terms(), contract.term)
