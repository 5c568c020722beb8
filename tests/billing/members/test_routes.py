"""Every route, asked by every role: what the table says is what the app does, and nobody reaches another organisation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from headrace_billing.app import compose
from headrace_billing.database import Database
from headrace_billing.invoicing.tax import TaxTable
from headrace_billing.members.operations import OPERATIONS, Operation, Reach
from headrace_billing.members.ownership import KINDS
from headrace_billing.members.permission import Role, allows
from headrace_billing.parts import Parts
from headrace_billing.payments import topping_up
from headrace_billing.payments.top_up import Way
from headrace_billing.payments.topping_up import Wish
from headrace_billing.plans import signing_up
from headrace_billing.plans.wishes import Subscribing
from tests.billing.contracts.desk import POSTPAID, Desk
from tests.billing.invoicing.shop import Shop
from tests.billing.members.team import joined, member_of, token_of
from tests.billing.seller import Document, Seller

REFUSED = {"unauthenticated", "forbidden", "role_missing"}
SELLER_CANT_ACCEPT = "accept_outcome"


class Others(dict[str, str]):
    """What else stands in paths: names of no known kind."""

    def __missing__(self, name: str) -> str:
        return {"currency": "USD", "month": "2026-10", "request_id": str(UUID(int=1))}.get(name, "nowhere")


@dataclass(frozen=True, slots=True)
class Route:
    operation: str
    method: str
    path: str
    places: dict[str, str]
    """By name of what it takes and is of a known kind: `path`, `query` or `body`."""

    def ask(self, things: dict[str, str], *, only: str | None = None) -> tuple[str, str, Document]:
        """Method, path and body that name the things; of query and body `only` that one, where given."""
        wanted = {
            name: place for name, place in self.places.items() if place == "path" or only in (None, name)
        }
        path = self.path.format_map(
            Others({name: things[name] for name, place in wanted.items() if place == "path"})
        )
        query = "&".join(f"{name}={things[name]}" for name, place in wanted.items() if place == "query")
        body = {name: things[name] for name, place in wanted.items() if place == "body"}
        return self.method, f"{path}?{query}" if query else path, body


def routes(parts: Parts) -> Iterator[Route]:
    document = compose(parts).openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if not isinstance(OPERATIONS[operation["operationId"]], Operation):
                continue
            places = {each["name"]: each["in"] for each in operation.get("parameters", ())}
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            reference = content.get("schema", {}).get("$ref", "")
            schema = document["components"]["schemas"].get(reference.rpartition("/")[2], {})
            places |= dict.fromkeys(schema.get("properties", {}), "body")
            yield Route(
                operation["operationId"],
                method.upper(),
                path.replace("{operation}", "grant_credit"),
                {name: place for name, place in places.items() if name in KINDS},
            )


async def code_of(member: Seller, route: Route, things: dict[str, str], *, only: str | None = None) -> str:
    method, path, body = route.ask(things, only=only)
    answer = await member.ask(method, path, body or ({} if method != "GET" else None))
    return "" if answer.is_success else str(answer.json()["code"])


NOWHERE = dict.fromkeys(KINDS, "nowhere")


@pytest.mark.parametrize("role", Role)
async def test_the_seller_s_staff_may_do_what_the_table_says(
    seller: Seller, parts: Parts, role: Role
) -> None:
    member = await joined(seller, role)
    wrong = []
    for route in routes(parts):
        line = OPERATIONS[route.operation]
        assert isinstance(line, Operation)
        code = await code_of(member, route, NOWHERE)
        allowed = allows(role, line.permission) and route.operation != SELLER_CANT_ACCEPT
        if (code not in REFUSED) is not allowed:
            wrong.append((route.operation, code))
    assert wrong == []


@pytest.mark.parametrize("role", Role)
async def test_a_customer_s_people_may_do_what_the_table_says(
    seller: Seller, parts: Parts, role: Role
) -> None:
    org = (await seller.post("/v1/organizations", {"name": "Millrace Analytics"}))["id"]
    member = await joined(seller, role, org=org)
    wrong = []
    for route in routes(parts):
        line = OPERATIONS[route.operation]
        assert isinstance(line, Operation)
        code = await code_of(member, route, NOWHERE)
        allowed = allows(role, line.permission) and line.reach is not Reach.SELLER
        if (code not in REFUSED) is not allowed:
            wrong.append((route.operation, code))
    assert wrong == []


async def things_of(shop: Shop) -> dict[str, str]:
    """One of each kind, all of them of the shop's customer."""
    customer, seller = shop.customer, shop.seller
    task = await shop.open_task()
    outcome = await shop.report(task["id"], await shop.use(task["id"]))
    await shop.sell()
    shop.clock.passes(days=2)
    invoice = await shop.close()
    account = await seller.post("/v1/service-accounts", {"project": customer.project, "name": "builds"})
    grant = await seller.grant("1.00", wallet=customer.wallet)
    member = await member_of(seller, Role.OWNER, org=customer.org)
    token = await token_of(seller, member["id"])
    endpoint = await seller.post(
        "/v1/webhook-endpoints", {"organization": customer.org, "url": "https://hooks.example.com/"}
    )
    note = await seller.post(f"/v1/invoices/{invoice['id']}/credit-notes", {"reason": "sorry"})
    contract = await Desk(shop).sign(terms={"commitment": POSTPAID})
    things = {
        "organization": customer.org,
        "project": customer.project,
        "wallet": customer.wallet,
        "key": customer.key,
        "service_account": account["id"],
        "account_id": account["id"],
        "grant_id": grant["id"],
        "invoice_id": invoice["id"],
        "note_id": note["id"],
        "top_up_id": await _top_up(shop),
        "task_id": task["id"],
        "outcome_id": outcome["id"],
        "seller_id": "default",
        "member_id": member["id"],
        "token_id": token["id"],
        "approval_id": await _approval(shop),
        "endpoint_id": endpoint["id"],
        "subscription_id": await _subscription(shop),
        "sign_up_id": await _sign_up(shop),
        "contract_id": contract["id"],
    }
    things["org_id"] = customer.org
    return things | {f"{name}_id": things[name] for name in ("organization", "project", "wallet", "key")}


