"""Four eyes over what is taken back of an invoice: credit notes, voids and write-offs above a bound wait."""

import pytest
from sqlalchemy import text

from headrace_billing.members.permission import Role
from headrace_contracts.usage import Disposition
from tests.billing.invoicing.shop import Shop
from tests.billing.members.team import joined
from tests.billing.seller import Document, Seller

WHY = {"reason": "agreed on the phone"}
CORRECTIONS = {"credit": "credit-notes", "void": "void", "write_off": "write-offs"}


async def issued(shop: Shop) -> Document:
    await shop.sell(disposition=Disposition.PAYG)
    shop.clock.passes(days=2)
    return await shop.close()


async def bound(seller: Seller, operation: str, above: str) -> None:
    answer = await seller.ask("PUT", f"/v1/approval-bounds/{operation}/USD", {"above": above})
    assert answer.is_success, answer.text


@pytest.mark.parametrize("operation", CORRECTIONS)
async def test_a_correction_above_the_bound_is_made_once_and_by_two_members(
    shop: Shop, operation: str
) -> None:
    seller, invoice = shop.seller, await issued(shop)
    await bound(seller, operation, "0")
    finance, other = await joined(seller, Role.FINANCE), await joined(seller, Role.FINANCE, name="Bo")
    path = f"/v1/invoices/{invoice['id']}"
    before = (await seller.get(f"{path}/settlements"))["standing"]
    headers = {"idempotency-key": "once"}
    first = await finance.ask("POST", f"{path}/{CORRECTIONS[operation]}", WHY, **headers)
    again = await finance.ask("POST", f"{path}/{CORRECTIONS[operation]}", WHY, **headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    approval = first.json()["approval"]
    assert (approval["operation"], approval["subject"]) == (operation, invoice["id"])
    assert approval["amount"] == invoice["amount_due"]
    assert (await seller.get(f"{path}/settlements"))["standing"] == before

    approve = f"/v1/approvals/{approval['id']}/approve"
    assert await finance.refused(approve, None) == (403, "approver_is_requester")
    reader = await joined(seller, Role.READ_ONLY)
    assert await reader.refused(approve, None) == (403, "role_missing")
    agreed = [await other.post(approve), await other.post(approve)]
    assert agreed[0] == agreed[1]
    seen = await seller.get(f"{path}/settlements")
    [one] = seen["items"]
    assert seen["standing"]["open"] == "0.00"
    asked_by, agreed_by = (await finance.get("/v1/me"))["id"], (await other.get("/v1/me"))["id"]
    if operation == "write_off":
        assert (one["requested_by"], one["approved_by"]) == (asked_by, agreed_by)
    else:
        note = await seller.get(f"/v1/credit-notes/{agreed[0]['result']['id']}")
        assert (note["number"], note["reason"]) == (agreed[0]["result"]["number"], WHY["reason"])
        assert note["kind"] == operation

    log = (await seller.get("/v1/audit-log?limit=100"))["items"]
    told = {(entry["operation"], entry["outcome"], entry["actor"]["id"]) for entry in log}
    assert {
        (operation, "done", asked_by),
        ("approve", "refused", asked_by),
        ("approve", "done", agreed_by),
    } <= told


@pytest.mark.parametrize("operation", CORRECTIONS)
async def test_a_correction_within_the_bound_is_made_at_once_and_names_who_made_it(
    shop: Shop, operation: str
) -> None:
    invoice = await issued(shop)
    await bound(shop.seller, operation, invoice["amount_due"])
    finance = await joined(shop.seller, Role.FINANCE)
    path = f"/v1/invoices/{invoice['id']}"
    answer = await finance.ask("POST", f"{path}/{CORRECTIONS[operation]}", WHY)
    assert answer.status_code == 201
    [one] = (await finance.get(f"{path}/settlements"))["items"]
    if operation == "write_off":
        assert (one["requested_by"], one["approved_by"]) == ((await finance.get("/v1/me"))["id"], None)


async def test_what_is_credited_in_part_is_held_to_the_bound_by_that_part(shop: Shop) -> None:
    invoice = await issued(shop)
    await bound(shop.seller, "credit", "0.01")
    path = f"/v1/invoices/{invoice['id']}/credit-notes"
    for amount, status in (("0.01", 201), ("0.02", 202)):
        body = {**WHY, "lines": [{"position": 1, "amount": amount}]}
        assert (await shop.seller.ask("POST", path, body)).status_code == status


async def test_what_could_not_be_credited_is_refused_before_anybody_is_asked(shop: Shop) -> None:
    invoice = await issued(shop)
    await bound(shop.seller, "credit", "0")
    path = f"/v1/invoices/{invoice['id']}/credit-notes"
    body = {**WHY, "lines": [{"position": 99}]}
    assert await shop.seller.refused(path, body) == (422, "credit_invalid")
    assert (await shop.seller.get("/v1/approvals"))["items"] == []


async def test_what_was_credited_meanwhile_is_not_credited_again(shop: Shop) -> None:
    seller, invoice = shop.seller, await issued(shop)
    await bound(seller, "credit", "0")
    path = f"/v1/invoices/{invoice['id']}/credit-notes"
    finance, other = await joined(seller, Role.FINANCE), await joined(seller, Role.FINANCE)
    asked = [(await finance.post(path, WHY))["approval"]["id"] for _ in range(2)]
    await other.post(f"/v1/approvals/{asked[0]}/approve")
    assert await other.refused(f"/v1/approvals/{asked[1]}/approve", None) == (409, "credited_in_full")
    standing = (await seller.get(f"/v1/invoices/{invoice['id']}"))["standing"]
    assert (standing["status"], standing["open"]) == ("credited", "0.00")


async def test_no_more_is_written_off_than_was_agreed_to(shop: Shop) -> None:
    seller, invoice = shop.seller, await issued(shop)
    await bound(seller, "write_off", "0")
    path = f"/v1/invoices/{invoice['id']}"
    payment = {"amount": "0.01", "currency": "USD", "reference": "r", "paid_at": shop.clock.now.isoformat()}
    paid = await seller.post(f"{path}/payments", payment)
    finance, other = await joined(seller, Role.FINANCE), await joined(seller, Role.FINANCE)
    approval = (await finance.post(f"{path}/write-offs", WHY))["approval"]
    async with shop.database.begin() as session:
        await session.execute(TAKEN_BACK, {"invoice": invoice["id"], "id": paid["id"], "at": shop.clock.now})
    assert await other.refused(f"/v1/approvals/{approval['id']}/approve", None) == (409, "amount_grown")
    assert (await seller.get(path))["standing"]["written_off"] == "0.00"


# As the payer's bank does it, by way of Stripe.
TAKEN_BACK = text("""
    INSERT INTO invoice_settlements (id, invoice, kind, amount_minor, reference, happened_at, recorded_at)
    VALUES (:id, :invoice, 'reversal', -1, 'r', :at, :at)
""")
