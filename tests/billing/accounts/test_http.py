"""Organisations, projects, keys and credit through the API, down to what a gateway finds in Valkey."""

import hashlib
from dataclasses import replace

import httpx2
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from headrace_billing.accounts import outbox
from headrace_billing.app import compose
from headrace_billing.members.permission import Role
from headrace_billing.parts import Parts
from headrace_billing.valkey import connect
from headrace_contracts import channels
from headrace_contracts.access import KeyStatus, LimitKind, decode_key, decode_project
from tests.billing.ledger.books import use
from tests.billing.members.team import joined
from tests.billing.seller import NOW, Seller


async def read(valkey: Redis, place: str, name: str) -> bytes:
    value = await valkey.hget(place, name)
    assert isinstance(value, bytes)
    return value


async def test_a_new_key_stands_in_valkey_before_its_secret_is_told(seller: Seller, valkey: Redis) -> None:
    customer = await seller.customer()
    place = channels.key(hashlib.sha256(customer.secret.encode()).hexdigest())
    record = decode_key(await read(valkey, place, "r"))
    assert (record.id, record.project, record.status) == (customer.key, customer.project, KeyStatus.ACTIVE)
    project = decode_project(await read(valkey, channels.project(customer.project), "r"))
    assert (project.org, project.wallet, project.currency) == (customer.org, customer.wallet, "USD")
    assert await read(valkey, channels.wallet(customer.wallet), "bal") == b"5000000"


async def test_limits_and_models_reach_the_gateway_as_they_were_set(seller: Seller, valkey: Redis) -> None:
    org = (await seller.post("/v1/organizations", {"name": "A"}))["id"]
    project = await seller.post(
        "/v1/projects",
        {
            "organization": org,
            "name": "p",
            "currency": "USD",
            "disposition": "payg",
            "models": ["glm-tiny"],
            "limits": [{"kind": "requests_per_minute", "ceiling": 60}],
        },
    )
    record = decode_project(await read(valkey, channels.project(project["id"]), "r"))
    assert record.models == ["glm-tiny"]
    assert [(limit.kind, limit.ceiling) for limit in record.limits] == [(LimitKind.REQUESTS_PER_MINUTE, 60)]


async def test_the_secret_is_told_once_and_stored_nowhere(seller: Seller, parts: Parts) -> None:
    customer = await seller.customer()
    assert customer.secret.startswith("hr-")
    listed = await seller.get(f"/v1/keys?project={customer.project}")
    assert customer.secret not in str(listed)
    async with parts.database.begin() as session:
        tables = (
            await session.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        ).scalars()
        for table in tables.all():
            rows = await session.execute(text(f"SELECT t::text FROM {table} t"))  # noqa: S608
            assert not any(customer.secret in row for row in rows.scalars()), table


async def test_a_revoked_key_is_known_as_revoked_by_valkey_before_the_answer(
    seller: Seller, valkey: Redis
) -> None:
    customer = await seller.customer()
    answer = await seller.post(f"/v1/keys/{customer.key}/revoke")
    assert answer["status"] == "revoked"
    place = channels.key(hashlib.sha256(customer.secret.encode()).hexdigest())
    assert decode_key(await read(valkey, place, "r")).status is KeyStatus.REVOKED
    again = await seller.post(f"/v1/keys/{customer.key}/revoke")
    assert again["revoked_at"] == answer["revoked_at"]


