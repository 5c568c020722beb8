"""Whether whoever calls may do what it asks for.

`authorize` stands before every route of the app: it asks `operations` what the route needs, and refuses a route that
has no line there. It also begins the entry that the request will leave in the audit log.
"""

import hmac
import secrets
from typing import Annotated

from fastapi import Depends, Header, Request

from headrace_billing.audit import trail
from headrace_billing.audit.deed import Actor, Deed, Side
from headrace_billing.bearers import Admin, Caller, Customer, OrgMember, address_of, bearer, caller_of
from headrace_billing.errors import (
    Forbidden,
    IdempotencyKeyMissing,
    InvalidRequest,
    NotFound,
    RoleMissing,
    Unauthenticated,
)
from headrace_billing.ids import new_id
from headrace_billing.members.operations import OPERATIONS, Open, Operation, Reach
from headrace_billing.members.ownership import NAMED_MAX, Named, named_by, org_of, settings_of
from headrace_billing.members.permission import allows
from headrace_billing.parameters import check_query
from headrace_billing.parts import Parts, PartsOf

__all__ = [
    "Admin",
    "AdminOnly",
    "Authorized",
    "Caller",
    "CallerOf",
    "Customer",
    "IdempotencyKey",
    "MachineOnly",
    "MemberOf",
    "OrgMember",
    "bearer",
]

IDEMPOTENCY_KEY_CHARACTERS_MAX = 255
REQUEST_ID_CHARACTERS_MAX = 100


async def authorize(request: Request, parts: PartsOf) -> Caller | None:
    """Null where a route asks for no member.

    Raises `Unauthenticated`, `Forbidden`, `InvalidRequest`, `RoleMissing`, `NotFound`.
    """
    name = request.scope["route"].name.lstrip("_")
    match OPERATIONS.get(name):
        case None:
            raise Forbidden(f"No role may use {name!r}.")
        case Open.TO_ALL | Open.TO_KEYS:
            return None
        case Open.TO_MACHINES:
            await _machine(request, parts)
            return None
        case Operation() as operation:
            pass
    caller = await caller_of(request, parts)
    check_query(request)
    named = await named_by(request)
    if len(named) > NAMED_MAX:
        raise InvalidRequest(f"At most {NAMED_MAX} things can be named at once.")
    if request.method not in trail.CHANGES_NOTHING:
        trail.follow(request.scope, await _deed(request, parts, name, caller, named))
    if not isinstance(caller, Customer) and not allows(caller.member.role, operation.permission):
        raise RoleMissing(caller.member.role, operation.permission)
    if isinstance(caller, OrgMember):
        await _keep_to_own(parts, caller, operation, named)
    return caller


async def _keep_to_own(parts: Parts, caller: OrgMember, operation: Operation, named: list[Named]) -> None:
    """Whether another organisation's things exist is none of the caller's business."""
    if operation.reach is Reach.SELLER:
        raise Forbidden("This is the seller's to do.")
    if operation.reach is Reach.NAMED and not named:
        raise InvalidRequest(f"Name what of your organization it is about, or {caller.org!r} itself.")
    async with parts.database.begin() as session:
        for thing in named:
            if await org_of(session, thing) != caller.org:
                raise NotFound(thing.kind.name, thing.id)


async def _deed(request: Request, parts: Parts, name: str, caller: Caller, named: list[Named]) -> Deed:
    at = parts.now()
    given = request.headers.get("x-request-id", "")
    usable = given.isascii() and given.isprintable() and 0 < len(given) <= REQUEST_ID_CHARACTERS_MAX
    address = address_of(request, parts)
    idempotency_key = request.headers.get("idempotency-key", "")[:IDEMPOTENCY_KEY_CHARACTERS_MAX]
    async with parts.database.begin() as session:
        if isinstance(caller, Admin):
            orgs = [await org_of(session, thing) for thing in named]
            org = next((each for each in orgs if each is not None), None)
        else:
            org = caller.org
        own = [thing for thing in named if isinstance(caller, Admin) or await org_of(session, thing) == org]
        before = await settings_of(session, own)
    return Deed(
        id=new_id("aud", at),
        at=at,
        actor=_actor(caller),
        operation=name,
        org=org,
        named=own,
        before=before,
        address=None if address is None else str(address),
        request_id=given if usable else secrets.token_hex(16),
        idempotency_key=idempotency_key if idempotency_key.isprintable() and idempotency_key else None,
    )


def _actor(caller: Caller) -> Actor:
    if isinstance(caller, Customer):
        return Actor(side=Side.KEY, id=caller.key, name="", role=None, token_prefix=caller.prefix)
    member = caller.member
    side = Side.SELLER if isinstance(caller, Admin) else Side.ORGANIZATION
    return Actor(
        side=side, id=member.id, name=member.name, role=member.role, token_prefix=caller.token_prefix
    )


async def _caller(caller: Annotated[Caller | None, Depends(authorize)]) -> Caller:
    assert caller is not None, "a route that asks for its caller is not open to all or to machines"
    return caller


async def _member(caller: Annotated[Caller, Depends(_caller)]) -> Admin | OrgMember:
    if isinstance(caller, Customer):
        raise Forbidden("This needs a member's token or the admin's; an API key can't do it.")
    return caller


async def _machine(request: Request, parts: PartsOf) -> None:
    if not hmac.compare_digest(bearer(request).encode(), parts.ingest_token.encode()):
        raise Unauthenticated


def _idempotency_key(idempotency_key: Annotated[str | None, Header()] = None) -> str:
    if not idempotency_key:
        raise IdempotencyKeyMissing
    if len(idempotency_key) > IDEMPOTENCY_KEY_CHARACTERS_MAX or not idempotency_key.isprintable():
        raise InvalidRequest(
            f"Idempotency-Key must be at most {IDEMPOTENCY_KEY_CHARACTERS_MAX} printable characters."
        )
    return idempotency_key


Authorized = Depends(authorize)
"""For the app: nothing is answered without it."""

CallerOf = Annotated[Caller, Depends(_caller)]
"""A member, the admin or a customer: the route decides what each may do."""

MemberOf = Annotated[Admin | OrgMember, Depends(_member)]
"""Like `AdminOnly`, for a route that wants to know who it is."""

AdminOnly = Depends(_member)
"""For `dependencies=[AdminOnly]`: whoever has a role, which is told by `operations`; no API key."""

MachineOnly = Depends(_machine)
"""Gateways and engine replicas, by the ingest token."""

IdempotencyKey = Annotated[str, Depends(_idempotency_key)]
"""Required on every route that moves money."""
