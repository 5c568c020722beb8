"""Messages reach a receiver that verifies them, over HTTP, whatever the receiver does meanwhile."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from headrace_billing.database import Database
from headrace_billing.webhooks import schedule
from headrace_billing.webhooks.jobs import EACH_MAX, forget_old
from tests.billing.clock import Clock
from tests.billing.seller import NOW, Customer, Document, Seller
from tests.billing.test_killed_jobs import killed_until_done
from tests.billing.test_processes import START_SECONDS, environment, running, until
from tests.billing.webhooks.conftest import Post
from tests.billing.webhooks.receiver import Receiver, answer, drip, flood, hang, receiving

Told = tuple[Seller, Customer, Document]


@pytest.fixture
def told(seller: Seller, customer: Customer, endpoint: Document) -> Told:
    return seller, customer, endpoint


async def revoke(seller: Seller, customer: Customer) -> None:
    key = await seller.post("/v1/keys", {"project": customer.project, "name": "k"})
    await seller.post(f"/v1/keys/{key['id']}/revoke")


async def log_of(seller: Seller, endpoint: Document) -> list[Document]:
    items: list[Document] = (await seller.get(f"/v1/webhook-endpoints/{endpoint['id']}/deliveries"))["items"]
    return items


async def status_of(seller: Seller, endpoint: Document, org: str) -> Document:
    listed = (await seller.get(f"/v1/webhook-endpoints?organization={org}"))["items"]
    found: Document = next(each for each in listed if each["id"] == endpoint["id"])
    return found


async def test_a_revoked_key_is_told_in_a_message_that_the_library_verifies(
    seller: Seller, customer: Customer, endpoint: Document, receiver: Receiver, post: Post
) -> None:
    await seller.post(f"/v1/keys/{customer.key}/revoke")
    await post.round()
    (body,) = receiver.verified(endpoint["secret"])
    assert body == {
        "type": "key.revoked",
        "timestamp": NOW.isoformat(),
        "data": {
            "organization": customer.org,
            "project": customer.project,
            "key": customer.key,
            "prefix": customer.secret[:10],
        },
    }
    (headers, _), (logged,) = receiver.arrived[0], await log_of(seller, endpoint)
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert (logged["id"], logged["type"], logged["status"]) == (
        headers["webhook-id"],
        "key.revoked",
        "delivered",
    )
    assert [attempt["response_status"] for attempt in logged["attempts"]] == [204]
    with pytest.raises(WebhookVerificationError):
        receiver.verified("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    await post.after(days=1)
    assert len(receiver.arrived) == 1


async def test_what_is_rolled_back_is_not_told(
    customer: Customer, endpoint: Document, receiver: Receiver, post: Post, database: Database
) -> None:
    async def revoke_and_fail() -> None:
        async with database.begin() as session:
            await session.execute(
                text("UPDATE api_keys SET status = 'revoked', revoked_at = now() WHERE id = :id"),
                {"id": customer.key},
            )
            raise OSError("on the way")

    with pytest.raises(OSError, match="on the way"):
        await revoke_and_fail()
    await post.round()
    assert receiver.arrived == []


async def test_an_endpoint_hears_of_its_own_organisation_and_of_the_types_that_it_asked_for(
    seller: Seller, customer: Customer, receiver: Receiver, post: Post
) -> None:
    other = await seller.customer()
    await seller.post("/v1/webhook-endpoints", {"organization": other.org, "url": f"{receiver.url}&other"})
    body = {"organization": customer.org, "url": receiver.url, "events": ["credit.low"]}
    await seller.post("/v1/webhook-endpoints", body)
    await revoke(seller, customer)
    await post.round()
    assert receiver.arrived == []
    await seller.post("/v1/webhook-endpoints", {"url": receiver.url})
    await revoke(seller, customer)
    await post.round()
    assert len(receiver.arrived) == 1  # the seller's, which hears of everybody


async def test_a_message_that_failed_comes_again_with_the_same_id_and_later_each_time(
    seller: Seller, customer: Customer, endpoint: Document, receiver: Receiver, post: Post
) -> None:
    receiver.behaviours += [answer(500), answer(503), answer(302, location=f"{receiver.url}&elsewhere")]
    await revoke(seller, customer)
    await post.round()
    await post.after(seconds=3)
    assert len(receiver.arrived) == 1  # too soon
    await post.after(seconds=4)
    await post.after(seconds=25)
    await post.after(seconds=100)
    assert len(set(receiver.ids)) == 1
    assert len({body for _, body in receiver.arrived}) == 1
    assert len(receiver.arrived) == 4
    (logged,) = await log_of(seller, endpoint)
    assert [attempt["response_status"] for attempt in logged["attempts"]] == [500, 503, 302, 204]
    assert logged["status"] == "delivered"
    assert (await status_of(seller, endpoint, customer.org))["failing_since"] is None


async def test_a_receiver_that_never_finishes_is_timed_out_and_asked_again(
    told: Told, receiver: Receiver, hasty: Post, post: Post
) -> None:
    seller, customer, endpoint = told
    receiver.behaviours += [hang, drip]
    await revoke(seller, customer)
    await hasty.round()
    await hasty.after(seconds=10)
    (logged,) = await log_of(seller, endpoint)
    assert [attempt["error"] for attempt in logged["attempts"]] == ["timed out", "timed out"]
    await post.after(seconds=60)
    (logged,) = await log_of(seller, endpoint)
    assert logged["status"] == "delivered"


async def test_the_body_of_an_answer_is_not_read(
    seller: Seller, customer: Customer, endpoint: Document, receiver: Receiver, post: Post
) -> None:
    receiver.behaviours.append(flood)
    await revoke(seller, customer)
    await post.round()
    (logged,) = await log_of(seller, endpoint)
    assert logged["status"] == "delivered"


async def test_a_receiver_that_hangs_keeps_no_other_one_waiting(
    seller: Seller, customer: Customer, endpoint: Document, receiver: Receiver, hasty: Post
) -> None:
    other = await seller.customer()
    with receiving() as quick:
        await seller.post("/v1/webhook-endpoints", {"organization": other.org, "url": quick.url})
        receiver.behaviours += [hang] * EACH_MAX
        for _ in range(EACH_MAX + 1):
            await revoke(seller, customer)
        for _ in range(3):
            await revoke(seller, other)
        await hasty.courier.step()
        await asyncio.to_thread(quick.wait_for, 3)
        await asyncio.to_thread(receiver.wait_for, EACH_MAX)
        assert len(receiver.arrived) == EACH_MAX
        await hasty.round()


async def test_what_nobody_takes_for_days_is_given_up_and_can_be_replayed(
    seller: Seller, customer: Customer, endpoint: Document, receiver: Receiver, post: Post
) -> None:
    await revoke(seller, customer)
    receiver.behaviours += [answer(500)] * 30
    for _ in range(30):
        await post.after(hours=3)
    (logged,) = await log_of(seller, endpoint)
    assert logged["status"] == "given_up"
    assert 8 < len(logged["attempts"]) < 30
    receiver.behaviours.clear()
    path = f"/v1/webhook-endpoints/{endpoint['id']}/replay"
    assert (await seller.post(path, {"message": logged["id"]}))["messages"] == 1
    await post.round()
    assert len(set(receiver.ids)) == 1
    assert (await log_of(seller, endpoint))[0]["status"] == "delivered"


async def test_an_endpoint_that_takes_nothing_for_days_is_disabled_with_a_notice(
    seller: Seller, customer: Customer, endpoint: Document, receiver: Receiver, post: Post
) -> None:
    receiver.behaviours += [answer(500)] * 100
    for _ in range(12):
        await revoke(seller, customer)
        await post.after(hours=12)
    state = await status_of(seller, endpoint, customer.org)
    assert state["status"] == "disabled"
    assert "nothing was taken since" in state["disabled_reason"]
    (notice,) = (await seller.get(f"/v1/notices?organization={customer.org}"))["items"]
    assert (notice["kind"], notice["content"]["endpoint"]) == ("webhook_disabled", endpoint["id"])
    before = len(receiver.arrived)
    await revoke(seller, customer)
    await post.after(days=1)
    assert len(receiver.arrived) == before
    replay = f"/v1/webhook-endpoints/{endpoint['id']}/replay"
    assert await seller.refused(replay, {"start": NOW.isoformat()}) == (409, "endpoint_disabled")
    receiver.behaviours.clear()
    enabled = await seller.ask("PATCH", f"/v1/webhook-endpoints/{endpoint['id']}", {"status": "enabled"})
    assert enabled.json()["status"] == "enabled"
    await post.round()
    assert len(receiver.arrived) > before
    # What happened while it was disabled is sent when it is asked for.
    heard = set(receiver.ids)
    assert (await seller.post(replay, {"start": NOW.isoformat()}))["messages"] > len(heard)
    await post.round()
    assert set(receiver.ids) > heard


async def test_a_receiver_that_says_it_is_gone_is_left_alone_at_once(
    seller: Seller, customer: Customer, endpoint: Document, receiver: Receiver, post: Post
) -> None:
    receiver.behaviours.append(answer(410))
    await revoke(seller, customer)
    await post.round()
    assert (await status_of(seller, endpoint, customer.org))["disabled_reason"] == (
        "the receiver answered 410 Gone"
    )


async def test_while_a_secret_is_rotated_both_verify_and_afterwards_the_new_one_alone(
    seller: Seller, customer: Customer, endpoint: Document, receiver: Receiver, post: Post
) -> None:
    path = f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret"
    rotated = await seller.post(path, {"grace_seconds": 3600})
    assert rotated["secret"] != endpoint["secret"]
    await revoke(seller, customer)
    await post.round()
    for secret in (endpoint["secret"], rotated["secret"]):
        assert len(receiver.verified(secret)) == 1
    post.clock.passes(hours=1)
    await revoke(seller, customer)
    await post.round()
    headers, body = receiver.arrived[-1]
    Webhook(rotated["secret"]).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint["secret"]).verify(body, headers)


async def test_a_replay_of_a_time_sends_what_happened_before_the_endpoint_was_there(
    seller: Seller, customer: Customer, receiver: Receiver, post: Post
) -> None:
    other = await seller.customer()
    await revoke(seller, customer)
    await revoke(seller, other)
    body = {"organization": customer.org, "url": receiver.url}
    endpoint = await seller.post("/v1/webhook-endpoints", body)
    await post.round()
    assert receiver.arrived == []
    replay = f"/v1/webhook-endpoints/{endpoint['id']}/replay"
    span = {"start": NOW.isoformat(), "end": (NOW + timedelta(hours=1)).isoformat()}
    assert (await seller.post(replay, span))["messages"] == 1
    await post.round()
    (told,) = receiver.verified(endpoint["secret"])
    assert told["data"]["organization"] == customer.org
    seller_s = await seller.post("/v1/webhook-endpoints", {"url": receiver.url})
    assert (await seller.post(f"/v1/webhook-endpoints/{seller_s['id']}/replay", span))["messages"] == 2
    await post.round()
    theirs = next(m for m in receiver.ids if m != receiver.ids[0])
    # Another organisation's message is none of this endpoint's.
    assert (await seller.post(replay, {"message": theirs}))["messages"] == 0


async def test_a_worker_killed_after_any_statement_delivers_all_of_it_with_the_ids_that_it_had(
    told: Told, receiver: Receiver, database: Database, database_url: str, valkey_url: str
) -> None:
    seller, customer, endpoint = told
    for _ in range(2):
        await revoke(seller, customer)
    assert await killed_until_done("webhooks", database_url, valkey_url, customer) > 4
    logged = await log_of(seller, endpoint)
    assert [each["status"] for each in logged] == ["delivered", "delivered"]
    assert set(receiver.ids) == {each["id"] for each in logged}
    assert len(receiver.arrived) > len(logged)  # at least once, and told apart by their ids
    async with database.begin() as session:
        messages = await session.execute(text("SELECT count(*) FROM webhook_messages"))
        assert messages.scalar_one() == 2


async def test_messages_are_forgotten_after_a_quarter_with_what_was_tried_of_them(
    told: Told, post: Post, database: Database, clock: Clock
) -> None:
    seller, customer, endpoint = told
    await revoke(seller, customer)
    await post.after(days=80)
    await revoke(seller, customer)
    await post.after(days=10)
    assert not await forget_old(database, now=clock.now)
    assert len(await log_of(seller, endpoint)) == 2
    clock.passes(seconds=1)
    await forget_old(database, now=clock.now)
    (kept,) = await log_of(seller, endpoint)
    assert len(kept["attempts"]) == 1
    async with database.begin() as session:
        assert (await session.execute(text("SELECT count(*) FROM webhook_attempts"))).scalar_one() == 1


async def test_the_worker_delivers_by_itself_and_stops_when_it_is_told(
    told: Told, receiver: Receiver, database_url: str, valkey_url: str, clock: Clock
) -> None:
    seller, customer, endpoint = told
    # The worker goes by the time of day, and forgets what is old.
    clock.now = datetime.now(UTC)
    await revoke(seller, customer)
    env = environment(database_url, valkey_url) | {
        "HEADRACE_BILLING_SIGNING_KEY": bytes(range(32)).hex(),
        "HEADRACE_BILLING_WEBHOOK_NETWORKS": "127.0.0.0/8",
    }
    with running("headrace_billing", "worker", env=env) as worker:

        async def delivered() -> bool:
            (logged,) = await log_of(seller, endpoint)
            return bool(logged["status"] == "delivered")

        await until(delivered)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, START_SECONDS) == 0
    (body,) = receiver.verified(endpoint["secret"])
    assert body["type"] == "key.revoked"


def test_the_pauses_grow_and_end_with_the_message_s_life() -> None:
    at, attempts, pauses = NOW, 0, []
    while True:
        attempts += 1
        due = schedule.next_attempt(attempts=attempts, since=NOW, now=at, chance=0.5)
        if due is None:
            break
        pauses.append(due - at)
        at = due
    assert pauses[:3] == [timedelta(seconds=5), timedelta(seconds=20), timedelta(seconds=80)]
    assert pauses == sorted(pauses)
    assert schedule.AGE_MAX - timedelta(hours=9) < at - NOW <= schedule.AGE_MAX