async def test_a_revoke_that_valkey_did_not_hear_of_is_no_success_and_is_pushed_later(
    seller: Seller, parts: Parts, valkey: Redis
) -> None:
    customer = await seller.customer()
    nowhere = connect("redis://127.0.0.1:1/0")
    transport = httpx2.ASGITransport(app=compose(replace(parts, valkey=nowhere)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        deaf = Seller(http)
        assert await deaf.refused(f"/v1/keys/{customer.key}/revoke", None) == (503, "push_pending")
    await nowhere.aclose()
    assert await outbox.push_waiting(parts.database, valkey) == 1
    place = channels.key(hashlib.sha256(customer.secret.encode()).hexdigest())
    assert decode_key(await read(valkey, place, "r")).status is KeyStatus.REVOKED
    assert await outbox.push_waiting(parts.database, valkey) == 0


async def test_an_older_record_never_replaces_a_newer_one(
    seller: Seller, parts: Parts, valkey: Redis
) -> None:
    customer = await seller.customer()
    place = channels.project(customer.project)
    await valkey.hset(place, mapping={"v": 10**9, "r": "newer"})
    await outbox.push(parts.database, valkey, [place])
    assert await read(valkey, place, "r") == b"newer"


async def test_a_grant_repeated_with_its_idempotency_key_is_granted_once(seller: Seller) -> None:
    customer = await seller.customer(credit=None)
    body = {"project": customer.project, "amount": "2.50", "currency": "USD", "kind": "promo", "reason": "hi"}
    headers = {"idempotency-key": "grant-1"}
    first = await seller.ask("POST", "/v1/credit-grants", body, **headers)
    second = await seller.ask("POST", "/v1/credit-grants", body, **headers)
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert await seller.balance(customer.wallet) == "2.50"
    other = {**body, "amount": "3"}
    assert await seller.refused("/v1/credit-grants", other, **headers) == (409, "idempotency_conflict")
    assert await seller.balance(customer.wallet) == "2.50"


async def test_a_grant_repays_the_overdraft_and_the_trial_balance_stays_zero(
    seller: Seller, parts: Parts
) -> None:
    customer = await seller.customer(credit="1")
    await use(parts.database, 3_000_000_000, key="use", wallet=customer.wallet)
    assert await seller.balance(customer.wallet) == "-2.00"
    await seller.grant("5", wallet=customer.wallet)
    wallet = await seller.get(f"/v1/wallets/{customer.wallet}")
    assert wallet["balance"] == "3.00"
    assert [lot["remaining"] for lot in wallet["lots"]] == ["3.00"]
    books = await seller.get("/v1/ledger/trial-balance")
    assert books["currencies"] == [{"currency": "USD", "sum": "0.00"}]


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"amount": "5.0000000001"}, (422, "amount_invalid")),
        ({"amount": "-5"}, (422, "amount_invalid")),
        ({"amount": "0"}, (422, "amount_invalid")),
        ({"amount": "1e3"}, (422, "amount_invalid")),
        ({"amount": "NaN"}, (422, "amount_invalid")),
        ({"amount": 5.0}, (400, "invalid_request")),
        ({"currency": "EUR"}, (422, "currency_mismatch")),
        ({"kind": "gift"}, (400, "invalid_request")),
        ({"surprise": 1}, (400, "invalid_request")),
        ({"wallet": "wal_nobodys"}, (404, "not_found")),
        ({"wallet": None}, (400, "invalid_request")),
        ({"reason": "\x00"}, (400, "invalid_request")),
        ({"expires_at": "2020-01-01T00:00:00Z"}, (422, "expiry_in_the_past")),
    ],
)
async def test_a_grant_that_can_not_be_is_a_problem_and_leaves_nothing(
    seller: Seller, change: dict[str, object], refusal: tuple[int, str]
) -> None:
    customer = await seller.customer(credit=None)
    body = {
        "wallet": customer.wallet,
        "amount": "5.00",
        "currency": "USD",
        "kind": "paid",
        "reason": "top-up",
        **change,
    }
    assert await seller.refused("/v1/credit-grants", body) == refusal
    assert await seller.balance(customer.wallet) == "0.00"
    assert (await seller.get("/v1/ledger/trial-balance"))["accounts"] == []


async def test_a_grant_without_an_idempotency_key_is_refused(seller: Seller) -> None:
    body = {"wallet": "wal_1", "amount": "5", "currency": "USD", "kind": "paid", "reason": "x"}
    assert await seller.refused("/v1/credit-grants", body, **{"idempotency-key": ""}) == (
        400,
        "idempotency_key_missing",
    )


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("/v1/organizations", {}, (400, "invalid_request")),
        ("/v1/organizations", {"name": ""}, (400, "invalid_request")),
        ("/v1/organizations", {"name": "x" * 201}, (400, "invalid_request")),
        ("/v1/organizations", [], (400, "invalid_request")),
        (
            "/v1/projects",
            {"organization": "org_no", "name": "p", "currency": "USD", "disposition": "prepaid"},
            (404, "not_found"),
        ),
        (
            "/v1/projects",
            {"organization": "org_no", "name": "p", "currency": "XXQ", "disposition": "prepaid"},
            (422, "currency_unknown"),
        ),
        (
            "/v1/projects",
            {"organization": "org_no", "name": "p", "currency": "USD", "disposition": "free"},
            (400, "invalid_request"),
        ),
        ("/v1/keys", {"project": "prj_no", "name": "k"}, (404, "not_found")),
        ("/v1/keys/key_no/revoke", None, (404, "not_found")),
        ("/v1/nothing", {}, (404, "not_found")),
    ],
)
async def test_what_can_not_be_made_is_a_problem_with_a_code(
    seller: Seller, path: str, body: object, refusal: tuple[int, str]
) -> None:
    assert await seller.refused(path, body) == refusal


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer wrong", "Basic YTpi", "Bearer hr-unknown"])
async def test_without_the_admins_token_nothing_is_told(seller: Seller, authorization: str) -> None:
    refusal = await seller.refused("/v1/organizations", None, method="GET", authorization=authorization)
    assert refusal == (401, "unauthenticated")


