"""Saved cards: charged without the customer, who is asked in when the bank wants to see them; and by themselves, within guards."""

import pytest

from headrace_billing.payments.auto_top_up import COOLDOWN
from tests.billing.payments.counter import PAID_FOR_TWENTY, Counter
from tests.billing.seller import Customer, Document, Seller
from tests.support.stripe import world
from tests.support.stripe.cards import ALWAYS_AUTHENTICATES, DECLINED, VISA, Card
from tests.support.stripe.server import FakeStripe, Fault


async def automatic(
    counter: Counter, customer: Customer, card: Card = VISA, *, ceiling: str = "100.00"
) -> Document:
    """Below five dollars twenty are charged."""
    body = {
        "threshold": "5.00",
        "amount": "20.00",
        "monthly_ceiling": ceiling,
        "card": await counter.save_card(customer, card),
    }
    answer = await counter.seller.ask("PUT", f"/v1/wallets/{customer.wallet}/auto-top-up", body)
    assert answer.is_success, answer.text
    document: Document = answer.json()
    return document


async def spend_all(counter: Counter, customer: Customer) -> None:
    """Refunds whatever credit there is, for want of usage."""
    for lot in (await counter.seller.get(f"/v1/wallets/{customer.wallet}"))["lots"]:
        await counter.seller.post(f"/v1/credit-grants/{lot['id']}/refund", {})


async def by_themselves(counter: Counter) -> list[str]:
    """How the top-ups stand that nobody asked for, oldest first."""
    items = (await counter.seller.get("/v1/top-ups"))["items"]
    return [item["state"] for item in items if item["way"] == "auto"]


async def test_a_saved_card_pays_at_once(counter: Counter, customer: Customer) -> None:
    made = await counter.top_up(customer, card=await counter.save_card(customer))
    assert (made["state"], made["url"]) == ("paid", None)
    assert await counter.seller.balance(customer.wallet) == "20.00"


