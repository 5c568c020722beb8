"""Four eyes: a large write-off waits for a second member, and is posted once when that member agrees."""

from headrace_billing.members.permission import Role
from headrace_contracts.usage import Disposition
from tests.billing.invoicing.shop import Shop
from tests.billing.members.team import joined

NAMES = {"reason": "insolvent", "requested_by": "Ada", "approved_by": "Grace"}


async def test_a_write_off_above_the_bound_waits_for_a_second_member(shop: Shop) -> None:
    seller = shop.seller
    finance, other = await joined(seller, Role.FINANCE), await joined(seller, Role.FINANCE, name="Bo")
    await shop.sell(disposition=Disposition.PAYG)
    shop.clock.passes(days=2)
    invoice = await shop.close()
    path = f"/v1/invoices/{invoice['id']}"
    before = (await seller.get(f"{path}/settlements"))["standing"]
    assert before["status"] == "open"
    bound = await seller.ask("PUT", "/v1/approval-bounds/write_off/USD", {"above": "0.00"})
    assert bound.is_success, bound.text

    asked = await finance.ask("POST", f"{path}/write-offs", NAMES)
    assert asked.status_code == 202
    approval = asked.json()["approval"]
    assert (await seller.get(f"{path}/settlements"))["standing"] == before
    own = await finance.ask("POST", f"/v1/approvals/{approval['id']}/approve")
    assert not own.is_success
    agreed = await other.ask("POST", f"/v1/approvals/{approval['id']}/approve")
    assert agreed.is_success, agreed.text
    assert agreed.json()["result"]["standing"]["status"] == "written_off"

    await other.ask("POST", f"/v1/approvals/{approval['id']}/approve")
    [one] = (await seller.get(f"{path}/settlements"))["items"]
    assert (one["kind"], one["amount"]) == ("write_off", approval["amount"])