async def test_a_customers_key_is_not_the_admins_token(seller: Seller) -> None:
    customer = await seller.customer()
    as_customer = Seller(seller.http, customer.secret)
    assert await as_customer.refused("/v1/organizations", {"name": "x"}) == (403, "forbidden")
    await seller.post(f"/v1/keys/{customer.key}/revoke")
    assert await as_customer.refused("/v1/organizations", {"name": "x"}) == (401, "unauthenticated")


async def test_a_list_is_told_page_by_page_and_each_thing_once(seller: Seller) -> None:
    made = [(await seller.post("/v1/organizations", {"name": str(n)}))["id"] for n in range(5)]
    seen, after = [], ""
    while True:
        page = await seller.get(f"/v1/organizations?limit=2{after}")
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert sorted(seen) == sorted(made)


async def test_a_body_beyond_the_bound_is_refused_unread(seller: Seller) -> None:
    refusal = await seller.refused(
        "/v1/organizations", {"name": "x"}, **{"content-length": str(17 * 1024 * 1024)}
    )
    assert refusal == (413, "body_too_large")


async def test_ready_means_that_the_schema_is_newest_and_valkey_is_loaded(
    seller: Seller, valkey: Redis
) -> None:
    cold = await seller.ask("GET", "/readyz")
    assert cold.status_code == 503
    assert cold.json()["checks"] == {"migrations": "ok", "valkey": "cold: not loaded yet"}
    await valkey.set(channels.EPOCH, "1")
    assert (await seller.ask("GET", "/readyz")).status_code == 200
    assert (await seller.get("/healthz"))["status"] == "ok"


async def test_a_key_that_expires_is_told_to_the_gateway_to_the_microsecond(
    seller: Seller, valkey: Redis
) -> None:
    customer = await seller.customer()
    expiry = NOW.replace(year=2027, microsecond=123456)
    body = {"project": customer.project, "name": "k", "expires_at": expiry.isoformat()}
    secret = (await seller.post("/v1/keys", body))["secret"]
    place = channels.key(hashlib.sha256(secret.encode()).hexdigest())
    record = decode_key(await read(valkey, place, "r"))
    assert (
        record.expires_at_us
        == 1826971200123456 - (1826971200123456 - int(expiry.timestamp()) * 10**6) + 123456
    )


async def test_what_is_made_is_shown_alone_as_in_its_list(seller: Seller) -> None:
    customer = await seller.customer()
    await seller.customer()
    for kind, subject, narrowed in (
        ("organizations", customer.org, ""),
        ("projects", customer.project, f"?organization={customer.org}"),
        ("keys", customer.key, f"?project={customer.project}"),
    ):
        listed = {each["id"]: each for each in (await seller.get(f"/v1/{kind}{narrowed}"))["items"]}
        shown = await seller.get(f"/v1/{kind}/{subject}")
        assert shown == listed[subject]
        change = await seller.ask(
            "PATCH", f"/v1/{kind}/{subject}", {"limits": []}, **{"if-match": str(shown["version"])}
        )
        assert change.json()["version"] == 2
        assert await seller.refused(f"/v1/{kind}/none", None, method="GET") == (404, "not_found")


async def test_a_customers_people_see_their_own_projects_and_keys_alone(seller: Seller) -> None:
    customer, other = await seller.customer(), await seller.customer()
    member = await joined(seller, Role.READ_ONLY, org=customer.org)
    for path in (f"/v1/projects/{customer.project}", f"/v1/keys/{customer.key}"):
        assert (await member.get(path))["version"] == 1
    for path in (f"/v1/projects/{other.project}", f"/v1/keys/{other.key}"):
        assert await member.refused(path, None, method="GET") == (404, "not_found")
    holder = replace(seller, token=customer.secret)
    assert await holder.refused(f"/v1/keys/{customer.key}", None, method="GET") == (403, "forbidden")