async def test_a_page_of_stripe_s_takes_a_card_for_later(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    page = await counter.seller.post("/v1/cards", {"organization": customer.org})
    (session,) = fake.account.listed("checkout.session", url=page["url"])
    world.pay(fake.account, session["id"])
    (card,) = (await counter.seller.get(f"/v1/cards?organization={customer.org}"))["items"]
    assert card == {"id": card["id"], "brand": "visa", "last4": "4242", "expires": "2034-12"}
    assert (await counter.top_up(customer, card=card["id"]))["state"] == "paid"


async def test_a_card_given_on_stripe_s_page_is_kept_only_if_asked(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    kept = []
    for save_card in (False, True):
        made = await counter.top_up(customer, save_card=save_card)
        (session,) = fake.account.listed("checkout.session", client_reference_id=made["id"])
        world.pay(fake.account, session["id"])
        kept.append(len((await counter.seller.get(f"/v1/cards?organization={customer.org}"))["items"]))
    assert kept == [0, 1]


async def test_a_removed_card_pays_nothing_any_more(counter: Counter, customer: Customer) -> None:
    auto = await automatic(counter, customer)
    path = f"/v1/cards/{auto['card']}?organization={customer.org}"
    assert (await counter.seller.ask("DELETE", path)).status_code == 204
    assert (await counter.seller.get(f"/v1/cards?organization={customer.org}"))["items"] == []
    await counter.work()
    stopped = await counter.seller.get(f"/v1/wallets/{customer.wallet}/auto-top-up")
    assert (stopped["state"], stopped["stopped_reason"]) == ("stopped", "card_removed")
    assert await by_themselves(counter) == []


async def test_nobody_pays_with_somebody_else_s_card(
    counter: Counter, seller: Seller, customer: Customer
) -> None:
    theirs = await counter.save_card(await seller.customer(credit=None))
    await counter.save_card(customer)
    body = {"wallet": customer.wallet, "amount": "20.00", "currency": "USD", "card": theirs}
    assert await seller.refused("/v1/top-ups", body) == (404, "not_found")
    path = f"/v1/cards/{theirs}?organization={customer.org}"
    assert await seller.refused(path, None, method="DELETE") == (404, "not_found")
    assert await seller.refused("/v1/top-ups", body | {"card": "pm_of_nobody"}) == (404, "not_found")


async def test_a_declined_card_is_told_and_grants_nothing(counter: Counter, customer: Customer) -> None:
    made = await counter.top_up(customer, card=await counter.save_card(customer, DECLINED))
    assert made["state"] == "refused"
    assert made["reason"] in {"generic_decline", "card_declined"}
    assert await counter.notices() == ["top_up_refused"]
    assert await counter.balances() == {}


async def test_a_bank_that_wants_to_see_the_customer_gets_to(counter: Counter, customer: Customer) -> None:
    made = await counter.top_up(customer, card=await counter.save_card(customer, ALWAYS_AUTHENTICATES))
    assert made["state"] == "open"
    assert made["url"].startswith("https://hooks.stripe.com/")
    (told,) = (await counter.seller.get("/v1/notices"))["items"]
    assert (told["kind"], told["content"]["url"]) == ("payment_needs_authentication", made["url"])
    cancelled = await counter.seller.post(f"/v1/top-ups/{made['id']}/cancel")
    assert (cancelled["state"], cancelled["reason"]) == ("expired", "not_authenticated")


async def test_what_the_customer_authenticates_is_granted(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer, card=await counter.save_card(customer, ALWAYS_AUTHENTICATES))
    await counter.look_later()
    world.authenticate(fake.account, made["payment"])
    await counter.deliver(fake)
    await counter.work()
    assert await counter.notices() == ["payment_needs_authentication"]
    assert await counter.balances() == PAID_FOR_TWENTY


async def test_what_the_customer_fails_to_authenticate_is_refused(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer, card=await counter.save_card(customer, ALWAYS_AUTHENTICATES))
    world.authenticate(fake.account, made["payment"], passes=False)
    await counter.look_later()
    shown = await counter.shown(made)
    assert (shown["state"], shown["reason"]) == ("refused", "payment_intent_authentication_failure")


async def test_what_nobody_authenticates_is_called_off(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    made = await counter.top_up(customer, card=await counter.save_card(customer, ALWAYS_AUTHENTICATES))
    counter.clock.passes(hours=20)
    await counter.work()
    assert (await counter.shown(made))["state"] == "expired"
    assert fake.account.get(made["payment"])["status"] == "canceled"


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.IN_USE])
async def test_a_charge_whose_answer_is_lost_is_made_once(
    counter: Counter, fake: FakeStripe, customer: Customer, fault: Fault
) -> None:
    card = await counter.save_card(customer)
    fake.fail_next(None, fault)  # the card is looked at first
    body = {"wallet": customer.wallet, "amount": "20.00", "currency": "USD", "card": card}
    assert await counter.seller.refused("/v1/top-ups", body) == (503, "payments_unavailable")
    await counter.look_later()
    assert len(fake.account.listed("charge")) == 1
    assert await counter.balances() == PAID_FOR_TWENTY


@pytest.mark.parametrize("fault", [Fault.BROKEN_FOR_GOOD, Fault.BROKEN])
async def test_a_charge_that_stripe_never_answers_for_is_found_by_its_reference(
    counter: Counter, fake: FakeStripe, customer: Customer, fault: Fault
) -> None:
    card = await counter.save_card(customer)
    fake.fail_next(None, fault)
    body = {"wallet": customer.wallet, "amount": "20.00", "currency": "USD", "card": card}
    again = await counter.seller.refused("/v1/top-ups", body, **{"idempotency-key": "once"})
    assert again == (503, "payments_unavailable")
    counter.clock.passes(hours=21)
    # Whoever comes back as late charges nothing anew, for Stripe may have forgotten the key.
    fake.replies.clear()
    answer = await counter.seller.ask("POST", "/v1/top-ups", body, **{"idempotency-key": "once"})
    assert answer.is_success
    await counter.work()
    charged = fault is Fault.BROKEN_FOR_GOOD
    assert len(fake.account.listed("charge")) == charged
    assert await counter.balances() == (PAID_FOR_TWENTY if charged else {})


async def test_a_balance_below_the_threshold_tops_itself_up(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await automatic(counter, customer)
    await counter.work()
    assert await counter.balances() == PAID_FOR_TWENTY
    counter.clock.passes(hours=1)
    await counter.work()
    assert await by_themselves(counter) == ["paid"]


async def test_one_waits_at_most_and_the_next_only_after_a_pause(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await automatic(counter, customer)
    fake.fail_next(Fault.BUSY)
    await counter.work(times=3)
    assert await by_themselves(counter) == ["creating"]
    await counter.look_later()
    await spend_all(counter, customer)
    await counter.work()
    assert await by_themselves(counter) == ["paid"]
    counter.clock.passes(seconds=int(COOLDOWN.total_seconds()))
    await counter.work()
    assert await by_themselves(counter) == ["paid", "paid"]


async def test_a_month_s_ceiling_holds_and_is_told_once(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await automatic(counter, customer, ceiling="45.00")
    for _ in range(4):
        await counter.work()
        await spend_all(counter, customer)
        counter.clock.passes(hours=1)
    assert await by_themselves(counter) == ["paid", "paid"]
    assert await counter.notices() == ["auto_top_up_ceiling"]
    counter.clock.passes(days=9)  # it is December
    await counter.work()
    assert await by_themselves(counter) == ["paid", "paid", "paid"]


async def test_the_first_decline_stops_it_until_it_is_switched_on_again(
    counter: Counter, fake: FakeStripe, customer: Customer
) -> None:
    await automatic(counter, customer, DECLINED)
    for _ in range(3):
        await counter.work()
        counter.clock.passes(hours=1)
    assert await by_themselves(counter) == ["refused"]
    assert await counter.notices() == ["auto_top_up_stopped", "top_up_refused"]
    stopped = await counter.seller.get(f"/v1/wallets/{customer.wallet}/auto-top-up")
    assert (stopped["state"], stopped["stopped_reason"]) == ("stopped", "generic_decline")
    assert (await automatic(counter, customer))["state"] == "on"
    await counter.work()
    assert await by_themselves(counter) == ["refused", "paid"]


async def test_nothing_starts_after_it_is_switched_off(counter: Counter, customer: Customer) -> None:
    await automatic(counter, customer)
    path = f"/v1/wallets/{customer.wallet}/auto-top-up"
    assert (await counter.seller.ask("DELETE", path)).status_code == 204
    await counter.work()
    assert await by_themselves(counter) == []
    assert await counter.seller.refused(path, None, method="DELETE") == (404, "not_found")


async def test_a_ceiling_below_one_top_up_is_refused(counter: Counter, customer: Customer) -> None:
    body = {
        "threshold": "5.00",
        "amount": "20.00",
        "monthly_ceiling": "19.99",
        "card": await counter.save_card(customer),
    }
    path = f"/v1/wallets/{customer.wallet}/auto-top-up"
    assert await counter.seller.refused(path, body, method="PUT") == (422, "ceiling_too_low")