async def _top_up(shop: Shop) -> str:
    at, customer = shop.clock.now, shop.customer
    wish = Wish(
        org=customer.org, wallet=customer.wallet, currency="USD", amount_minor=20_00, way=Way.CHECKOUT
    )
    async with shop.database.begin() as session:
        return (await topping_up.note(session, wish, at=at)).id


async def _approval(shop: Shop) -> str:
    await shop.seller.ask("PUT", "/v1/approval-bounds/grant_credit/USD", {"above": "100.00"})
    return str((await shop.seller.grant("200.00", wallet=shop.customer.wallet))["approval"]["id"])


async def _sign_up(shop: Shop) -> str:
    """Noted alone: its page would be Stripe's."""
    at = shop.clock.now
    wish = Subscribing(
        organization=shop.customer.org, project=shop.customer.project, plan="plan_any_1", add_ons={}
    )
    async with shop.database.begin() as session:
        return (await signing_up.note(session, TaxTable(), wish, at=at)).id


async def _subscription(shop: Shop) -> str:
    plan = {
        "code": "any",
        "version": 1,
        "name": "Any",
        "currency": "USD",
        "interval": "month",
        "price": "1.00",
    }
    published = await shop.seller.post("/v1/plans", plan)
    body = {"organization": shop.customer.org, "plan": published["id"]}
    return str((await shop.seller.post("/v1/subscriptions", body))["id"])


