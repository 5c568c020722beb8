"""What becomes of a subscription on real Postgres: charges, invoices, revenue, and what gateways hear of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from headrace_billing.accounts.pausing import set_paused
from headrace_billing.ledger.transaction import AccountKind
from headrace_billing.members.permission import Role
from headrace_contracts.usage import Disposition
from tests.billing.invoicing.shop import Shop
from tests.billing.members.team import joined
from tests.billing.plans.subscriber import Subscriber, lines, windows


async def test_a_subscription_is_charged_ahead_and_recognised_by_the_second(
    subscriber: Subscriber, shop: Shop
) -> None:
    shop.clock.now = datetime(2026, 12, 1, tzinfo=UTC)
    subscription = await subscriber.subscribe(seats=3, add_ons={"support": 1})
    assert (subscription["state"], subscription["period"]["end"]) == ("active", "2027-01-01T00:00:00+00:00")
    expected = [("add-on.support", "9.99"), ("plan", "18.00"), ("seats", "20.00")]
    assert sorted(lines(subscription["steps"])) == expected
    assert await shop.nanos(AccountKind.DEFERRED) == -47_990_000_000
    shop.clock.passes(minutes=1)
    invoice = await shop.close()
    assert invoice["total"] == "47.99"
    await subscriber.sound()
    shop.clock.now = datetime(2027, 1, 2, tzinfo=UTC)
    await subscriber.work()
    await subscriber.recognise()
    assert await shop.nanos(AccountKind.REVENUE_SUBSCRIPTIONS) == -47_990_000_000
    assert await shop.nanos(AccountKind.DEFERRED) == -47_990_000_000
    await subscriber.sound()


async def test_an_upgrade_shows_beforehand_what_it_charges_to_the_minor_unit(
    subscriber: Subscriber, shop: Shop
) -> None:
    subscription = await subscriber.subscribe()
    await subscriber.passes(days=10, hours=5, minutes=7, seconds=11)
    wish = {"plan": "plan_pro_1", "buy": {"setup": 1}}
    seen = await subscriber.preview(subscription, change=wish)
    assert await subscriber.charged() == [("plan.charge", 1800)]
    changed = await subscriber.ask(subscription, "change", wish)
    assert (changed["plan"], changed["version"]) == ("plan_pro_1", 3)
    assert seen["now"][0]["lines"] == changed["steps"][0]["lines"]
    assert (await subscriber.charged())[1:] == [
        ("plan.credit", -1187),
        ("plan.charge", 4749),
        ("once.setup.charge", 5000),
    ]
    assert seen["next"]["total"] == "72.00"
    await subscriber.passes(days=25)
    assert (await subscriber.charged())[-1] == ("plan.charge", 7200)
    await subscriber.sound()


async def test_the_rest_that_a_cancellation_gives_back_is_no_revenue(
    subscriber: Subscriber, shop: Shop
) -> None:
    shop.clock.now = datetime(2026, 12, 1, tzinfo=UTC)
    subscription = await subscriber.subscribe()
    await subscriber.passes(days=15)
    ended = await subscriber.ask(subscription, "cancel", {"when": "now", "give_rest_back": True})
    assert (ended["state"], lines(ended["steps"])[0]) == ("cancelled", ("plan", "-9.29"))
    await subscriber.passes(days=40)
    await subscriber.recognise()
    assert await shop.nanos(AccountKind.REVENUE_SUBSCRIPTIONS) == -8_710_000_000
    assert await shop.nanos(AccountKind.DEFERRED) == 0
    invoice = await shop.close()
    assert (invoice["total"], [line["description"] for line in invoice["lines"]]) == (
        "8.71",
        ["Lite", "Lite, time given back"],
    )
    await subscriber.sound()


async def test_a_plan_is_told_to_gateways_with_each_change_of_it(subscriber: Subscriber, shop: Shop) -> None:
    await subscriber.publish(
        "max", "160.00", entitlements={**windows(28_000), "models": ["glm-tiny"], "limits_per_seat": True}
    )
    assert (await subscriber.record()).disposition is Disposition.PREPAID
    subscription = await subscriber.subscribe()
    record = await subscriber.record()
    assert (record.disposition, [limit.ceiling for limit in record.org_limits], record.plan_models) == (
        Disposition.PLAN_WINDOW,
        [1_000_000_000],
        None,
    )
    # A subscriber's week begins with the subscription.
    assert record.org_limits[0].window is not None
    assert record.org_limits[0].window.anchor_us == int(shop.clock.now.timestamp()) * 10**6
    raised = await subscriber.ask(subscription, "change", {"plan": "plan_max_1", "seats": 2})
    record = await subscriber.record()
    assert ([limit.ceiling for limit in record.org_limits], record.plan_models) == (
        [56_000_000_000],
        ["glm-tiny"],
    )
    paused = await subscriber.ask(raised, "pause", {"when": "now"})
    record = await subscriber.record()
    assert (record.disposition, record.org_limits, record.plan_models) == (Disposition.PREPAID, [], None)
    resumed = await subscriber.ask(paused, "resume")
    assert (await subscriber.record()).disposition is Disposition.PLAN_WINDOW
    await subscriber.ask(resumed, "cancel")
    assert (await subscriber.record()).disposition is Disposition.PLAN_WINDOW
    await subscriber.passes(days=32)
    assert (await subscriber.record()).disposition is Disposition.PREPAID


async def test_a_project_s_own_plan_stands_in_for_its_organisation_s(
    subscriber: Subscriber, shop: Shop
) -> None:
    await subscriber.subscribe()
    own = await subscriber.subscribe("plan_pro_1", project=shop.customer.project)
    record = await subscriber.record()
    assert (record.org_limits, len(record.limits)) == ([], 1)
    body = {"organization": shop.customer.org, "plan": "plan_lite_1", "project": shop.customer.project}
    assert await subscriber.seller.refused("/v1/subscriptions", body) == (409, "subscription_exists")
    await subscriber.ask(own, "cancel", {"when": "now"})
    record = await subscriber.record()
    assert (len(record.org_limits), record.limits) == (1, [])


async def test_a_late_worker_makes_up_for_each_period_once_and_two_workers_for_no_period_twice(
    subscriber: Subscriber, shop: Shop
) -> None:
    await subscriber.subscribe()
    shop.clock.passes(days=100)
    await asyncio.gather(*(subscriber.work() for _ in range(3)))
    assert await subscriber.charged() == [("plan.charge", 1800)] * 4
    await subscriber.sound()


async def test_of_two_changes_at_once_one_stands_and_the_other_is_told_so(subscriber: Subscriber) -> None:
    subscription = await subscriber.subscribe()
    path, version = f"/v1/subscriptions/{subscription['id']}/change", str(subscription["version"])
    answers = await asyncio.gather(
        *(
            subscriber.seller.ask("POST", path, {"seats": seats}, **{"if-match": version})
            for seats in (2, 3, 4)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412]
    (won,) = (answer.json() for answer in answers if answer.is_success)
    assert [one for one in await subscriber.charged() if one[0] != "plan.charge"] == [
        ("seats.charge", 1000 * (won["seats"] - 1))
    ]


async def test_the_same_change_sent_again_is_done_once(subscriber: Subscriber) -> None:
    subscription = await subscriber.subscribe()
    path = f"/v1/subscriptions/{subscription['id']}/change"
    headers = {"if-match": str(subscription["version"]), "idempotency-key": "once"}
    first = await subscriber.seller.ask("POST", path, {"plan": "plan_pro_1"}, **headers)
    again = await subscriber.seller.ask("POST", path, {"plan": "plan_pro_1"}, **headers)
    assert first.json() == again.json()
    assert len(await subscriber.charged()) == 3
    other = await subscriber.seller.refused(path, {"seats": 2}, **headers)
    assert other == (409, "idempotency_conflict")
    assert await subscriber.seller.refused(path, {"seats": 2}) == (428, "version_missing")


async def test_a_trial_is_in_force_and_free_and_then_charged(subscriber: Subscriber, shop: Shop) -> None:
    await subscriber.publish("try", "30.00", trial_days=14)
    subscription = await subscriber.subscribe("plan_try_1")
    assert (subscription["state"], await subscriber.charged()) == ("trialing", [])
    assert (await subscriber.record()).disposition is Disposition.PLAN_WINDOW
    await subscriber.passes(days=14)
    assert (await subscriber.shown(subscription))["state"] == "active"
    assert await subscriber.charged() == [("plan.charge", 3000)]


async def test_one_that_starts_later_is_neither_charged_nor_in_force_before(
    subscriber: Subscriber, shop: Shop
) -> None:
    at = shop.clock.now + timedelta(days=3)
    subscription = await subscriber.subscribe(starts_at=at.isoformat())
    assert (subscription["state"], await subscriber.charged()) == ("scheduled", [])
    await subscriber.passes(days=2)
    assert (await subscriber.record()).disposition is Disposition.PREPAID
    await subscriber.passes(days=2)
    shown = await subscriber.shown(subscription)
    assert (shown["state"], shown["period"]["start"]) == ("active", at.isoformat())
    body = {
        "organization": shop.customer.org,
        "project": shop.customer.project,
        "plan": "plan_lite_1",
        "starts_at": at.isoformat(),
    }
    assert await subscriber.seller.refused("/v1/subscriptions", body) == (422, "plan_change_invalid")


async def test_included_credit_comes_with_each_period_and_ends_with_it(
    subscriber: Subscriber, shop: Shop
) -> None:
    await subscriber.publish("credit", "10.00", entitlements={"credit": "12.00"})
    body = {"organization": shop.customer.org, "plan": "plan_credit_1"}
    assert await subscriber.seller.refused("/v1/subscriptions", body) == (422, "plan_change_invalid")
    await subscriber.subscribe("plan_credit_1", wallet=shop.customer.wallet)
    assert await subscriber.seller.balance(shop.customer.wallet) == "512.00"
    # Without windows it pays for no request: the wallet does.
    assert (await subscriber.record()).disposition is Disposition.PREPAID
    grants = (await subscriber.seller.get(f"/v1/credit-grants?wallet={shop.customer.wallet}"))["items"]
    assert (grants[-1]["kind"], grants[-1]["expires_at"]) == ("promo", "2026-12-23T12:00:00+00:00")
    shop.clock.passes(days=70)
    await subscriber.work()
    grants = (await subscriber.seller.get(f"/v1/credit-grants?wallet={shop.customer.wallet}"))["items"]
    # One for the period that runs; the one that nobody looked after could not have been spent any more.
    assert [grant["expires_at"][:10] for grant in grants[1:]] == ["2026-12-23", "2027-02-23"]
    await subscriber.sound()


async def test_who_loses_service_for_what_it_owes_is_past_due_and_not_charged_ahead(
    subscriber: Subscriber, shop: Shop
) -> None:
    subscription = await subscriber.subscribe()
    async with shop.database.begin() as session:
        await set_paused(session, shop.customer.org, paused=True)
    await subscriber.passes(days=1)
    assert (await subscriber.shown(subscription))["state"] == "past_due"
    await subscriber.passes(days=60)
    halted = await subscriber.shown(subscription)
    assert (halted["state"], len(await subscriber.charged())) == ("paused", 1)
    assert (await subscriber.record()).disposition is Disposition.PREPAID
    assert await subscriber.refused(halted, "resume") == (409, "invoices_overdue")
    async with shop.database.begin() as session:
        await set_paused(session, shop.customer.org, paused=False)
    assert (await subscriber.ask(halted, "resume"))["state"] == "active"


async def test_an_organisation_s_finance_changes_its_own_subscription_but_gives_itself_nothing_back(
    subscriber: Subscriber, shop: Shop
) -> None:
    subscription = await subscriber.subscribe("plan_pro_1")
    finance = await joined(subscriber.seller, Role.FINANCE, org=shop.customer.org)
    developer = await joined(subscriber.seller, Role.DEVELOPER, org=shop.customer.org)
    stranger = await joined(
        subscriber.seller, Role.OWNER, org=(await subscriber.seller.customer(credit=None)).org
    )
    back = {"when": "now", "give_rest_back": True}
    assert await subscriber.refused(subscription, "cancel", back, by=finance) == (
        403,
        "only_seller_gives_back",
    )
    cheaper = {"plan": "plan_lite_1", "when": "now"}
    assert await subscriber.refused(subscription, "change", cheaper, by=finance) == (
        403,
        "only_seller_gives_back",
    )
    assert await subscriber.refused(subscription, "cancel", by=developer) == (403, "role_missing")
    assert await subscriber.refused(subscription, "cancel", by=stranger) == (404, "not_found")
    planned = await subscriber.ask(subscription, "change", {"plan": "plan_lite_1"}, by=finance)
    assert (planned["planned"]["plan"], planned["plan"]) == ("plan_lite_1", "plan_pro_1")
    undone = await subscriber.ask(planned, "undo", by=finance)
    assert undone["planned"] is None
    assert await subscriber.refused(undone, "undo") == (409, "nothing_scheduled")


async def test_each_step_is_told_to_webhooks(subscriber: Subscriber, shop: Shop) -> None:
    subscription = await subscriber.subscribe()
    planned = await subscriber.ask(subscription, "pause")
    await subscriber.ask(planned, "undo")
    await subscriber.passes(days=31)
    async with shop.database.begin() as session:
        rows = await session.execute(
            text("SELECT type, data FROM webhook_messages WHERE type LIKE 'subscription.%' ORDER BY id")
        )
        told = [(row.type, row.data["state"]) for row in rows]
    assert sorted(told) == sorted(
        [
            ("subscription.created", "scheduled"),
            ("subscription.started", "active"),
            ("subscription.change_scheduled", "active"),
            ("subscription.change_undone", "active"),
            ("subscription.renewed", "active"),
        ]
    )


@pytest.mark.parametrize("what", ["change", "pause", "resume", "cancel", "undo"])
async def test_a_preview_changes_nothing(subscriber: Subscriber, what: str) -> None:
    subscription = await subscriber.subscribe()
    if what == "resume":
        subscription = await subscriber.ask(subscription, "pause", {"when": "now"})
    if what == "undo":
        subscription = await subscriber.ask(subscription, "cancel")
    before, charged = await subscriber.shown(subscription), await subscriber.charged()
    wish = {"change": {"seats": 2}, "cancel": {"when": "now"}}.get(what, {})
    seen = await subscriber.preview(subscription, **{what: wish})
    assert seen["subscription"]["version"] == before["version"] + 1
    assert (await subscriber.shown(subscription), await subscriber.charged()) == (before, charged)


@pytest.mark.parametrize(
    ("currency", "prices", "total"),
    # Ten of thirty days are left: of the lesser one given back, and of the greater one charged.
    [
        ("JPY", ("1000", "3001"), "1667"),
        ("KWD", ("1.000", "3.001"), "1.667"),
        ("USD", ("10.00", "30.01"), "16.67"),
    ],
)
async def test_every_currency_is_charged_in_its_minor_unit(
    subscriber: Subscriber, shop: Shop, currency: str, prices: tuple[str, str], total: str
) -> None:
    for code, price in zip(("lesser", "greater"), prices, strict=True):
        await subscriber.publish(code, price, currency=currency, entitlements={}, add_ons=[], seat_price="0")
    subscription = await subscriber.subscribe("plan_lesser_1")
    await subscriber.passes(days=20)
    await subscriber.ask(subscription, "change", {"plan": "plan_greater_1"})
    shop.clock.passes(seconds=1)
    invoice = await shop.close(currency=currency)
    assert invoice["total"] == total
    # Nothing is left to be rounded.
    assert Decimal(invoice["exact"]["total"]) == Decimal(total)
    await subscriber.sound()


async def test_who_changed_what_of_a_subscription_is_in_the_audit_log(
    subscriber: Subscriber, shop: Shop
) -> None:
    subscription = await subscriber.subscribe()
    await subscriber.ask(subscription, "change", {"plan": "plan_pro_1"})
    log = await subscriber.seller.get(f"/v1/audit-log?organization={shop.customer.org}")
    (entry,) = (one for one in log["items"] if one["operation"] == "change_subscription")
    assert entry["changes"][subscription["id"]]["plan"] == {"before": "plan_lite_1", "after": "plan_pro_1"}
