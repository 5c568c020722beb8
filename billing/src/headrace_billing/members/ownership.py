"""Whose the things are that a request names: every id in its path, query and body, and the organisation of each.

A name of a parameter means one kind of thing in the whole API, so what a request is about is told in one place.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
NAMED_MAX = 20
"""More ids than any request has parameters; the rest of a query that repeats one is refused unread."""


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    org: TextClause
    settings: TextClause | None = None
    """What of it is worth telling before and after a change; never a secret."""


def _kind(name: str, source: str, *, org: str = "o.org", settings: str | None = None) -> Kind:
    """`source` is a FROM clause in which the thing itself is `o`."""
    return Kind(
        name,
        text(f"SELECT {org} AS org FROM {source} WHERE o.id = :id"),  # noqa: S608 - constants of this file
        None if settings is None else text(f"SELECT {settings} FROM {source} WHERE o.id = :id"),  # noqa: S608
    )


ORGANIZATION = _kind("organization", "organizations o", org="o.id", settings="o.name, o.models, o.limits")
PROJECT = _kind("project", "projects o", settings="o.name, o.status, o.models, o.allowed_cidrs, o.limits")
WALLET = _kind("wallet", "wallets o", settings="o.alert_below_nanos")
KEY = _kind(
    "key",
    "api_keys o JOIN projects p ON p.id = o.project",
    org="p.org",
    settings="o.name, o.status, o.prefix, o.models, o.scopes, o.allowed_cidrs, o.limits, o.expires_at",
)
SERVICE_ACCOUNT = _kind(
    "service account",
    "service_accounts o JOIN projects p ON p.id = o.project",
    org="p.org",
    settings="o.name, o.status",
)
GRANT = _kind("credit grant", "credit_lots o JOIN wallets w ON w.id = o.wallet", org="w.org")
INVOICE = _kind("invoice", "invoices o")
CREDIT_NOTE = _kind("credit note", "credit_notes o JOIN invoices i ON i.id = o.invoice", org="i.org")
TOP_UP = _kind("top-up", "top_ups o", settings="o.state")
TASK = _kind("task", "tasks o", settings="o.status")
OUTCOME = _kind("outcome", "outcomes o", settings="o.status, o.accepted_as, o.accepted_by")
SELLER = Kind(
    "seller",
    text("SELECT CAST(NULL AS text) AS org FROM sellers WHERE id = :id"),
    text("SELECT name, address, tax_id, email, number_prefix FROM sellers WHERE id = :id"),
)
MEMBER = _kind("member", "members o", settings="o.name, o.role, o.removed_at")
MEMBER_TOKEN = _kind(
    "member token",
    "member_tokens o JOIN members m ON m.id = o.member",
    org="m.org",
    settings="o.name, o.prefix, o.expires_at, o.revoked_at",
)

SUBSCRIPTION = _kind(
    "subscription", "subscriptions o", settings="o.plan, o.seats, o.add_ons, o.state, o.planned, o.ended_at"
)
SIGN_UP = _kind("sign-up", "sign_ups o", settings="o.state")
APPROVAL = _kind("approval", "approvals o", settings="o.status, o.decided_by")
ENDPOINT = _kind(
    "webhook endpoint",
    "webhook_endpoints o",
    settings="o.url, o.description, o.events, o.status, o.secret_number, o.removed_at",
)

CONTRACT = _kind("contract", "contracts o", settings="o.name, o.months, o.closed_at")

KINDS: Mapping[str, Kind] = {
    "organization": ORGANIZATION,
    "organization_id": ORGANIZATION,
    "org_id": ORGANIZATION,
    "project": PROJECT,
    "project_id": PROJECT,
    "wallet": WALLET,
    "wallet_id": WALLET,
    "key": KEY,
    "key_id": KEY,
    "service_account": SERVICE_ACCOUNT,
    "account_id": SERVICE_ACCOUNT,
    "grant_id": GRANT,
    "invoice_id": INVOICE,
    "note_id": CREDIT_NOTE,
    "top_up_id": TOP_UP,
    "task_id": TASK,
    "outcome_id": OUTCOME,
    "seller_id": SELLER,
    "member_id": MEMBER,
    "token_id": MEMBER_TOKEN,
    "approval_id": APPROVAL,
    "contract_id": CONTRACT,
    "endpoint_id": ENDPOINT,
    "subscription_id": SUBSCRIPTION,
    "sign_up_id": SIGN_UP,
}


@dataclass(frozen=True, slots=True)
class Named:
    kind: Kind
    id: str


async def named_by(request: Request) -> list[Named]:
    """All ids of known kinds, those of the path first; whatever else stands there is the route's to judge."""
    pairs: list[tuple[str, object]] = list(request.path_params.items())
    pairs += request.query_params.multi_items()
    pairs += (await _members_of_body(request)).items()
    return [Named(KINDS[name], value) for name, value in pairs if name in KINDS and isinstance(value, str)]


async def org_of(session: AsyncSession, named: Named) -> str | None:
    """Null for what does not exist, and for what is the seller's."""
    if ID.fullmatch(named.id) is None:
        return None
    org: str | None = (await session.execute(named.kind.org, {"id": named.id})).scalar()
    return org


async def settings_of(session: AsyncSession, things: Iterable[Named]) -> dict[str, dict[str, Any]]:
    """By id, of those kinds that have settings."""
    found = {}
    for thing in things:
        if thing.kind.settings is None or ID.fullmatch(thing.id) is None:
            continue
        row = (await session.execute(thing.kind.settings, {"id": thing.id})).mappings().first()
        if row is not None:
            found[thing.id] = dict(row)
    return found


async def _members_of_body(request: Request) -> dict[str, object]:
    """Those of a JSON object; FastAPI has read and kept it already."""
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