async def fingerprint(database: Database) -> dict[str, str]:
    """Of every table but the audit log, which tells of refusals too."""
    async with database.begin() as session:
        tables = await session.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        contents = {}
        for table in set(tables.scalars()) - {"audit_log"}:
            query = f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t"  # noqa: S608
            contents[table] = (await session.execute(text(query))).scalar_one()
        return contents


async def test_no_route_lets_a_customer_s_owner_see_or_touch_what_is_another_organisation_s(
    shop: Shop, parts: Parts
) -> None:
    theirs = await things_of(shop)
    assert set(theirs) == set(KINDS)
    own = {**theirs, **await _own(shop)}
    owner = await joined(shop.seller, Role.OWNER, org=own["organization"])
    before = await fingerprint(shop.database)
    asked, found = 0, []
    for route in routes(parts):
        line = OPERATIONS[route.operation]
        assert isinstance(line, Operation)
        for name in route.places if line.reach is not Reach.SELLER else []:
            # All that is named is the caller's but for this one.
            things = {**own, name: theirs[name]}
            asked += 1
            if (code := await code_of(owner, route, things)) != "not_found":
                found.append((route.operation, name, code))
            if route.places[name] != "path" and await code_of(owner, route, things, only=name) != "not_found":
                found.append((route.operation, name, "alone"))
        if line.reach is Reach.SELLER and (code := await code_of(owner, route, own)) != "forbidden":
            found.append((route.operation, "", code))
    assert found == []
    assert asked > 40
    assert await fingerprint(shop.database) == before


async def _own(shop: Shop) -> dict[str, str]:
    """What the caller's organisation has of the kinds that come from the seller at once."""
    customer = await shop.seller.customer(credit=None)
    return {
        "organization": customer.org,
        "organization_id": customer.org,
        "org_id": customer.org,
        "project": customer.project,
        "project_id": customer.project,
        "wallet": customer.wallet,
        "wallet_id": customer.wallet,
        "key": customer.key,
        "key_id": customer.key,
    }


async def test_no_route_takes_a_query_parameter_that_it_does_not_have(seller: Seller, parts: Parts) -> None:
    took = []
    for route in routes(parts):
        method, path, body = route.ask(NOWHERE, only="")
        answer = await seller.ask(method, f"{path}?session_id=s1", body or ({} if method != "GET" else None))
        if answer.is_success or "session_id" not in answer.json()["detail"]:
            took.append(route.operation)
    assert took == []


async def test_a_list_that_names_nothing_is_refused_to_a_customer_s_people(seller: Seller) -> None:
    customer = await seller.customer()
    owner = await joined(seller, Role.OWNER, org=customer.org)
    for path in ("projects", "keys", "credit-grants", "invoices", "notices", "price-books", "members"):
        assert await owner.refused(f"/v1/{path}", None, method="GET") == (400, "invalid_request"), path


async def test_a_repeated_parameter_hides_no_other_organisation_behind_one_s_own(seller: Seller) -> None:
    mine, other = await seller.customer(), await seller.customer()
    owner = await joined(seller, Role.OWNER, org=mine.org)
    for query in (
        f"organization={other.org}&organization={mine.org}",
        f"organization={mine.org}&organization={other.org}",
    ):
        assert await owner.refused(f"/v1/projects?{query}", None, method="GET") == (404, "not_found")


async def test_usage_that_names_nothing_is_the_member_s_organisation_s(shop: Shop) -> None:
    await shop.sell()
    stranger = (await shop.seller.post("/v1/organizations", {"name": "Other"}))["id"]
    path = "/v1/usage?start=2026-11-01T00:00:00Z&end=2026-12-01T00:00:00Z"
    own = await joined(shop.seller, Role.READ_ONLY, org=shop.customer.org)
    other = await joined(shop.seller, Role.READ_ONLY, org=stranger)
    requests: list[Any] = [
        [each["requests"] for each in (await who.get(path))["items"]] for who in (own, other)
    ]
    assert requests in ([[1], []], [[1], [0]])
